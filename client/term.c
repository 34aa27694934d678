#include "client/term.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "cijqemu/cleanup.h"

/*
 * One terminal a process, and signal handlers can be given nothing: the state is static. Handlers
 * call async-signal-safe functions only.
 */
static struct termios was, raw;
static int raw_fd = -1;
static volatile sig_atomic_t is_raw, resized;

static void
give_back(void)
{
	if (is_raw)
		(void)tcsetattr(raw_fd, TCSADRAIN, &was);
}

/* A deadly signal: gives the terminal back first. */
static void
on_death(int signum)
{
	give_back();
	_exit(128 + signum);
}

/* Our own fault: gives the terminal back, then lets the signal do its work. */
static void
on_fault(int signum)
{
	give_back();
	raise(signum); /* SA_RESETHAND: the default action */
}

/* Stopped from outside, since a raw terminal has no ^Z: in order until we go on. */
static void
on_stop(int signum)
{
	int saved = errno;

	give_back();
	(void)raise(SIGSTOP);
	errno = saved;
}

/* Going on: raw again, if the terminal is ours; the shell continues us once more when it becomes.
 */
static void
on_continue(int signum)
{
	int saved = errno;

	if (is_raw && tcgetpgrp(raw_fd) == getpgrp())
		(void)tcsetattr(raw_fd, TCSADRAIN, &raw);
	errno = saved;
}

static void
on_resize(int signum)
{
	resized = 1;
}

/* Installs @handler, except where the parent had the signal ignored (nohup). */
static void
handle(int signum, void (*handler)(int), int flags)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, old;

	sigfillset(&action.sa_mask);
	if (sigaction(signum, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
		sigaction(signum, &action, NULL);
}

void
term_init(void)
{
	handle(SIGINT, on_death, 0);
	handle(SIGTERM, on_death, 0);
	handle(SIGHUP, on_death, 0);
	handle(SIGQUIT, on_death, 0);
	signal(SIGPIPE, SIG_IGN);
}

void
term_restore(void)
{
	give_back();
	is_raw = 0;
}

/* Gives the terminal back whatever ends us. */
static void
guard(void)
{
	static const int faults[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
	static bool registered;

	if (registered)
		return;
	registered = true;
	atexit(term_restore);
	for (size_t i = 0; i < cij_array_size(faults); i++)
		handle(faults[i], on_fault, SA_RESETHAND);
}

void
term_keep(int fd)
{
	if (tcgetattr(fd, &was) < 0)
		return;
	raw = was;
	raw_fd = fd;
	guard();
	is_raw = 1;
}

int
term_raw(int fd, struct cij_error *err)
{
	static bool stops;

	if (tcgetattr(fd, &was) < 0)
		return cij_error_errno(
			err, CIJ_E_FAILED, errno, "cannot read the terminal's state");
	raw = was;
	cfmakeraw(&raw);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	raw_fd = fd;
	guard();
	if (!stops) {
		stops = true;
		handle(SIGTSTP, on_stop, SA_RESTART);
		handle(SIGCONT, on_continue, SA_RESTART);
	}
	is_raw = 1;
	if (tcsetattr(fd, TCSADRAIN, &raw) == 0)
		return 0;
	is_raw = 0;
	return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot make the terminal raw");
}

void
term_watch_size(void)
{
	handle(SIGWINCH, on_resize, 0);
}

bool
term_resized(void)
{
	bool yes = resized;

	resized = 0;
	return yes;
}
