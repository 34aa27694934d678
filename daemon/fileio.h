/* Small files in a folder that somebody else may write to: no links followed, nothing half written.
 */
#ifndef DAEMON_FILEIO_H
#define DAEMON_FILEIO_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "cijqemu/error.h"

/*
 * Opens the regular file @name in @dir_fd for reading; a link, FIFO or device is refused without
 * waiting on it. Returns the descriptor, or -1 with errno (ELOOP for a link, EINVAL for what is no
 * regular file).
 */
int file_open_read_at(int dir_fd, const char *name);

/*
 * Reads a whole file as above, of at most @limit bytes (EFBIG beyond). The heap text is followed by
 * a NUL; its length goes to *@len, and to *@st (may be NULL) what was read. NULL with errno.
 */
char *file_read_at(int dir_fd, const char *name, size_t limit, size_t *len, struct stat *st);

/* Writes @len bytes to a temporary file, then renames it to @name. 0, or -1 with errno. */
int file_write_at(int dir_fd, const char *name, const char *text, size_t len, mode_t mode);

/* Opens the folder @name in @dir_fd, not through a link. -1 with errno. */
int dir_open_at(int dir_fd, const char *name);

/* Makes the folder @name in @dir_fd where it is missing, and opens it. -1 with errno. */
int dir_make_at(int dir_fd, const char *name, mode_t mode);

/* Makes @path and the folders above it where missing. 0, or -1 with errno. */
int dir_make_path(const char *path, mode_t mode);

/*
 * Removes all that the folder @dir_fd holds, never following a link, and calls @removed (may be
 * NULL) after each file or folder. 0, or -1 with the errno of the first that stays.
 */
int dir_clear(int dir_fd, void (*removed)(void *arg), void *arg);

/* Whether nothing is in the folder @dir_fd. */
bool dir_is_empty(int dir_fd);

/* Removes @name in @dir_fd with all that is in it, in the same way. 0, or -1 with errno. */
int dir_remove_at(int dir_fd, const char *name);

/* Writes all of @len bytes. 0, or -1 with errno. */
int write_all(int fd, const char *data, size_t len);

/*
 * The last line with something on it among the last KiB of the file at @fd, cleaned for a terminal;
 * "" when there is none. Returns @buf.
 */
const char *file_last_line(int fd, char *buf, size_t size);

#endif
