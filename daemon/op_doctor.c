/*
 * query-host: the facts of this machine that decide whether guests work here, as the daemon meets
 * them: its own limits, its view of the folders, what guests' owners may do. 'cijqemuctl doctor'
 * judges them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "cijqemu/cleanup.h"
#include "cijqemu/protocol.h"
#include "daemon/as_owner.h"
#include "daemon/op.h"
#include "daemon/users.h"
#include "proto/json.h"

#define KVM_DEVICE "/dev/kvm"

/* Adds "mode" (as "0660"), "uid" and "gid". */
static void
add_mode(struct json_object *obj, const struct stat *st)
{
	char mode[8];

	snprintf(mode, sizeof(mode), "%04o", st->st_mode & 07777);
	cij_json_add_str(obj, "mode", mode);
	cij_json_add_int(obj, "uid", st->st_uid);
	cij_json_add_int(obj, "gid", st->st_gid);
}

/* The number that stands in the file @path of proc(5); -1 where there is none. */
static int64_t
number_in(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[32];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n <= 0)
		return -1;
	text[n] = '\0';
	return strtoll(text, NULL, 10);
}

static struct json_object *
caller_facts(const struct request *request)
{
	const struct services *sv = registry_services(request->registry);
	const struct peer *peer = &request->peer;
	struct json_object *obj = json_object_new_object();
	gid_t gid = (gid_t)-1;
	bool there = group_id(sv->conf->group, &gid);

	cij_json_add_int(obj, "uid", peer->uid);
	cij_json_add_bool(obj, "read_only", peer->view_only);
	cij_json_add_bool(obj, "in_group", there && peer_in_group(peer, gid));
	cij_json_add_bool(obj, "admin", access_is_admin(&sv->rule, peer));
	return obj;
}

static void
add_group(struct json_object *groups, const char *role, const char *name)
{
	struct json_object *obj = json_object_new_object();
	unsigned number;
	gid_t gid;

	cij_json_add_str(obj, "name", name);
	if (group_id(name, &gid) || (id_parse(name, &number) && (gid = number, true)))
		cij_json_add_int(obj, "gid", gid);
	else
		json_object_object_add(obj, "gid", NULL);
	json_object_object_add(groups, role, obj);
}

static struct json_object *
group_facts(const struct daemon_conf *conf)
{
	struct json_object *obj = json_object_new_object();

	add_group(obj, "users", conf->group);
	add_group(obj, "admins", conf->admin_group);
	add_group(obj, "kvm", "kvm");
	return obj;
}

static struct json_object *
kvm_facts(void)
{
	_cleanup_close_ int fd = open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
	int problem = fd < 0 ? errno : 0;
	struct json_object *obj = json_object_new_object();
	struct stat st;

	cij_json_add_bool(obj, "there", stat(KVM_DEVICE, &st) == 0);
	if (cij_json_bool(obj, "there", false))
		add_mode(obj, &st);
	cij_json_add_str(obj, "error", problem ? strerror(problem) : NULL);
	return obj;
}

/* Whether QEMU of the owner @uid may open /dev/kvm: launch.c gives it group kvm where it can. */
static bool
owner_may_use_kvm(uid_t uid)
{
	struct stat st;
	gid_t kvm;

	if (geteuid() != 0)
		return access(KVM_DEVICE, R_OK | W_OK) == 0;
	if (stat(KVM_DEVICE, &st) < 0)
		return false;
	if (uid == 0 || (st.st_mode & 06) == 06 ||
		(st.st_uid == uid && (st.st_mode & 0600) == 0600))
		return true;
	return (st.st_mode & 060) == 060 &&
	       ((group_id("kvm", &kvm) && kvm == st.st_gid) || user_has_group(uid, st.st_gid));
}

static struct json_object *
memory_facts(const struct admission_room *room, int64_t wanted)
{
	struct json_object *obj = json_object_new_object();
	struct sysinfo info;

	cij_json_add_int(obj, "bytes", room->memory);
	cij_json_add_int(obj, "limit", room->memory_limit);
	cij_json_add_int(obj, "taken", room->memory_taken);
	cij_json_add_int(obj, "wanted", wanted);
	if (sysinfo(&info) == 0)
		cij_json_add_int(obj, "swap", (int64_t)info.totalswap * info.mem_unit);
	return obj;
}

static struct json_object *
disk_facts(const struct admission_room *room)
{
	struct json_object *obj = json_object_new_object();

	cij_json_add_int(obj, "bytes", room->disk);
	cij_json_add_int(obj, "free", room->disk_free);
	cij_json_add_int(obj, "reserve", room->disk_reserve);
	cij_json_add_int(obj, "inodes", room->inodes);
	cij_json_add_int(obj, "inodes_free", room->inodes_free);
	return obj;
}

/* Open descriptors of ours, and the watches of those that are inotify's. */
static void
count_descriptors(int64_t *fds, int64_t *watches)
{
	_cleanup_closedir_ DIR *dir = opendir("/proc/self/fdinfo");
	struct dirent *entry;

	*fds = *watches = 0;
	while (dir && (entry = readdir(dir))) {
		char path[300], target[64];
		ssize_t n;

		if (entry->d_name[0] == '.')
			continue;
		++*fds;
		snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
		n = readlink(path, target, sizeof(target) - 1);
		if (n < 0 || (target[n] = '\0', strcmp(target, "anon_inode:inotify") != 0))
			continue;
		_cleanup_free_ char *line = NULL;
		_cleanup_fclose_ FILE *f = NULL;
		size_t size = 0;

		snprintf(path, sizeof(path), "/proc/self/fdinfo/%s", entry->d_name);
		f = fopen(path, "re");
		while (f && getline(&line, &size, f) > 0)
			*watches += strncmp(line, "inotify", 7) == 0;
	}
	if (*fds > 0)
		--*fds; /* the one that this took */
}

static void
add_limits(struct json_object *reply)
{
	struct json_object *fds = json_object_new_object(), *inotify = json_object_new_object();
	struct rlimit limit = {0};
	int64_t open_now, watches;

	count_descriptors(&open_now, &watches);
	getrlimit(RLIMIT_NOFILE, &limit);
	cij_json_add_int(fds, "limit", (int64_t)limit.rlim_max);
	cij_json_add_int(fds, "open", open_now);
	json_object_object_add(reply, "descriptors", fds);
	cij_json_add_int(
		inotify, "max_watches", number_in("/proc/sys/fs/inotify/max_user_watches"));
	cij_json_add_int(
		inotify, "max_instances", number_in("/proc/sys/fs/inotify/max_user_instances"));
	cij_json_add_int(inotify, "watches", watches);
	json_object_object_add(reply, "inotify", inotify);
}

static struct json_object *
guests_dir_facts(const struct services *sv)
{
	_cleanup_free_ char *real = realpath(sv->conf->guests_dir, NULL);
	struct json_object *obj = json_object_new_object();
	struct statvfs fs;
	struct stat st;

	cij_json_add_str(obj, "path", real ? real : sv->conf->guests_dir);
	if (fstat(sv->guests_fd, &st) == 0)
		add_mode(obj, &st);
	cij_json_add_bool(
		obj, "read_only", fstatvfs(sv->guests_fd, &fs) == 0 && fs.f_flag & ST_RDONLY);
	return obj;
}

static struct json_object *
socket_facts(const struct daemon_conf *conf)
{
	static const char *const names[] = {CIJ_SOCKET_NAME, CIJ_SOCKET_RO_NAME};
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < cij_array_size(names); i++) {
		_cleanup_free_ char *path = str_printf("%s/%s", conf->run_dir, names[i]);
		struct json_object *obj = json_object_new_object();
		struct stat st;

		cij_json_add_str(obj, "path", path);
		if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
			add_mode(obj, &st);
		else
			cij_json_add_str(obj, "mode", NULL);
		json_object_array_add(list, obj);
	}
	return list;
}

/* What stands in an owner's way into a guest's folder. */
struct obstacle {
	const char *error; /* NULL: nothing */
	char *at; /* the folder that is closed to them; heap */
};

/* The first folder on the way to @path that does not let us through; heap, NULL: none. */
static char *
closed_folder(const char *path)
{
	_cleanup_free_ char *part = str_copy(path);

	for (char *slash = strchr(part + 1, '/');; slash = strchr(slash + 1, '/')) {
		_cleanup_close_ int fd = -1;

		if (slash)
			*slash = '\0';
		fd = open(part, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 || faccessat(fd, ".", X_OK, AT_EACCESS) < 0)
			return steal_ptr(part);
		if (!slash)
			return NULL;
		*slash = '/';
	}
}

/* As the owner. */
static struct obstacle
owners_obstacle(const struct guest *guest)
{
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest_uid(guest), guest_gid(guest));
	_cleanup_close_ int fd = open(guest_path(guest), O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct obstacle obstacle = {0};

	if (fd >= 0 && faccessat(fd, ".", R_OK | W_OK | X_OK, AT_EACCESS) == 0)
		return obstacle;
	obstacle.error = strerror(errno);
	obstacle.at = closed_folder(guest_path(guest));
	if (!obstacle.at)
		obstacle.at = str_copy(guest_path(guest));
	return obstacle;
}

struct folders {
	struct json_object *list; /* weak */
	int64_t wanted;
};

/* The private key that guest.json names, as a path from anywhere. */
static void
add_key(struct json_object *obj, const struct guest *guest, const char *key)
{
	_cleanup_free_ char *path = NULL;

	if (key)
		path = key[0] == '/' ? str_copy(key) : str_printf("%s/%s", guest_path(guest), key);
	cij_json_add_str(obj, "ssh_key", path);
}

static void
add_folder(void *arg, struct guest *guest)
{
	struct json_object *obj = json_object_new_object();
	struct folders *folders = arg;
	struct guest_status status;
	struct obstacle obstacle = owners_obstacle(guest);
	const struct guest_conf *conf = guest_conf(guest);
	struct stat st;

	guest_status(guest, &status);
	cij_json_add_str(obj, "guest", guest_name(guest));
	cij_json_add_str(obj, "path", guest_path(guest));
	cij_json_add_str(obj, "owner", user_name(guest_uid(guest)));
	if (guest_dir(guest) >= 0 && fstat(guest_dir(guest), &st) == 0)
		add_mode(obj, &st);
	else
		cij_json_add_str(obj, "mode", NULL);
	cij_json_add_str(obj, "error", obstacle.error);
	cij_json_add_str(obj, "closed", obstacle.at);
	cij_json_add_str(obj, "broken", status.broken);
	cij_json_add_bool(obj, "kvm_wanted", conf->accel == ACCEL_KVM);
	cij_json_add_bool(obj, "kvm_allowed", owner_may_use_kvm(guest_uid(guest)));
	add_key(obj, guest, conf->ssh.key);
	if (!status.broken) {
		cij_json_add_int(obj, "memory_bytes", conf->memory);
		folders->wanted += conf->memory;
	}
	json_object_array_add(folders->list, obj);
	free(obstacle.at);
}

static void
query_host(struct request *request)
{
	const struct services *sv = registry_services(request->registry);
	struct json_object *reply = json_object_new_object();
	struct folders folders = {.list = json_object_new_array()};
	struct admission_room room;

	registry_scan(request->registry);
	registry_each(request->registry, add_folder, &folders);
	admission_room(sv->admission, sv->guests_fd, &room);
	cij_json_add_int(reply, "uid", geteuid());
	cij_json_add_int(reply, "pid", getpid());
	cij_json_add_bool(reply, "user_only", sv->conf->user_only || geteuid() != 0);
	json_object_object_add(reply, "caller", caller_facts(request));
	json_object_object_add(reply, "groups", group_facts(sv->conf));
	json_object_object_add(reply, "sockets", socket_facts(sv->conf));
	json_object_object_add(reply, "guests_dir", guests_dir_facts(sv));
	json_object_object_add(reply, "folders", folders.list);
	json_object_object_add(reply, "memory", memory_facts(&room, folders.wanted));
	json_object_object_add(reply, "disk", disk_facts(&room));
	json_object_object_add(reply, "kvm", kvm_facts());
	add_limits(reply);
	request_reply(request, reply);
}

const struct op op_query_host = {
	.name = "query-host",
	.access = ACCESS_VIEW,
	.table = &op_nothing_table,
	.run = query_host,
	.doc = "what on this machine decides whether guests work: limits, room, permissions, KVM",
};
