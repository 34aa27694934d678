/* The order in which QEMU gets commands: the daemon's own, then the lanes', in turns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/qmp_impl.h"

/*
 * Commands that QEMU has been given and not answered. It works on one at a time: the others are
 * there so that it need not wait for us, and each makes the daemon's own wait longer.
 */
#define QMP_WINDOW 4

/* Commands of one lane in a row while others wait. */
#define LANE_TURN 16

void
qmp_lane_update(struct qmp_lane *lane)
{
	struct qmp *qmp = lane->qmp;
	bool ready = !lane->held && !TAILQ_EMPTY(&lane->waiting);

	if (lane == &qmp->own || ready == lane->is_ready)
		return;
	lane->is_ready = ready;
	if (ready) {
		lane->turn = 0;
		TAILQ_INSERT_TAIL(&qmp->ready, lane, link);
	} else {
		TAILQ_REMOVE(&qmp->ready, lane, link);
	}
}

void
qmp_command_free(struct command *command)
{
	struct qmp *qmp = command->qmp;

	if (!command->is_sent) {
		TAILQ_REMOVE(&command->lane->waiting, command, link);
		qmp_lane_update(command->lane);
	} else {
		TAILQ_REMOVE(&qmp->sent, command, link);
		qmp->n_bare -= command->id == 0;
		if (command->passed)
			qmp->n_passed--;
		else
			qmp->n_window--;
	}
	if (command->deadline)
		event_free(command->deadline);
	free(command);
}

struct qmp_lane *
qmp_lane_new(struct qmp *qmp)
{
	struct qmp_lane *lane = calloc(1, sizeof(*lane));

	if (!lane)
		abort();
	lane->qmp = qmp;
	TAILQ_INIT(&lane->waiting);
	return lane;
}

void
qmp_lane_free(struct qmp_lane *lane)
{
	struct qmp *qmp;
	struct command *command;

	if (!lane)
		return;
	qmp = lane->qmp;
	while ((command = TAILQ_FIRST(&lane->waiting)))
		qmp_command_free(command);
	TAILQ_FOREACH (command, &qmp->sent, link)
		if (command->lane == lane) {
			command->lane = NULL;
			command->raw = NULL;
		}
	/* Its answers without id will come: nobody else is to take them for theirs. */
	if (qmp->bare_lane == lane)
		qmp->bare_lane = NULL;
	free(lane);
}

void
qmp_lane_hold(struct qmp_lane *lane, bool held)
{
	lane->held = held;
	qmp_lane_update(lane);
}

/* What QEMU gets next: the daemon's own first, the lanes in turns. */
static struct command *
next_command(struct qmp *qmp)
{
	struct command *own = TAILQ_FIRST(&qmp->own.waiting);
	struct qmp_lane *lane = TAILQ_FIRST(&qmp->ready);

	if (!qmp->is_ready) /* the others wait: QEMU would refuse them */
		return qmp->hello;
	if (own || !lane)
		return own;
	if (lane->turn++ >= LANE_TURN) {
		TAILQ_REMOVE(&qmp->ready, lane, link);
		TAILQ_INSERT_TAIL(&qmp->ready, lane, link);
		lane->turn = 0;
		lane = TAILQ_FIRST(&qmp->ready);
		lane->turn++;
	}
	return TAILQ_FIRST(&lane->waiting);
}

/* The smallest number that no command under way has. */
static int
choose_id(const struct qmp *qmp)
{
	const struct command *command;
	int id = 1;

again:
	TAILQ_FOREACH (command, &qmp->sent, link)
		if (command->id == id) {
			id++;
			goto again;
		}
	return id;
}

/*
 * An id costs QEMU, which reads its monitor byte by byte, a sixth of a short command. It is left
 * out where the answer cannot be taken for another's: of a client who gave none and so goes by the
 * order itself, as long as no other client has commands without id under way; or of one that has
 * one, when there is no other at all.
 */
static bool
may_go_bare(const struct qmp *qmp, const struct command *command)
{
	if (command->lane == &qmp->own)
		return false;
	if (qmp->n_bare == 0)
		return true;
	return !command->has_id && qmp->bare_lane == command->lane;
}

static void
give(struct qmp *qmp, struct command *command)
{
	struct qmp_lane *lane = command->lane;
	char end[32];

	if (may_go_bare(qmp, command)) {
		qmp->n_bare++;
		/* One whose client goes by ids has to stay alone. */
		qmp->bare_lane = command->has_id ? NULL : lane;
		strcpy(end, "}\n");
	} else {
		command->id = choose_id(qmp);
		snprintf(end, sizeof(end), ",\"id\":%d}\n", command->id);
	}
	if (command == qmp->hello)
		qmp->hello = NULL;
	TAILQ_REMOVE(&lane->waiting, command, link);
	qmp_lane_update(lane);
	command->is_sent = true;
	TAILQ_INSERT_TAIL(&qmp->sent, command, link);
	qmp->n_window++;
	wire_add(&qmp->wire, command->text, command->len);
	wire_add(&qmp->wire, end, strlen(end));
}

void
qmp_push(struct qmp *qmp)
{
	struct command *command;

	while (qmp->wire.fd >= 0 && qmp->n_window < QMP_WINDOW && (command = next_command(qmp)))
		give(qmp, command);
	wire_flush(&qmp->wire);
}

void
qmp_lane_send(struct qmp_lane *lane, struct span name, struct span arguments, bool has_id,
	qmp_raw_fn *reply, void *arg)
{
	struct command *command = qmp_command_new(lane, name, arguments, 0);

	command->has_id = has_id;
	command->raw = reply;
	command->arg = arg;
}

struct command *
qmp_any_command(struct qmp *qmp)
{
	struct command *command = TAILQ_FIRST(&qmp->sent);
	struct qmp_lane *lane = TAILQ_FIRST(&qmp->ready);

	if (!command)
		command = TAILQ_FIRST(&qmp->own.waiting);
	return command || !lane ? command : TAILQ_FIRST(&lane->waiting);
}
