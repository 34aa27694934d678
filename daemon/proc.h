/*
 * Processes: started through 'cijqemud --launch', or found running at start-up; watched, signalled
 * and reaped by pidfd, so that a recycled pid is never taken for ours. Kernels before 5.3 (a CentOS
 * 8's 4.18) have none: there children are reaped at SIGCHLD, and processes of an earlier daemon are
 * looked for twice a second, by pid and time of start.
 */
#ifndef DAEMON_PROC_H
#define DAEMON_PROC_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "cijqemu/error.h"
#include "daemon/scope.h"

#define PROC_FDS_MAX 5

struct proc_spec {
	char *const *argv; /* argv[0] is the binary's path */
	int fds[PROC_FDS_MAX]; /* fds[i] becomes descriptor i of the process; weak */
	int n_fds; /* at least 3 */
	int cwd_fd; /* its working directory; weak */
	uid_t uid; /* whom it runs as; only root can give another than its own */
	gid_t gid;
	const struct scope_spec *scope; /* NULL: stays in the daemon's control group */
};

/* How a process ended. */
struct proc_exit {
	bool known; /* not for one that an earlier daemon started */
	bool signaled; /* code is a signal's number */
	int code;
};

struct proc;

/*
 * Called once from the loop when the process is gone and reaped. The proc may be freed inside it.
 */
typedef void proc_exit_fn(void *arg, const struct proc_exit *exit);

/*
 * At start-up: takes hold of the program's own file, which is what proc_spawn() executes even when
 * another one has its name by then, and looks what the kernel can do.
 */
void proc_init(void);

/* For tests: as on a kernel without pidfd_open() and close_range(). */
void proc_pretend_old_kernel(bool old);

/* Starts a process. NULL with NoResources when the machine has no room for one. */
struct proc *proc_spawn(struct event_base *base, const struct proc_spec *spec,
	proc_exit_fn *on_exit, void *arg, struct cij_error *err);

/* Watches a running process that is not our child. NULL with Internal. */
struct proc *proc_adopt(struct event_base *base, pid_t pid, proc_exit_fn *on_exit, void *arg,
	struct cij_error *err);

/* A descriptor of process @pid, readable when it has ended; -1 with errno. The caller closes it. */
int proc_pidfd(pid_t pid);

/* Whether the process of that descriptor has ended, if only to be a zombie; false for -1. */
bool proc_pidfd_ended(int pidfd);

/* The process's users. 0, or -1 and (uid_t)-1 for both when it is not there. */
int proc_uids_of(pid_t pid, uid_t *real, uid_t *effective);

/* When it was started, in clock ticks since the host was; with the pid, which process it is until
 * the host starts again. 0: it is not there. */
uint64_t proc_start_of(pid_t pid);

/* How long it has run, in seconds; -1: not known. */
double proc_age_of(pid_t pid);

/* The file behind its descriptor @fd. */
bool proc_stat_fd(pid_t pid, int fd, struct stat *st);

/*
 * Whether its descriptor @fd is a socket that listens under @file's name. Everybody can have a
 * handle on the name of another's socket: to a daemon of root's only the listening tells whose it
 * is. One that is no root's reaches nothing through a handle that its user does not.
 */
bool proc_listens_on(pid_t pid, int fd, const struct stat *file);

/* Whether @word stands behind @option in its argument vector. */
bool proc_has_option(pid_t pid, const char *option, const char *word);

/* The first word behind an @option in its argument vector that begins with @start; NULL: none, or
 * no such process. Heap. */
char *proc_option_of(pid_t pid, const char *option, const char *start);

/* Whether it has no argument vector to be seen: one in the middle of exec(), a kernel's or a
 * zombie. */
bool proc_is_wordless(pid_t pid);

/* The first process that @match accepts; 0: none. Looks through /proc: for what is rare. */
pid_t proc_find(bool (*match)(pid_t pid, void *arg), void *arg);

pid_t proc_pid(const struct proc *proc);

/* Sends a signal. 0, or -1 with errno. */
int proc_signal(struct proc *proc, int sig);

/*
 * Lets go of it: on_exit is not called any more, the process lives on, and a child is still reaped
 * when it ends. NULL is fine.
 */
void proc_free(struct proc *proc);

/* Before the loop ends: forgets the children that proc_free() left to be reaped. */
void proc_forget_all(void);

/* The user's words: "exit code 1", "signal 11 (SEGV)", "unknown". Returns @buf. */
const char *proc_exit_text(const struct proc_exit *exit, char *buf, size_t size);

#endif
