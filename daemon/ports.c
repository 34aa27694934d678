#include "daemon/ports.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "cijqemu/cleanup.h"
#include "daemon/strv.h"
#include "proto/text.h"

struct held {
	LIST_ENTRY(held) link;
	int port;
	const void *guest; /* weak; never looked into */
	char *name;
};

struct ports {
	int first, last;
	bool taken[65536];
	LIST_HEAD(, held) held;
};

struct ports *
ports_new(int first, int last)
{
	struct ports *ports = calloc(1, sizeof(*ports));

	if (!ports)
		abort();
	ports->first = first;
	ports->last = last;
	return ports;
}

static void
release(struct ports *ports, struct held *held)
{
	ports->taken[held->port] = false;
	LIST_REMOVE(held, link);
	free(held->name);
	free(held);
}

void
ports_free(struct ports *ports)
{
	if (!ports)
		return;
	while (!LIST_EMPTY(&ports->held))
		release(ports, LIST_FIRST(&ports->held));
	free(ports);
}

int
ports_first(const struct ports *ports)
{
	return ports->first;
}

int
ports_last(const struct ports *ports)
{
	return ports->last;
}

int
ports_take(struct ports *ports, int from, const void *guest, const char *name)
{
	for (int port = from < ports->first ? ports->first : from; port <= ports->last; port++)
		if (ports_take_this(ports, port, guest, name) == 0)
			return port;
	return 0;
}

int
ports_take_this(struct ports *ports, int port, const void *guest, const char *name)
{
	struct held *held;

	if (port < 1 || port > 65535 || ports->taken[port])
		return -1;
	held = calloc(1, sizeof(*held));
	if (!held)
		abort();
	*held = (struct held){.port = port, .guest = guest, .name = str_copy(name)};
	LIST_INSERT_HEAD(&ports->held, held, link);
	ports->taken[port] = true;
	return 0;
}

static struct held *
find(const struct ports *ports, int port)
{
	struct held *held = NULL;

	if (port > 0 && port <= 65535 && ports->taken[port])
		LIST_FOREACH (held, &ports->held, link)
			if (held->port == port)
				return held;
	return NULL;
}

void
ports_give_back(struct ports *ports, int port)
{
	struct held *held = find(ports, port);

	if (held)
		release(ports, held);
}

void
ports_give_back_all(struct ports *ports, const void *guest)
{
	struct held *held, *next;

	for (held = LIST_FIRST(&ports->held); held; held = next) {
		next = LIST_NEXT(held, link);
		if (held->guest == guest)
			release(ports, held);
	}
}

/* Who of the whole machine listens */

/* The socket that listens on @port of 127.0.0.1 or of all addresses, by /proc/net/tcp. */
static bool
find_listener(const char *table, int port, unsigned *uid, unsigned long *inode)
{
	_cleanup_fclose_ FILE *file = fopen(table, "re");
	char line[512];

	while (file && fgets(line, sizeof(line), file)) {
		unsigned local, state;

		if (sscanf(line, " %*d: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x %*s %*s %*s %u %*d %lu",
			    &local, &state, uid, inode) == 4 &&
			(int)local == port && state == 0x0a)
			return true;
	}
	return false;
}

/* Whether one of the process's descriptors is that socket. */
static bool
has_socket(int proc_fd, const char *pid, const char *link)
{
	_cleanup_free_ char *path = str_printf("%s/fd", pid);
	int fd = openat(proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_closedir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	char target[64];

	while (dir && (entry = readdir(dir))) {
		ssize_t n = readlinkat(fd, entry->d_name, target, sizeof(target) - 1);

		if (n > 0 && (target[n] = '\0', strcmp(target, link) == 0))
			return true;
	}
	return false;
}

/* The process of @uid that has the socket @inode; 0 when none is seen. */
static int
find_process(unsigned uid, unsigned long inode)
{
	_cleanup_closedir_ DIR *proc = opendir("/proc");
	struct dirent *entry;
	char link[64];

	snprintf(link, sizeof(link), "socket:[%lu]", inode);
	while (proc && (entry = readdir(proc))) {
		struct stat st;

		if (!isdigit((unsigned char)entry->d_name[0]) ||
			fstatat(dirfd(proc), entry->d_name, &st, 0) < 0 || st.st_uid != uid ||
			!has_socket(dirfd(proc), entry->d_name, link))
			continue;
		return (int)strtol(entry->d_name, NULL, 10);
	}
	return 0;
}

const void *
ports_guest(const struct ports *ports, int port)
{
	const struct held *held = find(ports, port);

	return held ? held->guest : NULL;
}

bool
ports_listener(int port, uid_t *uid)
{
	unsigned long inode;

	return find_listener("/proc/net/tcp", port, uid, &inode) ||
	       find_listener("/proc/net/tcp6", port, uid, &inode);
}

int
ports_first_unprivileged(void)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "re");
	int port;

	return file && fscanf(file, "%d", &port) == 1 ? port : IPPORT_RESERVED;
}

static void
command_of(int pid, char *buf, size_t size)
{
	_cleanup_free_ char *path = str_printf("/proc/%d/comm", pid);
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	char name[64] = "";

	if (file && fgets(name, sizeof(name), file))
		name[strcspn(name, "\n")] = '\0';
	cij_text_clean(*name ? name : "a process", buf, size);
}

const char *
ports_holder(const struct ports *ports, int port, char *buf, size_t size)
{
	const struct held *held = find(ports, port);
	unsigned long inode;
	char name[64];
	unsigned uid;
	int pid;

	if (held) {
		snprintf(buf, size, "guest '%s'", held->name);
		return buf;
	}
	if (!find_listener("/proc/net/tcp", port, &uid, &inode) &&
		!find_listener("/proc/net/tcp6", port, &uid, &inode)) {
		snprintf(buf, size, "somebody");
		return buf;
	}
	pid = find_process(uid, inode);
	if (pid) {
		command_of(pid, name, sizeof(name));
		snprintf(buf, size, "%s (pid %d, uid %u)", name, pid, uid);
	} else {
		snprintf(buf, size, "a process of uid %u", uid);
	}
	return buf;
}
