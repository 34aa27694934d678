/*
 * Drives plugged into, taken from and made anew under a guest, one at a time: the job, its steps in
 * order, and those of them that all deeds share.
 */
#include <string.h>

#include "daemon/clock.h"
#include "daemon/guest_device_impl.h"
#include "proto/json.h"
#include "proto/text.h"

/* Ends the job; its caller is told. */
void
device_job_end(struct device_job *job, const struct cij_error *err)
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
void
device_step_over(struct device_job *job)
{
	event_active(job->next, EV_TIMEOUT, 0);
}

static void
on_next(evutil_socket_t fd, short what, void *arg)
{
	struct device_job *job = arg;
	device_step_fn *step = *job->steps;

	if (!step) {
		device_job_end(job, NULL);
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
	device_step_fn *fn;

	if (!job || !job->on_answer)
		return;
	fn = steal_ptr(job->on_answer);
	if (err) {
		struct cij_error own = *err;

		device_job_end(job, &own);
		return;
	}
	job->value = value;
	fn(job);
}

void
device_ask(
	struct device_job *job, const char *command, struct json_object *args, device_step_fn *then)
{
	struct cij_error err;
	struct qmp *qmp = guest_monitor(job->guest, &err);

	if (!qmp) {
		json_object_put(args);
		device_job_end(job, &err);
		return;
	}
	job->on_answer = then;
	qmp_send(qmp, command, args, DEVICE_COMMAND_SECONDS, on_monitor, job->guest);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct device_job *job = arg;

	if (job->waiting_gone)
		device_unplug_overdue(job);
	else
		device_step_over(job);
}

void
device_wait(struct device_job *job, double seconds)
{
	struct timeval tv = clock_timeval(seconds);

	event_add(job->timer, &tv);
}

/* Step: what the guest's QEMU can do. */

static void
on_caps(void *arg, const struct qemu_caps *caps, const struct cij_error *err)
{
	struct device_job *job = arg;
	struct cij_error own;

	if (!caps) {
		own = *err;
		device_job_end(job, &own);
		return;
	}
	job->caps = *caps;
	if (dialect_check(caps, &job->conf, job->qemu, &job->format, &own) < 0)
		device_job_end(job, &own);
	else
		device_step_over(job);
}

static void
step_probe(struct device_job *job)
{
	struct guest *guest = job->guest;
	struct cij_error err;

	if (guest_is_live(guest) && guest->run.qemu) {
		job->qemu = str_copy(guest->run.qemu);
	} else if (guest_find_qemu(guest, &job->qemu, &err) < 0) {
		device_job_end(job, &err);
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
		device_job_end(job, &own);
	} else {
		device_step_over(job);
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
	device_step_over(job);
}

static void
step_look(struct device_job *job)
{
	device_ask(job, "query-pci", NULL, take_pci);
}

/* Steps that tell, at the end of each deed */

static void
step_tell_plugged(struct device_job *job)
{
	cij_json_add_bool(job->result, "present", true);
	cij_json_add_bool(job->result, "already", job->already);
	device_step_over(job);
}

static void
step_tell_unplugged(struct device_job *job)
{
	cij_json_add_bool(job->result, "present", false);
	cij_json_add_bool(job->result, "already", job->already);
	device_step_over(job);
}

static void
step_tell_formatted(struct device_job *job)
{
	cij_json_add_bool(job->result, "formatted", true);
	cij_json_add_int(job->result, "bytes", device_conf_bytes(&job->conf));
	device_step_over(job);
}

static void
step_tell_inject_later(struct device_job *job)
{
	cij_json_add_bool(job->result, "applied", false);
	cij_json_add_str(job->result, "why",
		guest_is_live(job->guest) ? "the drive is not plugged in"
					  : "the guest does not run");
	device_step_over(job);
}

/* Step: the deed goes on only where it can be seen through. */
static void
step_may_inject(struct device_job *job)
{
	struct cij_error err;

	if (job->absent) {
		static device_step_fn *const later[] = {step_tell_inject_later, NULL};

		job->steps = later;
		device_step_over(job);
		return;
	}
	if (device_check_unplug(job, &err) < 0) {
		device_job_end(job, &err);
		return;
	}
	device_step_over(job);
}

static void
step_tell_unplug_seen(struct device_job *job)
{
	cij_json_add_bool(job->result, "unplug_seen", true); /* or the job had ended */
	job->already = false;
	device_step_over(job);
}

static void
step_tell_injected(struct device_job *job)
{
	cij_json_add_bool(job->result, "applied", true);
	device_step_over(job);
}

/* Step: an image in use is not touched. */
static void
step_may_format(struct device_job *job)
{
	struct cij_error err;

	if (job->absent) {
		device_step_over(job);
		return;
	}
	cij_error_set(
		&err, CIJ_E_BUSY, "guest '%s' runs and has drive '%s'", job->guest->name, job->id);
	cij_error_hint(&err, "'cijqemuctl device unplug %s %s', or stop it, first",
		job->guest->name, job->id);
	device_job_end(job, &err);
}

/* Deeds as steps: on a guest that runs, and on one that does not */

static device_step_fn *const live_plug[] = {step_probe, step_look, step_files, device_step_plug,
	device_step_seen, step_tell_plugged, NULL};
static device_step_fn *const live_unplug[] = {
	step_probe, step_look, device_step_unplug, step_tell_unplugged, NULL};
static device_step_fn *const live_inject[] = {step_probe, step_look, step_may_inject, step_files,
	device_step_unplug, step_tell_unplug_seen, device_step_plug, device_step_seen,
	step_tell_injected, NULL};
static device_step_fn *const live_format[] = {
	step_probe, step_look, step_may_format, step_files, step_tell_formatted, NULL};
static device_step_fn *const live_list[] = {device_step_list, NULL};
static device_step_fn *const off_format[] = {step_probe, step_files, step_tell_formatted, NULL};
static device_step_fn *const off_inject[] = {step_probe, step_tell_inject_later, NULL};

static const struct {
	device_step_fn *const *live, *const *off; /* off NULL: only a running guest */
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
	size_t n = cij_json_length(devices);
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
	n = cij_json_length(devices);
	for (size_t i = 0; i < n && !job->json; i++) {
		struct json_object *json = json_object_array_get_idx(devices, i);
		const char *id = cij_json_str(json, "id");

		if (id && strcmp(id, job->id) == 0) {
			job->json = json_object_get(json);
			job->index = i;
		}
	}
	drive = guest_is_live(job->guest) ? guest_drive_find(job->guest, job->id) : NULL;
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
	if (guest_is_live(guest) || deeds[job->deed].off)
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
	job->steps = guest_is_live(guest) || !deeds[deed].off ? deeds[deed].live : deeds[deed].off;
	if (check_state(job, &err) < 0 || (id && find_definition(job, &err) < 0)) {
		device_job_end(job, &err);
		return;
	}
	if (guest->device_job) { /* a list, which need not wait for that */
		json_object_object_add(job->result, "devices", device_list(guest, NULL, true));
		device_job_end(job, NULL);
		return;
	}
	guest->device_job = job;
	device_step_over(job);
}

void
guest_device_cancel(struct guest *guest)
{
	struct cij_error err;

	if (!guest->device_job)
		return;
	cij_error_set(&err, CIJ_E_QEMU_FAILED, "guest '%s' ended meanwhile", guest->name);
	device_job_end(guest->device_job, &err);
}
