/* When the lines of a console's log came: asked of the daemon as a reader goes along. */
#ifndef CLIENT_LOGTIMES_H
#define CLIENT_LOGTIMES_H

#include "client/link.h"
#include "client/when.h"

/* As many stretches as the daemon tells at once. */
#define LOG_TIMES_MAX 512

struct log_times {
	const char *socket; /* weak */
	const char *guest; /* weak */
	int64_t run;
	struct link link;
	size_t n, at; /* at: of the stretch found last */
	int64_t end; /* what lies behind this offset is not known here */
	struct {
		int64_t offset, usec;
	} times[LOG_TIMES_MAX];
};

void log_times_close(struct log_times *times);

/* The first byte that came at @when or later. -1 with an error. */
int64_t log_times_since(struct log_times *times, const struct when *when, struct cij_error *err);

/* When the byte at @offset came, in microseconds since 1970; 0 = not known. */
int64_t log_times_of(struct log_times *times, int64_t offset);

#endif
