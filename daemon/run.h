/* One run of a guest on disk: logs/NNNN.out, .in, .index, .qemu, and the record of it, .run.json.
 */
#ifndef DAEMON_RUN_H
#define DAEMON_RUN_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "cijqemu/error.h"
#include "daemon/backoff.h"
#include "daemon/gstate.h"
#include "daemon/proc.h"
#include "daemon/strv.h"

/* Runs are numbered from 1 up; beyond this a guest was started every second for 30 years. */
#define RUN_NUMBER_MAX 999999999

/* The files of a run, opened. -1: not. */
struct run_files {
	int log_fd; /* the console; only QEMU writes it, but holes are punched through this */
	int fifo_fd; /* the console's keys, for writing, non-blocking */
	int index_fd; /* the log's side index */
	int qemu_fd; /* what QEMU prints: appends and reads */
};
#define RUN_FILES_INIT \
	{ \
		-1, -1, -1, -1 \
	}

/* What a user asked of a run that has not come to it yet. */
enum run_asked { RUN_ASKED_NOTHING, RUN_ASKED_STOP, RUN_ASKED_KILL, RUN_ASKED_HOST_SHUTDOWN };

/* What is known of a run; written when it begins and when it ends. Clear with run_clear(). */
struct run {
	unsigned number;
	char *qemu, *version, *dialect; /* NULL: not known */
	bool kvm;
	char *accel_why;
	int port;
	uid_t by_uid; /* who started it */
	pid_t by_pid;
	bool automatic; /* started by a restart policy or with the host */
	bool paused; /* its CPUs were to be left stopped */
	time_t started, ended; /* ended 0: it runs, or nobody saw it end */
	bool up; /* its CPUs ran, or it was left paused: the start was over */
	bool cpus_run; /* or stand still; since then: */
	time_t cpus_since; /* 0: not known */
	/* Monotonic times, of this boot of the host; 0: none. */
	double up_at, kill_at, restart_at;
	enum run_asked asked;
	bool this_boot; /* the host has not been restarted since */
	struct backoff backoff;
	int64_t boot_ms; /* until SSH answered; -1: it did not */
	enum greason reason;
	bool has_exit;
	struct proc_exit exit;
	char *error;
	struct json_object *argv, *config; /* config: guest.json as it was; NULL: there was none */
	bool frozen; /* stopped for a moment by a daemon that plugged a drive in */
	struct json_object *devices; /* the drives' definitions in force; NULL: not known */
};

void run_clear(struct run *run);

/* The number of the newest run in logs/ of the folder @dir_fd; 0 when there is none. */
unsigned run_newest(int dir_fd);

/*
 * Makes the files of run @number in logs/, the links to its console, and removes the oldest runs so
 * that @keep are left. To be called as the owner. Returns 0, or -1 with an error.
 */
int run_files_make(
	int dir_fd, unsigned number, unsigned keep, struct run_files *files, struct cij_error *err);

/*
 * Opens the files of a run that was made before, as the owner; what is missing stays -1. @ended:
 * its log is only read.
 */
void run_files_open(int dir_fd, unsigned number, bool ended, struct run_files *files);
void run_files_close(struct run_files *files);

/*
 * Whether a process of the run lives, the launcher before QEMU included: they hold a lock on the
 * file that QEMU prints into, which run_files_make() took. To be called as whoever may read it.
 */
bool run_lives(int dir_fd, unsigned number);

/* Whether @st is the file that QEMU of run @number prints into. */
bool run_is_qemu_file(int dir_fd, unsigned number, const struct stat *st);

/* Writes the record of a run that is about to begin, before its other files. As run_save(). */
int run_begin(int dir_fd, const struct run *run, struct cij_error *err);

/* Writes the record, as the owner. 0, or -1 with an error. */
int run_save(int dir_fd, const struct run *run, struct cij_error *err);

/* Reads the record of run @number, as the owner. 0, or -1 when there is none that can be read. */
int run_load(int dir_fd, unsigned number, struct run *run);

/* {"code": N}, {"signal": N, "name": "SIGSEGV"}, or NULL for what is not known. */
struct json_object *run_exit_to_json(bool has_exit, const struct proc_exit *how);

#endif
