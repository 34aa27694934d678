/* The inside of an SFTP client, for the ssh_sftp*.c files alone. */
#ifndef CLIENT_SSH_SFTP_IMPL_H
#define CLIENT_SSH_SFTP_IMPL_H

#include <libssh/callbacks.h>

#include "client/ssh_sftp.h"

struct sftp_pending {
	uint32_t id;
	sftp_fn *fn; /* NULL: free */
	void *arg;
};

struct sftp {
	struct ssh_link *link; /* weak */
	ssh_channel channel;
	ssh_event event;
	struct ssh_channel_callbacks_struct callbacks;
	struct sftp_bytes in, out;
	struct sftp_pending pending[SFTP_REQUESTS_MAX];
	size_t n_pending;
	uint32_t last_id;
	size_t block;
	struct sftp_greeting has;
	bool greeted, limits_known, bad;
};

/* Begins a request whose body (behind its id) has @len bytes: they are to follow in s->out. */
void sftp_begin(struct sftp *s, enum sftp_packet type, size_t len, sftp_fn *fn, void *arg);

#endif
