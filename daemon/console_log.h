/*
 * The log file of a console's run: QEMU writes it, at an offset of its own, so it is never
 * truncated while QEMU lives. We look how far it has come, keep its side index, allocate space
 * ahead of it, and punch holes at its head when it grows past its limit.
 */
#ifndef DAEMON_CONSOLE_LOG_H
#define DAEMON_CONSOLE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/logindex.h"

struct console_log {
	int fd;
	bool live; /* QEMU may write it */
	uint64_t size; /* as of the last look */
	uint64_t head; /* bytes before it are gone */
	uint64_t limit; /* bytes to keep; 0: all */
	int no_punch; /* an errno: why no holes can be made here; 0: they can */
	bool no_allocate; /* nor give room ahead */
	uint64_t allocated; /* there is room for the bytes up to here */
	uint64_t step; /* how much to allocate next */
	bool full; /* the disk has no room for more */
	struct logindex index;
};

/* What a look at the log has found; flags. */
enum console_log_news {
	CONSOLE_LOG_GREW = 1 << 0,
	CONSOLE_LOG_PUNCHED = 1 << 1, /* the head has moved */
	CONSOLE_LOG_NO_PUNCH = 1 << 2, /* it should have, but this file system cannot */
	CONSOLE_LOG_FULL = 1 << 3, /* from here on QEMU's bytes are lost; see index.gap_since */
	CONSOLE_LOG_ROOM = 1 << 4, /* and from here on they are not; see index.gap_until */
};

/*
 * Takes over @fd, the log, and @index_fd (may be -1). A @live one must be open for writing to be
 * bounded.
 */
void console_log_open(struct console_log *log, int fd, int index_fd, uint64_t limit, bool live);
void console_log_close(struct console_log *log);

/* Looks how far the log has come, and makes room ahead. Returns CONSOLE_LOG_… flags. */
unsigned console_log_look(struct console_log *log);

/* Whether it is over its limit; keeps it under. Its viewers should have got what they take before.
 */
bool console_log_is_over(const struct console_log *log);
unsigned console_log_bound(struct console_log *log);

/* QEMU has ended: the room ahead is given back. */
void console_log_end(struct console_log *log);

/* The offset where @lines lines from the end begin; an unfinished last line counts as one. */
uint64_t console_log_lines_back(const struct console_log *log, int64_t lines);

/*
 * Frees the room of bytes of the file @fd, which nobody writes, so that its last @limit are left.
 * *@head: where it begins now. 0, or -1 with errno: EOPNOTSUPP where the file system cannot.
 */
int console_log_punch(int fd, uint64_t limit, uint64_t *head);

#endif
