/* One command in many guests: each in a process of its own, its lines behind the guest's name. */
#ifndef CLIENT_SSH_MANY_H
#define CLIENT_SSH_MANY_H

#include "client/command.h"

/* Runs in the child, with stdin, stdout and stderr set up; as a command's run(). */
typedef int many_fn(struct call *call, struct cij_error *err);

/*
 * Runs @fn for the guests of call->guests (none = all that run), --parallel at a time. With --json
 * an object a guest is printed. Returns the exit code of the first named that failed, else 0.
 */
int ssh_many_run(struct call *call, many_fn *fn, struct cij_error *err);

/* As ssh_many_run() for the one guest call->guest, whose output becomes one JSON object. */
int ssh_many_run_json(struct call *call, many_fn *fn, struct cij_error *err);

#endif
