/* Operations on a guest's drives. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/op.h"
#include "daemon/strv.h"
#include "proto/text.h"

/* Linux lets go within 6 s: pciehp waits 5 s behind the button, in case it is pressed again. */
#define UNPLUG_SECONDS 30

struct device_args {
	char *guest;
	struct json_object *device; /* an id, or a definition */
	struct json_object *inject, *chunks;
	double timeout;
};

#define DEVICE_FIELD(...) \
	{ \
		.name = "device", .type = CIJ_T_JSON, .flags = CIJ_F_REQUIRED, \
		.offset = offsetof(struct device_args, device), __VA_ARGS__ \
	}
#define TIMEOUT_FIELD \
	{ \
		.name = "timeout", .type = CIJ_T_SECONDS, \
		.offset = offsetof(struct device_args, timeout), \
		.doc = "how long the guest has to let go of it (30)" \
	}

static void
init_device_args(void *obj)
{
	struct device_args *args = obj;

	args->timeout = UNPLUG_SECONDS;
}

static const struct cij_field plug_fields[] = {
	OP_GUEST_FIELD(device_args),
	DEVICE_FIELD(.doc = "the id of a drive of guest.json, or a new drive as guest.json has "
			    "them: it is added there"),
};
static const struct cij_table plug_table = CIJ_TABLE(
	plug_fields, struct device_args, init_device_args);

static const struct cij_field unplug_fields[] = {
	OP_GUEST_FIELD(device_args),
	DEVICE_FIELD(.doc = "its id"),
	TIMEOUT_FIELD,
};
static const struct cij_table unplug_table = CIJ_TABLE(
	unplug_fields, struct device_args, init_device_args);

static const struct cij_field format_fields[] = {
	OP_GUEST_FIELD(device_args),
	DEVICE_FIELD(.doc = "its id"),
};
static const struct cij_table format_table = CIJ_TABLE(
	format_fields, struct device_args, init_device_args);

static const struct cij_field inject_fields[] = {
	OP_GUEST_FIELD(device_args),
	DEVICE_FIELD(.doc = "its id"),
	{.name = "inject",
		.type = CIJ_T_JSON,
		.offset = offsetof(struct device_args, inject),
		.doc = "replaces the drive's \"inject\" in guest.json; not given: as it is there"},
	{.name = "chunks",
		.type = CIJ_T_JSON,
		.offset = offsetof(struct device_args, chunks),
		.doc = "replaces its \"chunks\""},
	TIMEOUT_FIELD,
};
static const struct cij_table inject_table = CIJ_TABLE(
	inject_fields, struct device_args, init_device_args);

static void
on_deed_done(void *arg, struct json_object *result, const struct cij_error *err)
{
	struct request *request = arg;

	if (err)
		request_fail(request, err);
	else
		request_reply(request, result);
}

/* The drive's id where the request has just that. */
static const char *
get_id(struct request *request, struct cij_error *err)
{
	struct device_args *args = request->args;

	if (json_object_is_type(args->device, json_type_string))
		return json_object_get_string(args->device);
	cij_error_set(err, CIJ_E_BAD_REQUEST, "'device' must be a drive's id, not %s",
		cij_json_type_word(args->device));
	return NULL;
}

static void
deed(struct request *request, enum device_deed what)
{
	struct device_args *args = request->args;
	struct cij_error err;
	const char *id = get_id(request, &err);

	if (id)
		guest_device(request->guest, what, id, args->timeout, on_deed_done, request);
	else
		request_fail(request, &err);
}

/*
 * Who operates a guest may give it another drive and inject errors, which guest.json has from then
 * on. Files that a drive names are read as the owner, and what is wrong in them is told.
 */
static int
check_files(const struct request *request, struct json_object *device, struct cij_error *err)
{
	if (request->access >= ACCESS_OWN)
		return 0;
	for (int kind = 0; kind < INJECT_KINDS; kind++)
		if (cij_json_get(device, inject_file_key(kind)))
			return cij_error_set(err, CIJ_E_DENIED,
				"you may not name a file as 'device.%s' of '%s': its owner and "
				"admins may",
				inject_file_key(kind), request->guest_name);
	return 0;
}

/* device-plug */

/* The first of nvme0, nvme1, … that guest.json and the running guest do not have. Heap string. */
static char *
free_id(struct request *request)
{
	_cleanup_json_ struct json_object *config = NULL;
	struct json_object *devices;
	struct guest_drive_status drive;
	struct cij_error err;
	size_t n;

	config = guest_config_read(request->guest, &err);
	devices = cij_json_get(config, "devices");
	n = cij_json_length(devices);
	for (unsigned i = 0;; i++) {
		_cleanup_free_ char *id = str_printf("nvme%u", i);
		bool taken = false;

		for (size_t k = 0; k < n && !taken; k++) {
			const char *other = cij_json_str(
				json_object_array_get_idx(devices, k), "id");

			taken = other && strcmp(other, id) == 0;
		}
		for (size_t k = 0; !taken && guest_drive_status(request->guest, k, &drive); k++)
			taken = strcmp(drive.conf->id, id) == 0;
		if (!taken)
			return steal_ptr(id);
	}
}

static bool
has_drive(struct guest *guest, const char *id)
{
	_cleanup_json_ struct json_object *config = NULL;
	struct json_object *devices;
	struct cij_error err;

	config = guest_config_read(guest, &err);
	devices = cij_json_get(config, "devices");
	for (size_t i = 0; i < cij_json_length(devices); i++) {
		const char *other = cij_json_str(json_object_array_get_idx(devices, i), "id");

		if (other && strcmp(other, id) == 0)
			return true;
	}
	return false;
}

/* Adds the new drive to guest.json. Its id, on the heap; NULL with an error. */
static char *
define_drive(struct request *request, struct json_object *device, struct cij_error *err)
{
	_cleanup_json_ struct json_object *changes = json_object_new_object(), *copy = NULL;
	_cleanup_free_ char *id = NULL, *key = NULL;
	const char *given = cij_json_str(device, "id");
	char clean[64];

	if (!given && cij_json_get(device, "id")) {
		cij_error_set(err, CIJ_E_BAD_REQUEST, "'device.id' must be a string");
		return NULL;
	}
	id = given ? str_copy(given) : free_id(request);
	if (!*id || strpbrk(id, ".")) {
		cij_error_set(err, CIJ_E_BAD_REQUEST, "'%s' is no drive's id",
			cij_text_clean(id, clean, sizeof(clean)));
		return NULL;
	}
	if (check_files(request, device, err) < 0)
		return NULL;
	if (has_drive(request->guest, id)) {
		cij_error_set(err, CIJ_E_BAD_REQUEST, "guest '%s' has a drive '%s' already",
			request->guest_name, cij_text_clean(id, clean, sizeof(clean)));
		cij_error_hint(err, "'cijqemuctl device plug %s %s' plugs that one in",
			request->guest_name, clean);
		return NULL;
	}
	copy = json_object_new_object();
	cij_json_add_str(copy, "id", id);
	json_object_object_foreach (device, name, value) {
		if (strcmp(name, "id") != 0)
			json_object_object_add(copy, name, json_object_get(value));
	}
	key = str_printf("devices.%s", id);
	json_object_object_add(changes, key, json_object_get(copy));
	return guest_config_change(request->guest, changes, err) < 0 ? NULL : steal_ptr(id);
}

/* Whether the guest can be given a drive at all, before its definition is written. */
static int
check_runs(const struct request *request, struct cij_error *err)
{
	enum gstate state = guest_state(request->guest);

	if (state == GS_RUNNING || state == GS_PAUSED)
		return 0;
	cij_error_set(err, CIJ_E_BUSY, "cannot plug a drive into guest '%s': it is %s",
		request->guest_name, gstate_name(state));
	return cij_error_hint(err,
		"'cijqemuctl set %s devices.ID='{\"type\": …}'' defines it for the next start",
		request->guest_name);
}

/* A new drive that could not be plugged in is not left in guest.json either. */
struct new_drive {
	struct request *request;
	char *id;
};

static void
on_new_plugged(void *arg, struct json_object *result, const struct cij_error *err)
{
	struct new_drive *drive = arg;
	struct request *request = drive->request;
	_cleanup_free_ char *id = drive->id, *key = str_printf("devices.%s", id);
	struct cij_error ignored;

	free(drive);
	if (err) {
		_cleanup_json_ struct json_object *changes = json_object_new_object();

		json_object_object_add(changes, key, NULL);
		guest_config_change(request->guest, changes, &ignored);
	}
	on_deed_done(request, result, err);
}

static void
plug_new(struct request *request, const char *id, double timeout)
{
	struct new_drive *drive = calloc(1, sizeof(*drive));

	if (!drive)
		abort();
	drive->request = request;
	drive->id = str_copy(id);
	guest_device(request->guest, DEVICE_PLUG, id, timeout, on_new_plugged, drive);
}

static void
device_plug(struct request *request)
{
	struct device_args *args = request->args;
	_cleanup_free_ char *id = NULL;
	struct cij_error err;

	if (!json_object_is_type(args->device, json_type_object)) {
		deed(request, DEVICE_PLUG);
		return;
	}
	if (check_runs(request, &err) == 0)
		id = define_drive(request, args->device, &err);
	if (id)
		plug_new(request, id, args->timeout);
	else
		request_fail(request, &err);
}

const struct op op_device_plug = {
	.name = "device-plug",
	.verb = "plug drives into",
	.access = ACCESS_OPERATE,
	.takes_guest = true,
	.changes = true,
	.table = &plug_table,
	.run = device_plug,
	.doc = "give a running guest a drive; answers whether its kernel has seen it",
};

static void
device_unplug(struct request *request)
{
	deed(request, DEVICE_UNPLUG);
}

const struct op op_device_unplug = {
	.name = "device-unplug",
	.verb = "unplug drives from",
	.access = ACCESS_OPERATE,
	.takes_guest = true,
	.changes = true,
	.table = &unplug_table,
	.run = device_unplug,
	.doc = "ask a running guest to let go of a drive; answers when it did, or Timeout",
};

static void
device_format(struct request *request)
{
	deed(request, DEVICE_FORMAT);
}

const struct op op_device_format = {
	.name = "device-format",
	.verb = "format drives of",
	.access = ACCESS_OPERATE,
	.takes_guest = true,
	.changes = true,
	.table = &format_table,
	.run = device_format,
	.doc = "make a drive's image anew, as guest.json defines it; its data is gone",
};

/* device-inject */

/* Stored, but this QEMU takes it at the next start only: that is no failure. */
static void
on_stored_injected(void *arg, struct json_object *result, const struct cij_error *err)
{
	struct request *request = arg;
	struct device_args *args = request->args;

	if (err && err->class == CIJ_E_NOT_SUPPORTED && guest_state(request->guest) != GS_STOPPED) {
		result = json_object_new_object();
		cij_json_add_str(result, "guest", request->guest_name);
		json_object_object_add(result, "device", json_object_get(args->device));
		cij_json_add_bool(result, "applied", false);
		cij_json_add_str(result, "why", err->desc);
		err = NULL;
	}
	on_deed_done(request, result, err);
}

static void
device_inject(struct request *request)
{
	struct device_args *args = request->args;
	_cleanup_json_ struct json_object *changes = json_object_new_object();
	_cleanup_free_ char *inject = NULL, *chunks = NULL;
	struct cij_error err;
	const char *id = get_id(request, &err);

	if (!id || strpbrk(id, ".") || !has_drive(request->guest, id)) {
		deed(request, DEVICE_INJECT); /* says which drives there are */
		return;
	}
	inject = str_printf("devices.%s.inject", id);
	chunks = str_printf("devices.%s.chunks", id);
	if (args->inject)
		json_object_object_add(changes, inject, json_object_get(args->inject));
	if (args->chunks)
		json_object_object_add(changes, chunks, json_object_get(args->chunks));
	if (json_object_object_length(changes) == 0) {
		deed(request, DEVICE_INJECT);
		return;
	}
	if (guest_config_change(request->guest, changes, &err) < 0) {
		request_fail(request, &err);
		return;
	}
	guest_device(request->guest, DEVICE_INJECT, id, args->timeout, on_stored_injected, request);
}

const struct op op_device_inject = {
	.name = "device-inject",
	.verb = "inject errors into drives of",
	.access = ACCESS_OPERATE,
	.takes_guest = true,
	.changes = true,
	.table = &inject_table,
	.run = device_inject,
	.doc = "errors and chunk states of a drive; a running guest has it unplugged and plugged "
	       "again, and the answer says what it saw of that",
};

static void
query_devices(struct request *request)
{
	guest_device(request->guest, DEVICE_LIST, NULL, 0, on_deed_done, request);
}

const struct op op_query_devices = {
	.name = "query-devices",
	.access = ACCESS_VIEW,
	.takes_guest = true,
	.table = &op_guest_table,
	.run = query_devices,
	.doc = "a guest's drives, as guest.json has them and as QEMU has them now",
};
