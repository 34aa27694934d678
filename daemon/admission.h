/*
 * Whether the host has room for one more guest: memory of those that run, free disk, and what one
 * user may have. A start is refused before QEMU runs, with the numbers and who uses what.
 */
#ifndef DAEMON_ADMISSION_H
#define DAEMON_ADMISSION_H

#include <stdint.h>
#include <sys/types.h>

#include "cijqemu/error.h"
#include "daemon/conf.h"

struct admission;

/* The host as it is, or as a test wants it to be. */
struct host_room {
	int64_t memory; /* bytes of RAM */
};

/* @conf: weak. @host NULL: this machine. */
struct admission *admission_new(const struct daemon_conf *conf, const struct host_room *host);
void admission_free(struct admission *admission);

/* A guest of @uid, known by @guest (a pointer that means it), has @memory bytes from now on. */
void admission_enter(struct admission *admission, const void *guest, const char *name, uid_t uid,
	int64_t memory);
/* It has them no more; fine for one that never entered. */
void admission_leave(struct admission *admission, const void *guest);

/* How many have memory now. */
size_t admission_guests(const struct admission *admission);

/*
 * Whether guest @name of @uid with @memory may start; its folder is @dir_fd, all guests' folders
 * are in @guests_fd. 0, or -1 with NoResources.
 */
int admission_check(const struct admission *admission, const char *name, uid_t uid, int64_t memory,
	int dir_fd, int guests_fd, struct cij_error *err);

/* How much there is, by the limits of the options; for telling. */
struct admission_room {
	int64_t memory, memory_limit, memory_taken; /* bytes; memory 0: not known */
	int64_t disk, disk_free, disk_reserve; /* bytes of the file system; disk 0: not known */
	int64_t inodes, inodes_free; /* inodes 0: it has no fixed number */
};

/* @dir_fd: on the file system that is looked at. */
void admission_room(const struct admission *admission, int dir_fd, struct admission_room *room);

#endif
