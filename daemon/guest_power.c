/* Stopping, killing, resetting, pausing. */
#include "daemon/guest_impl.h"

#include <signal.h>
#include <stdlib.h>

#include "daemon/clock.h"
#include "daemon/log.h"

/* QEMU ends itself on TERM, files and sockets in good order; one that is stuck is killed after
 * this. */
#define TERM_SECONDS 5

/* One monitor command. */
#define COMMAND_SECONDS 10

/* Ends the process; a stuck one harder each time this is called. */
static void
kill_now(struct guest *guest)
{
	if (!guest->proc) {
		guest_start_cancel(guest);
		return;
	}
	proc_signal(guest->proc, guest->sent_kill ? SIGKILL : SIGTERM);
	guest->sent_kill = true;
	guest_arm(guest, TERM_SECONDS);
}

void
guest_stop_deadline(struct guest *guest)
{
	if (!guest->sent_kill)
		log_notice("guest '%s': did not power off in time, killing it", guest->name);
	kill_now(guest);
}

/* The button of a paused guest is pressed first: it sees it when it runs. */
static void
press_power_button(struct guest *guest, bool paused)
{
	if (!guest->qmp)
		return; /* the deadline is all there is */
	qmp_send(guest->qmp, "system_powerdown", NULL, COMMAND_SECONDS, NULL, NULL);
	if (paused)
		qmp_send(guest->qmp, "cont", NULL, COMMAND_SECONDS, NULL, NULL);
}

/* On disk before it is done: whatever ends us, the next daemon goes on with it. */
static void
note_asked(struct guest *guest, enum run_asked asked, double force_after)
{
	if (guest->run.asked != RUN_ASKED_HOST_SHUTDOWN)
		guest->run.asked = asked;
	guest->run.kill_at = clock_mono() + force_after;
	if (guest->proc)
		guest_save_run(guest);
}

void
guest_go_on_stopping(struct guest *guest)
{
	double left = guest->run.kill_at - clock_mono();

	if (guest->run.asked == RUN_ASKED_NOTHING || !guest->run.this_boot || guest_is_down(guest))
		return;
	if (guest->run.asked == RUN_ASKED_KILL) {
		guest_step(guest, GE_KILL);
		kill_now(guest);
	} else if (guest->state != GS_STOPPING) {
		bool paused = guest->state == GS_PAUSED;

		log_notice("guest '%s': going on with its stop", guest->name);
		guest->asked_stop = true;
		guest_step(guest, GE_STOP);
		press_power_button(guest, paused);
		guest_arm(guest, left > 0 ? left : 0);
	}
}

int
guest_stop_with_host(struct guest *guest, double force_after, struct cij_error *err)
{
	guest_restart_cancel(guest);
	if (!guest_is_down(guest))
		guest->run.asked = RUN_ASKED_HOST_SHUTDOWN;
	return guest_stop(guest, GE_STOP, force_after, err);
}

int
guest_stop(struct guest *guest, enum gevent how, double force_after, struct cij_error *err)
{
	struct gstep step = gstate_step(guest->state, how);
	bool paused = guest->state == GS_PAUSED;

	switch (step.action) {
	case GA_ALREADY:
		if (guest_restart_cancel(guest)) {
			log_notice("guest '%s': will not be started again by itself", guest->name);
			guest_save_run(guest);
			guest_tell_state(guest);
		}
		return GUEST_ALREADY;
	case GA_POWERDOWN:
		guest->asked_stop = true;
		note_asked(guest, RUN_ASKED_STOP, force_after);
		guest_step(guest, how);
		press_power_button(guest, paused);
		guest_arm(guest, force_after);
		return GUEST_DID;
	case GA_KILL:
		note_asked(guest, RUN_ASKED_KILL, 0);
		guest_step(guest, how);
		kill_now(guest);
		return GUEST_DID;
	default:
		return guest_refused(guest, how, err);
	}
}

struct control {
	void (*done)(void *arg, const struct cij_error *err);
	void *arg; /* weak */
};

static void
on_controlled(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct control control = *(struct control *)arg;

	free(arg);
	control.done(control.arg, err);
}

int
guest_control(struct guest *guest, enum gevent what,
	void (*done)(void *arg, const struct cij_error *err), void *arg, struct cij_error *err)
{
	struct gstep step = gstate_step(guest->state, what);
	const char *command = NULL;
	struct control *control;

	switch (step.action) {
	case GA_ALREADY:
		return GUEST_ALREADY;
	case GA_RESET:
		command = "system_reset";
		break;
	case GA_VM_STOP:
		command = "stop";
		break;
	case GA_VM_CONT:
		command = "cont";
		break;
	default:
		return guest_refused(guest, what, err);
	}
	if (!guest_monitor(guest, err))
		return -1;
	control = calloc(1, sizeof(*control));
	if (!control)
		abort();
	control->done = done;
	control->arg = arg;
	qmp_send(guest->qmp, command, NULL, COMMAND_SECONDS, on_controlled, control);
	return GUEST_DID;
}
