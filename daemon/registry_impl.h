/* The inside of the registry, for registry*.c alone. */
#ifndef DAEMON_REGISTRY_IMPL_H
#define DAEMON_REGISTRY_IMPL_H

#include "daemon/registry.h"

struct registry {
	const struct services *sv; /* weak */
	struct guest **guests; /* by name */
	size_t n;
	unsigned scans;
	bool strays; /* guests without a folder were looked for */
	bool ready; /* what runs was taken back */
	bool closed; /* there are no guests any more */
	size_t adopting;
	void (*adopted)(void *arg);
	void *adopted_arg; /* weak */
};

/* registry.c */

/* The guest is none any more: whoever waits for it is told. */
void registry_drop(struct registry *registry, struct guest *guest);

/* registry_folder.c */

/* Once, at the daemon's start: removes what an earlier one was making or removing when it ended. */
void registry_clear_away(struct registry *registry);

#endif
