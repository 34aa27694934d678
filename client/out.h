/* What is printed: data on stdout; notes, progress and errors on stderr. */
#ifndef CLIENT_OUT_H
#define CLIENT_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "cijqemu/error.h"

/* Without notes and progress from here on (-q). */
void out_be_quiet(void);

/* "cijqemuctl: DESC" and "  HINT" on stderr, without control characters. */
void out_error(const struct cij_error *err);

/* As out_error() with "SUBJECT: " before the description: one of several guests. */
void out_error_of(const char *subject, const struct cij_error *err);

/* A line on stderr, unless quiet, without control characters. */
void out_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* While a terminal is raw, lines on stderr start at its left edge and end with CR LF. */
void out_set_raw(bool raw);

/* Whether a line of progress would be seen: stderr is a terminal and we are not quiet. */
bool out_has_progress(void);

/* Shows one line that the next out_*() or progress replaces; NULL takes it away. */
void out_progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void out_progress_end(void);

/* Whether @f may have colours: a terminal, and NO_COLOR not set. */
bool out_colours(FILE *f);

/*
 * Prints JSON as the daemon wrote it, so that no number changes; laid out over lines where @pretty.
 * A newline follows.
 */
void out_json(const char *text, size_t len, bool pretty);

/* Prints text of the daemon's on stdout: without control characters if that is a terminal. */
void out_text(const char *text, size_t len);

/* Writes all of @data to @fd, waiting where it must. Returns 0, or -1 with errno. */
int out_write(int fd, const void *data, size_t len);

/* Flushes stdout. Returns @code, or 1 after saying so where the output could not be written. */
int out_finish(int code);

#endif
