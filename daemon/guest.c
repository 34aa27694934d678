#include "daemon/guest_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "daemon/clock.h"
#include "daemon/fileio.h"
#include "daemon/log.h"

/* Names of guests' UUIDs live in a name space of our own (RFC 4122 section 4.3): drawn once. */
static const char uuid_namespace[] = "2f1f9f0e-6f5c-4c54-9a2b-1a5d9f4c7e11";

/* By name (the host's path of the folder), so that a guest keeps it for good. */
void
guest_make_uuid(struct guest *guest)
{
	uuid_t space, uuid;

	uuid_parse(uuid_namespace, space);
	uuid_generate_sha1(uuid, space, guest->path, strlen(guest->path));
	uuid_unparse_lower(uuid, guest->uuid);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg);

struct guest *
guest_new(const struct services *services, const char *name)
{
	struct guest *guest = calloc(1, sizeof(*guest));

	if (!guest)
		abort();
	guest->sv = services;
	guest->name = str_copy(name);
	guest->path = str_printf("%s/%s", services->conf->guests_dir, name);
	guest_make_uuid(guest);
	guest->dir_fd = guest->monitor_fd = -1;
	guest->oom.before = -1;
	guest->reason = GR_NEVER_STARTED;
	guest->run_files = (struct run_files)RUN_FILES_INIT;
	TAILQ_INIT(&guest->waiters);
	TAILQ_INIT(&guest->drives);
	TAILQ_INIT(&guest->stats_waiters);
	guest_stats_clear(guest);
	guest->wake = evtimer_new(services->base, guest_waiters_on_wake, guest);
	guest->deadline = evtimer_new(services->base, on_deadline, guest);
	if (!guest->wake || !guest->deadline)
		abort();
	guest_set_since(guest);
	return guest;
}

void
guest_free(struct guest *guest)
{
	struct cij_error err;

	if (guest->telling) {
		guest->doomed = true;
		return;
	}
	cij_error_set(&err, CIJ_E_GUEST_NOT_FOUND, "guest '%s' is gone", guest->name);
	guest_waiters_fail_all(guest, &err);
	guest_close_run(guest);
	guest_drives_clear(guest);
	ports_give_back_all(guest->sv->ports, guest);
	admission_leave(guest->sv->admission, guest);
	event_free(guest->wake);
	event_free(guest->deadline);
	if (guest->restart)
		event_free(guest->restart);
	oom_clear(&guest->oom);
	free(guest->io_error);
	if (guest->monitor_fd >= 0)
		close(guest->monitor_fd);
	run_clear(&guest->run);
	guest_conf_clear(&guest->conf);
	guest_files_clear(&guest->files);
	if (guest->dir_fd >= 0)
		close(guest->dir_fd);
	free(guest->path);
	free(guest->name);
	free(guest);
}

void
guest_leave(struct guest *guest)
{
	struct cij_error err;

	cij_error_set(&err, CIJ_E_BUSY, "the daemon stopped meanwhile");
	cij_error_hint(&err, "guests live on; ask the next one");
	guest_waiters_fail_all(guest, &err);
	guest_free(guest);
}

const char *
guest_name(const struct guest *guest)
{
	return guest->name;
}

const char *
guest_path(const struct guest *guest)
{
	return guest->path;
}

enum gstate
guest_state(const struct guest *guest)
{
	return guest->state;
}

uid_t
guest_uid(const struct guest *guest)
{
	return guest->uid;
}

gid_t
guest_gid(const struct guest *guest)
{
	return guest->gid;
}

int
guest_dir(const struct guest *guest)
{
	return guest->dir_fd;
}

const struct guest_conf *
guest_conf(const struct guest *guest)
{
	return &guest->conf;
}

bool
guest_is_down(const struct guest *guest)
{
	return guest->state == GS_STOPPED || guest->state == GS_BROKEN;
}

bool
guest_is_live(const struct guest *guest)
{
	return guest->state == GS_RUNNING || guest->state == GS_PAUSED;
}

bool
guest_is_up(const struct guest *guest)
{
	return guest_is_live(guest) || guest->state == GS_STOPPING;
}

void
guest_status(const struct guest *guest, struct guest_status *status)
{
	const struct run *run = &guest->run;
	bool down = guest_is_down(guest), planned = guest_restart_is_planned(guest);
	double restart_in = planned ? run->restart_at - clock_mono() : -1;

	*status = (struct guest_status){
		.state = guest->state,
		.reason = down ? guest->reason : GR_NONE,
		.since = guest->since,
		.active = !down,
		.ready = guest->ready,
		.hung = guest->hung,
		.boot_ms = down ? -1 : run->boot_ms,
		.uptime = guest_is_up(guest) ? clock_mono() - guest->up_at : -1,
		.pid = guest->proc ? proc_pid(guest->proc) : 0,
		.port = down ? 0 : run->port,
		.run = run->number,
		.qemu = run->qemu,
		.version = run->version,
		.dialect = run->dialect,
		.kvm = run->kvm,
		.accel_why = run->accel_why,
		.has_exit = down && run->has_exit,
		.exit = &run->exit,
		.error = down ? run->error : NULL,
		.broken = guest->broken.class != CIJ_E_NONE ? guest->broken.desc : NULL,
		.note = down                        ? NULL
			: guest->folder_gone        ? "its folder was renamed or removed"
			: guest->state == GS_PAUSED ? guest->io_error
						    : NULL,
		.restarts = run->backoff.restarts,
		.restart_in = planned && restart_in < 0 ? 0 : restart_in,
		.gave_up = down && run->backoff.gave_up,
		.resets = down ? 0 : guest->resets,
		.reset_loop = !down && guest->quick_resets >= GUEST_LOOP_RESETS,
		.console = guest->console,
	};
}

void
guest_set_since(struct guest *guest)
{
	guest->since = time(NULL);
}

/* Event GUEST_STATE. */
void
guest_tell_state(struct guest *guest)
{
	struct json_object *data = json_object_new_object();
	bool down = guest_is_down(guest);
	const char *error = guest->state == GS_BROKEN ? guest->broken.desc : guest->run.error;

	cij_json_add_str(data, "guest", guest->name);
	cij_json_add_str(data, "state", gstate_name(guest->state));
	cij_json_add_str(data, "reason", down ? greason_name(guest->reason) : NULL);
	cij_json_add_str(data, "error",
		down                        ? error
		: guest->state == GS_PAUSED ? guest->io_error
					    : NULL);
	cij_json_add_bool(data, "hung", guest->hung);
	cij_json_add_int(data, "restarts", guest->run.backoff.restarts);
	notify_send(guest->sv->notify, "GUEST_STATE", guest->name, data);
}

/* Event PROGRESS: what a start is busy with. */
void
guest_tell_phase(struct guest *guest, const char *phase, const char *text)
{
	struct json_object *data = json_object_new_object();

	cij_json_add_str(data, "guest", guest->name);
	cij_json_add_str(data, "phase", phase);
	cij_json_add_str(data, "text", text);
	notify_send(guest->sv->notify, "PROGRESS", guest->name, data);
}

static bool
is_down_state(enum gstate state)
{
	return state == GS_STOPPED || state == GS_BROKEN;
}

/* What is on its way, or runs, has its memory: it is not given away twice. */
static void
account(struct guest *guest, enum gstate before)
{
	if (is_down_state(before) == is_down_state(guest->state))
		return;
	if (is_down_state(guest->state))
		admission_leave(guest->sv->admission, guest);
	else
		admission_enter(
			guest->sv->admission, guest, guest->name, guest->uid, guest->conf.memory);
}

void
guest_step(struct guest *guest, enum gevent event)
{
	struct gstep step = gstate_step(guest->state, event);
	enum gstate before = guest->state;

	if (step.next == before)
		return;
	guest->state = step.next;
	account(guest, before);
	guest_set_since(guest);
	if (guest->state == GS_RUNNING || guest->state == GS_PAUSED) {
		guest->run.cpus_run = guest->state == GS_RUNNING;
		guest->run.cpus_since = guest->since;
	}
	guest_tell_state(guest);
	guest_waiters_check(guest, before);
}

int
guest_refused(const struct guest *guest, enum gevent event, struct cij_error *err)
{
	if (guest->state == GS_BROKEN) {
		*err = guest->broken;
		return cij_error_prefix(err, "guest '%s' is broken", guest->name);
	}
	cij_error_set(err, CIJ_E_BUSY, "cannot %s guest '%s': it is %s", gevent_name(event),
		guest->name, gstate_name(guest->state));
	if (guest->state == GS_STOPPING)
		return cij_error_hint(
			err, "'cijqemuctl wait %s --for stopped', then try again", guest->name);
	return -1;
}

void
guest_arm(struct guest *guest, double seconds)
{
	struct timeval tv = clock_timeval(seconds);

	guest->deadline_at = clock_mono() + seconds;
	event_add(guest->deadline, &tv);
}

/* A start is not given up because we slept. */
static bool
start_has_time(struct guest *guest)
{
	double more = clock_grace(&guest->deadline_at);

	if (more > 0)
		guest_arm(guest, more);
	return more > 0;
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct guest *guest = arg;

	if (guest->exited)
		guest_ended(guest, GE_EXIT);
	else if (guest->adopt_done)
		guest_adopt_overdue(guest);
	else if (guest->state == GS_STARTING && start_has_time(guest))
		return;
	else if (guest->state == GS_STARTING && guest->adopting)
		guest_adopt_deadline(guest);
	else if (guest->state == GS_STARTING)
		guest_start_deadline(guest);
	else if (guest->state == GS_STOPPING)
		guest_stop_deadline(guest);
}

/* RUNDIR/guests/NAME, where the guest's sockets are. */
int
guest_sockets_dir(struct guest *guest, struct cij_error *err)
{
	int fd = dir_make_at(guest->sv->run_fd, guest->name, 0755);

	if (fd < 0)
		cij_error_errno(err, CIJ_E_INTERNAL, errno, "cannot make the folder '%s/guests/%s'",
			guest->sv->conf->run_dir, guest->name);
	return fd;
}

struct qmp *
guest_monitor(struct guest *guest, struct cij_error *err)
{
	if (guest->monitor && guest_is_up(guest)) /* it is lent out from when it is negotiated */
		return guest->qmp;
	if (guest_is_up(guest))
		cij_error_set(err, CIJ_E_QEMU_FAILED,
			"guest '%s' runs, but its monitor does not answer", guest->name);
	else
		cij_error_set(err, CIJ_E_BUSY, "guest '%s' is %s: it has no monitor", guest->name,
			gstate_name(guest->state));
	return NULL;
}

struct monitor *
guest_monitor_shared(struct guest *guest, struct cij_error *err)
{
	return guest_monitor(guest, err) ? guest->monitor : NULL;
}
