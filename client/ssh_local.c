#include "client/ssh_local.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "cijqemu/cleanup.h"

/* Holes are made of whole blocks of a file system. */
#define HOLE_BYTES 4096

int
local_open(struct local_file *f, const struct item *item)
{
	struct stat st;

	*f = (struct local_file){.fd = -1};
	/* A device or a FIFO is written to; all else is replaced as a whole, links too. */
	if (lstat(item->to, &st) == 0 && S_ISDIR(st.st_mode)) {
		errno = EISDIR;
		return -1;
	}
	if (stat(item->to, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		f->fd = open(item->to, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	} else {
		f->part = path_part(item->to);
		f->fd = open(f->part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	}
	if (f->fd < 0) {
		free(f->part);
		f->part = NULL;
		return -1;
	}
	f->path = strdup(item->to);
	return 0;
}

static int
write_at(int fd, const char *data, size_t len, int64_t at)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, data, len, at);

		if (n < 0 && errno == ESPIPE) /* a FIFO or a terminal: in order, then */
			n = write(fd, data, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		data += n;
		at += n;
		len -= n;
	}
	return 0;
}

static bool
is_zero(const char *data, size_t len)
{
	return len > 0 && data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

int
local_write(struct local_file *f, const char *data, size_t len, int64_t at)
{
	if (at + (int64_t)len > f->end)
		f->end = at + (int64_t)len;
	while (len > 0) {
		/* Up to the next border of a block, so that holes are where blocks are. */
		size_t n = HOLE_BYTES - at % HOLE_BYTES, zeros = 0, run;

		if (n > len)
			n = len;
		if (f->part && is_zero(data, n)) {
			zeros = n;
		} else {
			/* As much as is no hole in one go. */
			for (run = n; run < len; run += HOLE_BYTES) {
				size_t next = len - run < HOLE_BYTES ? len - run : HOLE_BYTES;

				if (f->part && is_zero(data + run, next))
					break;
			}
			n = run < len ? run : len;
			if (write_at(f->fd, data, n, at) < 0)
				return -1;
		}
		n = zeros ? zeros : n;
		data += n;
		at += (int64_t)n;
		len -= n;
	}
	return 0;
}

int
local_finish(struct local_file *f, const struct item *item)
{
	struct timespec times[2] = {{.tv_sec = item->atime}, {.tv_sec = item->mtime}};
	int rc = 0, saved;

	if (f->part)
		rc = ftruncate(f->fd, f->end) < 0 || fchmod(f->fd, item->mode) < 0 ||
				     futimens(f->fd, times) < 0
			     ? -1
			     : 0;
	/* Some file systems tell of a full disk only here. */
	if (close(steal_fd(&f->fd)) < 0)
		rc = -1;
	if (rc == 0 && f->part)
		rc = rename(f->part, f->path);
	saved = errno;
	if (rc == 0) {
		free(f->part);
		f->part = NULL;
	}
	local_abandon(f);
	errno = saved;
	return rc;
}

void
local_abandon(struct local_file *f)
{
	if (f->part)
		(void)unlink(f->part);
	if (f->fd >= 0)
		close(f->fd);
	free(f->part);
	free(f->path);
	*f = (struct local_file){.fd = -1};
}

int
local_folder(struct item *item)
{
	struct stat st;

	if (mkdir(item->to, 0700) == 0) {
		item->made = true;
		return 0;
	}
	if (errno != EEXIST || lstat(item->to, &st) < 0)
		return -1;
	if (S_ISDIR(st.st_mode))
		return 0;
	/* Never through a link: an earlier copy may have put it there to lead us elsewhere. */
	errno = S_ISLNK(st.st_mode) ? ELOOP : ENOTDIR;
	return -1;
}

int
local_folder_finish(const struct item *item)
{
	struct timespec times[2] = {{.tv_sec = item->atime}, {.tv_sec = item->mtime}};

	if (!item->made)
		return 0;
	return chmod(item->to, item->mode) < 0 || utimensat(AT_FDCWD, item->to, times, 0) < 0 ? -1
											      : 0;
}

int
local_link(const struct item *item)
{
	_cleanup_free_ char *part = path_part(item->to);
	int saved;

	if (symlink(item->target, part) < 0)
		return -1;
	if (rename(part, item->to) == 0)
		return 0;
	saved = errno;
	(void)unlink(part);
	errno = saved;
	return -1;
}

void
local_fail(struct copy *copy, const char *path)
{
	copy_fail(copy, path,
		errno == ELOOP    ? "there is a link of that name: not followed"
		: errno == EISDIR ? "there is a folder of that name"
				  : strerror(errno));
}

void
local_finish_items(struct copy *copy, size_t first)
{
	for (size_t i = copy->plan.n; i > first; i--) {
		struct item *item = &copy->plan.items[i - 1];

		/* One without a target could not be read, and that was told. */
		if (item->kind == ITEM_LINK && item->target && local_link(item) < 0)
			local_fail(copy, item->to);
		else if (item->kind == ITEM_LINK && item->target)
			copy->files_done++;
		if (item->kind == ITEM_FOLDER && local_folder_finish(item) < 0)
			local_fail(copy, item->to);
	}
}
