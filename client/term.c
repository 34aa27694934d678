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
static volatile sig_atomic_t is_raw, resized, caught;

static const int deaths[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

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

/* The first deadly signal is noted: there is something to be put in order. */
static void
on_first_death(int signum)
{
	if (caught)
		on_death(signum);
	caught = signum;
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
	for (size_t i = 0; i < cij_array_size(deaths); i++)
		handle(deaths[i], on_death, 0);
	signal(SIGPIPE, SIG_IGN);
}

void
term_catch(void)
{
	for (size_t i = 0; i < cij_array_size(deaths); i++)
		handle(deaths[i], on_first_death, 0);
}

void
term_hold(sigset_t *let_in)
{
	sigset_t set;

	term_catch();
	sigemptyset(&set);
	for (size_t i = 0; i < cij_array_size(deaths); i++)
		sigaddset(&set, deaths[i]);
	sigprocmask(SIG_BLOCK, &set, let_in);
}

int
term_caught(void)
{
	return caught;
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

static int
change(int fd, void (*how)(struct termios *), struct cij_error *err)
{
	static bool stops;

	if (tcgetattr(fd, &was) < 0)
		return cij_error_errno(
			err, CIJ_E_FAILED, errno, "cannot read the terminal's state");
	raw = was;
	how(&raw);
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
	return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot change the terminal's state");
}

static void
to_raw(struct termios *t)
{
	cfmakeraw(t);
	t->c_cc[VMIN] = 1;
	t->c_cc[VTIME] = 0;
}

static void
to_hidden(struct termios *t)
{
	t->c_lflag &= ~(tcflag_t)ECHO;
	t->c_lflag |= ECHONL;
}

int
term_raw(int fd, struct cij_error *err)
{
	return change(fd, to_raw, err);
}

int
term_hide(int fd, struct cij_error *err)
{
	return change(fd, to_hidden, err);
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
