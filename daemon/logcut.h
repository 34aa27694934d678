/*
 * Where the file system makes no holes, a log that has outgrown its limit is cut when its run is
 * over: its end is copied, a piece at a turn of the loop, and takes the place of the whole.
 */
#ifndef DAEMON_LOGCUT_H
#define DAEMON_LOGCUT_H

#include <event2/event.h>
#include <stdint.h>
#include <sys/types.h>

struct logcuts;

struct logcuts *logcuts_new(struct event_base *base);
/* What is not finished stays as it was. */
void logcuts_free(struct logcuts *cuts);

/*
 * Keeps the last @limit bytes of the log of run @number in the folder @logs_fd, whose owner is
 * @uid, @gid; by a hole where that can be. Nothing, where it is small enough. To be called as the
 * owner, behind the end of that run.
 */
void logcut_start(
	struct logcuts *cuts, int logs_fd, unsigned number, uint64_t limit, uid_t uid, gid_t gid);

#endif
