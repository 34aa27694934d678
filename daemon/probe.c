#include "daemon/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/probe_trial.h"

/* Binaries remembered; a lab has a handful. */
#define PROBES_MAX 64

struct waiter {
	TAILQ_ENTRY(waiter) link;
	probe_done_fn *done;
	void *arg; /* weak */
};

/* One binary, for one user. */
struct probe {
	TAILQ_ENTRY(probe) link;
	struct probes *probes; /* weak */
	char *qemu;
	struct stat st; /* of the binary when it was asked */
	uid_t uid;
	struct trials *trials; /* NULL once they have answered */
	TAILQ_HEAD(, waiter) waiters;
	struct qemu_caps caps;
	struct cij_error err;
	bool known;
};

TAILQ_HEAD(probe_list, probe);

struct probes {
	struct event_base *base; /* weak */
	struct probe_list all; /* newest first */
	size_t n;
};

struct probes *
probes_new(struct event_base *base)
{
	struct probes *probes = calloc(1, sizeof(*probes));

	if (!probes)
		abort();
	probes->base = base;
	TAILQ_INIT(&probes->all);
	return probes;
}

/* Nobody waits for it any more. */
static void
probe_free(struct probe *probe)
{
	TAILQ_REMOVE(&probe->probes->all, probe, link);
	probe->probes->n--;
	trials_free(probe->trials);
	free(probe->qemu);
	free(probe);
}

/* Tells all who asked; behind it nobody waits. */
static void
tell_waiters(struct probe *probe, const struct qemu_caps *caps, const struct cij_error *err)
{
	struct waiter *waiter;

	while ((waiter = TAILQ_FIRST(&probe->waiters))) {
		struct waiter one = *waiter;

		TAILQ_REMOVE(&probe->waiters, waiter, link);
		free(waiter);
		one.done(one.arg, caps, err);
	}
}

void
probes_free(struct probes *probes)
{
	struct probe *probe;
	struct cij_error err;

	if (!probes)
		return;
	cij_error_set(&err, CIJ_E_FAILED, "the daemon was stopped before QEMU had answered");
	while ((probe = TAILQ_FIRST(&probes->all))) {
		tell_waiters(probe, NULL, &err);
		probe_free(probe);
	}
	free(probes);
}

/* Makes room: the oldest that nobody waits for goes. */
static void
forget_oldest(struct probes *probes, const struct probe *but)
{
	struct probe *probe;

	TAILQ_FOREACH_REVERSE (probe, &probes->all, probe_list, link)
		if (probe->known && probe != but) {
			probe_free(probe);
			return;
		}
}

/* A binary that failed is asked again by the next. */
static void
on_answer(void *arg, const struct qemu_caps *caps, const struct cij_error *err)
{
	struct probe *probe = arg;
	struct probes *probes = probe->probes;

	probe->known = caps;
	if (caps)
		probe->caps = *caps;
	probe->err = *err;
	/* They hold the folder of the guest that was the first to ask: it may be unmounted. */
	trials_free(steal_ptr(probe->trials));
	if (probe->known)
		log_info("%s: QEMU %s, dialect %s, %s", probe->qemu, probe->caps.version,
			dialect_name(probe->caps.dialect),
			probe->caps.kvm ? "KVM works" : probe->caps.kvm_why);
	tell_waiters(probe, probe->known ? &probe->caps : NULL, &probe->err);
	if (!probe->known)
		probe_free(probe);
	else if (probes->n > PROBES_MAX)
		forget_oldest(probes, probe);
}

static struct probe *
find_probe(struct probes *probes, const char *qemu, uid_t uid, const struct stat *st)
{
	struct probe *probe;

	TAILQ_FOREACH (probe, &probes->all, link)
		if (probe->uid == uid && strcmp(probe->qemu, qemu) == 0 &&
			probe->st.st_dev == st->st_dev && probe->st.st_ino == st->st_ino &&
			probe->st.st_size == st->st_size &&
			probe->st.st_mtim.tv_sec == st->st_mtim.tv_sec &&
			probe->st.st_mtim.tv_nsec == st->st_mtim.tv_nsec)
			return probe;
	return NULL;
}

static struct probe *
probe_new(struct probes *probes, const char *qemu, uid_t uid, const struct stat *st)
{
	struct probe *probe = calloc(1, sizeof(*probe));

	if (!probe)
		abort();
	probe->probes = probes;
	probe->qemu = str_copy(qemu);
	probe->st = *st;
	probe->uid = uid;
	TAILQ_INIT(&probe->waiters);
	TAILQ_INSERT_HEAD(&probes->all, probe, link);
	probes->n++;
	return probe;
}

void
probe_ask(struct probes *probes, const char *qemu, uid_t uid, gid_t gid, int cwd_fd,
	probe_done_fn *done, void *arg)
{
	struct probe *probe;
	struct waiter *waiter;
	struct stat st;

	if (stat(qemu, &st) < 0) {
		struct cij_error err;

		cij_error_errno(&err, CIJ_E_QEMU_FAILED, errno, "QEMU '%s'", qemu);
		done(arg, NULL, &err);
		return;
	}
	probe = find_probe(probes, qemu, uid, &st);
	if (probe && probe->known) {
		done(arg, &probe->caps, &probe->err);
		return;
	}
	waiter = calloc(1, sizeof(*waiter));
	if (!waiter)
		abort();
	waiter->done = done;
	waiter->arg = arg;
	if (probe) {
		TAILQ_INSERT_TAIL(&probe->waiters, waiter, link);
		return;
	}
	probe = probe_new(probes, qemu, uid, &st);
	TAILQ_INSERT_TAIL(&probe->waiters, waiter, link);
	probe->trials = trials_new(probes->base, qemu, uid, gid, cwd_fd, on_answer, probe);
}

void
probe_cancel(struct probes *probes, void *arg)
{
	struct probe *probe;
	struct waiter *waiter, *next;

	TAILQ_FOREACH (probe, &probes->all, link)
		for (waiter = TAILQ_FIRST(&probe->waiters); waiter; waiter = next) {
			next = TAILQ_NEXT(waiter, link);
			if (waiter->arg == arg) {
				TAILQ_REMOVE(&probe->waiters, waiter, link);
				free(waiter);
			}
		}
}

/* The binary in @home: the usual place below it, or @home itself where that is a file. */
static char *
binary_under(const char *home)
{
	struct stat st;

	if (stat(home, &st) == 0 && S_ISREG(st.st_mode))
		return str_copy(home);
	return str_printf("%s/bin/qemu-system-x86_64", home);
}

/* With the rights that the caller acts with: access() alone would judge by those of the daemon. */
static bool
can_execute(const char *file)
{
	return faccessat(AT_FDCWD, file, X_OK, AT_EACCESS) == 0;
}

static char *
find_on_path(void)
{
	const char *path = getenv("PATH");
	_cleanup_free_ char *copy = str_copy(path ? path : "/usr/local/bin:/usr/bin:/bin");
	char *rest = copy, *dir;

	while ((dir = strsep(&rest, ":"))) {
		_cleanup_free_ char *file = str_printf("%s/qemu-system-x86_64", dir);

		if (*dir == '/' && can_execute(file))
			return steal_ptr(file);
	}
	return NULL;
}

char *
probe_find_qemu(const char *home, const char *daemon_home, struct cij_error *err)
{
	_cleanup_free_ char *file = NULL;

	if (!home)
		home = daemon_home;
	if (!home && can_execute("/opt/qemu-nvme/bin/qemu-system-x86_64"))
		home = "/opt/qemu-nvme";
	file = home ? binary_under(home) : find_on_path();
	if (!file) {
		cij_error_set(err, CIJ_E_QEMU_FAILED, "no qemu-system-x86_64 on the PATH");
		cij_error_hint(err,
			"install Debian's qemu-system-x86, or set QEMU_HOME or the guest's "
			"qemu_home to where QEMU is installed");
		return NULL;
	}
	if (!can_execute(file)) {
		cij_error_errno(
			err, CIJ_E_QEMU_FAILED, errno, "QEMU '%s' cannot be executed", file);
		cij_error_hint(err,
			"QEMU_HOME or the guest's qemu_home should name the folder that has "
			"bin/qemu-system-x86_64");
		return NULL;
	}
	return steal_ptr(file);
}
