#include "daemon/host.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "daemon/log.h"
#include "daemon/strv.h"

/* Booting guests want the disk and the CPUs: so many at once, and no two in the same moment. */
#define STARTS_AT_ONCE 4
#define START_GAP_USEC 500000

struct host_job {
	LIST_ENTRY(host_job) link;
	struct registry *registry; /* weak */
	struct strv names;
	size_t next; /* of names */
	size_t busy; /* items under way */
	struct event *gap;
	struct json_object *results;
	host_done_fn *done;
	void *arg; /* weak */
};

static LIST_HEAD(, host_job) jobs = LIST_HEAD_INITIALIZER(jobs);

/* One guest that is under way. */
struct item {
	struct host_job *job; /* weak */
	char *name;
};

static void
add_result(struct host_job *job, const char *name, const struct cij_error *err)
{
	struct json_object *result = json_object_new_object();
	/* One that is gone may be so since all of them go. */
	bool gone = err && err->class == CIJ_E_GUEST_NOT_FOUND;
	struct cij_error none;
	struct guest *guest = gone ? NULL : registry_find(job->registry, name, &none);

	cij_json_add_str(result, "guest", name);
	cij_json_add_str(result, "state", guest ? gstate_name(guest_state(guest)) : NULL);
	cij_json_add_str(result, "error", err ? err->desc : NULL);
	json_object_array_add(job->results, result);
}

static void
job_free(struct host_job *job)
{
	LIST_REMOVE(job, link);
	event_free(job->gap);
	json_object_put(job->results);
	strv_clear(&job->names);
	free(job);
}

static void
maybe_over(struct host_job *job)
{
	if (job->busy > 0 || job->next < job->names.n)
		return;
	job->done(job->arg, steal_ptr(job->results));
	job_free(job);
}

void
host_forget_all(void)
{
	struct host_job *job, *next;

	for (job = LIST_FIRST(&jobs); job; job = next) {
		next = LIST_NEXT(job, link);
		job->done(job->arg, NULL);
		job_free(job);
	}
}

static void
on_there(void *arg, const struct cij_error *err)
{
	struct item *item = arg;
	struct host_job *job = item->job;

	add_result(job, item->name, err);
	if (err)
		log_warn("guest '%s': with the host: %s", item->name, err->desc);
	free(item->name);
	free(item);
	job->busy--;
	maybe_over(job);
}

static void
wait_for(struct host_job *job, struct guest *guest, enum guest_want want)
{
	struct item *item = calloc(1, sizeof(*item));

	if (!item)
		abort();
	item->job = job;
	item->name = str_copy(guest_name(guest));
	job->busy++;
	guest_wait(guest, want, 0, on_there, item);
}

static void
start_one(struct host_job *job, const char *name)
{
	struct cij_error err;
	struct guest *guest = registry_find(job->registry, name, &err);

	if (guest && guest_autostart(guest, &err) >= 0) {
		wait_for(job, guest, WANT_SETTLED);
		return;
	}
	add_result(job, name, &err);
	log_warn("guest '%s': with the host: %s", name, err.desc);
}

static void
on_gap(evutil_socket_t fd, short what, void *arg)
{
	struct host_job *job = arg;

	if (job->next < job->names.n && job->busy < STARTS_AT_ONCE)
		start_one(job, job->names.items[job->next++]);
	maybe_over(job);
}

static struct host_job *
job_new(struct registry *registry, host_done_fn *done, void *arg)
{
	struct host_job *job = calloc(1, sizeof(*job));

	if (!job)
		abort();
	job->registry = registry;
	job->results = json_object_new_array();
	job->done = done;
	job->arg = arg;
	job->gap = event_new(registry_services(registry)->base, -1, EV_PERSIST, on_gap, job);
	if (!job->gap)
		abort();
	event_add(job->gap, &(struct timeval){0, START_GAP_USEC});
	event_active(job->gap, EV_TIMEOUT, 0);
	LIST_INSERT_HEAD(&jobs, job, link);
	registry_scan(registry);
	return job;
}

static void
add_if_autostart(void *arg, struct guest *guest)
{
	struct host_job *job = arg;

	if (guest_conf(guest)->autostart && guest_state(guest) == GS_STOPPED)
		strv_add(&job->names, guest_name(guest));
}

void
host_up(struct registry *registry, host_done_fn *done, void *arg)
{
	struct host_job *job = job_new(registry, done, arg);

	registry_each(registry, add_if_autostart, job);
	log_notice("the host is up: %zu guests start with it", job->names.n);
}

struct down {
	struct host_job *job;
	double force_after;
};

static void
stop_one(void *arg, struct guest *guest)
{
	struct down *down = arg;
	struct cij_error err;

	if (guest_stop_with_host(guest, down->force_after, &err) == GUEST_ALREADY &&
		guest_state(guest) != GS_STOPPING)
		return;
	wait_for(down->job, guest, WANT_STOPPED);
}

void
host_down(struct registry *registry, double force_after, host_done_fn *done, void *arg)
{
	struct host_job *job = job_new(registry, done, arg);
	struct down down = {job, force_after};

	registry_each(registry, stop_one, &down);
	log_notice("the host goes down: %zu guests are powered off", job->busy);
}
