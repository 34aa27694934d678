#include "client/duration.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

/* A thousand years: beyond that a number is a slip. */
#define SECONDS_MAX (1000LL * 366 * 86400)

static int64_t
unit_of(char letter)
{
	switch (letter) {
	case 's':
	case '\0':
		return 1;
	case 'm':
		return 60;
	case 'h':
		return 3600;
	case 'd':
		return 86400;
	default:
		return 0;
	}
}

int
duration_parse(const char *text, int64_t *seconds)
{
	const char *at = text;

	*seconds = 0;
	while (isdigit((unsigned char)*at)) {
		int64_t n, unit;
		char *end;

		errno = 0;
		n = strtoll(at, &end, 10);
		unit = unit_of(*end);
		/* Without a unit: nothing but seconds, alone. */
		if (errno || !unit || n > SECONDS_MAX / unit || (!*end && at != text))
			return -1;
		*seconds += n * unit;
		if (*seconds > SECONDS_MAX)
			return -1;
		at = *end ? end + 1 : end;
	}
	return at == text || *at ? -1 : 0;
}
