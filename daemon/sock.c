#include "daemon/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "cijqemu/cleanup.h"

/* Connections that wait for accept(): more than any test plan starts at once. */
#define SOCK_BACKLOG 1024

/* The folder by its descriptor: no path is too long, and nobody can swap it under us. */
static int
address_at(int dir_fd, const char *name, struct sockaddr_un *addr)
{
	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	if ((size_t)snprintf(addr->sun_path, sizeof(addr->sun_path), "/proc/self/fd/%d/%s", dir_fd,
		    name) >= sizeof(addr->sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return 0;
}

int
sock_listen_at(int dir_fd, const char *name, mode_t mode, struct cij_error *err)
{
	struct sockaddr_un addr;
	_cleanup_close_ int fd = -1;
	char temporary[64];

	snprintf(temporary, sizeof(temporary), ".%s", name);
	if (unlinkat(dir_fd, temporary, 0) < 0 && errno != ENOENT)
		goto fail;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || address_at(dir_fd, temporary, &addr) < 0)
		goto fail;
	/* The mode is the socket's before it has a name; chmod then undoes the umask. */
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		goto fail;
	if (fchmodat(dir_fd, temporary, mode, 0) < 0 || listen(fd, SOCK_BACKLOG) < 0 ||
		renameat(dir_fd, temporary, dir_fd, name) < 0) {
		int saved = errno;

		unlinkat(dir_fd, temporary, 0);
		errno = saved;
		goto fail;
	}
	return steal_fd(&fd);
fail:
	return cij_error_errno(err, CIJ_E_INTERNAL, errno, "cannot listen on socket '%s'", name);
}

int
sock_accept(int listen_fd)
{
	return accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static int
connect_to(const struct sockaddr_un *addr)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0)
		return -1;
	return steal_fd(&fd);
}

int
sock_connect_at(int dir_fd, const char *name)
{
	struct sockaddr_un addr;

	return address_at(dir_fd, name, &addr) < 0 ? -1 : connect_to(&addr);
}

int
sock_connect_to(int handle)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d", handle);
	return connect_to(&addr);
}

bool
sock_is_gone(int fd)
{
	struct pollfd gone = {.fd = fd, .events = 0};
	int n;

	do
		n = poll(&gone, 1, 0);
	while (n < 0 && errno == EINTR);
	return n == 1 && (gone.revents & (POLLHUP | POLLERR));
}

/* As the kernel numbers devices inside. */
#define KERNEL_MINOR_BITS 20

/* What sock_diag(7) answers of one socket: whether it listens, and under which inode's name. */
static bool
is_listener(const char *answer, size_t len, const struct stat *file)
{
	const struct nlmsghdr *header = (const void *)answer;
	const struct unix_diag_msg *msg = NLMSG_DATA(header);
	uint32_t dev = (major(file->st_dev) << KERNEL_MINOR_BITS) | minor(file->st_dev);
	const struct rtattr *attr = (const void *)(msg + 1);
	size_t left;

	if (!NLMSG_OK(header, len) || header->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
		header->nlmsg_len < NLMSG_LENGTH(sizeof(*msg)) || msg->udiag_state != TCP_LISTEN)
		return false;
	left = header->nlmsg_len - NLMSG_LENGTH(sizeof(*msg));
	for (; RTA_OK(attr, left); attr = RTA_NEXT(attr, left)) {
		const struct unix_diag_vfs *vfs = RTA_DATA(attr);

		if (attr->rta_type == UNIX_DIAG_VFS && RTA_PAYLOAD(attr) >= sizeof(*vfs))
			return vfs->udiag_vfs_dev == dev &&
			       vfs->udiag_vfs_ino == (uint32_t)file->st_ino;
	}
	return false;
}

bool
sock_listens_on(ino_t socket_ino, const struct stat *file)
{
	_cleanup_close_ int fd = socket(
		AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
	_Alignas(struct nlmsghdr) char answer[4096];
	struct {
		struct nlmsghdr header;
		struct unix_diag_req request;
	} ask = {.header = {.nlmsg_len = sizeof(ask),
			 .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			 .nlmsg_flags = NLM_F_REQUEST},
		.request = {.sdiag_family = AF_UNIX,
			.udiag_states = UINT32_MAX,
			.udiag_ino = (uint32_t)socket_ino,
			.udiag_show = UDIAG_SHOW_VFS,
			.udiag_cookie = {UINT32_MAX, UINT32_MAX}}};
	ssize_t n;

	/* The kernel has answered when send() returns. */
	if (fd < 0 || send(fd, &ask, sizeof(ask), 0) < 0)
		return false;
	n = recv(fd, answer, sizeof(answer), 0);
	return n > 0 && is_listener(answer, (size_t)n, file);
}

int
sock_peer(int fd, struct peer *peer)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -1;
	*peer = (struct peer){.uid = cred.uid, .gid = cred.gid, .pid = cred.pid};
	len = sizeof(peer->groups);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, peer->groups, &len) == 0)
		peer->n_groups = (int)(len / sizeof(gid_t));
	return 0;
}

bool
peer_in_group(const struct peer *peer, gid_t gid)
{
	if (peer->gid == gid)
		return true;
	for (int i = 0; i < peer->n_groups; i++)
		if (peer->groups[i] == gid)
			return true;
	return false;
}
