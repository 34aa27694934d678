#include "daemon/backoff.h"

#include <string.h>

#include "daemon/guest_conf.h"

static bool
is_failure(const struct backoff_end *end)
{
	switch (end->reason) {
	case GR_CRASHED:
	case GR_PANICKED:
	case GR_LOST:
		return true;
	case GR_START_FAILED:
		/* Whoever asked for a start was told why it failed, and tries again or not. */
		return end->automatic;
	case GR_NONE:
	case GR_NEVER_STARTED:
	case GR_GUEST_SHUTDOWN:
	case GR_STOPPED:
	case GR_KILLED:
	case GR_HOST_SHUTDOWN:
		return false;
	}
	return false;
}

static bool
is_wanted(int policy, const struct backoff_end *end)
{
	if (end->asked || end->reason == GR_HOST_SHUTDOWN)
		return false;
	switch ((enum restart_policy)policy) {
	case RESTART_NO:
		return false;
	case RESTART_ON_FAILURE:
		return is_failure(end);
	case RESTART_ALWAYS:
		return end->reason != GR_START_FAILED || end->automatic;
	}
	return false;
}

/* Notes the failure. Returns whether it was one too many. */
static bool
too_many(struct backoff *backoff, double now)
{
	memmove(backoff->failures + 1, backoff->failures,
		(BACKOFF_FAILURES - 1) * sizeof(*backoff->failures));
	backoff->failures[0] = now;
	return backoff->failures[BACKOFF_FAILURES - 1] > 0 &&
	       now - backoff->failures[BACKOFF_FAILURES - 1] <= BACKOFF_WINDOW_SECONDS;
}

double
backoff_plan(struct backoff *backoff, int policy, const struct backoff_end *end)
{
	double delay = BACKOFF_FIRST_SECONDS;

	if (!is_wanted(policy, end))
		return -1;
	if (end->ran >= BACKOFF_WINDOW_SECONDS)
		backoff->streak = 0;
	if (is_failure(end) && too_many(backoff, end->now)) {
		backoff->gave_up = true;
		return -1;
	}
	for (unsigned i = 0; i < backoff->streak && delay < BACKOFF_LONGEST_SECONDS; i++)
		delay *= 2;
	backoff->streak++;
	return delay < BACKOFF_LONGEST_SECONDS ? delay : BACKOFF_LONGEST_SECONDS;
}
