/* Questions to whoever sits at the terminal, in the middle of logging in. */
#ifndef CLIENT_SSH_ASK_H
#define CLIENT_SSH_ASK_H

#include "client/ssh_link.h"

/*
 * Asks on the terminal itself, wherever stdin comes from; @echo: what is typed is shown. Waiting
 * for a person does not count: the deadline moves on. Returns 0, or -1 when there is no terminal,
 * the link may not ask, or nothing was answered. @buf holds a secret: wipe it.
 */
int ssh_ask(struct ssh_link *link, const char *question, bool echo, char *buf, size_t size);

#endif
