/* The guests as the host comes up and goes down: those of "autostart", and all. */
#ifndef DAEMON_HOST_H
#define DAEMON_HOST_H

#include "daemon/registry.h"

/* @guests: an array of {"guest", "state", "error"}, taken over; called once, from the loop.
 * NULL: the daemon was stopped before all was over. */
typedef void host_done_fn(void *arg, struct json_object *guests);

/* Starts the guests with "autostart" that are stopped, a few at a time. */
void host_up(struct registry *registry, host_done_fn *done, void *arg);

/* Presses the power button of all that run; kills what is left after @force_after seconds. */
void host_down(struct registry *registry, double force_after, host_done_fn *done, void *arg);

/* Before the loop ends and when all guests are freed: what is not over will not be. */
void host_forget_all(void);

#endif
