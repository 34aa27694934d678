/* The inside of leases, for the lease*.c files alone. */
#ifndef DAEMON_LEASE_IMPL_H
#define DAEMON_LEASE_IMPL_H

#include <time.h>

#include "daemon/lease.h"

/* In the daemon's state folder. */
#define LEASE_FILE "leases.json"

/* Of a place in the queue: who is told when its turn has come. */
struct lease_waiter {
	lease_done_fn *done;
	void *arg; /* weak */
	int pidfd; /* -1: no process */
};

/* A guest that somebody has, had or waits for. */
struct lease_entry {
	LIST_ENTRY(lease_entry) link;
	struct leases *leases; /* weak */
	struct lease_page page;
	struct event *timer;
	int pidfd; /* of the holder's process; -1: none */
	struct event *process;
	unsigned serving; /* its queue is being looked through: not to be freed */
};

struct leases {
	struct event_base *base; /* weak */
	int state_fd; /* weak */
	struct notify *notify; /* weak */
	const struct lease_ops *ops;
	void *arg; /* weak */
	LIST_HEAD(, lease_entry) entries;
	bool closed;
	int64_t wall_ahead; /* clock_wall_ahead() as the pages' times have it */
};

/* lease.c */
/* The time by the wall clock. Where that was set since the last call, all pages go with it. */
time_t lease_now(struct leases *leases);
/* The guest's entry; NULL where nobody has, had or waits for it. */
struct lease_entry *lease_find(const struct leases *leases, const char *guest);
/* The same, made where there is none: give it to lease_tidy() in the end. */
struct lease_entry *lease_entry_of(struct leases *leases, const char *guest);
/* Frees what there is nothing to remember of. Not from inside the entry's own callbacks. */
void lease_tidy(struct lease_entry *entry);
void lease_waiter_free(struct lease_waiter *waiter);
/* Event LEASE: @what has become of the lease of @whose, by @by; @why may be NULL. */
void lease_tell(const struct lease_entry *entry, const char *what, const struct lease_terms *whose,
	uid_t by, const char *why);
/* The guest is @terms' from now on, told as @what; takes them and @pidfd (-1: none) over. */
void lease_grant(struct lease_entry *entry, struct lease_terms *terms, int pidfd, const char *what);
/* The lease is over; whoever is next has it now, and all is saved. */
void lease_end(struct lease_entry *entry, const char *what, uid_t by, const char *why);
/* What has ended by now is over, whether or not the loop has come to it yet. */
void lease_look(struct lease_entry *entry);
/* Gives a free guest to whoever is next, sets the clock, saves. */
void lease_settle(struct lease_entry *entry);

/* lease_process.c */
/* A descriptor of @uid's process @pid, which @process names from then on; the caller closes it. -1
 * with BadRequest (no such process) or Denied (another user's). */
int lease_process_open(pid_t pid, uid_t uid, struct lease_process *process, struct cij_error *err);

/* lease_file.c */
/* Takes @pages, an array, over. Failures are logged. */
void lease_file_write(int state_fd, struct json_object *pages, int64_t wall_ahead);
/* The pages as they were written, to be freed by the caller; NULL: none. @same_boot: since then the
 * host has not started anew, and pids still mean what they did. */
struct json_object *lease_file_read(int state_fd, bool *same_boot, int64_t *wall_ahead);

#endif
