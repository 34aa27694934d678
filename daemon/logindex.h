/*
 * The side index of a console log, logs/NNNN.index: when which byte came, by the wall clock and by
 * one that never jumps, and what is known to be missing. Its file is the owner's, who may have put
 * anything into it: whatever it holds, offsets and times read from it are only shown.
 *
 * On disk: a header of 64 bytes, then records of 32 bytes, little-endian, in the order of their
 * offsets. The last one, of kind 'seen', is overwritten by the next.
 */
#ifndef DAEMON_LOGINDEX_H
#define DAEMON_LOGINDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A moment by both clocks, in microseconds. */
struct logtime {
	int64_t wall; /* since 1970 */
	int64_t mono; /* CLOCK_BOOTTIME: goes on while the host sleeps */
};

struct logtime logtime_now(void);

enum logindex_kind {
	LOGINDEX_NONE, /* no record: a hole */
	LOGINDEX_TIME, /* the bytes from this offset on came at this time */
	LOGINDEX_SEEN, /* all bytes before this offset had come by then; the last record */
	LOGINDEX_AWAY, /* as TIME, but nobody looked: they came at this time or before */
};

struct logindex_record {
	uint64_t offset;
	struct logtime time;
	enum logindex_kind kind;
};

struct logindex {
	int fd; /* weak; -1: there is no index, and all calls do nothing */
	bool same_boot; /* its monotonic times are of this boot of the host */
	size_t n; /* records, holes and the 'seen' one included */
	size_t first; /* the first that is no hole */
	struct logindex_record last; /* of kind TIME or AWAY; NONE before the first */
	struct logindex_record seen; /* NONE: not known */
	/* of the header */
	uint64_t cut; /* bytes that were cut off the log's head, before offset 0 */
	uint64_t gap_at; /* the disk was full at this offset … */
	int64_t gap_since, gap_until; /* … in this time (wall); since 0: never; until 0: still */
};

/* Begins an index in the empty file @fd. */
void logindex_create(struct logindex *index, int fd);

/* Reads what there is of the index in @fd (-1: none). */
void logindex_open(struct logindex *index, int fd);

/* The log, seen with @from bytes before, has @to bytes now. */
void logindex_note(struct logindex *index, uint64_t from, uint64_t to, struct logtime now);

/*
 * The log goes on under a new daemon: it has @size bytes now, and the last of them came at wall
 * time @modified.
 */
void logindex_resume(struct logindex *index, uint64_t size, int64_t modified, struct logtime now);

/* Writes gap_at, gap_since and gap_until as they are in @index. */
void logindex_save_header(const struct logindex *index);

/* Frees the room of the records that only speak of bytes before @offset, where that can be done. */
void logindex_forget(struct logindex *index, uint64_t offset);

/* Copies the index of a log whose first @cut bytes were cut off into the empty file @fd. */
void logindex_copy_cut(const struct logindex *index, uint64_t cut, int fd);

/*
 * The wall time of @record as it is told today: counted back by the clock that never jumps, so that
 * a change of the host's clock bends nothing. From @now, or from the last record where that clock
 * has begun anew since.
 */
int64_t logindex_wall(
	const struct logindex *index, const struct logindex_record *record, struct logtime now);

/* Reads record @at; its kind is NONE where there is none. */
struct logindex_record logindex_read(const struct logindex *index, size_t at);

/* The record that tells of the byte at @offset: index->n when none does. */
size_t logindex_find(const struct logindex *index, uint64_t offset);

/* The first record of the wall time @since or later, as logindex_wall() has it; index->n: none. */
size_t logindex_find_since(const struct logindex *index, int64_t since, struct logtime now);

#endif
