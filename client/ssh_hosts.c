#include "client/ssh_hosts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "cijqemu/protocol.h"
#include "client/args.h"
#include "client/clock.h"
#include "client/link.h"
#include "client/list.h"
#include "client/out.h"
#include "client/ssh_link.h"

/* Beyond this the table is no use any more. */
#define HOSTS_MAX 64

/* What a host gets beyond the deadline to say that it has passed. */
#define ANSWER_SECONDS 5

/* Longest list of one host: 1000 guests are under 1 MiB. */
#define LIST_MAX (64UL * 1024 * 1024)

struct asked {
	const char *host; /* weak */
	pid_t pid;
	int fd; /* -1: all has come */
	char *buf;
	size_t len, size;
	struct json_object *guests;
	int code; /* of its process; -1 = it was ended by us */
};

/* The child: the one host's list, as JSON. */
__attribute__((noreturn)) static void
child(struct call *call, const char *host, int fd)
{
	_cleanup_reply_ struct reply r = {0};
	struct cij_error err = CIJ_ERROR_INIT;
	const char *text;
	size_t len;

	call->host = host;
	if (host_enter(call, true, &err) < 0 || list_ask(call, &r, &err) < 0) {
		out_error_of(strstr(err.desc, host) ? NULL : host, &err);
		_exit(cij_error_exit_code(err.class));
	}
	text = reply_text(&r, &len);
	_exit(out_write(fd, text, len) < 0);
}

static int
ask(struct call *call, struct asked *a, struct cij_error *err)
{
	int pipes[2];

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot make a pipe");
	a->pid = fork();
	if (a->pid == 0)
		child(call, a->host, pipes[1]);
	close(pipes[1]);
	a->fd = pipes[0];
	if (a->pid < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot start a process");
	return 0;
}

/* Takes in what a host sent. */
static void
take(struct asked *a)
{
	ssize_t n;

	if (a->len == a->size) {
		a->size = a->size ? a->size * 2 : 16 * 1024;
		a->buf = realloc(a->buf, a->size);
		if (!a->buf)
			abort();
	}
	n = read(a->fd, a->buf + a->len, a->size - a->len);
	if (n < 0 && errno == EINTR)
		return;
	if (n > 0)
		a->len += n;
	if (n > 0 && a->len < LIST_MAX)
		return;
	close(a->fd);
	a->fd = -1;
}

/* Waits for them all, until @deadline at most. */
static void
collect(struct asked *asked, size_t n, int64_t deadline)
{
	for (;;) {
		struct pollfd fds[HOSTS_MAX];
		size_t open = 0;

		for (size_t i = 0; i < n; i++) {
			fds[i] = (struct pollfd){asked[i].fd, POLLIN};
			open += asked[i].fd >= 0;
		}
		if (open == 0 || clock_left(deadline) == 0)
			return;
		if (poll(fds, n, clock_left(deadline)) <= 0)
			continue;
		for (size_t i = 0; i < n; i++)
			if (fds[i].revents)
				take(&asked[i]);
	}
}

/* The end of one host's process: its list, or why there is none. */
static void
settle(struct asked *a)
{
	struct cij_error err = CIJ_ERROR_INIT;
	int status;

	if (a->fd >= 0) {
		(void)kill(a->pid, SIGKILL);
		close(a->fd);
		a->fd = -1;
		cij_error_set(&err, CIJ_E_TIMEOUT, "%s did not answer in time", a->host);
		out_error(&err);
	}
	while (waitpid(a->pid, &status, 0) < 0 && errno == EINTR)
		continue;
	a->code = err.class != CIJ_E_NONE ? cij_error_exit_code(err.class)
		  : WIFEXITED(status)     ? WEXITSTATUS(status)
					  : 1;
	if (a->code != 0)
		return;
	a->guests = cij_json_parse(a->buf ? a->buf : "", a->len, CIJ_REPLY_DEPTH_MAX, &err);
	if (json_object_is_type(a->guests, json_type_array))
		return;
	json_object_put(a->guests);
	a->guests = NULL;
	cij_error_set(&err, CIJ_E_PROTOCOL, "%s: its list cannot be read", a->host);
	out_error(&err);
	a->code = cij_error_exit_code(err.class);
}

/* All guests in one array, each with its host. */
static void
print_json(const struct asked *asked, size_t n)
{
	_cleanup_json_ struct json_object *all = json_object_new_array();
	const char *text;

	for (size_t i = 0; i < n; i++)
		for (size_t g = 0; asked[i].guests && g < json_object_array_length(asked[i].guests);
			g++) {
			struct json_object *view = json_object_array_get_idx(asked[i].guests, g);

			cij_json_add_str(view, "host", asked[i].host);
			json_object_array_add(all, json_object_get(view));
		}
	text = json_object_to_json_string_ext(all, JSON_C_TO_STRING_NOSLASHESCAPE);
	out_json(text, strlen(text), out_colours(stdout));
}

static void
print(struct call *call, const struct asked *asked, size_t n)
{
	struct listing lists[HOSTS_MAX];

	if (call->json) {
		print_json(asked, n);
		return;
	}
	for (size_t i = 0; i < n; i++)
		lists[i] = (struct listing){asked[i].host, asked[i].guests};
	list_print(lists, n);
}

/* Takes "a,b,c" apart. */
static int
split(struct call *call, char *names, struct asked *asked, size_t *n, struct cij_error *err)
{
	char *name;

	while ((name = strsep(&names, ","))) {
		if (!*name)
			continue;
		if (*n == HOSTS_MAX)
			return call_usage(call, err, "more than %d hosts", HOSTS_MAX);
		asked[(*n)++] = (struct asked){.host = name, .fd = -1};
	}
	return *n > 0 ? 0 : call_usage(call, err, "--host '%s' names no host", call->host);
}

int
hosts_run(struct call *call, int *code, struct cij_error *err)
{
	_cleanup_free_ char *names = strdup(call->host);
	int64_t deadline = call_deadline(call, SSH_SECONDS);
	struct asked asked[HOSTS_MAX];
	size_t n = 0, started = 0;
	int rc = 0;

	if (!(call->command->flags & CMD_HOSTS)) {
		call_usage(call, err, "several hosts are for 'list' alone");
		return cij_error_hint(err, "name one: --host HOST");
	}
	if (!names)
		abort();
	if (split(call, names, asked, &n, err) < 0)
		return -1;
	while (started < n && rc == 0)
		rc = ask(call, &asked[started++], err);
	if (deadline != CLOCK_NEVER)
		deadline += ANSWER_SECONDS * 1000;
	*code = 0;
	if (rc == 0)
		collect(asked, n, deadline);
	for (size_t i = 0; i < started && asked[i].pid > 0; i++) {
		settle(&asked[i]);
		if (*code == 0)
			*code = asked[i].code;
	}
	if (rc == 0)
		print(call, asked, n);
	for (size_t i = 0; i < n; i++) {
		json_object_put(asked[i].guests);
		free(asked[i].buf);
	}
	return rc < 0 ? -1 : 1;
}
