/* Operations on leases: whose a guest is to operate, for a while. */
#include "daemon/lease.h"

#include <string.h>

#include "daemon/op.h"
#include "proto/text.h"

/* A lease of which nothing else is said. */
#define LEASE_SECONDS 3600

/* query-leases */

struct query_leases_args {
	struct cij_list guests;
};
static const struct cij_field query_leases_fields[] = {
	{.name = "guests",
		.type = CIJ_T_STRS,
		.offset = offsetof(struct query_leases_args, guests),
		.max = 1024,
		.doc = "globs; all guests when there is none"},
};
static const struct cij_table query_leases_table = CIJ_TABLE(
	query_leases_fields, struct query_leases_args, NULL);

struct leases_listing {
	const struct cij_list *globs; /* weak */
	struct leases *leases; /* weak */
	struct json_object *list; /* weak */
};

static void
list_lease(void *arg, struct guest *guest)
{
	struct leases_listing *listing = arg;
	char **globs = listing->globs->items;
	bool wanted = listing->globs->n == 0;
	struct json_object *view;

	for (size_t i = 0; i < listing->globs->n && !wanted; i++)
		wanted = cij_glob_match(globs[i], guest_name(guest));
	view = wanted ? lease_view(listing->leases, guest_name(guest)) : NULL;
	if (!view)
		return;
	cij_json_add_str(view, "guest", guest_name(guest));
	json_object_array_add(listing->list, view);
}

static void
query_leases(struct request *request)
{
	struct query_leases_args *args = request->args;
	struct leases_listing listing = {&args->guests,
		registry_services(request->registry)->leases, json_object_new_array()};

	registry_each(request->registry, list_lease, &listing);
	request_reply(request, listing.list);
}

const struct op op_query_leases = {
	.name = "query-leases",
	.access = ACCESS_VIEW,
	.table = &query_leases_table,
	.run = query_leases,
	.doc = "who holds which guest until when, and who waits",
};

/* lease-acquire, lease-release */

struct lease_args {
	char *guest, *why;
	double seconds;
	int64_t pid;
	bool wait, steal, reset;
};
#define WHY_FIELD(doc_) \
	{ \
		.name = "why", .type = CIJ_T_STR, .offset = offsetof(struct lease_args, why), \
		.doc = doc_ \
	}
#define FLAG_FIELD(name_, doc_) \
	{ \
		.name = #name_, .type = CIJ_T_BOOL, .offset = offsetof(struct lease_args, name_), \
		.doc = doc_ \
	}
static const struct cij_field acquire_fields[] = {
	OP_GUEST_FIELD(lease_args),
	{.name = "seconds",
		.type = CIJ_T_SECONDS,
		.offset = offsetof(struct lease_args, seconds),
		.doc = "from now on, at most 30 days (without \"pid\": 3600)"},
	{.name = "pid",
		.type = CIJ_T_INT,
		.offset = offsetof(struct lease_args, pid),
		.min = 1,
		.max = INT32_MAX,
		.doc = "ends with this process of the asker's own on this machine"},
	WHY_FIELD("told to those who are refused"),
	FLAG_FIELD(wait, "answer when its turn has come; whoever hangs up leaves the queue"),
	FLAG_FIELD(steal, "admins: take somebody else's; \"why\" is what they are shown"),
	FLAG_FIELD(reset, "at its end stop the guest and format its drives (lease.reset)"),
};
static const struct cij_field release_fields[] = {
	OP_GUEST_FIELD(lease_args),
	WHY_FIELD("with \"steal\": what the holder is shown"),
	FLAG_FIELD(steal, "admins: give back what somebody else holds"),
	FLAG_FIELD(reset, "stop the guest and format its drives"),
};

static void
init_lease_args(void *obj)
{
	((struct lease_args *)obj)->pid = 0;
}

static const struct cij_table acquire_table = CIJ_TABLE(
	acquire_fields, struct lease_args, init_lease_args);
static const struct cij_table release_table = CIJ_TABLE(
	release_fields, struct lease_args, init_lease_args);

static struct leases *
leases_of(const struct request *request)
{
	return registry_services(request->registry)->leases;
}

static int
fill_wish(const struct request *request, struct lease_wish *wish, struct cij_error *err)
{
	const struct lease_args *args = request->args;

	*wish = (struct lease_wish){.by = &request->peer,
		.admin = access_is_admin(
			&registry_services(request->registry)->rule, &request->peer),
		.seconds = args->seconds > 0 && args->seconds < 1 ? 1 : (int64_t)args->seconds,
		.pid = (pid_t)args->pid,
		.why = args->why,
		.reset = args->reset || guest_conf(request->guest)->lease.reset,
		.wait = args->wait,
		.steal = args->steal};
	if (!wish->seconds && !wish->pid)
		wish->seconds = LEASE_SECONDS;
	if (args->why && (strlen(args->why) > LEASE_WHY_MAX || strchr(args->why, '\n')))
		return cij_error_set(err, CIJ_E_BAD_REQUEST,
			"'why' must be one line of at most %d bytes", LEASE_WHY_MAX);
	return 0;
}

static void
reply_lease(struct request *request, const char *how)
{
	struct json_object *view = lease_view(leases_of(request), request->guest_name);

	if (!view)
		view = json_object_new_object();
	cij_json_add_str(view, "guest", request->guest_name);
	cij_json_add_str(view, "how", how);
	request_reply(request, view);
}

static void
on_turn(void *arg, const struct cij_error *err)
{
	struct request *request = arg;

	if (err)
		request_fail(request, err);
	else
		reply_lease(request, "acquired");
}

/* The client hung up: it does not wait any more. */
static void
on_gone(struct request *request)
{
	struct cij_error err;

	lease_cancel(leases_of(request), request);
	cij_error_set(&err, CIJ_E_LEASED, "left the queue");
	request_fail(request, &err);
}

static void
lease_acquire_op(struct request *request)
{
	struct lease_wish wish;
	struct cij_error err;
	int got = fill_wish(request, &wish, &err);

	if (got == 0)
		got = lease_acquire(
			leases_of(request), request->guest_name, &wish, on_turn, request, &err);
	if (got < 0)
		request_fail(request, &err);
	else if (got == LEASE_WAITS)
		request->gone = on_gone;
	else
		reply_lease(request, got == LEASE_KEPT ? "kept" : "acquired");
}

const struct op op_lease_acquire = {
	.name = "lease-acquire",
	.verb = "lease",
	.access = ACCESS_OPERATE,
	.takes_guest = true,
	.changes = true,
	.despite_lease = true,
	.table = &acquire_table,
	.run = lease_acquire_op,
	.doc = "have a guest to oneself until a time or the end of a process; again: extend it",
};

static void
lease_release_op(struct request *request)
{
	struct lease_wish wish;
	struct cij_error err;
	int got = fill_wish(request, &wish, &err);

	if (got == 0) {
		const struct lease_args *args = request->args;

		wish.reset = args->reset;
		got = lease_release(leases_of(request), request->guest_name, &wish, &err);
	}
	if (got < 0)
		request_fail(request, &err);
	else
		reply_lease(request, got ? "released" : "not-leased");
}

const struct op op_lease_release = {
	.name = "lease-release",
	.verb = "release",
	.access = ACCESS_OPERATE,
	.takes_guest = true,
	.changes = true,
	.despite_lease = true,
	.table = &release_table,
	.run = lease_release_op,
	.doc = "give a leased guest back",
};
