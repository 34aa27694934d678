#include "daemon/users.h"

#include <grp.h>
#include <pwd.h>
#include <string.h>

#include "cijqemu/cleanup.h"

/* Users who are looked up again and again, in a ring; the file is small, reading it is 20 µs. */
#define CACHE_SIZE 64

static struct {
	uid_t uid;
	char name[64]; /* "" = not in the file */
} cache[CACHE_SIZE];
static unsigned cached, next_slot;

const char *
user_name(uid_t uid)
{
	_cleanup_fclose_ FILE *file = NULL;
	struct passwd *entry;
	unsigned slot;

	for (unsigned i = 0; i < cached; i++)
		if (cache[i].uid == uid)
			return *cache[i].name ? cache[i].name : NULL;
	slot = next_slot++ % CACHE_SIZE;
	if (cached < CACHE_SIZE)
		cached++;
	cache[slot].uid = uid;
	cache[slot].name[0] = '\0';
	file = fopen("/etc/passwd", "re");
	while (file && (entry = fgetpwent(file)))
		if (entry->pw_uid == uid && strlen(entry->pw_name) < sizeof(cache[slot].name)) {
			strcpy(cache[slot].name, entry->pw_name);
			return cache[slot].name;
		}
	return NULL;
}

gid_t
group_id(const char *name)
{
	_cleanup_fclose_ FILE *file = fopen("/etc/group", "re");
	struct group *entry;

	while (file && (entry = fgetgrent(file)))
		if (strcmp(entry->gr_name, name) == 0)
			return entry->gr_gid;
	return (gid_t)-1;
}
