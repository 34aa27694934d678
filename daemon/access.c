#include "daemon/access.h"

bool
access_is_admin(const struct access_rule *rule, const struct peer *peer)
{
	if (peer->view_only)
		return false;
	return peer->uid == 0 || peer->uid == rule->daemon_uid ||
	       (rule->admin_gid != (gid_t)-1 && peer_in_group(peer, rule->admin_gid));
}

enum access
access_level(const struct access_rule *rule, const struct peer *peer, uid_t owner, bool shared)
{
	if (peer->view_only)
		return ACCESS_VIEW;
	if (peer->uid == owner || access_is_admin(rule, peer))
		return ACCESS_OWN;
	return shared ? ACCESS_OPERATE : ACCESS_VIEW;
}

int
access_view_only_hint(struct cij_error *err)
{
	return cij_error_hint(err, "you came by the read-only socket: ask an admin to add you to "
				   "group cijqemu, then log in again");
}

const char *
access_name(enum access access)
{
	switch (access) {
	case ACCESS_VIEW:
		return "view";
	case ACCESS_OPERATE:
		return "operate";
	case ACCESS_OWN:
		return "own";
	case ACCESS_ADMIN:
		return "admin";
	}
	return "none";
}
