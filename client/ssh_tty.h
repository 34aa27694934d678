/* A terminal in the guest that follows ours. */
#ifndef CLIENT_SSH_TTY_H
#define CLIENT_SSH_TTY_H

#include "client/ssh_pump.h"

/* Where in "newline ~ ." what was typed stands. */
struct ssh_tty {
	enum { ESC_LINE_START, ESC_TILDE, ESC_WITHIN } state;
};

/* Asks for a terminal for the main channel. @tty outlives the pump. */
int ssh_tty_request(
	struct ssh_tty *tty, struct ssh_link *link, struct pump *pump, struct cij_error *err);

/* As pump_run(), with our terminal (if stdin is one) raw meanwhile. */
int ssh_tty_run(struct pump *pump, struct cij_error *err);

#endif
