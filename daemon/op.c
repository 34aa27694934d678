#include "daemon/op.h"

#include <stdlib.h>
#include <string.h>

#include "cijqemu/protocol.h"
#include "daemon/clock.h"
#include "daemon/conn.h"
#include "daemon/strv.h"
#include "proto/message.h"
#include "proto/text.h"

static const struct op *const ops[] = {
	&op_console_attach,
	&op_console_times,
	&op_console_who,
	&op_device_format,
	&op_device_inject,
	&op_device_plug,
	&op_device_unplug,
	&op_events_subscribe,
	&op_guest_argv,
	&op_guest_create,
	&op_guest_delete,
	&op_guest_kill,
	&op_guest_pause,
	&op_guest_reset,
	&op_guest_restart,
	&op_guest_resume,
	&op_guest_set,
	&op_guest_share,
	&op_guest_start,
	&op_guest_stop,
	&op_guest_validate,
	&op_guest_wait,
	&op_hmp,
	&op_host_down,
	&op_host_up,
	&op_kernel_install,
	&op_lease_acquire,
	&op_lease_release,
	&op_qmp_attach,
	&op_qmp_execute,
	&op_query_daemon,
	&op_query_devices,
	&op_query_guest,
	&op_query_guests,
	&op_query_history,
	&op_query_host,
	&op_query_leases,
	&op_query_operations,
	&op_query_qemu,
	&op_query_stats,
	&op_ssh_pin,
};

static const struct cij_field guest_fields[] = {OP_GUEST_FIELD(op_guest_args)};
const struct cij_table op_guest_table = CIJ_TABLE(guest_fields, struct op_guest_args, NULL);

struct nothing {
	char none;
};
const struct cij_table op_nothing_table = {
	.fields = NULL, .n_fields = 0, .size = sizeof(struct nothing)};

const struct op *
op_find(const char *name, struct cij_error *err)
{
	const char *names[cij_array_size(ops)], *near;
	char clean[64];

	for (size_t i = 0; i < cij_array_size(ops); i++) {
		if (strcmp(ops[i]->name, name) == 0)
			return ops[i];
		names[i] = ops[i]->name;
	}
	cij_error_set(err, CIJ_E_BAD_REQUEST, "unknown operation '%s'",
		cij_text_clean(name, clean, sizeof(clean)));
	near = cij_nearest_of(name, names, cij_array_size(names));
	if (near)
		cij_error_hint(err, "did you mean '%s'?", near);
	return NULL;
}

/* What a request's line holds, before its operation is known. */
struct envelope {
	char *execute;
	struct json_object *arguments, *id;
};
static const struct cij_field envelope_fields[] = {
	{.name = "execute",
		.type = CIJ_T_STR,
		.flags = CIJ_F_REQUIRED,
		.offset = offsetof(struct envelope, execute)},
	{.name = "arguments",
		.type = CIJ_T_JSON,
		.flags = CIJ_F_OBJECT,
		.offset = offsetof(struct envelope, arguments)},
	{.name = "id", .type = CIJ_T_JSON, .offset = offsetof(struct envelope, id)},
};
static const struct cij_table envelope_table = CIJ_TABLE(envelope_fields, struct envelope, NULL);

/* A request that cannot be judged before the name service has said who somebody is. */
#define MUST_WAIT 1

/* The guest that the request is about, and whether the peer may. 0, MUST_WAIT or -1. */
static int
resolve_guest(struct request *request, const char *name, struct cij_error *err)
{
	const struct op *op = request->op;

	request->guest = registry_find(request->registry, name, err);
	if (!request->guest)
		return -1;
	if (guest_access_is_open(request->guest, &request->peer, op->access))
		return MUST_WAIT;
	request->access = guest_access_now(request->guest, &request->peer);
	if (op->despite_lease)
		return guest_allow_despite_lease(
			request->guest, &request->peer, op->access, op->verb, err);
	return guest_allow(request->guest, &request->peer, op->access, op->verb, err);
}

/* Whether its first argument is a guest's name, that of one to be made too. */
static bool
names_guest(const struct op *op)
{
	return op->table->n_fields > 0 && strcmp(op->table->fields[0].name, "guest") == 0;
}

/* Who may do what is about no guest that there is: anyone who can write, or admins alone. */
static int
check_alone(const struct request *request, struct cij_error *err)
{
	const struct op *op = request->op;
	const struct services *sv = registry_services(request->registry);

	if (op->takes_guest)
		return 0;
	if (op->changes && request->peer.view_only) {
		cij_error_set(err, CIJ_E_DENIED, "you may not %s", op->verb);
		return access_view_only_hint(err);
	}
	if (op->access != ACCESS_ADMIN || access_is_admin(&sv->rule, &request->peer))
		return 0;
	cij_error_set(err, CIJ_E_DENIED, "you may not %s: admins may", op->verb);
	return cij_error_hint(
		err, "root and the members of group %s are admins", sv->conf->admin_group);
}

static int
decode(struct request *request, struct json_object *arguments, struct cij_error *err)
{
	_cleanup_problems_ struct cij_problems problems = {0};
	_cleanup_json_ struct json_object *nothing = json_object_new_object();
	const struct cij_table *table = request->op->table;
	int bad;

	request->args = calloc(1, table->size);
	if (!request->args)
		abort();
	bad = cij_table_decode(
		table, arguments ? arguments : nothing, request->args, "", &problems);
	/* Also of what is refused below: the audit names whom it was about. */
	if (names_guest(request->op))
		request->guest_name = str_copy(*(char **)request->args);
	if (bad < 0)
		return cij_problems_to_error(&problems, CIJ_E_BAD_REQUEST, err);
	if (check_alone(request, err) < 0)
		return -1;
	return request->op->takes_guest ? resolve_guest(request, request->guest_name, err) : 0;
}

static int
parse(const char *line, size_t len, struct envelope *envelope, struct json_object **id,
	struct cij_error *err)
{
	_cleanup_problems_ struct cij_problems problems = {0};
	_cleanup_json_ struct json_object *msg = cij_json_parse(
		line, len, CIJ_REQUEST_DEPTH_MAX, err);
	const char *at;
	size_t n;

	*envelope = (struct envelope){0};
	if (!msg && err->class == CIJ_E_NONE)
		cij_error_set(err, CIJ_E_BAD_REQUEST, "must be an object, not null");
	if (!msg)
		return -1;
	/* As it was written: any number of any size comes back as it went in. */
	if (json_object_is_type(msg, json_type_object) &&
		cij_json_raw_member(line, len, "id", &at, &n))
		*id = cij_json_raw(at, n);
	if (cij_table_decode(&envelope_table, msg, envelope, "", &problems) < 0)
		return cij_problems_to_error(&problems, CIJ_E_BAD_REQUEST, err);
	return 0;
}

/* Who is who is known now, or will not be. */
static void
on_names(void *arg)
{
	struct request *request = arg;
	struct cij_error err;
	int ret = resolve_guest(request, request->guest_name, &err);

	if (ret == 0 && !request->conn) /* of no use any more: nobody would hear of it */
		ret = cij_error_set(&err, CIJ_E_BAD_REQUEST, "its client hung up");
	if (ret == MUST_WAIT)
		names_wait(registry_services(request->registry)->names, on_names, request);
	else if (ret == 0)
		request->op->run(request);
	else
		request_fail(request, &err);
}

static void
wait_for_names(struct request *request, const char *line, size_t len)
{
	request->kept_line = malloc(len + 1);
	if (!request->kept_line)
		abort();
	memcpy(request->kept_line, line, len);
	request->kept_line[len] = '\0';
	request->line = request->kept_line;
	request->line_len = len;
	names_wait(registry_services(request->registry)->names, on_names, request);
}

void
op_dispatch(struct conn *conn, struct registry *registry, const char *line, size_t len)
{
	static const struct op unknown = {.name = "unknown"};
	struct request *request = calloc(1, sizeof(*request));
	struct envelope envelope;
	struct cij_error err;

	if (!request)
		abort();
	request->op = &unknown;
	request->registry = registry;
	request->peer = *conn_peer(conn);
	request->began = clock_mono();
	conn_add_request(conn, request);
	if (parse(line, len, &envelope, &request->id, &err) == 0) {
		const struct op *op = op_find(envelope.execute, &err);

		if (op) {
			int ret;

			request->op = op;
			ret = decode(request, envelope.arguments, &err);
			if (ret >= 0)
				cij_table_clear(&envelope_table, &envelope);
			if (ret == MUST_WAIT) {
				wait_for_names(request, line, len);
				return;
			}
			if (ret == 0) {
				request->line = line;
				request->line_len = len;
				op->run(request);
				return;
			}
		}
	}
	cij_table_clear(&envelope_table, &envelope);
	request_fail(request, &err);
}

struct json_object *
op_describe_all(void)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < cij_array_size(ops); i++) {
		struct json_object *item = json_object_new_object();

		cij_json_add_str(item, "name", ops[i]->name);
		cij_json_add_str(item, "access", access_name(ops[i]->access));
		cij_json_add_bool(item, "changes", ops[i]->changes);
		cij_json_add_str(item, "doc", ops[i]->doc);
		json_object_object_add(item, "arguments", cij_table_describe(ops[i]->table));
		json_object_array_add(list, item);
	}
	return list;
}
