/*
 * Taking back what an earlier daemon started. The proof of life is the lock that QEMU holds on its
 * pid file, never the text in it; the proof of identity is the process's user, then the name and
 * the uuid that its monitor tells. Where the pid file, the folder or the socket was removed under
 * it, the descriptors that it inherited from the daemon that started it are the proof.
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
#include "proto/text.h"

/* A QEMU that holds its lock and says nothing for so long is running, and hung. */
#define ANSWER_SECONDS 1

/* Told so late that its time is up, we were the slow one: a thousand guests are taken back at once.
 */
#define LATE_SECONDS 0.1

/* Who holds the lock on guest.pid: 0 when nobody does. */
static pid_t
lock_holder_as_we_are(const struct guest *guest)
{
	_cleanup_close_ int fd = file_open_read_at(guest->dir_fd, "guest.pid");
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	if (fd < 0 || fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		return 0;
	return lock.l_pid > 0 ? lock.l_pid : 0;
}

/* As the owner; as ourselves where the owner may not, since nothing but the lock is looked at. */
static pid_t
lock_holder(const struct guest *guest)
{
	pid_t pid;

	if (guest->dir_fd < 0)
		return 0;
	{
		_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest->uid, guest->gid);

		pid = lock_holder_as_we_are(guest);
	}
	return pid ? pid : lock_holder_as_we_are(guest);
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

/* The uuid that its QEMU was given: of the folder's path, as that was then. */
static const char *
uuid_of_run(const struct guest *guest)
{
	const char *uuid = recorded(guest, "-uuid");

	return uuid ? uuid : guest->uuid;
}

/* Whether the process was given the listening socket that has the name @socket in RUNDIR/guests. */
static bool
has_socket(const struct guest *guest, pid_t pid, const char *socket)
{
	struct stat handle, own;

	return proc_stat_fd(pid, FD_QMP_NAME, &handle) &&
	       fstatat(guest->sv->run_fd, socket, &own, AT_SYMLINK_NOFOLLOW) == 0 &&
	       handle.st_ino == own.st_ino && handle.st_dev == own.st_dev &&
	       proc_listens_on(pid, FD_QMP, &own);
}

/* Whether the process was given what the daemon gives to this guest's QEMU and to nobody else. */
static bool
has_our_descriptors(const struct guest *guest, pid_t pid)
{
	_cleanup_free_ char *name = str_printf("%s/qemu.sock", guest->name);
	struct stat printed;

	if (has_socket(guest, pid, name))
		return true;
	return guest->dir_fd >= 0 && proc_stat_fd(pid, FD_STDERR, &printed) &&
	       run_is_qemu_file(guest->dir_fd, guest->run.number, &printed);
}

static bool
is_our_process(pid_t pid, void *arg)
{
	const struct guest *guest = arg;
	bool may_be = proc_has_option(pid, "-uuid", uuid_of_run(guest)) || proc_is_wordless(pid);

	/* The descriptors are there throughout exec(), and neither zombies nor kernel threads have
	 * any. */
	return may_be && has_our_descriptors(guest, pid);
}

/* Nobody holds the pid file's lock, but something else speaks for a process: which one? */
static pid_t
find_by_traces(struct guest *guest)
{
	bool lives = guest->dir_fd >= 0 && guest->run.number > 0 &&
		     run_lives(guest->dir_fd, guest->run.number);

	if (!lives && !guest_monitor_socket_lives(guest))
		return 0;
	return proc_find(is_our_process, guest);
}

static void
arm_answer(struct guest *guest)
{
	guest->answer_by = clock_mono() + ANSWER_SECONDS;
	guest_arm(guest, ANSWER_SECONDS);
}

void
guest_adopt_overdue(struct guest *guest)
{
	if (clock_mono() - guest->answer_by > LATE_SECONDS)
		arm_answer(guest);
	else
		guest_adopt_over(guest);
}

/* It has said something: so much is well, and it has its time anew for the rest. */
static void
note_answer(struct guest *guest)
{
	if (guest->adopt_done)
		arm_answer(guest);
}

/* Taken for one that is being started, it never answered: it is not ended for that. */
void
guest_adopt_deadline(struct guest *guest)
{
	guest->hung = true;
	guest_monitor_watch(guest);
	guest_step(guest, GE_UP);
	log_id(LOG_ID_HUNG, LOG_WARNING, "guest '%s': pid %d runs, but its monitor does not answer",
		guest->name, (int)proc_pid(guest->proc));
}

/*
 * It is in this state since before we came. What the record does not tell, being an older daemon's
 * or cut short, is said of one that runs only: it does so since it was started.
 */
static void
mend_since(struct guest *guest, const struct run *was)
{
	bool runs = guest->state == GS_RUNNING;

	if (!runs && guest->state != GS_PAUSED)
		return;
	if (was->cpus_since && was->cpus_run == runs)
		guest->since = was->cpus_since;
	else if (runs && !was->cpus_since)
		guest->since = time(NULL) - (time_t)(clock_mono() - guest->up_at);
	guest->run.cpus_since = guest->since;
}

/* Adoption is over, whichever way: the daemon may go on. */
void
guest_adopt_over(struct guest *guest)
{
	void (*done)(void *arg) = steal_ptr(guest->adopt_done);

	if (!done)
		return;
	if (guest->adopting)
		event_del(guest->deadline);
	if (guest->proc && guest_is_down(guest)) { /* alive and mute: say just that */
		const struct run was = guest->run;

		guest->hung = true;
		guest_monitor_watch(guest);
		guest_step(guest, GE_ADOPT);
		mend_since(guest, &was);
		log_id(LOG_ID_HUNG, LOG_WARNING,
			"guest '%s': pid %d runs, but its monitor does not answer", guest->name,
			(int)proc_pid(guest->proc));
		guest_go_on_stopping(guest);
	}
	done(guest->adopt_arg);
}

static void
give_up(struct guest *guest, const char *why)
{
	log_warn("guest '%s': not taken back: %s", guest->name, why);
	guest->adopting = false;
	str_replace(&guest->run.error, why);
	if (!guest_is_down(guest)) {
		/* Shown as running by its lock alone until now: it was somebody else's. */
		guest->exited = guest->qmp_over = true;
		guest_arm(guest, 0);
		return;
	}
	event_del(guest->deadline);
	guest_monitor_drop(guest, NULL);
	proc_free(steal_ptr(guest->proc));
	console_release(steal_ptr(guest->console));
	run_files_close(&guest->run_files);
	guest->reason = GR_LOST;
	guest_adopt_over(guest);
}

/*
 * QEMU's "info usernet" has a line for each forward, the host's port before the guest's address.
 * Returns the one that goes to the guest's port 22, and counts the others.
 */
static int
parse_forwards(const char *text, int *others)
{
	int port, guest_port, ssh = 0;

	*others = 0;
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (sscanf(line, " TCP[HOST_FORWARD] %*d 127.0.0.1 %d %*s %d", &port,
			    &guest_port) != 2 ||
			port <= 0 || port > 65535)
			continue;
		/* Ours is the first of all that are added. */
		if (guest_port == 22 && !ssh)
			ssh = port;
		else
			++*others;
	}
	return ssh;
}

/* An earlier daemon was ended in the middle of a start: it goes on from there. */
static void
finish_start(struct guest *guest, int forwards)
{
	log_notice("guest '%s': pid %d was being started; going on with that", guest->name,
		(int)proc_pid(guest->proc));
	guest_step(guest, GE_START);
	guest_start_go_on(guest, forwards);
}

static void
taken_back(struct guest *guest, bool running)
{
	const struct run was = guest->run;
	bool first = guest_is_down(guest);

	guest->hung = false;
	guest_monitor_watch(guest);
	guest_step(guest, guest->state == GS_STARTING ? GE_UP : GE_ADOPT);
	if (!running && guest->run.frozen)
		guest_thaw(guest);
	else
		guest_step(guest, running ? GE_VM_RESUME : GE_VM_STOP);
	mend_since(guest, &was);
	if (!guest->run.up) {
		guest->run.up = true;
		guest->run.up_at = guest->up_at;
		guest_save_run(guest);
	}
	guest_watch_boot(guest);
	guest_watch_memory(guest);
	if (first)
		log_id(LOG_ID_ADOPTED, LOG_NOTICE, "guest '%s': taken back, pid %d, SSH port %d",
			guest->name, (int)proc_pid(guest->proc), guest->run.port);
	else /* it was mute, and is known to run since */
		log_id(LOG_ID_ANSWERS, LOG_NOTICE, "guest '%s': its monitor answers again",
			guest->name);
	if (!first)
		guest_tell_state(guest);
	guest_go_on_stopping(guest);
}

/*
 * Takes a port that the guest's QEMU says to have. Two that say so cannot both be right, and a QEMU
 * may be one that its owner wrote: the kernel says who listens there. 0, or -1.
 */
static int
take_port(struct guest *guest, int port)
{
	struct ports *ports = guest->sv->ports;
	struct guest *other;
	uid_t uid;

	if (ports_take_this(ports, port, guest, guest->name) == 0)
		return 0;
	other = (struct guest *)ports_guest(ports, port);
	if (!other || other->uid == guest->uid || !ports_listener(port, &uid) || uid != guest->uid)
		return -1;
	log_warn("guest '%s': says to have port %d, which is guest '%s''s", other->name, port,
		guest->name);
	ports_give_back(ports, port);
	if (other->run.port == port)
		other->run.port = 0;
	return ports_take_this(ports, port, guest, guest->name);
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
			take_port(guest, port);
	}
}

static void
on_usernet(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;
	int others = 0, port = err ? 0 : parse_forwards(json_object_get_string(value), &others);
	bool running = guest->vm_running;

	if (err || !guest->adopting)
		return;
	guest->run.port = 0;
	if (!err)
		take_forwards(guest, json_object_get_string(value));
	if (port && take_port(guest, port) == 0)
		guest->run.port = port;
	guest->adopting = false;
	event_del(guest->deadline);
	if (!running && !guest->run.up && (guest->run.this_boot || !port))
		finish_start(guest, others);
	else
		taken_back(guest, running);
	guest_adopt_over(guest);
}

static void
on_pci(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;

	if (err || !guest->adopting)
		return;
	note_answer(guest);
	guest_drives_take_pci(guest, value);
	qmp_send_hmp(guest->qmp, "info usernet", 0, on_usernet, guest);
}

static void
on_vm_status(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;

	if (err || !guest->adopting)
		return;
	note_answer(guest);
	guest->vm_running = cij_json_bool(value, "running", false);
	str_replace(&guest->io_error, NULL);
	if (cij_json_str(value, "status") && strcmp(cij_json_str(value, "status"), "io-error") == 0)
		guest_set_io_error(guest, NULL, NULL, true);
	qmp_send(guest->qmp, "query-pci", NULL, 0, on_pci, guest);
}

static void
on_uuid(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;
	const char *is = cij_json_str(value, "UUID");

	if (err || !guest->adopting)
		return;
	note_answer(guest);
	if (!is || strcmp(is, uuid_of_run(guest)) != 0) {
		give_up(guest, "another guest answers on its monitor");
		return;
	}
	qmp_send(guest->qmp, "query-status", NULL, 0, on_vm_status, guest);
}

/* The name that its QEMU was started with, where the folder has another one since. */
static const char *
former_name(const struct guest *guest)
{
	const char *option = recorded(guest, "-name");

	if (!option || strncmp(option, "guest=", 6) != 0 || strcmp(option + 6, guest->name) == 0)
		return NULL;
	return cij_guest_name_check(option + 6, NULL) < 0 ? NULL : option + 6;
}

static void
on_name(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;
	const char *is = cij_json_str(value, "name"), *former = former_name(guest);

	if (err || !guest->adopting)
		return;
	note_answer(guest);
	if (!is || (strcmp(is, guest->name) != 0 && (!former || strcmp(is, former) != 0))) {
		give_up(guest, "a guest of another name answers on its monitor");
		return;
	}
	if (strcmp(is, guest->name) != 0)
		log_notice("guest '%s': runs as '%s': its folder was renamed", guest->name, is);
	qmp_send(guest->qmp, "query-uuid", NULL, 0, on_uuid, guest);
}

void
guest_adopt_monitor_ready(struct guest *guest)
{
	note_answer(guest);
	qmp_send(guest->qmp, "query-name", NULL, 0, on_name, guest);
}

/* The console goes on from its log; the files are the owner's to open. */
static void
adopt_console(struct guest *guest)
{
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest->uid, guest->gid);

	if (guest->dir_fd >= 0)
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

/* The folder that the process is in, where its name under the guests' folder is gone. */
static void
adopt_folder(struct guest *guest, pid_t pid)
{
	_cleanup_free_ char *path = str_printf("/proc/%d/cwd", (int)pid);
	uid_t real;
	int fd;

	if (guest->dir_fd >= 0)
		return;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &guest->dir_st) < 0) {
		proc_uids_of(pid, &real, &guest->uid);
		return;
	}
	guest->dir_fd = fd;
	guest->uid = guest->dir_st.st_uid;
	guest->gid = guest->dir_st.st_gid;
	guest_read_run(guest, 0);
}

/*
 * The sockets of a folder that was renamed go by its new name, too. The former name is its owner's
 * word: whose socket has it, the kernel says.
 */
static void
adopt_sockets(struct guest *guest, pid_t pid)
{
	const char *former = former_name(guest);
	_cleanup_free_ char *socket = former ? str_printf("%s/qemu.sock", former) : NULL;

	if (former && has_socket(guest, pid, socket))
		renameat(guest->sv->run_fd, former, guest->sv->run_fd, guest->name);
}

/*
 * The run that the process is of, as it was told itself: where its files were deleted the newest
 * run on disk is an earlier one, and what was asked of that is not to be done to this.
 */
static void
find_run(struct guest *guest, pid_t pid)
{
	static const char start[] = "pipe,id=" ARGV_CHARDEV_CONSOLE ",path=logs/";
	_cleanup_free_ char *word = proc_option_of(pid, "-chardev", start);
	unsigned long number = word ? strtoul(word + strlen(start), NULL, 10) : 0;

	if (number > 0 && number <= RUN_NUMBER_MAX && number != guest->run.number)
		guest_read_run(guest, (unsigned)number);
	if (!guest->run.ended)
		return;
	guest->run.asked = RUN_ASKED_NOTHING;
	guest->run.kill_at = guest->run.restart_at = 0;
	guest->run.frozen = false;
}

/* What the record does not tell, since it was cut short or is of another host's life. */
static void
mend_record(struct guest *guest, pid_t pid)
{
	double age = proc_age_of(pid);

	guest->run.ended = 0;
	guest->run.has_exit = false;
	str_replace(&guest->run.error, NULL);
	if (!guest->run.started && age >= 0)
		guest->run.started = time(NULL) - (time_t)age;
	guest->up_at = guest->run.up_at;
	if (guest->up_at <= 0)
		guest->up_at = clock_mono() - (age >= 0 ? age : 0);
	guest_use_definition_of_run(guest);
}

/* Why the process cannot be this guest's; NULL when it can. Takes hold of it first. */
static const char *
hold_process(struct guest *guest, pid_t pid, bool locked, struct cij_error *err)
{
	uid_t real, uid;

	proc_uids_of(pid, &real, &uid);
	/* Held by somebody who is not the owner: planted, or linked to another's. */
	if (locked && uid != guest->uid)
		return "its pid file is locked by another user's process";
	/* The launcher is still ours, for a moment; a set-uid program that a user calls is not. */
	if (!locked && uid != guest->uid && (uid != geteuid() || real != uid))
		return "its process is another user's";
	guest->proc = proc_adopt(guest->sv->base, pid, guest_on_exit, guest, err);
	if (!guest->proc)
		return err->desc;
	/* The pidfd is of the process that was found, or the pid was recycled meanwhile. */
	if (locked ? lock_holder(guest) != pid : !is_our_process(pid, guest))
		return "it ended just now";
	return NULL;
}

/* No process: the run of which nobody saw the end has ended, and what was to follow follows. */
static void
adopt_nothing(struct guest *guest)
{
	guest_monitor_sockets_remove(guest);
	if (guest->run.started && !guest->run.ended)
		guest_ended_unseen(guest, recorded(guest, "-uuid"));
	else if (guest->run.restart_at > 0 && guest_is_down(guest))
		guest_restart_go_on(guest);
}

void
guest_adopt(struct guest *guest, void (*done)(void *arg), void *arg)
{
	struct cij_error err;
	pid_t pid = lock_holder(guest);
	bool locked = pid != 0, starting;
	const char *why;

	if (!locked)
		pid = find_by_traces(guest);
	if (pid == 0) {
		adopt_nothing(guest);
		done(arg);
		return;
	}
	guest->adopting = true;
	guest->adopt_done = done;
	guest->adopt_arg = arg;
	guest->exited = guest->qmp_over = false;
	guest->asked_stop = guest->sent_kill = guest->saw_panic = guest->saw_guest_shutdown = false;
	if (!locked)
		adopt_folder(guest, pid);
	why = hold_process(guest, pid, locked, &err);
	if (why) {
		give_up(guest, why);
		return;
	}
	find_run(guest, pid);
	adopt_sockets(guest, pid);
	mend_record(guest, pid);
	adopt_console(guest);
	adopt_drives(guest);
	arm_answer(guest);
	/* Its start was not over: that it does not answer yet is nothing wrong. */
	starting = guest->run.this_boot && !guest->run.up && guest->state == GS_STOPPED;
	if (starting) {
		guest_step(guest, GE_START);
		guest_arm(guest, GUEST_START_SECONDS);
		guest->adopt_done = NULL;
	}
	if (guest_monitor_connect(guest) < 0)
		guest_adopt_over(guest);
	if (starting)
		done(arg);
}
