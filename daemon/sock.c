#include "daemon/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

int
sock_connect_at(int dir_fd, const char *name)
{
	struct sockaddr_un addr;
	_cleanup_close_ int fd = -1;

	if (address_at(dir_fd, name, &addr) < 0)
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -1;
	return steal_fd(&fd);
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
