/* Files here that are being pulled: under another name until they are whole. */
#ifndef CLIENT_SSH_LOCAL_H
#define CLIENT_SSH_LOCAL_H

#include <stddef.h>

#include "client/ssh_copy.h"

struct local_file {
	int fd;
	char *path, *part; /* part: NULL where it is written in place */
	int64_t end; /* behind the last byte */
};

/* Opens @item's target. 0, or -1 with errno (EISDIR for a folder in its place). */
int local_open(struct local_file *f, const struct item *item);

/* Writes @len bytes at @at; blocks of zeros become holes. 0, or -1 with errno. */
int local_write(struct local_file *f, const char *data, size_t len, int64_t at);

/* It is whole: gives it its mode, times and name. 0, or -1 with errno, the part removed. */
int local_finish(struct local_file *f, const struct item *item);

/* It is not: removes the part. */
void local_abandon(struct local_file *f);

/* Makes @item's folder, so that it can be written to. 0, or -1 with errno (ENOTDIR, ELOOP). */
int local_folder(struct item *item);

/* Gives the folder its mode and times, when all that goes into it is there. */
int local_folder_finish(const struct item *item);

/* Makes @item's link in place of what is there. 0, or -1 with errno. */
int local_link(const struct item *item);

/* Tells that @path cannot be made here, by the errno that one of the above has left. */
void local_fail(struct copy *copy, const char *path);

/*
 * When all files are there: makes the links, which can lead nothing astray any more, and gives the
 * folders their modes and times; of the plan's items from @first on. What fails is told.
 */
void local_finish_items(struct copy *copy, size_t first);

#endif
