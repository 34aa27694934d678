#include "client/ssh_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "client/clock.h"
#include "client/link.h"
#include "client/ssh_keys.h"
#include "client/view.h"

/* What the daemon needs to tell us of a time-out of its own. */
#define ANSWER_SECONDS 5

/* libssh is asked again after this long even when nothing seems to have come: it may hold a packet.
 */
#define ASK_AGAIN_MS 1000

/* Where and as whom. */
struct target {
	char host[64];
	int port;
	const char *user, *key; /* weak: owned by the reply they came in */
};

int
ssh_link_failed(struct ssh_link *l, const char *step, struct cij_error *err)
{
	return cij_error_set(err, CIJ_E_FAILED, "%s: %s at %s failed: %s", l->guest, step, l->where,
		ssh_get_error(l->session));
}

int
ssh_link_wait(struct ssh_link *l, const char *step, struct cij_error *err)
{
	struct pollfd wait = {.fd = ssh_get_fd(l->session), .events = POLLIN};
	int left = clock_left(l->deadline);

	if (left == 0)
		return cij_error_set(err, CIJ_E_TIMEOUT, "%s: %s at %s: no answer in time",
			l->guest, step, l->where);
	if (ssh_get_poll_flags(l->session) & SSH_WRITE_PENDING)
		wait.events |= POLLOUT;
	(void)poll(&wait, 1, left < 0 || left > ASK_AGAIN_MS ? ASK_AGAIN_MS : left);
	return 0;
}

static int
not_running(const char *guest, struct json_object *view, struct cij_error *err)
{
	char text[768];

	if (strcmp(view_state(view), "stopped") == 0)
		cij_error_set(err, CIJ_E_FAILED, "%s is stopped: %s", guest,
			view_end_text(view, text, sizeof(text)));
	else
		cij_error_set(err, CIJ_E_FAILED, "%s is %s", guest, view_state(view));
	return cij_error_hint(err, "'cijqemuctl start %s --wait' starts it", guest);
}

/* Asks the daemon for the guest's view, once SSH answers in it. */
static int
ask_daemon(struct ssh_link *l, struct call *call, struct reply *r, struct cij_error *err)
{
	_cleanup_link_ struct link link = LINK_INIT;
	struct json_object *args;
	int left;

	if (link_open(&link, call->socket, l->deadline, err) < 0 ||
		link_call(&link, "query-guest", guest_arguments(l->guest), r, err) < 0)
		return -1;
	if (!view_is_live(r->value) || strcmp(view_state(r->value), "paused") == 0)
		return not_running(l->guest, r->value, err);
	if (cij_json_bool(r->value, "ready", false))
		return 0;
	if (strcmp(view_state(r->value), "running") == 0 && view_ssh_port(r->value) == 0)
		return cij_error_set(
			err, CIJ_E_FAILED, "%s has no SSH port: it has no network", l->guest);
	/* Still booting: the daemon sees the moment at which SSH answers. */
	left = clock_left(l->deadline);
	args = guest_arguments(l->guest);
	cij_json_add_str(args, "for", "ssh");
	json_object_object_add(args, "timeout",
		json_object_new_double(left < 0   ? 0
				       : left < 1 ? 0.001
						  : left / 1000.0));
	if (left >= 0)
		link.deadline = l->deadline + ANSWER_SECONDS * 1000;
	reply_clear(r);
	return link_call(&link, "guest-wait", args, r, err);
}

static int
find_target(struct ssh_link *l, struct reply *r, struct target *t, struct cij_error *err)
{
	struct json_object *ssh = cij_json_get(r->value, "ssh");
	const char *host = cij_json_str(ssh, "host"), *user = cij_json_str(ssh, "user");

	snprintf(t->host, sizeof(t->host), "%s", host ? host : "127.0.0.1");
	t->port = (int)cij_json_int(ssh, "port", 0);
	t->user = user && *user ? user : "root";
	t->key = cij_json_str(ssh, "key");
	if (t->port <= 0 || t->port > 65535)
		return cij_error_set(err, CIJ_E_FAILED, "%s has no SSH port", l->guest);
	if (asprintf(&l->where, "%s:%d", t->host, t->port) < 0)
		abort();
	return 0;
}

/* Connects by TCP within the deadline. Returns the descriptor, or -1. */
static int
connect_tcp(struct ssh_link *l, const struct target *t, struct cij_error *err)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(t->port)};
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, fault = 0;
	socklen_t size = sizeof(fault);

	if (inet_pton(AF_INET, t->host, &addr.sin_addr) != 1)
		return cij_error_set(
			err, CIJ_E_PROTOCOL, "%s: '%s' is no IPv4 address", l->guest, t->host);
	if (fd < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot make a socket");
	/* Keystrokes and the small packets of the handshake are not to wait for each other. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		struct pollfd wait = {.fd = fd, .events = POLLOUT};

		fault = errno;
		if (fault == EINPROGRESS && poll(&wait, 1, clock_left(l->deadline)) == 0)
			fault = ETIMEDOUT;
		else if (fault == EINPROGRESS)
			getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &size);
	}
	if (fault)
		return cij_error_errno(
			err, CIJ_E_FAILED, fault, "%s: cannot connect to %s", l->guest, l->where);
	return steal_fd(&fd);
}

/* Where the guest's SSH server stands depends on the daemon alone, not on the user's settings. */
static int
set_options(struct ssh_link *l, const struct target *t, int fd, struct cij_error *err)
{
	const struct {
		enum ssh_options_e option;
		const void *value;
	} options[] = {
		{SSH_OPTIONS_PROCESS_CONFIG, &(bool){false}},
		{SSH_OPTIONS_HOST, t->host},
		{SSH_OPTIONS_PORT, &t->port},
		{SSH_OPTIONS_USER, t->user},
		{SSH_OPTIONS_FD, &fd},
		{SSH_OPTIONS_KNOWNHOSTS, "/dev/null"},
		{SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null"},
	};

	for (size_t i = 0; i < cij_array_size(options); i++)
		if (ssh_options_set(l->session, options[i].option, options[i].value) < 0)
			return ssh_link_failed(l, "setting up SSH", err);
	return 0;
}

/* The handshake, up to the session's keys. */
static int
handshake(struct ssh_link *l, struct cij_error *err)
{
	int rc;

	while ((rc = ssh_connect(l->session)) == SSH_AGAIN) {
		const char *step = ssh_get_serverbanner(l->session) ? "the SSH key exchange"
								    : "waiting for SSH's banner";

		if (ssh_link_wait(l, step, err) < 0)
			return -1;
	}
	if (rc == SSH_OK)
		return 0;
	if (!ssh_get_serverbanner(l->session)) {
		cij_error_set(err, CIJ_E_FAILED,
			"%s: %s closed the connection without an SSH banner", l->guest, l->where);
		return cij_error_hint(err, "is an SSH server running in the guest?");
	}
	return ssh_link_failed(l, "the SSH key exchange", err);
}

static int
open_channel(struct ssh_link *l, struct cij_error *err)
{
	int rc;

	l->channel = ssh_channel_new(l->session);
	if (!l->channel)
		abort();
	while ((rc = ssh_channel_open_session(l->channel)) == SSH_AGAIN)
		if (ssh_link_wait(l, "opening an SSH channel", err) < 0)
			return -1;
	return rc == SSH_OK ? 0 : ssh_link_failed(l, "opening an SSH channel", err);
}

int
ssh_link_open(struct ssh_link *l, struct call *call, struct cij_error *err)
{
	double seconds = call->timeout < 0 ? SSH_SECONDS : call->timeout;
	_cleanup_reply_ struct reply r = {0};
	_cleanup_close_ int fd = -1;
	struct target t = {0};

	*l = (struct ssh_link){.guest = call->guest, .deadline = clock_deadline(seconds)};
	if (ask_daemon(l, call, &r, err) < 0 || find_target(l, &r, &t, err) < 0)
		return -1;
	fd = connect_tcp(l, &t, err);
	if (fd < 0)
		return -1;
	l->session = ssh_new();
	if (!l->session)
		abort();
	ssh_set_blocking(l->session, 0);
	if (set_options(l, &t, fd, err) < 0)
		return -1;
	steal_fd(&fd); /* the session's from here on */
	if (handshake(l, err) < 0 || ssh_keys_login(l, t.user, t.key, err) < 0)
		return -1;
	return open_channel(l, err);
}

void
ssh_link_close(struct ssh_link *l)
{
	if (l->channel)
		ssh_channel_free(l->channel);
	if (l->session) {
		ssh_disconnect(l->session);
		ssh_free(l->session);
	}
	free(l->where);
	*l = (struct ssh_link){0};
}
