#include "client/args.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cijqemu/cleanup.h"
#include "client/clock.h"
#include "proto/text.h"

/* A thousand years are for ever; it keeps the arithmetic of deadlines within its type. */
#define SECONDS_MAX 3.2e10

/* Most options of one command and the global ones together: for "did you mean". */
#define OPTIONS_MAX 40

int
call_usage(const struct call *call, struct cij_error *err, const char *fmt, ...)
{
	va_list ap;

	cij_error_set(err, CIJ_E_USAGE, "%s", "");
	va_start(ap, fmt);
	vsnprintf(err->desc, sizeof(err->desc), fmt, ap);
	va_end(ap);
	if (call->command) {
		cij_error_prefix(err, "%s", call->command->name);
		return cij_error_hint(err, "'cijqemuctl %s --help' explains", call->command->name);
	}
	return cij_error_hint(err, "'cijqemuctl --help' explains");
}

bool
call_has(const struct call *call, const char *name)
{
	for (size_t i = 0; i < call->n_given; i++)
		if (strcmp(call->given[i].opt->name, name) == 0)
			return true;
	return false;
}

const char *
call_value(const struct call *call, const char *name)
{
	for (size_t i = call->n_given; i > 0; i--)
		if (strcmp(call->given[i - 1].opt->name, name) == 0)
			return call->given[i - 1].value;
	return NULL;
}

const char *
call_each(const struct call *call, const char *name, size_t *at)
{
	while (*at < call->n_given) {
		const struct given *given = &call->given[(*at)++];

		if (strcmp(given->opt->name, name) == 0)
			return given->value;
	}
	return NULL;
}

int
call_seconds(const struct call *call, const char *name, double fallback, double *seconds,
	struct cij_error *err)
{
	const char *text = call_value(call, name);
	char *end;

	*seconds = fallback;
	if (!text)
		return 0;
	/* strtod() alone would take "inf", "0x10" and " 5" too. */
	if (strspn(text, "0123456789.") == strlen(text)) {
		*seconds = strtod(text, &end);
		if (end != text && !*end && *seconds <= SECONDS_MAX)
			return 0;
	}
	return call_usage(call, err, "--%s takes seconds, not '%s'", name, text);
}

int
call_number(const struct call *call, const char *name, int64_t fallback, int64_t *number,
	struct cij_error *err)
{
	const char *text = call_value(call, name);
	char *end;

	*number = fallback;
	if (!text)
		return 0;
	errno = 0;
	*number = strtoll(text, &end, 10);
	if (end != text && !*end && !errno && !isspace((unsigned char)*text))
		return 0;
	return call_usage(call, err, "--%s takes a whole number, not '%s'", name, text);
}

int64_t
call_deadline(const struct call *call, double fallback)
{
	return clock_deadline(call->timeout < 0 ? fallback : call->timeout);
}

static const struct opt *
table_find(const struct opt *table, const char *name, size_t len, char letter)
{
	for (; table && table->name; table++) {
		if (name && strlen(table->name) == len && strncmp(table->name, name, len) == 0)
			return table;
		if (!name && table->letter && table->letter == letter)
			return table;
	}
	return NULL;
}

static const struct opt *
find_option(const struct call *call, const char *name, size_t len, char letter)
{
	const struct opt *opt = table_find(global_options, name, len, letter);

	return opt ? opt
		   : table_find(call->command ? call->command->options : NULL, name, len, letter);
}

static int
unknown_option(const struct call *call, const char *name, size_t len, struct cij_error *err)
{
	const struct opt *tables[] = {
		global_options, call->command ? call->command->options : NULL};
	_cleanup_free_ char *word = strndup(name, len);
	const char *words[OPTIONS_MAX], *nearest;
	size_t n = 0;

	if (!word)
		abort();
	for (size_t t = 0; t < cij_array_size(tables); t++)
		for (const struct opt *o = tables[t]; o && o->name && n < OPTIONS_MAX; o++)
			words[n++] = o->name;
	nearest = cij_nearest_of(word, words, n);
	call_usage(call, err, "unknown option '--%s'", word);
	if (nearest)
		cij_error_hint(err, "did you mean '--%s'?", nearest);
	return -1;
}

static void
add_given(struct call *call, const struct opt *opt, const char *value)
{
	call->given[call->n_given++] = (struct given){opt, value};
}

/* Takes "--name", "--name=value" or "--name value" at argv[*at]. */
static int
take_long(struct call *call, int argc, char **argv, int *at, struct cij_error *err)
{
	const char *name = argv[*at] + 2, *equals = strchr(name, '=');
	size_t len = equals ? (size_t)(equals - name) : strlen(name);
	const struct opt *opt = find_option(call, name, len, 0);

	if (!opt)
		return unknown_option(call, name, len, err);
	if (opt->kind == OPT_FLAG && equals)
		return call_usage(call, err, "--%s takes no value", opt->name);
	if (opt->kind == OPT_VALUE && !equals) {
		if (*at + 1 >= argc)
			return call_usage(call, err, "--%s needs a value: --%s %s", opt->name,
				opt->name, opt->value);
		add_given(call, opt, argv[++*at]);
		return 0;
	}
	add_given(call, opt, equals ? equals + 1 : NULL);
	return 0;
}

/* Takes the cluster of short options at argv[*at]: "-fq", "-n5" or "-n 5". */
static int
take_short(struct call *call, int argc, char **argv, int *at, struct cij_error *err)
{
	for (const char *p = argv[*at] + 1; *p; p++) {
		const struct opt *opt = find_option(call, NULL, 0, *p);

		if (!opt) {
			char clean[64];

			return call_usage(call, err, "unknown option '-%c' in '%s'",
				isprint((unsigned char)*p) ? *p : '?',
				cij_text_clean(argv[*at], clean, sizeof(clean)));
		}
		if (opt->kind != OPT_VALUE) {
			add_given(call, opt, NULL);
			continue;
		}
		if (p[1]) {
			add_given(call, opt, p + 1);
			return 0;
		}
		if (*at + 1 >= argc)
			return call_usage(
				call, err, "-%c needs a value: -%c %s", *p, *p, opt->value);
		add_given(call, opt, argv[++*at]);
		return 0;
	}
	return 0;
}

/*
 * The guest of a one-guest command: its first operand, unless that can only be something else
 * (what stands behind "--" in front of a command line, JSON, KEY=VALUE, or one of those that the
 * command cannot do without where the environment names a guest), else $QEMU_GUEST_NAME.
 */
static int
take_guest(struct call *call, bool dashes_first, struct cij_error *err)
{
	const char *env = getenv("QEMU_GUEST_NAME");
	const char *first = call->n_args > 0 ? call->args[0] : NULL;
	bool needed = env && *env && call->n_args <= call->command->min_args;
	bool other = first && call->command->max_args > 0 &&
		     ((dashes_first && call->command->flags & CMD_WORDS) || *first == '{' ||
			     strchr(first, '=') || needed);

	if (first && !other) {
		call->guest = first;
		call->args++;
		call->n_args--;
	} else if (call->command->flags & CMD_MAYBE_GUEST) {
		return 0;
	} else if (env && *env) {
		call->guest = env;
	} else {
		call_usage(call, err, "which guest? None is named, nor is QEMU_GUEST_NAME set");
		return cij_error_hint(err, "usage: cijqemuctl %s %s", call->command->name,
			call->command->synopsis);
	}
	if (call->command->flags & CMD_GLOB && cij_is_glob(call->guest))
		return 0;
	return cij_guest_name_check(call->guest, err);
}

/* Checks the guests of a command that takes several, and puts in the default one. */
static int
take_guests(struct call *call, struct cij_error *err)
{
	static char *only[1]; /* behind call->args when the environment names the guest */
	bool all = call_has(call, "all");

	if (all && call->n_args > 0)
		return call_usage(call, err, "--all, or guests by name, but not both");
	if (!all && call->n_args == 0) {
		only[0] = getenv("QEMU_GUEST_NAME");
		if (!only[0] || !*only[0]) {
			call_usage(call, err,
				"which guest? None is named, nor is QEMU_GUEST_NAME set");
			return cij_error_hint(err, "name one or more, a glob, or --all");
		}
		call->args = only;
		call->n_args = 1;
	}
	for (size_t i = 0; i < call->n_args; i++)
		if (!cij_is_glob(call->args[i]) && cij_guest_name_check(call->args[i], err) < 0)
			return -1;
	return 0;
}

/* Several guests in front of "--", a glob, or --all: they are call->guests. */
static int
take_many(struct call *call, size_t before_dashes, struct cij_error *err)
{
	bool all = call_has(call, "all");

	if (before_dashes == SIZE_MAX)
		before_dashes = call->n_args > 0 && cij_is_glob(call->args[0]) ? 1 : 0;
	if (all && before_dashes > 0)
		return call_usage(call, err, "--all, or guests by name, but not both");
	if (!all && before_dashes < 2 && !(before_dashes == 1 && cij_is_glob(call->args[0])))
		return 0;
	call->guests = call->args;
	call->n_guests = before_dashes;
	call->args += before_dashes;
	call->n_args -= before_dashes;
	for (size_t i = 0; i < call->n_guests; i++)
		if (!cij_is_glob(call->guests[i]) && cij_guest_name_check(call->guests[i], err) < 0)
			return -1;
	return 0;
}

static int
check_operands(struct call *call, size_t before_dashes, struct cij_error *err)
{
	const struct command *command = call->command;
	char clean[128];

	if (command->flags & CMD_MANY && take_many(call, before_dashes, err) < 0)
		return -1;
	if (command->flags & (CMD_GUEST | CMD_MAYBE_GUEST) && !call->guests &&
		take_guest(call, before_dashes == 0, err) < 0)
		return -1;
	if (command->flags & CMD_GUESTS && take_guests(call, err) < 0)
		return -1;
	if (call->n_args < command->min_args) {
		call_usage(call, err, "something is missing");
		return cij_error_hint(
			err, "usage: cijqemuctl %s %s", command->name, command->synopsis);
	}
	if (call->n_args > command->max_args)
		return call_usage(call, err, "'%s' is one argument too many",
			cij_text_clean(call->args[command->max_args], clean, sizeof(clean)));
	return 0;
}

/* Whether @host can only be the machine that we run on, as CIJOE's environments name it. */
static bool
is_this_machine(const char *host)
{
	char own[256] = "";
	size_t len;

	(void)gethostname(own, sizeof(own) - 1);
	len = strcspn(own, ".");
	return strcasecmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
	       strcmp(host, "::1") == 0 || strcmp(host, "[::1]") == 0 ||
	       (*own && strcasecmp(host, own) == 0) ||
	       (len > 0 && strlen(host) == len && strncasecmp(host, own, len) == 0);
}

/* QEMU_HOST, QEMU_HOST_USER and QEMU_HOST_PORT, as --host takes them. */
static int
read_host(struct call *call, struct cij_error *err)
{
	const char *host = getenv("QEMU_HOST"), *user = getenv("QEMU_HOST_USER");
	const char *port = getenv("QEMU_HOST_PORT"), *colon = host ? strchr(host, ':') : NULL;
	static char text[1024]; /* as long-lived as the environment that it stands for */
	bool bare; /* an IPv6 address that the port would become a part of */

	if (call_has(call, "host")) {
		call->host = call_value(call, "host");
		return *call->host ? 0 : call_usage(call, err, "--host needs a host");
	}
	if (!host || !*host || is_this_machine(host))
		return 0;
	if (strchr(host, '@') || !user)
		user = "";
	if (strchr(host, ',') || !port)
		port = "";
	bare = *port && colon && strchr(colon + 1, ':') && !strpbrk(host, "[@");
	if ((size_t)snprintf(text, sizeof(text), "%s%s%s%s%s%s%s", user, *user ? "@" : "",
		    bare ? "[" : "", host, bare ? "]" : "", *port ? ":" : "", port) >= sizeof(text))
		return call_usage(call, err, "QEMU_HOST is too long");
	call->host = text;
	return 0;
}

/* Puts the global options where all commands find them. */
static int
read_globals(struct call *call, struct cij_error *err)
{
	call->json = call_has(call, "json");
	call->quiet = call_has(call, "quiet");
	call->verbose = call_has(call, "verbose");
	call->socket = call_value(call, "socket");
	if (call->socket && !*call->socket)
		return call_usage(call, err, "--socket needs a path");
	if (read_host(call, err) < 0)
		return -1;
	return call_seconds(call, "timeout", -1, &call->timeout, err);
}

/* Whether the operands so far are guests, since "--" is still to come. */
static bool
has_guests_ahead(const struct call *call, char **argv)
{
	if (!(call->command->flags & CMD_MANY))
		return false;
	for (; *argv; argv++)
		if (strcmp(*argv, "--") == 0)
			return true;
	return false;
}

int
args_parse(struct call *call, int argc, char **argv, struct cij_error *err)
{
	size_t before_dashes = SIZE_MAX; /* operands in front of "--"; SIZE_MAX = there is none */
	bool dashes = false;
	size_t letters = 0; /* no option is shorter than one: a bound of how many there are */

	for (int i = 1; i < argc; i++)
		letters += strlen(argv[i]);
	*call = (struct call){.argv = argv, .timeout = -1};
	call->given = calloc(letters + 1, sizeof(*call->given));
	call->operands = call->args = calloc(argc + 1, sizeof(*call->args));
	if (!call->given || !call->operands)
		abort();
	for (int i = 1; i < argc; i++) {
		bool words = call->command && call->command->flags & CMD_WORDS &&
			     call->n_args >= 2 && !has_guests_ahead(call, argv + i);
		bool option = !dashes && !words && argv[i][0] == '-' && argv[i][1];

		if (option && strcmp(argv[i], "--") == 0) {
			dashes = true;
			before_dashes = call->n_args;
		} else if (option && argv[i][1] == '-') {
			if (take_long(call, argc, argv, &i, err) < 0)
				return -1;
		} else if (option) {
			if (take_short(call, argc, argv, &i, err) < 0)
				return -1;
		} else if (!call->command) {
			call->command = command_find(argv[i], err);
			if (!call->command)
				return -1;
			dashes = false;
			before_dashes = SIZE_MAX;
		} else {
			call->args[call->n_args++] = argv[i];
		}
	}
	if (read_globals(call, err) < 0)
		return -1;
	if (call_has(call, "help") || call_has(call, "version"))
		return 0;
	if (!call->command)
		return call_usage(call, err, "which command?");
	return check_operands(call, before_dashes, err);
}

void
args_clear(struct call *call)
{
	free(call->given);
	free(call->operands);
	*call = (struct call){0};
}
