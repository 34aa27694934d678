/* who: who is at a guest, by which way, and since when nothing came from them. */
#include <stdio.h>
#include <string.h>

#include "client/args.h"
#include "client/clock.h"
#include "client/lease.h"
#include "client/link.h"
#include "client/out.h"
#include "client/table.h"
#include "client/view.h"

#define WHO_SECONDS 30

static const char *
user_of(struct json_object *who)
{
	const char *user = cij_json_str(who, "user");

	return user ? user : user_name(cij_json_int(who, "uid", -1));
}

/* A row: GUEST USER PID WHAT IDLE. */
static void
add_row(struct table *t, const char *guest, struct json_object *who, const char *what)
{
	int64_t pid = cij_json_int(who, "pid", 0), idle = cij_json_int(who, "idle_s", -1);
	char text[64];

	table_add(t, guest, NULL);
	table_add(t, user_of(who), NULL);
	snprintf(text, sizeof(text), "%lld", (long long)pid);
	table_add(t, pid > 0 ? text : "-", NULL);
	table_add(t, what, NULL);
	table_add(t, idle >= 0 ? duration_text(idle, text, sizeof(text)) : "-", NULL);
}

/* The lease, the console's viewers and the monitors' clients of one guest. */
static void
add_guest(struct table *t, struct json_object *reply)
{
	const char *guest = cij_json_str(reply, "guest");
	struct json_object *lease = cij_json_get(reply, "lease");
	static const struct {
		const char *member, *what, *detail;
	} lists[] = {{"viewers", "console", "mode"}, {"monitors", "monitor", "kind"}};
	char text[320], end[256];

	if (!guest)
		guest = "?";
	if (cij_json_get(lease, "uid")) {
		snprintf(text, sizeof(text), "lease, %s", lease_end_text(lease, end, sizeof(end)));
		add_row(t, guest, lease, text);
	}
	for (size_t l = 0; l < cij_array_size(lists); l++) {
		struct json_object *list = cij_json_get(reply, lists[l].member);
		size_t n = cij_json_length(list);

		for (size_t i = 0; i < n; i++) {
			struct json_object *who = json_object_array_get_idx(list, i);
			const char *detail = cij_json_str(who, lists[l].detail);

			snprintf(
				text, sizeof(text), "%s, %s", lists[l].what, detail ? detail : "?");
			add_row(t, guest, who, text);
		}
	}
	for (size_t i = 0; lease; i++) {
		struct json_object *queue = cij_json_get(lease, "queue");
		struct json_object *who;

		if (!json_object_is_type(queue, json_type_array) ||
			i >= json_object_array_length(queue))
			break;
		who = json_object_array_get_idx(queue, i);
		snprintf(text, sizeof(text), "waits for the lease, place %zu", i + 1);
		add_row(t, guest, who, text);
	}
}

/* The names of all guests, or the one that was asked for, as an array. */
static struct json_object *
guests_to_ask(struct call *call, struct link *link, struct cij_error *err)
{
	struct json_object *names = json_object_new_array();
	_cleanup_reply_ struct reply r = {0};
	size_t n;

	if (call->guest) {
		json_object_array_add(names, json_object_new_string(call->guest));
		return names;
	}
	if (link_call(link, "query-guests", NULL, &r, err) < 0) {
		json_object_put(names);
		return NULL;
	}
	n = cij_json_length(r.value);
	for (size_t i = 0; i < n; i++) {
		const char *name = cij_json_str(json_object_array_get_idx(r.value, i), "guest");

		if (name)
			json_object_array_add(names, json_object_new_string(name));
	}
	return names;
}

int
cmd_who(struct call *call, struct cij_error *err)
{
	static const char *const heading[] = {"GUEST", "USER", "PID", "WHAT", "IDLE"};
	_cleanup_table_ struct table t = {.n_columns = cij_array_size(heading)};
	double seconds = call->timeout < 0 ? WHO_SECONDS : call->timeout;
	_cleanup_json_ struct json_object *names = NULL, *all = json_object_new_array();
	_cleanup_link_ struct link link = LINK_INIT;

	if (link_open(&link, call->socket, clock_deadline(seconds), err) < 0)
		return -1;
	names = guests_to_ask(call, &link, err);
	if (!names)
		return -1;
	for (size_t i = 0; i < cij_array_size(heading); i++)
		table_add(&t, heading[i], NULL);
	for (size_t i = 0; i < json_object_array_length(names); i++) {
		const char *name = json_object_get_string(json_object_array_get_idx(names, i));
		_cleanup_reply_ struct reply r = {0};

		if (link_call(&link, "console-who", guest_arguments(name), &r, err) < 0) {
			if (!call->guest && err->class == CIJ_E_GUEST_NOT_FOUND)
				continue; /* gone since */
			return -1;
		}
		add_guest(&t, r.value);
		json_object_array_add(all, json_object_get(r.value));
		if (call->json && call->guest)
			reply_print(&r);
	}
	if (call->json && !call->guest)
		printf("%s\n", json_object_to_json_string_ext(all,
				       JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	if (call->json)
		return 0;
	table_print(&t, out_colours(stdout));
	if (t.n_cells == cij_array_size(heading))
		out_note("nobody is at %s", call->guest ? call->guest : "any guest");
	return 0;
}
