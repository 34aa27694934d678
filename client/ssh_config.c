#include "client/ssh_config.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cijqemu/cleanup.h"
#include "client/out.h"
#include "client/quote.h"
#include "proto/text.h"

/* What ssh prints of itself is some 5 KiB. */
#define OUTPUT_MAX (256 * 1024)

/* Where the user's configuration is, and what stands for a host in it. */
struct reading {
	struct ssh_config *config; /* weak */
	const char *name; /* weak: the host as it was named */
	const char *home; /* weak */
	char *file; /* for 'ssh -F'; NULL = ssh finds its files itself */
	char *account_home; /* where ssh thinks that they are */
	char *jump;
	bool batch;
};

static char *
copy(const char *text)
{
	char *s = strdup(text);

	if (!s)
		abort();
	return s;
}

/* The value of one token of ssh_config(5); NULL for one that is none. */
static const char *
token(const struct reading *r, char c, char *buf, size_t size)
{
	const struct ssh_config *config = r->config;

	switch (c) {
	case '%':
		return "%";
	case 'd':
		return r->home;
	case 'h':
		return config->host;
	case 'i':
		snprintf(buf, size, "%u", (unsigned)getuid());
		return buf;
	case 'k':
		return config->alias ? config->alias : config->host;
	case 'L':
	case 'l':
		if (gethostname(buf, size) < 0)
			return NULL;
		buf[size - 1] = '\0';
		if (c == 'L')
			buf[strcspn(buf, ".")] = '\0';
		return buf;
	case 'n':
		return r->name;
	case 'p':
		snprintf(buf, size, "%d", config->port);
		return buf;
	case 'r':
		return config->user;
	case 'u':
		return getenv("USER") ? getenv("USER") : config->user;
	default:
		return NULL;
	}
}

/* @text with its tokens and a "~/" at its head replaced. Heap. */
static char *
expand(const struct reading *r, const char *text)
{
	char *out = NULL, buf[256];
	size_t size;
	FILE *f = open_memstream(&out, &size);

	if (!f)
		abort();
	if (strncmp(text, "~/", 2) == 0) {
		fputs(r->home, f);
		text++;
	}
	for (; *text; text++) {
		const char *value = *text == '%' && text[1] ? token(r, text[1], buf, sizeof(buf))
							    : NULL;

		if (value) {
			fputs(value, f);
			text++;
		} else {
			fputc(*text, f);
		}
	}
	if (fclose(f) != 0)
		abort();
	return out;
}

/* Words that ssh prints as they are, into the member of that name. */
static const struct {
	const char *word;
	size_t at;
} plain[] = {
	{"hostname", offsetof(struct ssh_config, host)},
	{"user", offsetof(struct ssh_config, user)},
	{"hostkeyalias", offsetof(struct ssh_config, alias)},
	{"proxycommand", offsetof(struct ssh_config, proxy)},
	{"identityagent", offsetof(struct ssh_config, agent)},
	{"globalknownhostsfile", offsetof(struct ssh_config, known_global)},
	{"kexalgorithms", offsetof(struct ssh_config, kex)},
	{"hostkeyalgorithms", offsetof(struct ssh_config, host_keys)},
	{"ciphers", offsetof(struct ssh_config, ciphers)},
	{"macs", offsetof(struct ssh_config, macs)},
};

/* What libssh has no way to do, or we do not, where it is set to anything but this. */
static const struct {
	const char *word, *fine;
} unheeded[] = {
	{"certificatefile", NULL},
	{"pkcs11provider", "none"},
	{"knownhostscommand", "none"},
	{"pubkeyauthentication", "true"},
	{"bindaddress", NULL},
	{"bindinterface", NULL},
	{"addressfamily", "any"},
	{"passwordauthentication", "yes"},
};

static void
take_known(struct reading *r, char *files)
{
	struct ssh_config *config = r->config;
	const char *file;

	while ((file = strsep(&files, " ")) && config->n_known < SSH_CONFIG_KNOWN_MAX) {
		size_t n = r->account_home ? strlen(r->account_home) : 0;

		if (strcmp(file, "none") == 0)
			file = "/dev/null";
		/* The default is told with the account's home, not with the user's. */
		if (n > 0 && strncmp(file, r->account_home, n) == 0 &&
			strncmp(file + n, "/.ssh/known_hosts", 17) == 0) {
			if (asprintf(&config->known[config->n_known++], "%s%s", r->home, file + n) <
				0)
				abort();
		} else if (*file) {
			config->known[config->n_known++] = expand(r, file);
		}
	}
}

/* One line of 'ssh -G': a word in small letters, and its value. */
static void
take_line(struct reading *r, const char *word, char *value)
{
	struct ssh_config *config = r->config;

	for (size_t i = 0; i < cij_array_size(plain); i++)
		if (strcmp(word, plain[i].word) == 0) {
			char **member = (char **)((char *)config + plain[i].at);

			free(*member);
			*member = copy(value);
		}
	for (size_t i = 0; i < cij_array_size(unheeded) && !config->unheeded; i++)
		if (strcmp(word, unheeded[i].word) == 0 &&
			(!unheeded[i].fine || (strcmp(value, unheeded[i].fine) != 0 &&
						      strcmp(value, "yes") != 0)) &&
			asprintf(&config->unheeded, "%s %s", word, value) < 0)
			abort();
	if (strcmp(word, "port") == 0)
		config->port = atoi(value);
	else if (strcmp(word, "identityfile") == 0 && config->n_keys < SSH_CONFIG_KEYS_MAX &&
		 strcmp(value, "none") != 0)
		config->keys[config->n_keys++] = copy(value);
	else if (strcmp(word, "identitiesonly") == 0)
		config->keys_only = strcmp(value, "yes") == 0;
	else if (strcmp(word, "batchmode") == 0)
		config->batch = strcmp(value, "yes") == 0;
	else if (strcmp(word, "stricthostkeychecking") == 0)
		config->strict = strcmp(value, "true") == 0 || strcmp(value, "yes") == 0
					 ? STRICT_YES
				 : strcmp(value, "ask") == 0 ? STRICT_ASK
							     : STRICT_ACCEPT_NEW;
	else if (strcmp(word, "userknownhostsfile") == 0)
		take_known(r, value);
	else if (strcmp(word, "proxyjump") == 0 && strcmp(value, "none") != 0) {
		free(r->jump);
		r->jump = copy(value);
	}
}

/* ProxyJump as the command that it stands for: the last of the hosts, reached through the others.
 */
static char *
jump_command(const struct reading *r)
{
	const char *comma = strrchr(r->jump, ','), *last = comma ? comma + 1 : r->jump;
	_cleanup_free_ char *others = comma ? strndup(r->jump, comma - r->jump) : NULL;
	_cleanup_free_ char *config = r->file ? shell_quote(r->file, false) : NULL;
	_cleanup_free_ char *via = others ? shell_quote(others, false) : NULL;
	_cleanup_free_ char *url = NULL, *to = NULL;
	char *line;

	if (asprintf(&url, "%s%s", strncmp(last, "ssh://", 6) == 0 ? "" : "ssh://", last) < 0)
		abort();
	to = shell_quote(url, false);
	if (asprintf(&line, "ssh%s%s%s%s%s -W '[%%h]:%%p' %s", config ? " -F " : "",
		    config ? config : "", via ? " -J " : "", via ? via : "",
		    r->batch ? " -o BatchMode=yes" : "", to) < 0)
		abort();
	return line;
}

/* The agent's socket: a name of the environment's, a path, or none. */
static void
settle_agent(struct reading *r)
{
	char *agent = r->config->agent;
	const char *value;

	if (!agent)
		return;
	if (strcmp(agent, "none") == 0)
		r->config->agent = copy("");
	else if (strcmp(agent, "SSH_AUTH_SOCK") == 0)
		r->config->agent = NULL;
	else if (*agent == '$')
		r->config->agent = copy((value = getenv(agent + 1)) ? value : "");
	else
		r->config->agent = expand(r, agent);
	free(agent);
}

/* All lines have been seen: tokens are replaced, by what other lines said. */
static void
settle(struct reading *r)
{
	struct ssh_config *config = r->config;
	char *was = config->proxy;

	if (was && strcmp(was, "none") == 0)
		config->proxy = NULL;
	else if (was)
		config->proxy = expand(r, was);
	else if (r->jump) {
		was = jump_command(r);
		config->proxy = expand(r, was);
	}
	free(was);
	for (size_t i = 0; i < config->n_keys; i++) {
		was = config->keys[i];
		config->keys[i] = expand(r, was);
		free(was);
	}
	if (config->known_global)
		config->known_global[strcspn(config->known_global, " ")] = '\0';
	settle_agent(r);
}

/* The child: ssh, with all that it says going to @out. */
__attribute__((noreturn)) static void
run_ssh(const struct reading *r, const char *user, int port, int out)
{
	const char *argv[12] = {"ssh", "-G"};
	int null = open("/dev/null", O_RDONLY), n = 2;
	char number[16];

	snprintf(number, sizeof(number), "%d", port);
	if (r->file) {
		argv[n++] = "-F";
		argv[n++] = r->file;
	}
	if (user) {
		argv[n++] = "-l";
		argv[n++] = user;
	}
	if (port) {
		argv[n++] = "-p";
		argv[n++] = number;
	}
	argv[n++] = "--";
	argv[n] = r->name;
	(void)dup2(null, STDIN_FILENO);
	(void)dup2(out, STDOUT_FILENO);
	(void)dup2(out, STDERR_FILENO);
	execvp("ssh", (char *const *)argv);
	_exit(errno == ENOENT ? 127 : 126);
}

/* What 'ssh -G' prints, on the heap, and its exit code. */
static char *
ask_ssh(const struct reading *r, const char *user, int port, int *code, struct cij_error *err)
{
	_cleanup_free_ char *text = calloc(1, OUTPUT_MAX);
	int pipes[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	if (!text)
		abort();
	if (pipe2(pipes, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		cij_error_errno(err, CIJ_E_FAILED, errno, "cannot start ssh");
		return NULL;
	}
	if (pid == 0)
		run_ssh(r, user, port, pipes[1]);
	close(pipes[1]);
	while ((n = read(pipes[0], text + len, OUTPUT_MAX - 1 - len)) > 0 ||
		(n < 0 && errno == EINTR))
		len += n > 0 ? n : 0;
	close(pipes[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	*code = WIFEXITED(status) ? WEXITSTATUS(status) : 126;
	return steal_ptr(text);
}

/* Without an ssh there is nobody to read its configuration: its defaults. */
static void
set_defaults(struct reading *r, const char *user, int port)
{
	static const char *const keys[] = {"id_ed25519", "id_ecdsa", "id_rsa"};
	struct ssh_config *config = r->config;

	config->host = copy(r->name);
	config->port = port ? port : 22;
	config->user = copy(user ? user : getenv("USER") ? getenv("USER") : "root");
	for (size_t i = 0; i < cij_array_size(keys); i++)
		if (asprintf(&config->keys[config->n_keys++], "%s/.ssh/%s", r->home, keys[i]) < 0)
			abort();
	if (asprintf(&config->known[config->n_known++], "%s/.ssh/known_hosts", r->home) < 0)
		abort();
	out_note("%s: there is no ssh program here: ~/.ssh/config is not read", r->name);
}

/* ssh goes by the account's home; where the user has another, its file is named. */
static void
find_files(struct reading *r)
{
	const struct passwd *pw = getpwuid(getuid());

	r->home = getenv("HOME");
	if (!r->home || !*r->home)
		r->home = pw ? pw->pw_dir : "/";
	if (pw && strcmp(pw->pw_dir, r->home) == 0)
		return;
	r->account_home = pw ? copy(pw->pw_dir) : NULL;
	if (asprintf(&r->file, "%s/.ssh/config", r->home) < 0)
		abort();
	if (access(r->file, F_OK) < 0) {
		free(r->file);
		r->file = copy("/dev/null");
	}
}

int
ssh_config_read(struct ssh_config *config, const char *host, const char *user, int port, bool batch,
	struct cij_error *err)
{
	struct reading r = {.config = config, .name = host, .batch = batch};
	_cleanup_free_ char *text = NULL;
	char *rest, *line, clean[512];
	int code = 0, rc = 0;

	find_files(&r);
	text = ask_ssh(&r, user, port, &code, err);
	rest = text;
	if (!text) {
		rc = -1;
	} else if (code == 127) {
		set_defaults(&r, user, port);
	} else if (code != 0) {
		text[strcspn(text, "\r\n")] = '\0';
		rc = cij_error_set(err, CIJ_E_UNREACHABLE,
			"%s: ssh cannot make sense of its configuration: %s", host,
			cij_text_clean(text, clean, sizeof(clean)));
	} else {
		while ((line = strsep(&rest, "\n"))) {
			char *value = strchr(line, ' ');

			if (!value)
				continue;
			*value++ = '\0';
			take_line(&r, line, value);
		}
		settle(&r);
		if (!config->host || !config->user || config->port <= 0)
			rc = cij_error_set(err, CIJ_E_UNREACHABLE,
				"%s: 'ssh -G' tells of no host, user and port", host);
	}
	free(r.file);
	free(r.account_home);
	free(r.jump);
	return rc;
}

void
ssh_config_clear(struct ssh_config *config)
{
	for (size_t i = 0; i < cij_array_size(plain); i++)
		free(*(char **)((char *)config + plain[i].at));
	for (size_t i = 0; i < config->n_keys; i++)
		free(config->keys[i]);
	for (size_t i = 0; i < config->n_known; i++)
		free(config->known[i]);
	free(config->unheeded);
	*config = (struct ssh_config){0};
}
