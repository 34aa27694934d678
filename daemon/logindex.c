#include "daemon/logindex.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "cijqemu/cleanup.h"
#include "daemon/clock.h"
#include "daemon/fileio.h"

#define HEADER_SIZE 64
#define RECORD_SIZE 32
#define MAGIC "cijlog1\n"

/* Records end on the blocks of any file system, so that a punched one is gone as a whole. */
#define BLOCK_SIZE 4096

/* Two records are at least so far apart: that is how exact a time stamp is. */
#define STEP_USEC 10000

/*
 * An index may be as big as its log and this more; beyond, the steps double for each further piece
 * of this size: a guest that prints a dot a second does not fill the disk with times in a year.
 */
#define SPARE_BYTES (1024 * 1024)
#define DOUBLINGS_MAX 12

/* A clock that goes off by more was set. */
#define CLOCK_SET_USEC UINT64_C(1000000)

#define BOOT_ID_SIZE 16

/* Records that are moved at once, and the most that are: an index that we wrote has fewer. */
#define COPY_RECORDS 4096
#define COPY_MAX (4 * 1024 * 1024)

struct disk_header {
	char magic[8];
	uint8_t boot_id[BOOT_ID_SIZE];
	uint64_t cut, gap_at, gap_since, gap_until, reserved;
};
struct disk_record {
	uint64_t offset, wall, mono;
	uint32_t kind, reserved;
};
_Static_assert(sizeof(struct disk_header) == HEADER_SIZE, "the format on disk");
_Static_assert(sizeof(struct disk_record) == RECORD_SIZE, "the format on disk");

static int64_t
clock_usec(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

struct logtime
logtime_now(void)
{
	return (struct logtime){clock_usec(CLOCK_REALTIME), clock_usec(CLOCK_BOOTTIME)};
}

/* As in the file; all zeros where it is not known. */
static const uint8_t *
boot_id(void)
{
	static uuid_t id;

	if (uuid_is_null(id))
		uuid_parse(clock_boot_id(), id);
	return id;
}

static off_t
place(size_t at)
{
	return HEADER_SIZE + (off_t)at * RECORD_SIZE;
}

void
logindex_save_header(const struct logindex *index)
{
	struct disk_header header = {
		.cut = htole64(index->cut),
		.gap_at = htole64(index->gap_at),
		.gap_since = htole64((uint64_t)index->gap_since),
		.gap_until = htole64((uint64_t)index->gap_until),
	};

	if (index->fd < 0)
		return;
	memcpy(header.magic, MAGIC, sizeof(header.magic));
	if (index->same_boot)
		memcpy(header.boot_id, boot_id(), BOOT_ID_SIZE);
	/* What cannot be written is not there to be read: no more can be done about it. */
	(void)!pwrite(index->fd, &header, sizeof(header), 0);
}

void
logindex_create(struct logindex *index, int fd)
{
	*index = (struct logindex){.fd = fd, .same_boot = true};
	logindex_save_header(index);
}

static void
write_record(const struct logindex *index, size_t at, const struct logindex_record *record)
{
	struct disk_record disk = {
		.offset = htole64(record->offset),
		.wall = htole64((uint64_t)record->time.wall),
		.mono = htole64((uint64_t)record->time.mono),
		.kind = htole32(record->kind),
	};

	(void)!pwrite(index->fd, &disk, sizeof(disk), place(at));
}

struct logindex_record
logindex_read(const struct logindex *index, size_t at)
{
	struct logindex_record record = {.kind = LOGINDEX_NONE};
	struct disk_record disk;

	if (at >= index->n ||
		pread(index->fd, &disk, sizeof(disk), place(at)) != (ssize_t)sizeof(disk) ||
		le32toh(disk.kind) > LOGINDEX_AWAY)
		return record;
	record.offset = le64toh(disk.offset);
	record.time.wall = (int64_t)le64toh(disk.wall);
	record.time.mono = (int64_t)le64toh(disk.mono);
	record.kind = le32toh(disk.kind);
	return record;
}

/* The first record behind the hole that logindex_forget() has made. */
static size_t
find_first(const struct logindex *index)
{
	/* The first block keeps the header; with the second gone, what else it has is old. */
	off_t data = lseek(index->fd, BLOCK_SIZE, SEEK_DATA);

	if (data <= BLOCK_SIZE || place(index->n) <= data)
		return 0;
	return (size_t)(data - HEADER_SIZE) / RECORD_SIZE;
}

void
logindex_open(struct logindex *index, int fd)
{
	struct disk_header header;
	struct stat st;

	*index = (struct logindex){.fd = -1};
	if (fd < 0 || fstat(fd, &st) < 0 ||
		pread(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
		memcmp(header.magic, MAGIC, sizeof(header.magic)) != 0)
		return;
	index->fd = fd;
	index->same_boot = memcmp(header.boot_id, boot_id(), BOOT_ID_SIZE) == 0;
	index->cut = le64toh(header.cut);
	index->gap_at = le64toh(header.gap_at);
	index->gap_since = (int64_t)le64toh(header.gap_since);
	index->gap_until = (int64_t)le64toh(header.gap_until);
	index->n = (size_t)(st.st_size - HEADER_SIZE) / RECORD_SIZE;
	index->first = find_first(index);
	if (index->n == 0)
		return;
	index->last = logindex_read(index, index->n - 1);
	if (index->last.kind != LOGINDEX_SEEN)
		return;
	index->seen = index->last;
	index->last = index->n > 1 ? logindex_read(index, index->n - 2)
				   : (struct logindex_record){.kind = LOGINDEX_NONE};
}

/* Puts a record in the place of the 'seen' one. */
static void
append(struct logindex *index, const struct logindex_record *record)
{
	if (index->n > 0 && index->seen.kind == LOGINDEX_SEEN)
		index->n--;
	write_record(index, index->n++, record);
	index->last = *record;
	index->seen.kind = LOGINDEX_NONE;
}

static void
note_seen(struct logindex *index, uint64_t size, struct logtime now)
{
	if (index->seen.kind != LOGINDEX_SEEN)
		index->n++;
	index->seen = (struct logindex_record){size, now, LOGINDEX_SEEN};
	write_record(index, index->n - 1, &index->seen);
}

/* How long after the last record the next may come. */
static int64_t
step_usec(const struct logindex *index, uint64_t log_bytes)
{
	uint64_t used = (uint64_t)(index->n - index->first) * RECORD_SIZE;
	uint64_t over = used > log_bytes ? (used - log_bytes) / SPARE_BYTES : 0;

	return (int64_t)STEP_USEC << (over < DOUBLINGS_MAX ? over : DOUBLINGS_MAX);
}

void
logindex_note(struct logindex *index, uint64_t from, uint64_t to, struct logtime now)
{
	struct logindex_record record = {from, now, LOGINDEX_TIME};

	/* Back before what was noted: the log was cut by its owner. */
	if (index->fd < 0 || to <= from || from < index->last.offset)
		return;
	if (index->last.kind == LOGINDEX_NONE || now.mono < index->last.time.mono ||
		now.mono - step_usec(index, to) >= index->last.time.mono)
		append(index, &record);
	note_seen(index, to, now);
}

/* How far the wall clock is ahead of the other; unsigned: what stands in the file may be anything.
 */
static uint64_t
wall_ahead(const struct logtime *time)
{
	return (uint64_t)time->wall - (uint64_t)time->mono;
}

/* Whether the host's clock was set since the last look at the log. */
static bool
clock_was_set(const struct logindex *index, const struct logtime *now)
{
	const struct logindex_record *then = index->seen.kind == LOGINDEX_SEEN ? &index->seen
									       : &index->last;
	uint64_t by = wall_ahead(now) - wall_ahead(&then->time);

	return then->kind != LOGINDEX_NONE && index->same_boot &&
	       by + CLOCK_SET_USEC > 2 * CLOCK_SET_USEC;
}

void
logindex_resume(struct logindex *index, uint64_t size, int64_t modified, struct logtime now)
{
	uint64_t known = index->seen.kind == LOGINDEX_SEEN ? index->seen.offset
							   : index->last.offset;
	struct logindex_record record = {known, now, LOGINDEX_AWAY};
	/* The log's owner may have given it any time. */
	int64_t ago = now.wall - (modified > 0 ? modified : 0);

	if (index->fd < 0 || size <= known)
		return;
	/* By the clock before it was set, or by the one since? They had come by now, in any case.
	 */
	if (ago > 0 && !clock_was_set(index, &now)) {
		record.time.wall -= ago;
		record.time.mono -= ago;
	}
	/* Not before what was seen before, whatever has happened to the clock. */
	if (record.time.mono < index->last.time.mono && index->same_boot)
		record.time = index->last.time;
	append(index, &record);
	note_seen(index, size, now);
}

size_t
logindex_find(const struct logindex *index, uint64_t offset)
{
	size_t low = index->first, high = index->n;

	/* low: records before it tell of bytes up to @offset; from high on they are behind it */
	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (logindex_read(index, mid).offset <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	return low > index->first ? low - 1 : index->n;
}

int64_t
logindex_wall(
	const struct logindex *index, const struct logindex_record *record, struct logtime now)
{
	struct logtime anchor = now;

	if (!index->same_boot) {
		anchor = index->seen.kind == LOGINDEX_SEEN ? index->seen.time : index->last.time;
		/* It runs under a host that has been booted since? Then it is none of ours. */
		if (anchor.mono < record->time.mono)
			return record->time.wall;
	}
	/* Unsigned: what stands in the file may be anything, and must not overflow. */
	return (int64_t)((uint64_t)anchor.wall -
			 ((uint64_t)anchor.mono - (uint64_t)record->time.mono));
}

size_t
logindex_find_since(const struct logindex *index, int64_t since, struct logtime now)
{
	size_t low = index->first, high = index->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		struct logindex_record record = logindex_read(index, mid);

		if (logindex_wall(index, &record, now) < since)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void
logindex_forget(struct logindex *index, uint64_t offset)
{
	size_t keep = index->fd < 0 ? index->n : logindex_find(index, offset);
	off_t end;

	if (keep >= index->n)
		return;
	end = place(keep) / BLOCK_SIZE * BLOCK_SIZE;
	if (end <= BLOCK_SIZE || (size_t)(end - HEADER_SIZE) / RECORD_SIZE <= index->first)
		return;
	if (fallocate(index->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BLOCK_SIZE,
		    end - BLOCK_SIZE) == 0)
		index->first = (size_t)(end - HEADER_SIZE) / RECORD_SIZE;
}

void
logindex_copy_cut(const struct logindex *index, uint64_t cut, int fd)
{
	size_t at = logindex_find(index, cut), end = index->n;
	_cleanup_free_ struct disk_record *block = calloc(COPY_RECORDS, sizeof(*block));
	struct logindex copy = *index;
	off_t to = HEADER_SIZE;
	ssize_t n;

	if (!block)
		abort();
	copy.fd = fd;
	copy.cut += cut;
	copy.gap_at = copy.gap_at > cut ? copy.gap_at - cut : 0;
	logindex_save_header(&copy);
	if (end - at > COPY_MAX)
		end = at + COPY_MAX;
	for (; at < end; at += (size_t)n) {
		n = pread(index->fd, block, COPY_RECORDS * RECORD_SIZE, place(at)) / RECORD_SIZE;
		if (n <= 0)
			return;
		for (ssize_t i = 0; i < n; i++) {
			uint64_t offset = le64toh(block[i].offset);

			block[i].offset = htole64(offset > cut ? offset - cut : 0);
		}
		if (pwrite(fd, block, (size_t)n * RECORD_SIZE, to) < 0)
			return;
		to += n * RECORD_SIZE;
	}
}
