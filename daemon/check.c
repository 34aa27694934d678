#include "daemon/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "cijqemu/cleanup.h"
#include "daemon/probe.h"
#include "daemon/users.h"
#include "proto/text.h"

enum verdict { OK, NOTE, PROBLEM };

struct check {
	const struct daemon_conf *conf;
	int problems;
};

static void __attribute__((format(printf, 3, 4)))
say(struct check *check, enum verdict verdict, const char *fmt, ...)
{
	static const char *const words[] = {[OK] = "ok", [NOTE] = "note", [PROBLEM] = "problem"};
	char text[1024], clean[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	printf("%-8s %s\n", words[verdict], cij_text_clean(text, clean, sizeof(clean)));
	check->problems += verdict == PROBLEM;
}

static size_t
count_folders(int fd)
{
	_cleanup_closedir_ DIR *dir = fdopendir(dup(fd));
	struct dirent *entry;
	size_t n = 0;

	while (dir && (entry = readdir(dir)))
		n += entry->d_type == DT_DIR && cij_guest_name_check(entry->d_name, NULL) == 0;
	return n;
}

static void
check_guests_dir(struct check *check)
{
	const char *path = check->conf->guests_dir;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		say(check, PROBLEM, "guests' folder '%s': %s; 'mkdir -p %s', or --guests", path,
			strerror(errno), path);
		return;
	}
	say(check, OK, "guests' folder '%s': %zu folders", path, count_folders(fd));
	if ((st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX))
		say(check, NOTE,
			"everybody may rename and remove guests in '%s': 'chmod o-w', or +t", path);
	if (flock(fd, LOCK_SH | LOCK_NB) < 0)
		say(check, NOTE, "a cijqemud serves '%s' now: a second one would refuse to start",
			path);
}

/* One of the daemon's own folders; it makes what is missing. */
static void
check_own_dir(struct check *check, const char *what, const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0 && errno == ENOENT)
		say(check, OK, "%s '%s': will be made", what, path);
	else if (lstat(path, &st) < 0)
		say(check, PROBLEM, "%s '%s': %s", what, path, strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		say(check, PROBLEM, "%s '%s' is no folder", what, path);
	else if (st.st_uid != geteuid())
		say(check, PROBLEM, "%s '%s' belongs to uid %u: it would not be used", what, path,
			(unsigned)st.st_uid);
	else
		say(check, OK, "%s '%s'", what, path);
}

static void
check_qemu(struct check *check)
{
	struct cij_error err;
	_cleanup_free_ char *qemu = probe_find_qemu(NULL, check->conf->qemu_home, &err);

	if (qemu)
		say(check, OK, "QEMU '%s', for guests that name none", qemu);
	else
		say(check, NOTE, "%s: guests need a qemu_home of their own", err.desc);
	if (access("/dev/kvm", R_OK | W_OK) == 0)
		say(check, OK, "/dev/kvm can be opened; whether KVM works each QEMU is asked");
	else
		say(check, NOTE, "/dev/kvm: %s: guests run under TCG, which is slow",
			strerror(errno));
}

static void
check_group(struct check *check, const char *name, const char *what)
{
	gid_t gid;

	if (id_parse(name, &gid) || group_id(name, &gid))
		say(check, OK, "group %s %s", name, what);
	else
		say(check, NOTE, "no group '%s', which %s: only root does; 'groupadd -r %s'", name,
			what, name);
}

static void
check_systemd(struct check *check)
{
	if (sd_booted() > 0)
		say(check, OK, "systemd: each guest gets a scope, with its limits");
	else
		say(check, NOTE,
			"no systemd: guests stay in the daemon's control group, and those "
			"with limits do not start");
}

int
check_run(const struct daemon_conf *conf)
{
	struct check check = {conf, 0};

	check_guests_dir(&check);
	check_own_dir(&check, "sockets in", conf->run_dir);
	check_own_dir(&check, "state in", conf->state_dir);
	check_qemu(&check);
	if (geteuid() == 0 && !conf->user_only) {
		check_group(&check, conf->group, "may use the daemon");
		check_group(&check, conf->admin_group, "may do everything to every guest");
	}
	check_systemd(&check);
	return check.problems ? cij_error_exit_code(CIJ_E_BAD_CONFIG) : EXIT_SUCCESS;
}
