#include "client/quote.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cijqemu/cleanup.h"

char *
shell_quote(const char *word, bool first)
{
	/* In front "A=b" would be an assignment. */
	const char *safe = first ? "@%+:,./_-" : "@%+:,./_-=";
	char *quoted = malloc(strlen(word) * 4 + 3), *at = quoted;
	bool plain = *word;

	if (!quoted)
		abort();
	for (const char *p = word; *p; p++)
		plain = plain && (unsigned char)*p < 0x80 &&
			(isalnum((unsigned char)*p) || strchr(safe, *p));
	if (plain)
		return strcpy(quoted, word);
	*at++ = '\'';
	for (const char *p = word; *p; p++) {
		if (*p == '\'')
			at = stpcpy(at, "'\\''");
		else
			*at++ = *p;
	}
	strcpy(at, "'");
	return quoted;
}

char *
shell_quote_path(const char *path)
{
	_cleanup_free_ char *plain = NULL;

	if (asprintf(&plain, "%s%s", *path == '/' ? "" : "./", path) < 0)
		abort();
	return shell_quote(plain, false);
}
