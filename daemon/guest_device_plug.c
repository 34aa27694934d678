/* A drive plugged into a guest that runs. */
#include <string.h>

#include "daemon/clock.h"
#include "daemon/guest_device_impl.h"
#include "daemon/log.h"
#include "proto/json.h"

/*
 * How long a guest's kernel is given to find a new drive, and how often QEMU is asked for it:
 * Linux does within 0.2 s under TCG.
 */
#define SEEN_SECONDS 10
#define SEEN_ASK_SECONDS 0.2

/* The root port for the drive: its own, or the first that is free. 0, or -1 with NoResources. */
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
	qmp_send(guest->qmp, "stop", NULL, DEVICE_COMMAND_SECONDS, NULL, NULL);
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
	qmp_send(guest->qmp, "cont", NULL, DEVICE_COMMAND_SECONDS, on_thawed, guest);
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
		qmp_send(guest->qmp, "device_del", args, DEVICE_COMMAND_SECONDS, NULL, NULL);
		return;
	}
	json_object_put(args);
	if (job->refused_at == 1)
		device_drop_node(guest->qmp, job->id);
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
		device_step_over(job);
		return;
	}
	if (guest->qmp)
		give_back(job);
	cij_error_prefix(&job->refused, "drive '%s': QEMU refuses it", job->id);
	if (job->refused_at > 1)
		cij_error_hint(&job->refused, "it will be there after 'cijqemuctl restart %s'",
			guest->name);
	own = job->refused;
	device_job_end(job, &own);
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
		device_job_end(job, &err);
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
					DEVICE_COMMAND_SECONDS, on_part, job->guest);
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
		device_step_over(job);
		return;
	}
	if (choose_place(job, &at, &err) < 0) {
		device_job_end(job, &err);
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

void
device_step_plug(struct device_job *job)
{
	device_ask(job, "query-pci", NULL, plug_at);
}

static void
take_seen(struct device_job *job)
{
	bool paused = job->guest->state == GS_PAUSED;
	struct pci_spot spot;

	pci_find(job->value, job->id, &spot);
	if (!spot.mapped && !paused && clock_mono() < job->until) {
		job->steps--; /* ask again */
		device_wait(job, SEEN_ASK_SECONDS);
		return;
	}
	cij_json_add_bool(job->result, "seen", spot.mapped);
	device_step_over(job);
}

/* Step: whether the guest's kernel has given the drive an address. */
void
device_step_seen(struct device_job *job)
{
	if (job->until == 0)
		job->until = clock_mono() + SEEN_SECONDS;
	device_ask(job, "query-pci", NULL, take_seen);
}
