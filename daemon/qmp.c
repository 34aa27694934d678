#include "daemon/qmp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "daemon/clock.h"
#include "daemon/wire.h"
#include "proto/json.h"
#include "proto/text.h"

/* 'query-qmp-schema' of QEMU 9 is 270 KiB; what is longer than this is no answer to anything. */
#define QMP_LINE_MAX (16 * 1024 * 1024)
#define QMP_DEPTH_MAX 128

/* Lines before the greeting that are no QMP: 4.1.50 prints one at every start. */
#define QMP_JUNK_LINES_MAX 100

/*
 * Commands that QEMU has been given and not answered. It works on one at a time: the others are
 * there so that it need not wait for us, and each makes the daemon's own wait longer.
 */
#define QMP_WINDOW 4

/* Commands of one lane in a row while others wait. */
#define LANE_TURN 16

/* QEMU answers in order. One that has left out so many answers is broken, not slow. */
#define QMP_PASSED_MAX 256

struct command {
	TAILQ_ENTRY(command) link; /* in its lane, or in qmp->sent */
	struct qmp *qmp; /* weak */
	struct qmp_lane *lane; /* weak; NULL: who asked has gone */
	qmp_reply_fn *reply; /* one of both, or none */
	qmp_raw_fn *raw;
	void *arg; /* weak */
	struct event *deadline;
	int id; /* what QEMU was told; 0: none, and its answer has none */
	bool has_id; /* the client's own has one */
	bool is_sent;
	bool passed; /* a later one was answered already */
	size_t len;
	char text[]; /* {"execute":… without the brace that closes it */
};
TAILQ_HEAD(commands, command);

struct qmp_lane {
	TAILQ_ENTRY(qmp_lane) link; /* in qmp->ready, while it has commands and is not held */
	struct qmp *qmp; /* weak */
	struct commands waiting;
	int turn; /* commands given in a row */
	bool is_ready, held;
};

struct qmp {
	struct event_base *base; /* weak */
	struct wire wire; /* fd -1: it ended */
	const struct qmp_ops *ops;
	void *arg; /* weak */
	const struct qmp_tap_ops *tap;
	void *tap_arg; /* weak */
	struct commands sent; /* in the order of sending */
	int n_window, n_passed; /* of them: counted, and left out by QEMU */
	struct qmp_lane own; /* the daemon's; never in the list of ready ones */
	TAILQ_HEAD(, qmp_lane) ready;
	struct qmp_lane *bare_lane; /* weak; whose commands without id are under way */
	int n_bare;
	char *in; /* the beginning of a line */
	size_t in_len, in_size;
	struct command *hello; /* weak; the negotiation, until it is sent */
	struct json_object *greeting;
	char *greeting_line;
	size_t greeting_len;
	int junk_lines;
	int busy; /* callbacks of ours on the stack: free later */
	bool is_ready; /* negotiated */
	bool freed;
};

static void
release(struct qmp *qmp)
{
	json_object_put(qmp->greeting);
	free(qmp->greeting_line);
	free(qmp->in);
	free(qmp);
}

static void
enter(struct qmp *qmp)
{
	qmp->busy++;
}

static void
leave(struct qmp *qmp)
{
	if (--qmp->busy == 0 && qmp->freed)
		release(qmp);
}

/* Lanes */

static void
lane_update(struct qmp_lane *lane)
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

static void
command_free(struct command *command)
{
	struct qmp *qmp = command->qmp;

	if (!command->is_sent) {
		TAILQ_REMOVE(&command->lane->waiting, command, link);
		lane_update(command->lane);
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

/* Unlinks first: the callback may send again or free the connection. */
static void
command_fail(struct command *command, const struct cij_error *err)
{
	qmp_reply_fn *reply = command->reply;
	qmp_raw_fn *raw = command->raw;
	void *arg = command->arg;

	command_free(command);
	if (reply)
		reply(arg, NULL, err);
	else if (raw)
		raw(arg, NULL, err);
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
		command_free(command);
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
	lane_update(lane);
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
	lane_update(lane);
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

/* New commands */

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct command *command = arg;
	struct qmp *qmp = command->qmp;
	qmp_reply_fn *reply = command->reply;
	qmp_raw_fn *raw = command->raw;
	void *reply_arg = command->arg;
	struct cij_error err;

	enter(qmp);
	cij_error_set(&err, CIJ_E_TIMEOUT, "QEMU's monitor did not answer in time");
	if (command->is_sent) { /* stays, so that a late answer is known for what it is */
		command->reply = NULL;
		command->raw = NULL;
	} else {
		command_free(command);
	}
	if (reply)
		reply(reply_arg, NULL, &err);
	else if (raw)
		raw(reply_arg, NULL, &err);
	leave(qmp);
}

static void
add_text(struct command *command, const char *text, size_t len)
{
	memcpy(command->text + command->len, text, len);
	command->len += len;
}

static struct command *
command_new(struct qmp_lane *lane, struct span name, struct span arguments, double seconds)
{
	static const char execute[] = "{\"execute\":\"", with[] = ",\"arguments\":";
	struct command *command = calloc(1,
		sizeof(*command) + sizeof(execute) + sizeof(with) + name.len + 1 + arguments.len);

	if (!command)
		abort();
	command->qmp = lane->qmp;
	command->lane = lane;
	add_text(command, execute, sizeof(execute) - 1);
	add_text(command, name.at, name.len);
	add_text(command, "\"", 1);
	if (arguments.len > 0) {
		add_text(command, with, sizeof(with) - 1);
		add_text(command, arguments.at, arguments.len);
	}
	if (seconds > 0) {
		struct timeval tv = clock_timeval(seconds);

		command->deadline = evtimer_new(lane->qmp->base, on_deadline, command);
		if (!command->deadline)
			abort();
		event_add(command->deadline, &tv);
	}
	TAILQ_INSERT_TAIL(&lane->waiting, command, link);
	lane_update(lane);
	return command;
}

/* The end */

/* A command that waits, wherever; NULL when there is none. */
static struct command *
any_command(struct qmp *qmp)
{
	struct command *command = TAILQ_FIRST(&qmp->sent);
	struct qmp_lane *lane = TAILQ_FIRST(&qmp->ready);

	if (!command)
		command = TAILQ_FIRST(&qmp->own.waiting);
	return command || !lane ? command : TAILQ_FIRST(&lane->waiting);
}

/* But what lanes hold back: whoever holds them sees to it. */
static void
fail_all(struct qmp *qmp, const struct cij_error *why)
{
	struct command *command;

	while ((command = any_command(qmp)))
		command_fail(command, why);
}

/* The connection ends: every waiter hears of it once, then the owner. */
static void
broken(struct qmp *qmp, const struct cij_error *why)
{
	if (qmp->wire.fd < 0)
		return;
	wire_close(&qmp->wire);
	fail_all(qmp, why);
	if (!qmp->freed)
		qmp->ops->closed(qmp->arg, why);
}

/* What QEMU says */

/* The command that a reply answers; NULL for one that nobody waits for. */
static struct command *
find_command(struct qmp *qmp, const struct qmp_reply *reply)
{
	struct command *command, *oldest = NULL;
	long id = qmp_reply_number(reply);

	TAILQ_FOREACH (command, &qmp->sent, link) {
		if (reply->id.len ? command->id == id : command->id == 0)
			return command;
		if (!oldest && !command->passed)
			oldest = command;
	}
	/* QEMU could not even read the id: in order, it is the oldest's, unless that is ours. */
	if (reply->id.len > 0 || reply->kind != QMP_LINE_ERROR || !oldest)
		return NULL;
	return oldest->lane == &qmp->own ? NULL : oldest;
}

/* QEMU answers in order: what it was given before this one is not answered any more. */
static void
pass_earlier(struct qmp *qmp, struct command *answered)
{
	struct command *command;

	TAILQ_FOREACH (command, &qmp->sent, link) {
		if (command == answered)
			return;
		if (!command->passed) {
			command->passed = true;
			qmp->n_window--;
			qmp->n_passed++;
		}
	}
}

void
qmp_reply_to_error(const struct qmp_reply *reply, struct cij_error *err)
{
	_cleanup_json_ struct json_object *msg = cij_json_parse(
		reply->text, reply->len, QMP_DEPTH_MAX, NULL);
	const char *desc = cij_json_str(cij_json_get(msg, "error"), "desc");

	cij_error_set(err, CIJ_E_QEMU_FAILED, "%s", desc ? desc : "QEMU gave no reason");
}

static void
answer(struct qmp *qmp, struct command *command, const struct qmp_reply *reply)
{
	qmp_reply_fn *fn = command->reply;
	qmp_raw_fn *raw = command->raw;
	void *arg = command->arg;
	struct cij_error err;

	command_free(command);
	if (raw) {
		raw(arg, reply, NULL);
	} else if (fn && reply->kind == QMP_LINE_ERROR) {
		qmp_reply_to_error(reply, &err);
		fn(arg, NULL, &err);
	} else if (fn) {
		_cleanup_json_ struct json_object *msg = cij_json_parse(
			reply->text, reply->len, QMP_DEPTH_MAX, NULL);

		fn(arg, cij_json_get(msg, "return"), NULL);
	}
}

static void
take_reply(struct qmp *qmp, const struct qmp_reply *reply)
{
	struct command *command = find_command(qmp, reply);
	struct cij_error err;

	if (!command)
		return;
	pass_earlier(qmp, command);
	answer(qmp, command, reply);
	if (qmp->n_passed <= QMP_PASSED_MAX)
		return;
	cij_error_set(&err, CIJ_E_QEMU_FAILED, "QEMU's monitor left %d commands unanswered",
		qmp->n_passed);
	broken(qmp, &err);
}

static void
on_negotiated(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct qmp *qmp = arg;

	if (err && !qmp->freed)
		broken(qmp, err);
	if (err || qmp->freed)
		return;
	qmp->is_ready = true;
	qmp->ops->ready(qmp->arg, qmp->greeting);
}

static void
not_qmp(struct qmp *qmp, const char *line, size_t len)
{
	struct cij_error err;
	char copy[64], clean[80];

	if (!qmp->greeting && ++qmp->junk_lines <= QMP_JUNK_LINES_MAX)
		return;
	snprintf(copy, sizeof(copy), "%.*s", (int)(len < sizeof(copy) ? len : sizeof(copy)), line);
	cij_error_set(&err, CIJ_E_QEMU_FAILED, "QEMU's monitor talks no QMP: '%s'",
		cij_text_clean(copy, clean, sizeof(clean)));
	broken(qmp, &err);
}

static void
negotiate(struct qmp *qmp)
{
	static const char name[] = "qmp_capabilities";
	static const struct span no_arguments;

	qmp->hello = command_new(&qmp->own, (struct span){name, sizeof(name) - 1}, no_arguments, 0);
	qmp->hello->reply = on_negotiated;
	qmp->hello->arg = qmp;
	qmp_push(qmp);
}

/* Whether the line is QEMU's greeting; then the negotiation begins. */
static bool
take_greeting(struct qmp *qmp, const char *line, size_t len)
{
	_cleanup_json_ struct json_object *msg = cij_json_parse(line, len, QMP_DEPTH_MAX, NULL);
	struct json_object *greeting = cij_json_get(msg, "QMP");

	if (!greeting)
		return false;
	qmp->greeting = json_object_get(greeting);
	qmp->greeting_line = strndup(line, len);
	qmp->greeting_len = len;
	if (!qmp->greeting_line)
		abort();
	negotiate(qmp);
	return true;
}

static void
take_event(struct qmp *qmp, const char *line, size_t len)
{
	_cleanup_json_ struct json_object *msg = cij_json_parse(line, len, QMP_DEPTH_MAX, NULL);
	const char *name = cij_json_str(msg, "event");

	if (!name) {
		not_qmp(qmp, line, len);
		return;
	}
	if (!qmp->is_ready)
		return;
	if (qmp->tap)
		qmp->tap->event(qmp->tap_arg, line, len);
	qmp->ops->event(qmp->arg, name, cij_json_get(msg, "data"));
}

static void
take_line(struct qmp *qmp, const char *line, size_t len)
{
	struct qmp_reply reply;

	if (len > 0 && line[len - 1] == '\r')
		len--;
	if (len == 0 || (!qmp->greeting && take_greeting(qmp, line, len)))
		return;
	qmp_reply_parse(&reply, line, len);
	if (!qmp_text_is_json(line, len))
		reply.kind = QMP_LINE_OTHER;
	switch (reply.kind) {
	case QMP_LINE_RETURN:
	case QMP_LINE_ERROR:
		take_reply(qmp, &reply);
		return;
	case QMP_LINE_EVENT:
		take_event(qmp, line, len);
		return;
	case QMP_LINE_OTHER:
		not_qmp(qmp, line, len);
		return;
	}
}

static void
keep_rest(struct qmp *qmp, const char *data, size_t len)
{
	struct cij_error err;

	if (qmp->in_len + len > QMP_LINE_MAX) {
		cij_error_set(&err, CIJ_E_QEMU_FAILED,
			"QEMU's monitor sent a line of over %d bytes", QMP_LINE_MAX);
		broken(qmp, &err);
		return;
	}
	if (qmp->in_len + len > qmp->in_size) {
		while (qmp->in_len + len > qmp->in_size)
			qmp->in_size = qmp->in_size ? qmp->in_size * 2 : 4096;
		qmp->in = realloc(qmp->in, qmp->in_size);
		if (!qmp->in)
			abort();
	}
	memcpy(qmp->in + qmp->in_len, data, len);
	qmp->in_len += len;
}

/* A long line is rare: its memory is given back. */
static void
drop_kept(struct qmp *qmp)
{
	qmp->in_len = 0;
	if (qmp->in_size <= 16 * 1024)
		return;
	free(qmp->in);
	qmp->in = NULL;
	qmp->in_size = 0;
}

static void
on_input(void *arg, const char *data, size_t len)
{
	struct qmp *qmp = arg;
	const char *end = data + len, *newline;

	enter(qmp);
	while (data < end && qmp->wire.fd >= 0) {
		newline = memchr(data, '\n', end - data);
		if (!newline || qmp->in_len > 0)
			keep_rest(qmp, data, (newline ? newline : end) - data);
		if (!newline)
			break;
		if (qmp->in_len > 0) {
			take_line(qmp, qmp->in, qmp->in_len);
			drop_kept(qmp);
		} else {
			take_line(qmp, data, newline - data);
		}
		data = newline + 1;
	}
	if (qmp->wire.fd >= 0)
		qmp_push(qmp);
	if (qmp->tap)
		qmp->tap->flush(qmp->tap_arg);
	leave(qmp);
}

static void
on_drained(void *arg)
{
}

static void
on_ended(void *arg, bool gone)
{
	struct qmp *qmp = arg;
	struct cij_error err;

	enter(qmp);
	cij_error_set(&err, CIJ_E_QEMU_FAILED, "QEMU closed its monitor");
	broken(qmp, &err);
	leave(qmp);
}

static const struct wire_ops qmp_wire_ops = {on_input, on_drained, on_ended};

struct qmp *
qmp_new(struct event_base *base, int fd, const struct qmp_ops *ops, void *arg)
{
	struct qmp *qmp = calloc(1, sizeof(*qmp));

	if (!qmp)
		abort();
	qmp->base = base;
	qmp->ops = ops;
	qmp->arg = arg;
	TAILQ_INIT(&qmp->sent);
	TAILQ_INIT(&qmp->ready);
	qmp->own.qmp = qmp;
	TAILQ_INIT(&qmp->own.waiting);
	wire_open(&qmp->wire, base, fd, &qmp_wire_ops, qmp);
	return qmp;
}

/* Sending */

static const char closed_words[] = "QEMU closed its monitor";

void
qmp_send(struct qmp *qmp, const char *name, struct json_object *arguments, double seconds,
	qmp_reply_fn *reply, void *arg)
{
	_cleanup_json_ struct json_object *args = arguments;
	struct span text = {0};
	struct command *command;

	if (qmp->wire.fd < 0) {
		struct cij_error err;

		cij_error_set(&err, CIJ_E_QEMU_FAILED, closed_words);
		if (reply)
			reply(arg, NULL, &err);
		return;
	}
	if (args)
		text.at = json_object_to_json_string_length(
			args, JSON_C_TO_STRING_PLAIN, &text.len);
	command = command_new(&qmp->own, (struct span){name, strlen(name)}, text, seconds);
	command->reply = reply;
	command->arg = arg;
	qmp_push(qmp);
}

void
qmp_send_hmp(struct qmp *qmp, const char *line, double seconds, qmp_reply_fn *reply, void *arg)
{
	struct json_object *arguments = json_object_new_object();

	cij_json_add_str(arguments, "command-line", line);
	qmp_send(qmp, "human-monitor-command", arguments, seconds, reply, arg);
}

void
qmp_send_raw(struct qmp *qmp, struct span name, struct span arguments, double seconds,
	qmp_raw_fn *reply, void *arg)
{
	struct command *command;

	if (qmp->wire.fd < 0) {
		struct cij_error err;

		cij_error_set(&err, CIJ_E_QEMU_FAILED, closed_words);
		reply(arg, NULL, &err);
		return;
	}
	command = command_new(&qmp->own, name, arguments, seconds);
	command->raw = reply;
	command->arg = arg;
	qmp_push(qmp);
}

void
qmp_lane_send(struct qmp_lane *lane, struct span name, struct span arguments, bool has_id,
	qmp_raw_fn *reply, void *arg)
{
	struct command *command = command_new(lane, name, arguments, 0);

	command->has_id = has_id;
	command->raw = reply;
	command->arg = arg;
}

const char *
qmp_greeting(const struct qmp *qmp, size_t *len)
{
	*len = qmp->greeting_len;
	return qmp->greeting_line;
}

void
qmp_set_tap(struct qmp *qmp, const struct qmp_tap_ops *ops, void *arg)
{
	qmp->tap = ops;
	qmp->tap_arg = arg;
}

void
qmp_free(struct qmp *qmp)
{
	struct cij_error err;

	if (!qmp || qmp->freed)
		return;
	qmp->freed = true;
	enter(qmp);
	wire_close(&qmp->wire);
	cij_error_set(&err, CIJ_E_QEMU_FAILED, "QEMU ended");
	fail_all(qmp, &err);
	leave(qmp);
}
