#include "daemon/as_owner.h"

#include <grp.h>
#include <stdlib.h>
#include <sys/fsuid.h>

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

struct as_owner
as_owner_begin(uid_t uid, gid_t gid)
{
	if (geteuid() != 0 || uid == 0)
		return (struct as_owner){false};
	if (setgroups(0, NULL) < 0)
		abort();
	setfsgid(gid);
	setfsuid(uid);
	/* setfsuid() reports no error: asking again with an impossible id tells what holds now. */
	if (setfsuid((uid_t)-1) != (int)uid || setfsgid((gid_t)-1) != (int)gid)
		abort();
	return (struct as_owner){true};
}

void
as_owner_end(struct as_owner *as)
{
	if (!as->active)
		return;
	as->active = false;
	setfsuid(geteuid());
	setfsgid(getegid());
	if (setgroups(n_own_groups, own_groups) < 0)
		abort();
}
