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
#include "client/view.h"

/* What the daemon needs to tell us of a time-out of its own. */
#define ANSWER_SECONDS 5

/* libssh is asked again after this long even when nothing seems to have come: it may hold a packet.
 */
#define ASK_AGAIN_MS 1000

/* More output than this of a helper command in the guest is none of ours. */
#define RUN_OUTPUT_MAX (16 * 1024 * 1024)

/* What is sent to one at a time: as much as libssh puts into a packet. */
#define HELPER_BLOCK (32 * 1024)

/* Where and as whom. */
struct target {
	char host[64];
	int port;
	int64_t run;
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
	ssh_link_failed(l, "the SSH key exchange", err);
	err->class = class;
	return -1;
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

int
ssh_link_login(struct ssh_link *l, struct call *call, struct cij_error *err)
{
	double seconds = call->timeout < 0 ? SSH_SECONDS : call->timeout;
	_cleanup_link_ struct link daemon = LINK_INIT;
	_cleanup_reply_ struct reply r = {0};
	_cleanup_close_ int fd = -1;
	struct target t = {0};

	*l = (struct ssh_link){.guest = call->guest,
		.deadline = clock_deadline(seconds),
		.no_prompt = l->no_prompt};
	if (ask_daemon(l, &daemon, call, &r, err) < 0 || find_target(l, &r, &t, err) < 0)
		return -1;
	fd = host_active() ? host_connect_tcp(t.host, t.port, l->deadline, err)
			   : ssh_link_tcp(l, t.host, t.port, err);
	if (fd < 0)
		return -1;
	l->session = ssh_new();
	if (!l->session)
		abort();
	ssh_set_blocking(l->session, 0);
	if (set_options(l, &t, fd, err) < 0)
		return -1;
	steal_fd(&fd); /* the session's from here on */
	if (ssh_link_handshake(l, err) < 0 || check_identity(l, &daemon, call, t.run, err) < 0)
		return -1;
	return log_in(l, &t, err);
}

ssh_channel
ssh_link_channel(struct ssh_link *l, struct cij_error *err)
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

/* A helper command in the guest: what it is fed and what it has said. */
struct helper {
	ssh_channel channel;
	const char *in;
	size_t in_left;
	bool sent_eof;
	char *out;
	size_t len, size;
};

/* Sends and fetches what can be. Returns 1 when its output is at its end, 0 when not, or -1. */
static int
helper_step(struct ssh_link *l, struct helper *h, struct cij_error *err)
{
	int n;

	while (h->in_left > 0 && ssh_channel_window_size(h->channel) > 0 &&
		!(ssh_get_poll_flags(l->session) & SSH_WRITE_PENDING)) {
		n = ssh_channel_write(
			h->channel, h->in, h->in_left < HELPER_BLOCK ? h->in_left : HELPER_BLOCK);
		if (n <= 0)
			break;
		h->in += n;
		h->in_left -= n;
	}
	if (h->in_left == 0 && !h->sent_eof) {
		ssh_channel_send_eof(h->channel);
		h->sent_eof = true;
	}
	if (h->len + 1 >= h->size) {
		h->out = realloc(h->out, h->size = h->size ? h->size * 2 : 4096);
		if (!h->out)
			abort();
	}
	n = ssh_channel_read_nonblocking(h->channel, h->out + h->len, h->size - h->len - 1, 0);
	if (n > 0)
		h->len += n;
	h->out[h->len] = '\0';
	if (h->len > RUN_OUTPUT_MAX)
		return cij_error_set(
			err, CIJ_E_FAILED, "%s: a command prints without end", l->guest);
	if (n > 0)
		return helper_step(l, h, err);
	return n == SSH_ERROR || ssh_channel_is_eof(h->channel) ||
	       ssh_channel_is_closed(h->channel);
}

/* The exit code, which may come behind the end of the output. */
static int
helper_code(struct ssh_link *l, struct helper *h, struct cij_error *err)
{
	int code;

	while ((code = ssh_channel_get_exit_status(h->channel)) < 0) {
		if (ssh_channel_is_closed(h->channel) || !ssh_is_connected(l->session))
			return cij_error_set(err, CIJ_E_FAILED,
				"%s: a command ended without an exit code", l->guest);
		if (ssh_link_wait(l, "a command's end", err) < 0)
			return -1;
	}
	/* dropbear ends a channel that is opened before it is done with another. */
	while (!ssh_channel_is_closed(h->channel) && ssh_is_connected(l->session))
		if (ssh_link_wait(l, "a command's end", err) < 0)
			return -1;
	return code;
}

int
ssh_link_feed(struct ssh_link *l, const char *line, const char *in, size_t len, char **out,
	struct cij_error *err)
{
	struct helper h = {.channel = ssh_link_channel(l, err), .in = in, .in_left = len};
	int rc;

	*out = NULL;
	if (!h.channel)
		return -1;
	rc = ssh_link_exec(l, h.channel, line, err);
	while (rc == 0 && (rc = helper_step(l, &h, err)) == 0)
		rc = ssh_link_wait(l, "a command's output", err);
	if (rc > 0)
		rc = helper_code(l, &h, err);
	if (rc >= 0)
		*out = steal_ptr(h.out);
	free(h.out);
	ssh_channel_free(h.channel);
	return rc;
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
