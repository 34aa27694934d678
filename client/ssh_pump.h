/* Bytes between our stdin, stdout and stderr and a command's in the guest. */
#ifndef CLIENT_SSH_PUMP_H
#define CLIENT_SSH_PUMP_H

#include <libssh/callbacks.h>

#include "client/ssh_link.h"

struct pump;

/* Before the command is asked for, so that nothing it says is missed. @link outlives it. */
struct pump *pump_new(struct ssh_link *link);
void pump_free(struct pump *pump);

static inline void
cleanup_pump(struct pump **pump)
{
	pump_free(*pump);
}
#define _cleanup_pump_ __attribute__((__cleanup__(cleanup_pump)))

/*
 * Looks at what was typed before it is sent: takes @len bytes at @data and puts what is to be sent
 * back there: up to @len + 1. Returns how much that is, or -1 to hang up.
 */
typedef ssize_t pump_filter_fn(void *arg, char *data, size_t len);
void pump_set_filter(struct pump *pump, pump_filter_fn *fn, void *arg);

/* Called when the window's size may have changed, from pump_run(). */
void pump_set_resize(struct pump *pump, void (*fn)(struct ssh_link *link));

/* INT, TERM, HUP and QUIT are passed on to the command; a second one ends us. */
void pump_set_signals(struct pump *pump);

/*
 * Moves bytes until the command has ended. Returns its exit code, 128 + n when signal n ended it;
 * or -1 and an error when the connection was lost.
 */
int pump_run(struct pump *pump, struct cij_error *err);

#endif
