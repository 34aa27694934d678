#include "client/ssh_relay.h"

#include <errno.h>
#include <fcntl.h>
#include <libssh/callbacks.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "cijqemu/protocol.h"
#include "client/clock.h"
#include "client/ssh_flow.h"
#include "client/ssh_link.h"
#include "client/ssh_login.h"

/* libssh is asked again after this long even when nothing seems to have come. */
#define ASK_AGAIN_MS 1000

/* Where the daemon of the user who logs in listens there: one path a line, the likeliest first. */
#define FIND_SOCKETS \
	"exec sh -c 'u=$(id -u); " \
	"for d in \"${XDG_RUNTIME_DIR:-/run/user/$u}/cijqemu\" \"/tmp/cijqemu-$u\"; do " \
	"[ \"$u\" != 0 ] && [ -O \"$d\" ] && [ -S \"$d/" CIJ_SOCKET_NAME "\" ] && " \
	"echo \"$d/" CIJ_SOCKET_NAME "\"; done; echo " CIJ_SYSTEM_RUN_DIR "/" CIJ_SOCKET_NAME "'"

struct conn {
	TAILQ_ENTRY(conn) link;
	int fd;
	ssh_channel channel;
	struct relay_request request;
	char *next; /* RELAY_DAEMON: the path being tried, and behind it the others */
	enum { CONN_OPENING, CONN_ASKING, CONN_UP, CONN_OVER } state;
	struct ssh_flow *flow; /* CONN_UP */
};
TAILQ_HEAD(conns, conn);

struct relay {
	struct call *call;
	struct ssh_link link;
	ssh_event event;
	int control;
	char *sockets; /* the daemon's paths there, a line each */
	struct conns conns;
};

static void
answer(int fd, const struct cij_error *err)
{
	struct relay_answer a = {0};

	if (err)
		a.err = *err;
	(void)send(fd, &a, sizeof(a), MSG_NOSIGNAL);
}

/* Whoever waits for us is to go on waiting: a person is being asked. */
static void
tell_asking(void *arg)
{
	struct relay *r = arg;
	struct relay_answer a = {.asking = 1};

	(void)send(r->control, &a, sizeof(a), MSG_NOSIGNAL);
}

static void
conn_free(struct relay *r, struct conn *c)
{
	TAILQ_REMOVE(&r->conns, c, link);
	ssh_flow_free(c->flow);
	if (c->channel)
		ssh_channel_free(c->channel);
	if (c->fd >= 0)
		close(c->fd);
	free(c->next);
	free(c);
}

/* The request of a client, with its end of the socket pair. Returns 0 when there is none any more.
 */
static int
receive_request(struct relay *r)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct iovec data = {&c->request, sizeof(c->request)};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr msg = {.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	struct cmsghdr *header;
	ssize_t n = recvmsg(r->control, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	header = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (!header || header->cmsg_type != SCM_RIGHTS) {
		free(c);
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	}
	memcpy(&c->fd, CMSG_DATA(header), sizeof(c->fd));
	(void)fcntl(c->fd, F_SETFL, O_NONBLOCK);
	if (c->request.kind == RELAY_DAEMON)
		c->next = strdup(*c->request.text ? c->request.text : r->sockets);
	TAILQ_INSERT_TAIL(&r->conns, c, link);
	return 1;
}

/* One attempt at opening the channel: SSH_OK, SSH_AGAIN, SSH_ERROR. */
static int
try_open(struct relay *r, struct conn *c)
{
	char host[256], *path;
	int port, rc;

	if (!c->channel)
		c->channel = ssh_channel_new(r->link.session);
	if (!c->channel)
		abort();
	switch (c->request.kind) {
	case RELAY_DAEMON:
		path = strndup(c->next, strcspn(c->next, "\n"));
		rc = ssh_channel_open_forward_unix(c->channel, path, "", 0);
		free(path);
		return rc;
	case RELAY_TCP:
		if (sscanf(c->request.text, "%255s %d", host, &port) != 2)
			return SSH_ERROR;
		return ssh_channel_open_forward(c->channel, host, port, "127.0.0.1", 0);
	case RELAY_RUN:
		if (c->state == CONN_OPENING) {
			rc = ssh_channel_open_session(c->channel);
			if (rc != SSH_OK)
				return rc;
			c->state = CONN_ASKING;
		}
		return ssh_channel_request_exec(c->channel, c->request.text);
	}
	return SSH_ERROR;
}

/* The path that was just tried is left; whether there is another. */
static bool
next_path(struct conn *c)
{
	char *rest = c->next ? strchr(c->next, '\n') : NULL, *copy;

	if (!rest || !rest[1])
		return false;
	copy = strdup(rest + 1);
	free(c->next);
	c->next = copy;
	ssh_channel_free(c->channel);
	c->channel = NULL;
	return true;
}

static void
refuse(struct relay *r, struct conn *c)
{
	const char *why = ssh_link_reason(&r->link);
	struct cij_error err = CIJ_ERROR_INIT;

	if (c->request.kind == RELAY_DAEMON) {
		cij_error_set(&err, CIJ_E_UNREACHABLE, "%s: no daemon at '%.*s' there: %s",
			r->link.guest, (int)strcspn(c->next, "\n"), c->next, why);
		cij_error_hint(&err,
			"'systemctl start cijqemud' there starts it; sshd there must allow "
			"forwarding (AllowStreamLocalForwarding), and you must be in group "
			"cijqemu");
	} else {
		cij_error_set(&err, CIJ_E_FAILED, "%s: cannot %s '%s' there: %s", r->link.guest,
			c->request.kind == RELAY_TCP ? "connect to" : "run", c->request.text, why);
	}
	answer(c->fd, &err);
	c->state = CONN_OVER;
}

static void
open_step(struct relay *r, struct conn *c)
{
	int rc = try_open(r, c);

	if (rc == SSH_AGAIN)
		return;
	if (rc != SSH_OK) {
		if (!next_path(c))
			refuse(r, c);
		return;
	}
	c->state = CONN_UP;
	c->flow = ssh_flow_new(r->link.session, c->channel, c->fd);
	answer(c->fd, NULL);
}

/* Moves what can be moved. Returns whether anything did. */
static bool
conn_step(struct relay *r, struct conn *c)
{
	bool moved = false;

	if (c->state == CONN_OPENING || c->state == CONN_ASKING)
		open_step(r, c);
	if (c->state != CONN_UP)
		return false;
	moved = ssh_flow_step(c->flow);
	if (ssh_flow_is_over(c->flow))
		c->state = CONN_OVER;
	return moved;
}

/*
 * Steps all connections until none moves: what libssh reads for one of them may be for another, and
 * then nothing more comes that poll() would tell of.
 */
static void
step_all(struct relay *r)
{
	struct conn *c, *next;
	bool moved;

	do {
		moved = false;
		for (c = TAILQ_FIRST(&r->conns); c; c = next) {
			next = TAILQ_NEXT(c, link);
			moved = conn_step(r, c) || moved;
			if (c->state == CONN_OVER)
				conn_free(r, c);
		}
	} while (moved);
}

/* Waits until something can go on. Returns false when the clients are gone. */
static bool
wait_step(struct relay *r)
{
	int limit = ASK_AGAIN_MS;
	size_t n = 2, i;
	struct conn *c;

	TAILQ_FOREACH (c, &r->conns, link) {
		n++;
		if (c->flow && ssh_flow_arrived(c->flow))
			limit = 0;
	}
	_cleanup_free_ struct pollfd *fds = calloc(n, sizeof(*fds));
	if (!fds)
		abort();
	fds[0] = (struct pollfd){r->control, POLLIN};
	fds[1] = (struct pollfd){ssh_get_fd(r->link.session), POLLIN};
	if (ssh_get_poll_flags(r->link.session) & SSH_WRITE_PENDING)
		fds[1].events |= POLLOUT;
	i = 2;
	TAILQ_FOREACH (c, &r->conns, link)
		fds[i++] = c->flow ? ssh_flow_poll(c->flow) : (struct pollfd){c->fd, 0};
	if (poll(fds, n, limit) < 0)
		return true;
	if (fds[1].revents)
		(void)ssh_event_dopoll(r->event, 0);
	i = 2;
	TAILQ_FOREACH (c, &r->conns, link) {
		short revents = fds[i++].revents;

		if (c->flow)
			ssh_flow_polled(c->flow, revents);
		else if (revents & (POLLHUP | POLLERR))
			c->state = CONN_OVER;
	}
	return !fds[0].revents || receive_request(r) > 0;
}

static void
serve(struct relay *r)
{
	while (ssh_is_connected(r->link.session) && wait_step(r))
		step_all(r);
}

/* Logs in, and finds out where the daemon's socket may be unless that was said. */
static int
begin(struct relay *r, struct cij_error *err)
{
	const char *env = getenv("CIJQEMU_SOCKET");
	int code;

	r->link.deadline = clock_deadline(r->call->timeout < 0 ? SSH_SECONDS : r->call->timeout);
	if (ssh_login_host(&r->link, r->call->host, err) < 0)
		return -1;
	if (r->call->socket || (env && *env)) {
		r->sockets = strdup(r->call->socket ? r->call->socket : env);
		return 0;
	}
	code = ssh_link_feed(&r->link, FIND_SOCKETS, NULL, 0, &r->sockets, err);
	if (code < 0)
		return -1;
	if (code > 0 || !*r->sockets) { /* a shell that is none: the machine's own daemon */
		free(r->sockets);
		r->sockets = strdup(CIJ_SYSTEM_RUN_DIR "/" CIJ_SOCKET_NAME);
	}
	return 0;
}

void
relay_run(struct call *call, int control, bool no_prompt)
{
	struct relay r = {.call = call, .control = control, .link = {.no_prompt = no_prompt}};
	struct cij_error err = CIJ_ERROR_INIT;

	TAILQ_INIT(&r.conns);
	r.link.asking = tell_asking;
	r.link.asking_arg = &r;
	(void)prctl(PR_SET_NAME, "cijqemuctl-host");
	if (begin(&r, &err) < 0) {
		answer(control, &err);
		_exit(1);
	}
	r.link.deadline = CLOCK_NEVER;
	/* From here on the commands decide when to end: we follow, when the last has closed. */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	r.event = ssh_event_new();
	if (!r.event || ssh_event_add_session(r.event, r.link.session) != SSH_OK)
		abort();
	answer(control, NULL);
	serve(&r);
	ssh_disconnect(r.link.session);
	_exit(0);
}
