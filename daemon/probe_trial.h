/*
 * The runs of a QEMU binary that ask it what it can do, over QMP on its standard input and output:
 * one about itself, and one that starts with KVM only to see whether that works. Nothing of the
 * answer is kept here: that is for probe.h.
 */
#ifndef DAEMON_PROBE_TRIAL_H
#define DAEMON_PROBE_TRIAL_H

#include <event2/event.h>
#include <sys/types.h>

#include "daemon/dialect.h"

/* The two runs of one binary. */
struct trials;

/*
 * The answer, once, from the loop: @caps, or NULL with @err set (QemuFailed with its last words,
 * NoResources). Both are weak. The trials are to be freed, and may be inside it.
 */
typedef void trials_done_fn(void *arg, const struct qemu_caps *caps, const struct cij_error *err);

/*
 * Starts the binary @qemu as @uid and @gid in the folder @cwd_fd; neither @qemu nor @cwd_fd is
 * kept. What fails here is told through @done like all else. Freed with trials_free().
 */
struct trials *trials_new(struct event_base *base, const char *qemu, uid_t uid, gid_t gid,
	int cwd_fd, trials_done_fn *done, void *arg);

/* Ends what still runs; the answer is not told any more. NULL is fine. */
void trials_free(struct trials *trials);

#endif
