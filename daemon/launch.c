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
#include "daemon/scope.h"
#include "daemon/users.h"

/* Descriptors that a guest may open: the daemon's own limit is for a thousand guests' sockets. */
#define NOFILE_SOFT 4096

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

	if (kvm && n < USER_GROUPS_MAX && !has_group(groups, n, kvm->gr_gid))
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
	gid_t groups[USER_GROUPS_MAX] = {gid};
	int n = USER_GROUPS_MAX;

	if (!user)
		n = 1; /* a uid without a name has no other groups */
	else if (getgrouplist(user->pw_name, user->pw_gid, groups, &n) < 0)
		n = USER_GROUPS_MAX;
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

/* What is the daemon's alone: its protection from the out-of-memory killer, and its limits. */
static void
drop_privileges_of_daemon(void)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/self/oom_score_adj", "we");
	struct rlimit limit;

	if (file)
		fputs("0", file);
	/* A core of a guest's size fills the disk; QEMU's last words are kept instead. */
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > NOFILE_SOFT) {
		limit.rlim_cur = NOFILE_SOFT;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* A guest with limits does not run without them; one without any runs in the daemon's own group. */
static int
join_scope(const struct scope_spec *scope)
{
	bool limited = scope->memory_max || scope->cpu_usec || scope->tasks_max;
	struct cij_error err;
	int ret;

	if (!scope->guest)
		return 0;
	ret = scope_join(scope, &err);
	if (ret < 0 && limited)
		return fail("the limits cannot be set: %s", err.desc);
	if (ret < 0)
		fprintf(stderr, "cijqemud: %s\n", err.desc);
	if (ret == 0 && limited)
		fprintf(stderr, "cijqemud: no systemd here: the guest runs without its limits\n");
	return 0;
}

int
launch_main(int argc, char **argv)
{
	struct scope_spec scope = {0};
	unsigned uid, gid;
	int at = 1, ret;

	if (argc < 2 || sscanf(argv[0], "%u:%u", &uid, &gid) != 2)
		return fail("cijqemud --launch: for the daemon's own use");
	while (at < argc && strcmp(argv[at], "--") != 0)
		if (scope_read_word(&scope, argv[at++]) < 0)
			return fail("cijqemud --launch: what is '%s'?", argv[at - 1]);
	if (at + 1 >= argc)
		return fail("cijqemud --launch: nothing to execute");
	/* Its own session: a signal to the daemon's group or terminal is none to the guest. */
	setsid();
	/* From here on it outlives the daemon: see child_exec(). */
	prctl(PR_SET_PDEATHSIG, 0);
	drop_privileges_of_daemon();
	umask(0077);
	ret = join_scope(&scope);
	if (ret)
		return ret;
	if (geteuid() == 0 && uid != 0) {
		ret = become(uid, gid);
		if (ret)
			return ret;
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	}
	return execute(argv + at + 1);
}
