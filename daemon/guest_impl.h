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
	struct stat share_st; /* of the guest.json that conf.share is from, while it runs */
	bool read_once;
	struct cij_error broken; /* class CIJ_E_NONE: it is a guest */

	/* the state */
	enum gstate state;
	enum greason reason;
	time_t since;
	bool ready, hung;
	double up_at; /* monotonic, when the CPUs began to run */
	double start_at;

	/* the run: the last one while nothing runs */
	struct run run;
	struct qemu_caps caps;
	struct run_files run_files; /* qemu_fd; the others go to the console */
	struct console *console;
	struct proc *proc;
	struct qmp *qmp;
	struct monitor *monitor; /* lends qmp to others; NULL until it is ready */
	struct plain_socket *sockets[GUEST_SOCKETS];
	struct image_job *images;
	struct guest_drive_list drives;
	struct device_job *device_job; /* one at a time */
	struct banner *banner;
	bool boot_seen; /* from its begin: how long it takes can be told */
	struct event *deadline; /* of a start, a stop, or a kill, by state */
	struct event *ping; /* is the monitor still alive */
	bool pinging;
	bool paused_start; /* leave the CPUs stopped */
	int last_port; /* of the run before; 0: none */
	int port_tries, forwards_done;
	struct cij_error start_err;
	bool exited, qmp_over; /* done = both */
	bool asked_stop, sent_kill; /* by us */
	bool saw_panic, saw_guest_shutdown;

	/* a process of an earlier daemon */
	bool adopting; /* until its monitor has told who it is */
	void (*adopt_done)(void *arg); /* told when the daemon need not wait for it any more */
	void *adopt_arg; /* weak */
	bool vm_running; /* as its monitor says */

	/* what it uses */
	struct guest_stats stats;
	bool stats_asked; /* the monitor will answer; else nobody waits */
	TAILQ_HEAD(stats_waiters, stats_waiter) stats_waiters;

	TAILQ_HEAD(, guest_waiter) waiters;
	struct event *wake; /* some waiters are done */
};

/* guest.c */
void guest_step(struct guest *guest, enum gevent event);
void guest_set_since(struct guest *guest);
void guest_tell_state(struct guest *guest);
void guest_tell_phase(struct guest *guest, const char *phase, const char *text);
void guest_arm(struct guest *guest, double seconds);
int guest_refused(const struct guest *guest, enum gevent event, struct cij_error *err);
/* The process is gone, or never came: closes the run and settles the state. */
void guest_ended(struct guest *guest, enum gevent event);
int guest_sockets_dir(struct guest *guest, struct cij_error *err);

/* guest_folder.c */
void guest_files_clear(struct guest_files *files);

/* guest_start.c */
void guest_start_deadline(struct guest *guest);
void guest_start_monitor_ready(struct guest *guest);
void guest_start_fail(struct guest *guest, const struct cij_error *err);
void guest_start_cancel(struct guest *guest);
void guest_up(struct guest *guest, bool paused);
void guest_watch_boot(struct guest *guest);
/* How far a guest is that runs and whose SSH does not answer yet, in words. */
const char *guest_boot_phase(const struct guest *guest);

/* guest_console.c */
/* The console takes over run_files but for qemu_fd. */
void guest_open_console(struct guest *guest);
/* Cuts the logs of runs before this one to log.limit, where they could not be kept under it. */
void guest_cut_logs(struct guest *guest);

/* guest_monitor.c */
int guest_monitor_connect(struct guest *guest);
void guest_monitor_watch(struct guest *guest);
/* Ends the connection to the monitor: whoever waits for it hears @why. */
void guest_monitor_drop(struct guest *guest, const struct cij_error *why);
void guest_on_exit(void *arg, const struct proc_exit *how);

/* guest_sockets.c */
void guest_sockets_open(struct guest *guest);
void guest_sockets_close(struct guest *guest);

/* guest_adopt.c */
void guest_adopt_monitor_ready(struct guest *guest);
void guest_adopt_over(struct guest *guest);

/* guest_drives.c */
void guest_drives_set(struct guest *guest, struct json_object *devices, enum presence presence);
void guest_drives_clear(struct guest *guest);
struct guest_drive *guest_drive_find(const struct guest *guest, const char *id);
/* Puts @json's definition in force as drive @conf->id; both are copied. */
struct guest_drive *guest_drive_put(
	struct guest *guest, struct json_object *json, const struct device_conf *conf);
/* Event GUEST_DEVICE where the presence is another than before, and the run's record. */
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
void guest_device_deleted(struct guest *guest, const char *id);
void guest_device_cancel(struct guest *guest);

/* guest_stats.c */
void guest_stats_clear(struct guest *guest);

/* guest_power.c */
void guest_stop_deadline(struct guest *guest);
void guest_kill_now(struct guest *guest);

/* guest_wait.c */
void guest_waiters_check(struct guest *guest, enum gstate before);
void guest_waiters_fail_all(struct guest *guest, const struct cij_error *err);
void guest_waiters_on_wake(evutil_socket_t fd, short what, void *arg);

#endif
