/*
 * Acting on a guest's folder as its owner. A root daemon that opened files there as root could be
 * led by a planted link to read or write what the owner may not.
 */
#ifndef DAEMON_AS_OWNER_H
#define DAEMON_AS_OWNER_H

#include <stdbool.h>
#include <sys/types.h>

#include "cijqemu/cleanup.h"

struct as_owner {
	bool active;
	uid_t was_uid; /* whose rights we had before: the daemon's own, or an outer scope's */
	gid_t was_gid;
};

/* Remembers the daemon's own groups. Called once, before the first as_owner_begin(). */
void as_owner_init(void);

/*
 * From here on, files are opened and made with the rights of @uid, @gid and the groups that @uid
 * has by /etc/group (those that NSS alone knows are not taken: asking it would block the loop).
 * Does nothing unless we are root and @uid is not. One inside another ends with the rights of the
 * outer.
 */
struct as_owner as_owner_begin(uid_t uid, gid_t gid);

void as_owner_end(struct as_owner *as);
#define _cleanup_as_owner_ __attribute__((unused)) _cleanup_(as_owner_end)

#endif
