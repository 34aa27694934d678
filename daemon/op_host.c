/* Operations of the host's own service, as it comes up and goes down. */
#include "cijqemu/protocol.h"
#include "daemon/host.h"
#include "daemon/op.h"

static void
on_done(void *arg, struct json_object *guests)
{
	struct json_object *reply;
	struct cij_error err;

	if (!guests) {
		cij_error_set(&err, CIJ_E_FAILED, "the daemon was stopped meanwhile");
		request_fail(arg, &err);
		return;
	}
	reply = json_object_new_object();
	json_object_object_add(reply, "guests", guests);
	request_reply(arg, reply);
}

static void
host_up_op(struct request *request)
{
	host_up(request->registry, on_done, request);
}

const struct op op_host_up = {
	.name = "host-up",
	.verb = "start all guests",
	.access = ACCESS_ADMIN,
	.changes = true,
	.table = &op_nothing_table,
	.run = host_up_op,
	.doc = "start the guests that have autostart, a few at a time",
};

struct down_args {
	double force_after;
};
static const struct cij_field down_fields[] = {
	{.name = "force_after",
		.type = CIJ_T_SECONDS,
		.offset = offsetof(struct down_args, force_after),
		.doc = "kill those that have not powered off by then (60)"},
};

static void
init_down_args(void *obj)
{
	struct down_args *args = obj;

	args->force_after = CIJ_FORCE_AFTER_SECONDS;
}

static const struct cij_table down_table = CIJ_TABLE(down_fields, struct down_args, init_down_args);

static void
host_down_op(struct request *request)
{
	struct down_args *args = request->args;

	host_down(request->registry, args->force_after, on_done, request);
}

const struct op op_host_down = {
	.name = "host-down",
	.verb = "power all guests off",
	.access = ACCESS_ADMIN,
	.changes = true,
	.table = &down_table,
	.run = host_down_op,
	.doc = "power all guests off since the host goes down",
};
