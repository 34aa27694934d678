/*
 * A systemd scope for one run of a guest: a control group of its own under cijqemu.slice, with the
 * guest's limits, that restarting the daemon's service never touches.
 */
#ifndef DAEMON_SCOPE_H
#define DAEMON_SCOPE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/strv.h"

#include "cijqemu/error.h"

struct scope_spec {
	const char *guest; /* weak */
	unsigned run;
	int64_t memory_max; /* bytes; 0: no limit, as for the others */
	int64_t cpu_usec; /* microseconds of CPU a second */
	int64_t tasks_max;
};

/* Appends @spec as words that scope_read_word() reads: "scope=emujoe", "run=7"… */
void scope_add_words(const struct scope_spec *spec, struct strv *words);

/* Reads one such word, which @spec then points into. 0, or -1 for what is none. */
int scope_read_word(struct scope_spec *spec, const char *word);

/*
 * Moves this process into cijqemu-GUEST-RUN.scope: by the system's systemd as root, by the user's
 * own one otherwise. May block for seconds. 1: done; 0: no systemd here to ask; -1: NoResources
 * that says what it answered.
 */
int scope_join(const struct scope_spec *spec, struct cij_error *err);

#endif
