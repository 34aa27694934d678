/* The daemon of another machine, --host: reached over one SSH connection. */
#ifndef CLIENT_HOST_H
#define CLIENT_HOST_H

#include "client/command.h"

/*
 * Where @call names a host, makes the connections to the daemon go there from here on. Returns 0 to
 * go on, 1 when all is done (several hosts) with the exit code in *@code, or -1 and an error.
 */
int host_begin(struct call *call, int *code, struct cij_error *err);

/* Whether a host is in force. */
bool host_active(void);

/* A TCP connection from that host to @address there. Returns a socket, or -1 with an error. */
int host_connect_tcp(const char *address, int port, int64_t deadline, struct cij_error *err);

/*
 * Runs @command in the user's shell on that host with what @in holds as its stdin (-1: nothing).
 * Returns its output (heap, NUL behind it), or NULL with an error, with its stderr, when it failed.
 */
char *host_run(const char *command, int in, size_t *len, int64_t deadline, struct cij_error *err);

#endif
