/* monitor: QEMU's human monitor, one command or many. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "client/out.h"
#include "client/repl.h"

/* QEMU's text as others have it: its lines end with CR LF, the last one perhaps not at all. */
static char *
plain_text(const char *text, size_t *n)
{
	size_t len = text ? strlen(text) : 0;
	char *plain = malloc(len + 2);

	if (!plain)
		abort();
	*n = 0;
	for (size_t i = 0; i < len; i++)
		if (text[i] != '\r' || text[i + 1] != '\n')
			plain[(*n)++] = text[i];
	if (*n > 0 && plain[*n - 1] != '\n')
		plain[(*n)++] = '\n';
	plain[*n] = '\0';
	return plain;
}

static int
call_hmp(struct repl *repl, const char *line, struct reply *r, struct cij_error *err)
{
	struct json_object *args = guest_arguments(repl->guest);

	cij_json_add_str(args, "line", line);
	repl_start_clock(repl);
	return link_call(&repl->link, "hmp", args, r, err);
}

/* Runs one line of the human monitor and prints what it says. */
static int
run_hmp(struct repl *repl, const char *line, struct cij_error *err)
{
	_cleanup_reply_ struct reply r = {0};
	_cleanup_free_ char *plain = NULL;
	const char *text;
	size_t len;

	if (call_hmp(repl, line, &r, err) < 0)
		return -1;
	if (repl->call->json && repl->several) {
		cij_json_add_str(r.value, "guest", repl->guest);
		text = json_object_to_json_string_length(
			r.value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
		out_json(text, len, false);
		return 0;
	}
	if (repl->call->json) {
		reply_print(&r);
		return 0;
	}
	plain = plain_text(cij_json_str(r.value, "output"), &len);
	repl_print(repl, plain, len);
	return 0;
}

/*
 * The commands that 'help' or 'help info' lists: a line each, "name|short arguments -- what it is".
 * Those of 'info' stand behind that word.
 */
static void
take_help(struct words *words, const char *text, const char *behind)
{
	while (text && *text) {
		const char *end = strchrnul(text, '\n');
		size_t skip = strlen(behind);

		if (strncmp(text, behind, skip) == 0) {
			const char *name = text + skip;
			size_t n;

			for (; (n = strcspn(name, "| \r\n")) > 0; name += n + 1) {
				words_add(words, name, n);
				if (name[n] != '|')
					break;
			}
		}
		text = *end ? end + 1 : end;
	}
	words_sort(words);
}

/* QEMU is asked once, when the first word is to be completed. */
static void
ask_commands(struct repl *repl)
{
	_cleanup_reply_ struct reply help = {0}, info = {0};
	struct cij_error err = CIJ_ERROR_INIT;

	repl->asked = true;
	if (call_hmp(repl, "help", &help, &err) == 0)
		take_help(&repl->commands, cij_json_str(help.value, "output"), "");
	if (call_hmp(repl, "help info", &info, &err) == 0)
		take_help(&repl->more, cij_json_str(info.value, "output"), "info ");
}

static const struct words *
complete_hmp(void *arg, const char *line, size_t start)
{
	struct repl *repl = arg;
	size_t blanks = strspn(line, " ");

	if (!repl->asked)
		ask_commands(repl);
	if (start <= blanks)
		return &repl->commands;
	if (strncmp(line + blanks, "info ", 5) == 0 && start == blanks + 5)
		return &repl->more;
	if (strncmp(line + blanks, "help ", 5) == 0 && start == blanks + 5)
		return &repl->commands;
	return NULL;
}

int
cmd_monitor(struct call *call, struct cij_error *err)
{
	_cleanup_free_ char *line = repl_words(call);
	struct repl repl = {.call = call,
		.run = run_hmp,
		.prompt = "(qemu) ",
		.history = "monitor.history",
		.complete = complete_hmp};

	return repl_run(&repl, call->n_args > 0 ? line : NULL, err);
}
