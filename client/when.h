/* A moment as people write it: RFC 3339, a time of today, or how long ago. */
#ifndef CLIENT_WHEN_H
#define CLIENT_WHEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "cijqemu/error.h"

struct when {
	bool ago; /* @usec is how long ago it was; else since 1970 */
	int64_t usec;
};

/*
 * Reads "2026-11-22T10:40:05Z", with fractions, another zone, or none for the local one, or no more
 * than its date; "10:40" or "10:40:05", the last such moment before @now; "10m", "1h30m", "2d".
 * 0, or -1 and BadRequest.
 */
int when_parse(const char *text, time_t now, struct when *when, struct cij_error *err);

/* Writes "2026-11-22T11:40:05.123+01:00", in the local zone. Returns @buf. */
const char *when_text(int64_t usec, char *buf, size_t size);

#endif
