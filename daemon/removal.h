/*
 * Folders that are removed with all that is in them, each by a process that runs as the folder's
 * owner: a million files, or a large one, would hold the loop up.
 */
#ifndef DAEMON_REMOVAL_H
#define DAEMON_REMOVAL_H

#include <event2/event.h>
#include <sys/types.h>

#include "cijqemu/error.h"

struct removals;

/* Of folders in @parent_fd (weak). */
struct removals *removals_new(struct event_base *base, int parent_fd);

/* done() of each is called; the processes that are at it go on. NULL is fine. */
void removals_free(struct removals *removals);

struct removal_ops {
	/* Now and then, while it goes on: so many files and folders are gone. */
	void (*progress)(void *arg, long long gone);
	/* Called once, from the loop. NULL: nothing is left; else why something is. */
	void (*done)(void *arg, const struct cij_error *why);
};

/*
 * Removes the folder @name (copied), with no other rights inside it than those of @uid; whatever
 * else has that name goes as it is. No link is followed.
 */
void removals_add(struct removals *removals, const char *name, uid_t uid, gid_t gid,
	const struct removal_ops *ops, void *arg);

/*
 * cijqemud --remove: removes what is in the folder at descriptor 3; prints how much is gone from
 * time to time, at last what is in the way. 0 when it is empty.
 */
int removal_main(void);

#endif
