/* A drive taken from a guest that runs: QEMU asks the guest's kernel, which may take its time. */
#include <string.h>

#include "daemon/guest_device_impl.h"
#include "proto/json.h"

int
device_check_unplug(const struct device_job *job, struct cij_error *err)
{
	if (job->guest->state != GS_PAUSED)
		return 0;
	cij_error_set(err, CIJ_E_BUSY, "guest '%s' is paused: it cannot let go of a drive",
		job->guest->name);
	cij_error_hint(err, "'cijqemuctl resume %s' first", job->guest->name);
	return -1;
}

/* Nobody uses the image any more. What was given by -drive QEMU has dropped by itself. */
void
device_drop_node(struct qmp *qmp, const char *id)
{
	_cleanup_free_ char *node = dialect_node_name(id);
	struct json_object *args = json_object_new_object();

	cij_json_add_str(args, "node-name", node);
	/* "not found" is as good. */
	qmp_send(qmp, "blockdev-del", args, DEVICE_COMMAND_SECONDS, NULL, NULL);
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
			device_drop_node(job->guest->qmp, job->id);
		device_step_over(job);
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
	device_job_end(job, &err);
}

void
device_unplug_overdue(struct device_job *job)
{
	job->waiting_gone = false;
	device_ask(job, "query-pci", NULL, look_after_wait);
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
	device_job_end(job, &own);
}

void
device_step_unplug(struct device_job *job)
{
	struct json_object *args;
	struct guest_drive *drive = guest_drive_find(job->guest, job->id);
	struct cij_error err;
	struct qmp *qmp;

	if (job->absent) {
		job->already = true;
		device_step_over(job);
		return;
	}
	if (device_check_unplug(job, &err) < 0 || !(qmp = guest_monitor(job->guest, &err))) {
		device_job_end(job, &err);
		return;
	}
	if (drive)
		drive->unplugging = true;
	args = json_object_new_object();
	cij_json_add_str(args, "id", job->id);
	job->waiting_gone = true;
	qmp_send(qmp, "device_del", args, DEVICE_COMMAND_SECONDS, on_device_del, job->guest);
	device_wait(job, job->timeout);
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
		device_drop_node(guest->qmp, id);
	if (job && job->waiting_gone && strcmp(job->id, id) == 0) {
		job->waiting_gone = false;
		event_del(job->timer);
		device_step_over(job);
	}
}
