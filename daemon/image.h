/* The drives' backing files: made where they are missing, checked where they are there. */
#ifndef DAEMON_IMAGE_H
#define DAEMON_IMAGE_H

#include <event2/event.h>
#include <sys/types.h>

#include "daemon/dialect.h"

struct image_spec {
	const struct device_conf *devices; /* weak: must outlive the job */
	size_t n_devices;
	struct qemu_caps caps;
	const char *qemu; /* weak; qemu-img is looked for beside it */
	int dir_fd; /* the guest's folder; weak */
	uid_t uid; /* its owner */
	gid_t gid;
};

struct image_job;

/* @err is NULL when every drive has its file. The job may be freed inside. */
typedef void image_done_fn(void *arg, const struct cij_error *err);

/*
 * Makes what is missing, one file after the other, each under another name first: a failed or
 * killed creation leaves nothing that looks whole. @done is called once, from the loop.
 */
struct image_job *image_job_new(
	struct event_base *base, const struct image_spec *spec, image_done_fn *done, void *arg);

/* Ends the job; @done is not called any more. NULL is fine. */
void image_job_free(struct image_job *job);

#endif
