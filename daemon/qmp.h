/* One QMP connection (QEMU's docs/interop/qmp-spec): commands out, replies and events in. */
#ifndef DAEMON_QMP_H
#define DAEMON_QMP_H

#include <event2/event.h>
#include <json-c/json.h>

#include "cijqemu/error.h"

struct qmp;

struct qmp_ops {
	/* Greeted and out of negotiation mode: commands may be sent. @greeting: its "QMP" member.
	 */
	void (*ready)(void *arg, struct json_object *greeting);
	/* An event; @data is weak and may be NULL. */
	void (*event)(void *arg, const char *name, struct json_object *data);
	/* The connection ended or what came was no QMP; called once, the last call. */
	void (*closed)(void *arg, const struct cij_error *why);
};

/* What became of a command: @value is its "return" (weak), or @err is set and @value NULL. */
typedef void qmp_reply_fn(void *arg, struct json_object *value, const struct cij_error *err);

/* Takes the connected socket @fd over and begins to negotiate. The calls come from the loop. */
struct qmp *qmp_new(struct event_base *base, int fd, const struct qmp_ops *ops, void *arg);

/*
 * Sends @command with @arguments (taken over; may be NULL). @reply (may be NULL) is called exactly
 * once: with QEMU's answer, with QemuFailed and its words, with Timeout after @seconds, or when the
 * connection ends or is freed. A late answer after a Timeout is dropped.
 */
void qmp_send(struct qmp *qmp, const char *command, struct json_object *arguments, double seconds,
	qmp_reply_fn *reply, void *arg);

/* qmp_send() of 'human-monitor-command'. */
void qmp_send_hmp(
	struct qmp *qmp, const char *line, double seconds, qmp_reply_fn *reply, void *arg);

/* Ends the connection; waiting commands fail. May be called from any callback. NULL is fine. */
void qmp_free(struct qmp *qmp);

#endif
