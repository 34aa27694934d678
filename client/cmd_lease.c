/* lease, release: a guest to oneself, until a time or while a process runs. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "client/args.h"
#include "client/clock.h"
#include "client/duration.h"
#include "client/lease.h"
#include "client/link.h"
#include "client/out.h"
#include "client/table.h"
#include "client/view.h"
#include "proto/text.h"

#define LEASE_SECONDS 30

/* How long a daemon that went away is waited for, and how often it is looked for. */
#define AWAY_SECONDS 15
#define RETRY_MS 200

static int
list_leases(struct call *call, struct cij_error *err)
{
	static const char *const heading[] = {"GUEST", "HOLDER", "UNTIL", "WAITING", "WHY"};
	_cleanup_table_ struct table t = {.n_columns = cij_array_size(heading)};
	_cleanup_reply_ struct reply r = {0};
	size_t n;

	if (call_daemon(call, LEASE_SECONDS, "query-leases", NULL, &r, err) < 0)
		return -1;
	if (!json_object_is_type(r.value, json_type_array))
		return cij_error_set(
			err, CIJ_E_PROTOCOL, "the daemon's list of leases is no array");
	if (call->json) {
		reply_print(&r);
		return 0;
	}
	n = json_object_array_length(r.value);
	for (size_t i = 0; i < cij_array_size(heading); i++)
		table_add(&t, heading[i], NULL);
	for (size_t i = 0; i < n; i++) {
		struct json_object *lease = json_object_array_get_idx(r.value, i);
		struct json_object *queue = cij_json_get(lease, "queue");
		const char *guest = cij_json_str(lease, "guest"), *why = cij_json_str(lease, "why");
		char text[256];

		table_add(&t, guest ? guest : "?", NULL);
		table_add(&t, lease_holder(lease), NULL);
		table_add(&t, lease_end_text(lease, text, sizeof(text)), NULL);
		snprintf(text, sizeof(text), "%zu", cij_json_length(queue));
		table_add(&t, text, NULL);
		table_add(&t, why ? why : "-", NULL);
	}
	table_print(&t, out_colours(stdout));
	if (n == 0)
		out_note("no guest is leased");
	return 0;
}

/* The guest that is meant; one is needed from here on. */
static int
need_guest(struct call *call, struct cij_error *err)
{
	const char *env = getenv("QEMU_GUEST_NAME");

	if (!call->guest && env && *env)
		call->guest = env;
	if (call->guest)
		return cij_guest_name_check(call->guest, err);
	return call_usage(call, err, "which guest? None is named, nor is QEMU_GUEST_NAME set");
}

/* Puts a flag of the command line into the arguments. */
static void
add_flag(const struct call *call, const char *name, struct json_object *args)
{
	if (call_has(call, name))
		cij_json_add_bool(args, name, true);
}

static int
check_steal(const struct call *call, struct cij_error *err)
{
	if (call_has(call, "steal") && !call_value(call, "message"))
		return call_usage(
			call, err, "--steal needs a reason, which the holder is shown: -m REASON");
	return 0;
}

/* The arguments of 'lease-acquire'; NULL and Usage. */
static struct json_object *
acquire_arguments(const struct call *call, pid_t command, struct cij_error *err)
{
	const char *span = call_value(call, "for");
	_cleanup_json_ struct json_object *args = guest_arguments(call->guest);
	int64_t seconds = 0, pid = 0;

	if (span && (duration_parse(span, &seconds) < 0 || seconds == 0)) {
		call_usage(call, err, "--for takes a span such as 30m, 2h or 1d, not '%s'", span);
		return NULL;
	}
	if (check_steal(call, err) < 0 || call_number(call, "while", 0, &pid, err) < 0)
		return NULL;
	if (call_has(call, "while") && command) {
		call_usage(call, err, "--while, or a command to run, but not both");
		return NULL;
	}
	if (call_has(call, "while") && (pid < 1 || pid > INT32_MAX)) {
		call_usage(call, err, "--while takes the number of a process");
		return NULL;
	}
	if (command)
		pid = command;
	if (seconds)
		json_object_object_add(args, "seconds", json_object_new_int64(seconds));
	if (pid)
		cij_json_add_int(args, "pid", pid);
	if (call_has(call, "message"))
		cij_json_add_str(args, "why", call_value(call, "message"));
	add_flag(call, "steal", args);
	add_flag(call, "reset", args);
	return steal_ptr(args);
}

/* Waits for the turn, over a restart of the daemon too: it keeps the place for a while. */
static int
wait_for_turn(struct call *call, struct json_object *args, struct reply *r, struct cij_error *err)
{
	int64_t away = 0, deadline = call_deadline(call, 0);

	cij_json_add_bool(args, "wait", true);
	for (;;) {
		int64_t began = clock_ms();
		int rc = call_daemon(call, 0, "lease-acquire", json_object_get(args), r, err);

		if (rc == 0 || err->class != CIJ_E_UNREACHABLE || clock_left(deadline) == 0)
			return rc;
		if (clock_ms() - began > RETRY_MS || !away) {
			out_note("the daemon went away; waiting for it to come back");
			away = clock_ms();
		}
		if (clock_ms() - away > AWAY_SECONDS * 1000)
			return -1;
		(void)poll(NULL, 0, RETRY_MS);
	}
}

int
lease_acquire(struct call *call, pid_t command, struct reply *r, struct cij_error *err)
{
	_cleanup_json_ struct json_object *args = acquire_arguments(call, command, err);

	if (!args)
		return -1;
	if (call_daemon(call, LEASE_SECONDS, "lease-acquire", json_object_get(args), r, err) == 0)
		return 0;
	if (err->class != CIJ_E_LEASED || !call_has(call, "wait"))
		return -1;
	out_note("%s; waiting", err->desc);
	return wait_for_turn(call, args, r, err);
}

static void
tell_lease(const struct call *call, struct json_object *lease)
{
	const char *how = cij_json_str(lease, "how");
	char text[256];

	out_note("%s: %s %s", call->guest,
		how && strcmp(how, "kept") == 0 ? "leased by you already," : "leased",
		lease_end_text(lease, text, sizeof(text)));
}

int
cmd_lease(struct call *call, struct cij_error *err)
{
	_cleanup_reply_ struct reply r = {0};

	if (!call->guest && call->n_args == 0 && !call_has(call, "for") &&
		!call_has(call, "while") && !call_has(call, "steal"))
		return list_leases(call, err);
	if (need_guest(call, err) < 0)
		return -1;
	if (call->n_args > 0)
		return lease_run(call, err);
	if (lease_acquire(call, 0, &r, err) < 0)
		return -1;
	if (call->json)
		reply_print(&r);
	else
		tell_lease(call, r.value);
	return 0;
}

int
cmd_release(struct call *call, struct cij_error *err)
{
	struct json_object *args = guest_arguments(call->guest);
	_cleanup_reply_ struct reply r = {0};
	const char *how;

	if (check_steal(call, err) < 0) {
		json_object_put(args);
		return -1;
	}
	if (call_has(call, "message"))
		cij_json_add_str(args, "why", call_value(call, "message"));
	add_flag(call, "steal", args);
	add_flag(call, "reset", args);
	if (call_daemon(call, LEASE_SECONDS, "lease-release", args, &r, err) < 0)
		return -1;
	how = cij_json_str(r.value, "how");
	if (call->json)
		reply_print(&r);
	else if (how && strcmp(how, "not-leased") == 0)
		out_note("%s: was not leased", call->guest);
	else if (cij_json_bool(r.value, "resetting", false))
		out_note("%s: released; it is stopped and its drives are formatted", call->guest);
	else
		out_note("%s: released", call->guest);
	return 0;
}
