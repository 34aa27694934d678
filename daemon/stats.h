/* The numbers of many guests at once. */
#ifndef DAEMON_STATS_H
#define DAEMON_STATS_H

#include "daemon/guest_stats.h"
#include "daemon/registry.h"

/*
 * Has the guests that match one of @globs (all, when empty; only read during this call) read their
 * numbers anew, all at once. @done is called once, perhaps before this returns, when every one has.
 */
void stats_refresh(
	struct registry *registry, const struct cij_list *globs, guest_stats_fn *done, void *arg);

/* Whether the guest matches one of @globs; any does when there is none. */
bool stats_wants(const struct cij_list *globs, const struct guest *guest);

#endif
