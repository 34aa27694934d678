/*
 * Leases: a guest is one user's to operate until a time, or until a process ends. What
 * lease_book.h has on paper, with clocks, processes, clients that wait, and a file that outlives
 * the daemon.
 */
#ifndef DAEMON_LEASE_H
#define DAEMON_LEASE_H

#include <event2/event.h>
#include <json-c/json.h>

#include "daemon/lease_book.h"
#include "daemon/notify.h"
#include "daemon/sock.h"

struct leases;

struct lease_ops {
	/* The lease has ended and asked for it: stop the guest and format its drives, then call
	 * lease_reset_done(). */
	void (*reset)(void *arg, const char *guest);
	/* Somebody holds the guest from now on: whoever else is at it may only look. */
	void (*granted)(void *arg, const char *guest);
};

/* Reads the file in the folder @state_fd (weak). Resets and turns begin with leases_begin(). */
struct leases *leases_new(struct event_base *base, int state_fd, struct notify *notify);
void leases_begin(struct leases *leases, const struct lease_ops *ops, void *arg);
/* From here on the file stays as it is: clients that go away now keep their places. */
void leases_close(struct leases *leases);
void leases_free(struct leases *leases);

struct lease_wish {
	const struct peer *by; /* weak */
	bool admin; /* @by is one */
	int64_t seconds; /* 0: as long as the process lives */
	pid_t pid; /* ends with it; must be one of @by's own. 0: none */
	const char *why; /* weak; NULL: not said */
	bool reset, wait, steal;
};

enum lease_outcome { LEASE_GOT, LEASE_KEPT, LEASE_WAITS };

/* @err is NULL when the lease was granted. */
typedef void lease_done_fn(void *arg, const struct cij_error *err);

/*
 * Asks for @guest. Returns LEASE_GOT, LEASE_KEPT (the asker has it for longer already), LEASE_WAITS
 * (@done is called once, when its turn has come or never can), or -1 with Leased, Denied,
 * BadRequest, NoResources.
 */
int lease_acquire(struct leases *leases, const char *guest, const struct lease_wish *wish,
	lease_done_fn *done, void *arg, struct cij_error *err);

/* Leaves the queue. */
void lease_cancel(struct leases *leases, void *arg);

/*
 * Gives @guest back; @steal: an admin may do that to somebody else's, for the reason @why. Returns
 * 1, 0 when nobody had it, or -1 with Leased or Denied.
 */
int lease_release(struct leases *leases, const char *guest, const struct lease_wish *wish,
	struct cij_error *err);

/* Whether @peer may operate @guest as far as leases go. 0, or -1 with Leased. */
int lease_check(struct leases *leases, const char *guest, const struct peer *peer, bool admin,
	struct cij_error *err);

/* Who holds it and who waits, or NULL. */
struct json_object *lease_view(struct leases *leases, const char *guest);

void lease_reset_done(struct leases *leases, const char *guest);

/* The guest is gone, or has another name. */
void lease_forget(struct leases *leases, const char *guest);
void lease_rename(struct leases *leases, const char *was, const char *guest);

#endif
