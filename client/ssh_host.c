/* --host: the commands' side. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "client/args.h"
#include "client/clock.h"
#include "client/host.h"
#include "client/link.h"
#include "client/quote.h"
#include "client/ssh_hosts.h"
#include "client/ssh_link.h"
#include "client/ssh_relay.h"

/* What the relay needs to tell us of a time-out of its own. */
#define ANSWER_SECONDS 3

/* More than this of a helper command there is none of ours. */
#define RUN_OUTPUT_MAX (64UL * 1024 * 1024)

static int control = -1; /* to the relay; -1 = there is none */
static const char *host_name; /* weak */

static int
lost(struct cij_error *err)
{
	cij_error_set(err, CIJ_E_UNREACHABLE, "the connection to %s was lost", host_name);
	return cij_error_hint(err, "guests over there live on; try again");
}

/* Waits for what the relay says on @fd. */
static int
take_answer(int fd, int64_t deadline, const char *step, struct cij_error *err)
{
	struct relay_answer a;

	for (;;) {
		struct pollfd wait = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (poll(&wait, 1, clock_left(deadline)) == 0)
			return cij_error_set(
				err, CIJ_E_TIMEOUT, "%s: %s: no answer in time", host_name, step);
		n = recv(fd, &a, sizeof(a), MSG_WAITALL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n != sizeof(a))
			return lost(err);
		if (a.asking) {
			deadline = CLOCK_NEVER;
			continue;
		}
		if (a.err.class == CIJ_E_NONE)
			return 0;
		*err = a.err;
		return -1;
	}
}

/* Asks the relay for a connection. Returns our end of it, or -1. */
static int
dial(enum relay_kind kind, const char *text, int64_t deadline, struct cij_error *err)
{
	struct relay_request request = {.kind = kind};
	struct iovec data = {&request, sizeof(request)};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} space = {{0}};
	struct msghdr msg = {.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &space,
		.msg_controllen = sizeof(space)};
	_cleanup_close_ int ours = -1, theirs = -1;
	int pair[2];

	if (strlen(text) >= sizeof(request.text))
		return cij_error_set(
			err, CIJ_E_BAD_REQUEST, "%s: too long a path or command", host_name);
	strcpy(request.text, text);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot make a socket");
	ours = pair[0];
	theirs = pair[1];
	space.header.cmsg_level = SOL_SOCKET;
	space.header.cmsg_type = SCM_RIGHTS;
	space.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&space.header), &theirs, sizeof(theirs));
	if (sendmsg(control, &msg, MSG_NOSIGNAL) < 0)
		return lost(err);
	close(steal_fd(&theirs));
	if (take_answer(ours, deadline, "connecting through it", err) < 0)
		return -1;
	return steal_fd(&ours);
}

static int
connect_daemon(const char *socket, int64_t deadline, struct cij_error *err)
{
	return dial(RELAY_DAEMON, socket ? socket : "", deadline, err);
}

bool
host_active(void)
{
	return control >= 0;
}

int
host_connect_tcp(const char *address, int port, int64_t deadline, struct cij_error *err)
{
	char text[128];

	snprintf(text, sizeof(text), "%s %d", address, port);
	return dial(RELAY_TCP, text, deadline, err);
}

/* Moves what @in holds to @fd, without filling up both directions. Returns 0 when it is at its end.
 */
static int
feed(int fd, int in, int64_t deadline)
{
	char buf[64 * 1024];
	ssize_t n;

	while ((n = read(in, buf, sizeof(buf))) > 0) {
		for (ssize_t at = 0; at < n;) {
			struct pollfd wait = {.fd = fd, .events = POLLOUT};
			ssize_t put = send(fd, buf + at, n - at, MSG_DONTWAIT | MSG_NOSIGNAL);

			if (put > 0)
				at += put;
			else if (put < 0 && errno != EAGAIN)
				return -1;
			else if (poll(&wait, 1, clock_left(deadline)) == 0)
				return -1;
		}
	}
	return n < 0 ? -1 : 0;
}

/* All that comes from @fd until its end, with a NUL behind it. NULL: it did not come to it. */
static char *
read_all(int fd, size_t *len, int64_t deadline)
{
	size_t size = 4096;
	char *buf = malloc(size);

	*len = 0;
	while (buf && *len < RUN_OUTPUT_MAX) {
		struct pollfd wait = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (*len + 1 == size) {
			char *more = realloc(buf, size *= 2);

			if (!more)
				abort();
			buf = more;
		}
		if (poll(&wait, 1, clock_left(deadline)) == 0)
			break;
		n = recv(fd, buf + *len, size - *len - 1, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			buf[*len] = '\0';
			return buf;
		}
		*len += n;
	}
	free(buf);
	return NULL;
}

char *
host_run(const char *command, int in, size_t *len, int64_t deadline, struct cij_error *err)
{
	_cleanup_free_ char *script = NULL, *quoted = NULL, *line = NULL, *text = NULL;
	_cleanup_close_ int fd = -1;
	char *code;

	/* The exit code comes as the last line: a stream has none. */
	if (asprintf(&script, "{ %s; } 2>&1; printf '\\n%%d' $?", command) < 0)
		abort();
	quoted = shell_quote(script, false);
	if (asprintf(&line, "exec sh -c %s", quoted) < 0)
		abort();
	fd = dial(RELAY_RUN, line, deadline, err);
	if (fd < 0)
		return NULL;
	if (in >= 0 && feed(fd, in, deadline) < 0) {
		cij_error_set(err, CIJ_E_FAILED, "%s: cannot send a file there", host_name);
		return NULL;
	}
	(void)shutdown(fd, SHUT_WR);
	text = read_all(fd, len, deadline);
	code = text ? strrchr(text, '\n') : NULL;
	if (!code) {
		lost(err);
		return NULL;
	}
	*code = '\0';
	*len = code - text;
	if (strcmp(code + 1, "0") == 0)
		return steal_ptr(text);
	cij_error_set(err, CIJ_E_FAILED, "%s: %s", host_name,
		*text ? text : "a command failed there without a word");
	return NULL;
}

/* Starts the relay and waits until it is connected. */
static int
start_relay(struct call *call, bool no_prompt, struct cij_error *err)
{
	int pair[2];
	int64_t deadline = call_deadline(call, SSH_SECONDS);
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot make a socket");
	host_name = call->host;
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		relay_run(call, pair[1], no_prompt);
	}
	close(pair[1]);
	control = pair[0];
	if (pid < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot start a process");
	if (deadline != CLOCK_NEVER)
		deadline += ANSWER_SECONDS * 1000;
	if (take_answer(control, deadline, "connecting", err) == 0)
		return 0;
	/* It may be stuck in a look-up of names. It is ours, and has nothing to put in order. */
	if (err->class == CIJ_E_TIMEOUT)
		(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	return -1;
}

int
host_enter(struct call *call, bool no_prompt, struct cij_error *err)
{
	if (start_relay(call, no_prompt, err) < 0)
		return -1;
	link_connect = connect_daemon;
	return 0;
}

int
host_begin(struct call *call, int *code, struct cij_error *err)
{
	if (!call->host)
		return 0;
	if (strchr(call->host, ','))
		return hosts_run(call, code, err);
	return host_enter(call, false, err);
}
