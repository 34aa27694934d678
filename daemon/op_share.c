/* Whom a guest is shared with: guest.json's "share", changed name by name. */
#include <ctype.h>
#include <string.h>

#include "daemon/op.h"
#include "proto/text.h"

struct share_args {
	char *guest;
	struct cij_list add, remove;
};
#define SHARE_FIELD(name_, doc_) \
	{ \
		.name = #name_, .type = CIJ_T_STRS, .offset = offsetof(struct share_args, name_), \
		.max = 256, .doc = doc_ \
	}
static const struct cij_field share_fields[] = {
	OP_GUEST_FIELD(share_args),
	SHARE_FIELD(add, "users (\"anna\") and groups (\"@storage\") to let in; digits are an id"),
	SHARE_FIELD(remove, "those to shut out again"),
};
static const struct cij_table share_table = CIJ_TABLE(share_fields, struct share_args, NULL);

/* Where @name stands in the array @list; -1: not. */
static long
find(struct json_object *list, const char *name)
{
	size_t n = json_object_array_length(list);

	for (size_t i = 0; i < n; i++) {
		const char *is = json_object_get_string(json_object_array_get_idx(list, i));

		if (is && strcmp(is, name) == 0)
			return (long)i;
	}
	return -1;
}

/* A name that no account can have is a slip of the pen, not somebody to let in later. */
static int
check_name(const char *share, struct cij_error *err)
{
	const char *name = share[0] == '@' ? share + 1 : share;
	bool control = false;
	char clean[64];

	for (const char *c = name; *c && !control; c++)
		control = iscntrl((unsigned char)*c);
	if (*name && !control && !strpbrk(name, ":/@, \t") && !strchr("-+.~", *name))
		return 0;
	cij_error_set(err, CIJ_E_BAD_REQUEST, "'%s' names no user or group",
		cij_text_clean(share, clean, sizeof(clean)));
	return cij_error_hint(err, "a user is 'anna', a group '@storage'");
}

static int
change(const struct share_args *args, struct json_object *list, struct cij_error *err)
{
	char **add = args->add.items, **remove = args->remove.items;

	for (size_t i = 0; i < args->add.n; i++) {
		if (check_name(add[i], err) < 0)
			return -1;
		if (find(list, add[i]) < 0)
			json_object_array_add(list, json_object_new_string(add[i]));
	}
	for (size_t i = 0; i < args->remove.n; i++) {
		long at = find(list, remove[i]);

		if (at < 0)
			return cij_error_set(err, CIJ_E_BAD_REQUEST, "'%s' is not shared with '%s'",
				args->guest, remove[i]);
		json_object_array_del_idx(list, (size_t)at, 1);
	}
	return 0;
}

static void
guest_share(struct request *request)
{
	struct share_args *args = request->args;
	struct json_object *list, *reply;
	struct cij_error err;
	_cleanup_json_ struct json_object *config = guest_config_begin(request->guest, &err);

	if (!config) {
		request_fail(request, &err);
		return;
	}
	list = cij_json_get(config, "share");
	if (!json_object_is_type(list, json_type_array)) {
		list = json_object_new_array();
		json_object_object_add(config, "share", list);
	}
	if (change(args, list, &err) < 0 || guest_config_write(request->guest, config, &err) < 0) {
		request_fail(request, &err);
		return;
	}
	guest_refresh(request->guest);
	guest_review_access(request->guest);
	reply = json_object_new_object();
	cij_json_add_str(reply, "guest", request->guest_name);
	json_object_object_add(reply, "share", json_object_get(list));
	request_reply(request, reply);
}

const struct op op_guest_share = {
	.name = "guest-share",
	.verb = "share",
	.access = ACCESS_OWN,
	.takes_guest = true,
	.changes = true,
	.despite_lease = true,
	.table = &share_table,
	.run = guest_share,
	.doc = "let users and groups operate a guest, from now on",
};
