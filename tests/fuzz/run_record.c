/*
 * The record of a run, as the next daemon finds it: whatever the file holds, what was read of it is
 * the same when it has been written and read again.
 */
#include "tests/fuzz/files.h"

#include "daemon/run.h"

static bool
same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool
same_json(struct json_object *a, struct json_object *b)
{
	return same_text(json_object_to_json_string_ext(a, JSON_C_TO_STRING_PLAIN),
		json_object_to_json_string_ext(b, JSON_C_TO_STRING_PLAIN));
}

static void
check_same(const struct run *a, const struct run *b)
{
	if (!same_text(a->qemu, b->qemu) || !same_text(a->version, b->version) ||
		!same_text(a->dialect, b->dialect) || !same_text(a->accel_why, b->accel_why) ||
		!same_text(a->error, b->error) || !same_json(a->argv, b->argv) ||
		!same_json(a->config, b->config) || !same_json(a->devices, b->devices))
		abort();
	if (a->kvm != b->kvm || a->port != b->port || a->by_uid != b->by_uid ||
		a->by_pid != b->by_pid || a->automatic != b->automatic || a->paused != b->paused ||
		a->started != b->started || a->ended != b->ended || a->up != b->up ||
		a->up_at != b->up_at || a->kill_at != b->kill_at ||
		a->restart_at != b->restart_at || a->asked != b->asked ||
		a->boot_ms != b->boot_ms || a->reason != b->reason || a->frozen != b->frozen)
		abort();
	if (a->has_exit != b->has_exit || a->exit.known != b->exit.known ||
		a->exit.signaled != b->exit.signaled || a->exit.code != b->exit.code)
		abort();
	/* Times of another boot are not read: they are gone with the first reading. */
	if (a->backoff.restarts != b->backoff.restarts || a->backoff.streak != b->backoff.streak ||
		a->backoff.gave_up != b->backoff.gave_up ||
		memcmp(a->backoff.failures, b->backoff.failures, sizeof(a->backoff.failures)) != 0)
		abort();
}

/* What the daemon goes on with must be within the bounds that it keeps to itself. */
static void
check_bounds(const struct run *run)
{
	struct json_object *how = run_exit_to_json(run->has_exit, &run->exit);

	json_object_put(how);
	if (run->port < 0 || run->port > 65535 || (unsigned)run->asked > RUN_ASKED_HOST_SHUTDOWN ||
		run->has_exit != (how != NULL) || (run->has_exit && run->exit.code < 0))
		abort();
	for (size_t i = 0; i < BACKOFF_FAILURES; i++)
		if (!(run->backoff.failures[i] >= 0 && run->backoff.failures[i] < 1e12))
			abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run run, again;
	struct cij_error err;
	int folder = files_folder();
	_cleanup_close_ int logs = dir_make_at(folder, "logs", 0755);

	files_put_of_this_boot(logs, "0001.run.json", data, size);
	if (run_load(folder, 1, &run) == 0) {
		check_bounds(&run);
		run.number = 2;
		if (run_save(folder, &run, &err) < 0 || run_load(folder, 2, &again) < 0)
			abort();
		check_same(&run, &again);
		if (!again.this_boot)
			abort();
		run_clear(&again);
	}
	run_clear(&run);
	return 0;
}
