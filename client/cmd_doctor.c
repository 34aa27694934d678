/*
 * doctor: what works on this machine and what does not. Each check adds findings of its own; one
 * more is a function and a line in the list of checks.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "client/args.h"
#include "client/link.h"
#include "client/out.h"
#include "proto/text.h"

/* Each QEMU binary is started twice; a loaded machine takes seconds for that. */
#define DOCTOR_SECONDS 60

enum level { LEVEL_OK, LEVEL_NOTE, LEVEL_FAIL };

static const struct {
	const char *word, *colour;
} levels[] = {
	[LEVEL_OK] = {"ok", "32"},
	[LEVEL_NOTE] = {"note", "33"},
	[LEVEL_FAIL] = {"fail", "31"},
};

/* What was found so far. */
struct doctor {
	struct call *call; /* weak */
	struct json_object *findings;
	enum level worst;
	bool no_daemon; /* nothing that needs it can be found out */
};

/* Adds a finding about @subject. */
static void __attribute__((format(printf, 4, 5)))
find(struct doctor *doctor, enum level level, const char *subject, const char *fmt, ...)
{
	struct json_object *finding = json_object_new_object();
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	cij_json_add_str(finding, "level", levels[level].word);
	cij_json_add_str(finding, "subject", subject);
	cij_json_add_str(finding, "text", text);
	cij_json_add_str(finding, "hint", NULL);
	json_object_array_add(doctor->findings, finding);
	if (level > doctor->worst)
		doctor->worst = level;
}

/* The way out of the last finding. */
static void
find_hint(struct doctor *doctor, const char *hint)
{
	size_t n = json_object_array_length(doctor->findings);

	cij_json_add_str(json_object_array_get_idx(doctor->findings, n - 1), "hint", hint);
}

static void
check_daemon(struct doctor *doctor)
{
	_cleanup_reply_ struct reply r = {0};
	struct cij_error err = CIJ_ERROR_INIT;
	const char *version, *guests;

	if (call_daemon(doctor->call, DOCTOR_SECONDS, "query-daemon", NULL, &r, &err) < 0) {
		find(doctor, LEVEL_FAIL, "daemon", "%s", err.desc);
		if (*err.hint)
			find_hint(doctor, err.hint);
		doctor->no_daemon = true;
		return;
	}
	version = cij_json_str(r.value, "version");
	guests = cij_json_str(r.value, "guests_dir");
	find(doctor, LEVEL_OK, "daemon", "version %s, pid %lld, guests in %s",
		version ? version : "?", (long long)cij_json_int(r.value, "pid", 0),
		guests ? guests : "?");
}

/* "a, b and c": the strings of @array. */
static void
join(struct json_object *array, char *text, size_t size)
{
	size_t n = cij_json_length(array);

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
	size_t n = cij_json_length(types);

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
	find(doctor, *text ? LEVEL_OK : LEVEL_NOTE, path, "has %s drives (dialect %s)",
		*text ? text : "no", dialect ? dialect : "?");
	if (has_type(types, "ocssd"))
		return;
	find(doctor, LEVEL_NOTE, path, "has no Open-Channel SSD");
	find_hint(doctor, "for OCSSD drives build OpenChannelSSD/qemu-nvme and install it as "
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
		find(doctor, LEVEL_FAIL, path ? path : "QEMU", "%s", error);
		if (hint)
			find_hint(doctor, hint);
		return;
	}
	if (!path)
		path = "?";
	find(doctor, LEVEL_OK, path, "QEMU %s%s%s%s", version ? version : "?",
		cij_json_bool(qemu, "default", false) ? ", the default" : "",
		*guests ? ", used by " : "", guests);
	check_drives(doctor, path, qemu);
	if (cij_json_bool(kvm, "works", false)) {
		find(doctor, LEVEL_OK, path, "starts with KVM");
	} else {
		find(doctor, LEVEL_NOTE, path, "does not start with KVM: %s", why ? why : "?");
		find_hint(doctor, "guests run slower, with TCG, unless their accel is kvm");
	}
	if (!cij_json_bool(qemu, "sandbox", false))
		find(doctor, LEVEL_NOTE, path, "does not take -sandbox: guests run without it");
}

static void
check_qemu(struct doctor *doctor)
{
	_cleanup_reply_ struct reply r = {0};
	struct cij_error err = CIJ_ERROR_INIT;
	struct json_object *list;

	if (call_daemon(doctor->call, DOCTOR_SECONDS, "query-qemu", NULL, &r, &err) < 0) {
		find(doctor, LEVEL_FAIL, "QEMU", "cannot be looked at: %s", err.desc);
		return;
	}
	list = cij_json_get(r.value, "qemu");
	for (size_t i = 0; i < cij_json_length(list); i++)
		check_binary(doctor, json_object_array_get_idx(list, i));
	if (cij_json_bool(r.value, "more", false))
		find(doctor, LEVEL_NOTE, "QEMU", "there are more binaries than were looked at");
}

static void (*const checks[])(struct doctor *doctor) = {
	check_daemon,
	check_qemu,
};

static void
print_finding(struct json_object *finding)
{
	const char *word = cij_json_str(finding, "level"), *hint = cij_json_str(finding, "hint");
	char subject[256], text[1024];

	cij_text_clean(cij_json_str(finding, "subject"), subject, sizeof(subject));
	cij_text_clean(cij_json_str(finding, "text"), text, sizeof(text));
	for (size_t i = 0; i < cij_array_size(levels); i++)
		if (strcmp(levels[i].word, word) == 0 && out_colours(stdout))
			printf("\033[%sm%-4s\033[0m", levels[i].colour, word);
	if (!out_colours(stdout))
		printf("%-4s", word);
	printf("  %s: %s\n", subject, text);
	if (hint)
		printf("      %s\n", cij_text_clean(hint, text, sizeof(text)));
}

int
cmd_doctor(struct call *call, struct cij_error *err)
{
	_cleanup_json_ struct json_object *findings = json_object_new_array();
	struct doctor doctor = {.call = call, .findings = findings};

	for (size_t i = 0; i < cij_array_size(checks) && !doctor.no_daemon; i++)
		checks[i](&doctor);
	if (call->json) {
		size_t len;
		const char *text = json_object_to_json_string_length(
			findings, JSON_C_TO_STRING_NOSLASHESCAPE, &len);

		out_json(text, len, out_colours(stdout));
	} else {
		for (size_t i = 0; i < json_object_array_length(findings); i++)
			print_finding(json_object_array_get_idx(findings, i));
	}
	return doctor.worst == LEVEL_FAIL ? 1 : 0;
}
