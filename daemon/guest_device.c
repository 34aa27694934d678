/*
 * Drives plugged into, taken from and made anew under a guest, one at a time. A job is a list of
 * steps; each begins something (a probe, images, a command of the monitor, a wait) and the next one
 * follows from the loop when that is over.
 */
#include <string.h>

#include "daemon/clock.h"
#include "daemon/guest_impl.h"
#include "daemon/log.h"
#include "proto/json.h"
#include "proto/text.h"

/* One monitor command of a job. */
#define COMMAND_SECONDS 20

/*
 * How long a guest's kernel is given to find a new drive, and how often QEMU is asked for it:
 * Linux does within 0.2 s under TCG.
 */
#define SEEN_SECONDS 10
#define SEEN_ASK_SECONDS 0.2

struct device_job;
typedef void step_fn(struct device_job *job);

struct device_job {
	struct guest *guest; /* weak */
	enum device_deed deed;
	char *id; /* NULL: DEVICE_LIST */
	double timeout;
	guest_device_fn *done;
	void *arg; /* weak */

	struct json_object *json; /* the drive's definition; NULL: guest.json has none */
	struct device_conf conf;
	size_t index; /* among guest.json's drives */
	char *qemu;
	struct qemu_caps caps;
	enum image_format format;
	struct image_job *images;

	step_fn *const *steps; /* what is left; NULL ends */
	struct event *next, *timer;
	double until; /* monotonic: of a wait */
	step_fn *on_answer; /* takes @value */
	struct json_object *value; /* weak: what the monitor answered to on_answer */
	bool waiting_gone; /* for DEVICE_DELETED */
	struct json_object *parts; /* what QEMU is to be told */
	size_t part; /* answered so far */
	struct cij_error refused; /* the first part that was, */
	size_t refused_at; /* and which */
	bool absent, already;
	struct json_object *result;
};

/* Ends the job; its caller is told. */
static void
job_end(struct device_job *job, const struct cij_error *err)
{
	struct guest *guest = job->guest;
	struct json_object *result = err ? NULL : steal_ptr(job->result);
	guest_device_fn *done = job->done;
	void *arg = job->arg;

	if (guest->device_job == job) /* else it never was the one: refused, or a list */
		guest->device_job = NULL;
	probe_cancel(guest->sv->probes, job);
	image_job_free(job->images);
	event_free(job->next);
	event_free(job->timer);
	device_conf_clear(&job->conf);
	json_object_put(job->json);
	json_object_put(job->parts);
	json_object_put(job->result);
	free(job->qemu);
	free(job->id);
	free(job);
	done(arg, result, err);
}

/* The step is over. */
static void
step_over(struct device_job *job)
{
	event_active(job->next, EV_TIMEOUT, 0);
}

static void
on_next(evutil_socket_t fd, short what, void *arg)
{
	struct device_job *job = arg;
	step_fn *step = *job->steps;

	if (!step) {
		job_end(job, NULL);
		return;
	}
	job->steps++;
	step(job);
}

/* The monitor's answers come to the guest: a job that was cancelled is not there any more. */
static void
on_monitor(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;
	struct device_job *job = guest->device_job;
	step_fn *fn;

	if (!job || !job->on_answer)
		return;
	fn = steal_ptr(job->on_answer);
	if (err) {
		struct cij_error own = *err;

		job_end(job, &own);
		return;
	}
	job->value = value;
	fn(job);
}

static void
ask(struct device_job *job, const char *command, struct json_object *args, step_fn *then)
{
	struct cij_error err;
	struct qmp *qmp = guest_monitor(job->guest, &err);

	if (!qmp) {
		json_object_put(args);
		job_end(job, &err);
		return;
	}
	job->on_answer = then;
	qmp_send(qmp, command, args, COMMAND_SECONDS, on_monitor, job->guest);
}

static bool
is_live(const struct guest *guest)
{
	return guest->state == GS_RUNNING || guest->state == GS_PAUSED;
}

/* Step: what the guest's QEMU can do. */

static void
on_caps(void *arg, const struct qemu_caps *caps, const struct cij_error *err)
{
	struct device_job *job = arg;
	struct cij_error own;

	if (!caps) {
		own = *err;
		job_end(job, &own);
		return;
	}
	job->caps = *caps;
	if (dialect_check(caps, &job->conf, job->qemu, &job->format, &own) < 0)
		job_end(job, &own);
	else
		step_over(job);
}

static void
step_probe(struct device_job *job)
{
	struct guest *guest = job->guest;
	struct cij_error err;

	if (is_live(guest) && guest->run.qemu) {
		job->qemu = str_copy(guest->run.qemu);
	} else if (guest_find_qemu(guest, &job->qemu, &err) < 0) {
		job_end(job, &err);
		return;
	}
	probe_ask(
		guest->sv->probes, job->qemu, guest->uid, guest->gid, guest->dir_fd, on_caps, job);
}

/* Step: its image and its other files. */

static void
on_files_progress(void *arg, const char *text)
{
	struct device_job *job = arg;

	guest_tell_phase(job->guest, "images", text);
}

static void
on_files(void *arg, const struct cij_error *err)
{
	struct device_job *job = arg;
	struct cij_error own;

	image_job_free(steal_ptr(job->images));
	if (err) {
		own = *err;
		job_end(job, &own);
	} else {
		step_over(job);
	}
}

static const struct image_ops files_ops = {on_files_progress, on_files};

static void
step_files(struct device_job *job)
{
	const struct guest *guest = job->guest;
	struct image_spec spec = {.devices = &job->conf,
		.n_devices = 1,
		.caps = job->caps,
		.qemu = job->qemu,
		.dir_fd = guest->dir_fd,
		.uid = guest->uid,
		.gid = guest->gid,
		.guest = guest->name,
		.anew = job->deed == DEVICE_FORMAT};

	job->images = image_job_new(guest->sv->base, &spec, &files_ops, job);
}

/* Step: what QEMU has now. */

static void
take_pci(struct device_job *job)
{
	struct pci_spot spot;

	guest_drives_take_pci(job->guest, job->value);
	job->absent = job->id && !pci_find(job->value, job->id, &spot);
	step_over(job);
}

static void
step_look(struct device_job *job)
{
	ask(job, "query-pci", NULL, take_pci);
}

/* Unplugging */

static int
cannot_unplug(const struct device_job *job, struct cij_error *err)
{
	if (job->guest->state != GS_PAUSED)
		return 0;
	cij_error_set(err, CIJ_E_BUSY, "guest '%s' is paused: it cannot let go of a drive",
		job->guest->name);
	cij_error_hint(err, "'cijqemuctl resume %s' first", job->guest->name);
	return -1;
}

/* Nobody uses the image any more. What was given by -drive QEMU has dropped by itself. */
static void
drop_node(struct qmp *qmp, const char *id)
{
	_cleanup_free_ char *node = dialect_node_name(id);
	struct json_object *args = json_object_new_object();

	cij_json_add_str(args, "node-name", node);
	/* "not found" is as good. */
	qmp_send(qmp, "blockdev-del", args, COMMAND_SECONDS, NULL, NULL);
}

static void
look_after_wait(struct device_job *job)
{
	struct guest_drive *drive = guest_drive_find(job->guest, job->id);
	struct pci_spot spot;
	struct cij_error err;

	guest_drives_take_pci(job->guest, job->value);
	if (!pci_find(job->value, job->id, &spot)) { /* it did, unheard */
		if (job->guest->qmp)
			drop_node(job->guest->qmp, job->id);
		step_over(job);
		return;
	}
	if (drive)
		drive->unplugging = true;
	guest_drive_tell(job->guest, job->id, "unplug-timeout", true);
	cij_error_set(&err, CIJ_E_TIMEOUT,
		"guest '%s' did not let go of drive '%s' within %g s: it still has it",
		job->guest->name, job->id, job->timeout);
	cij_error_hint(&err,
		"its kernel must support PCI hot-plug and nothing may keep it from answering; "
		"should it let go later, 'device list' and the event GUEST_DEVICE tell");
	job_end(job, &err);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct device_job *job = arg;

	if (job->waiting_gone) {
		job->waiting_gone = false;
		ask(job, "query-pci", NULL, look_after_wait);
	} else {
		step_over(job);
	}
}

static void
wait_for(struct device_job *job, double seconds)
{
	struct timeval tv = clock_timeval(seconds);

	event_add(job->timer, &tv);
}

/* QMP 'device_del' only asks the guest; event DEVICE_DELETED says that it did. */
static void
on_device_del(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;
	struct device_job *job = guest->device_job;
	struct cij_error own;

	/* Asked before, and not done yet: that will do, too. */
	if (!job || !job->waiting_gone || !err || strstr(err->desc, "process of unplug"))
		return;
	own = *err;
	job->waiting_gone = false;
	job_end(job, &own);
}

static void
step_unplug(struct device_job *job)
{
	struct json_object *args;
	struct guest_drive *drive = guest_drive_find(job->guest, job->id);
	struct cij_error err;
	struct qmp *qmp;

	if (job->absent) {
		job->already = true;
		step_over(job);
		return;
	}
	if (cannot_unplug(job, &err) < 0 || !(qmp = guest_monitor(job->guest, &err))) {
		job_end(job, &err);
		return;
	}
	if (drive)
		drive->unplugging = true;
	args = json_object_new_object();
	cij_json_add_str(args, "id", job->id);
	job->waiting_gone = true;
	qmp_send(qmp, "device_del", args, COMMAND_SECONDS, on_device_del, job->guest);
	wait_for(job, job->timeout);
}

void
guest_device_deleted(struct guest *guest, const char *id)
{
	struct device_job *job = guest->device_job;
	struct guest_drive *drive = guest_drive_find(guest, id);

	if (!drive)
		return;
	guest_drive_now(guest, drive, DRIVE_ABSENT);
	if (guest->qmp)
		drop_node(guest->qmp, id);
	if (job && job->waiting_gone && strcmp(job->id, id) == 0) {
		job->waiting_gone = false;
		event_del(job->timer);
		step_over(job);
	}
}

/* Plugging */

/* The root port for the drive: its own, or the first that is free. NULL with NoResources. */
static int
choose_place(struct device_job *job, struct argv_place *place, struct cij_error *err)
{
	enum machine_bus machine = dialect_machine_bus(job->guest->conf.machine);
	size_t most = job->guest->conf.devices.n + ARGV_SPARE_PORTS + job->index + 1;

	*place = argv_drive_place(machine, job->index);
	if (machine != MACHINE_PCIE || pci_port_is_free(job->value, place->bus))
		return 0;
	for (size_t i = 0; i < most; i++) {
		*place = argv_drive_place(machine, i);
		if (pci_port_is_free(job->value, place->bus))
			return 0;
	}
	cij_error_set(err, CIJ_E_NO_RESOURCES,
		"guest '%s' has no free port for drive '%s': it was started with one a drive and "
		"%d more",
		job->guest->name, job->id, ARGV_SPARE_PORTS);
	return cij_error_hint(err,
		"unplug another drive, or 'cijqemuctl restart %s': it gets a port for each drive "
		"of guest.json",
		job->guest->name);
}

static void
guest_freeze(struct guest *guest)
{
	guest->frozen = guest->run.frozen = true;
	guest_save_run(guest); /* the next daemon thaws it, should we end right here */
	qmp_send(guest->qmp, "stop", NULL, COMMAND_SECONDS, NULL, NULL);
}

static void
on_thawed(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;

	/* The connection ended, not the freezing: the next one sees to it, or the next daemon. */
	if (err && !(guest->qmp && qmp_is_open(guest->qmp)))
		return;
	guest->frozen = guest->run.frozen = false;
	guest_save_run(guest);
	if (!err)
		return;
	log_warn("guest '%s': stands still: %s", guest->name, err->desc);
	guest_step(guest, GE_VM_STOP);
}

void
guest_thaw(struct guest *guest)
{
	qmp_send(guest->qmp, "cont", NULL, COMMAND_SECONDS, on_thawed, guest);
}

static const struct {
	const char *part, *command;
} commands[] = {
	{"blockdev", "blockdev-add"},
	{"device", "device_add"},
	{"qom", "qom-set"},
};

/* QEMU has it: from now on it is one of the guest's. */
static struct guest_drive *
take_in(struct device_job *job)
{
	struct guest_drive *drive = guest_drive_put(job->guest, job->json, &job->conf);

	if (drive && drive->presence == DRIVE_UNKNOWN)
		drive->presence = DRIVE_ABSENT;
	if (drive)
		guest_drive_now(job->guest, drive, DRIVE_PRESENT);
	return drive;
}

/* A part was refused: those before it are taken back, without a word to the guest where possible.
 */
static void
give_back(struct device_job *job)
{
	struct guest *guest = job->guest;
	struct json_object *args = json_object_new_object();
	struct guest_drive *drive;

	if (job->refused_at > 1) { /* a controller without its namespace */
		drive = take_in(job);
		if (drive)
			drive->unplugging = true;
		cij_json_add_str(args, "id", job->id);
		qmp_send(guest->qmp, "device_del", args, COMMAND_SECONDS, NULL, NULL);
		return;
	}
	json_object_put(args);
	if (job->refused_at == 1)
		drop_node(guest->qmp, job->id);
}

/* Answers come in order; the first refusal is the reason, the rest follow from it. */
static void
on_part(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;
	struct device_job *job = guest->device_job;
	struct cij_error own;

	if (!job || !job->parts)
		return;
	if (err && job->refused.class == CIJ_E_NONE) {
		job->refused = *err;
		job->refused_at = job->part;
	}
	if (++job->part < json_object_array_length(job->parts))
		return;
	if (job->refused.class == CIJ_E_NONE) {
		take_in(job);
		step_over(job);
		return;
	}
	if (guest->qmp)
		give_back(job);
	cij_error_prefix(&job->refused, "drive '%s': QEMU refuses it", job->id);
	if (job->refused_at > 1)
		cij_error_hint(&job->refused, "it will be there after 'cijqemuctl restart %s'",
			guest->name);
	own = job->refused;
	job_end(job, &own);
}

static bool
has_part(struct json_object *parts, const char *name)
{
	for (size_t i = 0; i < json_object_array_length(parts); i++)
		if (strcmp(json_object_get_string(json_object_array_get_idx(
				   json_object_array_get_idx(parts, i), 0)),
			    name) == 0)
			return true;
	return false;
}

/*
 * All at once. A namespace must be there before the guest looks at its controller: QEMU crashes
 * when one comes later, and a guest can be as quick as 30 ms. So the CPUs stand still meanwhile,
 * for a millisecond or two; who watches the guest is not told that it paused.
 */
static void
send_parts(struct device_job *job)
{
	bool freeze = has_part(job->parts, "qom") && job->guest->state == GS_RUNNING;
	size_t n = json_object_array_length(job->parts);
	struct cij_error err;
	struct qmp *qmp = guest_monitor(job->guest, &err);

	if (!qmp) {
		job_end(job, &err);
		return;
	}
	if (freeze)
		guest_freeze(job->guest);
	for (size_t i = 0; i < n; i++) {
		struct json_object *pair = json_object_array_get_idx(job->parts, i);
		const char *part = json_object_get_string(json_object_array_get_idx(pair, 0));

		for (size_t k = 0; k < cij_array_size(commands); k++)
			if (strcmp(commands[k].part, part) == 0)
				qmp_send(qmp, commands[k].command,
					json_object_get(json_object_array_get_idx(pair, 1)),
					COMMAND_SECONDS, on_part, job->guest);
	}
	if (freeze)
		guest_thaw(job->guest);
}

static void
plug_at(struct device_job *job)
{
	_cleanup_free_ char *file = argv_device_file(job->id);
	struct argv_place at;
	struct pci_spot spot;
	struct cij_error err;
	char uuid[ARGV_UUID_SIZE];

	guest_drives_take_pci(job->guest, job->value);
	if (pci_find(job->value, job->id, &spot)) {
		job->already = true;
		step_over(job);
		return;
	}
	if (choose_place(job, &at, &err) < 0) {
		job_end(job, &err);
		return;
	}
	struct drive_place place = {.file = file,
		.bus = *at.bus ? at.bus : NULL,
		.addr = *at.addr ? at.addr : NULL,
		.uuid = uuid,
		.live = true};

	argv_namespace_uuid(job->guest->uuid, job->id, uuid);
	job->parts = dialect_drive(&job->caps, &job->conf, &place);
	job->part = 0;
	send_parts(job);
}

static void
step_plug(struct device_job *job)
{
	ask(job, "query-pci", NULL, plug_at);
}

static void step_seen(struct device_job *job);

static void
take_seen(struct device_job *job)
{
	bool paused = job->guest->state == GS_PAUSED;
	struct pci_spot spot;

	pci_find(job->value, job->id, &spot);
	if (!spot.mapped && !paused && clock_mono() < job->until) {
		job->steps--; /* ask again */
		wait_for(job, SEEN_ASK_SECONDS);
		return;
	}
	cij_json_add_bool(job->result, "seen", spot.mapped);
	step_over(job);
}

/* Step: whether the guest's kernel has given the drive an address. */
static void
step_seen(struct device_job *job)
{
	if (job->until == 0)
		job->until = clock_mono() + SEEN_SECONDS;
	ask(job, "query-pci", NULL, take_seen);
}

/* Steps that tell, at the end of each deed */

static void
step_tell_plugged(struct device_job *job)
{
	cij_json_add_bool(job->result, "present", true);
	cij_json_add_bool(job->result, "already", job->already);
	step_over(job);
}

static void
step_tell_unplugged(struct device_job *job)
{
	cij_json_add_bool(job->result, "present", false);
	cij_json_add_bool(job->result, "already", job->already);
	step_over(job);
}

static void
step_tell_formatted(struct device_job *job)
{
	cij_json_add_bool(job->result, "formatted", true);
	cij_json_add_int(job->result, "bytes", device_conf_bytes(&job->conf));
	step_over(job);
}

static void
step_tell_inject_later(struct device_job *job)
{
	cij_json_add_bool(job->result, "applied", false);
	cij_json_add_str(job->result, "why",
		is_live(job->guest) ? "the drive is not plugged in" : "the guest does not run");
	step_over(job);
}

/* Step: the deed goes on only where it can be seen through. */
static void
step_may_inject(struct device_job *job)
{
	struct cij_error err;

	if (job->absent) {
		static step_fn *const later[] = {step_tell_inject_later, NULL};

		job->steps = later;
		step_over(job);
		return;
	}
	if (cannot_unplug(job, &err) < 0) {
		job_end(job, &err);
		return;
	}
	step_over(job);
}

static void
step_tell_unplug_seen(struct device_job *job)
{
	cij_json_add_bool(job->result, "unplug_seen", true); /* or the job had ended */
	job->already = false;
	step_over(job);
}

static void
step_tell_injected(struct device_job *job)
{
	cij_json_add_bool(job->result, "applied", true);
	step_over(job);
}

/* Step: an image in use is not touched. */
static void
step_may_format(struct device_job *job)
{
	struct cij_error err;

	if (job->absent) {
		step_over(job);
		return;
	}
	cij_error_set(
		&err, CIJ_E_BUSY, "guest '%s' runs and has drive '%s'", job->guest->name, job->id);
	cij_error_hint(&err, "'cijqemuctl device unplug %s %s', or stop it, first",
		job->guest->name, job->id);
	job_end(job, &err);
}

/* The list: guest.json's drives and QEMU's */

/* What both say about drive @id; either may be NULL. */
static struct json_object *
list_item(struct json_object *configured, const struct guest_drive *drive, const char *id,
	struct json_object *buses, bool live)
{
	_cleanup_problems_ struct cij_problems problems = {0};
	struct json_object *item = json_object_new_object();
	struct device_conf conf = {0};
	struct pci_spot spot = {0};
	bool there = live && (buses ? pci_find(buses, id, &spot)
				    : drive && drive->presence == DRIVE_PRESENT);
	const char *type = cij_json_str(drive ? drive->json : configured, "type");

	cij_json_add_str(item, "id", id);
	cij_json_add_str(item, "type", type);
	if (drive)
		cij_json_add_int(item, "bytes", device_conf_bytes(&drive->conf));
	else if (device_conf_decode(&conf, configured, "", &problems) == 0)
		cij_json_add_int(item, "bytes", device_conf_bytes(&conf));
	else
		json_object_object_add(item, "bytes", NULL);
	device_conf_clear(&conf);
	cij_json_add_bool(item, "configured", configured != NULL);
	cij_json_add_bool(item, "present", there);
	cij_json_add_bool(item, "unplugging", drive && drive->unplugging);
	/* Not known while another job has the monitor's ear. */
	json_object_object_add(item, "seen",
		there && !buses ? NULL : json_object_new_boolean(there && spot.mapped));
	cij_json_add_bool(
		item, "changed", there && drive && !json_object_equal(drive->json, configured));
	cij_json_add_str(item, "port", there ? spot.bridge : NULL);
	return item;
}

static struct json_object *
list_drives(struct guest *guest, struct json_object *buses, bool live)
{
	struct json_object *list = json_object_new_array(), *devices;
	_cleanup_json_ struct json_object *config = NULL;
	struct guest_drive *drive;
	struct cij_error err;
	size_t n;

	config = guest_config_read(guest, &err);
	devices = cij_json_get(config, "devices");
	n = json_object_is_type(devices, json_type_array) ? json_object_array_length(devices) : 0;
	for (size_t i = 0; i < n; i++) {
		struct json_object *json = json_object_array_get_idx(devices, i);
		const char *id = cij_json_str(json, "id");

		if (id)
			json_object_array_add(
				list, list_item(json, live ? guest_drive_find(guest, id) : NULL, id,
					      buses, live));
	}
	if (!live)
		return list;
	TAILQ_FOREACH (drive, &guest->drives, link) {
		bool told = false;

		for (size_t i = 0; i < n && !told; i++) {
			const char *id = cij_json_str(json_object_array_get_idx(devices, i), "id");

			told = id && strcmp(id, drive->conf.id) == 0;
		}
		if (!told)
			json_object_array_add(
				list, list_item(NULL, drive, drive->conf.id, buses, live));
	}
	return list;
}

static void
take_list(struct device_job *job)
{
	guest_drives_take_pci(job->guest, job->value);
	json_object_object_add(job->result, "devices", list_drives(job->guest, job->value, true));
	step_over(job);
}

static void
step_list(struct device_job *job)
{
	if (is_live(job->guest)) {
		ask(job, "query-pci", NULL, take_list);
		return;
	}
	json_object_object_add(job->result, "devices", list_drives(job->guest, NULL, false));
	step_over(job);
}

/* Deeds as steps: on a guest that runs, and on one that does not */

static step_fn *const live_plug[] = {
	step_probe, step_look, step_files, step_plug, step_seen, step_tell_plugged, NULL};
static step_fn *const live_unplug[] = {
	step_probe, step_look, step_unplug, step_tell_unplugged, NULL};
static step_fn *const live_inject[] = {step_probe, step_look, step_may_inject, step_files,
	step_unplug, step_tell_unplug_seen, step_plug, step_seen, step_tell_injected, NULL};
static step_fn *const live_format[] = {
	step_probe, step_look, step_may_format, step_files, step_tell_formatted, NULL};
static step_fn *const live_list[] = {step_list, NULL};
static step_fn *const off_format[] = {step_probe, step_files, step_tell_formatted, NULL};
static step_fn *const off_inject[] = {step_probe, step_tell_inject_later, NULL};

static const struct {
	step_fn *const *live, *const *off; /* off NULL: only a running guest */
	const char *verb;
} deeds[] = {
	[DEVICE_PLUG] = {live_plug, NULL, "plug a drive into"},
	[DEVICE_UNPLUG] = {live_unplug, NULL, "unplug a drive from"},
	[DEVICE_FORMAT] = {live_format, off_format, "format a drive of"},
	[DEVICE_INJECT] = {live_inject, off_inject, "inject errors into a drive of"},
	[DEVICE_LIST] = {live_list, live_list, "list the drives of"},
};

/* No such drive: names those that there are. */
static int
unknown_drive(
	struct guest *guest, struct json_object *devices, const char *id, struct cij_error *err)
{
	size_t n = json_object_is_type(devices, json_type_array) ? json_object_array_length(devices)
								 : 0;
	char all[256] = "", clean[64];

	for (size_t i = 0; i < n; i++) {
		const char *name = cij_json_str(json_object_array_get_idx(devices, i), "id");
		size_t at = strlen(all);

		snprintf(all + at, sizeof(all) - at, "%s'%s'", at ? ", " : "", name ? name : "?");
	}
	cij_error_set(err, CIJ_E_BAD_REQUEST, "guest '%s' has no drive '%s'", guest->name,
		cij_text_clean(id, clean, sizeof(clean)));
	if (*all)
		return cij_error_hint(err, "it has %s", all);
	return cij_error_hint(err, "its guest.json has no devices");
}

/* The drive as guest.json has it now; for what leaves, as it was plugged. */
static int
find_definition(struct device_job *job, struct cij_error *err)
{
	_cleanup_problems_ struct cij_problems problems = {0};
	_cleanup_json_ struct json_object *config = NULL;
	struct json_object *devices;
	struct guest_drive *drive;
	size_t n;

	config = guest_config_read(job->guest, err);
	if (!config && err->class != CIJ_E_NONE)
		return -1;
	devices = cij_json_get(config, "devices");
	n = json_object_is_type(devices, json_type_array) ? json_object_array_length(devices) : 0;
	for (size_t i = 0; i < n && !job->json; i++) {
		struct json_object *json = json_object_array_get_idx(devices, i);
		const char *id = cij_json_str(json, "id");

		if (id && strcmp(id, job->id) == 0) {
			job->json = json_object_get(json);
			job->index = i;
		}
	}
	drive = is_live(job->guest) ? guest_drive_find(job->guest, job->id) : NULL;
	if (drive && (job->deed == DEVICE_UNPLUG || !job->json)) {
		json_object_put(job->json);
		job->json = json_object_get(drive->json);
	}
	if (!job->json)
		return unknown_drive(job->guest, devices, job->id, err);
	if (device_conf_decode(&job->conf, job->json, "", &problems) < 0) {
		cij_problems_to_error(&problems, CIJ_E_BAD_CONFIG, err);
		return cij_error_prefix(err, "drive '%s'", job->id);
	}
	return 0;
}

static int
check_state(const struct device_job *job, struct cij_error *err)
{
	const struct guest *guest = job->guest;
	const char *verb = deeds[job->deed].verb;

	if (job->deed == DEVICE_LIST)
		return 0;
	if (guest->device_job)
		return cij_error_set(err, CIJ_E_BUSY,
			"cannot %s guest '%s': another of its drives is being worked on", verb,
			guest->name);
	if (guest->state == GS_STARTING || guest->state == GS_STOPPING)
		return cij_error_set(err, CIJ_E_BUSY, "cannot %s guest '%s': it is %s", verb,
			guest->name, gstate_name(guest->state));
	if (is_live(guest) || deeds[job->deed].off)
		return 0;
	cij_error_set(err, CIJ_E_BUSY, "cannot %s guest '%s': it does not run", verb, guest->name);
	return cij_error_hint(err, "it starts with the drives of its guest.json");
}

void
guest_device(struct guest *guest, enum device_deed deed, const char *id, double timeout,
	guest_device_fn *done, void *arg)
{
	struct device_job *job = calloc(1, sizeof(*job));
	struct cij_error err;

	if (!job)
		abort();
	job->guest = guest;
	job->deed = deed;
	job->id = str_copy(id);
	job->timeout = timeout;
	job->done = done;
	job->arg = arg;
	job->next = event_new(guest->sv->base, -1, 0, on_next, job);
	job->timer = evtimer_new(guest->sv->base, on_timer, job);
	if (!job->next || !job->timer)
		abort();
	job->result = json_object_new_object();
	cij_json_add_str(job->result, "guest", guest->name);
	if (id)
		cij_json_add_str(job->result, "device", id);
	job->steps = is_live(guest) || !deeds[deed].off ? deeds[deed].live : deeds[deed].off;
	if (check_state(job, &err) < 0 || (id && find_definition(job, &err) < 0)) {
		job_end(job, &err);
		return;
	}
	if (guest->device_job) { /* a list, which need not wait for that */
		json_object_object_add(job->result, "devices", list_drives(guest, NULL, true));
		job_end(job, NULL);
		return;
	}
	guest->device_job = job;
	step_over(job);
}

void
guest_device_cancel(struct guest *guest)
{
	struct cij_error err;

	if (!guest->device_job)
		return;
	cij_error_set(&err, CIJ_E_QEMU_FAILED, "guest '%s' ended meanwhile", guest->name);
	job_end(guest->device_job, &err);
}
