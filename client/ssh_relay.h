/*
 * The connection to another machine, in a process of its own. Whoever wants to talk to something
 * there hands it one end of a socket pair; the commands themselves know of no SSH.
 */
#ifndef CLIENT_SSH_RELAY_H
#define CLIENT_SSH_RELAY_H

#include "client/command.h"

enum relay_kind {
	RELAY_DAEMON, /* to the UNIX socket at text; "" = where the daemon of the user is */
	RELAY_TCP, /* to the address and port in text, "127.0.0.1 2022" */
	RELAY_RUN, /* to stdin and stdout of the command in text */
};

/* What a client sends over the control socket, along with its end of a socket pair. */
struct relay_request {
	enum relay_kind kind;
	char text[8 * 1024];
};

/*
 * What comes back: first on the control socket, when the connection stands, then on each socket
 * that was handed over, before its bytes. CIJ_E_NONE: it went well. RELAY_ASKING: wait, a person is
 * being asked.
 */
struct relay_answer {
	int asking;
	struct cij_error err;
};

/* The relay: connects to call->host, then serves @control until its other end is closed. */
__attribute__((noreturn)) void relay_run(struct call *call, int control, bool no_prompt);

#endif
