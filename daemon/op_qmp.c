/* Operations on a guest's monitors: one command, or the connection turned into QMP. */
#include <stdlib.h>
#include <string.h>

#include "daemon/conn.h"
#include "daemon/op.h"
#include "daemon/qmp_policy.h"

/* A command of a person or a script; 'quit' and screendumps are quick, 'savevm' is not. */
#define COMMAND_SECONDS 30

static struct qmp_rights
rights_of(const struct request *request)
{
	return (struct qmp_rights){.access = request->access};
}

struct qmp_execute_args {
	char *guest;
	struct json_object *command;
	double timeout;
	struct qmp *qmp; /* weak; whom it was given to: it answers before it goes */
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

/* QEMU's answer as it wrote it: no number changes. */
static void
on_answer(void *arg, const struct qmp_reply *reply, const struct cij_error *err)
{
	struct request *request = arg;
	struct cij_error own;
	const char *at;
	size_t len;

	if (!err && reply->kind == QMP_LINE_ERROR) {
		qmp_reply_to_error(reply, &own);
		err = &own;
	}
	if (err)
		request_fail(request, err);
	else if (cij_json_raw_member(reply->text, reply->len, "return", &at, &len))
		request_reply(request, cij_json_raw(at, len));
	else
		request_reply(request, NULL);
}

/*
 * Nobody waits any more: what QEMU has not been given, it will not be, or all that clients leave
 * behind would wait for a mute one for ever. What it has, is on record with its answer.
 */
static void
withdraw(struct request *request, struct qmp *qmp)
{
	struct cij_error err;

	if (!qmp_withdraw(qmp, request))
		return;
	cij_error_set(&err, CIJ_E_BAD_REQUEST, "its client hung up before QEMU took it: not done");
	request_fail(request, &err);
}

static void
on_execute_gone(struct request *request)
{
	struct qmp_execute_args *args = request->args;

	withdraw(request, args->qmp);
}

/* The command as the client wrote it; @text stays the caller's. */
static int
parse_command(struct qmp_request *command, struct json_object *json, const char *text, size_t len,
	struct cij_error *err)
{
	char why[160];

	if (!cij_json_str(json, "execute"))
		return cij_error_set(err, CIJ_E_BAD_REQUEST,
			"'command' has no \"execute\" that names a QMP command");
	if (qmp_request_parse(command, text, len, why, sizeof(why)) < 0)
		return cij_error_set(err, CIJ_E_BAD_REQUEST, "'command': %s", why);
	return 0;
}

static void
qmp_execute(struct request *request)
{
	struct qmp_execute_args *args = request->args;
	struct qmp_rights rights = rights_of(request);
	struct qmp_request command;
	struct cij_error err;
	const char *text;
	size_t len;

	if (!request_raw_argument(request, "command", &text, &len))
		text = json_object_to_json_string_length(
			args->command, JSON_C_TO_STRING_PLAIN, &len);
	if (parse_command(&command, args->command, text, len, &err) < 0 ||
		qmp_policy_check(&rights, command.name, command.arguments, &err) < 0 ||
		!(args->qmp = guest_monitor(request->guest, &err))) {
		request_fail(request, &err);
		return;
	}
	request->what = qmp_policy_describe(command.name, command.arguments);
	request->no_audit = !request->what;
	request->gone = on_execute_gone;
	qmp_send_raw(args->qmp, command.name, command.arguments, args->timeout, on_answer, request);
}

const struct op op_qmp_execute = {
	.name = "qmp-execute",
	.verb = "use the monitor of",
	.access = ACCESS_OPERATE,
	.takes_guest = true,
	.changes = true,
	.table = &qmp_execute_table,
	.run = qmp_execute,
	.doc = "one QMP command; answers with what QEMU put into its \"return\"",
};

struct hmp_args {
	char *guest, *line;
	struct qmp *qmp; /* as above */
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
on_hmp_gone(struct request *request)
{
	struct hmp_args *args = request->args;

	withdraw(request, args->qmp);
}

static void
hmp(struct request *request)
{
	struct hmp_args *args = request->args;
	struct qmp_rights rights = rights_of(request);
	struct cij_error err;

	if (qmp_policy_check_hmp(&rights, args->line, &err) < 0 ||
		!(args->qmp = guest_monitor(request->guest, &err))) {
		request_fail(request, &err);
		return;
	}
	request->what = qmp_policy_describe_hmp(args->line);
	request->no_audit = !request->what;
	request->gone = on_hmp_gone;
	qmp_send_hmp(args->qmp, args->line, COMMAND_SECONDS, on_hmp_answer, request);
}

const struct op op_hmp = {
	.name = "hmp",
	.verb = "use the monitor of",
	.access = ACCESS_OPERATE,
	.takes_guest = true,
	.changes = true,
	.table = &hmp_table,
	.run = hmp,
	.doc = "one line of QEMU's human monitor; its output is text",
};

/* The connection as a monitor */

static const char *const mode_words[] = {"auto", "read-only", NULL};
enum { MODE_AUTO, MODE_READ_ONLY };

struct qmp_attach_args {
	char *guest;
	int mode;
};
static const struct cij_field qmp_attach_fields[] = {
	OP_GUEST_FIELD(qmp_attach_args),
	{.name = "mode",
		.type = CIJ_T_ENUM,
		.offset = offsetof(struct qmp_attach_args, mode),
		.names = mode_words,
		.doc = "read-only: nothing but query-*"},
};
static const struct cij_table qmp_attach_table = CIJ_TABLE(
	qmp_attach_fields, struct qmp_attach_args, NULL);

/* What is needed when the reply is on its way; the guest may be gone by then. */
struct attaching {
	struct registry *registry; /* weak */
	char *guest;
	struct peer peer;
	struct qmp_rights rights;
};

static void
on_upgraded(void *arg, int fd, struct evbuffer *input)
{
	struct attaching *attaching = arg;
	struct guest *guest;
	struct monitor *monitor = NULL;
	struct cij_error err;

	if (fd >= 0) {
		guest = registry_find(attaching->registry, attaching->guest, &err);
		if (guest)
			monitor = guest_monitor_shared(guest, &err);
		if (monitor)
			monitor_add(monitor, MONITOR_QMP, fd, &attaching->peer, &attaching->rights,
				(const char *)evbuffer_pullup(input, -1),
				evbuffer_get_length(input));
		else
			monitor_turn_away(MONITOR_QMP, fd, &err);
	}
	free(attaching->guest);
	free(attaching);
}

static void
qmp_attach(struct request *request)
{
	struct qmp_attach_args *args = request->args;
	struct attaching *attaching;
	struct json_object *reply;
	struct cij_error err;

	if (!guest_monitor_shared(request->guest, &err)) {
		request_fail(request, &err);
		return;
	}
	attaching = calloc(1, sizeof(*attaching));
	if (!attaching)
		abort();
	*attaching = (struct attaching){.registry = request->registry,
		.guest = strdup(request->guest_name),
		.peer = request->peer,
		.rights = rights_of(request)};
	attaching->rights.read_only = args->mode == MODE_READ_ONLY;
	if (conn_upgrade(request->conn, on_upgraded, attaching, &err) < 0) {
		on_upgraded(attaching, -1, NULL);
		request_fail(request, &err);
		return;
	}
	reply = json_object_new_object();
	cij_json_add_str(reply, "guest", request->guest_name);
	cij_json_add_str(reply, "mode", mode_words[args->mode]);
	request_reply(request, reply);
}

const struct op op_qmp_attach = {
	.name = "qmp-attach",
	.verb = "use the monitor of",
	.access = ACCESS_OPERATE,
	.takes_guest = true,
	.table = &qmp_attach_table,
	.run = qmp_attach,
	.doc = "answers once; then the connection is QMP, shared with all others",
};
