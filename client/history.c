#include "client/history.h"

#include <stdio.h>

#include "client/args.h"
#include "client/link.h"
#include "client/out.h"
#include "client/view.h"
#include "proto/text.h"

#define HISTORY_SECONDS 30

/* "2026-11-22T10:40:05Z anna (pid 4711) guest-start emujoe: done (1.2 s)" */
static void
print_entry(struct json_object *entry)
{
	const char *time = cij_json_str(entry, "time"), *guest = cij_json_str(entry, "guest");
	const char *user = cij_json_str(entry, "user"), *result = cij_json_str(entry, "result");
	const char *operation = cij_json_str(entry, "operation");
	const char *error = cij_json_str(entry, "error");
	char line[2048], clean[2048], times[48] = "";

	if (cij_json_int(entry, "times", 1) > 1)
		snprintf(times, sizeof(times), ", %lld times in a row",
			(long long)cij_json_int(entry, "times", 1));
	snprintf(line, sizeof(line), "%s %s (pid %lld) %s%s%s: %s%s%s (%.1f s%s)",
		time ? time : "?", user ? user : user_name(cij_json_int(entry, "uid", -1)),
		(long long)cij_json_int(entry, "pid", 0), operation ? operation : "?",
		guest ? " " : "", guest ? guest : "", result ? result : "?", error ? ": " : "",
		error ? error : "", (double)cij_json_int(entry, "ms", 0) / 1000, times);
	puts(cij_text_clean(line, clean, sizeof(clean)));
}

int
history_print(struct call *call, struct json_object *args, struct cij_error *err)
{
	_cleanup_reply_ struct reply r = {0};
	int64_t lines;

	if (call_number(call, "lines", 0, &lines, err) < 0) {
		json_object_put(args);
		return -1;
	}
	if (call_has(call, "lines"))
		cij_json_add_int(args, "limit", lines);
	if (call_daemon(call, HISTORY_SECONDS, "query-history", args, &r, err) < 0)
		return -1;
	if (!json_object_is_type(r.value, json_type_array))
		return cij_error_set(err, CIJ_E_PROTOCOL, "the daemon's history is no array");
	if (call->json) {
		reply_print(&r);
		return 0;
	}
	for (size_t i = 0; i < json_object_array_length(r.value); i++)
		print_entry(json_object_array_get_idx(r.value, i));
	if (json_object_array_length(r.value) == 0)
		out_note("nothing is known to have been done");
	return 0;
}
