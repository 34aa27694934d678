#include "client/ssh_login.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "client/args.h"
#include "client/clock.h"
#include "client/out.h"
#include "client/ssh_ask.h"
#include "client/ssh_keys.h"

/* A host that went away without a word is noticed after about half a minute. */
#define KEEPALIVE_IDLE_SECONDS 15
#define KEEPALIVE_INTERVAL_SECONDS 5
#define KEEPALIVE_PROBES 3

/* A host as it was named. */
struct spec {
	char *user, *host; /* user: NULL = not named */
	int port; /* 0 = not named */
};

static void
spec_clear(struct spec *s)
{
	free(s->user);
	free(s->host);
}

static int
bad_spec(const char *text, struct cij_error *err)
{
	cij_error_set(err, CIJ_E_USAGE, "'%s' is no host", text);
	return cij_error_hint(err, "--host takes [USER@]HOST[:PORT], an IPv6 address as [::1]:22");
}

static int
parse_spec(const char *text, struct spec *s, struct cij_error *err)
{
	const char *at = strrchr(text, '@'), *host = at ? at + 1 : text, *end, *colon;
	char *rest;

	if (at)
		s->user = strndup(text, at - text);
	if (*host == '[') {
		end = strchr(++host, ']');
		if (!end || (end[1] && end[1] != ':'))
			return bad_spec(text, err);
		colon = end[1] ? end + 1 : NULL;
	} else {
		colon = strchr(host, ':');
		if (colon && strchr(colon + 1, ':'))
			colon = NULL; /* an IPv6 address alone */
		end = colon ? colon : host + strlen(host);
	}
	s->host = strndup(host, end - host);
	if (colon) {
		s->port = (int)strtol(colon + 1, &rest, 10);
		if (!colon[1] || *rest || s->port <= 0 || s->port > 65535)
			return bad_spec(text, err);
	}
	/* What starts with '-' would be an option of whatever it is passed on to. */
	if (!*s->host || *s->host == '-' || (s->user && (!*s->user || *s->user == '-')))
		return bad_spec(text, err);
	return 0;
}

/* What was named outranks the user's ssh_config, as with ssh's own command line. */
static int
set_options(struct ssh_link *l, const struct spec *s, struct cij_error *err)
{
	const char *home = getenv("HOME");
	_cleanup_free_ char *dir = NULL;

	if (home && *home && asprintf(&dir, "%s/.ssh", home) < 0)
		abort();
	if ((dir && ssh_options_set(l->session, SSH_OPTIONS_SSH_DIR, dir) < 0) ||
		ssh_options_set(l->session, SSH_OPTIONS_HOST, s->host) < 0 ||
		(s->user && ssh_options_set(l->session, SSH_OPTIONS_USER, s->user) < 0) ||
		(s->port && ssh_options_set(l->session, SSH_OPTIONS_PORT, &s->port) < 0))
		return ssh_link_failed(l, "setting up SSH", err);
	if (ssh_options_parse_config(l->session, NULL) < 0)
		return cij_error_set(
			err, CIJ_E_FAILED, "%s: ~/.ssh/config cannot be read", l->guest);
	if ((s->user && ssh_options_set(l->session, SSH_OPTIONS_USER, s->user) < 0) ||
		(s->port && ssh_options_set(l->session, SSH_OPTIONS_PORT, &s->port) < 0) ||
		ssh_options_set(l->session, SSH_OPTIONS_PROCESS_CONFIG, &(bool){false}) < 0)
		return ssh_link_failed(l, "setting up SSH", err);
	return 0;
}

/* Connects, unless a command of the user's config (ProxyCommand, ProxyJump) is to do so. */
static int
connect_host(struct ssh_link *l, struct cij_error *err)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{SOL_SOCKET, SO_KEEPALIVE, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS},
		{IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS},
		{IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES},
	};
	char *proxy = NULL, *host = NULL, *user = NULL;
	unsigned port = 22;
	int fd = 0, rc = 0;

	(void)ssh_options_get(l->session, SSH_OPTIONS_PROXYCOMMAND, &proxy);
	(void)ssh_options_get(l->session, SSH_OPTIONS_HOST, &host);
	(void)ssh_options_get(l->session, SSH_OPTIONS_USER, &user);
	(void)ssh_options_get_port(l->session, &port);
	l->user = strdup(user ? user : "");
	if (asprintf(&l->where, "%s:%u", host ? host : "?", port) < 0 || !l->user)
		abort();
	if (!proxy || !*proxy) {
		fd = ssh_link_tcp(l, host, (int)port, err);
		for (size_t i = 0; fd >= 0 && i < cij_array_size(options); i++)
			(void)setsockopt(fd, options[i].level, options[i].name, &options[i].value,
				sizeof(int));
		if (fd < 0)
			rc = -1;
		else if (ssh_options_set(l->session, SSH_OPTIONS_FD, &fd) < 0)
			rc = ssh_link_failed(l, "setting up SSH", err);
	}
	ssh_string_free_char(proxy);
	ssh_string_free_char(host);
	ssh_string_free_char(user);
	return rc;
}

/* A host that was never met: whoever sits there decides. */
static int
ask_about_host(struct ssh_link *l, const char *print, struct cij_error *err)
{
	char question[512], answer[16];

	snprintf(question, sizeof(question),
		"The authenticity of host '%s' (%s) can't be established: its key is %s. "
		"Connect and remember it (yes/no)? ",
		l->guest, l->where, print);
	if (ssh_ask(l, question, true, answer, sizeof(answer)) == 0 && strcmp(answer, "yes") == 0) {
		if (ssh_session_update_known_hosts(l->session) != SSH_OK)
			out_note("%s: its key cannot be added to known_hosts: %s", l->guest,
				ssh_link_reason(l));
		return 0;
	}
	cij_error_set(err, CIJ_E_UNREACHABLE, "%s: its host key %s is not in known_hosts", l->guest,
		print);
	return cij_error_hint(err, "'ssh %s' once, to check and remember it", l->guest);
}

static int
check_host_key(struct ssh_link *l, struct cij_error *err)
{
	_cleanup_free_ char *key = ssh_link_host_key(l);
	_cleanup_free_ char *print = key ? ssh_key_fingerprint(key) : NULL;

	switch (ssh_session_is_known_server(l->session)) {
	case SSH_KNOWN_HOSTS_OK:
		return 0;
	case SSH_KNOWN_HOSTS_NOT_FOUND:
	case SSH_KNOWN_HOSTS_UNKNOWN:
		return ask_about_host(l, print ? print : "?", err);
	case SSH_KNOWN_HOSTS_CHANGED:
	case SSH_KNOWN_HOSTS_OTHER:
		cij_error_set(err, CIJ_E_UNREACHABLE,
			"%s: THE HOST KEY HAS CHANGED: %s shows %s, known_hosts has another one. "
			"Nothing was sent",
			l->guest, l->where, print ? print : "?");
		return cij_error_hint(err,
			"somebody else may answer in its place; when you know why it changed, "
			"'ssh-keygen -R' with the host's name forgets the old one");
	case SSH_KNOWN_HOSTS_ERROR:
		break;
	}
	return ssh_link_failed(l, "looking into known_hosts", err);
}

int
ssh_login_host(struct ssh_link *l, const char *spec, struct cij_error *err)
{
	_cleanup_(spec_clear)
	struct spec s = {0};

	l->own_host = true;
	l->guest = spec;
	if (parse_spec(spec, &s, err) < 0)
		return -1;
	l->session = ssh_new();
	if (!l->session)
		abort();
	ssh_set_blocking(l->session, 0);
	if (set_options(l, &s, err) < 0 || connect_host(l, err) < 0 ||
		ssh_link_handshake(l, err) < 0 || check_host_key(l, err) < 0)
		return -1;
	return ssh_keys_login(l, l->user, NULL, err);
}
