#include "daemon/admission.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>

#include "cijqemu/cleanup.h"
#include "daemon/fileio.h"
#include "daemon/strv.h"
#include "daemon/users.h"
#include "proto/text.h"

/* Users who are named in a refusal, those who use most first. */
#define USERS_TOLD 3

/* Blocks of st_blocks. */
#define BLOCK 512

struct running {
	LIST_ENTRY(running) link;
	const void *guest; /* weak; never looked into */
	char *name;
	uid_t uid;
	int64_t memory;
};

struct admission {
	const struct daemon_conf *conf; /* weak */
	struct host_room host;
	LIST_HEAD(, running) running;
	size_t n; /* of them */
};

/* What each user has, in a growing array. */
struct usage {
	struct share {
		uid_t uid;
		int64_t bytes;
		size_t guests;
	} * users;
	size_t n;
	int64_t total;
};

static void
usage_clear(struct usage *usage)
{
	free(usage->users);
}
#define _cleanup_usage_ _cleanup_(usage_clear)

static void
usage_add(struct usage *usage, uid_t uid, int64_t bytes)
{
	size_t i = 0;

	while (i < usage->n && usage->users[i].uid != uid)
		i++;
	if (i == usage->n) {
		usage->users = realloc(usage->users, (i + 1) * sizeof(*usage->users));
		if (!usage->users)
			abort();
		usage->users[usage->n++] = (struct share){.uid = uid};
	}
	usage->users[i].bytes += bytes;
	usage->users[i].guests++;
	usage->total += bytes;
}

static int
by_bytes(const void *a, const void *b)
{
	const struct share *one = a, *two = b;

	return one->bytes < two->bytes ? 1 : one->bytes > two->bytes ? -1 : 0;
}

static const char *
who(uid_t uid, char *buf, size_t size)
{
	const char *name = user_name(uid);

	if (name)
		snprintf(buf, size, "%s", name);
	else
		snprintf(buf, size, "uid %u", (unsigned)uid);
	return buf;
}

/* ": anna 12G in 3 guests, bob 8G in 1", or "" */
static const char *
usage_words(struct usage *usage, char *buf, size_t size)
{
	char name[80], bytes[24];
	size_t at = 0;

	buf[0] = '\0';
	if (usage->n)
		qsort(usage->users, usage->n, sizeof(*usage->users), by_bytes);
	for (size_t i = 0; i < usage->n && i < USERS_TOLD && at < size; i++) {
		const struct share *share = &usage->users[i];

		at += (size_t)snprintf(buf + at, size - at, "%s%s %s in %zu guest%s",
			i ? ", " : ": ", who(share->uid, name, sizeof(name)),
			cij_size_human(share->bytes, bytes, sizeof(bytes)), share->guests,
			share->guests == 1 ? "" : "s");
	}
	if (usage->n > USERS_TOLD && at < size)
		snprintf(buf + at, size - at, ", %zu more users", usage->n - USERS_TOLD);
	return buf;
}

struct admission *
admission_new(const struct daemon_conf *conf, const struct host_room *host)
{
	struct admission *admission = calloc(1, sizeof(*admission));
	struct sysinfo info;

	if (!admission)
		abort();
	admission->conf = conf;
	if (host)
		admission->host = *host;
	else if (sysinfo(&info) == 0)
		admission->host.memory = (int64_t)info.totalram * info.mem_unit;
	return admission;
}

void
admission_leave(struct admission *admission, const void *guest)
{
	struct running *running;

	LIST_FOREACH (running, &admission->running, link)
		if (running->guest == guest)
			break;
	if (!running)
		return;
	LIST_REMOVE(running, link);
	admission->n--;
	free(running->name);
	free(running);
}

void
admission_free(struct admission *admission)
{
	if (!admission)
		return;
	while (!LIST_EMPTY(&admission->running))
		admission_leave(admission, LIST_FIRST(&admission->running)->guest);
	free(admission);
}

void
admission_enter(
	struct admission *admission, const void *guest, const char *name, uid_t uid, int64_t memory)
{
	struct running *running = calloc(1, sizeof(*running));

	if (!running)
		abort();
	*running = (struct running){
		.guest = guest, .name = str_copy(name), .uid = uid, .memory = memory};
	LIST_INSERT_HEAD(&admission->running, running, link);
	admission->n++;
}

size_t
admission_guests(const struct admission *admission)
{
	return admission->n;
}

/* The bytes that @q means of @whole; in words, "20.7G (90% of 23G)". */
static int64_t
amount(const struct quantity *q, int64_t whole, char *words, size_t size)
{
	int64_t bytes = q->percent ? (int64_t)((double)whole * (double)q->n / 100) : q->n;
	char human[24], of[24];

	cij_size_human(bytes, human, sizeof(human));
	if (q->percent)
		snprintf(words, size, "%s (%lld%% of %s)", human, (long long)q->n,
			cij_size_human(whole, of, sizeof(of)));
	else
		snprintf(words, size, "%s", human);
	return bytes;
}

static int
check_memory(
	const struct admission *admission, const char *name, int64_t memory, struct cij_error *err)
{
	_cleanup_usage_ struct usage usage = {0};
	const struct running *running;
	char limit_words[80], words[400], needs[24], taken[24];
	int64_t limit = amount(&admission->conf->memory_limit, admission->host.memory, limit_words,
		sizeof(limit_words));

	LIST_FOREACH (running, &admission->running, link)
		usage_add(&usage, running->uid, running->memory);
	if (admission->host.memory == 0 || usage.total + memory <= limit)
		return 0;
	cij_error_set(err, CIJ_E_NO_RESOURCES,
		"no memory for guest '%s': it needs %s, and of the %s for guests %s are taken%s",
		name, cij_size_human(memory, needs, sizeof(needs)), limit_words,
		usage.total ? cij_size_human(usage.total, taken, sizeof(taken)) : "none",
		usage_words(&usage, words, sizeof(words)));
	return cij_error_hint(err,
		"stop a guest that is not needed, or 'cijqemuctl set %s memory=…' gives it less",
		name);
}

/* The blocks of the files right in the folder @fd; nothing is opened, no link followed. */
static int64_t
folder_bytes(int fd)
{
	_cleanup_closedir_ DIR *dir = NULL;
	int own = fd < 0 ? -1 : dir_open_at(fd, ".");
	struct dirent *entry;
	int64_t bytes = 0;
	struct stat st;

	dir = own < 0 ? NULL : fdopendir(own);
	if (!dir && own >= 0)
		close(own);
	while (dir && (entry = readdir(dir)))
		if (fstatat(own, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			S_ISREG(st.st_mode))
			bytes += (int64_t)st.st_blocks * BLOCK;
	return bytes;
}

static void
measure_guests(int guests_fd, struct usage *usage)
{
	_cleanup_closedir_ DIR *dir = NULL;
	int fd = dir_open_at(guests_fd, ".");
	struct dirent *entry;

	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(dir))) {
		_cleanup_close_ int folder = -1, logs = -1;
		struct stat st;

		if (cij_guest_name_check(entry->d_name, NULL) < 0 ||
			(folder = dir_open_at(guests_fd, entry->d_name)) < 0 ||
			fstat(folder, &st) < 0)
			continue;
		logs = dir_open_at(folder, "logs");
		usage_add(usage, st.st_uid, folder_bytes(folder) + folder_bytes(logs));
	}
}

static int
check_disk(const struct admission *admission, const char *name, int dir_fd, int guests_fd,
	struct cij_error *err)
{
	_cleanup_usage_ struct usage usage = {0};
	char reserve_words[80], words[400], free_words[24];
	struct statvfs fs;
	int64_t left, reserve;

	if (fstatvfs(dir_fd, &fs) < 0)
		return 0;
	left = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
	reserve = amount(&admission->conf->disk_reserve,
		(int64_t)fs.f_blocks * (int64_t)fs.f_frsize, reserve_words, sizeof(reserve_words));
	if (left >= reserve)
		return 0;
	measure_guests(guests_fd, &usage);
	cij_error_set(err, CIJ_E_NO_RESOURCES,
		"no disk for guest '%s': %s are free where its folder is, and %s must stay so%s",
		name, left ? cij_size_human(left, free_words, sizeof(free_words)) : "0 bytes",
		reserve_words, usage_words(&usage, words, sizeof(words)));
	return cij_error_hint(
		err, "make room: 'cijqemuctl delete' of what is not needed, old drives, old logs");
}

static int
check_user(const struct admission *admission, const char *name, uid_t uid, int64_t memory,
	struct cij_error *err)
{
	const struct daemon_conf *conf = admission->conf;
	const struct running *running;
	int64_t guests = 0, bytes = 0;
	char user[80], names[300] = "", needs[24], has[24], most[24];

	if (uid == 0) /* who set the limits */
		return 0;
	LIST_FOREACH (running, &admission->running, link) {
		size_t at = strlen(names);

		if (running->uid != uid)
			continue;
		snprintf(names + at, sizeof(names) - at, "%s'%s'", at ? ", " : "", running->name);
		guests++;
		bytes += running->memory;
	}
	who(uid, user, sizeof(user));
	if (conf->user_guests && guests >= conf->user_guests)
		cij_error_set(err, CIJ_E_NO_RESOURCES,
			"%s has %lld guest%s running already, as many as one user may have: %s",
			user, (long long)guests, guests == 1 ? "" : "s", names);
	else if (conf->user_memory && bytes + memory > conf->user_memory)
		cij_error_set(err, CIJ_E_NO_RESOURCES,
			"guest '%s' needs %s, and of the %s that one user may have %s has %s in "
			"use%s%s",
			name, cij_size_human(memory, needs, sizeof(needs)),
			cij_size_human(conf->user_memory, most, sizeof(most)), user,
			bytes ? cij_size_human(bytes, has, sizeof(has)) : "none",
			*names ? ": " : "", names);
	else
		return 0;
	return cij_error_hint(err, "stop one of them, or ask an admin for more");
}

int
admission_check(const struct admission *admission, const char *name, uid_t uid, int64_t memory,
	int dir_fd, int guests_fd, struct cij_error *err)
{
	if (check_user(admission, name, uid, memory, err) < 0 ||
		check_memory(admission, name, memory, err) < 0)
		return -1;
	return check_disk(admission, name, dir_fd, guests_fd, err);
}

void
admission_room(const struct admission *admission, int dir_fd, struct admission_room *room)
{
	const struct running *running;
	struct statvfs fs;
	char words[80];

	*room = (struct admission_room){.memory = admission->host.memory};
	room->memory_limit = amount(
		&admission->conf->memory_limit, admission->host.memory, words, sizeof(words));
	LIST_FOREACH (running, &admission->running, link)
		room->memory_taken += running->memory;
	if (fstatvfs(dir_fd, &fs) < 0)
		return;
	room->disk = (int64_t)fs.f_blocks * (int64_t)fs.f_frsize;
	room->disk_free = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
	room->disk_reserve = amount(
		&admission->conf->disk_reserve, room->disk, words, sizeof(words));
	room->inodes = (int64_t)fs.f_files;
	room->inodes_free = (int64_t)fs.f_favail;
}
