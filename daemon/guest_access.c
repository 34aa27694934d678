/* Who may do what to a guest: the rule of access.h with its owner, its shares and its lease. */
#include "daemon/guest_impl.h"

#include <stdio.h>
#include <string.h>

#include "daemon/users.h"

/* Of the names that a guest is shared with, so many bytes are told in a denial. */
#define SHARES_TOLD_MAX 200

/* Whether "anna", "1003", "@storage" or "@2001" of guest.json means @peer. */
static bool
means(const char *share, const struct peer *peer)
{
	bool group = share[0] == '@';
	const char *name = group ? share + 1 : share;
	unsigned id;

	/* No local user or group has a name of digits alone: such a one is an id. */
	if (!id_parse(name, &id) && !(group ? group_id(name, &id) : user_id(name, &id)))
		return false;
	return group ? peer_in_group(peer, id) : peer->uid == id;
}

bool
guest_shared_with(const struct guest *guest, const struct peer *peer)
{
	char **shares = guest->conf.share.items;

	for (size_t i = 0; i < guest->conf.share.n; i++)
		if (means(shares[i], peer))
			return true;
	return false;
}

enum access
guest_access(const struct guest *guest, const struct peer *peer)
{
	return access_level(&guest->sv->rule, peer, guest->uid, guest_shared_with(guest, peer));
}

/* "those it is shared with (bob, @storage)", or "" */
static const char *
shared_words(const struct guest *guest, char *buf, size_t size)
{
	char **shares = guest->conf.share.items;
	size_t at;

	buf[0] = '\0';
	if (guest->conf.share.n == 0)
		return buf;
	at = (size_t)snprintf(buf, size, ", those it is shared with (");
	for (size_t i = 0; i < guest->conf.share.n && at < size; i++) {
		if (at + strlen(shares[i]) > SHARES_TOLD_MAX) {
			at += (size_t)snprintf(buf + at, size - at, ", …");
			break;
		}
		at += (size_t)snprintf(buf + at, size - at, "%s%s", i ? ", " : "", shares[i]);
	}
	if (at < size)
		snprintf(buf + at, size - at, ")");
	return buf;
}

/* Who may, in words. Always returns -1. */
static int
denied(const struct guest *guest, const struct peer *peer, enum access need, const char *what,
	struct cij_error *err)
{
	const char *owner = user_name(guest->uid);
	char shared[SHARES_TOLD_MAX + 64], uid[32];

	snprintf(uid, sizeof(uid), "uid %u", (unsigned)guest->uid);
	cij_error_set(err, CIJ_E_DENIED, "you may not %s '%s': its owner (%s)%s and admins may",
		what, guest->name, owner ? owner : uid,
		need == ACCESS_OWN ? "" : shared_words(guest, shared, sizeof(shared)));
	if (peer->view_only)
		return access_view_only_hint(err);
	if (need == ACCESS_OWN)
		return -1;
	return cij_error_hint(
		err, "its owner can let you in: 'cijqemuctl share %s --add NAME'", guest->name);
}

int
guest_allow(const struct guest *guest, const struct peer *peer, enum access need, const char *what,
	struct cij_error *err)
{
	if (guest_access(guest, peer) < need)
		return denied(guest, peer, need, what, err);
	return 0;
}
