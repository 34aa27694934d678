/* The folders of guests: made, and removed with all that is in them. */
#include "daemon/registry_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cijqemu/protocol.h"
#include "daemon/as_owner.h"
#include "daemon/fileio.h"
#include "daemon/log.h"
#include "daemon/removal.h"
#include "daemon/users.h"
#include "proto/json.h"
#include "proto/text.h"

/* Of the number in a hidden name. */
#define HIDDEN_DIGITS 16

/* A name beside the guests' that nobody can have taken on purpose. */
static char *
hidden_name(const char *name, const char *what)
{
	uint64_t number = 0;

	if (getrandom(&number, sizeof(number), 0) < 0)
		number = (uint64_t)getpid();
	return str_printf(".%s.%0*llx.%s", name, HIDDEN_DIGITS, (unsigned long long)number, what);
}

/*
 * Whether nobody but us and its owner can have given a folder its name: then one that looks like a
 * deleted guest's is one.
 */
static bool
names_are_ours(const struct registry *registry)
{
	struct stat st;

	return fstat(registry->sv->guests_fd, &st) == 0 &&
	       (st.st_uid == 0 || st.st_uid == geteuid()) &&
	       (!(st.st_mode & 0022) || (st.st_mode & S_ISVTX));
}

/* One deletion, told of to whoever asked for it. */
struct deletion {
	struct registry *registry; /* weak */
	char *guest, *hidden;
	registry_deleted_fn *done; /* NULL: nobody waits */
	void *arg; /* weak */
};

static void
on_removing(void *arg, long long gone)
{
	struct deletion *deletion = arg;
	struct json_object *data = json_object_new_object();
	_cleanup_free_ char *text = str_printf("%lld of its files and folders are gone", gone);

	cij_json_add_str(data, "guest", deletion->guest);
	cij_json_add_str(data, "phase", "deleting");
	cij_json_add_str(data, "text", text);
	notify_send(deletion->registry->sv->notify, "PROGRESS", deletion->guest, data);
}

static void
on_removed(void *arg, const struct cij_error *why)
{
	struct deletion *deletion = arg;
	const char *folder = deletion->registry->sv->conf->guests_dir;
	struct cij_error err;

	if (why) {
		cij_error_set(&err, why->class,
			"guest '%s' is gone, but files of it are left in '%s/%s': %s",
			deletion->guest, folder, deletion->hidden, why->desc);
		cij_error_hint(&err, "%s",
			names_are_ours(deletion->registry)
				? "the daemon tries again when it is started next"
				: "remove them as root");
	}
	if (deletion->done)
		deletion->done(deletion->arg, why ? &err : NULL);
	else if (why)
		log_warn("%s", err.desc);
	free(deletion->guest);
	free(deletion->hidden);
	free(deletion);
}

/* Removes what the folder @hidden of guest @name holds, as @uid, and the folder. */
static void
remove_folder(struct registry *registry, const char *name, const char *hidden, uid_t uid, gid_t gid,
	registry_deleted_fn *done, void *arg)
{
	static const struct removal_ops ops = {on_removing, on_removed};
	struct deletion *deletion = calloc(1, sizeof(*deletion));

	if (!deletion)
		abort();
	*deletion = (struct deletion){registry, str_copy(name), str_copy(hidden), done, arg};
	removals_add(registry->sv->removals, hidden, uid, gid, &ops, deletion);
}

/* Opens the folder that was made a moment before, unless another one has taken its place. */
static int
open_new_folder(const struct registry *registry, const char *hidden)
{
	_cleanup_close_ int fd = dir_open_at(registry->sv->guests_fd, hidden);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	if (st.st_uid != geteuid() || !dir_is_empty(fd)) {
		errno = EBUSY;
		return -1;
	}
	return steal_fd(&fd);
}

/* Makes the folder @hidden with guest.json in it, the owner's. */
static int
make_folder(struct registry *registry, const char *hidden, const struct peer *owner,
	struct json_object *config, struct cij_error *err)
{
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *text = NULL;
	int guests = registry->sv->guests_fd;

	if (mkdirat(guests, hidden, 0700) < 0)
		return cij_error_errno(err, CIJ_E_NO_RESOURCES, errno,
			"cannot make a folder in '%s'", registry->sv->conf->guests_dir);
	fd = open_new_folder(registry, hidden);
	text = str_printf("%s\n", json_object_to_json_string_ext(config,
					  JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
						  JSON_C_TO_STRING_NOSLASHESCAPE));
	if (fd < 0 || fchmod(fd, 0755) < 0 ||
		(geteuid() == 0 && fchown(fd, owner->uid, owner->gid) < 0))
		return cij_error_errno(
			err, CIJ_E_NO_RESOURCES, errno, "cannot make the guest's folder");
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(owner->uid, owner->gid);
	if (file_write_at(fd, "guest.json", text, strlen(text), 0644) < 0)
		return cij_error_errno(err, CIJ_E_NO_RESOURCES, errno, "cannot write guest.json");
	return 0;
}

struct guest *
registry_create(struct registry *registry, const char *name, const struct peer *owner,
	struct json_object *config, struct cij_error *err)
{
	_cleanup_free_ char *hidden = hidden_name(name, "new");
	_cleanup_problems_ struct cij_problems problems = {0};
	int guests = registry->sv->guests_fd;
	struct cij_error ignored;
	struct guest_conf conf;
	struct stat st;
	int bad;

	bad = guest_conf_decode(&conf, config, &problems);
	guest_conf_clear(&conf);
	if (bad < 0) {
		cij_problems_to_error(&problems, CIJ_E_BAD_CONFIG, err);
		return NULL;
	}
	if (fstatat(guests, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		cij_error_set(err, CIJ_E_GUEST_EXISTS, "there is a guest '%s' already", name);
		cij_error_hint(err, "'cijqemuctl set %s …' changes it", name);
		return NULL;
	}
	registry_scan(registry); /* one that was renamed has its new name */
	if (registry_find(registry, name, &ignored)) {
		cij_error_set(err, CIJ_E_GUEST_EXISTS,
			"guest '%s' still runs, though its folder was renamed or removed", name);
		cij_error_hint(err, "once it has ended, the name is free");
		return NULL;
	}
	if (make_folder(registry, hidden, owner, config, err) < 0) {
		remove_folder(registry, name, hidden, owner->uid, owner->gid, NULL, NULL);
		return NULL;
	}
	/* Never over a folder that came into being meanwhile. */
	if (renameat2(guests, hidden, guests, name, RENAME_NOREPLACE) < 0) {
		cij_error_errno(err, CIJ_E_GUEST_EXISTS, errno, "guest '%s'", name);
		remove_folder(registry, name, hidden, owner->uid, owner->gid, NULL, NULL);
		return NULL;
	}
	log_notice("guest '%s': created by uid %u", name, (unsigned)owner->uid);
	return registry_find(registry, name, err);
}

/* Whether @hidden is the folder that @guest was seen in. */
static bool
is_folder_of(const struct registry *registry, const char *hidden, const struct guest *guest)
{
	struct stat is, was;

	if (guest_dir(guest) < 0) /* a link, or one that nobody can open */
		return true;
	return fstatat(registry->sv->guests_fd, hidden, &is, AT_SYMLINK_NOFOLLOW) == 0 &&
	       fstat(guest_dir(guest), &was) == 0 && is.st_ino == was.st_ino &&
	       is.st_dev == was.st_dev;
}

int
registry_delete(struct registry *registry, struct guest *guest, registry_deleted_fn *done,
	void *arg, struct cij_error *err)
{
	_cleanup_free_ char *hidden = hidden_name(guest_name(guest), "deleted");
	_cleanup_free_ char *name = str_copy(guest_name(guest));
	int guests = registry->sv->guests_fd;
	enum gstate state = guest_state(guest);
	uid_t uid = guest_uid(guest);
	gid_t gid = guest_gid(guest);

	if (state != GS_STOPPED && state != GS_BROKEN) {
		cij_error_set(
			err, CIJ_E_BUSY, "guest '%s' is %s: not deleted", name, gstate_name(state));
		return cij_error_hint(err, "'cijqemuctl stop %s' first", name);
	}
	/* Out of sight at once; what cannot be removed then is no guest any more. */
	if (renameat(guests, name, guests, hidden) < 0)
		return cij_error_errno(
			err, CIJ_E_NO_RESOURCES, errno, "cannot delete guest '%s'", name);
	if (!is_folder_of(registry, hidden, guest)) {
		renameat2(guests, hidden, guests, name, RENAME_NOREPLACE);
		return cij_error_set(err, CIJ_E_BUSY,
			"guest '%s' has another folder since a moment ago: not deleted", name);
	}
	registry_drop(registry, guest);
	log_notice("guest '%s': deleted", name);
	remove_folder(registry, name, hidden, uid, gid, done, arg);
	return 0;
}

/* Whether it is one of hidden_name()'s; of which guest, goes to @guest. */
static bool
is_hidden_name(const char *hidden, char guest[CIJ_GUEST_NAME_MAX + 1])
{
	static const char *const ends[] = {".deleted", ".new"};
	size_t len = strlen(hidden);

	for (size_t i = 0; i < cij_array_size(ends); i++) {
		size_t tail = 1 + HIDDEN_DIGITS + strlen(ends[i]);
		const char *number = hidden + len - tail;

		if (len < 2 + tail || len > 1 + CIJ_GUEST_NAME_MAX + tail || hidden[0] != '.' ||
			number[0] != '.' ||
			strspn(number + 1, "0123456789abcdef") != HIDDEN_DIGITS ||
			strcmp(number + 1 + HIDDEN_DIGITS, ends[i]) != 0)
			continue;
		snprintf(guest, CIJ_GUEST_NAME_MAX + 1, "%.*s", (int)(len - tail - 1), hidden + 1);
		return cij_guest_name_check(guest, NULL) == 0;
	}
	return false;
}

/* What an earlier daemon, killed in the middle of it, has left half made or half removed. */
static void
clear_away(struct registry *registry, const char *hidden, const char *guest)
{
	int guests = registry->sv->guests_fd;
	struct stat st;

	if (fstatat(guests, hidden, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode) ||
		unlinkat(guests, hidden, AT_REMOVEDIR) == 0)
		return;
	if (!names_are_ours(registry)) {
		log_warn("'%s/%s' may be what is left of guest '%s', deleted before: not removed, "
			 "since others can give such names here",
			registry->sv->conf->guests_dir, hidden, guest);
		return;
	}
	log_notice("guest '%s': removing what is left of it", guest);
	/* Only of use to one without a name: the launcher knows the groups of all others. */
	remove_folder(
		registry, guest, hidden, st.st_uid, st.st_uid ? NO_GROUP : st.st_gid, NULL, NULL);
}

void
registry_clear_away(struct registry *registry)
{
	char guest[CIJ_GUEST_NAME_MAX + 1];
	_cleanup_closedir_ DIR *dir = NULL;
	struct dirent *entry;
	int fd = dir_open_at(registry->sv->guests_fd, ".");

	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir && fd >= 0)
		close(fd);
	while (dir && (entry = readdir(dir)))
		if (is_hidden_name(entry->d_name, guest))
			clear_away(registry, entry->d_name, guest);
}
