#include "daemon/registry_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cijqemu/protocol.h"
#include "daemon/log.h"
#include "proto/text.h"

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

void
registry_drop(struct registry *registry, struct guest *guest)
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
			registry_drop(registry, registry->guests[i]);
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
	/* Strays that were none go, the others are told to have no folder. */
	registry_scan(registry);
	registry_clear_away(registry);
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
