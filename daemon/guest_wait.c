/* Whoever waits for a guest to get somewhere: judged at each change, called from the loop. */
#include "daemon/guest_impl.h"

#include <stdlib.h>

#include "daemon/clock.h"

static void
waiter_free(struct guest_waiter *waiter)
{
	TAILQ_REMOVE(&waiter->guest->waiters, waiter, link);
	if (waiter->deadline)
		event_free(waiter->deadline);
	free(waiter);
}

static void
waiter_done(struct guest_waiter *waiter)
{
	waiter->done = true;
	event_active(waiter->guest->wake, EV_TIMEOUT, 0);
}

/* Why a guest that was under way is not any more. */
static void
why_stopped(const struct guest *guest, struct cij_error *err)
{
	if (guest->start_err.class != CIJ_E_NONE) {
		*err = guest->start_err;
		return;
	}
	cij_error_set(err, CIJ_E_QEMU_FAILED, "guest '%s' ended: %s%s%s", guest->name,
		greason_name(guest->reason), guest->run.error ? ": " : "",
		guest->run.error ? guest->run.error : "");
}

/* Whether the wait is over; @err is set when it failed. @before: the state until now. */
static bool
judge(const struct guest *guest, enum guest_want want, enum gstate before, struct cij_error *err)
{
	bool down = guest_is_down(guest);
	bool fell = down && before != GS_STOPPED && before != GS_BROKEN &&
		    !guest_restart_is_planned(guest);

	err->class = CIJ_E_NONE;
	switch (want) {
	case WANT_SETTLED:
		if (down)
			why_stopped(guest, err);
		return guest_is_live(guest) || down;
	case WANT_RUNNING:
		if (fell)
			why_stopped(guest, err);
		return guest->state == GS_RUNNING || fell;
	case WANT_STOPPED:
		return down;
	case WANT_SSH:
		if (fell)
			why_stopped(guest, err);
		return guest->ready || fell;
	}
	return false;
}

void
guest_waiters_check(struct guest *guest, enum gstate before)
{
	struct guest_waiter *waiter;

	TAILQ_FOREACH (waiter, &guest->waiters, link)
		if (!waiter->done && judge(guest, waiter->want, before, &waiter->err))
			waiter_done(waiter);
}

void
guest_waiters_fail_all(struct guest *guest, const struct cij_error *err)
{
	struct guest_waiter *waiter;

	while ((waiter = TAILQ_FIRST(&guest->waiters))) {
		struct guest_waiter one = *waiter;

		waiter_free(waiter);
		one.fn(one.arg, one.done && one.err.class == CIJ_E_NONE ? NULL : err);
	}
}

/* The first one that is done; the list may change in each call. */
static struct guest_waiter *
first_done(struct guest *guest)
{
	struct guest_waiter *waiter;

	TAILQ_FOREACH (waiter, &guest->waiters, link)
		if (waiter->done)
			return waiter;
	return NULL;
}

void
guest_waiters_on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct guest *guest = arg;
	struct guest_waiter *waiter;

	guest->telling = true;
	while (!guest->doomed && (waiter = first_done(guest))) {
		struct guest_waiter one = *waiter;

		waiter_free(waiter);
		one.fn(one.arg, one.err.class == CIJ_E_NONE ? NULL : &one.err);
	}
	guest->telling = false;
	if (guest->doomed)
		guest_free(guest);
}

static const char *const want_words[] = {
	[WANT_SETTLED] = "up",
	[WANT_RUNNING] = "running",
	[WANT_STOPPED] = "stopped",
	[WANT_SSH] = "ready for SSH",
};

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct guest_waiter *waiter = arg;
	const struct guest *guest = waiter->guest;

	bool boots = waiter->want == WANT_SSH && guest->state == GS_RUNNING && !guest->hung;

	if (waiter->done)
		return;
	cij_error_set(&waiter->err, CIJ_E_TIMEOUT,
		"guest '%s' is not %s after %g s: it is %s%s%s%s", guest->name,
		want_words[waiter->want], waiter->seconds, gstate_name(guest->state),
		guest->hung ? ", its monitor is mute" : "", boots ? "; " : "",
		boots ? guest_boot_phase(guest) : "");
	waiter_done(waiter);
}

void
guest_wait_cancel(struct guest_waiter *waiter)
{
	waiter_free(waiter);
}

struct guest_waiter *
guest_wait(struct guest *guest, enum guest_want want, double seconds, guest_wait_fn *fn, void *arg)
{
	struct guest_waiter *waiter = calloc(1, sizeof(*waiter));

	if (!waiter)
		abort();
	waiter->guest = guest;
	waiter->want = want;
	waiter->fn = fn;
	waiter->arg = arg;
	waiter->seconds = seconds;
	TAILQ_INSERT_TAIL(&guest->waiters, waiter, link);
	if (judge(guest, want, guest->state, &waiter->err)) {
		waiter_done(waiter);
	} else if (seconds > 0) {
		struct timeval tv = clock_timeval(seconds);

		waiter->deadline = evtimer_new(guest->sv->base, on_deadline, waiter);
		if (!waiter->deadline)
			abort();
		event_add(waiter->deadline, &tv);
	}
	return waiter;
}
