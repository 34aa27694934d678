#include "client/quote.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

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
