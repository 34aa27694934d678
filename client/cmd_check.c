/* validate, argv: what would be run, and whether it can be. */
#include <stdio.h>
#include <string.h>

#include "client/args.h"
#include "client/clock.h"
#include "client/guests.h"
#include "client/link.h"
#include "client/out.h"
#include "client/quote.h"
#include "proto/message.h"
#include "proto/text.h"

/* The first look at a QEMU binary runs it to see what it can do. */
#define CHECK_SECONDS 60

static void
print_clean(const char *text)
{
	size_t size = strlen(text) + 1;
	_cleanup_free_ char *clean = malloc(size);

	if (!clean)
		abort();
	fputs(cij_text_clean(text, clean, size), stdout);
}

/* Prints one guest's problems, a line each, or that there are none. */
static void
print_problems(const char *guest, struct json_object *value)
{
	struct json_object *problems = cij_json_get(value, "problems");
	size_t n = cij_json_length(problems);

	for (size_t i = 0; i < n; i++) {
		struct json_object *problem = json_object_array_get_idx(problems, i);
		const char *path = cij_json_str(problem, "path"),
			   *hint = cij_json_str(problem, "hint");
		const char *desc = cij_json_str(problem, "desc");

		printf("%s: ", guest);
		if (path && *path) {
			print_clean(path);
			fputs(": ", stdout);
		}
		print_clean(desc ? desc : "?");
		if (hint) {
			fputs(" (", stdout);
			print_clean(hint);
			putchar(')');
		}
		putchar('\n');
	}
	if (cij_json_bool(value, "valid", false))
		printf("%s: ok\n", guest);
	else if (n == 0)
		printf("%s: not valid\n", guest);
}

/* Checks one guest. Returns its exit code: the daemon's errors are printed here. */
static int
validate_one(struct call *call, struct link *l, const char *guest, bool first)
{
	struct cij_error err = CIJ_ERROR_INIT;
	_cleanup_reply_ struct reply r = {0};
	size_t len;
	const char *text;

	if (link_call(l, "guest-validate", guest_arguments(guest), &r, &err) < 0) {
		out_error_of(call->n_args != 1 ? guest : NULL, &err);
		return cij_error_exit_code(err.class);
	}
	text = reply_text(&r, &len);
	if (call->json)
		printf("%s%.*s", first ? "" : ",\n ", (int)len, text);
	else
		print_problems(guest, r.value);
	return cij_json_bool(r.value, "valid", false) ? 0 : cij_error_exit_code(CIJ_E_BAD_CONFIG);
}

int
cmd_validate(struct call *call, struct cij_error *err)
{
	_cleanup_link_ struct link l = LINK_INIT;
	_cleanup_guests_ struct guests guests = {0};
	int code = 0;

	for (size_t i = 0; i < call->n_args; i++)
		if (!cij_is_glob(call->args[i]) && cij_guest_name_check(call->args[i], err) < 0)
			return -1;
	if (link_open(&l, call->socket, call_deadline(call, CHECK_SECONDS), err) < 0 ||
		guests_expand(&l, call->args, call->n_args, &guests, err) < 0)
		return -1;
	if (call->json)
		putchar('[');
	for (size_t i = 0; i < guests.n; i++) {
		int rc;

		if (guests.items[i].missing) {
			guest_missing(&guests.items[i], err);
			out_error(err);
			rc = cij_error_exit_code(err->class);
		} else {
			rc = validate_one(call, &l, guests.items[i].name, i == 0);
		}
		code = code ? code : rc;
	}
	if (call->json)
		printf("]\n");
	return code;
}

static void
print_quoted(const char *word, bool first)
{
	_cleanup_free_ char *quoted = shell_quote(word ? word : "", first);

	print_clean(quoted);
}

/* An option a line with its value, and behind it where it comes from. */
static void
print_explained(struct json_object *argv, struct json_object *why)
{
	size_t n = json_object_array_length(argv);

	for (size_t i = 0; i < n;) {
		const char *word = json_object_get_string(json_object_array_get_idx(argv, i));
		const char *reason = NULL, *last = NULL;

		print_quoted(word, i == 0);
		do {
			reason = json_object_is_type(why, json_type_array) &&
						 i < json_object_array_length(why)
					 ? json_object_get_string(json_object_array_get_idx(why, i))
					 : NULL;
			if (reason)
				last = reason;
			if (++i >= n)
				break;
			word = json_object_get_string(json_object_array_get_idx(argv, i));
			if (!word || *word == '-')
				break;
			putchar(' ');
			print_quoted(word, false);
		} while (true);
		if (last && *last) {
			fputs("  # ", stdout);
			print_clean(last);
		}
		putchar('\n');
	}
}

int
cmd_argv(struct call *call, struct cij_error *err)
{
	_cleanup_reply_ struct reply r = {0};
	struct json_object *argv;

	if (call_daemon(call, CHECK_SECONDS, "guest-argv", guest_arguments(call->guest), &r, err) <
		0)
		return -1;
	if (call->json) {
		reply_print(&r);
		return 0;
	}
	argv = cij_json_get(r.value, "argv");
	if (!json_object_is_type(argv, json_type_array))
		return cij_error_set(err, CIJ_E_PROTOCOL, "the daemon's command line is no array");
	if (call_has(call, "explain")) {
		print_explained(argv, cij_json_get(r.value, "why"));
		return 0;
	}
	for (size_t i = 0; i < json_object_array_length(argv); i++) {
		const char *word = json_object_get_string(json_object_array_get_idx(argv, i));

		if (i > 0)
			putchar(' ');
		print_quoted(word, i == 0);
	}
	putchar('\n');
	return 0;
}
