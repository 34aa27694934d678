#include "daemon/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cijqemu/cleanup.h"
#include "daemon/strv.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

struct proc {
	LIST_ENTRY(proc) link; /* among the abandoned */
	pid_t pid;
	int pidfd;
	bool child;
	struct event *event; /* the pidfd becomes readable when the process ends */
	proc_exit_fn *on_exit; /* NULL: abandoned, waits to be reaped */
	void *arg; /* weak */
};

static LIST_HEAD(, proc) abandoned = LIST_HEAD_INITIALIZER(abandoned);

int
proc_pidfd(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* Runs between fork and exec: nothing here may lock, allocate or log. */
static void __attribute__((noreturn))
child_exec(const struct proc_spec *spec, char *const *launch_argv, char *const *env)
{
	int high[PROC_FDS_MAX];
	sigset_t none;

	/* Out of the way of the numbers they shall get, first. */
	for (int i = 0; i < spec->n_fds; i++) {
		high[i] = fcntl(spec->fds[i], F_DUPFD_CLOEXEC, PROC_FDS_MAX + 1);
		if (high[i] < 0)
			_exit(126);
	}
	if (fchdir(spec->cwd_fd) < 0)
		_exit(126);
	for (int i = 0; i < spec->n_fds; i++)
		if (dup2(high[i], i) < 0)
			_exit(126);
	syscall(SYS_close_range, spec->n_fds, ~0U, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve("/proc/self/exe", launch_argv, env);
	_exit(126);
}

static void
release(struct proc *proc)
{
	event_free(proc->event);
	close(proc->pidfd);
	free(proc);
}

static void
on_pidfd(evutil_socket_t fd, short what, void *arg)
{
	struct proc *proc = arg;
	struct proc_exit how = {0};
	siginfo_t info = {0};

	if (proc->child && waitid((idtype_t)P_PIDFD, fd, &info, WEXITED | WNOHANG) == 0) {
		if (info.si_pid == 0)
			return; /* woken for nothing */
		how.known = true;
		how.signaled = info.si_code != CLD_EXITED;
		how.code = info.si_status;
	}
	event_del(proc->event);
	proc->child = false;
	if (proc->on_exit) {
		proc->on_exit(proc->arg, &how);
		return;
	}
	LIST_REMOVE(proc, link);
	release(proc);
}

static struct proc *
proc_new(
	struct event_base *base, pid_t pid, int pidfd, bool child, proc_exit_fn *on_exit, void *arg)
{
	struct proc *proc = calloc(1, sizeof(*proc));

	if (!proc)
		abort();
	proc->pid = pid;
	proc->pidfd = pidfd;
	proc->child = child;
	proc->on_exit = on_exit;
	proc->arg = arg;
	proc->event = event_new(base, pidfd, EV_READ | EV_PERSIST, on_pidfd, proc);
	if (!proc->event || event_add(proc->event, NULL) < 0)
		abort();
	return proc;
}

struct proc *
proc_spawn(struct event_base *base, const struct proc_spec *spec, proc_exit_fn *on_exit, void *arg,
	struct cij_error *err)
{
	_cleanup_strv_ struct strv argv = {0};
	char *const env[] = {NULL};
	int pidfd;
	pid_t pid;

	strv_add(&argv, "cijqemud");
	strv_add(&argv, "--launch");
	strv_addf(&argv, "%u:%u", (unsigned)spec->uid, (unsigned)spec->gid);
	if (spec->scope)
		scope_add_words(spec->scope, &argv);
	strv_add(&argv, "--");
	for (char *const *word = spec->argv; *word; word++)
		strv_add(&argv, *word);
	pid = fork();
	if (pid < 0) {
		cij_error_errno(err, CIJ_E_NO_RESOURCES, errno, "cannot start a process");
		return NULL;
	}
	if (pid == 0)
		child_exec(spec, argv.items, env);
	/* It is our child and not reaped: the pid is still its own. */
	pidfd = proc_pidfd(pid);
	if (pidfd < 0) {
		cij_error_errno(err, CIJ_E_NO_RESOURCES, errno, "cannot watch a process");
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return NULL;
	}
	return proc_new(base, pid, pidfd, true, on_exit, arg);
}

struct proc *
proc_adopt(
	struct event_base *base, pid_t pid, proc_exit_fn *on_exit, void *arg, struct cij_error *err)
{
	int pidfd = proc_pidfd(pid);

	if (pidfd < 0) {
		cij_error_errno(err, CIJ_E_INTERNAL, errno, "cannot watch process %d", (int)pid);
		return NULL;
	}
	return proc_new(base, pid, pidfd, false, on_exit, arg);
}

int
proc_uids_of(pid_t pid, uid_t *real, uid_t *effective)
{
	_cleanup_free_ char *path = str_printf("/proc/%d/status", (int)pid);
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Uid: %u %u", real, effective) == 2)
			return 0;
	*real = *effective = (uid_t)-1;
	return -1;
}

/* proc(5), /proc/pid/stat: field 22. */
uint64_t
proc_start_of(pid_t pid)
{
	_cleanup_free_ char *path = str_printf("/proc/%d/stat", (int)pid);
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	unsigned long long ticks;
	char text[1024];
	const char *at;
	size_t n;

	n = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
	text[n] = '\0';
	at = strrchr(text, ')'); /* the name before may hold anything */
	if (!at || sscanf(at + 1,
			   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
			   "%*d %*d %llu",
			   &ticks) != 1)
		return 0;
	return ticks;
}

double
proc_age_of(pid_t pid)
{
	uint64_t ticks = proc_start_of(pid);
	struct timespec now;

	if (!ticks)
		return -1;
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9 -
	       (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

bool
proc_has_option(pid_t pid, const char *option, const char *word)
{
	_cleanup_free_ char *path = str_printf("/proc/%d/cmdline", (int)pid);
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	_cleanup_free_ char *arg = NULL;
	bool behind = false;
	size_t size = 0;

	while (file && getdelim(&arg, &size, '\0', file) >= 0) {
		if (behind && strcmp(arg, word) == 0)
			return true;
		behind = strcmp(arg, option) == 0;
	}
	return false;
}

pid_t
proc_find(bool (*match)(pid_t pid, void *arg), void *arg)
{
	_cleanup_closedir_ DIR *dir = opendir("/proc");
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		int pid = atoi(entry->d_name);

		if (pid > 0 && match(pid, arg))
			return pid;
	}
	return 0;
}

pid_t
proc_pid(const struct proc *proc)
{
	return proc->pid;
}

int
proc_signal(struct proc *proc, int sig)
{
	return (int)syscall(SYS_pidfd_send_signal, proc->pidfd, sig, NULL, 0);
}

void
proc_free(struct proc *proc)
{
	if (!proc)
		return;
	if (!proc->child) {
		release(proc);
		return;
	}
	proc->on_exit = NULL;
	LIST_INSERT_HEAD(&abandoned, proc, link);
}

void
proc_forget_all(void)
{
	struct proc *proc, *next;

	for (proc = LIST_FIRST(&abandoned); proc; proc = next) {
		next = LIST_NEXT(proc, link);
		release(proc);
	}
	LIST_INIT(&abandoned);
}

const char *
proc_exit_text(const struct proc_exit *how, char *buf, size_t size)
{
	if (!how->known)
		snprintf(buf, size, "exit code unknown");
	else if (!how->signaled)
		snprintf(buf, size, "exit code %d", how->code);
	else
		snprintf(buf, size, "signal %d (%s)", how->code,
			sigabbrev_np(how->code) ? sigabbrev_np(how->code) : "?");
	return buf;
}
