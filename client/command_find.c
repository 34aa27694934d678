/* Which command a word on the command line means. */
#include "client/command.h"

#include <stdio.h>
#include <string.h>

#include "proto/text.h"

/* Of them the nearest is named to who has mistyped one. */
#define COMMANDS_MAX 64

/* Names the commands that @word is a prefix of: "start, status". */
static int
ambiguous(const char *word, struct cij_error *err)
{
	char names[256] = "";

	for (const struct command *c = commands; c->name; c++) {
		size_t at = strlen(names);

		if (strncmp(c->name, word, strlen(word)) == 0)
			snprintf(names + at, sizeof(names) - at, "%s%s", at ? ", " : "", c->name);
	}
	return cij_error_set(err, CIJ_E_USAGE, "command '%s' is ambiguous: %s", word, names);
}

static int
unknown(const char *word, struct cij_error *err)
{
	const char *names[COMMANDS_MAX], *nearest;
	char clean[128];
	size_t n = 0;

	for (const struct command *c = commands; c->name; c++)
		if (c->group && n < COMMANDS_MAX)
			names[n++] = c->name;
	nearest = cij_nearest_of(word, names, n);
	cij_error_set(err, CIJ_E_USAGE, "unknown command '%s'",
		cij_text_clean(word, clean, sizeof(clean)));
	if (nearest)
		return cij_error_hint(err, "did you mean '%s'?", nearest);
	return cij_error_hint(err, "'cijqemuctl --help' lists them");
}

const struct command *
command_find(const char *word, struct cij_error *err)
{
	const struct command *found = NULL;
	size_t len = strlen(word), n = 0;

	for (const struct command *c = commands; c->name; c++) {
		if (strncmp(c->name, word, len) != 0)
			continue;
		if (!c->name[len])
			return c;
		found = c;
		n++;
	}
	if (n == 1 && len > 0)
		return found;
	if (n > 1 && len > 0)
		ambiguous(word, err);
	else
		unknown(word, err);
	return NULL;
}
