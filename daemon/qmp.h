/*
 * One QMP connection (QEMU's docs/interop/qmp-spec), shared: the daemon's own commands, and lanes
 * of commands that are passed through as text. QEMU serves one client at a time on its socket and
 * runs the commands of one connection in their order: so only a few are given to it ahead, the
 * daemon's own come first, and the lanes take turns.
 */
#ifndef DAEMON_QMP_H
#define DAEMON_QMP_H

#include <event2/event.h>
#include <json-c/json.h>

#include "cijqemu/error.h"
#include "daemon/qmp_text.h"

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

/* The same as QEMU wrote it (weak), be it a return or an error; or NULL and @err. */
typedef void qmp_raw_fn(void *arg, const struct qmp_reply *reply, const struct cij_error *err);

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

/* qmp_send() of a command whose arguments (may be empty) and answer stay as they are written. */
void qmp_send_raw(struct qmp *qmp, struct span command, struct span arguments, double seconds,
	qmp_raw_fn *reply, void *arg);

/*
 * Takes a command of qmp_send_raw() or qmp_send_hmp() back whose @reply gets @arg: it is not called
 * then. False where QEMU has it already.
 */
bool qmp_withdraw(struct qmp *qmp, const void *arg);

/* The error that QEMU answered with. */
void qmp_reply_to_error(const struct qmp_reply *reply, struct cij_error *err);

/* Ends the connection; waiting commands fail. May be called from any callback. NULL is fine. */
void qmp_free(struct qmp *qmp);

/* Passing through */

/* The greeting's line, weak. Only of one that is ready. */
const char *qmp_greeting(const struct qmp *qmp, size_t *len);

struct qmp_tap_ops {
	/* Each event's line, as it came. */
	void (*event)(void *arg, const char *line, size_t len);
	/* No more replies and events for now: what they gave to write may be sent. */
	void (*flush)(void *arg);
};
/* Lets one other listen; NULL ends it. */
void qmp_set_tap(struct qmp *qmp, const struct qmp_tap_ops *ops, void *arg);

/* The commands of one client, which QEMU gets in their order. To be freed before the qmp. */
struct qmp_lane;
struct qmp_lane *qmp_lane_new(struct qmp *qmp);

/* Drops what QEMU has not been given, and forgets who asked for the rest. */
void qmp_lane_free(struct qmp_lane *lane);

/*
 * Enters a command. @reply is called once as above, unless the lane is freed before. @has_id: the
 * client gave one, and gets it back by itself. Nothing is sent before qmp_push().
 */
void qmp_lane_send(struct qmp_lane *lane, struct span command, struct span arguments, bool has_id,
	qmp_raw_fn *reply, void *arg);

/* While held, no more of the lane's commands are given to QEMU. */
void qmp_lane_hold(struct qmp_lane *lane, bool held);

/* Gives QEMU what it may have. */
void qmp_push(struct qmp *qmp);

/* False from when QEMU closed its monitor: what is under way fails, then the owner is told. */
bool qmp_is_open(const struct qmp *qmp);

#endif
