/* forward: TCP ports of ours that lead to ports in the guest, until interrupted. */
#include <errno.h>
#include <fcntl.h>
#include <libssh/callbacks.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "client/args.h"
#include "client/clock.h"
#include "client/out.h"
#include "client/ssh_flow.h"
#include "client/ssh_link.h"
#include "client/term.h"

/* More ports of one guest are no use any more. */
#define PORTS_MAX 64

/* Connections at a time: each costs 128 KiB here. */
#define CONNS_MAX 512

struct listener {
	int fd;
	char address[128]; /* as it is printed: "127.0.0.1:8080" */
	int guest_port;
};

struct conn {
	TAILQ_ENTRY(conn) link;
	struct ssh_flow *flow;
	ssh_channel channel;
	int fd, port;
	bool open;
};

struct forward {
	struct call *call;
	struct ssh_link link;
	ssh_event event;
	struct listener listeners[PORTS_MAX];
	size_t n_listeners, n_conns;
	TAILQ_HEAD(, conn) conns;
};

/* A whole number from 0 to 65535; -1 for anything else. */
static int
port_of(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	return *text >= '0' && *text <= '9' && !*end && n <= 65535 ? (int)n : -1;
}

/* Listens as "[ADDRESS:]PORT:GUESTPORT" says. */
static int
listen_at(struct forward *f, const char *spec, struct cij_error *err)
{
	struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	struct listener *l = &f->listeners[f->n_listeners];
	_cleanup_free_ char *copy = strdup(spec);
	char *guest = strrchr(copy, ':'), *port, service[16];
	const char *address = "127.0.0.1";
	struct addrinfo *found = NULL;
	struct sockaddr_storage bound;
	socklen_t size = sizeof(bound);
	int on = 1, rc;

	if (!guest)
		return call_usage(f->call, err, "'%s' is no [ADDRESS:]PORT:GUESTPORT", spec);
	*guest++ = '\0';
	port = strrchr(copy, ':');
	if (port) {
		*port++ = '\0';
		address = copy;
		if (*copy == '[' && port[-2] == ']') {
			port[-2] = '\0';
			address = copy + 1;
		}
	} else {
		port = copy;
	}
	l->guest_port = port_of(guest);
	if (port_of(port) < 0 || l->guest_port <= 0 || !*address)
		return call_usage(f->call, err, "'%s' is no [ADDRESS:]PORT:GUESTPORT", spec);
	rc = getaddrinfo(address, port, &hints, &found);
	if (rc != 0)
		return cij_error_set(
			err, CIJ_E_BAD_REQUEST, "'%s': '%s': %s", spec, address, gai_strerror(rc));
	l->fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd >= 0)
		(void)setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (l->fd < 0 || bind(l->fd, found->ai_addr, found->ai_addrlen) < 0 ||
		listen(l->fd, 128) < 0 ||
		getsockname(l->fd, (struct sockaddr *)&bound, &size) < 0) {
		rc = errno;
		freeaddrinfo(found);
		return cij_error_errno(
			err, CIJ_E_FAILED, rc, "cannot listen on %s port %s", address, port);
	}
	freeaddrinfo(found);
	(void)getnameinfo(
		(struct sockaddr *)&bound, size, NULL, 0, service, sizeof(service), NI_NUMERICSERV);
	snprintf(l->address, sizeof(l->address), strchr(address, ':') ? "[%s]:%s" : "%s:%s",
		address, service);
	f->n_listeners++;
	return 0;
}

static void
conn_free(struct forward *f, struct conn *c)
{
	TAILQ_REMOVE(&f->conns, c, link);
	ssh_flow_free(c->flow);
	ssh_channel_free(c->channel);
	close(c->fd);
	free(c);
	f->n_conns--;
}

static void
accept_one(struct forward *f, const struct listener *l)
{
	int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), on = 1;
	struct conn *c;

	if (fd < 0)
		return;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	c = calloc(1, sizeof(*c));
	if (!c)
		abort();
	c->fd = fd;
	c->port = l->guest_port;
	c->channel = ssh_channel_new(f->link.session);
	if (!c->channel)
		abort();
	TAILQ_INSERT_TAIL(&f->conns, c, link);
	f->n_conns++;
}

/* Moves what can be moved. Returns whether something did; frees the connection when it is over. */
static bool
conn_step(struct forward *f, struct conn *c)
{
	bool moved;
	int rc;

	if (!c->open) {
		rc = ssh_channel_open_forward(c->channel, "127.0.0.1", c->port, "127.0.0.1", 0);
		if (rc == SSH_AGAIN)
			return false;
		if (rc != SSH_OK) {
			out_note("%s: port %d in the guest: %s", f->call->guest, c->port,
				ssh_link_reason(&f->link));
			conn_free(f, c);
			return false;
		}
		c->open = true;
		c->flow = ssh_flow_new(f->link.session, c->channel, c->fd);
	}
	moved = ssh_flow_step(c->flow);
	if (ssh_flow_is_over(c->flow))
		conn_free(f, c);
	return moved;
}

static void
step_all(struct forward *f)
{
	struct conn *c, *next;
	bool moved;

	do {
		moved = false;
		for (c = TAILQ_FIRST(&f->conns); c; c = next) {
			next = TAILQ_NEXT(c, link);
			moved = conn_step(f, c) || moved;
		}
	} while (moved);
}

/* Waits until something can go on. */
static void
wait_step(struct forward *f, const sigset_t *signals)
{
	struct pollfd fds[1 + PORTS_MAX + CONNS_MAX];
	struct timespec limit = {.tv_sec = 1};
	size_t n = 0, at;
	struct conn *c;

	fds[n++] = (struct pollfd){ssh_get_fd(f->link.session), POLLIN};
	if (ssh_get_poll_flags(f->link.session) & SSH_WRITE_PENDING)
		fds[0].events |= POLLOUT;
	for (size_t i = 0; i < f->n_listeners; i++)
		fds[n++] = (struct pollfd){
			f->n_conns < CONNS_MAX ? f->listeners[i].fd : -1, POLLIN};
	at = n;
	TAILQ_FOREACH (c, &f->conns, link) {
		fds[n++] = c->flow ? ssh_flow_poll(c->flow) : (struct pollfd){-1};
		if (c->flow && ssh_flow_arrived(c->flow))
			limit.tv_sec = 0;
	}
	if (ppoll(fds, n, &limit, signals) < 0)
		return;
	if (fds[0].revents)
		(void)ssh_event_dopoll(f->event, 0);
	TAILQ_FOREACH (c, &f->conns, link) {
		if (c->flow)
			ssh_flow_polled(c->flow, fds[at].revents);
		at++;
	}
	for (size_t i = 0; i < f->n_listeners; i++)
		if (fds[1 + i].revents)
			accept_one(f, &f->listeners[i]);
}

static void
tell(struct forward *f)
{
	for (size_t i = 0; i < f->n_listeners; i++) {
		const struct listener *l = &f->listeners[i];

		if (f->call->json)
			printf("{\"listen\": \"%s\", \"guest\": \"%s\", \"port\": %d}\n",
				l->address, f->call->guest, l->guest_port);
		else
			printf("%s leads to port %d of %s\n", l->address, l->guest_port,
				f->call->guest);
	}
	fflush(stdout);
	out_note("until interrupted with ^C");
}

static int
serve(struct forward *f, struct cij_error *err)
{
	sigset_t signals;

	term_hold(&signals);
	f->event = ssh_event_new();
	if (!f->event || ssh_event_add_session(f->event, f->link.session) != SSH_OK)
		abort();
	while (!term_caught() && ssh_is_connected(f->link.session)) {
		step_all(f);
		wait_step(f, &signals);
	}
	ssh_event_remove_session(f->event, f->link.session);
	ssh_event_free(f->event);
	if (term_caught()) /* as it is meant to end */
		return term_caught() == SIGINT ? 0 : 128 + term_caught();
	return cij_error_set(err, CIJ_E_FAILED, "%s: the connection was lost", f->call->guest);
}

int
cmd_forward(struct call *call, struct cij_error *err)
{
	struct forward *f = calloc(1, sizeof(*f));
	struct conn *c;
	int rc = 0;

	if (!f)
		abort();
	f->call = call;
	TAILQ_INIT(&f->conns);
	if (call->n_args > PORTS_MAX)
		rc = call_usage(call, err, "more than %d ports", PORTS_MAX);
	for (size_t i = 0; i < call->n_args && rc == 0; i++)
		rc = listen_at(f, call->args[i], err);
	if (rc == 0)
		rc = ssh_link_login(&f->link, call, err);
	if (rc == 0) {
		f->link.deadline = CLOCK_NEVER;
		tell(f);
		rc = serve(f, err);
	}
	while ((c = TAILQ_FIRST(&f->conns)))
		conn_free(f, c);
	for (size_t i = 0; i < f->n_listeners; i++)
		close(f->listeners[i].fd);
	ssh_link_close(&f->link);
	free(f);
	return rc;
}
