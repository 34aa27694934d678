/* The control socket: who may open it, how many at once. */
#ifndef DAEMON_SERVER_H
#define DAEMON_SERVER_H

#include <event2/event.h>

#include "daemon/access.h"
#include "daemon/registry.h"

struct server;

/* Listens on cijqemud.sock in the folder @run_fd. NULL with Internal. */
struct server *server_new(struct event_base *base, int run_fd, bool user_only,
	struct registry *registry, struct cij_error *err);

/* Closes all connections; work under way goes on unheard. NULL is fine. */
void server_free(struct server *server);

#endif
