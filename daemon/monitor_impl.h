/* The inside of a shared monitor, for the monitor*.c files alone. */
#ifndef DAEMON_MONITOR_IMPL_H
#define DAEMON_MONITOR_IMPL_H

#include <sys/queue.h>

#include "daemon/monitor.h"
#include "daemon/wire.h"

/* Commands of one client that wait for their answers; the next wait in its socket. */
#define MONITOR_PENDING_MAX 64

/* A command of a client's, or an answer of ours that has to wait for its turn. */
struct pending {
	TAILQ_ENTRY(pending) link;
	struct client *client; /* weak */
	double since; /* monotonic */
	char *what; /* for the journal; NULL: it changes nothing */
	bool is_answer; /* text is one: no command was sent */
	size_t len;
	char text[]; /* the client's id, or the answer */
};

struct client {
	LIST_ENTRY(client) link;
	TAILQ_ENTRY(client) turn; /* in monitor->dirty */
	struct monitor *monitor; /* weak; NULL: only what is written is still to be sent */
	const struct client_kind *kind;
	struct wire wire;
	struct qmp_rights rights;
	uid_t uid;
	pid_t pid;
	struct peer peer;
	double last; /* monotonic: when something came from it */
	struct qmp_lane *lane;
	TAILQ_HEAD(, pending) pending;
	size_t n_pending;
	char *rest; /* what came and has to wait */
	size_t rest_len;
	size_t events_unread; /* bytes of them since it last read all */
	bool dirty; /* has output to be sent, or input to be looked at */
	bool ended; /* sends no more */
	bool failed; /* to be closed */
	const struct cij_error *over; /* weak; QEMU has gone: what comes now fails with it */
	struct event *deadline; /* to read what is left when QEMU has gone */
	/* QMP */
	struct qmp_scan scan;
	bool negotiated;
	/* HMP: a line that has no end yet is in the rest */
	int cpu; /* chosen by 'cpu N'; -1: none */
	int next_cpu; /* if QEMU has it */
	bool skipping; /* inside a line that was too long */
};

/* What QMP and HMP do differently. */
struct client_kind {
	size_t pending_max;
	void (*greet)(struct client *client);
	/* Takes from the input what is whole; returns how much. @last: no more comes. */
	size_t (*take)(struct client *client, const char *data, size_t len, bool last);
	/* QEMU's answer to @pending, or @err. */
	void (*answer)(struct client *client, const struct pending *pending,
		const struct qmp_reply *reply, const struct cij_error *err);
	bool events;
};
extern const struct client_kind client_qmp, client_hmp;

struct monitor {
	struct event_base *base; /* weak */
	struct qmp *qmp; /* weak */
	const struct monitor_ops *ops; /* NULL: none */
	void *ops_arg; /* weak */
	char *guest;
	LIST_HEAD(, client) clients;
	size_t n_clients;
	TAILQ_HEAD(, client) dirty;
};

/* monitor.c */

/* Writes, and sees to it that it is sent. */
void client_write(struct client *client, const char *data, size_t len);

/* The client's rights as they are now; *@why has the lease that takes from them, or class NONE. */
const struct qmp_rights *client_rights(struct client *client, struct cij_error *why);

/* Puts on record what the client did, or was refused. */
void client_deed(
	const struct client *client, const char *what, const struct cij_error *err, double seconds);

/* Enters a pending command or answer with room for @len bytes of text. */
struct pending *client_pending(struct client *client, const char *text, size_t len);

/* Sends the command that @pending stands for. */
void client_send(struct pending *pending, struct span command, struct span arguments, bool has_id);

/* An answer of ours, given when those before it have been. */
void client_answer(struct client *client, const char *text, size_t len);

#endif
