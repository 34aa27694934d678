/* Into the machine that --host names, as ssh would: its config, known_hosts, agent and keys. */
#ifndef CLIENT_SSH_LOGIN_H
#define CLIENT_SSH_LOGIN_H

#include "client/ssh_link.h"

/*
 * Connects to @spec ("[USER@]HOST[:PORT]") and logs in by the link's deadline. l->no_prompt is
 * kept. Returns 0, or -1 with Unreachable, Timeout, or Usage for a bad @spec.
 */
int ssh_login_host(struct ssh_link *link, const char *spec, struct cij_error *err);

/* The command by which ssh(1) goes to @spec, for messages. Heap. */
char *ssh_login_by_hand(const char *spec);

#endif
