/* Operations on the daemon itself. */
#include <unistd.h>

#include "cijqemu/protocol.h"
#include "daemon/clock.h"
#include "daemon/conn.h"
#include "daemon/op.h"

static double loaded_at;

/* Before main(): when the daemon began. */
static void __attribute__((constructor)) note_start(void)
{
	loaded_at = clock_mono();
}

static void
query_daemon(struct request *request)
{
	const struct services *sv = registry_services(request->registry);
	struct json_object *reply = json_object_new_object(), *guests = json_object_new_object();
	struct registry_counts counts;

	registry_scan(request->registry);
	counts = registry_count(request->registry);
	cij_json_add_str(reply, "version", CIJ_VERSION);
	cij_json_add_int(reply, "api", CIJ_API);
	cij_json_add_int(reply, "pid", getpid());
	cij_json_add_int(reply, "uptime_s", (int64_t)(clock_mono() - loaded_at));
	cij_json_add_str(reply, "guests_dir", sv->conf->guests_dir);
	cij_json_add_str(reply, "run_dir", sv->conf->run_dir);
	cij_json_add_str(reply, "qemu_home", sv->conf->qemu_home);
	cij_json_add_int(guests, "total", (int64_t)counts.total);
	cij_json_add_int(guests, "running", (int64_t)counts.running);
	json_object_object_add(reply, "guests", guests);
	request_reply(request, reply);
}

const struct op op_query_daemon = {
	.name = "query-daemon",
	.access = ACCESS_VIEW,
	.table = &op_nothing_table,
	.run = query_daemon,
	.doc = "version, folders and counts",
};

static void
query_operations(struct request *request)
{
	request_reply(request, op_describe_all());
}

const struct op op_query_operations = {
	.name = "query-operations",
	.access = ACCESS_VIEW,
	.table = &op_nothing_table,
	.run = query_operations,
	.doc = "every operation with its arguments and who may use it",
};

struct subscribe_args {
	struct cij_list guests;
};
static const struct cij_field subscribe_fields[] = {
	{.name = "guests",
		.type = CIJ_T_STRS,
		.offset = offsetof(struct subscribe_args, guests),
		.max = 1024,
		.doc = "globs; all guests when there is none"},
};
static const struct cij_table subscribe_table = CIJ_TABLE(
	subscribe_fields, struct subscribe_args, NULL);

static void
events_subscribe(struct request *request)
{
	struct subscribe_args *args = request->args;
	struct json_object *reply = json_object_new_object();

	conn_subscribe(request->conn, &args->guests);
	cij_json_add_bool(reply, "subscribed", true);
	request_reply(request, reply);
}

const struct op op_events_subscribe = {
	.name = "events-subscribe",
	.access = ACCESS_VIEW,
	.table = &subscribe_table,
	.run = events_subscribe,
	.doc = "send events on this connection from now on",
};
