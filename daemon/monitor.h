/*
 * One guest's QMP, shared by many: each client is greeted, negotiates by itself, has ids of its own
 * and hears of the events, as if it had QEMU to itself; or it talks to the human monitor, a line at
 * a time. All ride on the daemon's own connection, since QEMU serves one client.
 */
#ifndef DAEMON_MONITOR_H
#define DAEMON_MONITOR_H

#include <event2/event.h>

#include "daemon/qmp.h"
#include "daemon/qmp_policy.h"
#include "daemon/sock.h"

struct monitor;

/* For clients of @qmp, which is ready; @guest names it in the journal. */
struct monitor *monitor_new(struct event_base *base, struct qmp *qmp, const char *guest);

struct monitor_ops {
	/*
	 * What a client may do, asked before each command: leases begin and end, and guests are
	 * shared no more, while clients are attached. @why: set to Leased where that is why it may
	 * only look.
	 */
	enum access (*access)(void *arg, const struct peer *peer, struct cij_error *why);
	/* A command that changes something was answered, or refused with @err: for the record. */
	void (*deed)(void *arg, const struct peer *peer, const char *what,
		const struct cij_error *err, double seconds);
};
/* Without them a client keeps the rights that it came with, and the log alone has its deeds. */
void monitor_set_ops(struct monitor *monitor, const struct monitor_ops *ops, void *arg);

/*
 * QEMU, or its monitor, is gone: what clients wait for fails with @why, each once, and they are
 * closed as soon as they have read it. To be called before qmp_free(). NULL is fine.
 */
void monitor_free(struct monitor *monitor, const struct cij_error *why);

enum monitor_kind { MONITOR_QMP, MONITOR_HMP };

/*
 * Takes over the connection @fd of a client, and what it sent already. With its rights it may be
 * one that may do nothing: it is told so at each command.
 */
void monitor_add(struct monitor *monitor, enum monitor_kind kind, int fd, const struct peer *peer,
	const struct qmp_rights *rights, const char *data, size_t len);

/* Tells a client that cannot be served why, in its language, and closes @fd. */
void monitor_turn_away(enum monitor_kind kind, int fd, const struct cij_error *why);

/* An array of {"uid", "user", "pid", "kind", "mode", "pending", "idle_s"}. NULL is fine. */
struct json_object *monitor_clients_to_json(const struct monitor *monitor);

/* Before the loop ends: closes the clients that monitor_free() left to read. */
void monitor_forget_all(void);

#endif
