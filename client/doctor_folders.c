/* doctor: who may do what: the caller, the sockets, the folders. The facts are query-host's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/doctor.h"
#include "client/view.h"

/* So many folders with something wrong are told one by one. */
#define FOLDERS_TOLD 20

/* The bits of "mode"; 0 where there is none. */
static unsigned
mode_of(struct json_object *obj)
{
	const char *mode = cij_json_str(obj, "mode");

	return mode ? (unsigned)strtoul(mode, NULL, 8) : 0;
}

static struct json_object *
group_of(const struct doctor *doctor, const char *role)
{
	return cij_json_get(cij_json_get(doctor->host, "groups"), role);
}

void
doctor_check_caller(struct doctor *doctor)
{
	struct json_object *caller = cij_json_get(doctor->host, "caller");
	struct json_object *users = group_of(doctor, "users");
	const char *group = cij_json_str(users, "name");
	const char *name = user_name(cij_json_int(caller, "uid", -1));
	_cleanup_free_ char *quoted = doctor_word(name), *word = doctor_word(group ? group : "?");

	if (cij_json_bool(doctor->host, "user_only", false)) {
		doctor_find(doctor, LEVEL_OK, "access", name, "the daemon serves this user alone");
		return;
	}
	if (cij_json_int(users, "gid", -1) < 0) {
		doctor_find(doctor, LEVEL_NOTE, "access", NULL,
			"there is no group '%s': only root reaches the daemon's socket", group);
		doctor_fix(doctor, "%sgroupadd --system %s && %ssystemctl restart cijqemud",
			doctor_sudo(), word, doctor_sudo());
	}
	if (cij_json_bool(caller, "admin", false)) {
		doctor_find(
			doctor, LEVEL_OK, "access", name, "an admin: may do all to every guest");
	} else if (cij_json_bool(caller, "read_only", false) &&
		   cij_json_bool(caller, "in_group", false)) {
		/* What is wrong with the socket itself is a finding of its own. */
		doctor_find(doctor, LEVEL_NOTE, "access", name,
			"may only look: came by the read-only socket, though in group '%s'", group);
		doctor_fix(doctor,
			"leave out --socket and CIJQEMU_SOCKET where they name the read-only "
			"socket, and mend what is told of the other one below");
	} else if (cij_json_bool(caller, "read_only", false)) {
		doctor_find(doctor, LEVEL_NOTE, "access", name,
			"may only look: came by the read-only socket, not being in group '%s'",
			group);
		doctor_fix(doctor, "%susermod -aG %s %s, then log in anew", doctor_sudo(), word,
			quoted);
	} else {
		doctor_find(doctor, LEVEL_OK, "access", name,
			"may create guests, and operate those that are theirs or shared with them");
	}
}

static void
check_socket(struct doctor *doctor, struct json_object *socket, unsigned want, int64_t gid)
{
	const char *path = cij_json_str(socket, "path");
	unsigned mode = mode_of(socket);
	_cleanup_free_ char *word = doctor_word(path ? path : "?");

	if (!cij_json_str(socket, "mode")) {
		doctor_find(doctor, LEVEL_FAIL, "socket", path,
			"is not there: nobody new gets to the daemon");
		doctor_fix(doctor,
			"restart the daemon, guests live on: %ssystemctl restart cijqemud, or "
			"kill %lld and run it again",
			doctor_sudo(), (long long)doctor_daemon_pid(doctor));
	} else if ((mode & ~want) & 0777) {
		doctor_find(doctor, LEVEL_FAIL, "socket", path,
			"its mode is %04o: more may open it than should (%04o)", mode, want);
		doctor_fix(doctor, "%schmod %04o %s", doctor_sudo(), want, word);
	} else if (mode != want) {
		doctor_find(doctor, LEVEL_NOTE, "socket", path,
			"its mode is %04o: some who should may not open it (%04o)", mode, want);
		doctor_fix(doctor, "%schmod %04o %s", doctor_sudo(), want, word);
	} else if (gid >= 0 && cij_json_int(socket, "gid", -1) != gid) {
		doctor_find(doctor, LEVEL_NOTE, "socket", path,
			"its group is %lld, not that of the daemon's users (%lld)",
			(long long)cij_json_int(socket, "gid", -1), (long long)gid);
		doctor_fix(doctor, "%schgrp %lld %s", doctor_sudo(), (long long)gid, word);
	} else {
		doctor_find(doctor, LEVEL_OK, "socket", path, "mode %04o", mode);
	}
}

void
doctor_check_sockets(struct doctor *doctor)
{
	struct json_object *list = cij_json_get(doctor->host, "sockets");
	bool user_only = cij_json_bool(doctor->host, "user_only", false);
	int64_t gid = cij_json_int(group_of(doctor, "users"), "gid", -1);

	if (!json_object_is_type(list, json_type_array))
		return;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *socket = json_object_array_get_idx(list, i);
		bool control = i == 0;

		if (!control && user_only)
			continue; /* it is root's daemon that has one for everybody */
		check_socket(doctor, socket,
			!control               ? 0666
			: user_only || gid < 0 ? 0600
					       : 0660,
			control && !user_only ? gid : -1);
	}
}

void
doctor_check_guests_dir(struct doctor *doctor)
{
	struct json_object *dir = cij_json_get(doctor->host, "guests_dir");
	const char *path = cij_json_str(dir, "path");
	int64_t owner = cij_json_int(dir, "uid", -1), daemon = cij_json_int(doctor->host, "uid", 0);
	unsigned mode = mode_of(dir);
	_cleanup_free_ char *word = doctor_word(path ? path : "?");

	if (cij_json_bool(dir, "read_only", false)) {
		doctor_find(doctor, LEVEL_FAIL, "guests", path,
			"is read-only where the daemon sees it: nothing starts there");
		doctor_fix(doctor, "%smount -o remount,rw %s", doctor_sudo(), word);
	}
	if (mode & S_IWOTH && !(mode & S_ISVTX)) {
		doctor_find(doctor, LEVEL_FAIL, "guests", path,
			"everybody may write there (mode %04o), so rename and replace others' "
			"guests",
			mode);
		doctor_fix(doctor, "%schmod o-w %s", doctor_sudo(), word);
	} else if (mode & S_IWGRP && cij_json_int(dir, "gid", 0) != 0 && !(mode & S_ISVTX) &&
		   daemon == 0) {
		doctor_find(doctor, LEVEL_NOTE, "guests", path,
			"its group may rename and replace others' guests (mode %04o)", mode);
		doctor_fix(doctor, "%schmod g-w %s", doctor_sudo(), word);
	} else if (owner != 0 && owner != daemon) {
		doctor_find(doctor, LEVEL_NOTE, "guests", path,
			"belongs to %s, who may rename and replace all guests", user_name(owner));
		doctor_fix(doctor, "%schown root: %s", doctor_sudo(), word);
	} else {
		doctor_find(doctor, LEVEL_OK, "guests", path, "mode %04o, of %s", mode,
			user_name(owner));
	}
}

/* Adds what is wrong with a guest's folder. Returns false for nothing. */
static bool
check_folder(struct doctor *doctor, struct json_object *folder)
{
	const char *guest = cij_json_str(folder, "guest"), *path = cij_json_str(folder, "path");
	const char *error = cij_json_str(folder, "error"), *closed = cij_json_str(folder, "closed");
	const char *broken = cij_json_str(folder, "broken");
	unsigned mode = mode_of(folder);
	_cleanup_free_ char *word = doctor_word(path ? path : "?");
	_cleanup_free_ char *closed_word = doctor_word(closed ? closed : "?");
	bool own = closed && path && strcmp(closed, path) == 0;

	if (error) {
		doctor_find(doctor, LEVEL_FAIL, "folder", guest, "its owner may not %s '%s': %s",
			own ? "read and write" : "go through", closed, error);
		doctor_fix(
			doctor, "%schmod %s %s", doctor_sudo(), own ? "u+rwx" : "o+x", closed_word);
	}
	if (mode & S_IWOTH && !(mode & S_ISVTX)) {
		doctor_find(doctor, LEVEL_FAIL, "folder", guest,
			"everybody may change its files (mode %04o)", mode);
		doctor_fix(doctor, "chmod o-w %s", word);
	}
	if (broken && !error) {
		_cleanup_free_ char *name = doctor_word(guest);

		doctor_find(doctor, LEVEL_NOTE, "folder", guest, "is no guest: %s", broken);
		doctor_fix(doctor, "cijqemuctl validate %s", name);
	}
	return error || broken || (mode & S_IWOTH && !(mode & S_ISVTX));
}

void
doctor_check_folders(struct doctor *doctor)
{
	struct json_object *list = cij_json_get(doctor->host, "folders");
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
	size_t bad = 0, i;

	for (i = 0; i < n && bad < FOLDERS_TOLD; i++)
		bad += check_folder(doctor, json_object_array_get_idx(list, i));
	if (i < n)
		doctor_find(doctor, LEVEL_NOTE, "folder", NULL,
			"%zu more folders were not looked at after these", n - i);
	else if (bad == 0)
		doctor_find(doctor, LEVEL_OK, "folder", NULL,
			"%zu guest%s, each its owner's to use", n, n == 1 ? "" : "s");
}
