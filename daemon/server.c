#include "daemon/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cijqemu/protocol.h"
#include "daemon/conn.h"
#include "daemon/fileio.h"
#include "daemon/log.h"
#include "daemon/service.h"
#include "proto/message.h"

/* Connections at once, in all and of one user: nobody can take the daemon away from the others. */
#define CONNS_MAX 4096
#define CONNS_PER_USER_MAX 2048

/* Out of descriptors, accept() fails again at once: wait before the next. */
#define BACKOFF_SECONDS 1

/* A socket that was removed is made anew after this. */
#define MEND_DELAY_USEC 100000

struct link {
	LIST_ENTRY(link) link;
	struct conn *conn;
	uid_t uid;
};

struct listener {
	struct server *server; /* weak */
	const char *name; /* in RUNDIR; NULL: does not listen */
	mode_t mode;
	gid_t group; /* (gid_t)-1: as it is */
	bool given; /* systemd's: it stays when we go */
	bool view_only;
	int fd;
	struct event *accept;
};

/* The read-write socket and the read-only one. */
#define LISTENERS 2

struct server {
	struct registry *registry; /* weak */
	const struct services *sv; /* weak */
	int run_fd; /* weak */
	struct listener listeners[LISTENERS];
	struct event *backoff;
	int inotify_fd; /* on RUNDIR; -1: none */
	struct event *news, *mend;
	LIST_HEAD(, link) conns;
	size_t n_conns;
};

static void watch_run_dir(struct server *server);

static void
on_conn_closed(void *arg, struct conn *conn)
{
	struct server *server = arg;
	struct link *link;

	LIST_FOREACH (link, &server->conns, link)
		if (link->conn == conn)
			break;
	if (!link)
		return;
	LIST_REMOVE(link, link);
	server->n_conns--;
	free(link);
}

static const struct conn_ops server_conn_ops = {on_conn_closed};

/* Tells the client why it is not served, as far as its socket takes it, and closes. */
static void
turn_away(int fd, enum cij_error_class class, const char *why)
{
	_cleanup_json_ struct json_object *greeting = cij_message_greeting();
	_cleanup_json_ struct json_object *msg = NULL;
	struct cij_error err;
	const char *text;
	size_t len;

	cij_error_set(&err, class, "%s", why);
	msg = cij_message_error(&err, NULL);
	text = cij_message_line(greeting, &len);
	send(fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	send(fd, "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	text = cij_message_line(msg, &len);
	send(fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	send(fd, "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}

static size_t
count_of(const struct server *server, uid_t uid)
{
	const struct link *link;
	size_t n = 0;

	LIST_FOREACH (link, &server->conns, link)
		n += link->uid == uid;
	return n;
}

static void
admit(struct listener *listener, int fd)
{
	struct server *server = listener->server;
	const struct services *sv = server->sv;
	struct peer peer;
	struct link *link;

	if (sock_peer(fd, &peer) < 0) {
		close(fd);
		return;
	}
	peer.view_only = listener->view_only;
	if (sv->conf->user_only && peer.uid != sv->rule.daemon_uid && peer.uid != 0) {
		turn_away(fd, CIJ_E_DENIED, "this daemon serves only the user who runs it");
		return;
	}
	if (server->n_conns >= CONNS_MAX ||
		(peer.uid != 0 && server->n_conns >= CONNS_PER_USER_MAX &&
			count_of(server, peer.uid) >= CONNS_PER_USER_MAX)) {
		turn_away(fd, CIJ_E_NO_RESOURCES, "too many connections to the daemon");
		return;
	}
	link = calloc(1, sizeof(*link));
	if (!link)
		abort();
	link->uid = peer.uid;
	link->conn = conn_new(sv->base, fd, &peer, server->registry, &server_conn_ops, server);
	LIST_INSERT_HEAD(&server->conns, link, link);
	server->n_conns++;
}

static void
on_accept(evutil_socket_t fd, short what, void *arg)
{
	struct listener *listener = arg;
	struct server *server = listener->server;
	int conn = sock_accept(fd);

	if (conn >= 0) {
		admit(listener, conn);
		return;
	}
	if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
		log_warn("cannot accept a connection: %s", strerror(errno));
		for (size_t i = 0; i < LISTENERS; i++)
			if (server->listeners[i].accept)
				event_del(server->listeners[i].accept);
		event_add(server->backoff, &(struct timeval){BACKOFF_SECONDS, 0});
	}
}

static void
on_backoff(evutil_socket_t fd, short what, void *arg)
{
	struct server *server = arg;

	for (size_t i = 0; i < LISTENERS; i++)
		if (server->listeners[i].accept)
			event_add(server->listeners[i].accept, NULL);
}

static int
bind_socket(struct listener *listener, struct cij_error *err)
{
	int run_fd = listener->server->run_fd;

	listener->given = false;
	listener->fd = sock_listen_at(run_fd, listener->name, listener->mode, err);
	if (listener->fd < 0)
		return -1;
	if (listener->group != (gid_t)-1 &&
		fchownat(run_fd, listener->name, 0, listener->group, AT_SYMLINK_NOFOLLOW) < 0)
		log_warn("cannot give '%s' to group %u: %s", listener->name,
			(unsigned)listener->group, strerror(errno));
	return 0;
}

static void
accept_on(struct listener *listener)
{
	listener->accept = event_new(listener->server->sv->base, listener->fd, EV_READ | EV_PERSIST,
		on_accept, listener);
	if (!listener->accept)
		abort();
	event_add(listener->accept, NULL);
}

/* The socket that systemd opened for us, or one of our own. */
static int
listen_on(struct server *server, struct listener *listener, const char *name, mode_t mode,
	gid_t group, struct cij_error *err)
{
	listener->server = server;
	listener->mode = mode;
	listener->group = group;
	listener->name = name;
	listener->fd = service_socket(name);
	listener->given = listener->fd >= 0;
	if (!listener->given && bind_socket(listener, err) < 0) {
		listener->name = NULL;
		return -1;
	}
	accept_on(listener);
	return 0;
}

/* Somebody removed the name under which clients find us. */
static void
bind_again(struct listener *listener)
{
	struct cij_error err;

	log_warn("the socket '%s' was removed: made anew", listener->name);
	event_free(steal_ptr(listener->accept));
	close(steal_fd(&listener->fd));
	if (bind_socket(listener, &err) == 0) {
		accept_on(listener);
		return;
	}
	log_error("%s", err.desc);
	listener->name = NULL; /* nothing to give back */
}

/* Puts the folder @path in the place of the one that the descriptor @at is of. */
static int
replace_folder(int at, int fresh)
{
	_cleanup_close_ int fd = fresh;

	return fd < 0 || dup3(fd, at, O_CLOEXEC) < 0 ? -1 : 0;
}

/* RUNDIR itself was removed or moved: what is told by its descriptors is of another folder now. */
static void
mend_run_dir(struct server *server)
{
	const char *path = server->sv->conf->run_dir;
	struct stat is, ought;

	if (fstat(server->run_fd, &ought) < 0 ||
		(lstat(path, &is) == 0 && is.st_ino == ought.st_ino && is.st_dev == ought.st_dev))
		return;
	log_warn("the folder '%s' was removed: made anew", path);
	if (dir_make_path(path, geteuid() == 0 ? 0755 : 0700) < 0 ||
		replace_folder(server->run_fd,
			open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0 ||
		replace_folder(server->sv->run_fd, dir_make_at(server->run_fd, "guests", 0755)) < 0)
		log_error("cannot make '%s': %s", path, strerror(errno));
	flock(server->run_fd, LOCK_EX | LOCK_NB);
	watch_run_dir(server);
}

static void
on_mend(evutil_socket_t fd, short what, void *arg)
{
	struct server *server = arg;
	struct stat st;

	mend_run_dir(server);
	for (size_t i = 0; i < LISTENERS; i++) {
		struct listener *listener = &server->listeners[i];

		if (listener->name &&
			fstatat(server->run_fd, listener->name, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
			errno == ENOENT)
			bind_again(listener);
	}
}

static void
on_run_dir(evutil_socket_t fd, short what, void *arg)
{
	struct server *server = arg;
	char buf[4096];

	while (read(fd, buf, sizeof(buf)) > 0)
		;
	/* What follows belongs to it: whoever removes the folder removes its files first. */
	event_add(server->mend, &(struct timeval){0, MEND_DELAY_USEC});
}

static void
watch_run_dir(struct server *server)
{
	if (server->inotify_fd >= 0)
		inotify_add_watch(server->inotify_fd, server->sv->conf->run_dir,
			IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR);
}

/* Where there is no inotify a removed socket stays so until the daemon is started again. */
static void
watch_names(struct server *server)
{
	server->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	server->mend = evtimer_new(server->sv->base, on_mend, server);
	if (!server->mend)
		abort();
	if (server->inotify_fd < 0)
		return;
	server->news = event_new(
		server->sv->base, server->inotify_fd, EV_READ | EV_PERSIST, on_run_dir, server);
	if (!server->news)
		abort();
	event_add(server->news, NULL);
	watch_run_dir(server);
}

struct server *
server_new(int run_fd, gid_t group, struct registry *registry, struct cij_error *err)
{
	struct server *server = calloc(1, sizeof(*server));
	/* Root's socket is for the group, where the machine has it; a user's own is the user's. */
	bool shared = geteuid() == 0 && group != (gid_t)-1;

	if (!server)
		abort();
	server->registry = registry;
	server->sv = registry_services(registry);
	server->run_fd = run_fd;
	server->backoff = evtimer_new(server->sv->base, on_backoff, server);
	if (!server->backoff)
		abort();
	watch_names(server);
	server->listeners[1].view_only = true;
	if (listen_on(server, &server->listeners[0], CIJ_SOCKET_NAME, shared ? 0660 : 0600,
		    shared ? group : (gid_t)-1, err) < 0 ||
		(!server->sv->conf->user_only &&
			listen_on(server, &server->listeners[1], CIJ_SOCKET_RO_NAME, 0666,
				(gid_t)-1, err) < 0)) {
		server_free(server);
		return NULL;
	}
	return server;
}

void
server_free(struct server *server)
{
	struct link *link;

	if (!server)
		return;
	while ((link = LIST_FIRST(&server->conns))) {
		LIST_REMOVE(link, link);
		conn_free(link->conn);
		free(link);
	}
	for (size_t i = 0; i < LISTENERS; i++) {
		if (!server->listeners[i].name)
			continue;
		if (!server->listeners[i].given)
			unlinkat(server->run_fd, server->listeners[i].name, 0);
		event_free(server->listeners[i].accept);
		close(server->listeners[i].fd);
	}
	event_free(server->backoff);
	event_free(server->mend);
	if (server->news)
		event_free(server->news);
	if (server->inotify_fd >= 0)
		close(server->inotify_fd);
	free(server);
}
