#include "client/ssh_command.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cijqemu/cleanup.h"
#include "client/args.h"
#include "client/quote.h"
#include "proto/text.h"

char *
ssh_command_line(char **words, size_t n)
{
	size_t size = 1;
	char *line, *at;

	for (size_t i = 0; i < n; i++)
		size += strlen(words[i]) * 4 + 3;
	at = line = malloc(size);
	if (!line)
		abort();
	*line = '\0';
	if (n == 1)
		return strcpy(line, words[0]);
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *word = shell_quote(words[i], i == 0);

		at = stpcpy(stpcpy(at, i ? " " : ""), word);
	}
	return line;
}

/* The length of the variable's name that @text starts with; 0 = none. */
static size_t
name_length(const char *text)
{
	size_t n = 0;

	while (isalnum((unsigned char)text[n]) || text[n] == '_')
		n++;
	return isdigit((unsigned char)text[0]) ? 0 : n;
}

/* "NAME=VALUE" as given, or NAME with the value that it has here. Heap string; NULL and Usage. */
static char *
assignment(const struct call *call, const char *text, struct cij_error *err)
{
	size_t n = name_length(text);
	const char *value;
	char clean[128], *full;

	if (n == 0 || (text[n] && text[n] != '=')) {
		call_usage(call, err, "--env takes NAME=VALUE or NAME, not '%s'",
			cij_text_clean(text, clean, sizeof(clean)));
		return NULL;
	}
	if (text[n] == '=')
		return strdup(text);
	value = getenv(text);
	if (!value) {
		call_usage(call, err, "--env %s: it is not set here", text);
		return NULL;
	}
	if (asprintf(&full, "%s=%s", text, value) < 0)
		abort();
	return full;
}

char *
ssh_command_with_env(const struct call *call, const char *line, struct cij_error *err)
{
	_cleanup_free_ char *quoted = NULL;
	char *command = NULL, *longer;
	const char *text;
	size_t at = 0;

	while ((text = call_each(call, "env", &at))) {
		_cleanup_free_ char *one = assignment(call, text, err), *word = NULL;

		if (!one) {
			free(command);
			return NULL;
		}
		word = shell_quote(one, false);
		if (asprintf(&longer, "%s %s", command ? command : "exec env", word) < 0)
			abort();
		free(command);
		command = longer;
	}
	if (!command)
		return strdup(line);
	quoted = shell_quote(line, false);
	if (asprintf(&longer, "%s sh -c %s", command, quoted) < 0)
		abort();
	free(command);
	return longer;
}
