/*
 * _complete: what may stand where a shell's completion asks. The scripts in completions/ only pass
 * words in and lines out: commands and options come from our own tables, guests, drives and keys
 * from the daemon, as they are now.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "client/clock.h"
#include "client/link.h"
#include "client/view.h"
#include "proto/text.h"

/* A person waits for the next key: a daemon that is not as fast as this is as good as none. */
#define ASK_SECONDS 1

/* A line that tells the shell to complete names of files; no other begins with ':'. */
#define FILES ":files"

#define WORD_MAX 512

struct completion {
	const char *word; /* weak: what stands at the cursor, "" for nothing yet */
	const struct command *command; /* NULL: not named yet */
	const struct opt *wants; /* the option in front of it that takes a value */
	const char *socket; /* weak; as in --socket */
	char **operands; /* weak: those in front of it */
	size_t n_operands;
	bool dashes; /* behind "--" */
	bool away; /* meant for another machine: nothing is asked */
};

/* A formatted heap string. */
static char *__attribute__((format(printf, 1, 2))) text_of(const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	return text;
}

/* A line: a candidate that begins with the word, and what it is. */
static void
offer(const struct completion *c, const char *candidate, const char *what)
{
	char clean[WORD_MAX], about[WORD_MAX];

	if (strncmp(candidate, c->word, strlen(c->word)) == 0)
		printf("%s\t%s\n", cij_text_clean(candidate, clean, sizeof(clean)),
			cij_text_clean(what ? what : "", about, sizeof(about)));
}

/* As offer(), behind the first @len bytes of the word. */
static void
offer_behind(const struct completion *c, size_t len, const char *candidate, const char *what)
{
	_cleanup_free_ char *text = text_of("%.*s%s", (int)len, c->word, candidate);

	offer(c, text, what);
}

/* What the daemon says */

static bool
ask(const struct completion *c, const char *op, struct json_object *args, struct reply *r)
{
	struct cij_error err = CIJ_ERROR_INIT;
	_cleanup_link_ struct link l = LINK_INIT;

	if (c->away || link_open(&l, c->socket, clock_deadline(ASK_SECONDS), &err) < 0) {
		json_object_put(args);
		return false;
	}
	return link_call(&l, op, args, r, &err) == 0;
}

static bool
is_operand(const struct completion *c, const char *word)
{
	for (size_t i = 0; i < c->n_operands; i++)
		if (strcmp(c->operands[i], word) == 0)
			return true;
	return false;
}

/* Guests that are not named yet, with their state. */
static void
offer_guests(const struct completion *c)
{
	_cleanup_reply_ struct reply r = {0};
	size_t n;

	if (!ask(c, "query-guests", NULL, &r))
		return;
	n = cij_json_length(r.value);
	for (size_t i = 0; i < n; i++) {
		struct json_object *view = json_object_array_get_idx(r.value, i);
		const char *name = cij_json_str(view, "guest");
		char about[256];

		if (name && !is_operand(c, name))
			offer(c, name, view_summary(view, about, sizeof(about)));
	}
}

static void
offer_drives(const struct completion *c, const char *guest)
{
	_cleanup_reply_ struct reply r = {0};
	struct json_object *devices;

	if (!ask(c, "query-guest", guest_arguments(guest), &r))
		return;
	devices = cij_json_get(r.value, "devices");
	for (size_t i = 0; i < cij_json_length(devices); i++) {
		struct json_object *device = json_object_array_get_idx(devices, i);
		const char *id = cij_json_str(device, "id");

		if (id)
			offer(c, id, cij_json_str(device, "type"));
	}
}

/* The keys of guest.json, as query-operations describes them; weak. */
static struct json_object *
find_keys(struct json_object *operations)
{
	for (size_t i = 0; i < cij_json_length(operations); i++) {
		struct json_object *op = json_object_array_get_idx(operations, i), *args;
		const char *name = cij_json_str(op, "name");

		if (!name || strcmp(name, "guest-set") != 0)
			continue;
		args = cij_json_get(op, "arguments");
		for (size_t k = 0; k < cij_json_length(args); k++) {
			struct json_object *members = cij_json_get(
				json_object_array_get_idx(args, k), "members");

			if (members)
				return members;
		}
	}
	return NULL;
}

/* The member of a description's list that is called @name. */
static struct json_object *
find_key(struct json_object *keys, const char *name)
{
	for (size_t i = 0; i < cij_json_length(keys); i++) {
		struct json_object *key = json_object_array_get_idx(keys, i);
		const char *is = cij_json_str(key, "name");

		if (is && strcmp(is, name) == 0)
			return key;
	}
	return NULL;
}

/* What a key may be set to, behind the first @len bytes of the word. */
static void
offer_values(const struct completion *c, size_t len, struct json_object *key)
{
	struct json_object *values = cij_json_get(key, "values");
	const char *type = cij_json_str(key, "type");

	for (size_t i = 0; i < cij_json_length(values); i++)
		offer_behind(
			c, len, json_object_get_string(json_object_array_get_idx(values, i)), NULL);
	if (type && strcmp(type, "boolean") == 0) {
		offer_behind(c, len, "true", NULL);
		offer_behind(c, len, "false", NULL);
	}
}

/* A key that holds a value: "KEY=", or its values where that is typed. */
static void
offer_key(const struct completion *c, const char *full, struct json_object *key)
{
	size_t len = strlen(full);

	if (strncmp(c->word, full, len) == 0 && c->word[len] == '=') {
		offer_values(c, len + 1, key);
	} else {
		_cleanup_free_ char *text = text_of("%s=", full);

		offer(c, text, cij_json_str(key, "doc"));
	}
}

static void offer_keys(const struct completion *c, const char *prefix, struct json_object *keys,
	struct json_object *devices);

/* The keys @members of each device that there is, which stands for its place in the array. */
static void
offer_elements(const struct completion *c, const char *full, struct json_object *members,
	struct json_object *devices)
{
	for (size_t i = 0; i < cij_json_length(devices); i++) {
		const char *id = cij_json_str(json_object_array_get_idx(devices, i), "id");
		_cleanup_free_ char *within = text_of("%s.%s.", full, id ? id : "?");

		offer_keys(c, within, members, NULL);
	}
}

/* Keys with their full, dotted names. @devices: the guest's, which stand for the array's elements.
 */
static void
offer_keys(const struct completion *c, const char *prefix, struct json_object *keys,
	struct json_object *devices)
{
	for (size_t i = 0; i < cij_json_length(keys); i++) {
		struct json_object *key = json_object_array_get_idx(keys, i);
		struct json_object *members = cij_json_get(key, "members");
		const char *type = cij_json_str(key, "type"), *name = cij_json_str(key, "name");
		_cleanup_free_ char *full = text_of("%s%s", prefix, name ? name : "");

		if (!name || !type)
			continue;
		if (!members) {
			offer_key(c, full, key);
		} else if (strcmp(type, "object") == 0) {
			_cleanup_free_ char *within = text_of("%s.", full);

			offer_keys(c, within, members, NULL);
		} else if (strcmp(name, "devices") == 0) {
			offer_elements(c, full, members, devices);
		}
	}
}

/* KEY=VALUE of guest.json. @guest: whose drives there are, or NULL. */
static void
offer_settings(const struct completion *c, const char *guest)
{
	_cleanup_reply_ struct reply operations = {0}, view = {0};

	if (!ask(c, "query-operations", NULL, &operations))
		return;
	if (guest)
		(void)ask(c, "query-guest", guest_arguments(guest), &view);
	offer_keys(c, "", find_keys(operations.value), cij_json_get(view.value, "devices"));
}

/* TYPE[,KEY=VALUE…] of a drive. */
static void
offer_device(const struct completion *c)
{
	_cleanup_reply_ struct reply operations = {0};
	const char *comma = strrchr(c->word, ','), *equals;
	size_t len = comma ? (size_t)(comma + 1 - c->word) : 0;
	struct json_object *members;

	if (!ask(c, "query-operations", NULL, &operations))
		return;
	members = cij_json_get(find_key(find_keys(operations.value), "devices"), "members");
	if (!comma) {
		offer_values(c, 0, find_key(members, "type"));
		return;
	}
	equals = strchr(comma, '=');
	if (equals) {
		_cleanup_free_ char *name = text_of("%.*s", (int)(equals - comma - 1), comma + 1);

		offer_values(c, equals + 1 - c->word, find_key(members, name));
		return;
	}
	for (size_t i = 0; i < cij_json_length(members); i++) {
		struct json_object *key = json_object_array_get_idx(members, i);
		const char *name = cij_json_str(key, "name");
		_cleanup_free_ char *text = text_of("%s=", name ? name : "");

		if (!name || strcmp(name, "type") == 0)
			continue;
		offer_behind(c, len, text, cij_json_str(key, "doc"));
	}
}

/* What our own tables say */

static void
offer_commands(const struct completion *c)
{
	for (const struct command *command = commands; command->name; command++)
		if (command->group)
			offer(c, command->name, command->summary);
}

static void
offer_options(const struct completion *c, const struct opt *table)
{
	for (const struct opt *o = table; o && o->name; o++) {
		_cleanup_free_ char *text = text_of("--%s", o->name);

		offer(c, text, o->help);
	}
}

/*
 * The words that can be meant as they stand in "ssh|running|console=REGEX" or "list|plug GUEST";
 * the others, in capitals, stand for something.
 */
static void
offer_words(const struct completion *c, size_t len, const char *alternatives)
{
	for (const char *at = alternatives; *at && *at != ' ';) {
		size_t n = strcspn(at, "| "), plain = strspn(at, "abcdefghijklmnopqrstuvwxyz-");
		_cleanup_free_ char *word = text_of("%.*s", (int)(plain + (at[plain] == '=')), at);

		if (*at != '-' && (plain == n || at[plain] == '='))
			offer_behind(c, len, word, NULL);
		at += n + (at[n] == '|');
	}
}

/* The value of @opt, behind the first @len bytes of the word. */
static void
offer_option_value(struct completion *c, const struct opt *opt, size_t len)
{
	if (!opt->value)
		return;
	if (strstr(opt->value, "FILE") || strstr(opt->value, "PATH"))
		puts(FILES);
	else if (strcmp(opt->value, "KEY=VALUE") == 0)
		offer_settings(c, NULL);
	else if (strncmp(opt->value, "TYPE", 4) == 0)
		offer_device(c);
	else
		offer_words(c, len, opt->value);
}

static bool
mentions(const struct command *command, const char *word)
{
	return strstr(command->synopsis, word) != NULL;
}

/* Whether an operand is a command's first word itself: "list|plug|… GUEST". */
static bool
has_actions(const struct command *command)
{
	return islower((unsigned char)command->synopsis[0]);
}

/* Whether every operand is a guest. */
static bool
takes_many(const struct command *command)
{
	return command->flags & CMD_GUESTS || mentions(command, "GUEST…") ||
	       (mentions(command, "GLOB") && !(command->flags & CMD_GUEST));
}

static void
offer_action_operand(const struct completion *c)
{
	bool plug = c->n_operands > 0 && strcmp(c->operands[0], "plug") == 0;

	if (c->n_operands == 0)
		offer_words(c, 0, c->command->synopsis);
	else if (c->n_operands == 1)
		offer_guests(c);
	else if (c->n_operands == 2 && plug)
		offer_device(c);
	else if (c->n_operands == 2)
		offer_drives(c, c->operands[1]);
}

static void
offer_operand(const struct completion *c)
{
	const struct command *command = c->command;
	size_t n = c->n_operands;

	if (c->dashes && command->flags & CMD_WORDS)
		return; /* a command line of the guest's or of the user's */
	if (strcmp(command->name, "help") == 0)
		offer_commands(c);
	else if (strcmp(command->name, "create") == 0 || strcmp(command->name, "import") == 0)
		return; /* a name that is not there yet */
	else if (has_actions(command))
		offer_action_operand(c);
	else if (takes_many(command) || (n == 0 && mentions(command, "GUEST")))
		offer_guests(c);
	else if (n > 0 && mentions(command, "KEY=VALUE"))
		offer_settings(c, c->operands[0]);
	else if (n > 0 && (mentions(command, "BZIMAGE") || mentions(command, "SOURCE") ||
				  mentions(command, "FILE")))
		puts(FILES);
}

/* Taking the words apart */

static const struct opt *
find_option(const struct completion *c, const char *word)
{
	const struct opt *tables[] = {global_options, c->command ? c->command->options : NULL};

	for (size_t t = 0; t < cij_array_size(tables); t++)
		for (const struct opt *o = tables[t]; o && o->name; o++) {
			size_t len = strlen(o->name);

			if (word[1] == '-' && strncmp(word + 2, o->name, len) == 0 &&
				(!word[2 + len] || word[2 + len] == '='))
				return o;
			/* Of a cluster the last may want a value. */
			if (word[1] != '-' && o->letter && word[strlen(word) - 1] == o->letter)
				return o;
		}
	return NULL;
}

static void
take_option(struct completion *c, char *word)
{
	const struct opt *opt = find_option(c, word);
	const char *equals = word[1] == '-' ? strchr(word, '=') : NULL;

	if (opt && strcmp(opt->name, "host") == 0)
		c->away = true;
	if (opt && equals && strcmp(opt->name, "socket") == 0)
		c->socket = equals + 1;
	if (opt && opt->kind == OPT_VALUE && !equals)
		c->wants = opt;
}

static void
take_word(struct completion *c, char *word)
{
	struct cij_error err;

	if (c->wants) {
		if (strcmp(c->wants->name, "socket") == 0)
			c->socket = word;
		c->wants = NULL;
	} else if (!c->dashes && strcmp(word, "--") == 0) {
		c->dashes = true;
	} else if (!c->dashes && word[0] == '-' && word[1]) {
		take_option(c, word);
	} else if (!c->command) {
		c->command = command_find(word, &err);
	} else {
		c->operands[c->n_operands++] = word;
	}
}

static void
complete(struct completion *c)
{
	const char *equals = strchr(c->word, '=');

	if (c->wants) {
		offer_option_value(c, c->wants, 0);
	} else if (!c->dashes && c->word[0] == '-' && equals) {
		const struct opt *opt = find_option(c, c->word);

		if (opt && opt->kind != OPT_FLAG)
			offer_option_value(c, opt, equals + 1 - c->word);
	} else if (!c->dashes && c->word[0] == '-') {
		if (c->command)
			offer_options(c, c->command->options);
		offer_options(c, global_options);
	} else if (c->command) {
		offer_operand(c);
	} else if (!c->dashes) {
		offer_commands(c);
	}
}

int
cmd_complete(struct call *call, struct cij_error *err)
{
	struct completion c = {.word = "", .socket = call->socket, .away = call->host != NULL};
	size_t n = call->n_args;

	c.operands = calloc(n + 1, sizeof(*c.operands));
	if (!c.operands)
		abort();
	for (size_t i = 0; i + 1 < n; i++)
		take_word(&c, call->args[i]);
	if (n > 0)
		c.word = call->args[n - 1];
	complete(&c);
	free(c.operands);
	return 0;
}
