/* What the service manager is told, where there is one: that we are ready, how many guests, that we
 * live. */
#ifndef DAEMON_SERVICE_H
#define DAEMON_SERVICE_H

#include "daemon/registry.h"

struct service;

/* From here on the watchdog is fed, from the loop: a loop that hangs is noticed. */
struct service *service_new(struct registry *registry);
void service_free(struct service *service);

/* Every guest's state is known and the sockets are open; the counts are kept up to date from now.
 */
void service_ready(struct service *service);
void service_stopping(struct service *service);

/* The listening socket bound to a path that ends in /@name that systemd gave us; -1: none. */
int service_socket(const char *name);

#endif
