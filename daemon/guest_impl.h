/* The inside of a guest, for the guest_*.c files alone. */
#ifndef DAEMON_GUEST_IMPL_H
#define DAEMON_GUEST_IMPL_H

#include <sys/queue.h>
#include <sys/stat.h>

#include "daemon/argv.h"
#include "daemon/as_owner.h"
#include "daemon/banner.h"
#include "daemon/guest.h"
#include "daemon/guest_stats.h"
#include "daemon/image.h"
#include "daemon/log.h"
#include "daemon/oom.h"

/*
 * QEMU's descriptors. The last it does not know of: a handle on the monitor's socket (O_PATH), by
 * which a later daemon reaches that socket through /proc when its name is gone.
 */
enum { FD_STDIN, FD_STDOUT, FD_STDERR, FD_QMP, FD_QMP_NAME, FD_COUNT };

/* From the process until the monitor answers: 40 ms on an idle host, seconds when 100 start at
 * once. */
#define GUEST_START_SECONDS 30

/* A guest that resets so often, each time within so many seconds, is in a loop: a triple fault, a
 * panic that reboots. SSH that answers in between ends it. */
#define GUEST_LOOP_RESETS 3
#define GUEST_LOOP_SECONDS 60

/* Resets within this are one: SeaBIOS, started by a soft one, asks for a hard one, once or twice.
 * No kernel comes up and falls in less. */
#define GUEST_RESET_SECONDS 2

/* console.sock, qmp.sock, hmp.sock */
#define GUEST_SOCKETS 3

/* What boots, found by name or by guest.json: paths relative to the folder, or absolute. */
struct guest_files {
	char *boot, *boot_format, *kernel, *initrd;
};

struct guest_waiter {
	TAILQ_ENTRY(guest_waiter) link;
	struct guest *guest; /* weak */
	enum guest_want want;
	guest_wait_fn *fn;
	void *arg; /* weak */
	struct event *deadline;
	double seconds;
	bool done;
	struct cij_error err;
};

enum presence { DRIVE_ABSENT, DRIVE_PRESENT, DRIVE_UNKNOWN };

/* A drive that the running guest was started with, or that was plugged into it since. */
struct guest_drive {
	TAILQ_ENTRY(guest_drive) link;
	struct json_object *json; /* its definition in force */
	struct device_conf conf; /* the same, decoded */
	enum presence presence;
	bool unplugging; /* asked to go, and the guest has not let go yet */
};
TAILQ_HEAD(guest_drive_list, guest_drive);

struct device_job;

struct guest {
	const struct services *sv; /* weak */
	char *name;
	char *path;
	char uuid[37];

	/* the folder */
	int dir_fd; /* -1: cannot be opened */
	struct stat dir_st;
	uid_t uid;
	gid_t gid;

	/* the definition */
	struct guest_conf conf;
	struct guest_files files;
	struct stat json_st; /* st_ino 0: there is no guest.json */
	struct timespec names_at; /* the folder's st_mtim when the definition was read; 0: anew */
	struct stat share_st; /* of the guest.json that conf.share is from, while it runs */
	bool read_once;
	struct cij_error broken; /* class CIJ_E_NONE: it is a guest */

	/* the state */
	enum gstate state;
	enum greason reason;
	time_t since;
	bool ready, hung;
	bool folder_gone; /* renamed or removed while it runs */
	char *io_error; /* why QEMU itself has paused it; NULL */
	unsigned scan_mark; /* of the last look through the folders that saw it */
	unsigned resets, quick_resets; /* by itself in this run; those in a row of a loop */
	double reset_at; /* monotonic, the last; 0: none */
	double up_at; /* monotonic, when the CPUs began to run */
	double start_at;

	/* the run: the last one while nothing runs */
	struct run run;
	struct qemu_caps caps;
	struct run_files run_files; /* qemu_fd; the others go to the console */
	bool unsaved; /* its record could not be written, for want of room as a rule */
	struct console *console;
	struct proc *proc;
	struct qmp *qmp;
	struct monitor *monitor; /* lends qmp to others; NULL until it is ready */
	struct plain_socket *sockets[GUEST_SOCKETS];
	struct image_job *images;
	struct guest_drive_list drives;
	struct device_job *device_job; /* one at a time */
	bool frozen; /* by us, while a drive is plugged in: not paused */
	struct banner *banner;
	bool boot_seen; /* from its begin: how long it takes can be told */
	struct event *deadline; /* of a start, a stop, or a kill, by state */
	double deadline_at;
	struct event *ping; /* is the monitor still alive */
	bool pinging;
	bool paused_start; /* leave the CPUs stopped */
	int last_port; /* of the run before; 0: none */
	int port_tries, forwards_done;
	struct cij_error start_err;
	bool exited, qmp_over; /* done = both */
	bool asked_stop, sent_kill; /* by us */
	bool saw_panic, saw_guest_shutdown, saw_shutdown;
	struct oom_group oom;
	enum oom_kill out_of_memory; /* taken for that, or (not alone in its group) it seems so */

	struct event *restart; /* starts it again by its policy; NULL: nothing of the kind */

	/* a process of an earlier daemon */
	bool adopting; /* until its monitor has told who it is */
	void (*adopt_done)(void *arg); /* told when the daemon need not wait for it any more */
	void *adopt_arg; /* weak */
	double answer_by; /* monotonic: its monitor's next word */
	int monitor_fd; /* connected to its monitor already; -1: not */
	bool vm_running; /* as its monitor says */

	/* what it uses */
	struct guest_stats stats;
	bool stats_asked; /* the monitor will answer; else nobody waits */
	TAILQ_HEAD(stats_waiters, stats_waiter) stats_waiters;

	TAILQ_HEAD(, guest_waiter) waiters;
	struct event *wake; /* some waiters are done */
	bool telling; /* they are being told; who is told may look for guests, and find this gone:
		       */
	bool doomed; /* it is freed when all is told */
};

/* guest.c */
void guest_make_uuid(struct guest *guest);
void guest_step(struct guest *guest, enum gevent event);
void guest_set_since(struct guest *guest);
bool guest_is_down(const struct guest *guest);
bool guest_is_live(const struct guest *guest); /* running or paused: its monitor is there to ask */
bool guest_is_up(const struct guest *guest); /* live, or being stopped */
void guest_tell_state(struct guest *guest);
void guest_tell_phase(struct guest *guest, const char *phase, const char *text);
void guest_arm(struct guest *guest, double seconds);
int guest_refused(const struct guest *guest, enum gevent event, struct cij_error *err);
int guest_sockets_dir(struct guest *guest, struct cij_error *err);

/* guest_end.c */
/* The process is gone, or never came: closes the run and settles the state. */
void guest_ended(struct guest *guest, enum gevent event);
/* The last run ended while no daemon watched. @uuid: whose run it was; NULL: not known. */
void guest_ended_unseen(struct guest *guest, const char *uuid);
void guest_close_run(struct guest *guest);
void guest_save_run(struct guest *guest);

/* guest_access.c */
enum access guest_access_of_client(void *arg, const struct peer *peer, struct cij_error *why);

/* guest_folder.c */
void guest_files_clear(struct guest_files *files);
/* Reads the record of run @number; 0: the last one, when the folder is seen for the first time. */
void guest_read_run(struct guest *guest, unsigned number);
/* Puts the definition that the run was started with in force again. */
void guest_use_definition_of_run(struct guest *guest);

/* guest_restart.c */
/* Decides whether a run that has just ended is followed by another. */
void guest_restart_plan(struct guest *guest, double ran);
/* Goes on waiting as the run's record says. */
void guest_restart_go_on(struct guest *guest);
/* Returns whether one was planned. */
bool guest_restart_cancel(struct guest *guest);
bool guest_restart_is_planned(const struct guest *guest);

/* guest_start.c */
/* A start by the daemon itself. GUEST_DID, GUEST_ALREADY, or -1. */
int guest_start_again(struct guest *guest, struct cij_error *err);
/* It has taken too long. */
void guest_start_deadline(struct guest *guest);
/* Gives the start up: @err is told to whoever waits for it. */
void guest_start_fail(struct guest *guest, const struct cij_error *err);
/* A kill or stop came before there was a process. */
void guest_start_cancel(struct guest *guest);
/* The start is over: the CPUs run, or are left @paused. */
void guest_up(struct guest *guest, bool paused);

/* guest_network.c */
/* The monitor answers: the port, the forwards, the CPUs follow. */
void guest_start_monitor_ready(struct guest *guest);
/* The SSH port is set, and of the other forwards the first so many. */
void guest_start_go_on(struct guest *guest, int forwards);

/* guest_boot.c */
/* From here on whoever waits for SSH is told when it answers. */
void guest_watch_boot(struct guest *guest);
/* From here on it is known whether the host ran out of memory for it. */
void guest_watch_memory(struct guest *guest);
/* How far a guest is that runs and whose SSH does not answer yet, in words. */
const char *guest_boot_phase(const struct guest *guest);

/* guest_console.c */
/* The console takes over run_files but for qemu_fd. */
void guest_open_console(struct guest *guest);
/* Cuts the logs of runs before this one to log.limit, where they could not be kept under it. */
void guest_cut_logs(struct guest *guest);

/* guest_monitor.c */
int guest_monitor_connect(struct guest *guest);
/* Whether somebody listens on its monitor's socket; the connection is kept. */
bool guest_monitor_socket_lives(struct guest *guest);
void guest_monitor_sockets_remove(struct guest *guest);
void guest_monitor_watch(struct guest *guest);
/* QEMU has paused it since a drive (NULL: not known which) could not be written. @full: for want of
 * room. */
void guest_set_io_error(struct guest *guest, const char *drive, const char *reason, bool full);
/* Ends the connection to the monitor: whoever waits for it hears @why. */
void guest_monitor_drop(struct guest *guest, const struct cij_error *why);
void guest_on_exit(void *arg, const struct proc_exit *how);

/* guest_sockets.c */
void guest_sockets_open(struct guest *guest);
void guest_sockets_close(struct guest *guest);

/* guest_adopt.c */
void guest_adopt_monitor_ready(struct guest *guest);
void guest_adopt_over(struct guest *guest);
void guest_adopt_overdue(struct guest *guest);
void guest_adopt_deadline(struct guest *guest);

/* guest_drives.c */
void guest_drives_set(struct guest *guest, struct json_object *devices, enum presence presence);
void guest_drives_clear(struct guest *guest);
struct guest_drive *guest_drive_find(const struct guest *guest, const char *id);
/* Puts @json's definition in force as drive @conf->id; both are copied. */
struct guest_drive *guest_drive_put(
	struct guest *guest, struct json_object *json, const struct device_conf *conf);
/* Event GUEST_DEVICE. */
void guest_drive_tell(struct guest *guest, const char *id, const char *what, bool present);
/* The same where the presence is another than before, and the run's record. */
void guest_drive_now(struct guest *guest, struct guest_drive *drive, enum presence presence);
/* Takes over what QMP 'query-pci' says about the drives. */
void guest_drives_take_pci(struct guest *guest, struct json_object *buses);
/* Where 'query-pci' has the device @id. */
struct pci_spot {
	const char *bridge; /* weak: the port's id, NULL on a root bus */
	bool mapped; /* the guest has given it an address: its kernel has seen it */
};
bool pci_find(struct json_object *buses, const char *id, struct pci_spot *spot);
/* Whether root port @port is there, and empty. */
bool pci_port_is_free(struct json_object *buses, const char *port);

/* guest_device.c */
/* The run is over: whoever waits for the job is told so. */
void guest_device_cancel(struct guest *guest);

/* guest_device_plug.c */
/* Lets the CPUs run on that stood still while a drive was plugged in. */
void guest_thaw(struct guest *guest);

/* guest_device_unplug.c */
/* QMP event DEVICE_DELETED: the guest has let go of drive @id. */
void guest_device_deleted(struct guest *guest, const char *id);

/* guest_stats.c */
void guest_stats_clear(struct guest *guest);

/* guest_power.c */
void guest_stop_deadline(struct guest *guest);
/* Does what a user had asked of an earlier daemon. */
void guest_go_on_stopping(struct guest *guest);

/* guest_wait.c */
void guest_waiters_check(struct guest *guest, enum gstate before);
void guest_waiters_fail_all(struct guest *guest, const struct cij_error *err);
void guest_waiters_on_wake(evutil_socket_t fd, short what, void *arg);

#endif
