/* monitor, qmp: QEMU's two monitors, one command or many. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cijqemu/protocol.h"
#include "client/args.h"
#include "client/clock.h"
#include "client/link.h"
#include "client/out.h"

/* What the daemon gives QEMU, and some for the way. */
#define MONITOR_SECONDS 40

/* What is left for the way where --timeout says how long QEMU may take. */
#define WAY_SECONDS 5

/* One connection for all commands of one call. */
static int
open_link(struct call *call, struct link *l, struct cij_error *err)
{
	return link_open(l, call->socket, CLOCK_NEVER, err);
}

/* Each command has a deadline of its own. */
static void
start_clock(struct call *call, struct link *l)
{
	if (call->timeout > 0)
		l->deadline = clock_deadline(call->timeout + WAY_SECONDS);
	else
		l->deadline = clock_deadline(call->timeout < 0 ? MONITOR_SECONDS : 0);
}

/* Runs one line of the human monitor and prints what it says. */
static int
run_hmp(struct call *call, struct link *l, const char *line, struct cij_error *err)
{
	struct json_object *args = guest_arguments(call->guest);
	_cleanup_reply_ struct reply r = {0};
	_cleanup_free_ char *plain = NULL;
	const char *text;
	size_t len, n = 0;

	cij_json_add_str(args, "line", line);
	start_clock(call, l);
	if (link_call(l, "hmp", args, &r, err) < 0)
		return -1;
	if (call->json) {
		text = reply_text(&r, &len);
		out_json(text, len, out_colours(stdout));
		return 0;
	}
	text = cij_json_str(r.value, "output");
	len = text ? strlen(text) : 0;
	plain = malloc(len + 2);
	if (!plain)
		abort();
	for (size_t i = 0; i < len; i++) /* QEMU's lines end with CR LF */
		if (text[i] != '\r' || text[i + 1] != '\n')
			plain[n++] = text[i];
	if (n > 0 && plain[n - 1] != '\n')
		plain[n++] = '\n';
	out_text(plain, n);
	return 0;
}

/* The words of the command line as one line. */
static char *
join_words(const struct call *call)
{
	size_t size = 1;
	char *line, *at;

	for (size_t i = 0; i < call->n_args; i++)
		size += strlen(call->args[i]) + 1;
	at = line = malloc(size);
	if (!line)
		abort();
	*line = '\0';
	for (size_t i = 0; i < call->n_args; i++)
		at = stpcpy(stpcpy(at, i ? " " : ""), call->args[i]);
	return line;
}

/* QMP's command in @text: an object with "execute", or a bare name. Owned by the caller. */
static struct json_object *
qmp_command(const char *text, struct cij_error *err)
{
	size_t len = strlen(text);
	_cleanup_json_ struct json_object *parsed = NULL;
	struct json_object *command;

	while (len > 0 && isspace((unsigned char)text[len - 1]))
		len--;
	while (len > 0 && isspace((unsigned char)*text))
		text++, len--;
	if (len > 0 && (isalpha((unsigned char)*text) || *text == '_') && !memchr(text, '"', len)) {
		command = json_object_new_object();
		json_object_object_add(
			command, "execute", json_object_new_string_len(text, (int)len));
		return command;
	}
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
run_qmp(struct call *call, struct link *l, const char *line, struct cij_error *err)
{
	struct json_object *args, *command = qmp_command(line, err);
	_cleanup_reply_ struct reply r = {0};
	const char *text;
	size_t len;

	if (!command)
		return -1;
	args = guest_arguments(call->guest);
	json_object_object_add(args, "command", command);
	if (call->timeout >= 0)
		json_object_object_add(args, "timeout", json_object_new_double(call->timeout));
	start_clock(call, l);
	if (link_call(l, "qmp-execute", args, &r, err) < 0)
		return -1;
	text = reply_text(&r, &len);
	/* Of several, each has its line; one alone is for a person to read. */
	out_json(text, len, !call->json && (call->n_args > 0 || out_colours(stdout)));
	return 0;
}

typedef int run_line_fn(struct call *call, struct link *l, const char *line, struct cij_error *err);

/* Runs each line of stdin; goes on behind one that failed. The exit code is the first failure's. */
static int
run_lines(struct call *call, struct link *l, const char *prompt, run_line_fn *run)
{
	bool person = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	int code = 0;

	for (;;) {
		struct cij_error err = CIJ_ERROR_INIT;
		ssize_t n;

		if (person)
			fputs(prompt, stdout);
		fflush(stdout);
		n = getline(&line, &size, stdin);
		if (n < 0)
			break;
		while (n > 0 && strchr("\r\n", line[n - 1]))
			line[--n] = '\0';
		if (line[strspn(line, " \t")] == '\0')
			continue;
		if (run(call, l, line, &err) == 0)
			continue;
		out_error(&err);
		if (!code)
			code = cij_error_exit_code(err.class);
		/* Without its connection none of the others can do better. */
		if (err.class == CIJ_E_UNREACHABLE || err.class == CIJ_E_PROTOCOL)
			return code;
	}
	if (person)
		putchar('\n');
	return person ? 0 : code;
}

int
cmd_monitor(struct call *call, struct cij_error *err)
{
	_cleanup_link_ struct link l = LINK_INIT;
	_cleanup_free_ char *line = join_words(call);

	if (open_link(call, &l, err) < 0)
		return -1;
	if (call->n_args > 0)
		return run_hmp(call, &l, line, err);
	return run_lines(call, &l, "(qemu) ", run_hmp);
}

int
cmd_qmp(struct call *call, struct cij_error *err)
{
	_cleanup_link_ struct link l = LINK_INIT;

	if (open_link(call, &l, err) < 0)
		return -1;
	if (call->n_args > 0)
		return run_qmp(call, &l, call->args[0], err);
	return run_lines(call, &l, "(qmp) ", run_qmp);
}
