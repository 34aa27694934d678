/* One question to several machines at once. */
#ifndef CLIENT_SSH_HOSTS_H
#define CLIENT_SSH_HOSTS_H

#include "client/command.h"

/*
 * 'list' on all of call->host (a,b,c). Those that do not answer are told and hold up nobody.
 * Returns 1 with the exit code (0, or that of the first host that failed), or -1 with Usage.
 */
int hosts_run(struct call *call, int *code, struct cij_error *err);

/* Connects this process to call->host. */
int host_enter(struct call *call, bool no_prompt, struct cij_error *err);

#endif
