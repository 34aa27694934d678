/* lease GUEST -- COMMAND: the lease is the command's and ends with it, whatever happens to us. */
#include "client/lease.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/args.h"
#include "client/clock.h"
#include "client/out.h"
#include "client/view.h"

/* As shells have it for a command that cannot be run. */
#define EXIT_NOT_FOUND 127
#define EXIT_CANNOT_RUN 126

#define SUBSCRIBE_SECONDS 30

static pid_t child_to_signal;

/* What ends us is meant for the command. */
static void
pass_on(int signum)
{
	if (child_to_signal > 0)
		(void)kill(child_to_signal, signum);
}

/* In the child: waits for the word to go, then becomes the command. */
static void __attribute__((noreturn)) become(int go, char **argv)
{
	struct cij_error err;
	char byte;

	if (read(go, &byte, 1) != 1)
		_exit(0); /* there is no lease: our parent says why */
	close(go);
	signal(SIGPIPE, SIG_DFL);
	execvp(argv[0], argv);
	cij_error_errno(&err, CIJ_E_FAILED, errno, "cannot run '%s'", argv[0]);
	out_error(&err);
	_exit(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN);
}

static int
exit_code(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return 1;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Tells that the lease went while the command runs; it is not ended by that. */
static void
tell_event(const struct call *call, const struct reply *r)
{
	const char *name = cij_json_str(r->msg, "event"), *what = cij_json_str(r->value, "what");
	const char *why = cij_json_str(r->value, "why");

	if (!name || strcmp(name, "LEASE") != 0 || !what ||
		cij_json_int(r->value, "uid", -1) != (int64_t)getuid())
		return;
	if (strcmp(what, "stolen") == 0)
		out_note("%s: your lease was taken by %s: %s", call->guest,
			user_name(cij_json_int(r->value, "by_uid", 0)), why ? why : "");
	else if (strcmp(what, "expired") == 0 || strcmp(what, "released") == 0)
		out_note("%s: your lease has ended (%s); the command goes on", call->guest, what);
}

/* Until the command ends: events of the guest, as long as there is a daemon to tell of them. */
static void
watch(struct call *call, struct link *link, int pidfd)
{
	bool listening = link->fd >= 0;

	for (;;) {
		struct pollfd fds[] = {{pidfd, POLLIN}, {listening ? link->fd : -1, POLLIN}};
		struct reply r = {0};
		struct cij_error err;

		while (listening && (listening = link_next(link, clock_ms(), &r, &err) >= 0) &&
			r.msg) {
			if (r.kind == REPLY_EVENT)
				tell_event(call, &r);
			reply_clear(&r);
		}
		fds[1].fd = listening ? link->fd : -1;
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return;
		if (fds[0].revents)
			return;
	}
}

static void
subscribe(struct call *call, struct link *link)
{
	struct json_object *args = globs_arguments(&call->guest, 1);
	_cleanup_reply_ struct reply r = {0};
	struct cij_error err;

	if (link_open(link, call->socket, clock_deadline(SUBSCRIBE_SECONDS), &err) < 0) {
		json_object_put(args);
		return;
	}
	if (link_call(link, "events-subscribe", args, &r, &err) < 0)
		link_close(link);
}

int
lease_run(struct call *call, struct cij_error *err)
{
	_cleanup_link_ struct link link = LINK_INIT;
	_cleanup_reply_ struct reply r = {0};
	_cleanup_close_ int pidfd = -1;
	char text[256];
	pid_t child;
	int go[2];

	if (pipe(go) < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot make a pipe");
	child = fork();
	if (child < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot make a process");
	if (child == 0) {
		close(go[1]);
		become(go[0], call->args);
	}
	close(go[0]);
	pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	if (lease_acquire(call, child, &r, err) < 0) {
		close(go[1]);
		(void)exit_code(child);
		return -1;
	}
	out_note("%s: leased %s", call->guest, lease_end_text(r.value, text, sizeof(text)));
	subscribe(call, &link);
	child_to_signal = child;
	signal(SIGINT, SIG_IGN); /* the terminal gives them to the command itself */
	signal(SIGQUIT, SIG_IGN);
	signal(SIGTERM, pass_on);
	signal(SIGHUP, pass_on);
	(void)!write(go[1], "", 1);
	close(go[1]);
	watch(call, &link, pidfd);
	return exit_code(child);
}
