#include "daemon/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cijqemu/protocol.h"
#include "daemon/conn.h"
#include "daemon/log.h"
#include "proto/message.h"

/* Connections at once, in all and of one user: nobody can take the daemon away from the others. */
#define CONNS_MAX 4096
#define CONNS_PER_USER_MAX 2048

/* Out of descriptors, accept() fails again at once: wait before the next. */
#define BACKOFF_SECONDS 1

struct link {
	LIST_ENTRY(link) link;
	struct conn *conn;
	uid_t uid;
};

struct listener {
	struct server *server; /* weak */
	const char *name; /* in RUNDIR; NULL: does not listen */
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
	LIST_HEAD(, link) conns;
	size_t n_conns;
};

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

/* Opens a socket of @mode for @group, (gid_t)-1: as it is. */
static int
listen_on(struct server *server, struct listener *listener, const char *name, mode_t mode,
	gid_t group, struct cij_error *err)
{
	listener->fd = sock_listen_at(server->run_fd, name, mode, err);
	if (listener->fd < 0)
		return -1;
	listener->server = server;
	listener->name = name;
	if (group != (gid_t)-1 && fchownat(server->run_fd, name, 0, group, AT_SYMLINK_NOFOLLOW) < 0)
		log_warn(
			"cannot give '%s' to group %u: %s", name, (unsigned)group, strerror(errno));
	listener->accept = event_new(
		server->sv->base, listener->fd, EV_READ | EV_PERSIST, on_accept, listener);
	if (!listener->accept)
		abort();
	event_add(listener->accept, NULL);
	return 0;
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
		unlinkat(server->run_fd, server->listeners[i].name, 0);
		event_free(server->listeners[i].accept);
		close(server->listeners[i].fd);
	}
	event_free(server->backoff);
	free(server);
}
