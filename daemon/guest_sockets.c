/*
 * A guest's plain sockets in RUNDIR/guests/NAME, for tools that know nothing of us: console.sock is
 * the console, qmp.sock and hmp.sock are QEMU's two monitors, each for any number of clients.
 */
#include "daemon/guest_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/monitor.h"

/* Out of descriptors, accept() fails again at once: wait before the next. */
#define BACKOFF_SECONDS 1

/* Connections taken in one turn: others want to be served, too. */
#define ACCEPTS_PER_TURN 16

struct plain_socket {
	struct guest *guest; /* weak */
	const struct socket_kind *kind;
	int fd;
	struct event *accept, *backoff;
	dev_t dev; /* of the name in the folder, */
	ino_t ino; /* to see that it is ours still */
};

struct socket_kind {
	const char *name;
	/* A client, with what it may do; takes @fd over. */
	void (*serve)(struct guest *guest, int fd, const struct peer *peer, enum access access);
};

static void
serve_console(struct guest *guest, int fd, const struct peer *peer, enum access access)
{
	enum viewer_mode mode = VIEWER_READ_ONLY;
	struct evbuffer *nothing;
	struct cij_error err;

	if (!guest->console || console_admit(guest->console, peer, &err) < 0) {
		close(fd);
		return;
	}
	/* Who comes with a plain tool cannot ask for the pen: keys are to arrive as from a cable.
	 */
	if (access >= ACCESS_OPERATE)
		mode = console_writer(guest->console) ? VIEWER_JOIN : VIEWER_AUTO;
	nothing = evbuffer_new();
	if (!nothing)
		abort();
	viewer_start(
		viewer_new(guest->console, mode, console_bytes(guest->console), peer), fd, nothing);
	evbuffer_free(nothing);
}

static void
serve_monitor(struct guest *guest, enum monitor_kind kind, int fd, const struct peer *peer,
	enum access access)
{
	struct qmp_rights rights = {.access = access};
	struct cij_error err;
	struct monitor *monitor = guest_monitor_shared(guest, &err);

	if (monitor)
		monitor_add(monitor, kind, fd, peer, &rights, NULL, 0);
	else
		monitor_turn_away(kind, fd, &err);
}

static void
serve_qmp(struct guest *guest, int fd, const struct peer *peer, enum access access)
{
	serve_monitor(guest, MONITOR_QMP, fd, peer, access);
}

static void
serve_hmp(struct guest *guest, int fd, const struct peer *peer, enum access access)
{
	serve_monitor(guest, MONITOR_HMP, fd, peer, access);
}

static const struct socket_kind kinds[GUEST_SOCKETS] = {
	{"console.sock", serve_console},
	{"qmp.sock", serve_qmp},
	{"hmp.sock", serve_hmp},
};

static void
admit(struct plain_socket *sock, int fd)
{
	struct guest *guest = sock->guest;
	const struct access_rule *rule = &guest->sv->rule;
	struct peer peer;

	if (sock_peer(fd, &peer) < 0 ||
		(guest->sv->conf->user_only && peer.uid != 0 && peer.uid != rule->daemon_uid)) {
		close(fd);
		return;
	}
	sock->kind->serve(guest, fd, &peer, guest_access_now(guest, &peer));
}

static void
on_accept(evutil_socket_t fd, short what, void *arg)
{
	struct plain_socket *sock = arg;

	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		int conn = sock_accept(fd);

		if (conn >= 0) {
			admit(sock, conn);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			log_warn("guest '%s': cannot accept a connection on %s: %s",
				sock->guest->name, sock->kind->name, strerror(errno));
			event_del(sock->accept);
			event_add(sock->backoff, &(struct timeval){BACKOFF_SECONDS, 0});
		}
		return;
	}
}

static void
on_backoff(evutil_socket_t fd, short what, void *arg)
{
	struct plain_socket *sock = arg;

	event_add(sock->accept, NULL);
}

static void
close_socket(struct plain_socket *sock)
{
	if (!sock)
		return;
	event_free(sock->accept);
	event_free(sock->backoff);
	close(sock->fd);
	free(sock);
}

/*
 * Open to all where the daemon serves all: who may what is told by the kernel's word on who
 * connects, as it is on the control socket; file modes know nothing of 'share'.
 */
static mode_t
socket_mode(void)
{
	return geteuid() == 0 ? 0666 : 0600;
}

static struct plain_socket *
open_socket(struct guest *guest, int dir_fd, const struct socket_kind *kind, struct cij_error *err)
{
	struct plain_socket *sock;
	struct stat st;
	int fd = sock_listen_at(dir_fd, kind->name, socket_mode(), err);

	if (fd < 0)
		return NULL;
	if (fstatat(dir_fd, kind->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		st = (struct stat){0}; /* gone again: made anew at the next look */
	sock = calloc(1, sizeof(*sock));
	if (!sock)
		abort();
	*sock = (struct plain_socket){.guest = guest,
		.kind = kind,
		.fd = fd,
		.dev = st.st_dev,
		.ino = st.st_ino,
		.accept = event_new(guest->sv->base, fd, EV_READ | EV_PERSIST, on_accept, sock),
		.backoff = evtimer_new(guest->sv->base, on_backoff, sock)};
	if (!sock->accept || !sock->backoff)
		abort();
	event_add(sock->accept, NULL);
	return sock;
}

static bool
is_there(const struct plain_socket *sock, int dir_fd)
{
	struct stat st;

	return sock && fstatat(dir_fd, sock->kind->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_dev == sock->dev && st.st_ino == sock->ino;
}

/* Whether @name may be a link of ours: it is not there, or a link that ends as ours do. */
static bool
is_our_link(int dir_fd, const char *name, const char *end)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir_fd, name, target, sizeof(target));

	if (n < 0)
		return errno == ENOENT;
	return (size_t)n >= strlen(end) && memcmp(target + n - strlen(end), end, strlen(end)) == 0;
}

/* CIJOE's functions look for the human monitor in the guest's folder. */
static void
link_monitor(const struct guest *guest)
{
	static const char name[] = "monitor.sock", temporary[] = ".monitor.sock.new";
	_cleanup_free_ char *end = str_printf("/guests/%s/hmp.sock", guest->name);
	_cleanup_free_ char *target = str_printf("%s%s", guest->sv->conf->run_dir, end);
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest->uid, guest->gid);

	if (guest->dir_fd < 0)
		return;
	if (!is_our_link(guest->dir_fd, name, end)) {
		log_info(
			"guest '%s': its monitor.sock is not ours, and left as it is", guest->name);
		return;
	}
	unlinkat(guest->dir_fd, temporary, 0);
	if (symlinkat(target, guest->dir_fd, temporary) < 0 ||
		renameat(guest->dir_fd, temporary, guest->dir_fd, name) < 0)
		log_warn("guest '%s': cannot make the link monitor.sock: %s", guest->name,
			strerror(errno));
}

/* Makes those that are not there: at the beginning all, later those that somebody removed. */
void
guest_sockets_open(struct guest *guest)
{
	struct cij_error err;
	_cleanup_close_ int dir_fd = guest_sockets_dir(guest, &err);
	bool made = false;

	if (dir_fd < 0) {
		log_warn("guest '%s': %s", guest->name, err.desc);
		return;
	}
	for (size_t i = 0; i < GUEST_SOCKETS; i++) {
		if (is_there(guest->sockets[i], dir_fd))
			continue;
		close_socket(guest->sockets[i]);
		guest->sockets[i] = open_socket(guest, dir_fd, &kinds[i], &err);
		if (guest->sockets[i])
			made = true;
		else
			log_warn("guest '%s': %s", guest->name, err.desc);
	}
	if (made)
		link_monitor(guest);
}

/* The names go, unless somebody else has them by now. */
void
guest_sockets_close(struct guest *guest)
{
	_cleanup_close_ int dir_fd = openat(
		guest->sv->run_fd, guest->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	for (size_t i = 0; i < GUEST_SOCKETS; i++) {
		if (dir_fd >= 0 && is_there(guest->sockets[i], dir_fd))
			unlinkat(dir_fd, kinds[i].name, 0);
		close_socket(steal_ptr(guest->sockets[i]));
	}
}
