#include "daemon/view.h"

#include <sys/stat.h>
#include <unistd.h>

#include "daemon/argv.h"
#include "daemon/clock.h"
#include "daemon/users.h"
#include "proto/json.h"

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

/* @name is a literal. */
static void
add(struct json_object *obj, const char *name, struct json_object *value)
{
	json_object_object_add_ex(obj, name, value, JSON_C_OBJECT_ADD_CONSTANT_KEY);
}

static void
add_number(struct json_object *obj, const char *name, bool known, int64_t value)
{
	add(obj, name, known ? json_object_new_int64(value) : NULL);
}

struct json_object *
view_guest(struct guest *guest)
{
	const struct guest_conf *conf = guest_conf(guest);
	struct json_object *obj = json_object_new_object();
	struct guest_status status;
	char since[32];

	guest_status(guest, &status);
	cij_json_add_str(obj, "guest", guest_name(guest));
	cij_json_add_str(obj, "path", guest_path(guest));
	cij_json_add_str(obj, "state", gstate_name(status.state));
	cij_json_add_str(obj, "reason", greason_name(status.reason));
	cij_json_add_str(obj, "since", clock_rfc3339(status.since, since, sizeof(since)));
	cij_json_add_bool(obj, "ready", status.ready);
	add_number(obj, "boot_ms", status.boot_ms >= 0, status.boot_ms);
	cij_json_add_bool(obj, "hung", status.hung);
	add(obj, "exit", run_exit_to_json(status.has_exit, status.exit));
	cij_json_add_str(obj, "error",
		status.note                 ? status.note
		: status.state == GS_BROKEN ? status.broken
					    : status.error);
	add(obj, "owner", view_owner(guest));
	add_number(obj, "pid", status.pid > 0, status.pid);
	add_number(obj, "memory_bytes", status.state != GS_BROKEN, conf->memory);
	add_number(obj, "cpus", status.state != GS_BROKEN, conf->cpus);
	add(obj, "accel", view_accel(&status));
	add(obj, "qemu", view_qemu(&status));
	add(obj, "ssh", view_ssh(guest, &status));
	add(obj, "devices", view_devices(guest, &status));
	add(obj, "console", view_console(guest, &status));
	add_number(obj, "run", status.run > 0, status.run);
	add_number(obj, "uptime_s", status.uptime >= 0, (int64_t)status.uptime);
	add(obj, "lease", guest_lease_view(guest));
	cij_json_add_int(obj, "restarts", status.restarts);
	add_number(obj, "restart_in_s", status.restart_in >= 0, (int64_t)(status.restart_in + 0.5));
	cij_json_add_bool(obj, "gave_up", status.gave_up);
	cij_json_add_int(obj, "resets", status.resets);
	cij_json_add_bool(obj, "reset_loop", status.reset_loop);
	return obj;
}
