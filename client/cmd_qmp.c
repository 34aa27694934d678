/* qmp: QEMU's machine protocol, one command or many; to a person it also tells the events. */
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "cijqemu/protocol.h"
#include "client/clock.h"
#include "client/keyvalue.h"
#include "client/out.h"
#include "client/repl.h"

/* Reading the monitor's stream. */
#define BLOCK 65536

/* {"execute": …} from "name key=value …"; a value that is JSON is that, else a string. */
static struct json_object *
command_of_words(struct repl *repl, const char *text, size_t len, struct cij_error *err)
{
	_cleanup_json_ struct json_object *command = json_object_new_object();
	_cleanup_free_ char *copy = strndup(text, len);
	struct json_object *arguments = NULL;
	char *rest = copy, *word;

	if (!copy)
		abort();
	cij_json_add_str(command, "execute", strsep(&rest, " \t"));
	while ((word = strsep(&rest, " \t"))) {
		if (!*word)
			continue;
		if (!arguments) {
			arguments = json_object_new_object();
			json_object_object_add(command, "arguments", arguments);
		}
		if (keyvalue_add(repl->call, arguments, word, err) < 0)
			return NULL;
	}
	return steal_ptr(command);
}

/* QMP's command in @text: an object with "execute", or a name. Owned by the caller. */
static struct json_object *
qmp_command(struct repl *repl, const char *text, struct cij_error *err)
{
	size_t len = strlen(text);
	_cleanup_json_ struct json_object *parsed = NULL;

	while (len > 0 && isspace((unsigned char)text[len - 1]))
		len--;
	while (len > 0 && isspace((unsigned char)*text))
		text++, len--;
	if (len > 0 && (isalpha((unsigned char)*text) || *text == '_'))
		return command_of_words(repl, text, len, err);
	parsed = cij_json_parse(text, len, CIJ_REQUEST_DEPTH_MAX, err);
	if (!parsed) {
		if (err->class == CIJ_E_NONE)
			cij_error_set(
				err, CIJ_E_BAD_REQUEST, "a QMP command is an object, not null");
		return NULL;
	}
	if (!cij_json_str(parsed, "execute") && !cij_json_str(parsed, "exec-oob")) {
		cij_error_set(err, CIJ_E_BAD_REQUEST,
			"a QMP command looks like {\"execute\": \"query-status\"}");
		return NULL;
	}
	return cij_json_raw(text, len); /* as it was written: no number changes */
}

static int
call_qmp(struct repl *repl, struct json_object *command, struct reply *r, struct cij_error *err)
{
	struct json_object *args = guest_arguments(repl->guest);

	json_object_object_add(args, "command", command);
	if (repl->call->timeout >= 0)
		json_object_object_add(
			args, "timeout", json_object_new_double(repl->call->timeout));
	repl_start_clock(repl);
	return link_call(&repl->link, "qmp-execute", args, r, err);
}

/* One command, its answer alone. */
static int
execute(struct repl *repl, const char *line, struct cij_error *err)
{
	struct json_object *command = qmp_command(repl, line, err);
	_cleanup_reply_ struct reply r = {0};
	const char *text;
	size_t len;

	if (!command || call_qmp(repl, command, &r, err) < 0)
		return -1;
	text = reply_text(&r, &len);
	if (repl->several && repl->call->json) {
		printf("{\"guest\": \"%s\", \"return\": %.*s}\n", repl->guest, (int)len, text);
		return 0;
	}
	if (repl->several)
		printf("%s: ", repl->guest);
	/* Of several, each has its line; one alone is for a person to read. */
	out_json(text, len,
		!repl->call->json && !repl->several &&
			(repl->call->n_args > 0 || out_colours(stdout)));
	return 0;
}

/* A person's session: QMP itself, on a connection that became a monitor */

/* The next line of the session that is there already; NULL: none. */
static char *
session_line(struct repl *repl, bool *ended)
{
	char *newline = repl->n_in ? memchr(repl->in, '\n', repl->n_in) : NULL, *line;

	while (!newline) {
		ssize_t n;

		repl->in = realloc(repl->in, repl->n_in + BLOCK);
		if (!repl->in)
			abort();
		n = link_read_raw(&repl->session, repl->in + repl->n_in, BLOCK);
		if (n <= 0) {
			*ended = n == 0 || (errno != EAGAIN && errno != EINTR);
			return NULL;
		}
		newline = memchr(repl->in + repl->n_in, '\n', n);
		repl->n_in += n;
	}
	line = strndup(repl->in, newline - repl->in);
	if (!line)
		abort();
	repl->n_in -= newline + 1 - repl->in;
	memmove(repl->in, newline + 1, repl->n_in);
	return line;
}

/* Prints an answer or an event. Returns whether it was an answer. */
static bool
show(const struct repl *repl, const char *line)
{
	_cleanup_json_ struct json_object *msg = cij_json_parse(
		line, strlen(line), CIJ_REPLY_DEPTH_MAX, NULL);
	struct json_object *error = cij_json_get(msg, "error");
	const char *event = cij_json_str(msg, "event"), *at, *desc;
	struct cij_error err;
	size_t n;

	if (event && cij_json_raw_member(line, strlen(line), "data", &at, &n)) {
		printf("%s ", event);
		out_json(at, n, false);
	} else if (event) {
		puts(event);
	} else if (error) {
		desc = cij_json_str(error, "desc");
		cij_error_set(&err, CIJ_E_QEMU_FAILED, "%s", desc ? desc : "QEMU gave no reason");
		out_error(&err);
	} else if (cij_json_raw_member(line, strlen(line), "return", &at, &n)) {
		out_json(at, n, !repl->call->json);
	}
	return !event;
}

static int
session_lost(struct repl *repl, struct cij_error *err)
{
	link_close(&repl->session);
	repl->n_in = 0;
	return cij_error_set(err, CIJ_E_QEMU_FAILED, "the monitor of '%s' has gone", repl->guest);
}

/* What came while a line is being typed: events. */
static bool
session_ready(void *arg)
{
	struct repl *repl = arg;
	struct cij_error err;
	bool ended = false;
	char *line;

	while ((line = session_line(repl, &ended))) {
		show(repl, line);
		free(line);
	}
	if (!ended)
		return true;
	session_lost(repl, &err);
	out_error(&err);
	return false;
}

/* Waits for one answer, showing it (unless it is the first, to the negotiation) and the events. */
static int
session_answer(struct repl *repl, bool first, struct cij_error *err)
{
	for (;;) {
		struct pollfd wait = {.fd = repl->session.fd, .events = POLLIN};
		bool ended = false;
		_cleanup_free_ char *line = session_line(repl, &ended);

		if (line && first) {
			if (strncmp(line, "{\"return\"", 9) == 0)
				return 0;
		} else if (line) {
			if (show(repl, line))
				return 0;
		} else if (ended) {
			return session_lost(repl, err);
		} else if (poll(&wait, 1, clock_left(repl->link.deadline)) == 0) {
			return cij_error_set(
				err, CIJ_E_TIMEOUT, "QEMU's monitor did not answer in time");
		}
	}
}

static int
session_send(struct repl *repl, struct json_object *command, struct cij_error *err)
{
	size_t len;
	const char *text = json_object_to_json_string_length(
		command, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);

	if (out_write(repl->session.fd, text, len) < 0 || out_write(repl->session.fd, "\n", 1) < 0)
		return session_lost(repl, err);
	return 0;
}

static int
session_enter(struct repl *repl, struct cij_error *err)
{
	_cleanup_json_ struct json_object *hello = json_object_new_object();
	_cleanup_reply_ struct reply r = {0};

	repl_start_clock(repl);
	if (link_open(&repl->session, repl->call->socket, repl->link.deadline, err) < 0 ||
		link_call(&repl->session, "qmp-attach", guest_arguments(repl->guest), &r, err) < 0)
		return -1;
	cij_json_add_str(hello, "execute", "qmp_capabilities");
	if (session_send(repl, hello, err) < 0)
		return -1;
	return session_answer(repl, true, err);
}

static int
converse(struct repl *repl, const char *line, struct cij_error *err)
{
	_cleanup_json_ struct json_object *command = qmp_command(repl, line, err);

	if (!command)
		return -1;
	if (repl->session.fd < 0 && session_enter(repl, err) < 0) {
		link_close(&repl->session);
		return -1;
	}
	repl_start_clock(repl);
	return session_send(repl, command, err) < 0 ? -1 : session_answer(repl, false, err);
}

static int
run_qmp(struct repl *repl, const char *line, struct cij_error *err)
{
	return repl->person ? converse(repl, line, err) : execute(repl, line, err);
}

/* QEMU's commands, asked for once, when the first word is to be completed. */
static const struct words *
complete_qmp(void *arg, const char *line, size_t start)
{
	struct repl *repl = arg;
	struct json_object *command = json_object_new_object();
	_cleanup_reply_ struct reply r = {0};
	struct cij_error err = CIJ_ERROR_INIT;

	cij_json_add_str(command, "execute", "query-commands");
	if (repl->asked || start > strspn(line, " ")) {
		json_object_put(command);
		return start > strspn(line, " ") ? NULL : &repl->commands;
	}
	repl->asked = true;
	if (call_qmp(repl, command, &r, &err) < 0 || !json_object_is_type(r.value, json_type_array))
		return &repl->commands;
	for (size_t i = 0; i < json_object_array_length(r.value); i++) {
		const char *name = cij_json_str(json_object_array_get_idx(r.value, i), "name");

		if (name)
			words_add(&repl->commands, name, strlen(name));
	}
	words_sort(&repl->commands);
	return &repl->commands;
}

int
cmd_qmp(struct call *call, struct cij_error *err)
{
	_cleanup_free_ char *line = repl_words(call);
	struct repl repl = {.call = call,
		.run = run_qmp,
		.prompt = "(qmp) ",
		.history = "qmp.history",
		.complete = complete_qmp,
		.enter = session_enter,
		.ready = session_ready};

	return repl_run(&repl, call->n_args > 0 ? line : NULL, err);
}
