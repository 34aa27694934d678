/* The numbers of the daemon and its guests as Prometheus' text format 0.0.4 has them. */
#ifndef DAEMON_METRICS_TEXT_H
#define DAEMON_METRICS_TEXT_H

#include <event2/buffer.h>

#include "daemon/registry.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Appends all families to @out, from what each guest's guest_stats() holds now. */
void metrics_print(struct registry *registry, struct evbuffer *out);

#endif
