/*
 * Taking back what an earlier daemon started. The proof of life is the lock that QEMU holds on its
 * pid file, never the text in it; the proof of identity is the process's user, then the name and
 * the uuid that its monitor tells.
 */
#include "daemon/guest_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/fileio.h"
#include "daemon/log.h"
#include "proto/json.h"

/* A QEMU that holds its lock and says nothing for so long is running, and hung. */
#define ANSWER_SECONDS 1

/* Who holds the lock on guest.pid: 0 when nobody does. As the owner. */
static pid_t
lock_holder(const struct guest *guest)
{
	_cleanup_close_ int fd = file_open_read_at(guest->dir_fd, "guest.pid");
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	if (fd < 0 || fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		return 0;
	return lock.l_pid > 0 ? lock.l_pid : 0;
}

/* The process's effective user, from /proc; -1 when it is not there. */
static uid_t
process_uid(pid_t pid)
{
	_cleanup_fclose_ FILE *file = NULL;
	_cleanup_free_ char *path = str_printf("/proc/%d/status", (int)pid);
	char line[256];
	unsigned uid;

	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Uid: %*u %u", &uid) == 1)
			return uid;
	return (uid_t)-1;
}

/* The word behind @option in the last run's argument vector. */
static const char *
recorded(const struct guest *guest, const char *option)
{
	size_t n = guest->run.argv ? json_object_array_length(guest->run.argv) : 0;

	for (size_t i = 0; i + 1 < n; i++) {
		const char *word = json_object_get_string(
			json_object_array_get_idx(guest->run.argv, i));

		if (word && strcmp(word, option) == 0)
			return json_object_get_string(
				json_object_array_get_idx(guest->run.argv, i + 1));
	}
	return NULL;
}

/* Adoption is over, whichever way: the daemon may go on. */
void
guest_adopt_over(struct guest *guest)
{
	void (*done)(void *arg) = steal_ptr(guest->adopt_done);

	if (!done)
		return;
	event_del(guest->deadline);
	if (guest->proc && guest->state == GS_STOPPED) { /* alive and mute: say just that */
		guest->hung = true;
		guest_monitor_watch(guest);
		guest_step(guest, GE_ADOPT);
		log_warn("guest '%s': pid %d runs, but its monitor does not answer", guest->name,
			(int)proc_pid(guest->proc));
	}
	done(guest->adopt_arg);
}

static void
give_up(struct guest *guest, const char *why)
{
	log_warn("guest '%s': not taken back: %s", guest->name, why);
	guest->adopting = false;
	if (guest->state != GS_STOPPED) {
		/* Shown as running by its lock alone until now: it was somebody else's. */
		guest->exited = guest->qmp_over = true;
		guest_arm(guest, 0);
		return;
	}
	guest_monitor_drop(guest, NULL);
	proc_free(steal_ptr(guest->proc));
	console_release(steal_ptr(guest->console));
	run_files_close(&guest->run_files);
	guest->reason = GR_LOST;
	guest_adopt_over(guest);
}

/* QEMU's "info usernet": a line each forward, with the host's port before the guest's address. */
static int
parse_ssh_port(const char *text)
{
	for (const char *line = text; line; line = strchr(line, '\n')) {
		int port, guest_port;

		line += *line == '\n';
		if (sscanf(line, " TCP[HOST_FORWARD] %*d 127.0.0.1 %d %*s %d", &port,
			    &guest_port) == 2 &&
			guest_port == 22 && port > 0 && port <= 65535)
			return port;
	}
	return 0;
}

/* The other ports that it has, so that no guest is given one of them. */
static void
take_forwards(struct guest *guest, const char *text)
{
	for (const char *line = text; line; line = strchr(line, '\n')) {
		int port, guest_port;

		line += *line == '\n';
		if (sscanf(line, " TCP[HOST_FORWARD] %*d 127.0.0.1 %d %*s %d", &port,
			    &guest_port) == 2 &&
			guest_port != 22)
			ports_take_this(guest->sv->ports, port, guest, guest->name);
	}
}

static void
on_usernet(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;
	int port = err ? 0 : parse_ssh_port(json_object_get_string(value));
	bool running = guest->vm_running;

	if (err || !guest->adopting)
		return;
	guest->run.port = 0;
	if (!err)
		take_forwards(guest, json_object_get_string(value));
	if (port && ports_take_this(guest->sv->ports, port, guest, guest->name) == 0)
		guest->run.port = port;
	guest->adopting = guest->hung = false;
	event_del(guest->deadline);
	if (guest->state != GS_STOPPED) { /* it was mute, and is known to run since */
		log_notice("guest '%s': its monitor answers again", guest->name);
		guest_watch_boot(guest);
		guest_tell_state(guest);
	} else if (!running &&
		   !port) { /* the daemon was ended in the middle of a start: finish it */
		guest_step(guest, GE_START);
		guest_start_monitor_ready(guest);
	} else {
		guest_monitor_watch(guest);
		guest_step(guest, GE_ADOPT);
		if (!running)
			guest_step(guest, GE_VM_STOP);
		guest_watch_boot(guest);
		log_notice("guest '%s': taken back, pid %d, SSH port %d", guest->name,
			(int)proc_pid(guest->proc), guest->run.port);
	}
	guest_adopt_over(guest);
}

static void
on_pci(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;

	if (err || !guest->adopting)
		return;
	guest_drives_take_pci(guest, value);
	qmp_send_hmp(guest->qmp, "info usernet", 0, on_usernet, guest);
}

static void
on_vm_status(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;

	if (err || !guest->adopting)
		return;
	guest->vm_running = cij_json_bool(value, "running", false);
	qmp_send(guest->qmp, "query-pci", NULL, 0, on_pci, guest);
}

static void
on_uuid(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;
	const char *is = cij_json_str(value, "UUID"), *want = recorded(guest, "-uuid");

	if (err || !guest->adopting)
		return;
	if (!is || strcmp(is, want ? want : guest->uuid) != 0) {
		give_up(guest, "another guest answers on its monitor");
		return;
	}
	qmp_send(guest->qmp, "query-status", NULL, 0, on_vm_status, guest);
}

static void
on_name(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;
	const char *is = cij_json_str(value, "name");

	if (err || !guest->adopting)
		return;
	if (!is || strcmp(is, guest->name) != 0) {
		give_up(guest, "a guest of another name answers on its monitor");
		return;
	}
	qmp_send(guest->qmp, "query-uuid", NULL, 0, on_uuid, guest);
}

void
guest_adopt_monitor_ready(struct guest *guest)
{
	qmp_send(guest->qmp, "query-name", NULL, 0, on_name, guest);
}

/* The console goes on from its log; the files are the owner's to open. */
static void
adopt_console(struct guest *guest)
{
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest->uid, guest->gid);

	run_files_open(guest->dir_fd, guest->run.number, false, &guest->run_files);
	if (guest->run_files.log_fd >= 0)
		guest_open_console(guest);
}

/* What it was started with and what was plugged in since; its monitor tells what is still there. */
static void
adopt_drives(struct guest *guest)
{
	_cleanup_json_ struct json_object *devices = json_object_get(
		guest->run.devices ? guest->run.devices
				   : cij_json_get(guest->conf.json, "devices"));

	guest_drives_set(guest, devices, DRIVE_UNKNOWN);
}

static pid_t
find_process(struct guest *guest)
{
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest->uid, guest->gid);

	return guest->dir_fd < 0 ? 0 : lock_holder(guest);
}

void
guest_adopt(struct guest *guest, void (*done)(void *arg), void *arg)
{
	struct cij_error err;
	pid_t pid = find_process(guest);

	if (pid == 0) {
		done(arg);
		return;
	}
	guest->adopting = true;
	guest->adopt_done = done;
	guest->adopt_arg = arg;
	guest->exited = guest->qmp_over = false;
	guest->asked_stop = guest->sent_kill = guest->saw_panic = guest->saw_guest_shutdown = false;
	/* Held by somebody who is not the owner: planted, or linked to another's. */
	if (process_uid(pid) != guest->uid) {
		give_up(guest, "its pid file is locked by another user's process");
		return;
	}
	guest->proc = proc_adopt(guest->sv->base, pid, guest_on_exit, guest, &err);
	/* The pidfd is of the process that holds the lock now, or the pid was recycled meanwhile.
	 */
	if (!guest->proc || find_process(guest) != pid) {
		give_up(guest, guest->proc ? "it ended just now" : err.desc);
		return;
	}
	adopt_console(guest);
	adopt_drives(guest);
	guest->run.ended = 0;
	guest->run.has_exit = false;
	guest->up_at = clock_mono() -
		       (guest->run.started ? difftime(time(NULL), guest->run.started) : 0);
	guest_arm(guest, ANSWER_SECONDS);
	if (guest_monitor_connect(guest) < 0)
		guest_adopt_over(guest);
}
