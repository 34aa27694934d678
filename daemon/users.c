#include "daemon/users.h"

#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cijqemu/cleanup.h"
#include "daemon/clock.h"
#include "daemon/strv.h"

/* How old an answer may be: 'list' asks for a name a guest. */
#define LOOK_SECONDS 1

/* Somebody who is not known may have come a moment ago: looked for again, but once for a 'list'. */
#define MISS_SECONDS 0.02

struct user {
	uid_t uid;
	gid_t gid;
	char *name;
	size_t line; /* of two with one uid the first counts, as for getpwuid() */
};

struct group_entry {
	gid_t gid;
	char *name;
	struct strv members;
};

/* A file as it was when it was read. */
struct source {
	const char *path; /* weak */
	struct stat st;
	double looked; /* monotonic; 0: never */
};

static struct source passwd_file = {.path = "/etc/passwd"}, group_file = {.path = "/etc/group"};
static struct user *users; /* by uid */
static size_t n_users;
static struct group_entry *groups;
static size_t n_groups;

/* Whether the file must be read (again), to know what was true @age seconds ago. */
static bool
has_changed(struct source *source, double age)
{
	double now = clock_mono();
	struct stat st;

	if (source->looked && now - source->looked < age)
		return false;
	if (stat(source->path, &st) < 0)
		st = (struct stat){0};
	if (source->looked && st.st_ino == source->st.st_ino && st.st_size == source->st.st_size &&
		st.st_mtim.tv_sec == source->st.st_mtim.tv_sec &&
		st.st_mtim.tv_nsec == source->st.st_mtim.tv_nsec) {
		source->looked = now;
		return false;
	}
	source->looked = now;
	source->st = st;
	return true;
}

static void *
grow(void *array, size_t n, size_t size)
{
	/* By powers of two. */
	if (n & (n - 1))
		return array;
	array = realloc(array, (n ? n * 2 : 1) * size);
	if (!array)
		abort();
	return array;
}

static int
by_uid(const void *a, const void *b)
{
	const struct user *one = a, *two = b;

	if (one->uid != two->uid)
		return one->uid < two->uid ? -1 : 1;
	return one->line < two->line ? -1 : one->line > two->line;
}

static void
read_users(double age)
{
	_cleanup_fclose_ FILE *file = NULL;
	struct passwd *entry;

	if (!has_changed(&passwd_file, age))
		return;
	for (size_t i = 0; i < n_users; i++)
		free(users[i].name);
	n_users = 0;
	free(steal_ptr(users));
	file = fopen(passwd_file.path, "re");
	while (file && (entry = fgetpwent(file))) {
		users = grow(users, n_users, sizeof(*users));
		users[n_users] = (struct user){
			entry->pw_uid, entry->pw_gid, str_copy(entry->pw_name), n_users};
		n_users++;
	}
	if (n_users)
		qsort(users, n_users, sizeof(*users), by_uid);
}

static void
read_groups(double age)
{
	_cleanup_fclose_ FILE *file = NULL;
	struct group *entry;

	if (!has_changed(&group_file, age))
		return;
	for (size_t i = 0; i < n_groups; i++) {
		free(groups[i].name);
		strv_clear(&groups[i].members);
	}
	n_groups = 0;
	free(steal_ptr(groups));
	file = fopen(group_file.path, "re");
	while (file && (entry = fgetgrent(file))) {
		groups = grow(groups, n_groups, sizeof(*groups));
		groups[n_groups] = (struct group_entry){
			entry->gr_gid, str_copy(entry->gr_name), {0}};
		for (char **member = entry->gr_mem; *member; member++)
			strv_add(&groups[n_groups].members, *member);
		n_groups++;
	}
}

static const struct user *
search_user(uid_t uid)
{
	size_t low = 0, high;

	for (high = n_users; low < high;) {
		size_t mid = (low + high) / 2;

		if (users[mid].uid < uid)
			low = mid + 1;
		else
			high = mid;
	}
	return low < n_users && users[low].uid == uid ? &users[low] : NULL;
}

static const struct user *
find_user(uid_t uid)
{
	const struct user *user;

	read_users(LOOK_SECONDS);
	user = search_user(uid);
	if (user)
		return user;
	read_users(MISS_SECONDS);
	return search_user(uid);
}

const char *
user_name(uid_t uid)
{
	const struct user *user = find_user(uid);

	return user ? user->name : NULL;
}

static bool
search_user_id(const char *name, uid_t *uid)
{
	for (size_t i = 0; i < n_users; i++)
		if (strcmp(users[i].name, name) == 0) {
			*uid = users[i].uid;
			return true;
		}
	return false;
}

bool
user_id(const char *name, uid_t *uid)
{
	read_users(LOOK_SECONDS);
	if (search_user_id(name, uid))
		return true;
	read_users(MISS_SECONDS);
	return search_user_id(name, uid);
}

static bool
search_group_id(const char *name, gid_t *gid)
{
	for (size_t i = 0; i < n_groups; i++)
		if (strcmp(groups[i].name, name) == 0) {
			*gid = groups[i].gid;
			return true;
		}
	return false;
}

bool
group_id(const char *name, gid_t *gid)
{
	read_groups(LOOK_SECONDS);
	if (search_group_id(name, gid))
		return true;
	read_groups(MISS_SECONDS);
	return search_group_id(name, gid);
}

bool
user_primary_group(uid_t uid, gid_t *gid)
{
	const struct user *user = find_user(uid);

	if (!user)
		return false;
	*gid = user->gid;
	return true;
}

static bool
is_member(const struct group_entry *group, const char *name)
{
	for (size_t i = 0; i < group->members.n; i++)
		if (strcmp(group->members.items[i], name) == 0)
			return true;
	return false;
}

bool
user_has_group(uid_t uid, gid_t gid)
{
	const struct user *user = find_user(uid);

	if (!user || user->gid == gid)
		return user != NULL;
	read_groups(LOOK_SECONDS);
	for (size_t i = 0; i < n_groups; i++)
		if (groups[i].gid == gid && is_member(&groups[i], user->name))
			return true;
	return false;
}

int
user_groups(uid_t uid, gid_t *gids, int max)
{
	const struct user *user = find_user(uid);
	int n = 0;

	if (!user || max < 1)
		return 0;
	read_groups(LOOK_SECONDS);
	gids[n++] = user->gid;
	for (size_t i = 0; i < n_groups && n < max; i++)
		if (groups[i].gid != user->gid && is_member(&groups[i], user->name))
			gids[n++] = groups[i].gid;
	return n;
}

bool
id_parse(const char *text, unsigned *id)
{
	unsigned long long n;

	if (!*text || strspn(text, "0123456789") != strlen(text) || strlen(text) > 10)
		return false;
	n = strtoull(text, NULL, 10);
	if (n >= (uid_t)-1)
		return false;
	*id = (unsigned)n;
	return true;
}

void
users_use(const char *passwd, const char *group)
{
	passwd_file = (struct source){.path = passwd};
	group_file = (struct source){.path = group};
}
