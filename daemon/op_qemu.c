/* Operations on the QEMU binaries of this machine. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/argv.h"
#include "daemon/op.h"
#include "daemon/strv.h"
#include "proto/text.h"

/* Binaries asked for one request: a lab has a handful, and each costs two processes. */
#define BINARIES_MAX 16

struct query_qemu_args {
	struct cij_list guests;
};
static const struct cij_field query_qemu_fields[] = {
	{.name = "guests",
		.type = CIJ_T_STRS,
		.offset = offsetof(struct query_qemu_args, guests),
		.max = 1024,
		.doc = "globs: only the QEMU of these guests"},
};
static const struct cij_table query_qemu_table = CIJ_TABLE(
	query_qemu_fields, struct query_qemu_args, NULL);

struct query;

/* One binary, as one user runs it. */
struct binary {
	struct query *query; /* weak */
	char *path; /* NULL: there is none, see @err */
	uid_t uid;
	gid_t gid;
	bool is_default; /* of a guest without a qemu_home */
	struct strv guests; /* that use it */
	bool known;
	struct qemu_caps caps;
	struct cij_error err;
};

struct query {
	struct request *request;
	struct binary binaries[BINARIES_MAX];
	size_t n, waiting;
	bool left_out;
};

/* What drives it has, by guest.json's types. */
static struct json_object *
drive_types(const struct binary *binary)
{
	struct json_object *list = json_object_new_array();
	enum image_format format;
	struct cij_error err;

	for (int type = 0; type < DEVICE_TYPES; type++) {
		_cleanup_json_ struct json_object *json = json_object_new_object();
		_cleanup_problems_ struct cij_problems problems = {0};
		struct device_conf conf;

		cij_json_add_str(json, "id", "x");
		cij_json_add_str(json, "type", device_type_name(type));
		if (device_conf_decode(&conf, json, "", &problems) == 0 &&
			dialect_check(&binary->caps, &conf, binary->path, &format, &err) == 0)
			json_object_array_add(list, json_object_new_string(device_type_name(type)));
		device_conf_clear(&conf);
	}
	return list;
}

static struct json_object *
describe(const struct binary *binary)
{
	const struct qemu_caps *caps = &binary->caps;
	struct json_object *obj = json_object_new_object(), *kvm = NULL;

	cij_json_add_str(obj, "path", binary->path);
	cij_json_add_bool(obj, "default", binary->is_default);
	cij_json_add_int(obj, "uid", binary->uid);
	json_object_object_add(obj, "guests", strv_to_json(&binary->guests));
	cij_json_add_str(obj, "version", binary->known ? caps->version : NULL);
	cij_json_add_str(obj, "dialect", binary->known ? dialect_name(caps->dialect) : NULL);
	json_object_object_add(obj, "types", binary->known ? drive_types(binary) : NULL);
	if (binary->known) {
		kvm = json_object_new_object();
		cij_json_add_bool(kvm, "works", caps->kvm);
		cij_json_add_str(kvm, "why", caps->kvm ? NULL : caps->kvm_why);
	}
	json_object_object_add(obj, "kvm", kvm);
	json_object_object_add(
		obj, "sandbox", binary->known ? json_object_new_boolean(caps->sandbox) : NULL);
	cij_json_add_str(obj, "error", binary->known ? NULL : binary->err.desc);
	cij_json_add_str(
		obj, "hint", binary->known || !*binary->err.hint ? NULL : binary->err.hint);
	return obj;
}

/* All have answered. */
static void
finish(struct query *query)
{
	struct json_object *reply = json_object_new_object(), *list = json_object_new_array();

	for (size_t i = 0; i < query->n; i++) {
		json_object_array_add(list, describe(&query->binaries[i]));
		strv_clear(&query->binaries[i].guests);
		free(query->binaries[i].path);
	}
	json_object_object_add(reply, "qemu", list);
	cij_json_add_int(reply, "spare_ports", ARGV_SPARE_PORTS);
	cij_json_add_bool(reply, "more", query->left_out);
	request_reply(query->request, reply);
	free(query);
}

static void
on_caps(void *arg, const struct qemu_caps *caps, const struct cij_error *err)
{
	struct binary *binary = arg;
	struct query *query = binary->query;

	binary->known = caps != NULL;
	if (caps)
		binary->caps = *caps;
	else
		binary->err = *err;
	if (--query->waiting == 0)
		finish(query);
}

/* The entry of @path as run by @uid, made where there is room; NULL: there is none. */
static struct binary *
get_binary(struct query *query, const char *path, uid_t uid, gid_t gid)
{
	struct binary *binary;

	for (size_t i = 0; i < query->n; i++) {
		const char *other = query->binaries[i].path;

		if (query->binaries[i].uid == uid && path && other && strcmp(path, other) == 0)
			return &query->binaries[i];
	}
	if (query->n == BINARIES_MAX) {
		query->left_out = true;
		return NULL;
	}
	binary = &query->binaries[query->n++];
	*binary = (struct binary){.query = query, .path = str_copy(path), .uid = uid, .gid = gid};
	return binary;
}

/* A guest's QEMU is asked as its owner, who runs it, too. */
static void
add_guest(void *arg, struct guest *guest)
{
	struct query *query = arg;
	struct query_qemu_args *args = query->request->args;
	char **globs = args->guests.items, *path = NULL;
	bool wanted = args->guests.n == 0;
	struct binary *binary;
	struct cij_error err;

	for (size_t i = 0; i < args->guests.n && !wanted; i++)
		wanted = cij_glob_match(globs[i], guest_name(guest));
	if (!wanted || guest_state(guest) == GS_BROKEN)
		return;
	guest_find_qemu(guest, &path, &err);
	binary = get_binary(query, path, guest_uid(guest), guest_gid(guest));
	if (binary) {
		if (!path)
			binary->err = err;
		if (!guest_conf(guest)->qemu_home)
			binary->is_default = true;
		strv_add(&binary->guests, guest_name(guest));
	}
	free(path);
}

/* What a guest without a qemu_home would get, as whoever asks runs it. */
static void
add_default(struct query *query)
{
	const struct services *sv = registry_services(query->request->registry);
	struct binary *binary;
	struct cij_error err;
	_cleanup_free_ char *path = probe_find_qemu(NULL, sv->conf->qemu_home, &err);

	for (size_t i = 0; i < query->n; i++)
		if (query->binaries[i].is_default)
			return;
	binary = get_binary(query, path, query->request->peer.uid, query->request->peer.gid);
	if (!binary)
		return;
	binary->is_default = true;
	if (!path)
		binary->err = err;
}

static void
query_qemu(struct request *request)
{
	const struct services *sv = registry_services(request->registry);
	struct query_qemu_args *args = request->args;
	struct query *query = calloc(1, sizeof(*query));
	_cleanup_close_ int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (!query)
		abort();
	query->request = request;
	registry_scan(request->registry);
	registry_each(request->registry, add_guest, query);
	if (args->guests.n == 0)
		add_default(query);
	query->waiting = query->n + 1;
	for (size_t i = 0; i < query->n; i++) {
		struct binary *binary = &query->binaries[i];

		if (binary->path)
			probe_ask(sv->probes, binary->path, binary->uid, binary->gid, root, on_caps,
				binary);
		else
			query->waiting--;
	}
	if (--query->waiting == 0)
		finish(query);
}

const struct op op_query_qemu = {
	.name = "query-qemu",
	.access = ACCESS_VIEW,
	.table = &query_qemu_table,
	.run = query_qemu,
	.doc = "the QEMU binaries in use here: version, drives, and whether KVM works with them",
};
