/*
 * What libssh has taken in for a channel. Any of its calls may do that, also one for another stream
 * or channel: poll() tells no more of it then, and is not to be waited for.
 */
#ifndef CLIENT_SSH_ARRIVAL_H
#define CLIENT_SSH_ARRIVAL_H

#include <libssh/callbacks.h>
#include <stdbool.h>

struct ssh_arrival {
	/* Data, or the channel's end, since this was set to false: before looking for it. */
	bool any;
	struct ssh_channel_callbacks_struct callbacks;
};

/* Sets @arrival->any from now on, until ssh_arrival_forget(); @channel stays the caller's. */
void ssh_arrival_watch(struct ssh_arrival *arrival, ssh_channel channel);
void ssh_arrival_forget(struct ssh_arrival *arrival, ssh_channel channel);

#endif
