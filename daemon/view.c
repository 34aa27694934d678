#include "daemon/view.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/argv.h"
#include "daemon/clock.h"
#include "daemon/users.h"
#include "proto/json.h"
#include "proto/text.h"

static struct json_object *
view_owner(const struct guest *guest)
{
	struct json_object *obj = json_object_new_object();

	cij_json_add_int(obj, "uid", guest_uid(guest));
	cij_json_add_str(obj, "name", user_name(guest_uid(guest)));
	return obj;
}

static struct json_object *
view_accel(const struct guest_status *status)
{
	struct json_object *obj;

	if (!status->active || !status->accel_why)
		return NULL;
	obj = json_object_new_object();
	cij_json_add_str(obj, "used", status->kvm ? "kvm" : "tcg");
	cij_json_add_str(obj, "why", status->accel_why);
	return obj;
}

static struct json_object *
view_qemu(const struct guest_status *status)
{
	struct json_object *obj;

	if (!status->qemu)
		return NULL;
	obj = json_object_new_object();
	cij_json_add_str(obj, "path", status->qemu);
	cij_json_add_str(obj, "version", status->version);
	cij_json_add_str(obj, "dialect", status->dialect);
	return obj;
}

/* The key's path as a client on this machine can open it. */
static char *
key_path(const struct guest *guest, const char *key)
{
	if (!key || key[0] == '/')
		return str_copy(key);
	return str_printf("%s/%s", guest_path(guest), key);
}

static struct json_object *
view_ssh(const struct guest *guest, const struct guest_status *status)
{
	const struct guest_conf *conf = guest_conf(guest);
	_cleanup_free_ char *key = key_path(guest, conf->ssh.key);
	struct json_object *obj;

	if (!status->port)
		return NULL;
	obj = json_object_new_object();
	cij_json_add_str(obj, "host", "127.0.0.1");
	cij_json_add_int(obj, "port", status->port);
	cij_json_add_str(obj, "user", conf->ssh.user);
	cij_json_add_str(obj, "key", key);
	return obj;
}

/* "present": the guest has the drive now. */
static struct json_object *
view_devices(const struct guest *guest, const struct guest_status *status)
{
	struct json_object *list = json_object_new_array();
	struct guest_drive_status drive;

	for (size_t i = 0; guest_drive_status(guest, i, &drive); i++) {
		struct json_object *obj = json_object_new_object();

		cij_json_add_str(obj, "id", drive.conf->id);
		cij_json_add_str(obj, "type", device_type_name(drive.conf->type));
		cij_json_add_int(obj, "bytes", device_conf_bytes(drive.conf));
		json_object_object_add(obj, "present",
			drive.known ? json_object_new_boolean(drive.present) : NULL);
		if (drive.unplugging)
			cij_json_add_bool(obj, "unplugging", true);
		json_object_array_add(list, obj);
	}
	return list;
}

static void
add_time(struct json_object *obj, const char *name, int64_t usec)
{
	char text[32];

	cij_json_add_str(obj, name,
		usec ? clock_rfc3339((time_t)(usec / 1000000), text, sizeof(text)) : NULL);
}

void
view_add_gap(struct json_object *obj, const struct logindex *index)
{
	add_time(obj, "incomplete_since", index->gap_since);
	add_time(obj, "incomplete_until", index->gap_until);
}

static struct json_object *
view_console(const struct guest *guest, const struct guest_status *status)
{
	_cleanup_free_ char *log = str_printf("%s/logs/%04u.out", guest_path(guest), status->run);
	const struct viewer *writer;
	struct json_object *obj;

	if (!status->console)
		return NULL;
	obj = json_object_new_object();
	writer = console_writer(status->console);
	cij_json_add_str(obj, "log", log);
	cij_json_add_int(obj, "bytes", (int64_t)console_bytes(status->console));
	cij_json_add_int(obj, "viewers", (int64_t)console_viewers(status->console));
	json_object_object_add(obj, "writer", writer ? view_who(viewer_peer(writer)) : NULL);
	cij_json_add_bool(obj, "bounded", console_bounded(status->console));
	view_add_gap(obj, console_index(status->console));
	return obj;
}

struct json_object *
view_who(const struct peer *peer)
{
	const char *name = user_name(peer->uid);
	_cleanup_free_ char *uid = str_printf("uid %u", (unsigned)peer->uid);

	return json_object_new_string(name ? name : uid);
}

/* The members of a guest's view, in their order. */
enum member {
	M_GUEST,
	M_PATH,
	M_STATE,
	M_REASON,
	M_SINCE,
	M_READY,
	M_BOOT_MS,
	M_HUNG,
	M_EXIT,
	M_ERROR,
	M_OWNER,
	M_PID,
	M_MEMORY_BYTES,
	M_CPUS,
	M_ACCEL,
	M_QEMU,
	M_SSH,
	M_DEVICES,
	M_CONSOLE,
	M_RUN,
	M_UPTIME_S,
	M_LEASE,
	M_RESTARTS,
	M_RESTART_IN_S,
	M_GAVE_UP,
	M_RESETS,
	M_RESET_LOOP,
	MEMBERS,
};

static const char *const members[] = {
	[M_GUEST] = "guest",
	[M_PATH] = "path",
	[M_STATE] = "state",
	[M_REASON] = "reason",
	[M_SINCE] = "since",
	[M_READY] = "ready",
	[M_BOOT_MS] = "boot_ms",
	[M_HUNG] = "hung",
	[M_EXIT] = "exit",
	[M_ERROR] = "error",
	[M_OWNER] = "owner",
	[M_PID] = "pid",
	[M_MEMORY_BYTES] = "memory_bytes",
	[M_CPUS] = "cpus",
	[M_ACCEL] = "accel",
	[M_QEMU] = "qemu",
	[M_SSH] = "ssh",
	[M_DEVICES] = "devices",
	[M_CONSOLE] = "console",
	[M_RUN] = "run",
	[M_UPTIME_S] = "uptime_s",
	[M_LEASE] = "lease",
	[M_RESTARTS] = "restarts",
	[M_RESTART_IN_S] = "restart_in_s",
	[M_GAVE_UP] = "gave_up",
	[M_RESETS] = "resets",
	[M_RESET_LOOP] = "reset_loop",
};

/* A view that is being made. */
struct view {
	struct json_object *obj; /* weak */
	view_members wanted;
};

static bool
wants(const struct view *v, enum member m)
{
	return v->wanted & (view_members)1 << m;
}

/* Who chose the members knows which to miss: what is null is left out for them. */
static void
add(struct view *v, enum member m, struct json_object *value)
{
	if (!value && v->wanted != VIEW_ALL)
		return;
	json_object_object_add_ex(v->obj, members[m], value, JSON_C_OBJECT_ADD_CONSTANT_KEY);
}

static void
add_str(struct view *v, enum member m, const char *text)
{
	if (wants(v, m))
		add(v, m, text ? json_object_new_string(text) : NULL);
}

static void
add_bool(struct view *v, enum member m, bool value)
{
	if (wants(v, m))
		add(v, m, json_object_new_boolean(value));
}

static void
add_number(struct view *v, enum member m, bool known, int64_t value)
{
	if (wants(v, m))
		add(v, m, known ? json_object_new_int64(value) : NULL);
}

int
view_members_parse(const struct cij_list *list, view_members *wanted, struct cij_error *err)
{
	char **names = list->items;

	*wanted = list->n ? (view_members)1 << M_GUEST : VIEW_ALL;
	for (size_t i = 0; i < list->n; i++) {
		const char *near;
		char clean[80];
		size_t m = 0;

		while (m < MEMBERS && strcmp(members[m], names[i]) != 0)
			m++;
		if (m < MEMBERS) {
			*wanted |= (view_members)1 << m;
			continue;
		}
		near = cij_nearest_of(names[i], members, MEMBERS);
		cij_error_set(err, CIJ_E_BAD_REQUEST, "members: a guest has no '%s'",
			cij_text_clean(names[i], clean, sizeof(clean)));
		if (near)
			cij_error_hint(err, "did you mean '%s'?", near);
		return -1;
	}
	return 0;
}

struct json_object *
view_guest_members(struct guest *guest, view_members wanted)
{
	const struct guest_conf *conf = guest_conf(guest);
	struct view v = {json_object_new_object(), wanted};
	struct guest_status status;
	char since[32];

	guest_status(guest, &status);
	add_str(&v, M_GUEST, guest_name(guest));
	add_str(&v, M_PATH, guest_path(guest));
	add_str(&v, M_STATE, gstate_name(status.state));
	add_str(&v, M_REASON, greason_name(status.reason));
	add_str(&v, M_SINCE, clock_rfc3339(status.since, since, sizeof(since)));
	add_bool(&v, M_READY, status.ready);
	add_number(&v, M_BOOT_MS, status.boot_ms >= 0, status.boot_ms);
	add_bool(&v, M_HUNG, status.hung);
	if (wants(&v, M_EXIT))
		add(&v, M_EXIT, run_exit_to_json(status.has_exit, status.exit));
	add_str(&v, M_ERROR,
		status.note                 ? status.note
		: status.state == GS_BROKEN ? status.broken
					    : status.error);
	if (wants(&v, M_OWNER))
		add(&v, M_OWNER, view_owner(guest));
	add_number(&v, M_PID, status.pid > 0, status.pid);
	add_number(&v, M_MEMORY_BYTES, status.state != GS_BROKEN, conf->memory);
	add_number(&v, M_CPUS, status.state != GS_BROKEN, conf->cpus);
	if (wants(&v, M_ACCEL))
		add(&v, M_ACCEL, view_accel(&status));
	if (wants(&v, M_QEMU))
		add(&v, M_QEMU, view_qemu(&status));
	if (wants(&v, M_SSH))
		add(&v, M_SSH, view_ssh(guest, &status));
	if (wants(&v, M_DEVICES))
		add(&v, M_DEVICES, view_devices(guest, &status));
	if (wants(&v, M_CONSOLE))
		add(&v, M_CONSOLE, view_console(guest, &status));
	add_number(&v, M_RUN, status.run > 0, status.run);
	add_number(&v, M_UPTIME_S, status.uptime >= 0, (int64_t)status.uptime);
	if (wants(&v, M_LEASE))
		add(&v, M_LEASE, guest_lease_view(guest));
	add_number(&v, M_RESTARTS, true, status.restarts);
	add_number(&v, M_RESTART_IN_S, status.restart_in >= 0, (int64_t)(status.restart_in + 0.5));
	add_bool(&v, M_GAVE_UP, status.gave_up);
	add_number(&v, M_RESETS, true, status.resets);
	add_bool(&v, M_RESET_LOOP, status.reset_loop);
	return v.obj;
}

struct json_object *
view_guest(struct guest *guest)
{
	return view_guest_members(guest, VIEW_ALL);
}
