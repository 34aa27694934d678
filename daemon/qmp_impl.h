/* The inside of a QMP connection, for qmp.c and qmp_lane.c alone. */
#ifndef DAEMON_QMP_IMPL_H
#define DAEMON_QMP_IMPL_H

#include <sys/queue.h>

#include "daemon/qmp.h"
#include "daemon/wire.h"

struct command {
	TAILQ_ENTRY(command) link; /* in its lane, or in qmp->sent */
	struct qmp *qmp; /* weak */
	struct qmp_lane *lane; /* weak; NULL: who asked has gone */
	qmp_reply_fn *reply; /* one of both, or none */
	qmp_raw_fn *raw;
	void *arg; /* weak */
	struct event *deadline;
	double until; /* clock_mono(), where there is a deadline */
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

/* qmp.c */
struct command *qmp_command_new(
	struct qmp_lane *lane, struct span name, struct span arguments, double seconds);

/* qmp_lane.c */

/* Takes it out of wherever it stands; nobody is told. */
void qmp_command_free(struct command *command);

/* A command that waits, wherever, but for those of lanes that are held; NULL when there is none. */
struct command *qmp_any_command(struct qmp *qmp);

/* Looks again whether the lane has something to give. */
void qmp_lane_update(struct qmp_lane *lane);

#endif
