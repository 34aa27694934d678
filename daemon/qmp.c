#include "daemon/qmp.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "proto/json.h"
#include "proto/text.h"

/* 'query-qmp-schema' of QEMU 9 is 270 KiB; what is longer than this is no answer to anything. */
#define QMP_LINE_MAX (16 * 1024 * 1024)
#define QMP_DEPTH_MAX 128

/* Lines before the greeting that are no QMP: 4.1.50 prints one at every start. */
#define QMP_JUNK_LINES_MAX 100

struct command {
	TAILQ_ENTRY(command) link;
	int64_t id;
	qmp_reply_fn *reply;
	void *arg; /* weak */
	struct event *deadline;
	struct qmp *qmp; /* weak */
};
TAILQ_HEAD(commands, command);

struct qmp {
	struct event_base *base; /* weak */
	struct bufferevent *bev;
	const struct qmp_ops *ops;
	void *arg; /* weak */
	struct commands waiting;
	struct json_object *greeting;
	int64_t next_id;
	int junk_lines;
	int busy; /* callbacks of ours on the stack: free later */
	bool ready; /* negotiated */
	bool freed;
};

static void
command_free(struct command *command)
{
	TAILQ_REMOVE(&command->qmp->waiting, command, link);
	if (command->deadline)
		event_free(command->deadline);
	free(command);
}

/* Unlinks first: the callback may send again or free the connection. */
static void
command_done(struct command *command, struct json_object *value, const struct cij_error *err)
{
	qmp_reply_fn *reply = command->reply;
	void *arg = command->arg;

	command_free(command);
	if (reply)
		reply(arg, value, err);
}

static void
fail_all(struct qmp *qmp, const struct cij_error *why)
{
	struct command *command;

	/* Only those that wait now: what their callbacks send goes nowhere and fails at once. */
	while ((command = TAILQ_FIRST(&qmp->waiting)))
		command_done(command, NULL, why);
}

static void
release(struct qmp *qmp)
{
	json_object_put(qmp->greeting);
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

static void
shut(struct qmp *qmp)
{
	if (qmp->bev)
		bufferevent_free(qmp->bev);
	qmp->bev = NULL;
}

/* The connection ends: every waiter hears of it once, then the owner. */
static void
broken(struct qmp *qmp, const struct cij_error *why)
{
	if (!qmp->bev)
		return;
	shut(qmp);
	fail_all(qmp, why);
	if (!qmp->freed)
		qmp->ops->closed(qmp->arg, why);
}

static struct command *
find_command(struct qmp *qmp, int64_t id)
{
	struct command *command;

	TAILQ_FOREACH (command, &qmp->waiting, link)
		if (command->id == id)
			return command;
	return NULL;
}

static void
take_reply(struct qmp *qmp, struct json_object *msg)
{
	struct command *command = find_command(qmp, cij_json_int(msg, "id", -1));
	struct json_object *error = cij_json_get(msg, "error"), *value = NULL;
	struct cij_error err;
	const char *desc;

	if (!command)
		return; /* it came after its deadline */
	if (!error) {
		json_object_object_get_ex(msg, "return", &value);
		command_done(command, value, NULL);
		return;
	}
	desc = cij_json_str(error, "desc");
	cij_error_set(&err, CIJ_E_QEMU_FAILED, "%s", desc ? desc : "QEMU gave no reason");
	command_done(command, NULL, &err);
}

static void
on_negotiated(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct qmp *qmp = arg;

	if (err && !qmp->freed)
		broken(qmp, err);
	if (err || qmp->freed)
		return;
	qmp->ready = true;
	qmp->ops->ready(qmp->arg, qmp->greeting);
}

static void
take_greeting(struct qmp *qmp, struct json_object *greeting)
{
	qmp->greeting = json_object_get(greeting);
	qmp_send(qmp, "qmp_capabilities", NULL, 0, on_negotiated, qmp);
}

static void
not_qmp(struct qmp *qmp, const char *line)
{
	struct cij_error err;
	char clean[80];

	if (!qmp->greeting && ++qmp->junk_lines <= QMP_JUNK_LINES_MAX)
		return;
	cij_error_set(&err, CIJ_E_QEMU_FAILED, "QEMU's monitor talks no QMP: '%s'",
		cij_text_clean(line, clean, sizeof(clean)));
	broken(qmp, &err);
}

static void
take_line(struct qmp *qmp, const char *line, size_t len)
{
	_cleanup_json_ struct json_object *msg = NULL;
	struct json_object *greeting;
	const char *event;

	if (len == 0)
		return;
	msg = cij_json_parse(line, len, QMP_DEPTH_MAX, NULL);
	if (!json_object_is_type(msg, json_type_object)) {
		not_qmp(qmp, line);
		return;
	}
	greeting = cij_json_get(msg, "QMP");
	event = cij_json_str(msg, "event");
	if (!qmp->greeting && greeting)
		take_greeting(qmp, greeting);
	else if (event && qmp->ready)
		qmp->ops->event(qmp->arg, event, cij_json_get(msg, "data"));
	else if (json_object_object_get_ex(msg, "return", NULL) || cij_json_get(msg, "error"))
		take_reply(qmp, msg);
	else if (!event)
		not_qmp(qmp, line);
}

static void
on_read(struct bufferevent *bev, void *arg)
{
	struct qmp *qmp = arg;
	struct evbuffer *in = bufferevent_get_input(bev);
	size_t len;
	char *line;

	enter(qmp);
	while (qmp->bev && (line = evbuffer_readln(in, &len, EVBUFFER_EOL_CRLF))) {
		take_line(qmp, line, len);
		free(line);
	}
	if (qmp->bev && evbuffer_get_length(in) > QMP_LINE_MAX) {
		struct cij_error err;

		cij_error_set(&err, CIJ_E_QEMU_FAILED,
			"QEMU's monitor sent a line of over %d bytes", QMP_LINE_MAX);
		broken(qmp, &err);
	}
	leave(qmp);
}

static void
on_end(struct bufferevent *bev, short what, void *arg)
{
	struct qmp *qmp = arg;
	struct cij_error err;

	enter(qmp);
	cij_error_set(&err, CIJ_E_QEMU_FAILED, "QEMU closed its monitor");
	broken(qmp, &err);
	leave(qmp);
}

struct qmp *
qmp_new(struct event_base *base, int fd, const struct qmp_ops *ops, void *arg)
{
	struct qmp *qmp = calloc(1, sizeof(*qmp));

	if (!qmp)
		abort();
	qmp->base = base;
	qmp->ops = ops;
	qmp->arg = arg;
	TAILQ_INIT(&qmp->waiting);
	qmp->bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!qmp->bev)
		abort();
	bufferevent_setcb(qmp->bev, on_read, NULL, on_end, qmp);
	bufferevent_enable(qmp->bev, EV_READ | EV_WRITE);
	return qmp;
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct command *command = arg;
	struct qmp *qmp = command->qmp;
	struct cij_error err;

	enter(qmp);
	cij_error_set(&err, CIJ_E_TIMEOUT, "QEMU's monitor did not answer in time");
	command_done(command, NULL, &err);
	leave(qmp);
}

static struct command *
command_new(struct qmp *qmp, double seconds, qmp_reply_fn *reply, void *arg)
{
	struct command *command = calloc(1, sizeof(*command));

	if (!command)
		abort();
	command->id = ++qmp->next_id;
	command->reply = reply;
	command->arg = arg;
	command->qmp = qmp;
	if (seconds > 0) {
		struct timeval tv = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e6)};

		command->deadline = evtimer_new(qmp->base, on_deadline, command);
		if (!command->deadline)
			abort();
		event_add(command->deadline, &tv);
	}
	TAILQ_INSERT_TAIL(&qmp->waiting, command, link);
	return command;
}

void
qmp_send(struct qmp *qmp, const char *command_name, struct json_object *arguments, double seconds,
	qmp_reply_fn *reply, void *arg)
{
	_cleanup_json_ struct json_object *msg = json_object_new_object();
	struct command *command;
	const char *text;
	size_t len;

	cij_json_add_str(msg, "execute", command_name);
	if (arguments)
		json_object_object_add(msg, "arguments", arguments);
	if (!qmp->bev) {
		struct cij_error err;

		cij_error_set(&err, CIJ_E_QEMU_FAILED, "QEMU closed its monitor");
		if (reply)
			reply(arg, NULL, &err);
		return;
	}
	command = command_new(qmp, seconds, reply, arg);
	cij_json_add_int(msg, "id", command->id);
	text = json_object_to_json_string_length(msg, JSON_C_TO_STRING_PLAIN, &len);
	bufferevent_write(qmp->bev, text, len);
	bufferevent_write(qmp->bev, "\n", 1);
}

void
qmp_send_hmp(struct qmp *qmp, const char *line, double seconds, qmp_reply_fn *reply, void *arg)
{
	struct json_object *arguments = json_object_new_object();

	cij_json_add_str(arguments, "command-line", line);
	qmp_send(qmp, "human-monitor-command", arguments, seconds, reply, arg);
}

void
qmp_free(struct qmp *qmp)
{
	struct cij_error err;

	if (!qmp || qmp->freed)
		return;
	qmp->freed = true;
	enter(qmp);
	shut(qmp);
	cij_error_set(&err, CIJ_E_QEMU_FAILED, "QEMU ended");
	fail_all(qmp, &err);
	leave(qmp);
}
