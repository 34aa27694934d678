/* host up|down: the guests as the host comes and goes; what cijqemu-guests.service calls. */
#include <stdlib.h>
#include <string.h>

#include "cijqemu/protocol.h"
#include "client/args.h"
#include "client/link.h"
#include "client/out.h"

/* Guests boot a few at a time, and have a minute to power off. */
#define HOST_SECONDS 600

static void
tell(struct json_object *guests)
{
	size_t n = cij_json_length(guests);

	for (size_t i = 0; i < n; i++) {
		struct json_object *guest = json_object_array_get_idx(guests, i);
		const char *name = cij_json_str(guest, "guest"),
			   *error = cij_json_str(guest, "error");
		const char *state = cij_json_str(guest, "state");

		out_note("%s: %s%s%s", name ? name : "?", state ? state : "gone", error ? ": " : "",
			error ? error : "");
	}
	if (n == 0)
		out_note("no guest to do this to");
}

/* The first failure's exit code, as for several guests of any command. */
static int
exit_code_of(struct json_object *guests)
{
	size_t n = cij_json_length(guests);

	for (size_t i = 0; i < n; i++)
		if (cij_json_str(json_object_array_get_idx(guests, i), "error"))
			return EXIT_FAILURE;
	return EXIT_SUCCESS;
}

int
cmd_host(struct call *call, struct cij_error *err)
{
	_cleanup_reply_ struct reply r = {0};
	bool up = strcmp(call->operands[0], "up") == 0;
	struct json_object *args, *guests;
	double force_after;
	const char *text;
	size_t len;

	if (!up && strcmp(call->operands[0], "down") != 0)
		return call_usage(call, err, "'up' or 'down', not '%s'", call->operands[0]);
	if (up && call_has(call, "force-after"))
		return call_usage(call, err, "--force-after goes with 'down'");
	if (call_seconds(call, "force-after", CIJ_FORCE_AFTER_SECONDS, &force_after, err) < 0)
		return -1;
	args = json_object_new_object();
	if (!up)
		json_object_object_add(args, "force_after", json_object_new_double(force_after));
	if (call_daemon(call, HOST_SECONDS, up ? "host-up" : "host-down", args, &r, err) < 0)
		return -1;
	guests = cij_json_get(r.value, "guests");
	if (call->json) {
		text = reply_text(&r, &len);
		out_json(text, len, true);
	} else {
		tell(guests);
	}
	return exit_code_of(guests);
}
