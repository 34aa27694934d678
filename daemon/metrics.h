/* Prometheus' text on RUNDIR/metrics.sock, over HTTP. */
#ifndef DAEMON_METRICS_H
#define DAEMON_METRICS_H

#include <event2/event.h>

#include "daemon/registry.h"

#define METRICS_SOCKET_NAME "metrics.sock"

struct metrics;

/*
 * Serves GET /metrics on metrics.sock in the folder @run_fd: to everybody on the machine where
 * @for_all, else to our own user. NULL with Internal.
 */
struct metrics *metrics_new(struct event_base *base, int run_fd, bool for_all,
	struct registry *registry, struct cij_error *err);

/* Closes its connections; scrapes under way get no answer. NULL is fine. */
void metrics_free(struct metrics *metrics);

#endif
