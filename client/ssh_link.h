/* An SSH session to a guest, and a channel on it; all of it under one deadline. */
#ifndef CLIENT_SSH_LINK_H
#define CLIENT_SSH_LINK_H

#include <libssh/libssh.h>

#include "client/command.h"

/* How long an attempt may take, unless --timeout says otherwise. */
#define SSH_SECONDS 30

struct ssh_link {
	ssh_session session; /* non-blocking */
	ssh_channel channel; /* a session channel, open */
	const char *guest; /* weak */
	char *where; /* "127.0.0.1:2022" */
	int64_t deadline;
};

/*
 * Asks the daemon where the guest's SSH is (waiting for it while the guest boots), connects,
 * authenticates and opens the channel. The error says which step failed.
 */
int ssh_link_open(struct ssh_link *link, struct call *call, struct cij_error *err);
void ssh_link_close(struct ssh_link *link);
#define _cleanup_ssh_link_ _cleanup_(ssh_link_close)

/*
 * Waits for the peer in the middle of a step: call the libssh function again behind it. Returns 0,
 * or -1 and Timeout, which names @step, when the deadline has passed.
 */
int ssh_link_wait(struct ssh_link *link, const char *step, struct cij_error *err);

/* Fills @err: @step failed, with libssh's reason. Always returns -1. */
int ssh_link_failed(struct ssh_link *link, const char *step, struct cij_error *err);

#endif
