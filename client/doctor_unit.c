/* doctor: what systemd knows of the daemon, and its unit's sandbox against where guests live. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/doctor.h"

#define SERVICE "cijqemud.service"

/* What is asked about each unit; a constant, so that a shell may read it. */
#define SHOW \
	" show -p Id,LoadState,UnitFileState,ActiveState,SubState,Result,MainPID,ProtectHome," \
	"ProtectSystem,PrivateTmp,PrivateDevices,ReadWritePaths,ReadOnlyPaths," \
	"InaccessiblePaths " SERVICE \
	" cijqemud.socket cijqemud-ro.socket cijqemu-guests.service 2>/dev/null"

/* Why @path is closed to guests by the unit's option @option = @value. */
struct wall {
	const char *option, *value; /* the option closes its folders when it has this value */
	const char *folders; /* with blanks between them */
	const char *open; /* what it should say instead */
};

static const struct wall walls[] = {
	{"ProtectHome", "yes", "/home /root /run/user", "ProtectHome=no"},
	{"ProtectHome", "read-only", "/home /root /run/user", "ProtectHome=no"},
	{"ProtectHome", "tmpfs", "/home /root /run/user", "ProtectHome=no"},
	{"PrivateTmp", "yes", "/tmp /var/tmp", "PrivateTmp=no"},
	{"PrivateTmp", "disconnected", "/tmp /var/tmp", "PrivateTmp=no"},
	{"PrivateDevices", "yes", "/dev/kvm", "PrivateDevices=no"},
	{"ProtectSystem", "yes", "/usr /boot /efi", "ReadWritePaths="},
	{"ProtectSystem", "full", "/usr /boot /efi /etc", "ReadWritePaths="},
	{"ProtectSystem", "strict", "/", "ReadWritePaths="},
};

/* All that systemctl says, {unit: {property: value}}; NULL: it says nothing. */
static struct json_object *
ask_systemctl(bool user)
{
	FILE *f = popen(user ? "systemctl --user" SHOW : "systemctl" SHOW, "re");
	struct json_object *units = NULL, *unit = NULL;
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	ssize_t n;

	while (f && (n = getline(&line, &size, f)) > 0) {
		char *equals = strchr(line, '=');

		line[n - (line[n - 1] == '\n')] = '\0';
		if (!equals) {
			json_object_put(unit);
			unit = NULL;
			continue;
		}
		*equals++ = '\0';
		if (!unit)
			unit = json_object_new_object();
		json_object_object_add(unit, line, json_object_new_string(equals));
		if (!units)
			units = json_object_new_object();
		/* Id comes before or behind the others: the unit is known by it from then on. */
		if (strcmp(line, "Id") == 0)
			json_object_object_add(units, equals, json_object_get(unit));
	}
	json_object_put(unit);
	if (f && pclose(f) != 0 && units) {
		json_object_put(units);
		return NULL;
	}
	return units;
}

static const char *
property(struct json_object *unit, const char *name)
{
	const char *value = cij_json_str(unit, name);

	return value ? value : "";
}

/* Whether @path is one of the folders in the list @folders, or in one of them. */
static bool
is_under(const char *path, const char *folders)
{
	while (*folders) {
		size_t n = strcspn(folders, " ");
		const char *folder = folders;

		folders += n + (folders[n] == ' ');
		while (n > 0 && (*folder == '-' || *folder == '+')) /* systemd's marks */
			folder++, n--;
		if (n > 1 && folder[n - 1] == '/')
			n--;
		if (n == 1 && *folder == '/')
			return true;
		if (n > 0 && strncmp(path, folder, n) == 0 && (path[n] == '/' || !path[n]))
			return true;
	}
	return false;
}

static void
tell_wall(struct doctor *doctor, const char *path, const char *option, const char *value,
	const char *mend, const char *mend_path)
{
	char setting[512];

	doctor_find(doctor, LEVEL_FAIL, "sandbox", path,
		"the unit's %s=%s closes it to the daemon and to guests", option, value);
	snprintf(setting, sizeof(setting), "%s%s", mend, mend_path);
	doctor_fix_unit(doctor, setting);
}

/* Whether nothing of the unit @service closes @path to guests. */
static bool
check_path(struct doctor *doctor, struct json_object *service, const char *path)
{
	static const char *const lists[] = {"InaccessiblePaths", "ReadOnlyPaths"};
	bool writable = is_under(path, property(service, "ReadWritePaths")), open = true;

	for (size_t i = 0; i < cij_array_size(walls); i++) {
		const struct wall *wall = &walls[i];
		bool strict = wall->open[strlen(wall->open) - 1] == '=';

		if (strcmp(property(service, wall->option), wall->value) != 0 ||
			!is_under(path, wall->folders) || (strict && writable))
			continue;
		/* strict leaves these alone, and they have options of their own */
		if (strcmp(wall->value, "strict") == 0 && is_under(path, "/dev /proc /sys"))
			continue;
		tell_wall(doctor, path, wall->option, wall->value, wall->open, strict ? path : "");
		open = false;
	}
	for (size_t i = 0; i < cij_array_size(lists); i++) {
		const char *list = property(service, lists[i]);

		if (!is_under(path, list) || (i == 1 && writable))
			continue;
		tell_wall(doctor, path, lists[i], list, lists[i], "=");
		open = false;
	}
	return open;
}

static void
check_sandbox(struct doctor *doctor, struct json_object *service)
{
	const char *guests = cij_json_str(cij_json_get(doctor->host, "guests_dir"), "path");
	bool open;

	if (!guests)
		guests = "/opt/qemu-guests";
	open = check_path(doctor, service, guests);
	open = check_path(doctor, service, "/dev/kvm") && open;
	if (open)
		doctor_find(
			doctor, LEVEL_OK, "sandbox", guests, "the unit leaves it to the guests");
}

static void
check_service(struct doctor *doctor, struct json_object *service)
{
	const char *active = property(service, "ActiveState");
	const char *enabled = property(service, "UnitFileState");
	int64_t pid = strtoll(property(service, "MainPID"), NULL, 10);
	int64_t daemon = doctor_daemon_pid(doctor);

	if (strcmp(active, "failed") == 0) {
		doctor_find(doctor, LEVEL_FAIL, "unit", SERVICE, "failed: %s",
			property(service, "Result"));
		doctor_fix(doctor, "journalctl -u cijqemud -n 20; %ssystemctl restart cijqemud",
			doctor_sudo());
	} else if (daemon > 0 && pid != daemon) {
		doctor_find(doctor, LEVEL_NOTE, "unit", SERVICE,
			"is %s, but the daemon that answers is not its: pid %lld", active,
			(long long)daemon);
		doctor_fix(doctor, "cijqemuctl --socket /run/cijqemu/cijqemud.sock doctor, for the "
				   "unit's");
	} else if (strcmp(active, "active") != 0) {
		doctor_find(doctor, doctor->no_daemon ? LEVEL_FAIL : LEVEL_NOTE, "unit", SERVICE,
			"is %s", active);
		doctor_fix(doctor, "%ssystemctl start cijqemud", doctor_sudo());
	} else {
		doctor_find(doctor, LEVEL_OK, "unit", SERVICE, "is %s (%s)", active,
			property(service, "SubState"));
	}
	if (strcmp(enabled, "enabled") == 0)
		return;
	doctor_find(doctor, LEVEL_NOTE, "unit", SERVICE,
		"is %s: it does not come up with the machine", *enabled ? enabled : "not enabled");
	doctor_fix(doctor, "%ssystemctl %s cijqemud", doctor_sudo(),
		strcmp(enabled, "masked") == 0 ? "unmask" : "enable");
}

/* The units beside the service: installed, they should be on. */
static void
check_beside(struct doctor *doctor, struct json_object *units)
{
	static const char *const names[] = {
		"cijqemud.socket", "cijqemud-ro.socket", "cijqemu-guests.service"};

	for (size_t i = 0; i < cij_array_size(names); i++) {
		struct json_object *unit = cij_json_get(units, names[i]);
		const char *active = property(unit, "ActiveState");

		if (strcmp(property(unit, "LoadState"), "loaded") != 0)
			continue;
		if (strcmp(active, "active") == 0)
			continue;
		doctor_find(doctor, strcmp(active, "failed") == 0 ? LEVEL_FAIL : LEVEL_NOTE, "unit",
			names[i], "is %s", active);
		doctor_fix(doctor, "%ssystemctl enable --now %s", doctor_sudo(), names[i]);
	}
}

void
doctor_check_unit(struct doctor *doctor)
{
	bool user = getuid() != 0 && cij_json_bool(doctor->host, "user_only", false);
	_cleanup_json_ struct json_object *units = ask_systemctl(user);
	struct json_object *service = cij_json_get(units, SERVICE);

	if (!service) {
		doctor_find(doctor, LEVEL_NOTE, "unit", NULL,
			"no systemd to ask: nothing starts the daemon with the machine");
		return;
	}
	if (strcmp(property(service, "LoadState"), "loaded") != 0) {
		doctor_find(doctor, LEVEL_NOTE, "unit", SERVICE,
			"is %s: nothing starts the daemon with the machine",
			property(service, "LoadState"));
		doctor_fix(doctor,
			"%smake install in cijqemud's sources, or install its package; "
			"%ssystemctl enable --now cijqemud",
			doctor_sudo(), doctor_sudo());
		return;
	}
	check_service(doctor, service);
	doctor->is_unit = strtoll(property(service, "MainPID"), NULL, 10) ==
			  doctor_daemon_pid(doctor);
	if (user)
		return;
	check_beside(doctor, units);
	if (doctor->no_daemon || doctor->is_unit)
		check_sandbox(doctor, service);
}
