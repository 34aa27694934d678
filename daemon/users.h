/* Names of local users and groups, from the files themselves: NSS may block for a minute. */
#ifndef DAEMON_USERS_H
#define DAEMON_USERS_H

#include <sys/types.h>

/* The name of @uid in /etc/passwd; NULL for others (the client asks NSS). Valid until the next
 * call. */
const char *user_name(uid_t uid);

/* The gid of group @name in /etc/group, or (gid_t)-1. */
gid_t group_id(const char *name);

#endif
