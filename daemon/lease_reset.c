#include "daemon/lease_reset.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/argv.h"
#include "daemon/as_owner.h"
#include "daemon/clock.h"
#include "daemon/lease.h"
#include "daemon/log.h"
#include "daemon/strv.h"

/* A guest that is left behind is given less time to power off than one that is stopped by hand. */
#define FORCE_AFTER_SECONDS 30

struct reset_job {
	struct registry *registry; /* weak */
	char *guest;
};

/* The next holder's turn, whatever came of it: a guest that stays "being reset" helps nobody. */
static void
finish(struct reset_job *job)
{
	lease_reset_done(registry_services(job->registry)->leases, job->guest);
	free(job->guest);
	free(job);
}

/* Without its file a drive is made anew at the next start. */
static void
format_drives(struct guest *guest)
{
	const struct guest_conf *conf = guest_conf(guest);
	const struct device_conf *devices = conf->devices.items;
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest_uid(guest), guest_gid(guest));

	for (size_t i = 0; i < conf->devices.n && guest_dir(guest) >= 0; i++) {
		_cleanup_free_ char *file = argv_device_file(devices[i].id);

		if (unlinkat(guest_dir(guest), file, 0) < 0 && errno != ENOENT)
			log_warn("guest '%s': cannot format '%s': %s", guest_name(guest), file,
				strerror(errno));
	}
	log_notice("guest '%s': stopped and its drives formatted, as its lease ended",
		guest_name(guest));
}

static void
on_stopped(void *arg, const struct cij_error *err)
{
	struct reset_job *job = arg;
	struct guest *guest = err ? NULL : registry_find(job->registry, job->guest, NULL);

	if (guest)
		format_drives(guest);
	finish(job);
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
	if (event_base_once(registry_services(arg)->base, -1, EV_TIMEOUT, on_reset, job, &now) < 0)
		abort();
}

static void
granted(void *arg, const char *guest)
{
}

void
lease_reset_begin(struct registry *registry)
{
	static const struct lease_ops ops = {reset, granted};

	leases_begin(registry_services(registry)->leases, &ops, registry);
}
