#include "daemon/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cijqemu/cleanup.h"
#include "daemon/sock.h"
#include "daemon/strv.h"

/* A process that cannot be watched by descriptor is looked for so often. */
#define POLL_MICROSECONDS 500000

struct proc {
	LIST_ENTRY(proc) link; /* among the abandoned */
	LIST_ENTRY(proc) by_signal; /* among those without a pidfd that are children */
	pid_t pid;
	int pidfd; /* -1: a kernel before 5.3 has none */
	uint64_t start; /* without a pidfd: when it was started, so that it is not another */
	bool child; /* and not reaped: its pid is its own */
	struct event *event; /* the pidfd becomes readable when the process ends */
	proc_exit_fn *on_exit; /* NULL: abandoned, waits to be reaped */
	void *arg; /* weak */
};

static LIST_HEAD(, proc) abandoned = LIST_HEAD_INITIALIZER(abandoned);

/* Old kernels: children tell of their end by SIGCHLD, others are looked for. */
static LIST_HEAD(, proc) by_signal = LIST_HEAD_INITIALIZER(by_signal);
static struct event *sigchld; /* NULL: not watched */
static bool old_kernel;

static int program_fd = -1;

int
proc_pidfd(pid_t pid)
{
	if (old_kernel) {
		errno = ENOSYS;
		return -1;
	}
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

bool
proc_pidfd_ended(int pidfd)
{
	struct pollfd end = {.fd = pidfd, .events = POLLIN};
	int n;

	do
		n = poll(&end, 1, 0); /* which passes over -1 */
	while (n < 0 && errno == EINTR);
	return n > 0;
}

void
proc_init(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	_cleanup_close_ int probe = -1;

	/* By name: under valgrind the link leads to valgrind, and only its text to us. The link is
	 * for a program whose file is gone already. */
	if (program_fd < 0 && n > 0) {
		path[n] = '\0';
		program_fd = open(path, O_PATH | O_CLOEXEC);
	}
	if (program_fd < 0)
		program_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	probe = proc_pidfd(getpid());
	old_kernel = probe < 0 && errno == ENOSYS;
}

void
proc_pretend_old_kernel(bool old)
{
	old_kernel = old;
}

/* For kernels without close_range() (before 5.9): whatever @fd and those above are, they go. */
static void
close_from(int fd)
{
	_Alignas(struct dirent64) char buf[4096];
	int dir;
	ssize_t n;

	if (!old_kernel && syscall(SYS_close_range, fd, ~0U, 0) == 0)
		return;
	dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* The kernel goes by number: closing on the way skips nothing. */
	while ((n = getdents64(dir, buf, sizeof(buf))) > 0)
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *entry = (const struct dirent64 *)(buf + at);
			int found = 0;

			for (const char *c = entry->d_name; *c >= '0' && *c <= '9'; c++)
				found = found * 10 + (*c - '0');
			if (found >= fd && found != dir)
				close(found);
			at += entry->d_reclen;
		}
	close(dir);
}

/*
 * All signals are blocked: until exec the handlers are the daemon's, and libevent's would tell the
 * daemon of a signal that was meant for this process.
 */
static void
reset_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Runs between fork and exec: nothing here may lock, allocate or log. */
static void __attribute__((noreturn)) child_exec(const struct proc_spec *spec, int program,
	char *const *launch_argv, char *const *env, pid_t parent)
{
	int high[PROC_FDS_MAX];

	/* Not to be told from the daemon until exec: the next one would not find it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(126);
	/* Out of the way of the numbers they shall get, first. */
	for (int i = 0; i < spec->n_fds; i++) {
		high[i] = fcntl(spec->fds[i], F_DUPFD_CLOEXEC, PROC_FDS_MAX + 1);
		if (high[i] < 0)
			_exit(126);
	}
	program = fcntl(program, F_DUPFD_CLOEXEC, PROC_FDS_MAX + 1);
	if (program < 0)
		_exit(126);
	if (fchdir(spec->cwd_fd) < 0)
		_exit(126);
	for (int i = 0; i < spec->n_fds; i++)
		if (dup2(high[i], i) < 0)
			_exit(126);
	if (dup3(program, spec->n_fds, O_CLOEXEC) < 0)
		_exit(126);
	close_from(spec->n_fds + 1);
	reset_signals();
	/* The very file that we run, whatever has its name by now. */
	execveat(spec->n_fds, "", launch_argv, env, AT_EMPTY_PATH);
	_exit(126);
}

static void
release(struct proc *proc)
{
	if (proc->child && proc->pidfd < 0)
		LIST_REMOVE(proc, by_signal);
	event_free(proc->event);
	if (proc->pidfd >= 0)
		close(proc->pidfd);
	free(proc);
}

/* Field @field of /proc/PID/stat, from the third up; false when the process is not there. */
static bool
stat_field(pid_t pid, int field, char *word, size_t size)
{
	_cleanup_free_ char *path = str_printf("/proc/%d/stat", (int)pid);
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	char text[1024], *at, *state;
	size_t n;

	n = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
	text[n] = '\0';
	at = strrchr(text, ')'); /* the name before may hold anything */
	if (!at)
		return false;
	at = strtok_r(at + 1, " ", &state);
	for (int i = 3; at && i < field; i++)
		at = strtok_r(NULL, " ", &state);
	return at && snprintf(word, size, "%s", at) < (int)size;
}

/* proc(5), field 22. */
uint64_t
proc_start_of(pid_t pid)
{
	char word[32];

	return stat_field(pid, 22, word, sizeof(word)) ? strtoull(word, NULL, 10) : 0;
}

/* Without a pidfd: whether the process that was adopted is there and no zombie. */
static bool
is_still_there(const struct proc *proc)
{
	char state[8];

	return proc->start && proc_start_of(proc->pid) == proc->start &&
	       stat_field(proc->pid, 3, state, sizeof(state)) && *state != 'Z' && *state != 'X';
}

/* What woke us may be somebody else's end. */
static bool
has_ended(const struct proc *proc, struct proc_exit *how)
{
	siginfo_t info = {0};

	if (!proc->child)
		return proc->pidfd >= 0 || !is_still_there(proc);
	if (waitid(P_PID, (id_t)proc->pid, &info, WEXITED | WNOHANG) == 0) {
		if (info.si_pid == 0)
			return false;
		how->known = true;
		how->signaled = info.si_code != CLD_EXITED;
		how->code = info.si_status;
	}
	return true;
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct proc *proc = arg;
	struct proc_exit how = {0};

	if (!has_ended(proc, &how))
		return;
	event_del(proc->event);
	if (proc->child && proc->pidfd < 0)
		LIST_REMOVE(proc, by_signal);
	proc->child = false;
	proc->start = 0;
	if (proc->on_exit) {
		proc->on_exit(proc->arg, &how);
		return;
	}
	LIST_REMOVE(proc, link);
	release(proc);
}

/* Some child has ended; which ones is for each to find out, from the loop. */
static void
on_sigchld(evutil_socket_t sig, short what, void *arg)
{
	struct proc *proc;

	LIST_FOREACH (proc, &by_signal, by_signal)
		event_active(proc->event, EV_TIMEOUT, 0);
}

/* Before the first child: its end may come at once. */
static void
watch_sigchld(struct event_base *base)
{
	if (sigchld)
		return;
	sigchld = evsignal_new(base, SIGCHLD, on_sigchld, NULL);
	if (!sigchld || event_add(sigchld, NULL) < 0)
		abort();
}

static struct proc *
proc_new(
	struct event_base *base, pid_t pid, int pidfd, bool child, proc_exit_fn *on_exit, void *arg)
{
	static const struct timeval poll_interval = {0, POLL_MICROSECONDS};
	struct proc *proc = calloc(1, sizeof(*proc));

	if (!proc)
		abort();
	proc->pid = pid;
	proc->pidfd = pidfd;
	proc->child = child;
	proc->on_exit = on_exit;
	proc->arg = arg;
	proc->event = event_new(
		base, pidfd, pidfd < 0 ? EV_PERSIST : EV_READ | EV_PERSIST, on_wake, proc);
	if (!proc->event)
		abort();
	if (pidfd < 0 && child)
		LIST_INSERT_HEAD(&by_signal, proc, by_signal);
	else if (event_add(proc->event, pidfd < 0 ? &poll_interval : NULL) < 0)
		abort();
	return proc;
}

struct proc *
proc_spawn(struct event_base *base, const struct proc_spec *spec, proc_exit_fn *on_exit, void *arg,
	struct cij_error *err)
{
	_cleanup_strv_ struct strv argv = {0};
	char *const env[] = {NULL};
	sigset_t all, before;
	int pidfd = -1;
	pid_t self = getpid(), pid;

	if (program_fd < 0)
		proc_init();
	if (old_kernel)
		watch_sigchld(base);
	strv_add(&argv, "cijqemud");
	strv_add(&argv, "--launch");
	strv_addf(&argv, "%u:%u", (unsigned)spec->uid, (unsigned)spec->gid);
	if (spec->scope)
		scope_add_words(spec->scope, &argv);
	strv_add(&argv, "--");
	for (char *const *word = spec->argv; *word; word++)
		strv_add(&argv, *word);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		child_exec(spec, program_fd, argv.items, env, self);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0) {
		cij_error_errno(err, CIJ_E_NO_RESOURCES, errno, "cannot start a process");
		return NULL;
	}
	/* It is our child and not reaped: the pid is still its own. */
	if (!old_kernel)
		pidfd = proc_pidfd(pid);
	if (!old_kernel && pidfd < 0) {
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
	uint64_t start = pidfd < 0 && errno == ENOSYS ? proc_start_of(pid) : 0;
	struct proc *proc;

	if (pidfd < 0 && !start) {
		if (errno == ENOSYS)
			errno = ESRCH;
		cij_error_errno(err, CIJ_E_INTERNAL, errno, "cannot watch process %d", (int)pid);
		return NULL;
	}
	proc = proc_new(base, pid, pidfd, false, on_exit, arg);
	proc->start = start;
	return proc;
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
proc_stat_fd(pid_t pid, int fd, struct stat *st)
{
	_cleanup_free_ char *path = str_printf("/proc/%d/fd/%d", (int)pid, fd);

	return stat(path, st) == 0;
}

bool
proc_listens_on(pid_t pid, int fd, const struct stat *file)
{
	struct stat st;

	return geteuid() != 0 || (proc_stat_fd(pid, fd, &st) && S_ISSOCK(st.st_mode) &&
					 sock_listens_on(st.st_ino, file));
}

/* The first word behind @option that is @start, or where not @whole begins with it. Heap, or NULL.
 */
static char *
find_word(pid_t pid, const char *option, const char *start, bool whole)
{
	_cleanup_free_ char *path = str_printf("/proc/%d/cmdline", (int)pid);
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	_cleanup_free_ char *arg = NULL;
	bool behind = false;
	size_t size = 0;

	while (file && getdelim(&arg, &size, '\0', file) >= 0) {
		if (behind && strncmp(arg, start, strlen(start) + whole) == 0)
			return steal_ptr(arg);
		behind = strcmp(arg, option) == 0;
	}
	return NULL;
}

char *
proc_option_of(pid_t pid, const char *option, const char *start)
{
	return find_word(pid, option, start, false);
}

bool
proc_has_option(pid_t pid, const char *option, const char *word)
{
	_cleanup_free_ char *arg = find_word(pid, option, word, true);

	return arg != NULL;
}

bool
proc_is_wordless(pid_t pid)
{
	_cleanup_free_ char *path = str_printf("/proc/%d/cmdline", (int)pid);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char byte;

	return fd >= 0 && read(fd, &byte, 1) == 0;
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
	if (proc->pidfd >= 0)
		return (int)syscall(SYS_pidfd_send_signal, proc->pidfd, sig, NULL, 0);
	if (!proc->child && !is_still_there(proc)) {
		errno = ESRCH;
		return -1;
	}
	return kill(proc->pid, sig);
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
	if (sigchld)
		event_free(steal_ptr(sigchld));
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
