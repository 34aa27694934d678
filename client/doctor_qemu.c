/* The QEMU binaries that guests use, as their owners run them: the daemon asks each. */
#include <stdio.h>
#include <string.h>

#include "client/doctor.h"

/* "a, b and c": the strings of @array. */
static void
join(struct json_object *array, char *text, size_t size)
{
	size_t n = json_object_is_type(array, json_type_array) ? json_object_array_length(array)
							       : 0;

	text[0] = '\0';
	for (size_t i = 0, at = 0; i < n && at < size; i++)
		at += snprintf(text + at, size - at, "%s%s",
			i == 0       ? ""
			: i + 1 == n ? " and "
				     : ", ",
			json_object_get_string(json_object_array_get_idx(array, i)));
}

static bool
has_type(struct json_object *types, const char *type)
{
	size_t n = json_object_is_type(types, json_type_array) ? json_object_array_length(types)
							       : 0;

	for (size_t i = 0; i < n; i++)
		if (strcmp(json_object_get_string(json_object_array_get_idx(types, i)), type) == 0)
			return true;
	return false;
}

static void
check_drives(struct doctor *doctor, const char *path, struct json_object *qemu)
{
	struct json_object *types = cij_json_get(qemu, "types");
	const char *dialect = cij_json_str(qemu, "dialect");
	char text[256];

	join(types, text, sizeof(text));
	doctor_find(doctor, *text ? LEVEL_OK : LEVEL_NOTE, "qemu", path,
		"has %s drives (dialect %s)", *text ? text : "no", dialect ? dialect : "?");
	if (has_type(types, "ocssd"))
		return;
	doctor_find(doctor, LEVEL_NOTE, "qemu", path, "has no Open-Channel SSD");
	doctor_fix(doctor,
		"for OCSSD drives build OpenChannelSSD/qemu-nvme and install it as "
		"/opt/qemu-nvme, or set QEMU_HOME or a guest's qemu_home to where it is");
}

static void
check_binary(struct doctor *doctor, struct json_object *qemu)
{
	const char *path = cij_json_str(qemu, "path"), *error = cij_json_str(qemu, "error");
	const char *hint = cij_json_str(qemu, "hint"), *version = cij_json_str(qemu, "version");
	struct json_object *kvm = cij_json_get(qemu, "kvm");
	const char *why = cij_json_str(kvm, "why");
	char guests[256];

	join(cij_json_get(qemu, "guests"), guests, sizeof(guests));
	if (error) {
		doctor_find(doctor, LEVEL_FAIL, "qemu", path, "%s", error);
		if (hint)
			doctor_fix(doctor, "%s", hint);
		return;
	}
	if (!path)
		path = "?";
	doctor_find(doctor, LEVEL_OK, "qemu", path, "QEMU %s%s%s%s", version ? version : "?",
		cij_json_bool(qemu, "default", false) ? ", the default" : "",
		*guests ? ", used by " : "", guests);
	check_drives(doctor, path, qemu);
	if (cij_json_bool(kvm, "works", false)) {
		doctor_find(doctor, LEVEL_OK, "qemu", path, "starts with KVM");
	} else {
		doctor_find(doctor, LEVEL_NOTE, "qemu", path, "does not start with KVM: %s",
			why ? why : "?");
		doctor_fix(doctor, "guests run slower, with TCG, unless their accel is kvm");
	}
	if (!cij_json_bool(qemu, "sandbox", false))
		doctor_find(doctor, LEVEL_NOTE, "qemu", path,
			"does not take -sandbox: guests run without it");
}

void
doctor_check_qemu(struct doctor *doctor)
{
	_cleanup_reply_ struct reply r = {0};
	struct cij_error err = CIJ_ERROR_INIT;
	struct json_object *list;

	if (doctor->no_daemon)
		return;
	if (call_daemon(doctor->call, DOCTOR_SECONDS, "query-qemu", NULL, &r, &err) < 0) {
		doctor_find(doctor, LEVEL_FAIL, "qemu", NULL, "cannot be looked at: %s", err.desc);
		return;
	}
	list = cij_json_get(r.value, "qemu");
	for (size_t i = 0;
		json_object_is_type(list, json_type_array) && i < json_object_array_length(list);
		i++)
		check_binary(doctor, json_object_array_get_idx(list, i));
	if (cij_json_bool(r.value, "more", false))
		doctor_find(doctor, LEVEL_NOTE, "qemu", NULL,
			"there are more binaries than were looked at");
}
