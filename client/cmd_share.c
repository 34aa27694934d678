/* share: who else may operate a guest. */
#include <stdio.h>

#include "client/args.h"
#include "client/link.h"
#include "client/out.h"
#include "proto/text.h"

#define SHARE_SECONDS 30

/* All values of an option as an array. */
static void
add_names(const struct call *call, const char *option, struct json_object *args)
{
	struct json_object *names = json_object_new_array();
	const char *name;
	size_t at = 0;

	while ((name = call_each(call, option, &at)))
		json_object_array_add(names, json_object_new_string(name));
	json_object_object_add(args, option, names);
}

/* The list as 'query-guest' has it in the definition; NULL: shared with nobody. */
static struct json_object *
shares_of(struct json_object *value)
{
	struct json_object *shares = cij_json_get(value, "share");

	if (!shares)
		shares = cij_json_get(cij_json_get(value, "config"), "share");
	return json_object_is_type(shares, json_type_array) ? shares : NULL;
}

static void
print_shares(const struct call *call, struct json_object *shares)
{
	size_t n = shares ? json_object_array_length(shares) : 0;
	char clean[256];

	if (call->json) {
		const char *text = shares ? json_object_to_json_string_ext(
						    shares, JSON_C_TO_STRING_PLAIN)
					  : "[]";

		printf("%s\n", text);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		const char *name = json_object_get_string(json_object_array_get_idx(shares, i));

		printf("%s\n", cij_text_clean(name ? name : "", clean, sizeof(clean)));
	}
	if (n == 0)
		out_note("%s: shared with nobody; its owner and admins operate it", call->guest);
}

int
cmd_share(struct call *call, struct cij_error *err)
{
	struct json_object *args = guest_arguments(call->guest);
	bool change = call_has(call, "add") || call_has(call, "remove");
	_cleanup_reply_ struct reply r = {0};

	if (change) {
		add_names(call, "add", args);
		add_names(call, "remove", args);
	}
	if (call_daemon(
		    call, SHARE_SECONDS, change ? "guest-share" : "query-guest", args, &r, err) < 0)
		return -1;
	print_shares(call, shares_of(r.value));
	return 0;
}
