/* Getting into a guest: its own key, the agent's, the user's. */
#ifndef CLIENT_SSH_KEYS_H
#define CLIENT_SSH_KEYS_H

#include "client/ssh_link.h"

/*
 * Authenticates as @user: with the key in file @own (may be NULL; on the host where the guest
 * runs), with those of ssh-agent, with those in ~/.ssh, then without any, which small test guests
 * let in, and last with a password that is asked for. The error tells what was tried.
 */
int ssh_keys_login(struct ssh_link *link, const char *user, const char *own, struct cij_error *err);

#endif
