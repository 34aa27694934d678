/* Starting a guest again that ended by itself, by guest.json's "restart". */
#include "daemon/guest_impl.h"

#include <stdlib.h>

#include "daemon/clock.h"

static void plan(struct guest *guest, const struct backoff_end *end);

static void
on_restart(evutil_socket_t fd, short what, void *arg)
{
	struct guest *guest = arg;
	struct cij_error err;

	guest->run.restart_at = 0;
	/* With the definition as it is by now. */
	if (!guest_refresh(guest))
		return;
	guest->run.backoff.restarts++;
	if (guest_start_again(guest, &err) < 0) {
		struct backoff_end end = {
			.reason = GR_START_FAILED, .automatic = true, .now = clock_mono()};

		log_id(LOG_ID_FAILED, LOG_WARNING, "guest '%s': was not started again: %s",
			guest->name, err.desc);
		str_replace(&guest->run.error, err.desc);
		plan(guest, &end);
		guest_save_run(guest);
		guest_tell_state(guest);
	}
}

static void
arm(struct guest *guest, double seconds)
{
	struct timeval tv = clock_timeval(seconds > 0 ? seconds : 0);

	if (!guest->restart)
		guest->restart = evtimer_new(guest->sv->base, on_restart, guest);
	if (!guest->restart)
		abort();
	event_add(guest->restart, &tv);
}

static void
plan(struct guest *guest, const struct backoff_end *end)
{
	struct backoff *backoff = &guest->run.backoff;
	double delay = backoff_plan(backoff, guest->conf.restart, end);

	guest->run.restart_at = delay < 0 ? 0 : end->now + delay;
	if (delay >= 0) {
		arm(guest, delay);
		log_id(LOG_ID_RESTART, LOG_NOTICE, "guest '%s': starts again in %g s", guest->name,
			delay);
	} else if (backoff->gave_up) {
		log_id(LOG_ID_GAVE_UP, LOG_ERR,
			"guest '%s': not started again: %d failures within %d minutes", guest->name,
			BACKOFF_FAILURES, BACKOFF_WINDOW_SECONDS / 60);
	}
}

void
guest_restart_plan(struct guest *guest, double ran)
{
	struct backoff_end end = {
		.reason = guest->reason,
		.asked = guest->asked_stop || guest->sent_kill ||
			 guest->run.asked != RUN_ASKED_NOTHING,
		.automatic = guest->run.automatic,
		.ran = ran,
		.now = clock_mono(),
	};

	plan(guest, &end);
}

void
guest_restart_go_on(struct guest *guest)
{
	/* The policy may have been changed while no daemon ran. */
	if (guest->conf.restart == RESTART_NO)
		guest->run.restart_at = 0;
	else
		arm(guest, guest->run.restart_at - clock_mono());
}

bool
guest_restart_cancel(struct guest *guest)
{
	if (!guest_restart_is_planned(guest))
		return false;
	event_del(guest->restart);
	guest->run.restart_at = 0;
	return true;
}

bool
guest_restart_is_planned(const struct guest *guest)
{
	return guest->restart && event_pending(guest->restart, EV_TIMEOUT, NULL);
}
