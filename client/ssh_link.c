#include "client/ssh_link.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "client/args.h"
#include "client/clock.h"
#include "client/host.h"
#include "client/out.h"
#include "client/ssh_keys.h"
#include "client/term.h"
#include "client/view.h"

/* What the daemon needs to tell us of a time-out of its own. */
#define ANSWER_SECONDS 5

/* libssh is asked again after this long even when nothing seems to have come: it may hold a packet.
 */
#define ASK_AGAIN_MS 1000

/* A guest's server that hangs up on us may be restarted at that moment, as cloud-init does it. */
#define TRIES 6
#define TRY_AGAIN_MS 500

/* Where and as whom. */
struct target {
	char host[64];
	int port;
	int64_t run;
	const char *user, *key; /* weak: owned by the reply they came in */
};

const char *
ssh_link_reason(struct ssh_link *l)
{
	const char *text = ssh_get_error(l->session);

	if (text && *text)
		return text;
	return ssh_is_connected(l->session) ? "the server gave no reason"
					    : "the connection was lost";
}

int
ssh_link_failed(struct ssh_link *l, const char *step, struct cij_error *err)
{
	return cij_error_set(err, l->own_host ? CIJ_E_UNREACHABLE : CIJ_E_FAILED,
		"%s: %s at %s failed: %s", l->guest, step, l->where ? l->where : l->guest,
		ssh_link_reason(l));
}

int
ssh_link_wait(struct ssh_link *l, const char *step, struct cij_error *err)
{
	struct pollfd wait = {.fd = ssh_get_fd(l->session), .events = POLLIN};
	int left = clock_left(l->deadline);

	if (term_caught())
		return cij_error_set(err, CIJ_E_FAILED, "%s: interrupted", l->guest);
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
ask_daemon(struct ssh_link *l, struct link *daemon, struct call *call, struct reply *r,
	struct cij_error *err)
{
	struct json_object *args;
	int left;

	if (link_open(daemon, call->socket, l->deadline, err) < 0 ||
		link_call(daemon, "query-guest", guest_arguments(l->guest), r, err) < 0)
		return -1;
	if (!view_is_live(r->value) || strcmp(view_state(r->value), "paused") == 0)
		return not_running(l->guest, r->value, err);
	if (cij_json_bool(r->value, "ready", false))
		return 0;
	if (strcmp(view_state(r->value), "running") == 0 && view_ssh_port(r->value) == 0)
		return cij_error_set(
			err, CIJ_E_FAILED, "%s has no SSH port: it has no network", l->guest);
	/* Still booting: the daemon sees the moment at which SSH answers. */
	if (call->verbose)
		out_note("%s: waiting for SSH to answer", l->guest);
	left = clock_left(l->deadline);
	args = guest_arguments(l->guest);
	cij_json_add_str(args, "for", "ssh");
	json_object_object_add(args, "timeout",
		json_object_new_double(left < 0   ? 0
				       : left < 1 ? 0.001
						  : left / 1000.0));
	if (left >= 0)
		daemon->deadline = l->deadline + ANSWER_SECONDS * 1000;
	reply_clear(r);
	return link_call(daemon, "guest-wait", args, r, err);
}

static int
find_target(struct ssh_link *l, struct reply *r, struct target *t, struct cij_error *err)
{
	struct json_object *ssh = cij_json_get(r->value, "ssh");
	const char *host = cij_json_str(ssh, "host"), *user = cij_json_str(ssh, "user");

	snprintf(t->host, sizeof(t->host), "%s", host ? host : "127.0.0.1");
	t->port = (int)cij_json_int(ssh, "port", 0);
	t->run = cij_json_int(r->value, "run", 0);
	t->user = user && *user ? user : "root";
	t->key = cij_json_str(ssh, "key");
	if (t->port <= 0 || t->port > 65535)
		return cij_error_set(err, CIJ_E_FAILED, "%s has no SSH port", l->guest);
	l->user = strdup(t->user);
	if (!l->user || asprintf(&l->where, "%s:%d", t->host, t->port) < 0)
		abort();
	return 0;
}

/* Connects to one address within the deadline. Returns the descriptor, or -1 with errno. */
static int
connect_address(const struct addrinfo *address, int64_t deadline)
{
	_cleanup_close_ int fd = socket(
		address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, fault = 0;
	socklen_t size = sizeof(fault);

	if (fd < 0)
		return -1;
	/* Keystrokes and the small packets of the handshake are not to wait for each other. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, address->ai_addr, address->ai_addrlen) < 0) {
		struct pollfd wait = {.fd = fd, .events = POLLOUT};

		fault = errno;
		if (fault == EINPROGRESS && poll(&wait, 1, clock_left(deadline)) == 0)
			fault = ETIMEDOUT;
		else if (fault == EINPROGRESS)
			getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &size);
	}
	if (!fault)
		return steal_fd(&fd);
	errno = fault;
	return -1;
}

int
ssh_link_tcp(struct ssh_link *l, const char *host, int port, struct cij_error *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *found = NULL;
	char service[16];
	int rc, fd = -1, fault = 0;

	snprintf(service, sizeof(service), "%d", port);
	rc = getaddrinfo(host, service, &hints, &found);
	if (rc != 0)
		return cij_error_set(err, CIJ_E_UNREACHABLE, "%s: cannot find '%s': %s", l->guest,
			host, gai_strerror(rc));
	for (struct addrinfo *at = found; at && fd < 0; at = at->ai_next) {
		fd = connect_address(at, l->deadline);
		fault = errno;
	}
	freeaddrinfo(found);
	if (fd >= 0)
		return fd;
	return cij_error_errno(err,
		fault == ETIMEDOUT ? CIJ_E_TIMEOUT
		: l->own_host      ? CIJ_E_UNREACHABLE
				   : CIJ_E_FAILED,
		fault, "%s: cannot connect to %s", l->guest, l->where);
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

int
ssh_link_handshake(struct ssh_link *l, struct cij_error *err)
{
	enum cij_error_class class = l->own_host ? CIJ_E_UNREACHABLE : CIJ_E_FAILED;
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
		cij_error_set(err, class, "%s: %s closed the connection without an SSH banner",
			l->guest, l->where);
		return cij_error_hint(err, "is an SSH server running %s?",
			l->own_host ? "there" : "in the guest");
	}
	return ssh_link_failed(l, "the SSH key exchange", err);
}

char *
ssh_link_host_key(struct ssh_link *l)
{
	char *base64 = NULL, *text = NULL;
	ssh_key key = NULL;

	if (ssh_get_server_publickey(l->session, &key) == SSH_OK &&
		ssh_pki_export_pubkey_base64(key, &base64) == SSH_OK &&
		asprintf(&text, "%s %s",
			ssh_key_type(key) == SSH_KEYTYPE_ECDSA_P256 ||
					ssh_key_type(key) == SSH_KEYTYPE_ECDSA_P384 ||
					ssh_key_type(key) == SSH_KEYTYPE_ECDSA_P521
				? ssh_pki_key_ecdsa_name(key)
				: ssh_key_type_to_char(ssh_key_type(key)),
			base64) < 0)
		abort();
	ssh_string_free_char(base64);
	ssh_key_free(key);
	return text;
}

char *
ssh_key_fingerprint(const char *text)
{
	const char *space = text ? strchr(text, ' ') : NULL;
	_cleanup_free_ char *type = space ? strndup(text, space - text) : NULL;
	_cleanup_free_ char *base64 = space ? strdup(space + 1) : NULL;
	unsigned char *hash = NULL;
	char *print = NULL, *copy;
	ssh_key key = NULL;
	size_t len;

	if (!type || !base64)
		return NULL;
	base64[strcspn(base64, " ")] = '\0';
	if (ssh_pki_import_pubkey_base64(base64, ssh_key_type_from_name(type), &key) != SSH_OK)
		return NULL;
	if (ssh_get_publickey_hash(key, SSH_PUBLICKEY_HASH_SHA256, &hash, &len) == 0)
		print = ssh_get_fingerprint_hash(SSH_PUBLICKEY_HASH_SHA256, hash, len);
	copy = print ? strdup(print) : NULL;
	ssh_string_free_char(print);
	ssh_clean_pubkey_hash(&hash);
	ssh_key_free(key);
	return copy;
}

/* Another key than the pinned one answers: says so loudly, and what may be behind it. */
static int
key_changed(struct ssh_link *l, const char *key, const char *known, struct cij_error *err)
{
	_cleanup_free_ char *now = ssh_key_fingerprint(key);
	_cleanup_free_ char *was = ssh_key_fingerprint(known);

	cij_error_set(err, CIJ_E_DENIED,
		"%s: THE SSH HOST KEY HAS CHANGED: %s shows %s, pinned is %s. Nothing was sent",
		l->guest, l->where, now ? now : "a key that cannot be read",
		was ? was : "another one");
	return cij_error_hint(err,
		"whoever re-installed the guest or its SSH server changed it, or somebody else "
		"answers in its place; when you know why, --new-host-key takes the new one");
}

/*
 * Checks that the port still is this guest's, and its host key against the pinned one, before
 * anything secret is sent.
 */
static int
check_identity(struct ssh_link *l, struct link *daemon, struct call *call, int64_t run,
	struct cij_error *err)
{
	_cleanup_free_ char *key = ssh_link_host_key(l);
	struct json_object *args = guest_arguments(l->guest);
	_cleanup_reply_ struct reply r = {0};
	_cleanup_free_ char *print = NULL;
	const char *pin;

	cij_json_add_str(args, "key", key ? key : "");
	cij_json_add_int(args, "run", run);
	if (call_has(call, "new-host-key"))
		cij_json_add_bool(args, "replace", true);
	if (link_call(daemon, "ssh-pin", args, &r, err) < 0) {
		/* A guest that somebody may only look at is not entered either. */
		if (err->class == CIJ_E_DENIED)
			cij_error_prefix(err, "%s: logging in", l->guest);
		return -1;
	}
	pin = cij_json_str(r.value, "pin");
	if (!pin)
		return cij_error_set(err, CIJ_E_PROTOCOL, "the daemon's pin has no word");
	if (strcmp(pin, "changed") == 0)
		return key_changed(l, key, cij_json_str(r.value, "known"), err);
	print = ssh_key_fingerprint(key);
	if (!print)
		print = strdup("of an unknown kind");
	if (strcmp(pin, "replaced") == 0)
		out_note("%s: its SSH host key is now %s", l->guest, print);
	else if (call->verbose && strcmp(pin, "same") != 0)
		out_note("%s: SSH host key %s pinned%s", l->guest, print,
			strcmp(pin, "new-image") == 0 ? ": the boot image is another one" : "");
	return 0;
}

/* The guest's own key: a file here, or one over there. */
static int
log_in(struct ssh_link *l, const struct target *t, struct cij_error *err)
{
	return ssh_keys_login(l, t->user, t->key, err);
}

/* Connects to the guest's SSH server, up to the session's keys. */
static int
connect_guest(struct ssh_link *l, const struct target *t, struct cij_error *err)
{
	_cleanup_close_ int fd = host_active()
					 ? host_connect_tcp(t->host, t->port, l->deadline, err)
					 : ssh_link_tcp(l, t->host, t->port, err);

	if (fd < 0)
		return -1;
	l->session = ssh_new();
	if (!l->session)
		abort();
	ssh_set_blocking(l->session, 0);
	if (set_options(l, t, fd, err) < 0)
		return -1;
	steal_fd(&fd); /* the session's from here on */
	return ssh_link_handshake(l, err);
}

/* Whether QEMU took the connection and nobody in the guest did: a server that is just being
 * restarted. */
static bool
hung_up(const struct ssh_link *l, const struct cij_error *err)
{
	return l->session && err->class != CIJ_E_TIMEOUT && !ssh_get_serverbanner(l->session);
}

/* Before the next try. Returns false when there is no time for it. */
static bool
wait_a_little(struct ssh_link *l)
{
	int left = clock_left(l->deadline);

	if (term_caught() || (left >= 0 && left < TRY_AGAIN_MS))
		return false;
	(void)poll(NULL, 0, TRY_AGAIN_MS);
	ssh_free(l->session);
	l->session = NULL;
	return true;
}

/* All of ssh_link_login(), by the deadline that is set. */
static int
login(struct ssh_link *l, struct call *call, struct cij_error *err)
{
	_cleanup_link_ struct link daemon = LINK_INIT;
	_cleanup_reply_ struct reply r = {0};
	struct target t = {0};

	if (ask_daemon(l, &daemon, call, &r, err) < 0 || find_target(l, &r, &t, err) < 0)
		return -1;
	for (int i = 1; connect_guest(l, &t, err) < 0; i++)
		if (i == TRIES || !hung_up(l, err) || !wait_a_little(l))
			return -1;
	if (check_identity(l, &daemon, call, t.run, err) < 0)
		return -1;
	return log_in(l, &t, err);
}

int
ssh_link_login(struct ssh_link *l, struct call *call, struct cij_error *err)
{
	double seconds = call->timeout < 0 ? SSH_SECONDS : call->timeout;

	*l = (struct ssh_link){.guest = call->guest,
		.again = call,
		.seconds = seconds,
		.deadline = clock_deadline(seconds),
		.no_prompt = l->no_prompt};
	return login(l, call, err);
}

void
ssh_link_extend(struct ssh_link *l)
{
	l->deadline = clock_deadline(l->seconds);
}

/* A new connection in place of one on which no channel could be opened; once. */
static int
login_again(struct ssh_link *l, struct cij_error *err)
{
	struct ssh_link was = *l;

	ssh_link_close(l);
	*l = (struct ssh_link){.guest = was.guest,
		.seconds = was.seconds,
		.deadline = was.deadline,
		.no_prompt = was.no_prompt};
	if (was.again->verbose)
		out_note("%s; trying once more", err->desc);
	err->class = CIJ_E_NONE;
	return login(l, was.again, err);
}

/* Opens a channel on the connection that there is. */
static ssh_channel
open_channel(struct ssh_link *l, struct cij_error *err)
{
	ssh_channel channel = ssh_channel_new(l->session);
	int rc;

	if (!channel)
		abort();
	while ((rc = ssh_channel_open_session(channel)) == SSH_AGAIN)
		if (ssh_link_wait(l, "opening an SSH channel", err) < 0)
			break;
	if (rc == SSH_OK)
		return channel;
	if (rc != SSH_AGAIN)
		ssh_link_failed(l, "opening an SSH channel", err);
	ssh_channel_free(channel);
	return NULL;
}

ssh_channel
ssh_link_channel(struct ssh_link *l, struct cij_error *err)
{
	ssh_channel channel = open_channel(l, err);

	/* dropbear refuses one now and then, or hangs up, when another has just ended. */
	if (channel || !l->again || err->class == CIJ_E_TIMEOUT || term_caught() ||
		login_again(l, err) < 0)
		return channel;
	return open_channel(l, err);
}

int
ssh_link_open(struct ssh_link *l, struct call *call, struct cij_error *err)
{
	if (ssh_link_login(l, call, err) < 0)
		return -1;
	l->channel = ssh_link_channel(l, err);
	return l->channel ? 0 : -1;
}

int
ssh_link_exec(struct ssh_link *l, ssh_channel channel, const char *line, struct cij_error *err)
{
	int rc;

	while ((rc = ssh_channel_request_exec(channel, line)) == SSH_AGAIN)
		if (ssh_link_wait(l, "running the command", err) < 0)
			return -1;
	return rc == SSH_OK ? 0 : ssh_link_failed(l, "running the command", err);
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
	free(l->user);
	*l = (struct ssh_link){0};
}
