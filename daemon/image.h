/* The drives' files: images made where they are missing and checked where they are there, and the
 * files of errors to inject written for the QEMU at hand. */
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
	const char *guest; /* its name, for the ways out; weak */
	bool anew; /* make images that are there already anew, too */
};

/*
 * Whether the image of drive @d in @guest's folder @dir_fd, where there is one, is of the drive's
 * geometry; nothing is made or written. As the owner. 0, or -1 as the start would fail.
 */
int image_check(int dir_fd, const char *guest, const struct device_conf *d,
	enum image_format format, struct cij_error *err);

struct image_job;

struct image_ops {
	/* Something that takes long is under way, or the disk is small. */
	void (*progress)(void *arg, const char *text);
	/* @err is NULL when every drive has its files. The job may be freed inside. */
	void (*done)(void *arg, const struct cij_error *err);
};

/*
 * Sees to one drive after the other. Each image is made under another name first: a failed or
 * killed creation leaves nothing that looks whole. An image of another geometry than the drive's is
 * an error that says both. ops->done is called once, from the loop.
 */
struct image_job *image_job_new(struct event_base *base, const struct image_spec *spec,
	const struct image_ops *ops, void *arg);

/* Ends the job; nothing is called any more. NULL is fine. */
void image_job_free(struct image_job *job);

#endif
