#include "daemon/registry.h"

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
#include "proto/text.h"

struct registry {
	const struct services *sv; /* weak */
	struct guest **guests; /* by name */
	size_t n;
	unsigned scans;
	bool strays; /* guests without a folder were looked for */
	bool ready; /* what runs was taken back */
	bool closed; /* there are no guests any more */
	size_t adopting;
	void (*adopted)(void *arg);
	void *adopted_arg; /* weak */
};

struct registry *
registry_new(const struct services *services)
{
	struct registry *registry = calloc(1, sizeof(*registry));

	if (!registry)
		abort();
	registry->sv = services;
	return registry;
}

void
registry_close(struct registry *registry)
{
	struct guest **guests;
	size_t n;

	if (!registry)
		return;
	/* A guest that goes answers who waits for it, and they may look at all guests. */
	guests = steal_ptr(registry->guests);
	n = registry->n;
	registry->n = 0;
	registry->closed = true;
	for (size_t i = 0; i < n; i++)
		guest_leave(guests[i]);
	free(guests);
}

void
registry_free(struct registry *registry)
{
	registry_close(registry);
	free(registry);
}

const struct services *
registry_services(const struct registry *registry)
{
	return registry->sv;
}

/* Where @name stands, or would stand. */
static size_t
position(const struct registry *registry, const char *name, bool *there)
{
	size_t low = 0, high = registry->n;

	*there = false;
	while (low < high) {
		size_t mid = (low + high) / 2;
		int order = strcmp(guest_name(registry->guests[mid]), name);

		if (order == 0) {
			*there = true;
			return mid;
		}
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct guest *
lookup(const struct registry *registry, const char *name)
{
	bool there;
	size_t at = position(registry, name, &there);

	return there ? registry->guests[at] : NULL;
}

static void
insert(struct registry *registry, struct guest *guest)
{
	bool there;
	size_t at = position(registry, guest_name(guest), &there);

	registry->guests = realloc(registry->guests, (registry->n + 1) * sizeof(*registry->guests));
	if (!registry->guests)
		abort();
	memmove(registry->guests + at + 1, registry->guests + at,
		(registry->n - at) * sizeof(*registry->guests));
	registry->guests[at] = guest;
	registry->n++;
}

static void
take_out(struct registry *registry, const struct guest *guest)
{
	bool there;
	size_t at = position(registry, guest_name(guest), &there);

	registry->n--;
	memmove(registry->guests + at, registry->guests + at + 1,
		(registry->n - at) * sizeof(*registry->guests));
}

static void
drop(struct registry *registry, struct guest *guest)
{
	lease_forget(registry->sv->leases, guest_name(guest));
	take_out(registry, guest);
	guest_free(guest);
}

/* A folder (or a link, to be shown as broken) whose name can be a guest's. */
static bool
is_candidate(const struct registry *registry, const struct dirent *entry)
{
	struct stat st;

	if (cij_guest_name_check(entry->d_name, NULL) < 0)
		return false;
	if (entry->d_type != DT_UNKNOWN)
		return entry->d_type == DT_DIR || entry->d_type == DT_LNK;
	return fstatat(registry->sv->guests_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       (S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode));
}

/* A folder that no guest has yet. */
struct newcomer {
	char name[CIJ_GUEST_NAME_MAX + 1];
	ino_t inode;
};

struct newcomers {
	struct newcomer *items;
	size_t n;
};

static void
free_newcomers(struct newcomers *list)
{
	free(list->items);
}

/* Marks the guests whose folders are there, and collects the folders of none. */
static void
look_through(struct registry *registry, DIR *dir, struct newcomers *list)
{
	struct dirent *entry;

	while ((entry = readdir(dir))) {
		struct guest *guest;

		if (!is_candidate(registry, entry))
			continue;
		guest = lookup(registry, entry->d_name);
		if (guest) {
			guest_seen(guest, registry->scans, entry->d_ino);
			continue;
		}
		list->items = realloc(list->items, (list->n + 1) * sizeof(*list->items));
		if (!list->items)
			abort();
		snprintf(list->items[list->n].name, sizeof(list->items[0].name), "%.63s",
			entry->d_name);
		list->items[list->n++].inode = entry->d_ino;
	}
}

/* The guest that runs in that folder, which had another name when it was started. */
static struct guest *
find_moved(struct registry *registry, const struct newcomer *newcomer)
{
	struct stat st;

	for (size_t i = 0; i < registry->n; i++) {
		struct guest *guest = registry->guests[i];

		if (!guest_is_missing(guest, registry->scans) || guest_dir(guest) < 0 ||
			guest_inode(guest) != newcomer->inode)
			continue;
		if (fstatat(registry->sv->guests_fd, newcomer->name, &st, AT_SYMLINK_NOFOLLOW) ==
				0 &&
			st.st_ino == guest_inode(guest))
			return guest;
	}
	return NULL;
}

static void
do_nothing(void *arg)
{
}

static void
welcome(struct registry *registry, const struct newcomer *newcomer, bool some_missing)
{
	struct guest *guest = some_missing ? find_moved(registry, newcomer) : NULL;

	if (guest) {
		take_out(registry, guest);
		guest_rename(guest, newcomer->name);
		guest_seen(guest, registry->scans, newcomer->inode);
		insert(registry, guest);
		return;
	}
	guest = guest_new(registry->sv, newcomer->name);
	insert(registry, guest);
	/* It may have come with its QEMU: a file system that was mounted late. */
	if (registry->ready && guest_refresh(guest))
		guest_adopt(guest, do_nothing, NULL);
}

void
registry_scan(struct registry *registry)
{
	_cleanup_(free_newcomers)
	struct newcomers newcomers = {0};
	_cleanup_closedir_ DIR *dir = NULL;
	int fd = openat(registry->sv->guests_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool some_missing = false;

	if (registry->closed) {
		if (fd >= 0)
			close(fd);
		return;
	}
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		log_error("cannot read '%s': %s", registry->sv->conf->guests_dir, strerror(errno));
		if (fd >= 0)
			close(fd);
		return;
	}
	registry->scans++;
	look_through(registry, dir, &newcomers);
	for (size_t i = 0; i < registry->n && !some_missing; i++)
		some_missing = guest_is_missing(registry->guests[i], registry->scans);
	for (size_t i = 0; i < newcomers.n; i++)
		welcome(registry, &newcomers.items[i], some_missing);
	for (size_t i = registry->n; i-- > 0;) {
		guest_set_folder_gone(registry->guests[i],
			guest_is_missing(registry->guests[i], registry->scans));
		if (!guest_refresh(registry->guests[i]))
			drop(registry, registry->guests[i]);
		/* Who hears that a guest is gone may have looked through the folders, too. */
		if (i > registry->n)
			i = registry->n;
	}
}

static void on_adopted(void *arg);

static void
adopt(struct registry *registry, struct guest *guest)
{
	registry->adopting++;
	guest_adopt(guest, on_adopted, registry);
}

/*
 * Sockets of guests whose folders are gone: their QEMUs may run on all the same. After all others,
 * since a folder that was renamed takes its sockets along.
 */
static void
adopt_strays(struct registry *registry)
{
	_cleanup_closedir_ DIR *dir = NULL;
	struct dirent *entry;
	int fd = openat(registry->sv->run_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir && fd >= 0)
		close(fd);
	while (dir && (entry = readdir(dir))) {
		struct guest *guest;

		if (cij_guest_name_check(entry->d_name, NULL) < 0 ||
			lookup(registry, entry->d_name))
			continue;
		guest = guest_new(registry->sv, entry->d_name);
		guest_refresh(guest); /* says that the folder is gone */
		insert(registry, guest);
		adopt(registry, guest);
	}
}

static void
on_adopted(void *arg)
{
	struct registry *registry = arg;

	if (--registry->adopting > 0)
		return;
	if (!registry->strays) {
		registry->strays = true;
		registry->adopting = 1;
		adopt_strays(registry);
		on_adopted(registry);
		return;
	}
	registry->ready = true;
	registry_scan(
		registry); /* strays that were none go, the others are told to have no folder */
	registry->adopted(registry->adopted_arg);
}

void
registry_adopt(struct registry *registry, void (*done)(void *arg), void *arg)
{
	registry->adopted = done;
	registry->adopted_arg = arg;
	registry->adopting = 1; /* ours: until all have been asked */
	for (size_t i = 0; i < registry->n; i++)
		adopt(registry, registry->guests[i]);
	on_adopted(registry);
}

struct names {
	const struct registry *registry;
	size_t next;
};

static const char *
next_name(void *arg)
{
	struct names *names = arg;

	if (names->next == names->registry->n)
		return NULL;
	return guest_name(names->registry->guests[names->next++]);
}

struct guest *
registry_find(struct registry *registry, const char *name, struct cij_error *err)
{
	struct names names = {registry, 0};
	struct guest *guest;
	const char *near;

	if (cij_guest_name_check(name, err) < 0)
		return NULL;
	guest = lookup(registry, name);
	if (guest && guest_refresh(guest))
		return guest;
	registry_scan(registry);
	guest = lookup(registry, name);
	if (guest)
		return guest;
	cij_error_set(err, CIJ_E_GUEST_NOT_FOUND, "no guest '%s' under %s", name,
		registry->sv->conf->guests_dir);
	near = cij_nearest(name, next_name, &names);
	if (near)
		cij_error_hint(err, "did you mean '%s'?", near);
	return NULL;
}

void
registry_each(struct registry *registry, void (*fn)(void *arg, struct guest *guest), void *arg)
{
	for (size_t i = 0; i < registry->n; i++)
		fn(arg, registry->guests[i]);
}

struct registry_counts
registry_count(const struct registry *registry)
{
	struct registry_counts counts = {.total = registry->n};

	for (size_t i = 0; i < registry->n; i++) {
		enum gstate state = guest_state(registry->guests[i]);

		counts.running += state != GS_STOPPED && state != GS_BROKEN;
	}
	return counts;
}

/* A name beside the guests' that nobody can have taken on purpose. */
static char *
hidden_name(const char *name, const char *what)
{
	uint64_t number = 0;

	if (getrandom(&number, sizeof(number), 0) < 0)
		number = (uint64_t)getpid();
	return str_printf(".%s.%016llx.%s", name, (unsigned long long)number, what);
}

/*
 * Removes the folder @hidden with all that is in it. What its owner put there is removed with the
 * owner's rights; the empty folder is ours to remove.
 */
static int
remove_folder(const struct registry *registry, const char *hidden, uid_t uid, gid_t gid)
{
	_cleanup_close_ int fd = dir_open_at(registry->sv->guests_fd, hidden);

	if (fd < 0) /* a link in a folder's place */
		return unlinkat(registry->sv->guests_fd, hidden, 0);
	{
		_cleanup_as_owner_ struct as_owner as = as_owner_begin(uid, gid);

		fchmod(fd, 0700);
		if (dir_clear(fd) < 0)
			return -1;
	}
	return unlinkat(registry->sv->guests_fd, hidden, AT_REMOVEDIR);
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
	if (make_folder(registry, hidden, owner, config, err) < 0) {
		remove_folder(registry, hidden, owner->uid, owner->gid);
		return NULL;
	}
	/* Never over a folder that came into being meanwhile. */
	if (renameat2(guests, hidden, guests, name, RENAME_NOREPLACE) < 0) {
		cij_error_errno(err, CIJ_E_GUEST_EXISTS, errno, "guest '%s'", name);
		remove_folder(registry, hidden, owner->uid, owner->gid);
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
registry_delete(struct registry *registry, struct guest *guest, struct cij_error *err)
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
	drop(registry, guest);
	if (remove_folder(registry, hidden, uid, gid) < 0)
		return cij_error_errno(err, CIJ_E_INTERNAL, errno,
			"guest '%s' is gone, but what is in '%s/%s' is not all its owner's to "
			"remove",
			name, registry->sv->conf->guests_dir, hidden);
	log_notice("guest '%s': deleted", name);
	return 0;
}
