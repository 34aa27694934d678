/*
 * When to start a guest again that ended by itself: guest.json's "restart", with growing delays and
 * an end to it. Pure: what is known goes in, the decision comes out.
 */
#ifndef DAEMON_BACKOFF_H
#define DAEMON_BACKOFF_H

#include <stdbool.h>

#include "daemon/gstate.h"

/* So many failures within so many seconds, and it is given up. */
#define BACKOFF_FAILURES 5
#define BACKOFF_WINDOW_SECONDS 600

/* The first delay; it doubles with each restart of a guest that did not run for a window. */
#define BACKOFF_FIRST_SECONDS 1
#define BACKOFF_LONGEST_SECONDS 60

/* What happened since a user started the guest. All zero at first. */
struct backoff {
	unsigned restarts; /* automatic ones */
	unsigned streak; /* those in a row that did not last */
	double failures[BACKOFF_FAILURES]; /* when, monotonic; the newest first, 0 = none */
	bool gave_up;
};

/* An end of a run. */
struct backoff_end {
	enum greason reason;
	bool asked; /* a user, or the host's shutdown, wanted it so */
	bool automatic; /* the run was not started by a user */
	double ran; /* seconds */
	double now; /* monotonic */
};

/*
 * The seconds after which to start again by the policy (enum restart_policy), or -1: not at all,
 * with gave_up set where it is for its many failures.
 */
double backoff_plan(struct backoff *backoff, int policy, const struct backoff_end *end);

#endif
