#include "client/ssh_login.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "client/args.h"
#include "client/clock.h"
#include "client/out.h"
#include "client/ssh_ask.h"
#include "client/ssh_config.h"
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

char *
ssh_login_by_hand(const char *name)
{
	_cleanup_(spec_clear)
	struct spec s = {0};
	struct cij_error ignored = CIJ_ERROR_INIT;
	char port[16] = "", *line;

	if (parse_spec(name, &s, &ignored) == 0 && s.port)
		snprintf(port, sizeof(port), "-p %d ", s.port);
	if (asprintf(&line, "ssh %s%s%s%s", port, s.user ? s.user : "", s.user ? "@" : "",
		    s.host ? s.host : name) < 0)
		abort();
	return line;
}

/* libssh replaces tokens of its own in the names of keys. Heap. */
static char *
escape(const char *path)
{
	char *out = malloc(2 * strlen(path) + 1), *end = out;

	if (!out)
		abort();
	for (; *path; path++) {
		if (*path == '%')
			*end++ = '%';
		*end++ = *path;
	}
	*end = '\0';
	return out;
}

/* The keys of the configuration before libssh's own list of keys, which need not be there twice. */
static int
add_keys(struct ssh_link *l, const struct ssh_config *config, const char *dir)
{
	size_t n = dir ? strlen(dir) : 0;

	for (size_t i = config->n_keys; i-- > 0;) {
		_cleanup_free_ char *path = escape(config->keys[i]);
		const char *name = config->keys[i] + n + 1;

		if (n > 0 && strncmp(config->keys[i], dir, n) == 0 &&
			(strcmp(name, "id_ed25519") == 0 || strcmp(name, "id_ecdsa") == 0 ||
				strcmp(name, "id_rsa") == 0))
			continue;
		if (ssh_options_set(l->session, SSH_OPTIONS_ADD_IDENTITY, path) < 0)
			return -1;
	}
	return 0;
}

static int
set_options(struct ssh_link *l, const struct ssh_config *config, struct cij_error *err)
{
	const char *home = getenv("HOME");
	_cleanup_free_ char *dir = NULL;
	/* We connect ourselves: libssh looks these two up in known_hosts, where an alias has no
	 * port. */
	int port = config->alias ? 22 : config->port;
	const struct {
		enum ssh_options_e option;
		const void *value;
	} options[] = {
		{SSH_OPTIONS_PROCESS_CONFIG, &(bool){false}},
		{SSH_OPTIONS_HOST, config->alias ? config->alias : config->host},
		{SSH_OPTIONS_PORT, &port},
		{SSH_OPTIONS_USER, config->user},
		{SSH_OPTIONS_KNOWNHOSTS, config->n_known > 0 ? config->known[0] : NULL},
		{SSH_OPTIONS_GLOBAL_KNOWNHOSTS, config->known_global},
		{SSH_OPTIONS_KEY_EXCHANGE, config->kex},
		{SSH_OPTIONS_HOSTKEYS, config->host_keys},
		{SSH_OPTIONS_CIPHERS_C_S, config->ciphers},
		{SSH_OPTIONS_CIPHERS_S_C, config->ciphers},
		{SSH_OPTIONS_HMAC_C_S, config->macs},
		{SSH_OPTIONS_HMAC_S_C, config->macs},
	};

	if (home && *home && asprintf(&dir, "%s/.ssh", home) < 0)
		abort();
	if (dir && ssh_options_set(l->session, SSH_OPTIONS_SSH_DIR, dir) < 0)
		return ssh_link_failed(l, "setting up SSH", err);
	for (size_t i = 0; i < cij_array_size(options); i++)
		if (options[i].value &&
			ssh_options_set(l->session, options[i].option, options[i].value) < 0)
			return ssh_link_failed(l, "setting up SSH", err);
	if (add_keys(l, config, dir) < 0)
		return ssh_link_failed(l, "setting up SSH", err);
	return 0;
}

/* What leads there instead of TCP: a command, whose stdin and stdout are the connection. */
static int
start_proxy(struct ssh_link *l, const char *command, struct cij_error *err)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 || (pid = fork()) < 0)
		return cij_error_errno(
			err, CIJ_E_FAILED, errno, "%s: cannot start its ProxyCommand", l->guest);
	if (pid == 0) {
		_cleanup_free_ char *line = NULL;

		if (asprintf(&line, "exec %s", command) < 0 || dup2(pair[1], STDIN_FILENO) < 0 ||
			dup2(pair[1], STDOUT_FILENO) < 0)
			_exit(126);
		/* ^C is for the command in the guest, which is told of it through this. */
		(void)signal(SIGINT, SIG_IGN);
		(void)signal(SIGQUIT, SIG_IGN);
		execl("/bin/sh", "sh", "-c", line, (char *)NULL);
		_exit(127);
	}
	close(pair[1]); /* the command ends with us, when this end is closed */
	(void)fcntl(pair[0], F_SETFL, O_NONBLOCK);
	return pair[0];
}

static int
connect_host(struct ssh_link *l, const struct ssh_config *config, struct cij_error *err)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{SOL_SOCKET, SO_KEEPALIVE, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS},
		{IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS},
		{IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES},
	};
	int fd;

	l->user = strdup(config->user);
	if (!l->user || asprintf(&l->where, "%s:%d%s", config->host, config->port,
				config->proxy ? " through its ProxyCommand" : "") < 0)
		abort();
	fd = config->proxy ? start_proxy(l, config->proxy, err)
			   : ssh_link_tcp(l, config->host, config->port, err);
	if (fd < 0)
		return -1;
	for (size_t i = 0; !config->proxy && i < cij_array_size(options); i++)
		(void)setsockopt(
			fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
	if (ssh_options_set(l->session, SSH_OPTIONS_FD, &fd) < 0)
		return ssh_link_failed(l, "setting up SSH", err);
	return 0;
}

static void
remember(struct ssh_link *l)
{
	if (ssh_session_update_known_hosts(l->session) != SSH_OK)
		out_note("%s: its key cannot be added to known_hosts: %s", l->guest,
			ssh_link_reason(l));
}

/* A host that was never met: whoever sits there decides, unless the configuration does. */
static int
meet_host(struct ssh_link *l, enum strict strict, const char *print, struct cij_error *err)
{
	_cleanup_free_ char *by_hand = ssh_login_by_hand(l->guest);
	char question[512], answer[16];

	snprintf(question, sizeof(question),
		"The authenticity of host '%s' (%s) can't be established: its key is %s. "
		"Connect and remember it (yes/no)? ",
		l->guest, l->where, print);
	if (strict == STRICT_ACCEPT_NEW) {
		out_note("%s: its host key %s is remembered from now on", l->guest, print);
		remember(l);
		return 0;
	}
	if (strict == STRICT_ASK && ssh_ask(l, question, true, answer, sizeof(answer)) == 0 &&
		strcmp(answer, "yes") == 0) {
		remember(l);
		return 0;
	}
	cij_error_set(err, CIJ_E_UNREACHABLE, "%s: its host key %s is not in known_hosts", l->guest,
		print);
	return cij_error_hint(err, "'%s' once, to check and remember it", by_hand);
}

/* What the files of known hosts say, the first that says anything. */
static enum ssh_known_hosts_e
look_up(struct ssh_link *l, const struct ssh_config *config)
{
	enum ssh_known_hosts_e found = SSH_KNOWN_HOSTS_NOT_FOUND;

	for (size_t i = 0; i < config->n_known; i++) {
		(void)ssh_options_set(l->session, SSH_OPTIONS_KNOWNHOSTS, config->known[i]);
		found = ssh_session_is_known_server(l->session);
		if (found != SSH_KNOWN_HOSTS_NOT_FOUND && found != SSH_KNOWN_HOSTS_UNKNOWN)
			return found;
	}
	if (config->n_known > 0)
		(void)ssh_options_set(l->session, SSH_OPTIONS_KNOWNHOSTS, config->known[0]);
	return found;
}

static int
check_host_key(struct ssh_link *l, const struct ssh_config *config, struct cij_error *err)
{
	_cleanup_free_ char *key = ssh_link_host_key(l);
	_cleanup_free_ char *print = key ? ssh_key_fingerprint(key) : NULL;

	switch (look_up(l, config)) {
	case SSH_KNOWN_HOSTS_OK:
		return 0;
	case SSH_KNOWN_HOSTS_NOT_FOUND:
	case SSH_KNOWN_HOSTS_UNKNOWN:
		return meet_host(l, config->strict, print ? print : "?", err);
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

/* Whether one of the configured keys can be used as it is. */
static bool
has_open_key(const struct ssh_config *config)
{
	for (size_t i = 0; i < config->n_keys; i++) {
		ssh_key key = NULL;

		if (access(config->keys[i], R_OK) == 0 &&
			ssh_pki_import_privkey_file(config->keys[i], "", NULL, NULL, &key) ==
				SSH_OK) {
			ssh_key_free(key);
			return true;
		}
	}
	return false;
}

/*
 * libssh finds the agent by the environment, which is this process's own. IdentitiesOnly: the agent
 * is left out, but where it may be the only one that can use the key.
 */
static void
settle_agent(const struct ssh_config *config)
{
	if (config->keys_only && has_open_key(config))
		(void)unsetenv("SSH_AUTH_SOCK");
	else if (config->agent)
		(void)setenv("SSH_AUTH_SOCK", config->agent, true);
}

int
ssh_login_host(struct ssh_link *l, const char *name, struct cij_error *err)
{
	_cleanup_(spec_clear)
	struct spec s = {0};
	_cleanup_(ssh_config_clear)
	struct ssh_config config = {0};

	l->own_host = true;
	l->guest = name;
	if (parse_spec(name, &s, err) < 0 ||
		ssh_config_read(&config, s.host, s.user, s.port, l->no_prompt, err) < 0)
		return -1;
	if (config.unheeded)
		out_note("%s: ssh's configuration says '%s': that is not followed here", name,
			config.unheeded);
	l->no_prompt = l->no_prompt || config.batch;
	l->session = ssh_new();
	if (!l->session)
		abort();
	ssh_set_blocking(l->session, 0);
	if (set_options(l, &config, err) < 0 || connect_host(l, &config, err) < 0 ||
		ssh_link_handshake(l, err) < 0 || check_host_key(l, &config, err) < 0)
		return -1;
	settle_agent(&config);
	return ssh_keys_login(l, l->user, NULL, err);
}
