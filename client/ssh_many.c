#include "client/ssh_many.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "client/args.h"
#include "client/clock.h"
#include "client/guests.h"
#include "client/link.h"
#include "client/out.h"
#include "client/term.h"

/* So many connections at once are no burden for a host; more are asked for with --parallel=N. */
#define PARALLEL_DEFAULT 16
#define PARALLEL_MAX 256

/* A line that is longer is printed in pieces. */
#define PART_LINE_MAX (64 * 1024)

/* More output than this of one guest is not kept for its JSON object. */
#define KEEP_MAX (64UL * 1024 * 1024)

#define ASK_SECONDS 30

/* What a child could not even begin to say. */
#define EXIT_LOST 255

struct stream_text {
	int fd; /* -1: at its end */
	char *buf;
	size_t len, size;
};

struct one {
	const char *guest; /* weak */
	pid_t pid; /* 0: not started or over */
	struct stream_text out[2]; /* stdout, stderr */
	int code; /* -1: not known yet */
};

struct many {
	struct call *call;
	many_fn *fn;
	struct guests guests;
	struct one *items;
	size_t n, started, over;
	int width; /* of the longest name */
	sigset_t signals; /* let in while waiting: none is missed between looking and that */
	int lost; /* errno with which our stdout broke; 0 = it takes what comes */
};

static void
many_clear(struct many *m)
{
	for (size_t i = 0; m->items && i < m->n; i++)
		for (int s = 0; s < 2; s++) {
			free(m->items[i].out[s].buf);
			if (m->items[i].out[s].fd >= 0)
				close(m->items[i].out[s].fd);
		}
	free(m->items);
	guests_clear(&m->guests);
}

/* The child: one guest's command, with our output going to pipes. */
__attribute__((noreturn)) static void
child(struct many *m, struct one *one, int out, int errfd)
{
	struct cij_error err = CIJ_ERROR_INIT;
	int null = m->n > 1 || m->call->guests ? open("/dev/null", O_RDONLY) : -1, code;

	sigprocmask(SIG_SETMASK, &m->signals, NULL);
	/* What our parent reads is its own: a pipe that we held open would never be seen to break.
	 */
	for (size_t i = 0; i < m->n; i++)
		for (int s = 0; s < 2; s++)
			if (m->items[i].out[s].fd >= 0)
				close(m->items[i].out[s].fd);
	if (null >= 0)
		(void)dup2(null, STDIN_FILENO);
	if (dup2(out, STDOUT_FILENO) < 0 || dup2(errfd, STDERR_FILENO) < 0)
		_exit(EXIT_LOST);
	m->call->guest = one->guest;
	code = m->fn(m->call, &err);
	if (code < 0) {
		out_error(&err);
		code = EXIT_LOST;
	}
	_exit(out_finish(code));
}

static int
start(struct many *m, struct one *one, struct cij_error *err)
{
	int out[2], errs[2];

	if (pipe2(out, O_CLOEXEC) < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot make a pipe");
	if (pipe2(errs, O_CLOEXEC) < 0) {
		close(out[0]);
		close(out[1]);
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot make a pipe");
	}
	one->out[0].fd = out[0];
	one->out[1].fd = errs[0];
	fflush(stdout);
	one->pid = fork();
	if (one->pid == 0)
		child(m, one, out[1], errs[1]);
	close(out[1]);
	close(errs[1]);
	if (one->pid < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot start a process");
	m->started++;
	return 0;
}

/*
 * Prints the whole lines of what came; at the stream's end also what is behind the last. Returns 0,
 * or -1 with errno where @to takes no more.
 */
static int
print_lines(const struct many *m, const struct one *one, struct stream_text *t, int to, bool end)
{
	char *at = t->buf, *newline;
	size_t left = t->len;
	int rc = 0;

	while (left > 0 && rc == 0) {
		char head[96];
		size_t n;

		newline = memchr(at, '\n', left);
		if (!newline && !end && left < PART_LINE_MAX)
			break;
		n = newline ? (size_t)(newline - at) : left;
		snprintf(head, sizeof(head), "%-*s ", m->width + 1, "");
		memcpy(head, one->guest, strlen(one->guest));
		head[strlen(one->guest)] = ':';
		if (out_write(to, head, strlen(head)) < 0 || out_write(to, at, n) < 0 ||
			out_write(to, "\n", 1) < 0)
			rc = -1;
		n += newline ? 1 : 0;
		at += n;
		left -= n;
	}
	if (left > 0)
		memmove(t->buf, at, left);
	t->len = left;
	return rc;
}

/*
 * Our stdout takes no more. The children's go, too: that is how they are told, as they would be
 * without us between them and it.
 */
static void
lose_stdout(struct many *m)
{
	m->lost = errno;
	for (size_t i = 0; i < m->n; i++) {
		if (m->items[i].out[0].fd >= 0)
			close(m->items[i].out[0].fd);
		m->items[i].out[0].fd = -1;
	}
}

/* Takes in what a child wrote. */
static void
take(struct many *m, struct one *one, int which)
{
	struct stream_text *t = &one->out[which];
	ssize_t n;

	if (t->len == t->size) {
		t->size = t->size ? t->size * 2 : 16 * 1024;
		t->buf = realloc(t->buf, t->size);
		if (!t->buf)
			abort();
	}
	n = read(t->fd, t->buf + t->len, t->size - t->len);
	if (n < 0 && errno == EINTR)
		return;
	if (n > 0)
		t->len += n;
	if (!m->call->json) {
		if (print_lines(m, one, t, which ? STDERR_FILENO : STDOUT_FILENO, n <= 0) < 0 &&
			!which)
			lose_stdout(m);
	} else if (t->len >= KEEP_MAX) {
		t->len = KEEP_MAX - 1; /* the rest is read and dropped */
	}
	if (n > 0 || t->fd < 0)
		return;
	close(t->fd);
	t->fd = -1;
}

/* A JSON string takes UTF-8 only: other bytes become U+FFFD. */
static struct json_object *
text_to_json(const struct stream_text *t)
{
	static const char replacement[] = "\xef\xbf\xbd";
	struct json_object *value;
	char *text = malloc(t->len * 3 + 1), *at = text;
	size_t i = 0;

	if (!text)
		abort();
	while (i < t->len) {
		unsigned char c = t->buf[i];
		size_t n = c < 0x80                ? 1
			   : c >= 0xc2 && c < 0xe0 ? 2
			   : c >= 0xe0 && c < 0xf0 ? 3
			   : c >= 0xf0 && c < 0xf5 ? 4
						   : 0;
		bool good = n > 0 && i + n <= t->len;

		for (size_t k = 1; good && k < n; k++)
			good = ((unsigned char)t->buf[i + k] & 0xc0) == 0x80;
		if (good) {
			memcpy(at, t->buf + i, n);
			at += n;
			i += n;
		} else {
			at = stpcpy(at, replacement);
			i++;
		}
	}
	value = json_object_new_string_len(text, (int)(at - text));
	free(text);
	return value;
}

static void
print_object(const struct one *one)
{
	_cleanup_json_ struct json_object *obj = json_object_new_object();
	const char *text;

	cij_json_add_str(obj, "guest", one->guest);
	cij_json_add_int(obj, "exit_code", one->code);
	json_object_object_add(obj, "stdout", text_to_json(&one->out[0]));
	json_object_object_add(obj, "stderr", text_to_json(&one->out[1]));
	text = json_object_to_json_string_ext(obj, JSON_C_TO_STRING_NOSLASHESCAPE);
	printf("%s\n", text);
	fflush(stdout);
}

/* A child all of whose output has come: its exit code. */
static void
reap(struct many *m, struct one *one)
{
	int status = 0;

	while (waitpid(one->pid, &status, 0) < 0 && errno == EINTR)
		continue;
	one->pid = 0;
	one->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	m->over++;
	if (m->call->json)
		print_object(one);
}

/* Waits for output of any child and takes it in. */
static void
step(struct many *m)
{
	struct pollfd fds[2 * PARALLEL_MAX] = {{0}};
	struct one *whose[2 * PARALLEL_MAX] = {NULL};
	size_t n = 0;

	for (size_t i = 0; i < m->n; i++)
		for (int s = 0; s < 2 && m->items[i].pid; s++)
			if (m->items[i].out[s].fd >= 0) {
				whose[n] = &m->items[i];
				fds[n++] = (struct pollfd){m->items[i].out[s].fd, POLLIN};
			}
	if (n > 0 && ppoll(fds, n, NULL, &m->signals) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		if (fds[i].revents && fds[i].fd == whose[i]->out[1].fd)
			take(m, whose[i], 1);
		else if (fds[i].revents && fds[i].fd == whose[i]->out[0].fd)
			take(m, whose[i], 0);
	for (size_t i = 0; i < m->n; i++)
		if (m->items[i].pid && m->items[i].out[0].fd < 0 && m->items[i].out[1].fd < 0)
			reap(m, &m->items[i]);
}

/* Runs them all, @parallel at a time. Interrupted, the children are too, by the terminal or us. */
static int
run_all(struct many *m, size_t parallel, struct cij_error *err)
{
	while (m->over < m->n) {
		while (m->started < m->n && m->started - m->over < parallel && !term_caught() &&
			!m->lost)
			if (start(m, &m->items[m->started], err) < 0)
				return -1;
		if (m->started == m->over)
			break;
		step(m);
		for (size_t i = 0; term_caught() && i < m->n; i++)
			if (m->items[i].pid > 0)
				(void)kill(m->items[i].pid, term_caught());
	}
	if (term_caught())
		return 128 + term_caught();
	if (m->lost == EPIPE)
		return 128 + SIGPIPE;
	if (m->lost)
		return cij_error_errno(err, CIJ_E_FAILED, m->lost, "cannot write the output");
	for (size_t i = 0; i < m->n; i++)
		if (m->items[i].code > 0)
			return m->items[i].code;
	return 0;
}

/* The guests that are meant: @n names and globs; of globs and --all those that run. */
static int
expand(struct many *m, char **names, size_t n, struct cij_error *err)
{
	_cleanup_link_ struct link l = LINK_INIT;

	if (link_open(&l, m->call->socket, call_deadline(m->call, ASK_SECONDS), err) < 0 ||
		guests_expand(&l, names, n, &m->guests, err) < 0)
		return -1;
	m->items = calloc(m->guests.n + 1, sizeof(*m->items));
	if (!m->items)
		abort();
	for (size_t i = 0; i < m->guests.n; i++) {
		const struct guest_ref *ref = &m->guests.items[i];

		if (ref->missing)
			return guest_missing(ref, err);
		if (ref->state && strcmp(ref->state, "running") != 0)
			continue;
		m->items[m->n++] = (struct one){
			.guest = ref->name, .out = {{.fd = -1}, {.fd = -1}}, .code = -1};
		if ((int)strlen(ref->name) > m->width)
			m->width = (int)strlen(ref->name);
	}
	if (m->n == 0)
		out_note("%s: no guest runs that it applies to", m->call->command->name);
	return 0;
}

static int
parallel_option(struct call *call, size_t *parallel, struct cij_error *err)
{
	const char *text = call_value(call, "parallel");
	int64_t n = call_has(call, "parallel") ? PARALLEL_DEFAULT : 1;

	if (text && call_number(call, "parallel", n, &n, err) < 0)
		return -1;
	if (n < 1 || n > PARALLEL_MAX)
		return call_usage(call, err, "--parallel takes 1 to %d", PARALLEL_MAX);
	*parallel = n;
	return 0;
}

static int
run(struct call *call, many_fn *fn, char **names, size_t n, struct cij_error *err)
{
	_cleanup_(many_clear)
	struct many m = {.call = call, .fn = fn};
	size_t parallel = 1;
	int rc;

	if (parallel_option(call, &parallel, err) < 0 || expand(&m, names, n, err) < 0)
		return -1;
	term_hold(&m.signals);
	rc = run_all(&m, parallel, err);
	sigprocmask(SIG_SETMASK, &m.signals, NULL);
	return rc;
}

int
ssh_many_run(struct call *call, many_fn *fn, struct cij_error *err)
{
	return run(call, fn, call->guests, call->n_guests, err);
}

int
ssh_many_run_json(struct call *call, many_fn *fn, struct cij_error *err)
{
	char *name[] = {(char *)call->guest};

	return run(call, fn, name, 1, err);
}
