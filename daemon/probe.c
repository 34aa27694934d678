#include "daemon/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "daemon/clock.h"
#include "daemon/fileio.h"
#include "daemon/log.h"
#include "daemon/proc.h"
#include "daemon/qmp.h"
#include "proto/json.h"
#include "proto/text.h"

/* A binary that says nothing for so long will not. Loaded machines take 2 s at times. */
#define PROBE_SECONDS 20

/* Binaries remembered; a lab has a handful. */
#define PROBES_MAX 64

#define SANDBOX_ARGS "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

struct waiter {
	TAILQ_ENTRY(waiter) link;
	probe_done_fn *done;
	void *arg; /* weak */
};

struct probe;

/* One run of the binary: asked about itself, or only started with KVM. */
struct trial {
	struct probe *probe; /* weak */
	struct proc *proc;
	struct qmp *qmp;
	int log_fd; /* what it prints on stderr */
	bool kvm, sandbox;
	bool ok, over;
	size_t type; /* index of the device type being asked for */
};

struct probe {
	TAILQ_ENTRY(probe) link;
	struct probes *probes; /* weak */
	char *qemu;
	struct stat st; /* of the binary when it was asked */
	uid_t uid;
	gid_t gid;
	int cwd_fd;
	struct trial about, kvm;
	struct event *deadline;
	double until; /* clock_mono() */
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

static void trial_start(struct trial *trial);

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

static void
trial_clear(struct trial *trial)
{
	qmp_free(trial->qmp);
	if (trial->proc)
		proc_signal(trial->proc, SIGKILL);
	proc_free(trial->proc);
	if (trial->log_fd >= 0)
		close(trial->log_fd);
	trial->qmp = NULL;
	trial->proc = NULL;
	trial->log_fd = -1;
}

static void
probe_free(struct probe *probe)
{
	struct waiter *waiter;

	TAILQ_REMOVE(&probe->probes->all, probe, link);
	probe->probes->n--;
	trial_clear(&probe->about);
	trial_clear(&probe->kvm);
	if (probe->deadline)
		event_free(probe->deadline);
	while ((waiter = TAILQ_FIRST(&probe->waiters))) {
		TAILQ_REMOVE(&probe->waiters, waiter, link);
		free(waiter);
	}
	if (probe->cwd_fd >= 0)
		close(probe->cwd_fd);
	free(probe->qemu);
	free(probe);
}

void
probes_free(struct probes *probes)
{
	struct probe *probe;
	struct waiter *waiter;
	struct cij_error err;

	if (!probes)
		return;
	cij_error_set(&err, CIJ_E_FAILED, "the daemon was stopped before QEMU had answered");
	while ((probe = TAILQ_FIRST(&probes->all))) {
		while ((waiter = TAILQ_FIRST(&probe->waiters))) {
			struct waiter one = *waiter;

			TAILQ_REMOVE(&probe->waiters, waiter, link);
			free(waiter);
			one.done(one.arg, NULL, &err);
		}
		probe_free(probe);
	}
	free(probes);
}

/* Makes room: the oldest that nobody waits for goes. */
static void
forget_oldest(struct probes *probes, const struct probe *but)
{
	struct probe *probe;

	TAILQ_FOREACH_REVERSE(probe, &probes->all, probe_list, link)
	if (probe->known && probe != but) {
		probe_free(probe);
		return;
	}
}

/* All is known: tell those who asked. A binary that failed is asked again by the next. */
static void
probe_finish(struct probe *probe)
{
	struct waiter *waiter;
	struct probes *probes = probe->probes;

	probe->known = probe->err.class == CIJ_E_NONE;
	event_del(probe->deadline);
	/* The folder of the guest that was the first to ask: it may be unmounted. */
	if (probe->cwd_fd >= 0)
		close(steal_fd(&probe->cwd_fd));
	if (probe->known)
		log_info("%s: QEMU %s, dialect %s, %s", probe->qemu, probe->caps.version,
			dialect_name(probe->caps.dialect),
			probe->caps.kvm ? "KVM works" : probe->caps.kvm_why);
	while ((waiter = TAILQ_FIRST(&probe->waiters))) {
		struct waiter one = *waiter;

		TAILQ_REMOVE(&probe->waiters, waiter, link);
		free(waiter);
		one.done(one.arg, probe->known ? &probe->caps : NULL, &probe->err);
	}
	if (!probe->known)
		probe_free(probe);
	else if (probes->n > PROBES_MAX)
		forget_oldest(probes, probe);
}

/* Ends the trial's process; its exit moves things on. */
static void
trial_quit(struct trial *trial)
{
	if (trial->proc)
		proc_signal(trial->proc, SIGKILL);
}

static void ask_next_type(struct trial *trial);

static void
on_properties(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct trial *trial = arg;

	if (trial->over)
		return;
	dialect_take(&trial->probe->caps, dialect_types[trial->type], err ? NULL : value);
	trial->type++;
	ask_next_type(trial);
}

/* QMP 'device-list-properties'; a device that is not there is answered with DeviceNotFound. */
static void
ask_next_type(struct trial *trial)
{
	struct json_object *args;

	if (!dialect_types[trial->type]) {
		trial->ok = true;
		trial_quit(trial);
		return;
	}
	args = json_object_new_object();
	cij_json_add_str(args, "typename", dialect_types[trial->type]);
	qmp_send(trial->qmp, "device-list-properties", args, 0, on_properties, trial);
}

static void
take_version(struct qemu_caps *caps, struct json_object *greeting)
{
	struct json_object *v = cij_json_get(cij_json_get(greeting, "version"), "qemu");

	snprintf(caps->version, sizeof(caps->version), "%d.%d.%d", (int)cij_json_int(v, "major", 0),
		(int)cij_json_int(v, "minor", 0), (int)cij_json_int(v, "micro", 0));
}

/* A QEMU that greets with -accel kvm has initialised its vCPUs: that is where broken hosts abort.
 */
static void
on_kvm_state(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct trial *trial = arg;

	if (trial->over)
		return;
	trial->ok = cij_json_bool(value, "enabled", false);
	trial_quit(trial);
}

static void
on_ready(void *arg, struct json_object *greeting)
{
	struct trial *trial = arg;

	if (trial->kvm) {
		qmp_send(trial->qmp, "query-kvm", NULL, 0, on_kvm_state, trial);
		return;
	}
	take_version(&trial->probe->caps, greeting);
	ask_next_type(trial);
}

static void
on_event(void *arg, const char *name, struct json_object *data)
{
}

static void
on_closed(void *arg, const struct cij_error *why)
{
	struct trial *trial = arg;

	/* It ended by itself, or talks something else: its exit tells the rest. */
	trial_quit(trial);
}

static const struct qmp_ops trial_qmp_ops = {on_ready, on_event, on_closed};

/*
 * What QEMU complained of first, without its name: before it aborts it says what failed, and then
 * where in its source. "" when it said nothing.
 */
static const char *
first_complaint(int fd, char *buf, size_t size)
{
	static const char marker[] = "error: ";
	char text[512];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	char *at;

	buf[0] = '\0';
	if (n <= 0)
		return buf;
	text[n] = '\0';
	at = strstr(text, marker);
	at = at ? at + strlen(marker) : text;
	at[strcspn(at, "\r\n")] = '\0';
	return cij_text_clean(at, buf, size);
}

static void
trial_failed(struct trial *trial, const char *how)
{
	struct probe *probe = trial->probe;
	char last[192];

	if (trial->kvm) {
		first_complaint(trial->log_fd, last, sizeof(last));
		snprintf(probe->caps.kvm_why, sizeof(probe->caps.kvm_why), "KVM: %s",
			*last ? last : how);
		return;
	}
	file_last_line(trial->log_fd, last, sizeof(last));
	cij_error_set(&probe->err, CIJ_E_QEMU_FAILED, "QEMU '%s' does not work: %s%s%s",
		probe->qemu, *last ? last : "", *last ? ", " : "", how);
}

static void
on_trial_exit(void *arg, const struct proc_exit *how)
{
	struct trial *trial = arg;
	struct probe *probe = trial->probe;
	char text[64];

	trial->over = true;
	proc_free(trial->proc);
	trial->proc = NULL;
	if (!trial->ok && trial->sandbox) { /* the forks refuse -sandbox: ask again without */
		trial_clear(trial);
		trial->sandbox = false;
		trial_start(trial);
		return;
	}
	if (!trial->ok)
		trial_failed(trial, proc_exit_text(how, text, sizeof(text)));
	else if (trial->kvm)
		probe->caps.kvm = true;
	else
		probe->caps.sandbox = trial->sandbox;
	trial_clear(trial);
	if (probe->about.over && probe->kvm.over)
		probe_finish(probe);
}

static void
trial_argv(const struct trial *trial, struct strv *argv)
{
	strv_add(argv, trial->probe->qemu);
	strv_add(argv, "-nodefaults");
	strv_add(argv, "-no-user-config");
	strv_add(argv, "-display");
	strv_add(argv, "none");
	strv_add(argv, "-machine");
	strv_add(argv, trial->kvm ? "q35" : "none");
	if (trial->kvm) {
		strv_add(argv, "-accel");
		strv_add(argv, "kvm");
		strv_add(argv, "-cpu");
		strv_add(argv, "max");
	}
	if (trial->sandbox) {
		strv_add(argv, "-sandbox");
		strv_add(argv, SANDBOX_ARGS);
	}
	strv_add(argv, "-S");
	strv_add(argv, "-qmp");
	strv_add(argv, "stdio");
}

static int
trial_spawn(struct trial *trial, struct cij_error *err)
{
	struct probe *probe = trial->probe;
	_cleanup_strv_ struct strv argv = {0};
	_cleanup_close_ int ours = -1, theirs = -1;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return cij_error_errno(err, CIJ_E_NO_RESOURCES, errno, "cannot ask QEMU");
	ours = pair[0];
	theirs = pair[1];
	evutil_make_socket_nonblocking(ours);
	trial->log_fd = memfd_create("probe", MFD_CLOEXEC);
	if (trial->log_fd < 0)
		return cij_error_errno(err, CIJ_E_NO_RESOURCES, errno, "cannot ask QEMU");
	trial_argv(trial, &argv);
	struct proc_spec spec = {.argv = argv.items,
		.fds = {theirs, theirs, trial->log_fd},
		.n_fds = 3,
		.cwd_fd = probe->cwd_fd,
		.uid = probe->uid,
		.gid = probe->gid};
	trial->proc = proc_spawn(probe->probes->base, &spec, on_trial_exit, trial, err);
	if (!trial->proc)
		return -1;
	trial->qmp = qmp_new(probe->probes->base, steal_fd(&ours), &trial_qmp_ops, trial);
	return 0;
}

static void
set_deadline(struct probe *probe, double seconds)
{
	struct timeval tv = clock_timeval(seconds);

	probe->until = clock_mono() + seconds;
	event_add(probe->deadline, &tv);
}

/* Fails into the probe's error; the probe is finished from the loop in every case. */
static void
trial_start(struct trial *trial)
{
	struct cij_error err;

	trial->over = trial->ok = false;
	trial->type = 0;
	trial->log_fd = -1;
	if (trial_spawn(trial, &err) == 0)
		return;
	trial->over = true;
	if (trial->kvm)
		snprintf(trial->probe->caps.kvm_why, sizeof(trial->probe->caps.kvm_why), "%.255s",
			err.desc);
	else
		trial->probe->err = err;
	trial_clear(trial);
	/* The deadline, brought forward, ends what else there is. */
	set_deadline(trial->probe, 0);
}

static void
on_probe_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct probe *probe = arg;
	double more;

	if (probe->about.over && probe->kvm.over) {
		probe_finish(probe);
		return;
	}
	more = clock_grace(&probe->until);
	if (more > 0) {
		set_deadline(probe, more);
		return;
	}
	/* Killed: their exits finish the probe. */
	probe->about.sandbox = false;
	trial_quit(&probe->about);
	trial_quit(&probe->kvm);
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
probe_new(struct probes *probes, const char *qemu, uid_t uid, gid_t gid, int cwd_fd,
	const struct stat *st)
{
	struct probe *probe = calloc(1, sizeof(*probe));

	if (!probe)
		abort();
	probe->probes = probes;
	probe->qemu = str_copy(qemu);
	probe->st = *st;
	probe->uid = uid;
	probe->gid = gid;
	probe->cwd_fd = fcntl(cwd_fd, F_DUPFD_CLOEXEC, 3);
	probe->about = (struct trial){.probe = probe, .sandbox = true, .log_fd = -1};
	probe->kvm = (struct trial){.probe = probe, .kvm = true, .log_fd = -1};
	TAILQ_INIT(&probe->waiters);
	probe->deadline = evtimer_new(probes->base, on_probe_deadline, probe);
	if (!probe->deadline)
		abort();
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
	probe = probe_new(probes, qemu, uid, gid, cwd_fd, &st);
	TAILQ_INSERT_TAIL(&probe->waiters, waiter, link);
	set_deadline(probe, PROBE_SECONDS);
	trial_start(&probe->about);
	if (access("/dev/kvm", F_OK) == 0) {
		trial_start(&probe->kvm);
	} else {
		probe->kvm.over = true;
		snprintf(probe->caps.kvm_why, sizeof(probe->caps.kvm_why), "KVM: no /dev/kvm");
	}
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
