#include "daemon/as_owner.h"

#include <grp.h>
#include <stdlib.h>
#include <sys/fsuid.h>

#include "daemon/users.h"

static gid_t *own_groups;
static int n_own_groups;

void
as_owner_init(void)
{
	free(own_groups);
	n_own_groups = getgroups(0, NULL);
	if (n_own_groups < 0)
		n_own_groups = 0;
	own_groups = calloc(n_own_groups + 1, sizeof(*own_groups));
	if (!own_groups)
		abort();
	n_own_groups = getgroups(n_own_groups, own_groups);
}

/* Of a process that is gone, and whose folder is: nobody's rights. */
#define NOBODY 65534

/* The daemon's own, or the user's. */
static void
take_groups(uid_t uid)
{
	gid_t groups[USER_GROUPS_MAX];
	int n;

	if (uid == geteuid()) {
		if (setgroups(n_own_groups, own_groups) < 0)
			abort();
		return;
	}
	n = user_groups(uid, groups, USER_GROUPS_MAX);
	if (setgroups(n, groups) < 0)
		abort();
}

static void
take(uid_t uid, gid_t gid)
{
	setfsgid(gid);
	setfsuid(uid);
	/* setfsuid() reports no error: asking again with an impossible id tells what holds now. */
	if (setfsuid((uid_t)-1) != (int)uid || setfsgid((gid_t)-1) != (int)gid)
		abort();
}

struct as_owner
as_owner_begin(uid_t uid, gid_t gid)
{
	struct as_owner as = {.active = true};

	if (geteuid() != 0)
		return (struct as_owner){false};
	if (uid == (uid_t)-1)
		uid = gid = NOBODY;
	as.was_uid = (uid_t)setfsuid((uid_t)-1);
	as.was_gid = (gid_t)setfsgid((gid_t)-1);
	/* Root's own folder: nothing to give up; but inside another's scope its rights stay. */
	if (uid == 0 || uid == as.was_uid)
		return (struct as_owner){false};
	take_groups(uid);
	take(uid, gid);
	return as;
}

void
as_owner_end(struct as_owner *as)
{
	if (!as->active)
		return;
	as->active = false;
	take(as->was_uid, as->was_gid);
	take_groups(as->was_uid);
}
