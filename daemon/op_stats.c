/* What guests have used and moved: for 'top', and for whoever draws curves of it. */
#include "daemon/op.h"
#include "daemon/stats.h"
#include "proto/json.h"

struct query_stats_args {
	struct cij_list guests;
};
static const struct cij_field query_stats_fields[] = {
	{.name = "guests",
		.type = CIJ_T_STRS,
		.offset = offsetof(struct query_stats_args, guests),
		.max = 1024,
		.doc = "globs; all guests when there is none"},
};
static const struct cij_table query_stats_table = CIJ_TABLE(
	query_stats_fields, struct query_stats_args, NULL);

static struct json_object *
drive_to_json(const struct drive_stats *drive)
{
	struct json_object *obj = json_object_new_object();

	cij_json_add_str(obj, "id", drive->id);
	cij_json_add_int(obj, "read_bytes", drive->read_bytes);
	cij_json_add_int(obj, "written_bytes", drive->written_bytes);
	cij_json_add_int(obj, "reads", drive->reads);
	cij_json_add_int(obj, "writes", drive->writes);
	cij_json_add_int(obj, "flushes", drive->flushes);
	cij_json_add_int(obj, "read_ns", drive->read_ns);
	cij_json_add_int(obj, "write_ns", drive->write_ns);
	return obj;
}

static struct json_object *
drives_to_json(const struct guest_stats *stats)
{
	struct json_object *list;

	if (!stats->drives_known)
		return NULL;
	list = json_object_new_array();
	for (size_t i = 0; i < stats->n_drives; i++)
		json_object_array_add(list, drive_to_json(&stats->drives[i]));
	return list;
}

static void
add_number(struct json_object *obj, const char *name, bool known, int64_t value)
{
	json_object_object_add(obj, name, known ? json_object_new_int64(value) : NULL);
}

static struct json_object *
stats_to_json(struct guest *guest)
{
	const struct guest_stats *stats = guest_stats(guest);
	struct json_object *obj = json_object_new_object();
	struct guest_status status;

	guest_status(guest, &status);
	cij_json_add_str(obj, "guest", guest_name(guest));
	add_number(obj, "run", status.run > 0, status.run);
	add_number(obj, "at_ms", stats->at > 0, (int64_t)(stats->at * 1000));
	add_number(obj, "cpu_ms", stats->cpu_seconds >= 0, (int64_t)(stats->cpu_seconds * 1000));
	add_number(obj, "resident_bytes", stats->resident_bytes >= 0, stats->resident_bytes);
	add_number(obj, "console_bytes", status.console != NULL,
		status.console ? (int64_t)console_bytes(status.console) : 0);
	json_object_object_add(obj, "drives", drives_to_json(stats));
	return obj;
}

struct listing {
	const struct cij_list *globs; /* weak */
	struct json_object *list; /* weak */
};

static void
list_guest(void *arg, struct guest *guest)
{
	struct listing *listing = arg;

	if (stats_wants(listing->globs, guest))
		json_object_array_add(listing->list, stats_to_json(guest));
}

static void
on_refreshed(void *arg)
{
	struct request *request = arg;
	struct query_stats_args *args = request->args;
	struct listing listing = {&args->guests, json_object_new_array()};

	registry_each(request->registry, list_guest, &listing);
	request_reply(request, listing.list);
}

static void
query_stats(struct request *request)
{
	struct query_stats_args *args = request->args;

	stats_refresh(request->registry, &args->guests, on_refreshed, request);
}

const struct op op_query_stats = {
	.name = "query-stats",
	.access = ACCESS_VIEW,
	.table = &query_stats_table,
	.run = query_stats,
	.doc = "CPU time, memory, console bytes and drive traffic of guests, as counters",
};
