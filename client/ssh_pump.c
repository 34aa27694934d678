/*
 * One loop over the session and our three files. Nothing is read that has nowhere to go: the peer's
 * window, and behind it the command in the guest, waits for a slow reader here, and the other way
 * round.
 */
#include "client/ssh_pump.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "cijqemu/cleanup.h"
#include "client/clock.h"
#include "client/ssh_arrival.h"
#include "client/term.h"

/* As much as libssh puts into one packet, twice over. */
#define FLOW_BYTES (2 * SSH_BLOCK)

/* What a pipe that poll() calls writable takes without blocking. */
#define PIPE_BYTES 4096

/* What the command gets to end in after a signal. */
#define SIGNAL_GRACE_MS 3000

/* The exit code of a program that writes to a closed pipe. */
#define EXIT_EPIPE (128 + SIGPIPE)

/* Nothing to do for so long: is the guest still the one that we were connected with? */
#define SILENCE_SECONDS 15

/* Bytes on their way in one direction. */
struct flow {
	int fd;
	bool is_file; /* never blocks for long, poll() is of no use */
	bool is_socket;
	bool closed; /* input: at its end; output: nobody reads it */
	int error; /* errno of what did not work with it; 0 = nothing, or nobody reads it */
	size_t at, len;
	char buf[FLOW_BYTES + 1]; /* a filter may give back one byte more than it took */
};

struct pump {
	struct ssh_link *link; /* weak */
	ssh_event event;
	struct ssh_channel_callbacks_struct callbacks;
	int exit_code; /* -1 = not known yet */
	struct ssh_arrival arrival;
	bool sent_eof;
	struct flow in, out[2]; /* out: stdout, stderr */
	pump_filter_fn *filter;
	void *filter_arg;
	void (*resize)(struct ssh_link *link);
	bool pass_signals;
	int passed; /* the signal that was passed on; 0 = none */
	int64_t give_up; /* when not to wait for what comes of it any longer */
	sigset_t signals; /* let in while waiting */
};

/* RFC 4254, section 6.10: signals go by their names without SIG. */
static const struct {
	const char *name;
	int number;
} signal_names[] = {
	{"ABRT", SIGABRT},
	{"ALRM", SIGALRM},
	{"FPE", SIGFPE},
	{"HUP", SIGHUP},
	{"ILL", SIGILL},
	{"INT", SIGINT},
	{"KILL", SIGKILL},
	{"PIPE", SIGPIPE},
	{"QUIT", SIGQUIT},
	{"SEGV", SIGSEGV},
	{"TERM", SIGTERM},
	{"USR1", SIGUSR1},
	{"USR2", SIGUSR2},
	/* not in the RFC, but sent by what is in use */
	{"BUS", SIGBUS},
	{"SYS", SIGSYS},
	{"TRAP", SIGTRAP},
	{"XCPU", SIGXCPU},
	{"XFSZ", SIGXFSZ},
};

static void
on_exit_status(ssh_session session, ssh_channel channel, int status, void *arg)
{
	struct pump *p = arg;

	p->exit_code = status & 0xff;
}

static void
on_exit_signal(ssh_session session, ssh_channel channel, const char *name, int core,
	const char *message, const char *lang, void *arg)
{
	struct pump *p = arg;

	p->exit_code = 255; /* ended by a signal whose name we do not know */
	for (size_t i = 0; name && i < cij_array_size(signal_names); i++)
		if (strcmp(signal_names[i].name, name) == 0)
			p->exit_code = 128 + signal_names[i].number;
}

static void
flow_init(struct flow *flow, int fd)
{
	struct stat st;

	flow->fd = fd;
	if (fstat(fd, &st) < 0) {
		flow->closed = true; /* we were started with it closed */
		return;
	}
	flow->is_file = S_ISREG(st.st_mode);
	flow->is_socket = S_ISSOCK(st.st_mode);
}

struct pump *
pump_new(struct ssh_link *link)
{
	struct pump *p = calloc(1, sizeof(*p));

	if (!p)
		abort();
	p->link = link;
	p->exit_code = -1;
	p->callbacks.userdata = p;
	p->callbacks.channel_exit_status_function = on_exit_status;
	p->callbacks.channel_exit_signal_function = on_exit_signal;
	ssh_callbacks_init(&p->callbacks);
	ssh_add_channel_callbacks(link->channel, &p->callbacks);
	ssh_arrival_watch(&p->arrival, link->channel);
	p->event = ssh_event_new();
	if (!p->event || ssh_event_add_session(p->event, link->session) != SSH_OK)
		abort();
	flow_init(&p->in, STDIN_FILENO);
	flow_init(&p->out[0], STDOUT_FILENO);
	flow_init(&p->out[1], STDERR_FILENO);
	sigprocmask(SIG_SETMASK, NULL, &p->signals);
	return p;
}

void
pump_free(struct pump *p)
{
	if (!p)
		return;
	ssh_arrival_forget(&p->arrival, p->link->channel);
	ssh_remove_channel_callbacks(p->link->channel, &p->callbacks);
	ssh_event_remove_session(p->event, p->link->session);
	ssh_event_free(p->event);
	free(p);
}

void
pump_set_filter(struct pump *p, pump_filter_fn *fn, void *arg)
{
	p->filter = fn;
	p->filter_arg = arg;
}

/* Let in by ppoll() alone: none is missed between looking and waiting. */
static void
block(int signum)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signum);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

void
pump_set_resize(struct pump *p, void (*fn)(struct ssh_link *link))
{
	p->resize = fn;
	block(SIGWINCH);
}

void
pump_set_signals(struct pump *p)
{
	p->pass_signals = true;
	term_hold(NULL); /* let in by what pump_new() has seen */
}

/*
 * The user's wish to end goes to the command, which may have something to put in order. A server
 * that knows no signals, or a command that does not care, is left behind after a while.
 */
static void
pass_signal(struct pump *p)
{
	p->passed = term_caught();
	p->give_up = clock_ms() + SIGNAL_GRACE_MS;
	for (size_t i = 0; i < cij_array_size(signal_names); i++)
		if (signal_names[i].number == p->passed)
			(void)ssh_channel_request_send_signal(
				p->link->channel, signal_names[i].name);
}

/* Writes what @flow->fd takes without blocking. Only called when poll() said that it takes some. */
static void
flow_write(struct flow *flow)
{
	ssize_t n;

	if (flow->is_socket)
		n = send(flow->fd, flow->buf + flow->at, flow->len, MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		n = write(flow->fd, flow->buf + flow->at,
			flow->is_file || flow->len < PIPE_BYTES ? flow->len : PIPE_BYTES);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		flow->error = errno == EPIPE ? 0 : errno;
		flow->closed = true;
		flow->len = 0;
		return;
	}
	flow->at += n;
	flow->len -= n;
}

/* Fetches what has come for stdout and stderr, where the last was all written. */
static void
fetch(struct pump *p)
{
	for (int i = 0; i < 2; i++) {
		struct flow *flow = &p->out[i];
		int n;

		if (flow->len > 0)
			continue;
		n = ssh_channel_read_nonblocking(p->link->channel, flow->buf, sizeof(flow->buf), i);
		flow->at = 0;
		flow->len = n > 0 && !flow->closed ? n : 0;
	}
}

/* Takes in a block from stdin. Returns 0, or -1 when the filter says to hang up. */
static int
take_input(struct pump *p)
{
	ssize_t n = read(p->in.fd, p->in.buf, FLOW_BYTES);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		/* nohup(1) gives a file that cannot be read, a terminal that hung up is at its end
		 */
		int error = n < 0 ? errno : 0;

		if (error != EBADF && !isatty(p->in.fd))
			p->in.error = error;
		p->in.closed = true;
		return 0;
	}
	if (p->filter) {
		n = p->filter(p->filter_arg, p->in.buf, n);
		if (n < 0)
			return -1;
	}
	p->in.at = 0;
	p->in.len = n;
	return 0;
}

/* Sends what the peer has room for; libssh's own queue is kept empty. */
static void
send_input(struct pump *p)
{
	ssh_channel channel = p->link->channel;

	while (p->in.len > 0 && ssh_channel_window_size(channel) > 0 &&
		!(ssh_get_poll_flags(p->link->session) & SSH_WRITE_PENDING)) {
		int n = ssh_channel_write(channel, p->in.buf + p->in.at, p->in.len);

		if (n <= 0)
			break; /* changing keys: later; broken: reading will tell */
		p->in.at += n;
		p->in.len -= n;
	}
	if (p->in.closed && p->in.len == 0 && !p->sent_eof) {
		ssh_channel_send_eof(channel);
		p->sent_eof = true;
	}
}

/*
 * A guest that was reset knows nothing of the connection, and QEMU, which holds it for the guest,
 * says nothing of that until something is sent: then the guest's new kernel refuses it.
 */
static void
ask_after_peer(struct pump *p)
{
	if (!(ssh_get_poll_flags(p->link->session) & SSH_WRITE_PENDING))
		(void)ssh_send_ignore(p->link->session, "");
}

/* Waits until something can go on, then does it. Returns 0, -1 to hang up. */
static int
pump_step(struct pump *p)
{
	struct pollfd fds[] = {
		{ssh_get_fd(p->link->session), POLLIN},
		{!p->in.closed && p->in.len == 0 ? p->in.fd : -1, POLLIN},
		/* That nobody reads stdout any more is seen without anything to write, too. */
		{p->out[0].closed || p->out[0].is_file ? -1 : p->out[0].fd,
			p->out[0].len > 0 ? POLLOUT : 0},
		{p->out[1].len > 0 ? p->out[1].fd : -1, POLLOUT},
	};
	struct timespec limit = {p->passed ? 1 : SILENCE_SECONDS, 0};
	bool written = false;
	int n;

	for (int i = 0; i < 2; i++) {
		if (p->out[i].is_file && p->out[i].len > 0) {
			flow_write(&p->out[i]);
			written = true;
		}
	}
	if (written)
		return 0;
	if (ssh_get_poll_flags(p->link->session) & SSH_WRITE_PENDING)
		fds[0].events |= POLLOUT;
	if (p->arrival.any)
		limit.tv_sec = 0;
	n = ppoll(fds, cij_array_size(fds), &limit, &p->signals);
	if (n < 0)
		return 0; /* a signal */
	if (n == 0 && !p->arrival.any)
		ask_after_peer(p);
	if (fds[0].revents)
		(void)ssh_event_dopoll(p->event, 0);
	for (int i = 0; i < 2; i++) {
		if (fds[2 + i].revents && p->out[i].len > 0)
			flow_write(&p->out[i]);
		else if (fds[2 + i].revents & POLLERR)
			p->out[i].closed = true;
	}
	return fds[1].revents ? take_input(p) : 0;
}

/* Whether the command has ended and all that it said is written. */
static bool
is_over(const struct pump *p)
{
	if (p->out[0].len > 0 || p->out[1].len > 0)
		return false;
	return ssh_channel_is_closed(p->link->channel) || !ssh_is_connected(p->link->session);
}

/* A file of ours that broke: what came through it is no whole. */
static int
check_files(const struct pump *p, struct cij_error *err)
{
	if (p->in.error)
		return cij_error_errno(err, CIJ_E_FAILED, p->in.error, "cannot read the input");
	for (int i = 0; i < 2; i++)
		if (p->out[i].error)
			return cij_error_errno(
				err, CIJ_E_FAILED, p->out[i].error, "cannot write the output");
	return 0;
}

int
pump_run(struct pump *p, struct cij_error *err)
{
	struct ssh_link *l = p->link;

	/* A closed stdout from the start is the caller's wish; one that breaks ends it. */
	bool had_stdout = !p->out[0].closed;

	for (;;) {
		if (p->resize && term_resized())
			p->resize(l);
		p->arrival.any = false;
		fetch(p);
		if (check_files(p, err) < 0)
			return -1;
		if (is_over(p))
			break;
		if (had_stdout && p->out[0].closed)
			return EXIT_EPIPE;
		if (p->pass_signals && !p->passed && term_caught())
			pass_signal(p);
		if (p->passed && clock_ms() > p->give_up)
			return 128 + p->passed;
		send_input(p);
		if (pump_step(p) < 0)
			return cij_error_set(err, CIJ_E_FAILED, "%s: connection closed", l->guest);
	}
	if (p->exit_code >= 0)
		return p->exit_code;
	if (p->passed)
		return 128 + p->passed;
	return cij_error_set(err, CIJ_E_FAILED,
		"%s: the connection was lost before the command's exit code came", l->guest);
}
