#include "daemon/fileio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "cijqemu/cleanup.h"
#include "proto/text.h"

/* How deep a guest's folder may nest when it is removed; deeper ones are left for their owner. */
#define REMOVE_DEPTH_MAX 32

#define LAST_LINE_WINDOW 1024

int
file_open_read_at(int dir_fd, const char *name)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	if (!S_ISREG(st.st_mode)) {
		errno = EINVAL;
		return -1;
	}
	return steal_fd(&fd);
}

char *
file_read_at(int dir_fd, const char *name, size_t limit, size_t *len, struct stat *st)
{
	_cleanup_close_ int fd = file_open_read_at(dir_fd, name);
	_cleanup_free_ char *text = NULL;
	struct stat own;
	size_t at = 0;
	ssize_t n;

	if (fd < 0 || fstat(fd, st ? st : &own) < 0)
		return NULL;
	text = malloc(limit + 2);
	if (!text)
		abort();
	while (at <= limit && (n = read(fd, text + at, limit + 1 - at)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return NULL;
		at += n;
	}
	if (at > limit) {
		errno = EFBIG;
		return NULL;
	}
	text[at] = '\0';
	*len = at;
	return steal_ptr(text);
}

int
write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		data += n;
		len -= n;
	}
	return 0;
}

int
file_write_at(int dir_fd, const char *name, const char *text, size_t len, mode_t mode)
{
	_cleanup_free_ char *temporary = NULL;
	_cleanup_close_ int fd = -1;
	int saved;

	if (asprintf(&temporary, ".%s.%d", name, (int)getpid()) < 0)
		abort();
	/* What a daemon of the same pid left half written in an earlier life. */
	if (unlinkat(dir_fd, temporary, 0) < 0 && errno != ENOENT)
		return -1;
	fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	if (fchmod(fd, mode) < 0 || write_all(fd, text, len) < 0 ||
		renameat(dir_fd, temporary, dir_fd, name) < 0) {
		saved = errno;
		unlinkat(dir_fd, temporary, 0);
		errno = saved;
		return -1;
	}
	return 0;
}

int
dir_open_at(int dir_fd, const char *name)
{
	return openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int
dir_make_at(int dir_fd, const char *name, mode_t mode)
{
	if (mkdirat(dir_fd, name, 0700) < 0) {
		if (errno != EEXIST)
			return -1;
		return dir_open_at(dir_fd, name);
	}
	_cleanup_close_ int fd = dir_open_at(dir_fd, name);
	if (fd < 0 || fchmod(fd, mode) < 0)
		return -1;
	return steal_fd(&fd);
}

int
dir_make_path(const char *path, mode_t mode)
{
	_cleanup_free_ char *copy = strdup(path);

	if (!copy)
		abort();
	for (char *p = copy + 1;; p++) {
		char was = *p;

		if (was && was != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, 0700) == 0) {
			if (chmod(copy, mode) < 0)
				return -1;
		} else if (errno != EEXIST) {
			return -1;
		}
		*p = was;
		if (!was)
			return 0;
	}
}

static bool
is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Whom to tell of each file and folder that is gone; or NULL. */
struct listener {
	void (*removed)(void *arg);
	void *arg; /* weak */
};

static int remove_below(int dir_fd, const char *name, int depth, const struct listener *listener);

/* Takes @fd over. What cannot be removed stays, the rest goes all the same. */
static int
clear_below(int fd, int depth, const struct listener *listener)
{
	_cleanup_closedir_ DIR *dir = fdopendir(fd);
	struct dirent *entry;
	int why = 0;

	if (!dir) {
		close(fd);
		return -1;
	}
	while ((entry = readdir(dir)))
		/* One that somebody else has removed meanwhile is gone, too. */
		if (!is_dots(entry->d_name) &&
			remove_below(fd, entry->d_name, depth, listener) < 0 && errno != ENOENT &&
			!why)
			why = errno;
	errno = why;
	return why ? -1 : 0;
}

static int
remove_below(int dir_fd, const char *name, int depth, const struct listener *listener)
{
	int fd;

	if (unlinkat(dir_fd, name, 0) < 0) {
		if (errno != EISDIR && errno != EPERM)
			return -1;
		if (depth > REMOVE_DEPTH_MAX) {
			errno = ELOOP;
			return -1;
		}
		fd = dir_open_at(dir_fd, name);
		if (fd < 0 || clear_below(fd, depth + 1, listener) < 0 ||
			unlinkat(dir_fd, name, AT_REMOVEDIR) < 0)
			return -1;
	}
	if (listener->removed)
		listener->removed(listener->arg);
	return 0;
}

int
dir_clear(int dir_fd, void (*removed)(void *arg), void *arg)
{
	const struct listener listener = {removed, arg};
	int fd = dir_open_at(dir_fd, ".");

	return fd < 0 ? -1 : clear_below(fd, 0, &listener);
}

bool
dir_is_empty(int dir_fd)
{
	_cleanup_closedir_ DIR *dir = NULL;
	struct dirent *entry;
	int fd = dir_open_at(dir_fd, ".");

	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	while ((entry = readdir(dir)))
		if (!is_dots(entry->d_name))
			return false;
	return true;
}

int
dir_remove_at(int dir_fd, const char *name)
{
	static const struct listener nobody;

	return remove_below(dir_fd, name, 0, &nobody);
}

const char *
file_last_line(int fd, char *buf, size_t size)
{
	char window[LAST_LINE_WINDOW + 1];
	struct stat st;
	ssize_t n = 0;

	if (fstat(fd, &st) == 0)
		n = pread(fd, window, LAST_LINE_WINDOW,
			st.st_size > LAST_LINE_WINDOW ? st.st_size - LAST_LINE_WINDOW : 0);
	buf[0] = '\0';
	if (n <= 0)
		return buf;
	for (ssize_t i = 0; i < n; i++)
		if (window[i] == '\0')
			window[i] = ' '; /* it ends nothing */
	while (n > 0 && strchr("\r\n\t ", window[n - 1]))
		n--;
	window[n] = '\0';
	char *line = strrchr(window, '\n');
	return cij_text_clean(line ? line + 1 : window, buf, size);
}
