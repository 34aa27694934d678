/*
 * One guest: a folder, its definition, and the QEMU that runs it. Its state is changed in one
 * place, by the table in gstate.h.
 */
#ifndef DAEMON_GUEST_H
#define DAEMON_GUEST_H

#include <json-c/json.h>
#include <stdbool.h>

#include "daemon/access.h"
#include "daemon/guest_conf.h"
#include "daemon/gstate.h"
#include "daemon/monitor.h"
#include "daemon/qmp.h"
#include "daemon/run.h"
#include "daemon/services.h"

/* guest.json: the largest that fits a request. */
#define GUEST_JSON_MAX (64 * 1024)

struct guest;

/* A guest for the folder @name; nothing is read before guest_refresh(). */
struct guest *guest_new(const struct services *services, const char *name);

/* Lets the process live. Waiters fail with GuestNotFound. */
void guest_free(struct guest *guest);
/* The same because the daemon ends: it is not the guest that is gone. Waiters fail with Busy. */
void guest_leave(struct guest *guest);

/* Reads what changed in the folder. Returns false when the folder is gone and nothing runs. */
bool guest_refresh(struct guest *guest);

/*
 * Looks for a QEMU that an earlier daemon started and takes it back: the lock on its pid file, its
 * user, its monitor's word on name and uuid. @done is called once, perhaps before this returns.
 */
void guest_adopt(struct guest *guest, void (*done)(void *arg), void *arg);

const char *guest_name(const struct guest *guest);
const char *guest_path(const struct guest *guest);
enum gstate guest_state(const struct guest *guest);
uid_t guest_uid(const struct guest *guest);
gid_t guest_gid(const struct guest *guest);
/* The folder's descriptor; weak. -1 when it cannot be opened. */
int guest_dir(const struct guest *guest);
/* The definition in force: while it runs, the one that it was started with. */
const struct guest_conf *guest_conf(const struct guest *guest);
/* Whether all that stands between @peer and @need is a name that is being asked for. */
bool guest_access_is_open(struct guest *guest, const struct peer *peer, enum access need);
/* What @peer may do at most, leases aside. */
enum access guest_access(struct guest *guest, const struct peer *peer);
/* What @peer may do now: no more than look at a guest that somebody else has leased. */
enum access guest_access_now(struct guest *guest, const struct peer *peer);
/*
 * Whether @peer may do what takes @need, leases and all. 0, or -1 with Denied or Leased, whose text
 * says who may @what ("start") instead and how to become one of them.
 */
int guest_allow_despite_lease(struct guest *guest, const struct peer *peer, enum access need,
	const char *what, struct cij_error *err);
int guest_allow(struct guest *guest, const struct peer *peer, enum access need, const char *what,
	struct cij_error *err);

/* What there is to tell about a guest; pointers are weak, NULL = not known. */
struct guest_status {
	enum gstate state;
	enum greason reason;
	time_t since;
	bool active; /* a process exists or is about to */
	bool ready, hung;
	int64_t boot_ms; /* -1: not known */
	double uptime; /* seconds; -1: does not run */
	pid_t pid; /* 0: none */
	int port; /* 0: none */
	unsigned run; /* 0: never ran */
	const char *qemu, *version, *dialect;
	bool kvm;
	const char *accel_why;
	bool has_exit;
	const struct proc_exit *exit;
	const char *error;
	const char *broken; /* why the folder is no guest */
	const char *note; /* of a guest that runs: what is wrong with it */
	unsigned restarts; /* automatic ones since a user started it */
	double restart_in; /* seconds until the next; -1: none is planned */
	bool gave_up; /* none will be, after many failures */
	unsigned resets; /* by itself in this run */
	bool reset_loop;
	struct console *console;
};
void guest_status(const struct guest *guest, struct guest_status *status);

/* The outcome of a request that may find nothing to do. */
enum guest_did { GUEST_DID, GUEST_ALREADY };

/*
 * Begins a start for @by; guest_wait() tells when it is over. Returns an enum guest_did, or -1 with
 * BadConfig, Busy, QemuFailed.
 */
int guest_start(struct guest *guest, const struct peer *by, bool paused, struct cij_error *err);

/*
 * Begins a stop (GE_STOP; killed after @force_after seconds) or a kill (GE_KILL). Returns as above.
 */
int guest_stop(struct guest *guest, enum gevent how, double force_after, struct cij_error *err);

/* As GE_STOP, since the host goes down. */
int guest_stop_with_host(struct guest *guest, double force_after, struct cij_error *err);

/*
 * GE_RESET, GE_PAUSE, GE_RESUME: @done is called once with the outcome, from the loop, unless this
 * returns GUEST_ALREADY or -1.
 */
int guest_control(struct guest *guest, enum gevent what,
	void (*done)(void *arg, const struct cij_error *err), void *arg, struct cij_error *err);

/* The monitor of a running guest; weak. NULL with an error that says in which state it is. */
struct qmp *guest_monitor(struct guest *guest, struct cij_error *err);

/* The same for clients of their own, by monitor_add(). */
struct monitor *guest_monitor_shared(struct guest *guest, struct cij_error *err);

/* The path of the guest's QEMU, on the heap. 0, or -1 when the guest is broken or there is none. */
int guest_find_qemu(const struct guest *guest, char **qemu, struct cij_error *err);

/* Asks that QEMU what it can do, as probe_ask() does. */
void guest_probe(struct guest *guest, const char *qemu, probe_done_fn *done, void *arg);

/* The argument vector that a start would run with such a QEMU, with "why". -1 with an error. */
struct argv;
int guest_argv(const struct guest *guest, const char *qemu, const struct qemu_caps *caps,
	struct argv *argv, struct cij_error *err);

/* Starts it as the host does when it comes up. Returns as guest_start(). */
int guest_autostart(struct guest *guest, struct cij_error *err);

/* The folder was seen in the look-through @mark, as the inode @inode. */
void guest_seen(struct guest *guest, unsigned mark, ino_t inode);
/* After that: whether the folder of a guest that runs was not seen. */
bool guest_is_missing(const struct guest *guest, unsigned mark);
/* The inode of its folder. */
ino_t guest_inode(const struct guest *guest);
/* Its folder is gone, while it runs; or is there again. */
void guest_set_folder_gone(struct guest *guest, bool gone);
/* Its folder has another name, while it runs. */
void guest_rename(struct guest *guest, const char *name);

/* Drives, see guest_device.c */

/* One drive to tell about, configured or there; pointers are weak. */
struct guest_drive_status {
	const struct device_conf *conf;
	bool known; /* whether @present is */
	bool present; /* the guest has it now */
	bool unplugging;
};
/* The drives of a guest that runs, or those of its definition. Returns false behind the last. */
bool guest_drive_status(const struct guest *guest, size_t i, struct guest_drive_status *status);

enum device_deed { DEVICE_PLUG, DEVICE_UNPLUG, DEVICE_FORMAT, DEVICE_INJECT, DEVICE_LIST };

/* @result is taken over; NULL with @err. */
typedef void guest_device_fn(void *arg, struct json_object *result, const struct cij_error *err);

/*
 * Does @deed to the drive @id (NULL for DEVICE_LIST), whose definition is guest.json's as it is
 * now. @done is called once, from the loop or before this returns. @timeout: seconds that the guest
 * has to let go of a drive.
 */
void guest_device(struct guest *guest, enum device_deed deed, const char *id, double timeout,
	guest_device_fn *done, void *arg);
/* Those who type on its console and may not any more only look from here on. */
void guest_review_access(struct guest *guest);

/* Who is at its shared monitors. */
struct json_object *guest_monitor_clients(const struct guest *guest);

/* Who has leased it and who waits for it; NULL: nobody. */
struct json_object *guest_lease_view(const struct guest *guest);

/* Waiting */
enum guest_want { WANT_SETTLED, WANT_RUNNING, WANT_STOPPED, WANT_SSH };
typedef void guest_wait_fn(void *arg, const struct cij_error *err);

/*
 * Calls @fn once, from the loop, when the guest is as wanted (@err NULL), when it cannot get there
 * any more (a failed start: the reason), or after @seconds (Timeout; 0 = for ever). Returns
 * what guest_wait_cancel() takes until then.
 */
struct guest_waiter *guest_wait(
	struct guest *guest, enum guest_want want, double seconds, guest_wait_fn *fn, void *arg);

/* Nobody waits any more: @fn is not called. */
void guest_wait_cancel(struct guest_waiter *waiter);

/* Definition */

/* guest.json as it is now: NULL when there is none (err->class CIJ_E_NONE) or it cannot be read. */
struct json_object *guest_config_read(struct guest *guest, struct cij_error *err);
/* The same to be changed: an empty object where there is none. NULL with BadConfig. */
struct json_object *guest_config_begin(struct guest *guest, struct cij_error *err);
/* Checks @config and writes it. 0, or -1 with BadConfig. */
int guest_config_write(struct guest *guest, struct json_object *config, struct cij_error *err);
/* Changes it by dotted keys, see guest_conf_apply(); what runs is left alone. 0, or -1. */
int guest_config_change(struct guest *guest, struct json_object *changes, struct cij_error *err);
/*
 * The QEMU that the definition on disk asks for, whatever else is wrong with it; on the heap. NULL:
 * there is none, or the definition does not say (err->class CIJ_E_NONE).
 */
char *guest_qemu_on_disk(struct guest *guest, struct cij_error *err);
/*
 * All that is wrong with the guest as it stands on disk, and what the QEMU at @qemu cannot do for
 * it, where @caps are known, or @why there is none; either may be NULL.
 */
void guest_problems(struct guest *guest, const char *qemu, const struct qemu_caps *caps,
	const struct cij_error *why, struct cij_problems *problems);

#endif
