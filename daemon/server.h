/*
 * The control sockets: who may open them, how many at once. cijqemud.sock is for the group,
 * cijqemud-ro.sock for everybody on the machine, to look only.
 */
#ifndef DAEMON_SERVER_H
#define DAEMON_SERVER_H

#include "daemon/access.h"
#include "daemon/registry.h"

struct server;

/*
 * Listens on both in the folder @run_fd; on the first alone where the daemon serves its own user
 * only. @group: who may open the first, (gid_t)-1: nobody but root. NULL with Internal.
 */
struct server *server_new(
	int run_fd, gid_t group, struct registry *registry, struct cij_error *err);

/* Closes all connections; work under way goes on unheard. NULL is fine. */
void server_free(struct server *server);

#endif
