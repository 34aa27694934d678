/* The guest's QEMU as its monitor and its process tell: events, silence, the end. */
#include "daemon/guest_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/log.h"
#include "proto/json.h"

/* A guest whose monitor does not answer within this is 'hung'; it is asked again and again. */
#define PING_SECONDS 10

/* After the process has ended, what it still said on its monitor arrives within this. */
#define DRAIN_SECONDS 1

/* A monitor that closed while QEMU lives is tried again after this. */
#define RECONNECT_SECONDS 1

static void
set_hung(struct guest *guest, bool hung)
{
	if (guest->hung == hung)
		return;
	guest->hung = hung;
	if (hung)
		log_warn("guest '%s': its monitor does not answer", guest->name);
	else
		log_notice("guest '%s': its monitor answers again", guest->name);
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
	guest_sockets_open(guest);
	if (!guest->qmp) {
		if (guest_monitor_connect(guest) < 0)
			set_hung(guest, true);
		return;
	}
	if (guest->pinging)
		return;
	guest->pinging = true;
	qmp_send(guest->qmp, "query-status", NULL, PING_SECONDS, on_pong, guest);
}

void
guest_monitor_watch(struct guest *guest)
{
	if (guest->ping)
		event_free(guest->ping);
	guest->pinging = false;
	guest->ping = event_new(guest->sv->base, -1, EV_PERSIST, on_ping, guest);
	if (!guest->ping)
		abort();
	event_add(guest->ping, &(struct timeval){PING_SECONDS, 0});
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

static void
on_ready(void *arg, struct json_object *greeting)
{
	struct guest *guest = arg;

	guest->monitor = monitor_new(guest->sv->base, guest->qmp, guest->name);
	monitor_set_access(guest->monitor, guest_access_of_client, guest);

	if (guest->adopting)
		guest_adopt_monitor_ready(guest);
	else if (guest->state == GS_STARTING)
		guest_start_monitor_ready(guest);
	else
		set_hung(guest, false);
}

/* QMP event SHUTDOWN: "guest" tells who asked; 3.1.50 has no "reason". */
static void
take_shutdown(struct guest *guest, struct json_object *data)
{
	const char *reason = cij_json_str(data, "reason");

	if (reason && strcmp(reason, "guest-panic") == 0)
		guest->saw_panic = true;
	else if (cij_json_bool(data, "guest", false))
		guest->saw_guest_shutdown = true;
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
	} else if (strcmp(name, "STOP") == 0)
		guest_step(guest, GE_VM_STOP);
	else if (strcmp(name, "RESUME") == 0)
		guest_step(guest, GE_VM_RESUME);
	else if (strcmp(name, "RESET") == 0 && guest->state == GS_RUNNING) {
		guest->up_at = clock_mono();
		guest->boot_seen = true;
		guest->run.boot_ms = -1;
		guest_watch_boot(guest);
		guest_tell_state(guest);
	}
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

/* Connects to the monitor's socket. 0, or -1 with errno. */
int
guest_monitor_connect(struct guest *guest)
{
	_cleanup_close_ int sockets = openat(
		guest->sv->run_fd, guest->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int fd;

	if (sockets < 0)
		return -1;
	fd = sock_connect_at(sockets, "qemu.sock");
	if (fd < 0)
		return -1;
	guest->qmp_over = false;
	guest->qmp = qmp_new(guest->sv->base, fd, &guest_qmp_ops, guest);
	return 0;
}

void
guest_on_exit(void *arg, const struct proc_exit *how)
{
	struct guest *guest = arg;

	guest->exited = true;
	guest->run.has_exit = how->known;
	guest->run.exit = *how;
	if (!guest->qmp)
		guest->qmp_over = true;
	maybe_ended(guest);
}
