/* Operations on a guest's monitor, one command each. */
#include <stdlib.h>
#include <string.h>

#include "daemon/op.h"

/* A command of a person or a script; 'quit' and screendumps are quick, 'savevm' is not. */
#define COMMAND_SECONDS 30

struct qmp_execute_args {
	char *guest;
	struct json_object *command;
	double timeout;
};
static const struct cij_field qmp_execute_fields[] = {
	OP_GUEST_FIELD(qmp_execute_args),
	{.name = "command",
		.type = CIJ_T_JSON,
		.flags = CIJ_F_REQUIRED | CIJ_F_OBJECT,
		.offset = offsetof(struct qmp_execute_args, command),
		.doc = "{\"execute\": …, \"arguments\": …}"},
	{.name = "timeout",
		.type = CIJ_T_SECONDS,
		.offset = offsetof(struct qmp_execute_args, timeout),
		.doc = "0: for ever (30)"},
};

static void
init_qmp_execute_args(void *obj)
{
	struct qmp_execute_args *args = obj;

	args->timeout = COMMAND_SECONDS;
}

static const struct cij_table qmp_execute_table = CIJ_TABLE(
	qmp_execute_fields, struct qmp_execute_args, init_qmp_execute_args);

/* Commands that reach no file of the owner's: those who may only operate have them. */
static bool
is_operators(const char *command)
{
	static const char *const power[] = {
		"system_powerdown", "system_reset", "stop", "cont", "quit"};

	for (size_t i = 0; i < cij_array_size(power); i++)
		if (strcmp(command, power[i]) == 0)
			return true;
	return strncmp(command, "query-", 6) == 0;
}

/* What would take the guest out of the daemon's hands. */
static bool
breaks_supervision(const char *command)
{
	static const char *const names[] = {"chardev-remove", "chardev-change", "migrate",
		"migrate-incoming", "set-action", "add_client"};

	for (size_t i = 0; i < cij_array_size(names); i++)
		if (strcmp(command, names[i]) == 0)
			return true;
	return false;
}

static void
on_answer(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct request *request = arg;

	if (err)
		request_fail(request, err);
	else
		request_reply(request, json_object_get(value));
}

static int
check_command(const struct request *request, const char *name, struct cij_error *err)
{
	if (!name)
		return cij_error_set(err, CIJ_E_BAD_REQUEST,
			"'command' has no \"execute\" that names a QMP command");
	if (breaks_supervision(name))
		return cij_error_set(err, CIJ_E_NOT_SUPPORTED,
			"'%s' is not passed on: it would take the guest out of the daemon's hands",
			name);
	if (request->access < ACCESS_OWN && !is_operators(name)) {
		cij_error_set(err, CIJ_E_DENIED, "QMP's '%s' on '%s' is for its owner and admins",
			name, request->guest_name);
		return cij_error_hint(err, "you may use query-* and the power commands");
	}
	return 0;
}

static void
qmp_execute(struct request *request)
{
	struct qmp_execute_args *args = request->args;
	const char *name = cij_json_str(args->command, "execute");
	struct cij_error err;
	struct qmp *qmp;

	if (check_command(request, name, &err) < 0 ||
		!(qmp = guest_monitor(request->guest, &err))) {
		request_fail(request, &err);
		return;
	}
	qmp_send(qmp, name, json_object_get(cij_json_get(args->command, "arguments")),
		args->timeout, on_answer, request);
}

const struct op op_qmp_execute = {
	.name = "qmp-execute",
	.access = ACCESS_OPERATE,
	.takes_guest = true,
	.changes = true,
	.table = &qmp_execute_table,
	.run = qmp_execute,
	.doc = "one QMP command; answers with what QEMU put into its \"return\"",
};

struct hmp_args {
	char *guest, *line;
};
static const struct cij_field hmp_fields[] = {
	OP_GUEST_FIELD(hmp_args),
	{.name = "line",
		.type = CIJ_T_STR,
		.flags = CIJ_F_REQUIRED,
		.offset = offsetof(struct hmp_args, line),
		.doc = "like \"info block\""},
};
static const struct cij_table hmp_table = CIJ_TABLE(hmp_fields, struct hmp_args, NULL);

static void
on_hmp_answer(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct request *request = arg;
	struct json_object *reply;

	if (err) {
		request_fail(request, err);
		return;
	}
	reply = json_object_new_object();
	json_object_object_add(reply, "output", json_object_get(value));
	request_reply(request, reply);
}

static void
hmp(struct request *request)
{
	struct hmp_args *args = request->args;
	struct cij_error err;
	struct qmp *qmp = guest_monitor(request->guest, &err);

	if (qmp)
		qmp_send_hmp(qmp, args->line, COMMAND_SECONDS, on_hmp_answer, request);
	else
		request_fail(request, &err);
}

const struct op op_hmp = {
	.name = "hmp",
	.access = ACCESS_OWN,
	.takes_guest = true,
	.changes = true,
	.table = &hmp_table,
	.run = hmp,
	.doc = "one line of QEMU's human monitor; its output is text",
};
