#include "daemon/lease_reset.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "daemon/lease.h"
#include "daemon/log.h"
#include "daemon/strv.h"

/* A guest that is left behind is given less time to power off than one that is stopped by hand. */
#define FORCE_AFTER_SECONDS 30

struct reset_job {
	LIST_ENTRY(reset_job) link;
	struct registry *registry; /* weak */
	char *guest;
	struct strv drives; /* their ids */
	size_t at; /* the drive in work */
};

static LIST_HEAD(, reset_job) jobs = LIST_HEAD_INITIALIZER(jobs);

static void
job_free(struct reset_job *job)
{
	LIST_REMOVE(job, link);
	strv_clear(&job->drives);
	free(job->guest);
	free(job);
}

/* The next holder's turn, whatever came of it: a guest that stays "being reset" helps nobody. */
static void
finish(struct reset_job *job)
{
	lease_reset_done(registry_services(job->registry)->leases, job->guest);
	job_free(job);
}

static void format_next(struct reset_job *job);

static void
on_formatted(void *arg, struct json_object *result, const struct cij_error *err)
{
	struct reset_job *job = arg;

	json_object_put(result);
	if (err)
		log_warn("guest '%s': drive '%s' is not formatted as its lease ends: %s",
			job->guest, job->drives.items[job->at], err->desc);
	job->at++;
	format_next(job);
}

static void
format_next(struct reset_job *job)
{
	struct guest *guest = registry_find(job->registry, job->guest, NULL);

	if (!guest) {
		finish(job);
		return;
	}
	if (job->at == job->drives.n) {
		log_notice("guest '%s': stopped and its drives formatted, as its lease ended",
			job->guest);
		finish(job);
		return;
	}
	guest_device(guest, DEVICE_FORMAT, job->drives.items[job->at], 0, on_formatted, job);
}

static void
on_stopped(void *arg, const struct cij_error *err)
{
	struct reset_job *job = arg;
	struct guest *guest = err ? NULL : registry_find(job->registry, job->guest, NULL);
	struct guest_drive_status drive;

	if (!guest) {
		finish(job);
		return;
	}
	for (size_t i = 0; guest_drive_status(guest, i, &drive); i++)
		strv_add(&job->drives, drive.conf->id);
	format_next(job);
}

static bool
is_down(const struct guest *guest)
{
	return guest_state(guest) == GS_STOPPED || guest_state(guest) == GS_BROKEN;
}

static void
on_reset(evutil_socket_t fd, short what, void *arg)
{
	struct reset_job *job = arg;
	struct guest *guest = registry_find(job->registry, job->guest, NULL);
	struct cij_error err;

	if (!guest) {
		finish(job);
		return;
	}
	/* What is starting or stuck is not asked: it is ended. */
	if (!is_down(guest) && guest_stop(guest, GE_STOP, FORCE_AFTER_SECONDS, &err) < 0 &&
		guest_stop(guest, GE_KILL, 0, &err) < 0)
		log_warn("guest '%s': %s", job->guest, err.desc);
	guest_wait(guest, WANT_STOPPED, 0, on_stopped, job);
}

/* Begins from the loop: who ends a lease may be in the middle of something with the guest. */
static void
reset(void *arg, const char *guest)
{
	struct reset_job *job = calloc(1, sizeof(*job));
	struct timeval now = {0};

	if (!job)
		abort();
	job->registry = arg;
	job->guest = str_copy(guest);
	LIST_INSERT_HEAD(&jobs, job, link);
	if (event_base_once(registry_services(arg)->base, -1, EV_TIMEOUT, on_reset, job, &now) < 0)
		abort();
}

struct search {
	const char *name;
	struct guest *found; /* weak */
};

static void
match(void *arg, struct guest *guest)
{
	struct search *search = arg;

	if (strcmp(guest_name(guest), search->name) == 0)
		search->found = guest;
}

/* Looked for as it is known: whoever leases may be in the middle of something with the guest. */
static void
granted(void *arg, const char *guest)
{
	struct search search = {.name = guest};

	registry_each(arg, match, &search);
	if (search.found)
		guest_review_access(search.found);
}

void
lease_reset_begin(struct registry *registry)
{
	static const struct lease_ops ops = {reset, granted};

	leases_begin(registry_services(registry)->leases, &ops, registry);
}

void
lease_reset_forget_all(void)
{
	struct reset_job *job, *next;

	for (job = LIST_FIRST(&jobs); job; job = next) {
		next = LIST_NEXT(job, link);
		job_free(job);
	}
}
