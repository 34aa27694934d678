/* doctor: what the client sees by itself: the caller's groups and keys, the environment. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/doctor.h"
#include "client/variables.h"
#include "client/view.h"

extern char **environ;

#define GROUPS_MAX 1024

static bool
has_gid(const gid_t *groups, int n, gid_t gid)
{
	for (int i = 0; i < n; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/* Whether this process has the group: @named, whether the user database gives it to the user. */
static bool
in_group(gid_t gid, bool *named)
{
	const struct passwd *me = getpwuid(getuid());
	gid_t groups[GROUPS_MAX];
	int n = GROUPS_MAX;
	bool has;

	*named = me && getgrouplist(me->pw_name, me->pw_gid, groups, &n) > 0 &&
		 has_gid(groups, n, gid);
	n = getgroups(GROUPS_MAX, groups);
	has = getegid() == gid || has_gid(groups, n < 0 ? 0 : n, gid);
	return has;
}

static void
check_group(struct doctor *doctor, const char *name, const char *what, bool matters)
{
	const struct group *group = getgrnam(name);
	const char *me = user_name(getuid());
	bool named;

	if (!group) {
		doctor_find(doctor, LEVEL_NOTE, "group", name, "is not on this machine: %s", what);
		doctor_fix(doctor, "%sgroupadd --system %s", doctor_sudo(), name);
	} else if (in_group(group->gr_gid, &named)) {
		doctor_find(doctor, LEVEL_OK, "group", name, "%s is in it", me);
	} else if (named) {
		doctor_find(doctor, LEVEL_NOTE, "group", name,
			"%s was put into it, but not this session yet", me);
		doctor_fix(doctor, "newgrp %s, or log in anew", name);
	} else if (matters) {
		doctor_find(doctor, LEVEL_NOTE, "group", name, "%s is not in it: %s", me, what);
		doctor_fix(
			doctor, "%susermod -aG %s %s, then log in anew", doctor_sudo(), name, me);
	} else {
		doctor_find(doctor, LEVEL_OK, "group", name, "%s is not in it: %s", me, what);
	}
}

/* Root needs none, nor who has a daemon of their own. */
void
doctor_check_groups(struct doctor *doctor)
{
	struct json_object *groups = cij_json_get(doctor->host, "groups");
	const char *users = cij_json_str(cij_json_get(groups, "users"), "name");
	const char *admins = cij_json_str(cij_json_get(groups, "admins"), "name");

	if (getuid() == 0 || cij_json_bool(doctor->host, "user_only", false))
		return;
	check_group(doctor, users ? users : "cijqemu",
		"only its members may use the machine's daemon", true);
	check_group(doctor, admins ? admins : "cijqemu-admin",
		"its members may do all to every guest", false);
}

static void
check_key(struct doctor *doctor, struct json_object *folder)
{
	const char *key = cij_json_str(folder, "ssh_key"), *guest = cij_json_str(folder, "guest");
	bool mine = cij_json_int(folder, "uid", -1) == (int64_t)getuid();
	struct stat st;

	if (!key)
		return;
	_cleanup_free_ char *word = doctor_word(key);

	if (access(key, R_OK) < 0) {
		doctor_find(doctor, mine ? LEVEL_FAIL : LEVEL_NOTE, "key", guest,
			"'%s' cannot be read: %s; 'shell' and 'exec' have to do without", key,
			strerror(errno));
		if (errno == ENOENT)
			doctor_fix(doctor,
				"cijqemuctl set %s ssh.key=null, or make one: ssh-keygen "
				"-N '' -f %s",
				guest, word);
		else
			doctor_fix(doctor, "%schmod u+r %s (others use a key of their own)",
				mine ? "" : doctor_sudo(), word);
	} else if (stat(key, &st) == 0 && st.st_uid == getuid() && st.st_mode & 077) {
		doctor_find(doctor, LEVEL_NOTE, "key", guest,
			"others may read '%s' (mode %04o): ssh and scp refuse such a key", key,
			st.st_mode & 07777);
		doctor_fix(doctor, "chmod 600 %s", word);
	}
}

void
doctor_check_keys(struct doctor *doctor)
{
	struct json_object *list = cij_json_get(doctor->host, "folders");
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n; i++)
		check_key(doctor, json_object_array_get_idx(list, i));
}

/* The first of "$QEMU_HOME", CIJOE's usual place and the PATH, as the daemon looks for it. */
static char *
local_qemu(void)
{
	static const char binary[] = "qemu-system-x86_64";
	const char *home = getenv("QEMU_HOME"), *path = getenv("PATH");
	char *file = NULL;

	if (!home || !*home)
		home = access("/opt/qemu-nvme/bin/qemu-system-x86_64", X_OK) == 0 ? "/opt/qemu-nvme"
										  : NULL;
	if (home) {
		if (asprintf(&file, "%s/bin/%s", home, binary) < 0)
			abort();
		return file;
	}
	while (path && *path) {
		size_t n = strcspn(path, ":");

		if (asprintf(&file, "%.*s/%s", (int)n, path, binary) < 0)
			abort();
		if (access(file, X_OK) == 0)
			return file;
		free(file);
		path += n + (path[n] == ':');
	}
	return NULL;
}

/* Only where there is no daemon to ask, which has the last word. */
void
doctor_check_local_qemu(struct doctor *doctor)
{
	_cleanup_free_ char *file = NULL;

	if (!doctor->no_daemon)
		return;
	file = local_qemu();
	if (!file || access(file, X_OK) < 0) {
		doctor_find(doctor, LEVEL_FAIL, "qemu", file, "%s",
			file ? strerror(errno) : "no qemu-system-x86_64 on the PATH");
		doctor_fix(doctor, "%sapt-get install qemu-system-x86, or set QEMU_HOME",
			doctor_sudo());
	} else {
		doctor_find(
			doctor, LEVEL_OK, "qemu", file, "is what a daemon started here would use");
	}
}

void
doctor_check_local_kvm(struct doctor *doctor)
{
	if (!doctor->no_daemon)
		return;
	if (access("/dev/kvm", R_OK | W_OK) == 0) {
		doctor_find(doctor, LEVEL_OK, "kvm", "/dev/kvm", "this user may use it");
		return;
	}
	doctor_find(doctor, LEVEL_NOTE, "kvm", "/dev/kvm", "%s: a daemon of this user's uses TCG",
		strerror(errno));
	if (errno == ENOENT)
		doctor_fix(doctor, "%smodprobe kvm_intel || %smodprobe kvm_amd", doctor_sudo(),
			doctor_sudo());
	else
		doctor_fix(doctor, "%susermod -aG kvm %s, then log in anew", doctor_sudo(),
			user_name(getuid()));
}

/* Whether @a and @b are the same folder. */
static bool
same_folder(const char *a, const char *b)
{
	struct stat one, two;

	return strcmp(a, b) == 0 || (stat(a, &one) == 0 && stat(b, &two) == 0 &&
					    one.st_ino == two.st_ino && one.st_dev == two.st_dev);
}

/* A variable of the environment that names what the daemon has by another name. */
static void
check_against(struct doctor *doctor, const char *name, const char *option, const char *daemons)
{
	const char *value = getenv(name);

	if (!value || !*value || !doctor->daemon || doctor->call->host)
		return;
	if (daemons && same_folder(value, daemons)) {
		doctor_find(doctor, LEVEL_OK, "environment", name, "is the daemon's");
		return;
	}
	doctor_find(doctor, LEVEL_NOTE, "environment", name,
		"is '%s', but the daemon has %s%s%s: what it names does not count", value,
		daemons ? "'" : "none", daemons ? daemons : "", daemons ? "'" : "");
	if (daemons) {
		_cleanup_free_ char *word = doctor_word(daemons);

		doctor_fix(doctor, "export %s=%s, or run the daemon with %s", name, word, option);
	} else {
		doctor_fix(doctor, "unset %s, or run the daemon with %s", name, option);
	}
}

static void
check_guest_name(struct doctor *doctor)
{
	const char *name = getenv("QEMU_GUEST_NAME");
	_cleanup_reply_ struct reply r = {0};
	struct cij_error err = CIJ_ERROR_INIT;

	if (!name || !*name || !doctor->daemon)
		return;
	if (call_daemon(doctor->call, DOCTOR_SECONDS, "query-guest", guest_arguments(name), &r,
		    &err) == 0) {
		doctor_find(doctor, LEVEL_OK, "environment", "QEMU_GUEST_NAME",
			"guest '%s' is there", name);
		return;
	}
	doctor_find(doctor, LEVEL_FAIL, "environment", "QEMU_GUEST_NAME",
		"commands that name no guest mean '%s': %s", name, err.desc);
	doctor_fix(doctor, "cijqemuctl import, or unset QEMU_GUEST_NAME");
}

/* Whether a variable does nothing here: @why. Those that are looked at by themselves do. */
static bool
is_dead(const struct variable *v, const char **why)
{
	bool newer = getenv("QEMU_DEV_ID") || getenv("QEMU_OCSSD");

	*why = v->key;
	if (v->era == ERA_2018 && newer) {
		*why = "the drive is defined by the newer QEMU_DEV_* and QEMU_OCSSD*";
		return true;
	}
	return v->use == USE_NOT && strcmp(v->name, "QEMU_GUESTS") != 0 &&
	       strncmp(v->name, "QEMU_HOST", 9) != 0;
}

static void
check_variable(struct doctor *doctor, const char *name)
{
	const struct variable *v = variable_find(name);
	const char *near, *why;

	if (!v && strncmp(name, "QEMU_", 5) == 0) {
		near = variable_nearest(name);
		doctor_find(doctor, LEVEL_NOTE, "environment", name,
			"no such variable was ever used%s%s%s", near ? ": did you mean " : "",
			near ? near : "", near ? "?" : "");
		doctor_fix(doctor, "unset %s", name);
	} else if (v && is_dead(v, &why)) {
		doctor_find(doctor, LEVEL_NOTE, "environment", name, "does nothing: %s", why);
		doctor_fix(doctor, "unset %s", name);
	}
}

void
doctor_check_environment(struct doctor *doctor)
{
	for (char **e = environ; *e; e++) {
		char name[128];

		snprintf(name, sizeof(name), "%.*s", (int)strcspn(*e, "="), *e);
		if ((*e)[strcspn(*e, "=")] && (*e)[strcspn(*e, "=") + 1])
			check_variable(doctor, name);
	}
	check_against(
		doctor, "QEMU_GUESTS", "--guests", cij_json_str(doctor->daemon, "guests_dir"));
	check_against(
		doctor, "QEMU_HOME", "--qemu-home", cij_json_str(doctor->daemon, "qemu_home"));
	check_guest_name(doctor);
}
