/* An SSH session to a guest, and a channel on it; all of it under one deadline. */
#ifndef CLIENT_SSH_LINK_H
#define CLIENT_SSH_LINK_H

#include <libssh/libssh.h>

#include "client/command.h"
#include "client/link.h"

/* How long an attempt may take, unless --timeout says otherwise. */
#define SSH_SECONDS 30

/*
 * What is sent at a time goes into one packet: OpenSSH takes 32768 bytes, dropbear 32759, of which
 * libssh leaves 10 free. What is more would go into a small packet of its own, behind each.
 */
#define SSH_BLOCK (32 * 1024 - 64)

struct ssh_link {
	ssh_session session; /* non-blocking */
	ssh_channel channel; /* the main channel, open; or NULL */
	const char *guest; /* weak; of messages: also "host lab7" */
	char *where; /* "127.0.0.1:2022" */
	char *user;
	double seconds; /* an attempt may take */
	int64_t deadline; /* CLOCK_NEVER once it is up */
	bool no_prompt; /* there is nobody to be asked */
	bool own_host; /* no guest: a host of --host */
	struct call *again; /* weak: logs in once more when a channel is refused; or NULL */
	void (*asking)(void *arg); /* told before a person is asked; or NULL */
	void *asking_arg; /* weak */
};

/*
 * Asks the daemon where the guest's SSH is (waiting for it while the guest boots), connects, checks
 * that it is this guest, and authenticates. The error says which step failed.
 */
int ssh_link_login(struct ssh_link *link, struct call *call, struct cij_error *err);

/* As ssh_link_login(), and opens the main channel. */
int ssh_link_open(struct ssh_link *link, struct call *call, struct cij_error *err);
void ssh_link_close(struct ssh_link *link);

/* A step that comes later, behind what may have taken long, has a deadline of its own. */
void ssh_link_extend(struct ssh_link *link);
#define _cleanup_ssh_link_ _cleanup_(ssh_link_close)

/*
 * Opens a session channel; NULL with an error. The caller frees it. Where it is refused a new
 * connection may take the place of this one, so nothing else may be under way on it.
 */
ssh_channel ssh_link_channel(struct ssh_link *link, struct cij_error *err);

/* Asks for @line to be run on @channel. */
int ssh_link_exec(
	struct ssh_link *link, ssh_channel channel, const char *line, struct cij_error *err);

/*
 * Runs @line in the guest with @len bytes at @in as its input and collects what it says: *@out is
 * on the heap with a NUL behind it. Returns the exit code, or -1 with an error.
 */
int ssh_link_feed(struct ssh_link *link, const char *line, const char *in, size_t len, char **out,
	struct cij_error *err);

/* The handshake, up to the session's keys, by the deadline. */
int ssh_link_handshake(struct ssh_link *link, struct cij_error *err);

/* A connected TCP socket by the deadline; @what is told in the error. -1 otherwise. */
int ssh_link_tcp(struct ssh_link *link, const char *host, int port, struct cij_error *err);

/*
 * Waits for the peer in the middle of a step: call the libssh function again behind it. Returns 0,
 * or -1 with an error, which names @step, when the deadline has passed or somebody interrupts.
 */
int ssh_link_wait(struct ssh_link *link, const char *step, struct cij_error *err);

/* Why libssh gave up last, in words: it has none at times. */
const char *ssh_link_reason(struct ssh_link *link);

/* Fills @err: @step failed, with that reason. Always returns -1. */
int ssh_link_failed(struct ssh_link *link, const char *step, struct cij_error *err);

/* "TYPE BASE64" of the server's host key, on the heap; NULL when it has none. */
char *ssh_link_host_key(struct ssh_link *link);

/* "SHA256:…" of a public key as above, on the heap; NULL for what is none. */
char *ssh_key_fingerprint(const char *key);

#endif
