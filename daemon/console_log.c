#include "daemon/console_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cijqemu/cleanup.h"

/* Holes are made of whole blocks of this size, which those of all file systems in use divide. */
#define HOLE_ALIGN 4096

/* Past its limit the log loses a 16th of it, but no more than this, at once. */
#define PUNCH_PART 16
#define PUNCH_MAX (4 * 1024 * 1024)

/* Room ahead: little for a guest that says little, more and more for one that floods. */
#define ALLOCATE_MIN ((uint64_t)256 * 1024)
#define ALLOCATE_MAX ((uint64_t)4 * 1024 * 1024)

/* A disk that has not this much left is full. */
#define ALLOCATE_LEAST HOLE_ALIGN

/* Lines are counted back in blocks, and not further than this: it is done within one turn. */
#define SCAN_BLOCK ((size_t)64 * 1024)
#define SCAN_MAX ((uint64_t)256 * 1024 * 1024)

/* The first byte of @fd that is not in the hole at its head. */
static uint64_t
find_head(int fd)
{
	off_t data = lseek(fd, 0, SEEK_DATA);

	/* ENXIO: nothing but a hole, that is an empty log; others: it cannot be asked, or has none
	 */
	return data > 0 ? (uint64_t)data : 0;
}

/* As fstat(), 0 where it fails: it does not, on a file that is open. */
static uint64_t
file_size(int fd, struct stat *st)
{
	return fstat(fd, st) == 0 && st->st_size > 0 ? (uint64_t)st->st_size : 0;
}

/* No more ahead than the log may have behind. */
static uint64_t
most_ahead(const struct console_log *log)
{
	return log->limit > 0 && log->limit < ALLOCATE_MAX ? log->limit : ALLOCATE_MAX;
}

/* When the log was written last, in µs since 1970. Its owner can give it any time: one that cannot
 * be is no news. */
static int64_t
modified_at(const struct stat *st, struct logtime now)
{
	if (st->st_mtim.tv_sec < 0 || st->st_mtim.tv_sec > now.wall / 1000000)
		return now.wall;
	return (int64_t)st->st_mtim.tv_sec * 1000000 + st->st_mtim.tv_nsec / 1000;
}

void
console_log_open(struct console_log *log, int fd, int index_fd, uint64_t limit, bool live)
{
	struct stat st;

	*log = (struct console_log){.fd = fd, .live = live, .limit = limit, .step = ALLOCATE_MIN};
	if (log->step > most_ahead(log))
		log->step = most_ahead(log);
	log->size = file_size(fd, &st);
	log->head = find_head(fd);
	if (log->head > log->size)
		log->head = 0;
	log->allocated = log->size;
	if (live && log->size == 0) {
		log->index.fd = -1;
		if (index_fd >= 0)
			logindex_create(&log->index, index_fd);
		/* Tells on an empty file what it will be able to do with a big one. */
		if (limit > 0 &&
			fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, HOLE_ALIGN) <
				0 &&
			(errno == EOPNOTSUPP || errno == ENOSYS))
			log->no_punch = errno;
		return;
	}
	logindex_open(&log->index, index_fd);
	if (live && log->size > 0) {
		struct logtime now = logtime_now();

		logindex_resume(&log->index, log->size, modified_at(&st, now), now);
	}
	if (log->index.fd < 0 && index_fd >= 0)
		close(index_fd);
}

void
console_log_close(struct console_log *log)
{
	close(log->fd);
	if (log->index.fd >= 0)
		close(log->index.fd);
}

int
console_log_punch(int fd, uint64_t limit, uint64_t *head)
{
	struct stat st;
	uint64_t size = file_size(fd, &st), to;

	if (size <= limit)
		return 0;
	to = (size - limit + HOLE_ALIGN - 1) / HOLE_ALIGN * HOLE_ALIGN;
	if (to > size)
		to = size / HOLE_ALIGN * HOLE_ALIGN;
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)to) < 0)
		return -1;
	*head = to;
	return 0;
}

bool
console_log_is_over(const struct console_log *log)
{
	return log->live && log->limit > 0 && !log->no_punch && log->size - log->head > log->limit;
}

unsigned
console_log_bound(struct console_log *log)
{
	uint64_t part = log->limit / PUNCH_PART;

	if (!console_log_is_over(log))
		return 0;
	if (part > PUNCH_MAX)
		part = PUNCH_MAX;
	if (console_log_punch(log->fd, log->limit - part, &log->head) < 0) {
		/* Whatever it is, it will not be better at the next line. */
		log->no_punch = errno;
		return CONSOLE_LOG_NO_PUNCH;
	}
	logindex_forget(&log->index, log->head);
	return CONSOLE_LOG_PUNCHED;
}

/* Whether there is room for another byte, where none can be allocated ahead. */
static bool
disk_has_room(const struct console_log *log)
{
	struct statvfs st;

	/* A file system without an end (f_blocks 0), as ramfs, is never full. */
	return fstatvfs(log->fd, &st) < 0 || st.f_blocks == 0 || st.f_bavail > 0;
}

/* Allocates the next step, or as much of it as there is. Returns whether there was anything. */
static bool
allocate_step(struct console_log *log)
{
	for (uint64_t want = log->step; want >= ALLOCATE_LEAST; want /= 2) {
		if (fallocate(log->fd, FALLOC_FL_KEEP_SIZE, (off_t)log->allocated, (off_t)want) ==
			0) {
			log->allocated += want;
			if (want == log->step && log->step * 2 <= most_ahead(log))
				log->step *= 2;
			return true;
		}
		if (errno != ENOSPC && errno != EDQUOT && errno != EINTR) {
			log->no_allocate = true; /* this file system, or this file, cannot */
			return disk_has_room(log);
		}
	}
	return false;
}

/*
 * QEMU drops what it cannot write and tells nobody. So there is always room ahead of it; when no
 * more is to be had and it has come to the end of what there was, its bytes are lost from here on.
 */
static unsigned
make_room(struct console_log *log)
{
	struct logindex *index = &log->index;
	bool lost = index->gap_since && !index->gap_until;

	if (log->allocated < log->size)
		log->allocated = (log->size + HOLE_ALIGN - 1) / HOLE_ALIGN * HOLE_ALIGN;
	if (log->no_allocate)
		log->full = !disk_has_room(log);
	else if (log->allocated < log->size + log->step / 2)
		log->full = !allocate_step(log);
	if (log->full && !lost && log->allocated <= log->size) {
		/* A second time makes it no more complete: since when is told of the first. */
		if (!index->gap_since) {
			index->gap_at = log->size;
			index->gap_since = logtime_now().wall;
		}
		index->gap_until = 0;
		logindex_save_header(index);
		return CONSOLE_LOG_FULL;
	}
	if (!log->full && lost) {
		index->gap_until = logtime_now().wall;
		logindex_save_header(index);
		return CONSOLE_LOG_ROOM;
	}
	return 0;
}

unsigned
console_log_look(struct console_log *log)
{
	uint64_t was = log->size;
	unsigned news = 0;
	struct stat st;

	log->size = file_size(log->fd, &st);
	if (log->size < was) /* cut by its owner: what is behind the end is not there */
		log->head = log->head < log->size ? log->head : log->size;
	if (!log->live)
		return log->size != was ? CONSOLE_LOG_GREW : 0;
	if (log->size > was) {
		news = CONSOLE_LOG_GREW;
		logindex_note(&log->index, was, log->size, logtime_now());
	}
	return news | make_room(log);
}

void
console_log_end(struct console_log *log)
{
	struct stat st;

	if (!log->live)
		return;
	log->live = false;
	/* Nobody writes any more: cutting it where it ends takes what was allocated behind. */
	if (log->allocated > log->size && !log->no_allocate)
		(void)!ftruncate(log->fd, (off_t)file_size(log->fd, &st));
}

uint64_t
console_log_lines_back(const struct console_log *log, int64_t lines)
{
	_cleanup_free_ char *buf = malloc(SCAN_BLOCK);
	uint64_t at = log->size, stop = log->head;

	if (!buf)
		abort();
	if (log->size - log->head > SCAN_MAX)
		stop = log->size - SCAN_MAX;
	while (at > stop) {
		size_t len = at - stop < SCAN_BLOCK ? at - stop : SCAN_BLOCK;
		uint64_t begin = at - len;
		const char *newline;

		if (pread(log->fd, buf, len, (off_t)begin) != (ssize_t)len)
			return at;
		while ((newline = memrchr(buf, '\n', len))) {
			len = newline - buf;
			/* The newline that ends the last line is no line's beginning. */
			if (begin + len + 1 < log->size && --lines == 0)
				return begin + len + 1;
		}
		at = begin;
	}
	return stop;
}
