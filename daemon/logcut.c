#include "daemon/logcut.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cijqemu/cleanup.h"
#include "daemon/as_owner.h"
#include "daemon/console_log.h"
#include "daemon/fileio.h"
#include "daemon/log.h"
#include "daemon/logindex.h"

/* Copied at one turn of the loop: under a millisecond. */
#define TURN_BYTES ((size_t)1024 * 1024)

struct logcut {
	LIST_ENTRY(logcut) link;
	struct logcuts *cuts; /* weak */
	struct event *turn;
	int logs_fd, from_fd, to_fd;
	unsigned number;
	uint64_t cut; /* the bytes that go */
	uint64_t at, end; /* what is to be copied still */
	uid_t uid;
	gid_t gid;
};

struct logcuts {
	struct event_base *base; /* weak */
	LIST_HEAD(, logcut) list;
	char block[TURN_BYTES];
};

struct logcuts *
logcuts_new(struct event_base *base)
{
	struct logcuts *cuts = calloc(1, sizeof(*cuts));

	if (!cuts)
		abort();
	cuts->base = base;
	LIST_INIT(&cuts->list);
	return cuts;
}

static void
logcut_free(struct logcut *cut)
{
	LIST_REMOVE(cut, link);
	event_free(cut->turn);
	close(cut->logs_fd);
	close(cut->from_fd);
	close(cut->to_fd);
	free(cut);
}

static void
names(const struct logcut *cut, const char *suffix, char *name, char *temporary, size_t size)
{
	snprintf(name, size, "%04u.%s", cut->number, suffix);
	snprintf(temporary, size, ".%04u.%s.cut", cut->number, suffix);
}

static int
create(int logs_fd, const char *temporary)
{
	int fd = openat(logs_fd, temporary,
		O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0644);

	if (fd >= 0)
		(void)fchmod(fd, 0644);
	return fd;
}

/* The index follows its log: its offsets are those of the file. */
static void
cut_index(const struct logcut *cut)
{
	char name[64], temporary[64];
	struct logindex index;
	_cleanup_close_ int from = -1, to = -1;

	names(cut, "index", name, temporary, sizeof(name));
	from = file_open_read_at(cut->logs_fd, name);
	logindex_open(&index, from);
	if (index.fd < 0 || (to = create(cut->logs_fd, temporary)) < 0)
		return;
	logindex_copy_cut(&index, cut->cut, to);
	renameat(cut->logs_fd, temporary, cut->logs_fd, name);
}

static void
finish(struct logcut *cut, int error)
{
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(cut->uid, cut->gid);
	char name[64], temporary[64];

	names(cut, "out", name, temporary, sizeof(name));
	if (error == 0 && renameat(cut->logs_fd, temporary, cut->logs_fd, name) < 0)
		error = errno;
	if (error == 0) {
		cut_index(cut);
	} else {
		log_warn("console log %s stays over its limit: %s", name, strerror(error));
		unlinkat(cut->logs_fd, temporary, 0);
	}
	logcut_free(cut);
}

static void
on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct logcut *cut = arg;
	char *block = cut->cuts->block;
	size_t want = cut->end - cut->at < TURN_BYTES ? cut->end - cut->at : TURN_BYTES;
	ssize_t n = pread(cut->from_fd, block, want, (off_t)cut->at);

	if (n < 0 || (n > 0 && write_all(cut->to_fd, block, (size_t)n) < 0)) {
		finish(cut, errno);
		return;
	}
	cut->at += (uint64_t)n;
	if (n == 0 || cut->at >= cut->end)
		finish(cut, 0);
	else
		event_add(cut->turn, &(struct timeval){0, 0});
}

/* Whether the file takes more room than it may. */
static bool
is_too_big(int fd, uint64_t limit, uint64_t *size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return false;
	*size = (uint64_t)st.st_size;
	return *size > limit && (uint64_t)st.st_blocks * 512 > limit + limit / 8;
}

void
logcut_start(
	struct logcuts *cuts, int logs_fd, unsigned number, uint64_t limit, uid_t uid, gid_t gid)
{
	struct logcut wish = {.number = number, .uid = uid, .gid = gid, .cuts = cuts}, *cut;
	_cleanup_close_ int from = -1, to = -1;
	char name[64], temporary[64];
	uint64_t head;

	names(&wish, "out", name, temporary, sizeof(name));
	from = openat(logs_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (from < 0 || !is_too_big(from, limit, &wish.end))
		return;
	if (console_log_punch(from, limit, &head) == 0)
		return;
	to = create(logs_fd, temporary);
	wish.logs_fd = to < 0 ? -1 : fcntl(logs_fd, F_DUPFD_CLOEXEC, 3);
	if (wish.logs_fd < 0) {
		log_warn("console log %s stays over its limit: %s", name, strerror(errno));
		return;
	}
	wish.at = wish.cut = wish.end - limit;
	wish.from_fd = steal_fd(&from);
	wish.to_fd = steal_fd(&to);
	cut = malloc(sizeof(*cut));
	if (!cut)
		abort();
	*cut = wish;
	cut->turn = evtimer_new(cuts->base, on_turn, cut);
	if (!cut->turn)
		abort();
	LIST_INSERT_HEAD(&cuts->list, cut, link);
	event_add(cut->turn, &(struct timeval){0, 0});
}

void
logcuts_free(struct logcuts *cuts)
{
	struct logcut *cut;

	if (!cuts)
		return;
	while ((cut = LIST_FIRST(&cuts->list)))
		logcut_free(cut);
	free(cuts);
}
