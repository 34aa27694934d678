/* Operations on whether a guest runs. */
#include <stdlib.h>

#include "cijqemu/protocol.h"
#include "daemon/op.h"
#include "daemon/view.h"

/* The guest got where it was wanted, or did not. */
static void
on_there(void *arg, const struct cij_error *err)
{
	struct request *request = arg;

	if (err)
		request_fail(request, err);
	else
		request_reply_guest(request, false);
}

/* guest-start */

struct start_args {
	char *guest;
	bool paused;
};
static const struct cij_field start_fields[] = {
	OP_GUEST_FIELD(start_args),
	{.name = "paused",
		.type = CIJ_T_BOOL,
		.offset = offsetof(struct start_args, paused),
		.doc = "leave the CPUs stopped until guest-resume"},
};
static const struct cij_table start_table = CIJ_TABLE(start_fields, struct start_args, NULL);

static void
start(struct request *request, bool paused)
{
	struct cij_error err;
	int did = guest_start(request->guest, &request->peer, paused, &err);

	if (did < 0)
		request_fail(request, &err);
	else if (did == GUEST_ALREADY && guest_state(request->guest) != GS_STARTING)
		request_reply_guest(request, true);
	else /* begun by us, or by somebody else just before */
		guest_wait(request->guest, WANT_SETTLED, 0, on_there, request);
}

static void
guest_start_op(struct request *request)
{
	struct start_args *args = request->args;

	start(request, args->paused);
}

const struct op op_guest_start = {
	.name = "guest-start",
	.verb = "start",
	.access = ACCESS_OPERATE,
	.takes_guest = true,
	.changes = true,
	.table = &start_table,
	.run = guest_start_op,
	.doc = "start; answers when QEMU runs, or with its reason when it does not",
};

/* guest-stop, guest-kill, guest-restart */

struct stop_args {
	char *guest;
	double force_after;
};
static const struct cij_field stop_fields[] = {
	OP_GUEST_FIELD(stop_args),
	{.name = "force_after",
		.type = CIJ_T_SECONDS,
		.offset = offsetof(struct stop_args, force_after),
		.doc = "kill it when it has not powered off by then (60)"},
};

static void
init_stop_args(void *obj)
{
	struct stop_args *args = obj;

	args->force_after = CIJ_FORCE_AFTER_SECONDS;
}

static const struct cij_table stop_table = CIJ_TABLE(stop_fields, struct stop_args, init_stop_args);

static void
reply_how(struct request *request, const char *how)
{
	struct json_object *view = view_guest(request->guest);

	cij_json_add_str(view, "how", how);
	request_reply(request, view);
}

static void
on_stopped(void *arg, const struct cij_error *err)
{
	struct request *request = arg;
	struct guest_status status;

	if (err) {
		request_fail(request, err);
		return;
	}
	guest_status(request->guest, &status);
	reply_how(request, status.reason == GR_KILLED ? "killed" : "powerdown");
}

static void
stop(struct request *request, enum gevent how, double force_after)
{
	struct cij_error err;
	int did = guest_stop(request->guest, how, force_after, &err);

	if (did < 0)
		request_fail(request, &err);
	else if (did == GUEST_ALREADY && guest_state(request->guest) != GS_STOPPING)
		reply_how(request, "already-stopped");
	else
		guest_wait(request->guest, WANT_STOPPED, 0, on_stopped, request);
}

static void
guest_stop_op(struct request *request)
{
	struct stop_args *args = request->args;

	stop(request, GE_STOP, args->force_after);
}

const struct op op_guest_stop = {
	.name = "guest-stop",
	.verb = "stop",
	.access = ACCESS_OPERATE,
	.takes_guest = true,
	.changes = true,
	.table = &stop_table,
	.run = guest_stop_op,
	.doc = "press the power button; answers when the guest is off, and how it came to that",
};

static void
guest_kill_op(struct request *request)
{
	stop(request, GE_KILL, 0);
}

const struct op op_guest_kill = {
	.name = "guest-kill",
	.verb = "kill",
	.access = ACCESS_OPERATE,
	.takes_guest = true,
	.changes = true,
	.table = &op_guest_table,
	.run = guest_kill_op,
	.doc = "end QEMU at once",
};

static void
on_stopped_for_restart(void *arg, const struct cij_error *err)
{
	struct request *request = arg;

	if (err) {
		request_fail(request, err);
		return;
	}
	guest_refresh(request->guest);
	start(request, false);
}

static void
guest_restart_op(struct request *request)
{
	struct stop_args *args = request->args;
	struct cij_error err;

	if (guest_stop(request->guest, GE_STOP, args->force_after, &err) < 0)
		request_fail(request, &err);
	else
		guest_wait(request->guest, WANT_STOPPED, 0, on_stopped_for_restart, request);
}

const struct op op_guest_restart = {
	.name = "guest-restart",
	.verb = "restart",
	.access = ACCESS_OPERATE,
	.takes_guest = true,
	.changes = true,
	.table = &stop_table,
	.run = guest_restart_op,
	.doc = "stop, then start with the definition as it is then",
};

/* guest-reset, guest-pause, guest-resume */

static void
control(struct request *request, enum gevent what)
{
	struct cij_error err;
	int did = guest_control(request->guest, what, on_there, request, &err);

	if (did < 0)
		request_fail(request, &err);
	else if (did == GUEST_ALREADY)
		request_reply_guest(request, true);
}

static void
guest_reset_op(struct request *request)
{
	control(request, GE_RESET);
}

const struct op op_guest_reset = {
	.name = "guest-reset",
	.verb = "reset",
	.access = ACCESS_OPERATE,
	.takes_guest = true,
	.changes = true,
	.table = &op_guest_table,
	.run = guest_reset_op,
	.doc = "press the reset button",
};

static void
guest_pause_op(struct request *request)
{
	control(request, GE_PAUSE);
}

const struct op op_guest_pause = {
	.name = "guest-pause",
	.verb = "pause",
	.access = ACCESS_OPERATE,
	.takes_guest = true,
	.changes = true,
	.table = &op_guest_table,
	.run = guest_pause_op,
	.doc = "stop the CPUs",
};

static void
guest_resume_op(struct request *request)
{
	control(request, GE_RESUME);
}

const struct op op_guest_resume = {
	.name = "guest-resume",
	.verb = "resume",
	.access = ACCESS_OPERATE,
	.takes_guest = true,
	.changes = true,
	.table = &op_guest_table,
	.run = guest_resume_op,
	.doc = "let the CPUs run on",
};

/* guest-wait */

static const char *const wait_words[] = {"running", "stopped", "ssh", NULL};
static const enum guest_want wants[] = {WANT_RUNNING, WANT_STOPPED, WANT_SSH};

struct wait_args {
	char *guest;
	int want; /* index of wait_words */
	double timeout;
	struct guest_waiter *waiter; /* weak; no argument */
};
static const struct cij_field wait_fields[] = {
	OP_GUEST_FIELD(wait_args),
	{.name = "for",
		.type = CIJ_T_ENUM,
		.flags = CIJ_F_REQUIRED,
		.offset = offsetof(struct wait_args, want),
		.names = wait_words},
	{.name = "timeout",
		.type = CIJ_T_SECONDS,
		.offset = offsetof(struct wait_args, timeout),
		.doc = "0: for ever (300)"},
};

static void
init_wait_args(void *obj)
{
	struct wait_args *args = obj;

	args->timeout = CIJ_WAIT_SECONDS;
}

static const struct cij_table wait_table = CIJ_TABLE(wait_fields, struct wait_args, init_wait_args);

/* The client hung up: nobody waits for the guest any more, who might for ever. */
static void
on_waiting_gone(struct request *request)
{
	const struct wait_args *args = request->args;
	struct cij_error err;

	guest_wait_cancel(args->waiter);
	cij_error_set(&err, CIJ_E_TIMEOUT, "its client hung up");
	request_fail(request, &err);
}

static void
guest_wait_op(struct request *request)
{
	struct wait_args *args = request->args;

	args->waiter = guest_wait(
		request->guest, wants[args->want], args->timeout, on_there, request);
	request->gone = on_waiting_gone;
}

const struct op op_guest_wait = {
	.name = "guest-wait",
	.access = ACCESS_VIEW,
	.takes_guest = true,
	.table = &wait_table,
	.run = guest_wait_op,
	.doc = "answers when the guest is as wanted, or Timeout",
};
