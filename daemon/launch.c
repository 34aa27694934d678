#include "daemon/launch.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cijqemu/cleanup.h"

#define GROUPS_MAX 256

static int __attribute__((format(printf, 1, 2))) fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return LAUNCH_EXIT_FAILED;
}

static bool
has_group(const gid_t *groups, int n, gid_t gid)
{
	for (int i = 0; i < n; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/* Puts group kvm among the @n groups at @groups, where the machine has it. */
static int
add_kvm_group(gid_t *groups, int n)
{
	struct group *kvm = getgrnam("kvm");

	if (kvm && n < GROUPS_MAX && !has_group(groups, n, kvm->gr_gid))
		groups[n++] = kvm->gr_gid;
	return n;
}

/*
 * The owner's own groups and kvm, then gid and uid, for good: no way back to root. A group that the
 * folder has and its owner has not is not taken.
 */
static int
become(uid_t uid, gid_t gid)
{
	struct passwd *user = getpwuid(uid);
	gid_t groups[GROUPS_MAX] = {gid};
	int n = GROUPS_MAX;

	if (!user)
		n = 1; /* a uid without a name has no other groups */
	else if (getgrouplist(user->pw_name, user->pw_gid, groups, &n) < 0)
		n = GROUPS_MAX;
	if (user && !has_group(groups, n, gid))
		gid = user->pw_gid;
	n = add_kvm_group(groups, n);
	if (setgroups(n, groups) < 0 || setresgid(gid, gid, gid) < 0 ||
		setresuid(uid, uid, uid) < 0)
		return fail("cannot become user %u: %s", (unsigned)uid, strerror(errno));
	return 0;
}

static int
execute(char **argv)
{
	char home[32] = "HOME=/";
	char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	char lang[] = "LANG=C.UTF-8", tmp[] = "TMPDIR=/var/tmp";
	char *env[] = {path, home, lang, tmp, NULL};

	execve(argv[0], argv, env);
	return fail("cannot execute '%s': %s", argv[0], strerror(errno));
}

int
launch_main(int argc, char **argv)
{
	unsigned uid, gid;

	if (argc < 2 || sscanf(argv[0], "%u:%u", &uid, &gid) != 2)
		return fail("cijqemud --launch: for the daemon's own use");
	/* Its own session: a signal to the daemon's group or terminal is none to the guest. */
	setsid();
	signal(SIGPIPE, SIG_DFL);
	/* A core of a guest's size fills the disk; QEMU's last words are kept instead. */
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	umask(0077);
	if (geteuid() == 0 && uid != 0) {
		int ret = become(uid, gid);

		if (ret)
			return ret;
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	}
	return execute(argv + 1);
}
