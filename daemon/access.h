/* Who may do what to a guest: from the kernel's word on who asks, and nothing else. Pure. */
#ifndef DAEMON_ACCESS_H
#define DAEMON_ACCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "daemon/sock.h"

enum access {
	ACCESS_VIEW, /* see it: whoever may open the socket */
	ACCESS_OPERATE, /* start, stop, type on its console */
	ACCESS_OWN, /* change or remove it, reach its files */
	ACCESS_ADMIN, /* of operations on all guests at once; nobody has it to one guest alone */
};

/* The daemon's side of the rule. */
struct access_rule {
	uid_t daemon_uid;
	gid_t admin_gid; /* group cijqemu-admin; (gid_t)-1: there is none */
};

/* Never one who came by the read-only socket. */
bool access_is_admin(const struct access_rule *rule, const struct peer *peer);

/*
 * The rule, for every socket of ours: what @peer may do at most to a guest whose folder @owner
 * owns, perhaps @shared with them. A lease takes from it, see lease.h.
 */
enum access access_level(
	const struct access_rule *rule, const struct peer *peer, uid_t owner, bool shared);

/* How one who came by the read-only socket comes by more. Always returns -1. */
int access_view_only_hint(struct cij_error *err);

/* "view", "operate", "own" */
const char *access_name(enum access access);

#endif
