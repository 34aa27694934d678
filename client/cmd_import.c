/*
 * import: a guest out of the variables that CIJOE's qemu module knew, as 'source target_env.sh'
 * left them in the environment. Every QEMU_* variable is accounted for: used, and as which key;
 * ignored, and why; or unknown.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/args.h"
#include "client/link.h"
#include "client/out.h"
#include "client/table.h"
#include "client/variables.h"
#include "proto/text.h"

/* Making a guest may check its images. */
#define IMPORT_SECONDS 60

/* In everybody's target_env.sh: two guests on one machine cannot both have it. */
#define CIJOE_PORT "2022"

extern char **environ;

struct import {
	const char *guest;
	const char *folder; /* of the guest as the daemon has it; NULL: it has none yet */
	enum era era; /* of the drive */
	struct json_object *changes; /* dotted keys of guest.json */
	struct json_object *drive;
	struct json_object *report; /* what became of each variable */
};

static const char *
value_in_env(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

static void
report(struct import *in, const char *name, const char *status, const char *key, const char *why)
{
	struct json_object *item = json_object_new_object();

	cij_json_add_str(item, "name", name);
	cij_json_add_str(item, "value", getenv(name));
	cij_json_add_str(item, "status", status);
	cij_json_add_str(item, "key", key);
	cij_json_add_str(item, "why", why);
	json_object_array_add(in->report, item);
}

static int
bad_value(const struct variable *v, const char *want, struct cij_error *err)
{
	char clean[128];

	return cij_error_set(err, CIJ_E_BAD_REQUEST, "%s is '%s': it must be %s", v->name,
		cij_text_clean(getenv(v->name), clean, sizeof(clean)), want);
}

/* Sets the key, in the drive or in the guest. What is there already was set by a better name. */
static void
set(struct import *in, const struct variable *v, struct json_object *value)
{
	struct json_object *to = v->era == ERA_NONE ? in->changes : in->drive;
	char why[192], full[128];

	if (v->era == ERA_NONE)
		snprintf(full, sizeof(full), "%s", v->key);
	else
		snprintf(
			full, sizeof(full), "devices.%s.%s", cij_json_str(in->drive, "id"), v->key);
	if (cij_json_get(to, v->key)) {
		bool same = json_object_equal(cij_json_get(to, v->key), value);

		snprintf(why, sizeof(why), "another variable has set %s%s", full,
			same ? " to the same" : "");
		report(in, v->name, "ignored", NULL, why);
		json_object_put(value);
		return;
	}
	json_object_object_add(to, v->key, value);
	report(in, v->name, "used", full, NULL);
}

/* The path from the guest's folder where it is in there, else the full one. Heap string. */
static char *
path_for_guest(const struct import *in, const char *path, struct cij_error *err)
{
	_cleanup_free_ char *full = realpath(path, NULL), *folder = NULL;
	char clean[256];
	size_t n;

	if (!full) {
		cij_error_errno(err, CIJ_E_BAD_REQUEST, errno, "'%s'",
			cij_text_clean(path, clean, sizeof(clean)));
		return NULL;
	}
	folder = in->folder ? realpath(in->folder, NULL) : NULL;
	n = folder ? strlen(folder) : 0;
	if (n > 0 && strncmp(full, folder, n) == 0 && full[n] == '/')
		return strdup(full + n + 1);
	return steal_ptr(full);
}

static int
take_number(struct import *in, const struct variable *v, const char *text, struct cij_error *err)
{
	char *end;
	long long n;

	errno = 0;
	n = strtoll(text, &end, 10);
	if (errno || *end || end == text)
		return bad_value(v, "a whole number", err);
	set(in, v, json_object_new_int64(n));
	return 0;
}

static int
take_port(struct import *in, const struct variable *v, const char *text, struct cij_error *err)
{
	if (strcmp(text, CIJOE_PORT) != 0)
		return take_number(in, v, text, err);
	report(in, v->name, "ignored", NULL,
		"it is what all guests had: a free port is chosen, 'set ssh.port=" CIJOE_PORT
		"' insists");
	return 0;
}

static int
take_bool(struct import *in, const struct variable *v, const char *text, struct cij_error *err)
{
	static const char *const yes[] = {"true", "1", "on", "yes"};
	static const char *const no[] = {"false", "0", "off", "no"};

	for (size_t i = 0; i < cij_array_size(yes); i++)
		if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
			set(in, v, json_object_new_boolean(strcmp(text, yes[i]) == 0));
			return 0;
		}
	return bad_value(v, "true or false", err);
}

static int
take_memory(struct import *in, const struct variable *v, const char *text, struct cij_error *err)
{
	bool bare = strspn(text, "0123456789") == strlen(text);
	char value[64];
	int64_t bytes;

	snprintf(value, sizeof(value), "%s%s", text, bare ? "M" : "");
	if (cij_size_parse(value, &bytes) < 0)
		return bad_value(v, "a size, like 2G", err);
	set(in, v, json_object_new_string(value));
	return 0;
}

static int
take_file(struct import *in, const struct variable *v, const char *text, struct cij_error *err)
{
	_cleanup_free_ char *path = path_for_guest(in, text, err);

	if (!path)
		return cij_error_prefix(err, "%s", v->name);
	set(in, v, json_object_new_string(path));
	return 0;
}

static int
take_kernel(struct import *in, const struct variable *v, const char *text, struct cij_error *err)
{
	const char *home;
	char path[PATH_MAX];

	if (strcmp(text, "0") == 0) {
		report(in, v->name, "ignored", NULL, "it asks for no kernel of its own");
		return 0;
	}
	if (strcmp(text, "1") != 0)
		return take_file(in, v, text, err);
	home = value_in_env("QEMU_GUEST_PATH");
	if (!home)
		return cij_error_set(err, CIJ_E_BAD_REQUEST,
			"%s is 1, for bzImage in QEMU_GUEST_PATH, which is not set", v->name);
	snprintf(path, sizeof(path), "%s/bzImage", home);
	return take_file(in, v, path, err);
}

/* Words as a shell would split them, but that nothing is expanded. */
static int
take_words(struct import *in, const struct variable *v, const char *text, struct cij_error *err)
{
	_cleanup_json_ struct json_object *words = json_object_new_array();
	struct json_object *before = cij_json_get(in->changes, v->key);
	char *word = calloc(1, strlen(text) + 1);
	char quote = '\0';
	size_t n = 0;
	bool any = false;

	if (!word)
		abort();
	for (const char *p = text;; p++) {
		bool end = !*p || (!quote && strchr(" \t\n", *p));

		if (end) {
			if (any)
				json_object_array_add(
					words, json_object_new_string_len(word, (int)n));
			any = false;
			n = 0;
			if (!*p)
				break;
		} else if (quote ? *p == quote : *p == '"' || *p == '\'') {
			quote = quote ? '\0' : *p;
			any = true;
		} else {
			word[n++] = *p;
			any = true;
		}
	}
	free(word);
	if (quote)
		return bad_value(v, "words whose quotes are closed", err);
	if (!before) {
		before = json_object_new_array();
		json_object_object_add(in->changes, v->key, before);
	}
	for (size_t i = 0; i < json_object_array_length(words); i++)
		json_object_array_add(before, json_object_get(json_object_array_get_idx(words, i)));
	report(in, v->name, "used", v->key, NULL);
	return 0;
}

static int
take_cdrom(struct import *in, const struct variable *v, const char *text, struct cij_error *err)
{
	_cleanup_free_ char *path = path_for_guest(in, text, err);
	struct json_object *args = cij_json_get(in->changes, v->key);

	if (!path)
		return cij_error_prefix(err, "%s", v->name);
	if (!args) {
		args = json_object_new_array();
		json_object_object_add(in->changes, v->key, args);
	}
	json_object_array_add(args, json_object_new_string("-cdrom"));
	json_object_array_add(args, json_object_new_string(path));
	report(in, v->name, "used", "extra_args, as -cdrom", NULL);
	return 0;
}

/* ".../bin/qemu-system-x86_64" is in the home ...; any other file is given as it is. */
static int
take_binary(struct import *in, const struct variable *v, const char *text, struct cij_error *err)
{
	static const char usual[] = "/bin/qemu-system-x86_64";
	size_t n = strlen(text), k = strlen(usual);

	if (*text != '/')
		return bad_value(v, "a full path", err);
	if (n > k && strcmp(text + n - k, usual) == 0)
		n -= k;
	set(in, v, json_object_new_string_len(text, (int)n));
	return 0;
}

static int
take(struct import *in, const struct variable *v, const char *text, struct cij_error *err)
{
	if (v->era != ERA_NONE && v->era != in->era && v->use != USE_NOT) {
		report(in, v->name, "ignored", NULL,
			"the drive is defined by the newer QEMU_DEV_* and QEMU_OCSSD*");
		return 0;
	}
	if (strncmp(v->name, "QEMU_OCSSD_", 11) == 0 && !value_in_env("QEMU_OCSSD")) {
		report(in, v->name, "ignored", NULL,
			"QEMU_OCSSD is not set: the drive is no OCSSD");
		return 0;
	}
	if (strcmp(v->name, "QEMU_GUEST_NAME") == 0 && strcmp(text, in->guest) != 0) {
		report(in, v->name, "ignored", NULL, "another guest was named");
		return 0;
	}
	switch (v->use) {
	case USE_TEXT:
		set(in, v, json_object_new_string(text));
		return 0;
	case USE_NUMBER:
		return take_number(in, v, text, err);
	case USE_PORT:
		return take_port(in, v, text, err);
	case USE_BOOL:
		return take_bool(in, v, text, err);
	case USE_MEMORY:
		return take_memory(in, v, text, err);
	case USE_FILE:
		return take_file(in, v, text, err);
	case USE_KERNEL:
		return take_kernel(in, v, text, err);
	case USE_WORDS:
		return take_words(in, v, text, err);
	case USE_CDROM:
		return take_cdrom(in, v, text, err);
	case USE_BINARY:
		return take_binary(in, v, text, err);
	case USE_NAME:
	case USE_DRIVE_ID:
	case USE_OCSSD:
		report(in, v->name, "used", v->key, NULL);
		return 0;
	case USE_NOT:
		report(in, v->name, "ignored", NULL, v->key);
		return 0;
	}
	return 0;
}

static void
report_unknown(struct import *in, const char *name)
{
	const char *near = variable_nearest(name);
	char why[128];

	snprintf(why, sizeof(why), near ? "did you mean %s?" : "no such variable was ever used",
		near);
	report(in, name, "unknown", NULL, why);
}

static bool
any_of(const char *prefix)
{
	size_t n = strlen(prefix);

	for (char **e = environ; *e; e++)
		if (strncmp(*e, prefix, n) == 0 && (*e)[strcspn(*e, "=")] &&
			(*e)[strcspn(*e, "=") + 1])
			return true;
	return false;
}

/* The drive that the variables tell of, if any. */
static void
begin_drive(struct import *in)
{
	bool newer = any_of("QEMU_DEV_") || any_of("QEMU_OCSSD");
	const char *id;

	if (!newer && !any_of("QEMU_NVME_"))
		return;
	in->era = newer ? ERA_2019 : ERA_2018;
	in->drive = json_object_new_object();
	id = value_in_env(newer ? "QEMU_DEV_ID" : "QEMU_NVME_ID");
	cij_json_add_str(in->drive, "id", id ? id : "nvme0");
	cij_json_add_str(
		in->drive, "type", !newer || value_in_env("QEMU_OCSSD") ? "ocssd" : "nvme");
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All variables of ours, each once, by name. */
static int
take_all(struct import *in, struct cij_error *err)
{
	_cleanup_free_ char **names = NULL;
	size_t n = 0;
	int ret = 0;

	for (char **e = environ; *e; e++)
		n++;
	names = calloc(n + 1, sizeof(*names));
	if (!names)
		abort();
	n = 0;
	for (char **e = environ; *e; e++) {
		char *name = strndup(*e, strcspn(*e, "="));

		if (!name)
			abort();
		if (strncmp(name, "QEMU_", 5) == 0 || variable_find(name))
			names[n++] = name;
		else
			free(name);
	}
	qsort(names, n, sizeof(*names), by_name);
	for (size_t i = 0; i < n; i++) {
		const struct variable *v = variable_find(names[i]);
		const char *value = value_in_env(names[i]);

		if (ret == 0 && !v)
			report_unknown(in, names[i]);
		else if (ret == 0 && !value)
			report(in, names[i], "ignored", NULL, "it is empty");
		else if (ret == 0)
			ret = take(in, v, value, err);
		free(names[i]);
	}
	return ret;
}

static void
print_report(struct import *in)
{
	_cleanup_table_ struct table t = {.n_columns = 3};
	static const char *const colours[] = {"32", NULL, "31"};

	for (size_t i = 0; i < json_object_array_length(in->report); i++) {
		struct json_object *item = json_object_array_get_idx(in->report, i);
		const char *status = cij_json_str(item, "status"), *key = cij_json_str(item, "key");
		const char *why = cij_json_str(item, "why");
		char text[256];

		table_add(&t, cij_json_str(item, "name"), NULL);
		table_add(&t, status, colours[*status == 'u' ? (status[1] == 's' ? 0 : 2) : 1]);
		snprintf(text, sizeof(text), "%s", key ? key : why ? why : "");
		table_add(&t, text, NULL);
	}
	if (json_object_array_length(in->report) > 0)
		table_print(&t, out_colours(stdout));
}

/* A folder with a boot image is a guest already: it gets its guest.json. One that has that stays.
 */
static int
find_guest(struct call *call, bool *exists, char **folder, struct cij_error *err)
{
	_cleanup_reply_ struct reply r = {0};
	const char *path;

	if (call_daemon(call, IMPORT_SECONDS, "query-guest", guest_arguments(call->guest), &r,
		    err) < 0) {
		*exists = false;
		return err->class == CIJ_E_GUEST_NOT_FOUND ? 0 : -1;
	}
	*exists = true;
	path = cij_json_str(r.value, "path");
	*folder = path ? strdup(path) : NULL;
	if (!cij_json_get(r.value, "config"))
		return 0;
	cij_error_set(err, CIJ_E_GUEST_EXISTS, "guest '%s' has a guest.json already", call->guest);
	return cij_error_hint(err,
		"'import --dry-run' shows what it would be; 'cijqemuctl edit %s' changes what it "
		"is",
		call->guest);
}

static int
send_guest(struct call *call, struct import *in, bool exists, struct cij_error *err)
{
	struct json_object *args = guest_arguments(call->guest);
	_cleanup_reply_ struct reply r = {0};

	json_object_object_foreach (in->changes, key, value)
		json_object_object_add(args, key, json_object_get(value));
	return call_daemon(
		call, IMPORT_SECONDS, exists ? "guest-set" : "guest-create", args, &r, err);
}

static void
print_json(struct call *call, struct import *in)
{
	_cleanup_json_ struct json_object *obj = json_object_new_object();
	size_t len;
	const char *text;

	cij_json_add_str(obj, "guest", call->guest);
	json_object_object_add(obj, "keys", json_object_get(in->changes));
	json_object_object_add(obj, "variables", json_object_get(in->report));
	text = json_object_to_json_string_length(obj, JSON_C_TO_STRING_NOSLASHESCAPE, &len);
	out_json(text, len, out_colours(stdout));
}

int
cmd_import(struct call *call, struct cij_error *err)
{
	_cleanup_json_ struct json_object *changes = json_object_new_object();
	_cleanup_json_ struct json_object *report_list = json_object_new_array();
	_cleanup_free_ char *folder = NULL;
	struct import in = {.guest = call->guest, .changes = changes, .report = report_list};
	bool dry = call_has(call, "dry-run"), exists = false;

	if (!dry && find_guest(call, &exists, &folder, err) < 0)
		return -1;
	in.folder = folder;
	begin_drive(&in);
	if (take_all(&in, err) < 0) {
		json_object_put(in.drive);
		return -1;
	}
	if (json_object_array_length(report_list) == 0) {
		cij_error_set(
			err, CIJ_E_BAD_REQUEST, "none of CIJOE's variables is in the environment");
		return cij_error_hint(err, "'source target_env.sh' first; it must export them");
	}
	if (in.drive) {
		struct json_object *devices = json_object_new_array();

		json_object_array_add(devices, in.drive);
		json_object_object_add(changes, "devices", devices);
	}
	if (call->json)
		print_json(call, &in);
	else
		print_report(&in);
	if (dry)
		return 0;
	if (send_guest(call, &in, exists, err) < 0)
		return -1;
	out_note("%s: %s from the environment", call->guest, exists ? "defined" : "created");
	return 0;
}
