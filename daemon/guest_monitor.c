/* The guest's QEMU as its monitor and its process tell: events, silence, the end. */
#include "daemon/guest_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/fileio.h"
#include "daemon/log.h"
#include "proto/json.h"
#include "proto/text.h"

/* A guest whose monitor does not answer within this is 'hung'. */
#define ANSWER_SECONDS 10

/* It is asked so often, so that this is seen soon after; of many guests no more in a second, since
 * each question wakes us twice. */
#define PING_SECONDS 2
#define PINGS_PER_SECOND 100

/* After the process has ended, what it still said on its monitor arrives within this. */
#define DRAIN_SECONDS 1

/* A monitor that closed while QEMU lives is tried again after this. */
#define RECONNECT_SECONDS 1

/* A mute one is asked so often: it is shown to be well again soon after it is. */
#define HUNG_PING_SECONDS 1

/* The next question. */
static void
arm_ping(struct guest *guest)
{
	double spread = (double)admission_guests(guest->sv->admission) / PINGS_PER_SECOND;
	double seconds = guest->hung             ? HUNG_PING_SECONDS
			 : spread > PING_SECONDS ? spread
						 : PING_SECONDS;
	struct timeval tv = clock_timeval(seconds);

	event_add(guest->ping, &tv);
}

static void
set_hung(struct guest *guest, bool hung)
{
	if (guest->hung == hung)
		return;
	guest->hung = hung;
	if (hung)
		log_id(LOG_ID_HUNG, LOG_WARNING, "guest '%s': its monitor does not answer",
			guest->name);
	else
		log_id(LOG_ID_ANSWERS, LOG_NOTICE, "guest '%s': its monitor answers again",
			guest->name);
	if (guest->ping)
		arm_ping(guest);
	guest_tell_state(guest);
}

static void
on_pong(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;

	if (err && err->class != CIJ_E_TIMEOUT)
		return; /* the connection ended: on_closed() sees to it */
	guest->pinging = false;
	set_hung(guest, err != NULL);
}

static void
on_ping(evutil_socket_t fd, short what, void *arg)
{
	struct guest *guest = arg;

	if (guest->exited)
		return;
	arm_ping(guest);
	guest_sockets_open(guest);
	if (!guest->qmp) {
		if (guest_monitor_connect(guest) < 0)
			set_hung(guest, true);
		return;
	}
	if (guest->pinging || guest->adopting)
		return;
	guest->pinging = true;
	qmp_send(guest->qmp, "query-status", NULL, guest->hung ? HUNG_PING_SECONDS : ANSWER_SECONDS,
		on_pong, guest);
}

void
guest_monitor_watch(struct guest *guest)
{
	if (guest->ping)
		event_free(guest->ping);
	guest->pinging = false;
	guest->ping = evtimer_new(guest->sv->base, on_ping, guest);
	if (!guest->ping)
		abort();
	arm_ping(guest);
	guest_sockets_open(guest);
}

void
guest_monitor_drop(struct guest *guest, const struct cij_error *why)
{
	struct cij_error ended;

	cij_error_set(&ended, CIJ_E_QEMU_FAILED, "QEMU ended");
	monitor_free(steal_ptr(guest->monitor), why ? why : &ended);
	qmp_free(steal_ptr(guest->qmp));
}

/* A client of the shared monitor did something, as by an operation of the control socket. */
static void
on_deed(void *arg, const struct peer *peer, const char *what, const struct cij_error *err,
	double seconds)
{
	struct guest *guest = arg;
	struct deed deed = {.by = peer,
		.operation = what,
		.guest = guest->name,
		.err = err,
		.seconds = seconds};

	history_add(guest->sv->history, &deed);
}

static const struct monitor_ops shared_monitor_ops = {guest_access_of_client, on_deed};

static void
on_ready(void *arg, struct json_object *greeting)
{
	struct guest *guest = arg;

	guest->monitor = monitor_new(guest->sv->base, guest->qmp, guest->name);
	monitor_set_ops(guest->monitor, &shared_monitor_ops, guest);

	if (guest->adopting)
		guest_adopt_monitor_ready(guest);
	else if (guest->state == GS_STARTING)
		guest_start_monitor_ready(guest);
	else
		set_hung(guest, false);
	if (guest->frozen && !guest->adopting)
		guest_thaw(guest);
}

/* QMP event SHUTDOWN: "guest" tells who asked; 3.1.50 has no "reason". */
static void
take_shutdown(struct guest *guest, struct json_object *data)
{
	const char *reason = cij_json_str(data, "reason");

	guest->saw_shutdown = true;
	if (reason && strcmp(reason, "guest-panic") == 0)
		guest->saw_panic = true;
	else if (cij_json_bool(data, "guest", false))
		guest->saw_guest_shutdown = true;
}

/* Resets that follow each other, with no SSH that answers in between, are a loop. */
static void
count_reset(struct guest *guest)
{
	double now = clock_mono();

	if (guest->reset_at > 0 && now - guest->reset_at < GUEST_RESET_SECONDS)
		return;
	guest->resets++;
	guest->quick_resets = now - guest->reset_at <= GUEST_LOOP_SECONDS ? guest->quick_resets + 1
									  : 1;
	guest->reset_at = now;
	if (guest->quick_resets == GUEST_LOOP_RESETS)
		log_id(LOG_ID_RESET_LOOP, LOG_WARNING,
			"guest '%s': has reset itself %u times in a row without coming up: a "
			"triple fault, or a panic that reboots",
			guest->name, guest->quick_resets);
}

/* QMP event RESET: "guest" tells who asked. */
static void
take_reset(struct guest *guest, struct json_object *data)
{
	if (guest->state != GS_RUNNING)
		return;
	if (cij_json_bool(data, "guest", false))
		count_reset(guest);
	guest->run.up_at = guest->up_at = clock_mono();
	guest->boot_seen = true;
	guest->run.boot_ms = -1;
	guest_watch_boot(guest);
	guest_tell_state(guest);
}

void
guest_set_io_error(struct guest *guest, const char *drive, const char *reason, bool full)
{
	_cleanup_free_ char *name = drive && *drive ? str_printf(" '%s'", drive) : NULL;
	char clean[256];

	if (guest->io_error)
		return; /* each request that was under way tells */
	guest->io_error = str_printf("QEMU has paused it: its drive%s could not be written%s%s%s",
		name ? name : "", reason ? ": " : "", reason ? reason : "",
		full ? "; make room, then resume it" : "");
	log_id(LOG_ID_IO_ERROR, LOG_WARNING, "guest '%s': %s", guest->name,
		cij_text_clean(guest->io_error, clean, sizeof(clean)));
	str_replace(&guest->io_error, clean);
}

/* QMP event BLOCK_IO_ERROR; what is reported to the guest is the guest's matter. */
static void
take_io_error(struct guest *guest, struct json_object *data)
{
	const char *action = cij_json_str(data, "action");

	if (action && strcmp(action, "stop") == 0)
		guest_set_io_error(guest, cij_json_str(data, "device"),
			cij_json_str(data, "reason"), cij_json_bool(data, "nospace", false));
}

/* QMP events STOP and RESUME. The next daemon is to know since when it is so. */
static void
take_turn(struct guest *guest, enum gevent event)
{
	enum gstate before = guest->state;

	guest_step(guest, event);
	if (guest->state != before)
		guest_save_run(guest);
}

static void
on_event(void *arg, const char *name, struct json_object *data)
{
	struct guest *guest = arg;

	if (strcmp(name, "SHUTDOWN") == 0)
		take_shutdown(guest, data);
	else if (strcmp(name, "GUEST_PANICKED") == 0)
		guest->saw_panic = true;
	else if (strcmp(name, "DEVICE_DELETED") == 0) {
		const char *device = cij_json_str(data, "device"); /* NULL: one without an id */

		if (device)
			guest_device_deleted(guest, device);
	} else if (strcmp(name, "BLOCK_IO_ERROR") == 0)
		take_io_error(guest, data);
	else if (strcmp(name, "STOP") == 0 && !guest->frozen)
		take_turn(guest, GE_VM_STOP);
	else if (strcmp(name, "RESUME") == 0 && !guest->frozen) {
		str_replace(&guest->io_error, NULL);
		take_turn(guest, GE_VM_RESUME);
	} else if (strcmp(name, "RESET") == 0)
		take_reset(guest, data);
}

/* Both are needed: the exit status, and the last events, which may come behind it. */
static void
maybe_ended(struct guest *guest)
{
	if (guest->exited && guest->qmp_over)
		guest_arm(guest, 0);
	else if (guest->exited)
		guest_arm(guest, DRAIN_SECONDS);
}

static void
on_closed(void *arg, const struct cij_error *why)
{
	struct guest *guest = arg;

	guest_monitor_drop(guest, why);
	guest->qmp_over = true;
	guest->pinging = false;
	if (guest->exited) {
		maybe_ended(guest);
	} else if (guest->adopt_done) {
		guest_adopt_over(guest);
	} else if (guest->state == GS_STARTING) {
		/* QEMU is about to end with words of its own, or talks garbage and is ended; where
		 * we ended it ourselves the reason is known. */
		if (guest->start_err.class == CIJ_E_NONE)
			guest->start_err = *why;
		guest_arm(guest, RECONNECT_SECONDS);
	} else if (guest->ping) {
		event_add(guest->ping, &(struct timeval){RECONNECT_SECONDS, 0});
	}
}

static const struct qmp_ops guest_qmp_ops = {on_ready, on_event, on_closed};

static int
open_sockets_dir(const struct guest *guest)
{
	return openat(
		guest->sv->run_fd, guest->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int
connect_by_name(const struct guest *guest)
{
	_cleanup_close_ int sockets = open_sockets_dir(guest);

	return sockets < 0 ? -1 : sock_connect_at(sockets, "qemu.sock");
}

/*
 * The socket's name was removed, or all of RUNDIR: QEMU still has the handle on it that it was
 * given. Its owner may have put a handle on somebody else's socket there, which the owner could not
 * connect to and we could.
 */
static int
connect_by_handle(const struct guest *guest)
{
	_cleanup_close_ int handle = -1;
	_cleanup_free_ char *path = NULL;
	struct stat st;
	pid_t pid;

	if (!guest->proc)
		return -1;
	pid = proc_pid(guest->proc);
	path = str_printf("/proc/%d/fd/%d", (int)pid, FD_QMP_NAME);
	handle = open(path, O_PATH | O_CLOEXEC);
	if (handle < 0 || fstat(handle, &st) < 0)
		return -1;
	if (!proc_listens_on(pid, FD_QMP, &st)) {
		errno = EACCES;
		return -1;
	}
	return sock_connect_to(handle);
}

bool
guest_monitor_socket_lives(struct guest *guest)
{
	if (guest->monitor_fd < 0)
		guest->monitor_fd = connect_by_name(guest);
	return guest->monitor_fd >= 0;
}

/* Connects to the monitor's socket. 0, or -1 with errno. */
int
guest_monitor_connect(struct guest *guest)
{
	int fd = steal_fd(&guest->monitor_fd);

	if (fd < 0)
		fd = connect_by_name(guest);
	if (fd < 0)
		fd = connect_by_handle(guest);
	if (fd < 0)
		return -1;
	guest->qmp_over = false;
	guest->qmp = qmp_new(guest->sv->base, fd, &guest_qmp_ops, guest);
	return 0;
}

void
guest_monitor_sockets_remove(struct guest *guest)
{
	dir_remove_at(guest->sv->run_fd, guest->name);
}

/* The killer of a host without memory sends SIGKILL; that we do not send first. */
static bool
may_be_out_of_memory(const struct guest *guest, const struct proc_exit *how)
{
	if (guest->sent_kill)
		return false;
	if (!how->known)
		return guest->oom.own;
	return how->signaled && how->code == SIGKILL;
}

void
guest_on_exit(void *arg, const struct proc_exit *how)
{
	struct guest *guest = arg;

	guest->exited = true;
	guest->out_of_memory = may_be_out_of_memory(guest, how) ? oom_happened(&guest->oom)
								: OOM_NO;
	guest->run.has_exit = how->known;
	guest->run.exit = *how;
	if (!guest->qmp)
		guest->qmp_over = true;
	maybe_ended(guest);
}
