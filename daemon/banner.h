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
/* How far the guest is, as the last attempt saw it. */
enum banner_sight {
	BANNER_NOTHING, /* no attempt is over */
	BANNER_SILENT, /* nobody in the guest takes up the connection: no network yet */
	BANNER_CLOSED, /* the guest is on the network and refuses: no server listens */
	BANNER_OTHER, /* what answers is no SSH server */
};
enum banner_sight banner_sight(const struct banner *banner);

/* Calls @changed from the loop when the sight is another one. */
void banner_on_change(struct banner *banner, void (*changed)(void *arg));

void banner_free(struct banner *banner);

#endif
