#include "daemon/qmp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/qmp_impl.h"
#include "proto/json.h"
#include "proto/text.h"

/* 'query-qmp-schema' of QEMU 9 is 270 KiB; what is longer than this is no answer to anything. */
#define QMP_LINE_MAX (16 * 1024 * 1024)
#define QMP_DEPTH_MAX 128

/* Lines before the greeting that are no QMP: 4.1.50 prints one at every start. */
#define QMP_JUNK_LINES_MAX 100

/* QEMU answers in order. One that has left out so many answers is broken, not slow. */
#define QMP_PASSED_MAX 256

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

/* Unlinks first: the callback may send again or free the connection. */
static void
command_fail(struct command *command, const struct cij_error *err)
{
	qmp_reply_fn *reply = command->reply;
	qmp_raw_fn *raw = command->raw;
	void *arg = command->arg;

	qmp_command_free(command);
	if (reply)
		reply(arg, NULL, err);
	else if (raw)
		raw(arg, NULL, err);
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
	double more = clock_grace(&command->until);
	struct cij_error err;

	if (more > 0) {
		struct timeval tv = clock_timeval(more);

		event_add(command->deadline, &tv);
		return;
	}
	enter(qmp);
	cij_error_set(&err, CIJ_E_TIMEOUT, "QEMU's monitor did not answer in time");
	if (command->is_sent) { /* stays, so that a late answer is known for what it is */
		command->reply = NULL;
		command->raw = NULL;
	} else {
		qmp_command_free(command);
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

struct command *
qmp_command_new(struct qmp_lane *lane, struct span name, struct span arguments, double seconds)
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
		command->until = clock_mono() + seconds;
		event_add(command->deadline, &tv);
	}
	TAILQ_INSERT_TAIL(&lane->waiting, command, link);
	qmp_lane_update(lane);
	return command;
}

/* The end */

/* But what lanes hold back: whoever holds them sees to it. */
static void
fail_all(struct qmp *qmp, const struct cij_error *why)
{
	struct command *command;

	while ((command = qmp_any_command(qmp)))
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

	qmp_command_free(command);
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

	qmp->hello = qmp_command_new(
		&qmp->own, (struct span){name, sizeof(name) - 1}, no_arguments, 0);
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
	if (!qmp_text_is_json(line, len)) {
		not_qmp(qmp, line, len);
		return;
	}
	qmp_reply_parse(&reply, line, len);
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
	command = qmp_command_new(&qmp->own, (struct span){name, strlen(name)}, text, seconds);
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
	command = qmp_command_new(&qmp->own, name, arguments, seconds);
	command->raw = reply;
	command->arg = arg;
	qmp_push(qmp);
}

bool
qmp_withdraw(struct qmp *qmp, const void *arg)
{
	struct command *command;

	TAILQ_FOREACH (command, &qmp->own.waiting, link)
		if (command->arg == arg) {
			qmp_command_free(command);
			return true;
		}
	return false;
}

bool
qmp_is_open(const struct qmp *qmp)
{
	return qmp->wire.fd >= 0;
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
