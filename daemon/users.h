/*
 * Names of local users and groups, from the files themselves: NSS may block for a minute. The files
 * are read again when they have changed, which is looked for once a second at most, and sooner
 * where somebody is not in them.
 */
#ifndef DAEMON_USERS_H
#define DAEMON_USERS_H

#include <stdbool.h>
#include <sys/types.h>

/* What runs and writes for an owner of whom no group is known. */
#define NO_GROUP 65534

/* The name of @uid in /etc/passwd; NULL for others (the client asks NSS). Valid until the next
 * call of any function here. */
const char *user_name(uid_t uid);

/* The uid of user @name, the gid of group @name. Returns false for those that are not in the files.
 */
bool user_id(const char *name, uid_t *uid);
bool group_id(const char *name, gid_t *gid);

/* The primary group of @uid. Returns false for a user who is not in the file. */
bool user_primary_group(uid_t uid, gid_t *gid);

/* Whether the user @uid of the file has the group @gid, as the primary one or as a member. */
bool user_has_group(uid_t uid, gid_t gid);

/* A user's groups beyond this are not taken, here and by QEMU. */
#define USER_GROUPS_MAX 256

/* The groups of the user @uid of the file, at most @max, to @gids. Returns how many; 0 for others.
 */
int user_groups(uid_t uid, gid_t *gids, int max);

/* A decimal number that fits an id, (uid_t)-1 excepted, as "1003". Returns false for other text. */
bool id_parse(const char *text, unsigned *id);

/* Reads these files from here on; for tests. */
void users_use(const char *passwd, const char *group);

#endif
