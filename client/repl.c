#include "client/repl.h"

#include <stdio.h>
#include <string.h>

#include "client/clock.h"
#include "client/guests.h"
#include "client/out.h"
#include "client/view.h"
#include "proto/text.h"

/* What the daemon gives QEMU, and some for the way. */
#define MONITOR_SECONDS 40

/* What is left for the way where --timeout says how long QEMU may take. */
#define WAY_SECONDS 5

void
repl_start_clock(struct repl *repl)
{
	double timeout = repl->call->timeout;

	if (timeout > 0)
		repl->link.deadline = clock_deadline(timeout + WAY_SECONDS);
	else
		repl->link.deadline = clock_deadline(timeout < 0 ? MONITOR_SECONDS : 0);
}

void
repl_print(const struct repl *repl, const char *text, size_t len)
{
	const char *end = text + len;

	if (!repl->several) {
		out_text(text, len);
		return;
	}
	while (text < end) {
		const char *newline = memchr(text, '\n', end - text);
		size_t n = newline ? (size_t)(newline + 1 - text) : (size_t)(end - text);

		printf("%s: ", repl->guest);
		out_text(text, n);
		text += n;
	}
}

/* Without its connection none of the other lines can do better. */
static bool
is_lost(const struct cij_error *err)
{
	return err->class == CIJ_E_UNREACHABLE || err->class == CIJ_E_PROTOCOL;
}

static bool
is_blank(const char *line)
{
	return line[strspn(line, " \t\r\n")] == '\0';
}

/* A person: errors are told, and the next line may do better. */
static int
converse(struct repl *repl, struct cij_error *err)
{
	struct editor_spec spec = {.prompt = repl->prompt,
		.history = repl->history,
		.complete = repl->complete,
		.ready = repl->ready,
		.fd = -1,
		.arg = repl};
	struct editor *editor;
	const char *line;

	if (repl->enter && repl->enter(repl, err) < 0)
		return -1;
	out_note("[%s: ^D leaves; 'quit' would end the guest]", repl->guest);
	editor = editor_new(&spec);
	for (;;) {
		struct cij_error own = CIJ_ERROR_INIT;

		editor_watch(editor, repl->enter ? repl->session.fd : -1);
		line = editor_line(editor);
		if (!line)
			break;
		if (is_blank(line) || repl->run(repl, line, &own) == 0)
			continue;
		out_error(&own);
		if (is_lost(&own)) {
			/* The daemon may be back by the next line. */
			link_close(&repl->link);
			(void)link_open(&repl->link, repl->call->socket, CLOCK_NEVER, &own);
		}
	}
	editor_free(editor);
	return 0;
}

struct lines {
	struct guests guests;
	int code; /* the first failure's */
};

static void
run_on(struct repl *repl, const char *guest, const char *line, struct lines *lines)
{
	struct cij_error err = CIJ_ERROR_INIT;

	repl->guest = guest;
	if (repl->run(repl, line, &err) == 0)
		return;
	out_error_of(repl->several ? guest : NULL, &err);
	if (!lines->code)
		lines->code = cij_error_exit_code(err.class);
	if (!is_lost(&err))
		return;
	link_close(&repl->link);
}

/* Runs a line on each guest; goes on behind one that failed. False: there is no daemon any more. */
static bool
run_on_all(struct repl *repl, const char *line, struct lines *lines)
{
	for (size_t i = 0; i < lines->guests.n && repl->link.fd >= 0; i++)
		run_on(repl, lines->guests.items[i].name, line, lines);
	fflush(stdout);
	return repl->link.fd >= 0;
}

static void
run_stdin(struct repl *repl, struct lines *lines)
{
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	ssize_t n;

	while ((n = getline(&line, &size, stdin)) >= 0) {
		while (n > 0 && strchr("\r\n", line[n - 1]))
			line[--n] = '\0';
		if (!is_blank(line) && !run_on_all(repl, line, lines))
			return;
	}
}

/* The guests that are meant: one by its name, or those that a glob matches and that have a monitor.
 */
static int
find_guests(struct repl *repl, struct lines *lines, struct cij_error *err)
{
	char *word = (char *)repl->call->guest;
	size_t n = 0;

	repl->link.deadline = clock_deadline(MONITOR_SECONDS);
	if (guests_expand(&repl->link, &word, 1, &lines->guests, err) < 0)
		return -1;
	repl->several = cij_is_glob(word);
	for (size_t i = 0; i < lines->guests.n; i++) {
		struct guest_ref *ref = &lines->guests.items[i], was = *ref;
		bool up = !ref->state || strcmp(ref->state, "running") == 0 ||
			  strcmp(ref->state, "paused") == 0 || strcmp(ref->state, "stopping") == 0;

		if (ref->missing)
			return guest_missing(ref, err);
		if (!up)
			continue;
		*ref = lines->guests.items[n];
		lines->guests.items[n++] = was;
	}
	if (n == 0)
		return cij_error_set(err, CIJ_E_BUSY, "none of the guests '%s' runs", word);
	for (size_t i = n; i < lines->guests.n; i++) {
		free(lines->guests.items[i].name);
		free(lines->guests.items[i].state);
	}
	lines->guests.n = n;
	return 0;
}

/* Before anything is asked of a guest: a line that never comes is answered by nobody. */
static int
check_guest(struct repl *repl, struct cij_error *err)
{
	_cleanup_reply_ struct reply r = {0};

	repl->link.deadline = clock_deadline(MONITOR_SECONDS);
	if (link_call(&repl->link, "query-guest", guest_arguments(repl->guest), &r, err) < 0)
		return -1;
	if (view_is_live(r.value))
		return 0;
	return cij_error_set(err, CIJ_E_BUSY, "guest '%s' is %s: it has no monitor", repl->guest,
		view_state(r.value));
}

static int
run_all(struct repl *repl, const char *line, struct cij_error *err)
{
	struct lines lines = {0};
	int rc;

	if (link_open(&repl->link, repl->call->socket, CLOCK_NEVER, err) < 0)
		return -1;
	repl->guest = repl->call->guest;
	repl->person = !line && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	if (repl->person && cij_is_glob(repl->guest))
		return cij_error_set(err, CIJ_E_USAGE,
			"a conversation is with one guest: name it, or give a command");
	if (!line && !cij_is_glob(repl->guest) && check_guest(repl, err) < 0)
		return -1;
	if (repl->person)
		return converse(repl, err);
	rc = find_guests(repl, &lines, err);
	if (rc == 0 && line && !repl->several) {
		rc = repl->run(repl, line, err);
	} else if (rc == 0) {
		if (line)
			run_on_all(repl, line, &lines);
		else
			run_stdin(repl, &lines);
		rc = lines.code;
	}
	guests_clear(&lines.guests);
	return rc;
}

char *
repl_words(const struct call *call)
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

int
repl_run(struct repl *repl, const char *line, struct cij_error *err)
{
	int rc;

	repl->link = repl->session = (struct link)LINK_INIT;
	rc = run_all(repl, line, err);
	link_close(&repl->session);
	free(repl->in);
	link_close(&repl->link);
	words_clear(&repl->commands);
	words_clear(&repl->more);
	return rc;
}
