#include "client/view.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>

/* Users whose names are kept: more owners than that on one machine are looked up again. */
#define NAMES_MAX 64

/* Where the name service has no name for so many uids, it is asked no more. */
#define NSS_MISSES_MAX 16

const char *
view_state(struct json_object *view)
{
	const char *state = cij_json_str(view, "state");

	return state ? state : "unknown";
}

bool
view_is_live(struct json_object *view)
{
	const char *state = view_state(view);

	return strcmp(state, "stopped") != 0 && strcmp(state, "broken") != 0;
}

const char *
view_state_colour(const char *state)
{
	static const struct {
		const char *state, *colour;
	} colours[] = {
		{"running", "32"},
		{"paused", "36"},
		{"starting", "33"},
		{"stopping", "33"},
		{"stopped", "2"},
		{"broken", "31"},
	};

	for (size_t i = 0; i < cij_array_size(colours); i++)
		if (strcmp(colours[i].state, state) == 0)
			return colours[i].colour;
	return NULL;
}

/*
 * The user's name from /etc/passwd itself: getpwuid() loads NSS modules, which takes longer than
 * all else that 'list' does. NULL when it is not there.
 */
static char *
name_from_file(int64_t uid)
{
	_cleanup_fclose_ FILE *f = fopen("/etc/passwd", "re");
	struct passwd *pw;

	while (f && (pw = fgetpwent(f)))
		if (pw->pw_uid == (uid_t)uid)
			return strdup(pw->pw_name);
	return NULL;
}

const char *
user_name(int64_t uid)
{
	static struct {
		int64_t uid;
		char *name;
	} names[NAMES_MAX];
	static size_t n, last, misses;
	struct passwd *pw;
	char *name;

	for (size_t i = 0; i < n; i++)
		if (names[i].uid == uid)
			return names[i].name;
	name = name_from_file(uid);
	if (!name && misses < NSS_MISSES_MAX) {
		pw = getpwuid((uid_t)uid);
		misses = pw ? 0 : misses + 1;
		name = pw ? strdup(pw->pw_name) : NULL;
	}
	if (!name && asprintf(&name, "%lld", (long long)uid) < 0)
		abort();
	last = n < NAMES_MAX ? n++ : (last + 1) % NAMES_MAX;
	free(names[last].name);
	names[last].uid = uid;
	names[last].name = name;
	return name;
}

const char *
view_owner(struct json_object *view)
{
	struct json_object *owner = cij_json_get(view, "owner");
	const char *name = cij_json_str(owner, "name");
	int64_t uid = cij_json_int(owner, "uid", -1);

	return name ? name : uid < 0 ? "-" : user_name(uid);
}

int64_t
view_ssh_port(struct json_object *view)
{
	return cij_json_int(cij_json_get(view, "ssh"), "port", 0);
}

const char *
duration_text(int64_t s, char *buf, size_t size)
{
	long long n = s < 0 ? 0 : s;

	if (n < 60)
		snprintf(buf, size, "%llds", n);
	else if (n < 3600)
		snprintf(buf, size, "%lldm%02llds", n / 60, n % 60);
	else if (n < 86400)
		snprintf(buf, size, "%lldh%02lldm", n / 3600, n / 60 % 60);
	else
		snprintf(buf, size, "%lldd%02lldh", n / 86400, n / 3600 % 24);
	return buf;
}

/* Writes how the last run's process ended, "" where that says nothing. */
static void
exit_text(struct json_object *view, char *buf, size_t size)
{
	struct json_object *how = cij_json_get(view, "exit");
	const char *name = cij_json_str(how, "name");
	int64_t code = cij_json_int(how, "code", 0), signal = cij_json_int(how, "signal", 0);

	buf[0] = '\0';
	if (name)
		snprintf(buf, size, "%s", name);
	else if (signal)
		snprintf(buf, size, "signal %lld", (long long)signal);
	else if (code)
		snprintf(buf, size, "exit code %lld", (long long)code);
}

/* What the restart policy makes of it; "" where that is nothing. */
static const char *
restart_text(struct json_object *view, char *buf, size_t size)
{
	int64_t seconds = cij_json_int(view, "restart_in_s", -1);

	buf[0] = '\0';
	if (seconds >= 0)
		snprintf(buf, size, "; starts again in %lld s", (long long)seconds);
	else if (cij_json_bool(view, "gave_up", false))
		snprintf(buf, size, "; not started again after so many failures");
	return buf;
}

const char *
view_end_text(struct json_object *view, char *buf, size_t size)
{
	const char *reason = cij_json_str(view, "reason"), *error = cij_json_str(view, "error");
	char how[64], next[64];

	exit_text(view, how, sizeof(how));
	if (!reason)
		reason = "reason unknown";
	if (strcmp(reason, "killed") == 0) /* how the process ended is then our own doing */
		how[0] = '\0';
	snprintf(buf, size, "%s%s%s%s%s%s", reason, *how ? ": " : "", how, error ? ": " : "",
		error ? error : "", restart_text(view, next, sizeof(next)));
	return buf;
}

const char *
view_note(struct json_object *view, char *buf, size_t size)
{
	static const char *const bad[] = {"crashed", "panicked", "start-failed", "lost"};
	const char *reason = cij_json_str(view, "reason"), *error = cij_json_str(view, "error");
	const char *state = view_state(view);

	buf[0] = '\0';
	if (strcmp(state, "broken") == 0) {
		snprintf(buf, size, "%s", error ? error : reason ? reason : "");
		return buf;
	}
	if (cij_json_bool(view, "hung", false)) {
		snprintf(buf, size, "hung: QEMU does not answer");
		return buf;
	}
	if (view_is_live(view)) {
		if (cij_json_bool(view, "reset_loop", false))
			snprintf(buf, size, "resets itself over and over (%lld times)",
				(long long)cij_json_int(view, "resets", 0));
		else if (error)
			snprintf(buf, size, "%s", error);
		return buf;
	}
	for (size_t i = 0; reason && i < cij_array_size(bad); i++)
		if (strcmp(bad[i], reason) == 0)
			return view_end_text(view, buf, size);
	return buf;
}

const char *
view_summary(struct json_object *view, char *buf, size_t size)
{
	int64_t port = view_ssh_port(view);
	const char *state = view_state(view);

	if (!view_is_live(view) || port == 0)
		snprintf(buf, size, "%s", state);
	else
		snprintf(buf, size, "%s, ssh port %lld", state, (long long)port);
	return buf;
}
