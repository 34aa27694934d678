/* Bytes both ways between a socket and a channel, without waiting. */
#ifndef CLIENT_SSH_FLOW_H
#define CLIENT_SSH_FLOW_H

#include <libssh/libssh.h>
#include <poll.h>
#include <stdbool.h>

struct ssh_flow;

/* Between @fd and the open @channel; both stay the caller's. */
struct ssh_flow *ssh_flow_new(ssh_session session, ssh_channel channel, int fd);
void ssh_flow_free(struct ssh_flow *flow);

/* Moves what can be moved; returns whether anything did. */
bool ssh_flow_step(struct ssh_flow *flow);

/*
 * Whether libssh has taken in something for it since its last step began, in a call for whichever
 * flow of the session: poll() tells nothing of that any more, and is not to be waited for.
 */
bool ssh_flow_arrived(const struct ssh_flow *flow);

/* Whether both directions are at their end, or the socket is gone. */
bool ssh_flow_is_over(const struct ssh_flow *flow);

/* What to ask poll() about the socket, and what it said. */
struct pollfd ssh_flow_poll(const struct ssh_flow *flow);
void ssh_flow_polled(struct ssh_flow *flow, short revents);

#endif
