/* Operations on what a guest is: seen, created, changed, deleted, checked. */
#include <stdlib.h>
#include <string.h>

#include "daemon/argv.h"
#include "daemon/op.h"
#include "daemon/view.h"
#include "proto/text.h"

/* query-guests */

struct query_guests_args {
	struct cij_list guests;
	struct cij_list members;
};
static const struct cij_field query_guests_fields[] = {
	{.name = "guests",
		.type = CIJ_T_STRS,
		.offset = offsetof(struct query_guests_args, guests),
		.max = 1024,
		.doc = "globs; all guests when there is none"},
	{.name = "members",
		.type = CIJ_T_STRS,
		.offset = offsetof(struct query_guests_args, members),
		.max = 64,
		.doc = "what to tell of each beside its name, unless null; all when there is none"},
};
static const struct cij_table query_guests_table = CIJ_TABLE(
	query_guests_fields, struct query_guests_args, NULL);

struct listing {
	const struct cij_list *globs; /* weak */
	struct json_object *list; /* weak */
	view_members members;
};

static void
list_guest(void *arg, struct guest *guest)
{
	struct listing *listing = arg;
	char **globs = listing->globs->items;
	bool wanted = listing->globs->n == 0;

	for (size_t i = 0; i < listing->globs->n && !wanted; i++)
		wanted = cij_glob_match(globs[i], guest_name(guest));
	if (wanted)
		json_object_array_add(listing->list, view_guest_members(guest, listing->members));
}

static void
query_guests(struct request *request)
{
	struct query_guests_args *args = request->args;
	struct listing listing = {.globs = &args->guests};
	struct cij_error err;

	if (view_members_parse(&args->members, &listing.members, &err) < 0) {
		request_fail(request, &err);
		return;
	}
	listing.list = json_object_new_array();
	registry_scan(request->registry);
	registry_each(request->registry, list_guest, &listing);
	request_reply(request, listing.list);
}

const struct op op_query_guests = {
	.name = "query-guests",
	.access = ACCESS_VIEW,
	.table = &query_guests_table,
	.run = query_guests,
	.doc = "what is known about each guest, by name",
};

/* query-guest */

static void
query_guest(struct request *request)
{
	struct json_object *view = view_guest(request->guest);
	struct cij_error err;

	json_object_object_add(view, "config", guest_config_read(request->guest, &err));
	request_reply(request, view);
}

const struct op op_query_guest = {
	.name = "query-guest",
	.access = ACCESS_VIEW,
	.takes_guest = true,
	.table = &op_guest_table,
	.run = query_guest,
	.doc = "what is known about one guest, and its guest.json as \"config\"",
};

/* guest-create, guest-set: all members but the guest's name are (dotted) keys of guest.json */

struct change_args {
	char *guest;
	struct json_object *changes;
};
static const struct cij_field change_fields[] = {
	OP_GUEST_FIELD(change_args),
	{.name = "…",
		.type = CIJ_T_REST,
		.offset = offsetof(struct change_args, changes),
		.table = &guest_conf_table,
		.doc = "keys of guest.json, dotted below the top: \"memory\", "
		       "\"devices.nvme0.mdts\"; "
		       "null removes one"},
};
static const struct cij_table change_table = CIJ_TABLE(change_fields, struct change_args, NULL);

static void
guest_create(struct request *request)
{
	struct change_args *args = request->args;
	_cleanup_json_ struct json_object *config = json_object_new_object();
	struct cij_error err;

	if (cij_guest_name_check(args->guest, &err) < 0 ||
		guest_conf_apply(config, args->changes, &err) < 0) {
		request_fail(request, &err);
		return;
	}
	request->guest = registry_create(
		request->registry, args->guest, &request->peer, config, &err);
	if (request->guest)
		request_reply_guest(request, false);
	else
		request_fail(request, &err);
}

const struct op op_guest_create = {
	.name = "guest-create",
	.verb = "create guests",
	.access = ACCESS_VIEW,
	.changes = true,
	.table = &change_table,
	.run = guest_create,
	.doc = "make a guest's folder, owned by whoever asks",
};

static void
guest_set(struct request *request)
{
	struct change_args *args = request->args;
	struct cij_error err;

	if (guest_config_change(request->guest, args->changes, &err) == 0)
		request_reply_guest(request, false);
	else
		request_fail(request, &err);
}

const struct op op_guest_set = {
	.name = "guest-set",
	.verb = "change",
	.access = ACCESS_OWN,
	.takes_guest = true,
	.changes = true,
	.table = &change_table,
	.run = guest_set,
	.doc = "change guest.json; the next start sees it",
};

/* guest-delete */

static void
on_deleted(void *arg, const struct cij_error *err)
{
	struct request *request = arg;
	struct json_object *reply;

	if (err) {
		request_fail(request, err);
		return;
	}
	reply = json_object_new_object();
	cij_json_add_str(reply, "guest", request->guest_name);
	cij_json_add_bool(reply, "deleted", true);
	request_reply(request, reply);
}

static void
guest_delete(struct request *request)
{
	struct cij_error err;

	if (registry_delete(request->registry, request->guest, on_deleted, request, &err) < 0)
		request_fail(request, &err);
}

const struct op op_guest_delete = {
	.name = "guest-delete",
	.verb = "delete",
	.access = ACCESS_OWN,
	.takes_guest = true,
	.changes = true,
	.table = &op_guest_table,
	.run = guest_delete,
	.doc = "remove a stopped guest with its folder and all its files",
};

/* guest-validate, guest-argv: QEMU is asked what it can do first, and the guest may be gone when it
 * has answered */

struct question {
	struct request *request;
	char *qemu;
};

static struct question *
question_new(struct request *request, char *qemu)
{
	struct question *question = calloc(1, sizeof(*question));

	if (!question)
		abort();
	question->request = request;
	question->qemu = qemu;
	return question;
}

/* @why: there is no QEMU to ask, or it does not work. NULL: @caps are what it can. */
static void
reply_problems(struct request *request, const char *qemu, const struct qemu_caps *caps,
	const struct cij_error *why)
{
	_cleanup_problems_ struct cij_problems problems = {0};
	struct json_object *reply = json_object_new_object();

	guest_problems(request->guest, qemu, caps, why, &problems);
	cij_json_add_str(reply, "guest", request->guest_name);
	cij_json_add_bool(reply, "valid", problems.n == 0);
	json_object_object_add(reply, "problems", cij_problems_to_json(&problems));
	request_reply(request, reply);
}

static void
on_validate_caps(void *arg, const struct qemu_caps *caps, const struct cij_error *why)
{
	struct question *question = arg;
	struct request *request = question->request;
	_cleanup_free_ char *qemu = question->qemu;
	struct cij_error err;

	free(question);
	request->guest = registry_find(request->registry, request->guest_name, &err);
	if (request->guest)
		reply_problems(request, qemu, caps, caps ? NULL : why);
	else
		request_fail(request, &err);
}

static void
guest_validate(struct request *request)
{
	struct cij_error err;
	char *qemu = guest_qemu_on_disk(request->guest, &err);

	if (qemu)
		guest_probe(request->guest, qemu, on_validate_caps, question_new(request, qemu));
	else
		reply_problems(request, NULL, NULL, err.class == CIJ_E_NONE ? NULL : &err);
}

const struct op op_guest_validate = {
	.name = "guest-validate",
	.access = ACCESS_VIEW,
	.takes_guest = true,
	.table = &op_guest_table,
	.run = guest_validate,
	.doc = "all that is wrong with a guest's definition, each with the path of its key",
};

static void
on_argv_caps(void *arg, const struct qemu_caps *caps, const struct cij_error *why)
{
	struct question *question = arg;
	struct request *request = question->request;
	_cleanup_free_ char *qemu = question->qemu;
	struct argv argv = {0};
	struct cij_error err;
	struct json_object *reply;

	free(question);
	request->guest = registry_find(request->registry, request->guest_name, &err);
	if (!caps) {
		request_fail(request, why);
	} else if (!request->guest || guest_argv(request->guest, qemu, caps, &argv, &err) < 0) {
		request_fail(request, &err);
	} else {
		reply = json_object_new_object();
		cij_json_add_str(reply, "guest", request->guest_name);
		json_object_object_add(reply, "argv", strv_to_json(&argv.items));
		json_object_object_add(reply, "why", strv_to_json(&argv.why));
		request_reply(request, reply);
	}
	argv_clear(&argv);
}

static void
guest_argv_op(struct request *request)
{
	struct cij_error err;
	char *qemu;

	if (guest_find_qemu(request->guest, &qemu, &err) < 0)
		request_fail(request, &err);
	else
		guest_probe(request->guest, qemu, on_argv_caps, question_new(request, qemu));
}

const struct op op_guest_argv = {
	.name = "guest-argv",
	.access = ACCESS_VIEW,
	.takes_guest = true,
	.table = &op_guest_table,
	.run = guest_argv_op,
	.doc = "the command line that a start would run, and what made each of its words",
};
