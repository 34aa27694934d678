#include "client/lease.h"

#include <stdio.h>

#include "client/view.h"

const char *
lease_holder(struct json_object *lease)
{
	const char *user = cij_json_str(lease, "user");
	int64_t uid = cij_json_int(lease, "uid", -1);

	return user ? user : uid < 0 ? "-" : user_name(uid);
}

const char *
lease_end_text(struct json_object *lease, char *buf, size_t size)
{
	const char *until = cij_json_str(lease, "until");
	int64_t pid = cij_json_int(lease, "pid", 0);

	if (cij_json_bool(lease, "resetting", false))
		snprintf(buf, size, "being reset");
	else if (until && pid)
		snprintf(buf, size, "until %s, while process %lld runs", until, (long long)pid);
	else if (pid)
		snprintf(buf, size, "while process %lld runs", (long long)pid);
	else
		snprintf(buf, size, "%s%s", until ? "until " : "-", until ? until : "");
	return buf;
}
