/* device list, plug, unplug, format, inject: the drives of a guest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ask.h"
#include "client/clock.h"
#include "client/keyvalue.h"
#include "client/link.h"
#include "client/out.h"
#include "client/table.h"
#include "proto/text.h"

/* How long a guest has to let go of a drive, unless --timeout says otherwise: as the daemon. */
#define UNPLUG_SECONDS 30

/* What a deed takes beside that: QEMU asked what it can do, an image made, the guest looking. */
#define GRACE_SECONDS 60

/* --timeout 0: as long as it takes. */
#define FOR_EVER_SECONDS (30 * 24 * 3600)

static double
unplug_seconds(const struct call *call)
{
	if (call->timeout < 0)
		return UNPLUG_SECONDS;
	return call->timeout > 0 ? call->timeout : FOR_EVER_SECONDS;
}

/* The daemon keeps the time: it knows the drive's state when that is up. */
static int
ask_daemon(struct call *call, const char *op, struct json_object *args, struct reply *r,
	struct cij_error *err)
{
	_cleanup_link_ struct link l = LINK_INIT;
	double seconds = unplug_seconds(call) + GRACE_SECONDS;

	if (link_open(&l, call->socket, clock_deadline(seconds), err) < 0) {
		json_object_put(args);
		return -1;
	}
	if (link_call(&l, op, args, r, err) < 0)
		return -1;
	if (call->json) {
		reply_print(r);
	}
	return 0;
}

static struct json_object *
drive_arguments(const struct call *call, const char *id)
{
	struct json_object *args = guest_arguments(call->guest);

	cij_json_add_str(args, "device", id);
	return args;
}

static const char *
yes_or_dash(struct json_object *item, const char *key)
{
	return cij_json_bool(item, key, false) ? "yes" : "-";
}

static void
add_row(struct table *t, struct json_object *item, bool *notes)
{
	const char *id = cij_json_str(item, "id"), *type = cij_json_str(item, "type");
	const char *port = cij_json_str(item, "port"), *note = "";
	int64_t bytes = cij_json_int(item, "bytes", -1);
	char size[24] = "?";

	if (bytes >= 0)
		cij_size_human(bytes, size, sizeof(size));
	if (cij_json_bool(item, "unplugging", false))
		note = "asked to go, the guest has not let go yet";
	else if (cij_json_bool(item, "changed", false))
		note = "guest.json has another definition, for the next start";
	else if (cij_json_bool(item, "present", false) && cij_json_get(item, "seen") &&
		 !cij_json_bool(item, "seen", true))
		note = "the guest has not found it yet";
	*notes |= *note != '\0';
	table_add(t, id ? id : "?", NULL);
	table_add(t, type ? type : "?", NULL);
	table_add(t, size, NULL);
	table_add(t, yes_or_dash(item, "configured"), NULL);
	table_add(t, yes_or_dash(item, "present"), NULL);
	table_add(t, port ? port : "-", NULL);
	table_add(t, note, NULL);
}

static int
device_list(struct call *call, struct cij_error *err)
{
	static const char *const heading[] = {
		"ID", "TYPE", "SIZE", "CONFIGURED", "PRESENT", "PORT", ""};
	_cleanup_table_ struct table t = {.n_columns = cij_array_size(heading)};
	_cleanup_reply_ struct reply r = {0};
	struct json_object *devices;
	bool notes = false;
	size_t n;

	if (ask_daemon(call, "query-devices", guest_arguments(call->guest), &r, err) < 0)
		return -1;
	if (call->json)
		return 0;
	devices = cij_json_get(r.value, "devices");
	if (!json_object_is_type(devices, json_type_array))
		return cij_error_set(err, CIJ_E_PROTOCOL, "the daemon's drives are no array");
	for (size_t i = 0; i < cij_array_size(heading); i++)
		table_add(&t, heading[i], NULL);
	n = json_object_array_length(devices);
	for (size_t i = 0; i < n; i++)
		add_row(&t, json_object_array_get_idx(devices, i), &notes);
	table_print(&t, out_colours(stdout));
	if (n == 0)
		out_note("%s: no drives", call->guest);
	return 0;
}

static int
device_plug(struct call *call, struct cij_error *err)
{
	static const char *const types[] = {"ocssd", "nvme", "zns"};
	_cleanup_reply_ struct reply r = {0};
	const char *what = call->args[0], *id;
	bool define = strchr(what, ',') != NULL;
	struct json_object *args, *device;

	for (size_t i = 0; i < cij_array_size(types); i++)
		define |= strcmp(what, types[i]) == 0;
	if (define) {
		if (device_of(call, what, &device, err) < 0)
			return -1;
		if (!cij_json_get(device, "id"))
			json_object_object_del(device, "id");
		args = guest_arguments(call->guest);
		json_object_object_add(args, "device", device);
	} else {
		args = drive_arguments(call, what);
	}
	if (ask_daemon(call, "device-plug", args, &r, err) < 0)
		return -1;
	id = cij_json_str(r.value, "device");
	if (cij_json_bool(r.value, "already", false))
		out_note("%s: has drive %s already", call->guest, id ? id : what);
	else if (cij_json_bool(r.value, "seen", false))
		out_note("%s: drive %s plugged in, and the guest has found it", call->guest,
			id ? id : what);
	else
		out_note("%s: drive %s plugged in, but the guest has not found it yet", call->guest,
			id ? id : what);
	return 0;
}

static int
device_unplug(struct call *call, struct cij_error *err)
{
	struct json_object *args = drive_arguments(call, call->args[0]);
	_cleanup_reply_ struct reply r = {0};

	json_object_object_add(args, "timeout", json_object_new_double(unplug_seconds(call)));
	if (ask_daemon(call, "device-unplug", args, &r, err) < 0)
		return -1;
	if (cij_json_bool(r.value, "already", false))
		out_note("%s: has no drive %s now", call->guest, call->args[0]);
	else
		out_note("%s: drive %s unplugged; the next start has it again", call->guest,
			call->args[0]);
	return 0;
}

static int
device_format(struct call *call, struct cij_error *err)
{
	_cleanup_reply_ struct reply r = {0};
	char size[24];

	if (!call_has(call, "yes")) {
		if (!ask_possible())
			return call_usage(
				call, err, "without a terminal to ask on, --yes is needed");
		if (!ask_yes(false, "Format drive '%s' of guest '%s'? Its data is gone then.",
			    call->args[0], call->guest))
			return cij_error_set(err, CIJ_E_FAILED, "%s: drive '%s' not formatted",
				call->guest, call->args[0]);
	}
	if (ask_daemon(call, "device-format", drive_arguments(call, call->args[0]), &r, err) < 0)
		return -1;
	out_note("%s: drive %s is new, %s", call->guest, call->args[0],
		cij_size_human(cij_json_int(r.value, "bytes", 0), size, sizeof(size)));
	return 0;
}

/* "grp=0,pu=3,chk=0,sec=53,percent=50" as {"@kind": {…}, "percent": 50}. */
static int
add_injection(struct call *call, const char *kind, const char *text, struct json_object *list,
	struct cij_error *err)
{
	struct json_object *address, *item, *percent;

	if (members_of(call, text, &address, err) < 0)
		return -1;
	item = json_object_new_object();
	percent = json_object_get(cij_json_get(address, "percent"));
	json_object_object_del(address, "percent");
	json_object_object_add(item, kind, address);
	if (percent)
		json_object_object_add(item, "percent", percent);
	json_object_array_add(list, item);
	return 0;
}

/* The rules of the command line; an argument that is not given leaves guest.json as it is. */
static int
inject_arguments(struct call *call, struct json_object *args, struct cij_error *err)
{
	static const char *const kinds[] = {"write", "reset"};
	_cleanup_json_ struct json_object *inject = json_object_new_array();
	_cleanup_json_ struct json_object *chunks = json_object_new_array();
	bool clear = call_has(call, "clear");
	struct json_object *chunk;
	const char *text;
	size_t at = 0;

	for (size_t i = 0; i < cij_array_size(kinds); i++)
		for (size_t k = 0; (text = call_each(call, kinds[i], &k));)
			if (add_injection(call, kinds[i], text, inject, err) < 0)
				return -1;
	while ((text = call_each(call, "chunk", &at))) {
		if (members_of(call, text, &chunk, err) < 0)
			return -1;
		json_object_array_add(chunks, chunk);
	}
	if (clear || json_object_array_length(inject) > 0)
		json_object_object_add(args, "inject", steal_ptr(inject));
	if (clear || json_object_array_length(chunks) > 0)
		json_object_object_add(args, "chunks", steal_ptr(chunks));
	json_object_object_add(args, "timeout", json_object_new_double(unplug_seconds(call)));
	return 0;
}

static int
device_inject(struct call *call, struct cij_error *err)
{
	_cleanup_json_ struct json_object *args = drive_arguments(call, call->args[0]);
	_cleanup_reply_ struct reply r = {0};
	const char *why;

	if (inject_arguments(call, args, err) < 0 ||
		ask_daemon(call, "device-inject", steal_ptr(args), &r, err) < 0)
		return -1;
	why = cij_json_str(r.value, "why");
	if (!cij_json_bool(r.value, "applied", false))
		out_note("%s: drive %s: takes effect when it is plugged in next: %s", call->guest,
			call->args[0], why ? why : "the guest does not run");
	else
		out_note("%s: drive %s: in effect; the guest saw it go, and %s", call->guest,
			call->args[0],
			cij_json_bool(r.value, "seen", false) ? "found it again"
							      : "has not found it again yet");
	return 0;
}

static const struct {
	const char *word;
	size_t n_args; /* behind the guest */
	int (*run)(struct call *call, struct cij_error *err);
} verbs[] = {
	{"list", 0, device_list},
	{"plug", 1, device_plug},
	{"unplug", 1, device_unplug},
	{"format", 1, device_format},
	{"inject", 1, device_inject},
};

/* The guest behind the verb, or $QEMU_GUEST_NAME where just that is missing. */
static int
take_guest(struct call *call, size_t n_args, struct cij_error *err)
{
	const char *env = getenv("QEMU_GUEST_NAME");

	call->args++; /* the verb */
	call->n_args--;
	if (call->n_args == n_args + 1) {
		call->guest = call->args[0];
		call->args++;
		call->n_args--;
	} else if (call->n_args == n_args && env && *env) {
		call->guest = env;
	} else {
		return call_usage(call, err,
			call->n_args > n_args + 1
				? "that is one argument too many"
				: "which guest, which drive? Something is missing");
	}
	return cij_guest_name_check(call->guest, err);
}

int
cmd_device(struct call *call, struct cij_error *err)
{
	const char *names[cij_array_size(verbs)], *near;
	char clean[64];

	for (size_t i = 0; i < cij_array_size(verbs); i++) {
		names[i] = verbs[i].word;
		if (strcmp(verbs[i].word, call->args[0]) == 0)
			return take_guest(call, verbs[i].n_args, err) < 0 ? -1
									  : verbs[i].run(call, err);
	}
	near = cij_nearest_of(call->args[0], names, cij_array_size(verbs));
	call_usage(call, err, "'%s' is nothing to do with a device",
		cij_text_clean(call->args[0], clean, sizeof(clean)));
	return near ? cij_error_hint(err, "did you mean '%s'?", near)
		    : cij_error_hint(err, "there are list, plug, unplug, format and inject");
}
