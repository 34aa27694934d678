/* list, show, status: what there is. */
#include <stdio.h>
#include <string.h>

#include "client/args.h"
#include "client/lease.h"
#include "client/link.h"
#include "client/list.h"
#include "client/out.h"
#include "client/table.h"
#include "client/view.h"
#include "proto/text.h"

/* A question is answered at once; a daemon that takes longer than this is stuck. */
#define ASK_SECONDS 30

/* Exit codes of 'status' that no other command has. */
#define STATUS_NOT_RUNNING 3
#define STATUS_NO_GUEST 4

/* "ocssd:7.5G,nvme:8G": no blanks, so that awk finds its columns. */
static void
add_devices(struct table *t, struct json_object *view)
{
	struct json_object *devices = cij_json_get(view, "devices");
	size_t n = cij_json_length(devices);
	char text[512] = "";

	for (size_t i = 0, at = 0; i < n && at < sizeof(text); i++) {
		struct json_object *device = json_object_array_get_idx(devices, i);
		const char *type = cij_json_str(device, "type");
		int64_t bytes = cij_json_int(device, "bytes", -1);
		char size[24] = "?";

		if (bytes >= 0)
			cij_size_human(bytes, size, sizeof(size));
		at += snprintf(text + at, sizeof(text) - at, "%s%s:%s", i ? "," : "",
			type ? type : "?", size);
	}
	table_add(t, n ? text : "-", NULL);
}

static void
add_number(struct table *t, int64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "%lld", (long long)n);
	table_add(t, n > 0 ? text : "-", NULL);
}

/* What is wrong with it, and who has leased it. */
static void
add_note(struct table *t, struct json_object *view)
{
	struct json_object *lease = cij_json_get(view, "lease");
	char note[1024], end[128], text[1280];
	bool leased = cij_json_get(lease, "uid") != NULL;

	view_note(view, note, sizeof(note));
	snprintf(text, sizeof(text), "%s", note);
	if (leased)
		snprintf(text, sizeof(text), "%s%sleased by %s %s", note, *note ? "; " : "",
			lease_holder(lease), lease_end_text(lease, end, sizeof(end)));
	table_add(t, text, *note ? "31" : leased ? "36" : NULL);
}

static void
add_guest(struct table *t, struct json_object *view)
{
	const char *name = cij_json_str(view, "guest"), *state = view_state(view);
	int64_t memory = cij_json_int(view, "memory_bytes", 0);
	int64_t uptime = cij_json_int(view, "uptime_s", -1);
	bool ready = cij_json_bool(view, "ready", false);
	char text[1024];

	table_add(t, name ? name : "?", NULL);
	table_add(t, state, view_state_colour(state));
	table_add(t, !view_is_live(view) ? "-" : ready ? "yes" : "no", NULL);
	table_add(t, view_owner(view), NULL);
	table_add(t, memory > 0 ? cij_size_human(memory, text, sizeof(text)) : "-", NULL);
	add_number(t, cij_json_int(view, "cpus", 0));
	add_number(t, view_ssh_port(view));
	add_devices(t, view);
	table_add(t, uptime >= 0 ? duration_text(uptime, text, sizeof(text)) : "-", NULL);
	add_note(t, view);
}

void
list_print(const struct listing *lists, size_t n_lists)
{
	static const char *const heading[] = {"HOST", "NAME", "STATE", "READY", "OWNER", "MEM",
		"CPUS", "SSH", "DEVICES", "UPTIME", ""};
	size_t first = n_lists > 0 && lists[0].host ? 0 : 1;
	_cleanup_table_ struct table t = {.n_columns = cij_array_size(heading) - first};

	for (size_t i = first; i < cij_array_size(heading); i++)
		table_add(&t, heading[i], NULL);
	for (size_t l = 0; l < n_lists; l++) {
		size_t n = lists[l].guests ? json_object_array_length(lists[l].guests) : 0;

		for (size_t i = 0; i < n; i++) {
			if (first == 0)
				table_add(&t, lists[l].host, NULL);
			add_guest(&t, json_object_array_get_idx(lists[l].guests, i));
		}
	}
	table_print(&t, out_colours(stdout));
}

/* What a line is made of, view_note()'s words too: half of the whole, and so of the time it takes.
 */
static struct json_object *
members_of_a_line(void)
{
	static const char *const names[] = {"state", "ready", "owner", "memory_bytes", "cpus",
		"ssh", "devices", "uptime_s", "lease", "reason", "error", "hung", "exit",
		"restart_in_s", "gave_up", "reset_loop", "resets"};
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < cij_array_size(names); i++)
		json_object_array_add(list, json_object_new_string(names[i]));
	return list;
}

int
list_ask(struct call *call, struct reply *r, struct cij_error *err)
{
	struct json_object *args = globs_arguments((const char *const *)call->args, call->n_args);

	if (!call->json)
		json_object_object_add(args, "members", members_of_a_line());
	if (call_daemon(call, ASK_SECONDS, "query-guests", args, r, err) < 0)
		return -1;
	if (!json_object_is_type(r->value, json_type_array))
		return cij_error_set(
			err, CIJ_E_PROTOCOL, "the daemon's list of guests is no array");
	return 0;
}

int
cmd_list(struct call *call, struct cij_error *err)
{
	_cleanup_reply_ struct reply r = {0};

	if (list_ask(call, &r, err) < 0)
		return -1;
	if (call->json) {
		reply_print(&r);
		return 0;
	}
	list_print(&(struct listing){NULL, r.value}, 1);
	if (json_object_array_length(r.value) == 0)
		out_note(call->n_args ? "no guest matches"
				      : "no guests; 'cijqemuctl create' makes one");
	return 0;
}

static void
print_line(const char *key, const char *text)
{
	char clean_key[256], clean[1024];

	/* Keys of a broken guest.json are its owner's words, too. */
	printf("%-24s %s\n", cij_text_clean(key, clean_key, sizeof(clean_key)),
		cij_text_clean(text, clean, sizeof(clean)));
}

/* Prints a value that is no object under its full key. */
static void
print_value(const char *key, struct json_object *value)
{
	const char *dot = strrchr(key, '.'), *name = dot ? dot + 1 : key;
	size_t len = strlen(name);
	char text[256], human[24];

	switch (json_object_get_type(value)) {
	case json_type_null:
		print_line(key, "-");
		return;
	case json_type_boolean:
		print_line(key, json_object_get_boolean(value) ? "yes" : "no");
		return;
	case json_type_int:
		if (len >= 5 && strcmp(name + len - 5, "bytes") == 0) {
			snprintf(text, sizeof(text), "%s (%lld)",
				cij_size_human(json_object_get_int64(value), human, sizeof(human)),
				(long long)json_object_get_int64(value));
			print_line(key, text);
			return;
		}
		break;
	default:
		break;
	}
	print_line(key,
		json_object_is_type(value, json_type_string)
			? json_object_get_string(value)
			: json_object_to_json_string_ext(value, JSON_C_TO_STRING_NOSLASHESCAPE));
}

/* Prints an object's members, a line each, and those within them as "outer.inner". */
static void
print_members(const char *prefix, struct json_object *obj)
{
	json_object_object_foreach (obj, key, value) {
		char full[256];

		snprintf(full, sizeof(full), "%s%s%s", prefix, *prefix ? "." : "", key);
		if (json_object_is_type(value, json_type_object))
			print_members(full, value);
		else if (!*prefix && strcmp(key, "devices") == 0)
			continue; /* print_devices() */
		else
			print_value(full, value);
	}
}

static void
print_devices(struct json_object *view)
{
	struct json_object *devices = cij_json_get(view, "devices");
	bool live = view_is_live(view);

	if (!json_object_is_type(devices, json_type_array))
		return;
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		struct json_object *device = json_object_array_get_idx(devices, i);
		const char *id = cij_json_str(device, "id"), *type = cij_json_str(device, "type");
		int64_t bytes = cij_json_int(device, "bytes", -1);
		char key[128], text[256], human[24];

		snprintf(key, sizeof(key), "device.%s", id ? id : "?");
		snprintf(text, sizeof(text), "%s, %s%s", type ? type : "?",
			bytes < 0 ? "size unknown" : cij_size_human(bytes, human, sizeof(human)),
			!live || cij_json_bool(device, "present", true) ? "" : ", unplugged");
		print_line(key, text);
	}
}

int
cmd_show(struct call *call, struct cij_error *err)
{
	_cleanup_reply_ struct reply r = {0};
	struct json_object *owner;

	if (call_daemon(call, ASK_SECONDS, "query-guest", guest_arguments(call->guest), &r, err) <
		0)
		return -1;
	if (!json_object_is_type(r.value, json_type_object))
		return cij_error_set(err, CIJ_E_PROTOCOL, "the daemon's guest is no object");
	if (call->json) {
		reply_print(&r);
		return 0;
	}
	/* The daemon does no look-ups of names: they may take long. */
	owner = cij_json_get(r.value, "owner");
	if (json_object_is_type(owner, json_type_object))
		cij_json_add_str(owner, "name", view_owner(r.value));
	print_members("", r.value);
	print_devices(r.value);
	return 0;
}

/* "running, ready, ssh port 2022, up 1m31s" or "stopped since …: guest-shutdown" */
static void
print_status(const char *guest, struct json_object *view)
{
	const char *since = cij_json_str(view, "since");
	int64_t uptime = cij_json_int(view, "uptime_s", -1);
	char text[1280], part[1024], clean[1280];

	if (view_is_live(view)) {
		snprintf(text, sizeof(text), "%s%s%s", view_summary(view, part, sizeof(part)),
			cij_json_bool(view, "ready", false) ? ", ready" : "",
			cij_json_bool(view, "hung", false) ? ", hung: QEMU does not answer" : "");
		if (*view_note(view, part, sizeof(part)) && !cij_json_bool(view, "hung", false))
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "; %s", part);
		if (uptime >= 0)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), ", up %s",
				duration_text(uptime, part, sizeof(part)));
	} else {
		bool broken = strcmp(view_state(view), "broken") == 0;

		snprintf(text, sizeof(text), "%s%s%s: %s", view_state(view), since ? " since " : "",
			since ? since : "",
			broken ? view_note(view, part, sizeof(part))
			       : view_end_text(view, part, sizeof(part)));
	}
	printf("%s: %s\n", guest, cij_text_clean(text, clean, sizeof(clean)));
}

int
cmd_status(struct call *call, struct cij_error *err)
{
	_cleanup_reply_ struct reply r = {0};

	if (call_daemon(call, ASK_SECONDS, "query-guest", guest_arguments(call->guest), &r, err) <
		0) {
		if (err->class != CIJ_E_GUEST_NOT_FOUND)
			return -1;
		out_error(err);
		return STATUS_NO_GUEST;
	}
	if (call->json)
		reply_print(&r);
	else
		print_status(call->guest, r.value);
	return strcmp(view_state(r.value), "running") == 0 ? 0 : STATUS_NOT_RUNNING;
}
