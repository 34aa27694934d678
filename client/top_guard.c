#include "client/top_guard.h"

#include <errno.h>
#include <ncurses.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <term.h>
#include <termios.h>
#include <unistd.h>

#include "client/out.h"

static void
put_string(const char *string)
{
	if (string && string != (char *)-1)
		putp(string);
}

/* What endwin() would have done. */
static void
restore(const struct termios *was)
{
	put_string(exit_attribute_mode);
	put_string(keypad_local);
	put_string(exit_ca_mode);
	put_string(cursor_normal);
	fflush(stdout);
	(void)tcsetattr(STDIN_FILENO, TCSADRAIN, was);
}

/* Our own child's pid cannot be another's before we have waited for it. */
static void
pass_on(pid_t child, const siginfo_t *info)
{
	/* What the terminal sends (^C) goes to the child by itself. */
	if (info->si_code != SI_KERNEL)
		kill(child, info->si_signo);
}

/* Waits for the child's end, stops when it stops, passes signals on. Returns its wait status. */
static int
watch(pid_t child, const sigset_t *watched)
{
	int status;

	for (;;) {
		siginfo_t info;

		if (sigwaitinfo(watched, &info) < 0)
			continue;
		if (info.si_signo != SIGCHLD) {
			pass_on(child, &info);
			continue;
		}
		if (waitpid(child, &status, WNOHANG | WUNTRACED) != child)
			continue;
		if (!WIFSTOPPED(status))
			return status;
		raise(SIGSTOP);
		kill(child, SIGCONT);
	}
}

int
top_guarded(int (*fn)(void *arg, struct cij_error *err), void *arg, struct cij_error *err)
{
	static const int passed_on[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	sigset_t watched, before;
	struct termios was;
	int status, known;
	pid_t child;

	if (setupterm(NULL, STDOUT_FILENO, &known) != OK) {
		cij_error_set(err, CIJ_E_FAILED, "the terminal cannot show it: TERM is '%s'",
			getenv("TERM") ? getenv("TERM") : "");
		return cij_error_hint(err, "set TERM, or use --batch");
	}
	if (tcgetattr(STDIN_FILENO, &was) < 0)
		return cij_error_errno(
			err, CIJ_E_FAILED, errno, "cannot read the terminal's state");
	sigemptyset(&watched);
	sigaddset(&watched, SIGCHLD);
	for (size_t i = 0; i < sizeof(passed_on) / sizeof(passed_on[0]); i++)
		sigaddset(&watched, passed_on[i]);
	sigprocmask(SIG_BLOCK, &watched, &before);
	child = fork();
	if (child < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot start a process");
	if (child == 0) {
		del_curterm(cur_term);
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		sigprocmask(SIG_SETMASK, &before, NULL);
		return fn(arg, err);
	}
	signal(SIGTSTP, SIG_IGN); /* the child takes it, and we stop when it has */
	status = watch(child, &watched);
	if (!WIFEXITED(status))
		restore(&was);
	del_curterm(cur_term);
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	out_note("top was ended by a signal (%s)", strsignal(WTERMSIG(status)));
	return 128 + WTERMSIG(status);
}
