#include "client/console_many.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "client/clock.h"
#include "client/guests.h"
#include "client/out.h"
#include "client/view.h"

/* A glob is answered at once. */
#define ASK_SECONDS 30

/* So much of a script is sent to each guest; a longer one is refused. */
#define INPUT_MAX (16 * 1024 * 1024)

/* A longer line is printed in pieces. */
#define LINE_BYTES 4096

struct one {
	const char *guest; /* weak */
	pid_t pid;
	int fd; /* what it prints; -1: it has ended */
	size_t len;
	char line[LINE_BYTES];
};

struct many {
	struct guests guests;
	struct one *ones;
	size_t n;
	int input_fd; /* -1: none */
};

static void
many_clear(struct many *m)
{
	for (size_t i = 0; i < m->n; i++) {
		if (m->ones[i].fd >= 0)
			close(m->ones[i].fd);
		if (m->ones[i].pid > 0) {
			kill(m->ones[i].pid, SIGTERM);
			(void)waitpid(m->ones[i].pid, NULL, 0);
		}
	}
	free(m->ones);
	if (m->input_fd >= 0)
		close(m->input_fd);
	guests_clear(&m->guests);
}

/* All of stdin, in a file that each guest reads from its beginning. */
static int
read_input(struct many *m, struct cij_error *err)
{
	char buf[65536];
	size_t total = 0;
	ssize_t n;

	m->input_fd = memfd_create("input", MFD_CLOEXEC);
	if (m->input_fd < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot keep the input");
	while ((n = read(STDIN_FILENO, buf, sizeof(buf))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot read the input");
		total += (size_t)n;
		if (total > INPUT_MAX)
			return cij_error_set(err, CIJ_E_BAD_REQUEST,
				"more than %d MiB of input for several guests", INPUT_MAX >> 20);
		if (out_write(m->input_fd, buf, (size_t)n) < 0)
			return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot keep the input");
	}
	return 0;
}

static int
find_guests(struct many *m, struct call *call, struct cij_error *err)
{
	_cleanup_link_ struct link l = LINK_INIT;
	char *word = (char *)call->guest;

	if (link_open(&l, call->socket, clock_deadline(ASK_SECONDS), err) < 0 ||
		guests_expand(&l, &word, 1, &m->guests, err) < 0)
		return -1;
	if (m->guests.n == 1 && m->guests.items[0].missing)
		return guest_missing(&m->guests.items[0], err);
	m->ones = calloc(m->guests.n, sizeof(*m->ones));
	if (!m->ones)
		abort();
	for (size_t i = 0; i < m->guests.n; i++) {
		const char *state = m->guests.items[i].state;

		/* The glob is for those who have a console now. */
		if (state && (strcmp(state, "stopped") == 0 || strcmp(state, "broken") == 0))
			continue;
		m->ones[m->n].fd = -1;
		m->ones[m->n++].guest = m->guests.items[i].name;
	}
	if (m->n == 0)
		return cij_error_set(err, CIJ_E_BUSY, "none of the guests '%s' runs", word);
	return 0;
}

/* The child: one guest's console, as if it had been called for it alone. */
static void __attribute__((noreturn)) be_one(struct call *call, struct one *one, int input, int out,
	int (*run)(struct call *, struct cij_error *))
{
	struct cij_error err = CIJ_ERROR_INIT;
	struct call own = *call;
	char path[64];
	int fd, rc;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", input);
	/* Opened anew: with an offset of its own. */
	fd = open(input >= 0 ? path : "/dev/null", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || dup2(fd, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
		_exit(1);
	own.guest = one->guest;
	rc = run(&own, &err);
	if (rc < 0) {
		out_error_of(one->guest, &err);
		rc = cij_error_exit_code(err.class);
	}
	(void)fflush(NULL);
	_exit(rc);
}

static int
start_one(struct many *m, struct one *one, struct call *call,
	int (*run)(struct call *, struct cij_error *), struct cij_error *err)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot make a pipe");
	fflush(NULL);
	one->pid = fork();
	if (one->pid == 0)
		be_one(call, one, m->input_fd, fds[1], run);
	close(fds[1]);
	one->fd = fds[0];
	if (one->pid < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot fork");
	return 0;
}

static void
print_line(struct one *one)
{
	printf("%s: ", one->guest);
	out_text(one->line, one->len);
	putchar('\n');
	one->len = 0;
}

static void
take_output(struct one *one)
{
	char buf[16 * 1024];
	ssize_t n = read(one->fd, buf, sizeof(buf));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	for (ssize_t i = 0; i < n; i++) {
		if (buf[i] == '\n' || one->len == LINE_BYTES)
			print_line(one);
		if (buf[i] != '\n')
			one->line[one->len++] = buf[i];
	}
	fflush(stdout);
	if (n > 0)
		return;
	if (one->len > 0)
		print_line(one);
	close(one->fd);
	one->fd = -1;
}

/* Prints until all have ended, or nobody reads. */
static void
print_all(struct many *m)
{
	_cleanup_free_ struct pollfd *fds = calloc(m->n + 1, sizeof(*fds));

	if (!fds)
		abort();
	for (size_t open = m->n; open > 0;) {
		open = 0;
		for (size_t i = 0; i < m->n; i++) {
			fds[i] = (struct pollfd){m->ones[i].fd, POLLIN};
			open += m->ones[i].fd >= 0;
		}
		fds[m->n] = (struct pollfd){STDOUT_FILENO, 0};
		if (open == 0 || (poll(fds, m->n + 1, -1) > 0 && fds[m->n].revents & POLLERR))
			return;
		for (size_t i = 0; i < m->n; i++)
			if (m->ones[i].fd >= 0 && fds[i].revents)
				take_output(&m->ones[i]);
	}
}

/* The first failure's code. */
static int
collect(struct many *m)
{
	int code = 0;

	for (size_t i = 0; i < m->n; i++) {
		struct one *one = &m->ones[i];
		int status = 0;

		if (one->fd >= 0) /* nobody reads any more */
			continue;
		while (waitpid(one->pid, &status, 0) < 0 && errno == EINTR)
			;
		one->pid = 0;
		if (code == 0)
			code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
	}
	return code;
}

int
console_many(struct call *call, bool input, int (*one)(struct call *, struct cij_error *),
	struct cij_error *err)
{
	_cleanup_(many_clear)
	struct many m = {.input_fd = -1};

	if (find_guests(&m, call, err) < 0 || (input && read_input(&m, err) < 0))
		return -1;
	for (size_t i = 0; i < m.n; i++)
		if (start_one(&m, &m.ones[i], call, one, err) < 0)
			return -1;
	print_all(&m);
	return collect(&m);
}
