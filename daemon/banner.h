/* Whether a guest's SSH answers: connects to its port until the other end greets with "SSH-". */
#ifndef DAEMON_BANNER_H
#define DAEMON_BANNER_H

#include <event2/event.h>

struct banner;

/* Called once from the loop when the greeting was seen. The watch may be freed inside. */
typedef void banner_seen_fn(void *arg);

/* Watches TCP port @port of 127.0.0.1. */
struct banner *banner_new(struct event_base *base, int port, banner_seen_fn *seen, void *arg);

/* Ends the watch. NULL is fine. */
void banner_free(struct banner *banner);

#endif
