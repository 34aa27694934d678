#include "client/lease.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/out.h"
#include "client/view.h"

const char *
lease_holder(struct json_object *lease)
{
	const char *user = cij_json_str(lease, "user");
	int64_t uid = cij_json_int(lease, "uid", -1);

	return user ? user : uid < 0 ? "-" : user_name(uid);
}

void
lease_tell_event(const char *guest, struct json_object *data)
{
	const char *what = cij_json_str(data, "what"), *until = cij_json_str(data, "until");
	const char *why = cij_json_str(data, "why");
	int64_t uid = cij_json_int(data, "uid", -1);
	bool own = uid == (int64_t)getuid();

	if (!what)
		return;
	if (strcmp(what, "stolen") == 0 && own)
		out_note("[%s: your lease was taken by %s: %s]", guest,
			user_name(cij_json_int(data, "by_uid", -1)), why ? why : "");
	else if (strcmp(what, "acquired") == 0 && !own)
		out_note("[%s: leased by %s%s%s%s%s: you only watch]", guest, user_name(uid),
			until ? " until " : "", until ? until : "", why ? ", for: " : "",
			why ? why : "");
	else if (own && (strcmp(what, "expired") == 0 || strcmp(what, "process-ended") == 0))
		out_note("[%s: your lease has ended]", guest);
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
