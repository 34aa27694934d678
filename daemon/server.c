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
#include "daemon/users.h"
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

struct server {
	struct event_base *base; /* weak */
	struct registry *registry; /* weak */
	struct access_rule rule;
	bool user_only;
	int fd;
	struct event *accept, *backoff;
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
admit(struct server *server, int fd)
{
	struct peer peer;
	struct link *link;

	if (sock_peer(fd, &peer) < 0) {
		close(fd);
		return;
	}
	if (server->user_only && peer.uid != server->rule.daemon_uid && peer.uid != 0) {
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
	link->conn = conn_new(
		server->base, fd, &peer, &server->rule, server->registry, &server_conn_ops, server);
	LIST_INSERT_HEAD(&server->conns, link, link);
	server->n_conns++;
}

static void
on_accept(evutil_socket_t fd, short what, void *arg)
{
	struct server *server = arg;
	int conn = sock_accept(fd);

	if (conn >= 0) {
		admit(server, conn);
		return;
	}
	if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
		log_warn("cannot accept a connection: %s", strerror(errno));
		event_del(server->accept);
		event_add(server->backoff, &(struct timeval){BACKOFF_SECONDS, 0});
	}
}

static void
on_backoff(evutil_socket_t fd, short what, void *arg)
{
	struct server *server = arg;

	event_add(server->accept, NULL);
}

/* Root's socket is for group cijqemu, where the machine has it; a user's own is the user's. */
static mode_t
socket_mode(gid_t group)
{
	return geteuid() == 0 && group != (gid_t)-1 ? 0660 : 0600;
}

struct server *
server_new(struct event_base *base, int run_fd, bool user_only, struct registry *registry,
	struct cij_error *err)
{
	struct server *server = calloc(1, sizeof(*server));
	gid_t group = group_id("cijqemu");

	if (!server)
		abort();
	server->base = base;
	server->registry = registry;
	server->user_only = user_only;
	server->rule = registry_services(registry)->rule;
	server->fd = sock_listen_at(run_fd, CIJ_SOCKET_NAME, socket_mode(group), err);
	if (server->fd < 0) {
		free(server);
		return NULL;
	}
	if (geteuid() == 0 && group != (gid_t)-1 &&
		fchownat(run_fd, CIJ_SOCKET_NAME, 0, group, AT_SYMLINK_NOFOLLOW) < 0)
		log_warn("cannot give the socket to group cijqemu: %s", strerror(errno));
	server->accept = event_new(base, server->fd, EV_READ | EV_PERSIST, on_accept, server);
	server->backoff = evtimer_new(base, on_backoff, server);
	if (!server->accept || !server->backoff)
		abort();
	event_add(server->accept, NULL);
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
	event_free(server->accept);
	event_free(server->backoff);
	close(server->fd);
	free(server);
}
