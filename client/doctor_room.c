/* doctor: how much there is of what guests need: KVM, memory, disk, limits. From query-host. */
#include <stdio.h>
#include <string.h>

#include "client/doctor.h"
#include "client/view.h"
#include "proto/text.h"

/* What a running guest and its watchers take of the daemon's descriptors, and the daemon itself. */
#define FDS_PER_GUEST 10
#define FDS_OWN 64

/* Fewer watches than guests and this, and consoles are polled. */
#define WATCHES_SPARE 64

#define SIZES 8

/* "20.7G", in one of the few buffers that one finding needs. */
static const char *
human(int64_t bytes)
{
	static char bufs[SIZES][24];
	static unsigned next;

	if (bytes <= 0)
		return "0";
	return cij_size_human(bytes, bufs[next++ % SIZES], sizeof(bufs[0]));
}

static size_t
count_guests(const struct doctor *doctor)
{
	struct json_object *list = cij_json_get(doctor->host, "folders");

	return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

/* The first guest for which @wanted holds and @unless does not; its name, NULL: none. */
static struct json_object *
find_guest(const struct doctor *doctor, const char *wanted, const char *unless)
{
	struct json_object *list = cij_json_get(doctor->host, "folders");

	for (size_t i = 0; i < count_guests(doctor); i++) {
		struct json_object *folder = json_object_array_get_idx(list, i);

		if ((!wanted || cij_json_bool(folder, wanted, false)) &&
			(!unless || !cij_json_bool(folder, unless, false)))
			return folder;
	}
	return NULL;
}

/* The owner @folder cannot open the device: its group is not kvm, or a plain user's daemon. */
static void
tell_closed_kvm(struct doctor *doctor, struct json_object *kvm, struct json_object *folder)
{
	int64_t group = cij_json_int(
		cij_json_get(cij_json_get(doctor->host, "groups"), "kvm"), "gid", -1);
	const char *mode = cij_json_str(kvm, "mode");
	int64_t uid = cij_json_int(doctor->host, "uid", 0);

	doctor_find(doctor,
		find_guest(doctor, "kvm_wanted", "kvm_allowed") ? LEVEL_FAIL : LEVEL_NOTE, "kvm",
		"/dev/kvm",
		"guests such as '%s' may not open it (mode %s, group %lld): they run with TCG",
		cij_json_str(folder, "guest"), mode, (long long)cij_json_int(kvm, "gid", -1));
	if (uid != 0)
		doctor_fix(doctor, "%susermod -aG kvm %s, then log in anew", doctor_sudo(),
			user_name(uid));
	else if (group < 0)
		doctor_fix(doctor,
			"%sgroupadd --system kvm && %schgrp kvm /dev/kvm && %schmod 0660 /dev/kvm",
			doctor_sudo(), doctor_sudo(), doctor_sudo());
	else
		doctor_fix(doctor, "%schgrp kvm /dev/kvm && %schmod 0660 /dev/kvm", doctor_sudo(),
			doctor_sudo());
}

void
doctor_check_kvm(struct doctor *doctor)
{
	struct json_object *kvm = cij_json_get(doctor->host, "kvm"), *folder;
	struct json_object *wants = find_guest(doctor, "kvm_wanted", NULL);
	const char *error = cij_json_str(kvm, "error");

	if (!cij_json_bool(kvm, "there", false)) {
		doctor_find(doctor, wants ? LEVEL_FAIL : LEVEL_NOTE, "kvm", "/dev/kvm",
			"is not there: %s%s%s", wants ? "guest '" : "guests run with TCG, slower",
			wants ? cij_json_str(wants, "guest") : "",
			wants ? "' has accel kvm and will not start" : "");
		doctor_fix(doctor,
			"%smodprobe kvm_intel || %smodprobe kvm_amd (enable virtualization in the "
			"firmware, or nesting where this is a virtual machine)",
			doctor_sudo(), doctor_sudo());
	} else if ((folder = find_guest(doctor, NULL, "kvm_allowed"))) {
		tell_closed_kvm(doctor, kvm, folder);
	} else if (error) {
		doctor_find(doctor, wants ? LEVEL_FAIL : LEVEL_NOTE, "kvm", "/dev/kvm",
			"the daemon cannot open it: %s", error);
		doctor_fix(doctor,
			"systemctl show cijqemud -p DevicePolicy,DeviceAllow,PrivateDevices");
	} else {
		doctor_find(doctor, LEVEL_OK, "kvm", "/dev/kvm",
			"the guests' owners may use it (mode %s)", cij_json_str(kvm, "mode"));
	}
}

void
doctor_check_memory(struct doctor *doctor)
{
	struct json_object *memory = cij_json_get(doctor->host, "memory");
	struct json_object *list = cij_json_get(doctor->host, "folders");
	int64_t limit = cij_json_int(memory, "limit", 0),
		wanted = cij_json_int(memory, "wanted", 0);
	int64_t all = cij_json_int(memory, "bytes", 0), taken = cij_json_int(memory, "taken", 0);

	if (all == 0) {
		doctor_find(doctor, LEVEL_NOTE, "memory", NULL, "how much there is is not known");
		return;
	}
	for (size_t i = 0; i < count_guests(doctor); i++) {
		struct json_object *folder = json_object_array_get_idx(list, i);
		const char *name = cij_json_str(folder, "guest");
		int64_t bytes = cij_json_int(folder, "memory_bytes", 0);

		if (bytes <= limit)
			continue;
		_cleanup_free_ char *word = doctor_word(name);

		doctor_find(doctor, LEVEL_FAIL, "memory", name,
			"wants %s, and all guests together may have %s: it will not start",
			human(bytes), human(limit));
		doctor_fix(doctor, "cijqemuctl set %s memory=%lldM", word,
			(long long)(limit >> 21)); /* half of it */
	}
	doctor_find(doctor, wanted > limit ? LEVEL_NOTE : LEVEL_OK, "memory", NULL,
		"%s, of which guests may have %s; those that run have %s, all that are defined "
		"want %s%s",
		human(all), human(limit), human(taken), human(wanted),
		wanted > limit ? ": not all can run at once" : "");
	if (wanted > limit)
		doctor_fix(
			doctor, "cijqemuctl stop GUEST, or set GUEST memory=…, before more start");
}

void
doctor_check_disk(struct doctor *doctor)
{
	struct json_object *disk = cij_json_get(doctor->host, "disk");
	const char *path = cij_json_str(cij_json_get(doctor->host, "guests_dir"), "path");
	int64_t all = cij_json_int(disk, "bytes", 0), left = cij_json_int(disk, "free", 0);
	int64_t reserve = cij_json_int(disk, "reserve", 0);
	_cleanup_free_ char *word = doctor_word(path ? path : "?");

	if (all == 0) {
		doctor_find(doctor, LEVEL_NOTE, "disk", path, "how much there is is not known");
		return;
	}
	if (cij_json_int(disk, "inodes", 0) > 0 && cij_json_int(disk, "inodes_free", 0) == 0) {
		doctor_find(
			doctor, LEVEL_FAIL, "disk", path, "no inode is free: no file can be made");
		doctor_fix(doctor, "%sdu --inodes -xd2 %s | sort -n | tail", doctor_sudo(), word);
	}
	if (left < reserve)
		doctor_find(doctor, LEVEL_FAIL, "disk", path,
			"%s of %s are free, and %s must stay so: no guest starts", human(left),
			human(all), human(reserve));
	else if (left < 2 * reserve)
		doctor_find(doctor, LEVEL_NOTE, "disk", path,
			"%s of %s are free: at %s no guest starts any more", human(left),
			human(all), human(reserve));
	else
		doctor_find(doctor, LEVEL_OK, "disk", path, "%s of %s are free", human(left),
			human(all));
	if (left < 2 * reserve)
		doctor_fix(doctor, "%sdu -xhd2 %s | sort -h | tail; cijqemuctl delete GUEST",
			doctor_sudo(), word);
}

void
doctor_check_descriptors(struct doctor *doctor)
{
	struct json_object *fds = cij_json_get(doctor->host, "descriptors");
	int64_t limit = cij_json_int(fds, "limit", 0), now = cij_json_int(fds, "open", 0);
	int64_t guests = (int64_t)count_guests(doctor);
	int64_t need = guests * FDS_PER_GUEST + FDS_OWN;
	bool tight = limit < need || now * 10 > limit * 9;

	doctor_find(doctor,
		tight              ? LEVEL_FAIL
		: limit < 2 * need ? LEVEL_NOTE
				   : LEVEL_OK,
		"descriptors", NULL,
		"the daemon may have %lld open and has %lld; %lld guest%s at once take about %lld "
		"and a viewer one each",
		(long long)limit, (long long)now, (long long)guests, guests == 1 ? "" : "s",
		(long long)need);
	if (!tight && limit >= 2 * need)
		return;
	if (doctor->is_unit)
		doctor_fix_unit(doctor, "LimitNOFILE=524288");
	else
		doctor_fix(doctor,
			"kill %lld, then 'ulimit -n 524288' and start it again; guests live on",
			(long long)doctor_daemon_pid(doctor));
}

void
doctor_check_inotify(struct doctor *doctor)
{
	struct json_object *inotify = cij_json_get(doctor->host, "inotify");
	int64_t max = cij_json_int(inotify, "max_watches", -1);
	int64_t now = cij_json_int(inotify, "watches", 0);
	int64_t need = (int64_t)count_guests(doctor) + WATCHES_SPARE;

	if (max < 0) {
		doctor_find(doctor, LEVEL_NOTE, "inotify", NULL, "how much there is is not known");
	} else if (max < need || now >= max) {
		doctor_find(doctor, LEVEL_NOTE, "inotify", NULL,
			"%lld watches for each user, and about %lld may be needed: consoles "
			"without "
			"one are looked at 20 times a second",
			(long long)max, (long long)need);
		doctor_fix(doctor, "%ssysctl -w fs.inotify.max_user_watches=524288", doctor_sudo());
	} else {
		doctor_find(doctor, LEVEL_OK, "inotify", NULL,
			"%lld watches for each user; the daemon has %lld", (long long)max,
			(long long)now);
	}
}
