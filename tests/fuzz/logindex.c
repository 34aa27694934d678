/*
 * The side index of a console log, which its owner may have written anything into, or a crash cut
 * short: look-ups stay within it and tell no lies about it, and it can be gone on with.
 */
#include "tests/fuzz/files.h"

#include <sys/mman.h>

#include "daemon/logindex.h"

static const struct logtime now = {1800000000000000, 5000000000};

static uint64_t
number(const uint8_t *data)
{
	uint64_t n;

	memcpy(&n, data, sizeof(n));
	return n >> (data[0] % 64);
}

static void
check_look_ups(const struct logindex *index, uint64_t offset, int64_t since)
{
	size_t at = logindex_find(index, offset);
	size_t from = logindex_find_since(index, since, now);

	if (at > index->n || from > index->n)
		abort();
	/* The record that tells of a byte begins at it or before it. */
	if (at < index->n && logindex_read(index, at).offset > offset)
		abort();
	if (from < index->n) {
		struct logindex_record record = logindex_read(index, from);

		if (logindex_wall(index, &record, now) < since)
			abort();
	}
	for (size_t i = 0; i < index->n && i < 600; i++)
		if ((unsigned)logindex_read(index, i).kind > LOGINDEX_AWAY)
			abort();
	if (logindex_read(index, index->n).kind != LOGINDEX_NONE)
		abort();
}

/* What is noted now is there for the next daemon. */
static void
go_on(struct logindex *index, uint64_t offset, bool resume)
{
	struct logindex again;
	bool takes = offset > 0 && offset >= index->last.offset;

	if (resume) {
		uint64_t known = index->seen.kind == LOGINDEX_SEEN ? index->seen.offset
								   : index->last.offset;

		takes = offset > known;
		logindex_resume(index, offset, (int64_t)offset, now);
	} else {
		takes = offset > 0 && offset - 1 >= index->last.offset;
		logindex_note(index, offset - 1, offset, now);
	}
	logindex_open(&again, index->fd);
	if (again.fd != index->fd || again.n != index->n || again.cut != index->cut ||
		again.gap_at != index->gap_at || again.same_boot != index->same_boot)
		abort();
	if (takes && (again.seen.kind != LOGINDEX_SEEN || again.seen.offset != offset))
		abort();
	check_look_ups(&again, offset, now.wall);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1, copy = -1;
	struct logindex index, cut;
	uint64_t offset;

	if (fd < 0) {
		fd = memfd_create("index", MFD_CLOEXEC);
		copy = memfd_create("copy", MFD_CLOEXEC);
	}
	if (size < 18)
		return 0;
	if (ftruncate(fd, 0) < 0 || ftruncate(copy, 0) < 0 ||
		pwrite(fd, data + 17, size - 17, 0) != (ssize_t)(size - 17))
		abort();
	logindex_open(&index, fd);
	if (index.fd >= 0 && size - 17 < 64)
		abort();
	offset = number(data + 1);
	check_look_ups(&index, offset, (int64_t)number(data + 9));
	if (index.fd < 0)
		return 0;
	logindex_copy_cut(&index, offset, copy);
	logindex_open(&cut, copy);
	if (cut.fd < 0 || cut.n > index.n)
		abort();
	check_look_ups(&cut, number(data + 9), (int64_t)offset);
	if (data[0] & 1)
		logindex_forget(&index, offset);
	go_on(&index, number(data + 9), data[0] & 2);
	return 0;
}
