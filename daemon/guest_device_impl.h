/*
 * The inside of a job on a guest's drives, for the guest_device*.c files alone. A job is a list of
 * steps; each begins something (a probe, images, a command of the monitor, a wait) and the next one
 * follows from the loop when that is over: a step ends in exactly one of device_step_over(),
 * device_job_end(), device_ask() and device_wait().
 */
#ifndef DAEMON_GUEST_DEVICE_IMPL_H
#define DAEMON_GUEST_DEVICE_IMPL_H

#include "daemon/guest_impl.h"

/* One monitor command of a job. */
#define DEVICE_COMMAND_SECONDS 20

struct device_job;
typedef void device_step_fn(struct device_job *job);

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

	device_step_fn *const *steps; /* what is left; NULL ends */
	struct event *next, *timer;
	double until; /* monotonic: of a wait */
	device_step_fn *on_answer; /* takes @value */
	struct json_object *value; /* weak: what the monitor answered to on_answer */
	bool waiting_gone; /* for DEVICE_DELETED */
	struct json_object *parts; /* what QEMU is to be told */
	size_t part; /* answered so far */
	struct cij_error refused; /* the first part that was, */
	size_t refused_at; /* and which */
	bool absent, already;
	struct json_object *result;
};

/* guest_device.c */
/* Ends the job and frees it; its caller is told the result, or @err (not one that the job holds).
 */
void device_job_end(struct device_job *job, const struct cij_error *err);
/* The step is over: the next one, if any, follows from the loop. */
void device_step_over(struct device_job *job);
/* Sends @command to the monitor, taking @args over; @then follows with job->value. A refusal, or no
 * monitor, ends the job. */
void device_ask(struct device_job *job, const char *command, struct json_object *args,
	device_step_fn *then);
/* The step is over in @seconds; with waiting_gone set, device_unplug_overdue() follows instead. */
void device_wait(struct device_job *job, double seconds);

/* guest_device_plug.c */
/* Step: tells QEMU of the drive, with its place in the guest. */
void device_step_plug(struct device_job *job);
/* Step: whether the guest's kernel has given the drive an address. */
void device_step_seen(struct device_job *job);

/* guest_device_unplug.c */
/* Step: asks the guest to let go of the drive and waits until it has, job->timeout seconds at most.
 */
void device_step_unplug(struct device_job *job);
/* The wait for DEVICE_DELETED is over. */
void device_unplug_overdue(struct device_job *job);
/* 0, or -1 and Busy where the guest cannot answer to an unplug. */
int device_check_unplug(const struct device_job *job, struct cij_error *err);
/* Nobody uses the image of drive @id any more. What was given by -drive QEMU has dropped itself. */
void device_drop_node(struct qmp *qmp, const char *id);

/* guest_device_list.c */
/* Step: the drives of guest.json and QEMU's into the result. */
void device_step_list(struct device_job *job);
/* The list that 'device list' shows. @buses: what 'query-pci' says, weak; NULL: not known. @live:
 * the guest runs. The caller owns what is returned. */
struct json_object *device_list(struct guest *guest, struct json_object *buses, bool live);

#endif
