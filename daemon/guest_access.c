/* Who may do what to a guest: the rule of access.h with its owner, its shares and its lease. */
#include "daemon/guest_impl.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "daemon/users.h"

/* Of the names that a guest is shared with, so many bytes are told in a denial. */
#define SHARES_TOLD_MAX 200

/*
 * Whether "anna", "1003", "@storage" or "@2001" of guest.json means @peer. *@asked is set where the
 * name service has not said yet who that is.
 */
static bool
means(struct names *names, const char *share, const struct peer *peer, bool *asked)
{
	bool group = share[0] == '@';
	const char *name = group ? share + 1 : share;
	unsigned id;

	/* No local user or group has a name of digits alone: such a one is an id. */
	if (!id_parse(name, &id) && !(group ? group_id(name, &id) : user_id(name, &id))) {
		enum name_answer answer = names_lookup(names, share, &id);

		*asked |= answer == NAME_ASKED;
		if (answer != NAME_IS)
			return false;
	}
	return group ? peer_in_group(peer, id) : peer->uid == id;
}

/*
 * What runs keeps its definition, but not those it is shared with: somebody shut out is out at
 * once, by hand or by 'share'. A guest.json that cannot be read changes nothing.
 */
static void
refresh_shares(struct guest *guest)
{
	_cleanup_problems_ struct cij_problems problems = {0};
	_cleanup_json_ struct json_object *json = NULL;
	struct guest_conf conf;
	struct cij_error err;
	struct stat st = {0};

	if (guest->state == GS_STOPPED || guest->state == GS_BROKEN || guest->dir_fd < 0)
		return;
	{
		_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest->uid, guest->gid);

		if (fstatat(guest->dir_fd, "guest.json", &st, AT_SYMLINK_NOFOLLOW) < 0)
			st = (struct stat){0};
	}
	if (memcmp(&st.st_mtim, &guest->share_st.st_mtim, sizeof(st.st_mtim)) == 0 &&
		st.st_ino == guest->share_st.st_ino && st.st_size == guest->share_st.st_size)
		return;
	guest->share_st = st;
	json = guest_config_read(guest, &err);
	if (err.class == CIJ_E_NONE && guest_conf_decode(&conf, json, &problems) == 0) {
		struct cij_list was = guest->conf.share;

		guest->conf.share = conf.share;
		conf.share = was;
		guest_conf_clear(&conf);
		guest_review_access(guest);
	} else if (err.class == CIJ_E_NONE) {
		guest_conf_clear(&conf);
	}
}

/*
 * Whether guest.json says that it is shared with @peer. *@asked: not as far as is known yet, but
 * the name service is being asked.
 */
static bool
shared_with(const struct guest *guest, const struct peer *peer, bool *asked)
{
	char **shares = guest->conf.share.items;

	*asked = false;
	for (size_t i = 0; i < guest->conf.share.n; i++)
		if (means(guest->sv->names, shares[i], peer, asked)) {
			*asked = false;
			return true;
		}
	return false;
}

enum access
guest_access(struct guest *guest, const struct peer *peer)
{
	enum access alone = access_level(&guest->sv->rule, peer, guest->uid, false);
	bool asked;

	/* Owners and admins need no share, and who may only look has no use for one. */
	if (alone == ACCESS_OWN || peer->view_only)
		return alone;
	refresh_shares(guest);
	return access_level(&guest->sv->rule, peer, guest->uid, shared_with(guest, peer, &asked));
}

bool
guest_access_is_open(struct guest *guest, const struct peer *peer, enum access need)
{
	bool asked;

	return need == ACCESS_OPERATE && guest_access(guest, peer) < need && !peer->view_only &&
	       !shared_with(guest, peer, &asked) && asked;
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
guest_allow_despite_lease(struct guest *guest, const struct peer *peer, enum access need,
	const char *what, struct cij_error *err)
{
	return guest_access(guest, peer) < need ? denied(guest, peer, need, what, err) : 0;
}

static int
check_lease(const struct guest *guest, const struct peer *peer, struct cij_error *err)
{
	return lease_check(
		guest->sv->leases, guest->name, peer, access_is_admin(&guest->sv->rule, peer), err);
}

enum access
guest_access_now(struct guest *guest, const struct peer *peer)
{
	return guest_access_of_client(guest, peer, NULL);
}

enum access
guest_access_of_client(void *arg, const struct peer *peer, struct cij_error *why)
{
	struct guest *guest = arg;
	enum access access = guest_access(guest, peer);

	return access > ACCESS_VIEW && check_lease(guest, peer, why) < 0 ? ACCESS_VIEW : access;
}

static bool
may_type(void *arg, const struct peer *peer)
{
	return guest_access_now(arg, peer) >= ACCESS_OPERATE;
}

void
guest_review_access(struct guest *guest)
{
	if (guest->console)
		console_review(guest->console, may_type, guest);
}

struct json_object *
guest_monitor_clients(const struct guest *guest)
{
	return monitor_clients_to_json(guest->monitor);
}

struct json_object *
guest_lease_view(const struct guest *guest)
{
	return lease_view(guest->sv->leases, guest->name);
}

int
guest_allow(struct guest *guest, const struct peer *peer, enum access need, const char *what,
	struct cij_error *err)
{
	if (guest_allow_despite_lease(guest, peer, need, what, err) < 0)
		return -1;
	return need > ACCESS_VIEW ? check_lease(guest, peer, err) : 0;
}
