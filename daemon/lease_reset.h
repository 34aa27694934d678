/* What the end and the beginning of a lease do to the guest itself. */
#ifndef DAEMON_LEASE_RESET_H
#define DAEMON_LEASE_RESET_H

#include "daemon/registry.h"

/* From here on leases act on the guests of @registry (weak), which are all known. */
void lease_reset_begin(struct registry *registry);

/* Behind the guests: those that had not begun yet are the next daemon's. */
void lease_reset_forget_all(void);

#endif
