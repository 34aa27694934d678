#include "daemon/probe_trial.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "daemon/clock.h"
#include "daemon/fileio.h"
#include "daemon/proc.h"
#include "daemon/qmp.h"
#include "proto/json.h"
#include "proto/text.h"

/* A binary that says nothing for so long will not. Loaded machines take 2 s at times. */
#define PROBE_SECONDS 20

#define SANDBOX_ARGS "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

/* One run of the binary: asked about itself, or only started with KVM. */
struct trial {
	struct trials *both; /* weak */
	struct proc *proc;
	struct qmp *qmp;
	int log_fd; /* what it prints on stderr */
	bool kvm, sandbox;
	bool ok, over;
	char why[64]; /* it is killed by us though it is not ok; "" = it ended by itself */
	size_t type; /* index of the device type being asked for */
};

struct trials {
	struct event_base *base; /* weak */
	char *qemu;
	uid_t uid;
	gid_t gid;
	int cwd_fd;
	struct trial about, kvm;
	struct event *deadline;
	double until; /* clock_mono() */
	struct qemu_caps caps;
	struct cij_error err;
	trials_done_fn *done;
	void *arg; /* weak */
};

static void trial_start(struct trial *trial);

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

void
trials_free(struct trials *trials)
{
	if (!trials)
		return;
	trial_clear(&trials->about);
	trial_clear(&trials->kvm);
	event_free(trials->deadline);
	if (trials->cwd_fd >= 0)
		close(trials->cwd_fd);
	free(trials->qemu);
	free(trials);
}

/* Both are over. May free them: nothing of theirs is touched behind it. */
static void
finish(struct trials *both)
{
	event_del(both->deadline);
	both->done(both->arg, both->err.class == CIJ_E_NONE ? &both->caps : NULL, &both->err);
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
	dialect_take(&trial->both->caps, dialect_types[trial->type], err ? NULL : value);
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
	snprintf(trial->why, sizeof(trial->why), "QEMU says that it does not use it");
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
	take_version(&trial->both->caps, greeting);
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
	struct trials *both = trial->both;
	char last[192];

	if (trial->kvm) {
		first_complaint(trial->log_fd, last, sizeof(last));
		snprintf(both->caps.kvm_why, sizeof(both->caps.kvm_why), "KVM: %s",
			*last ? last : how);
		return;
	}
	if (both->err.class != CIJ_E_NONE) /* we ended it, as the other could not be started */
		return;
	file_last_line(trial->log_fd, last, sizeof(last));
	cij_error_set(&both->err, CIJ_E_QEMU_FAILED, "QEMU '%s' does not work: %s%s%s", both->qemu,
		*last ? last : "", *last ? ", " : "", how);
}

static void
on_trial_exit(void *arg, const struct proc_exit *how)
{
	struct trial *trial = arg;
	struct trials *both = trial->both;
	char text[64];

	if (!*trial->why)
		snprintf(trial->why, sizeof(trial->why), "%s",
			proc_exit_text(how, text, sizeof(text)));
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
		trial_failed(trial, trial->why);
	else if (trial->kvm)
		both->caps.kvm = true;
	else
		both->caps.sandbox = trial->sandbox;
	trial_clear(trial);
	if (both->about.over && both->kvm.over)
		finish(both);
}

static void
trial_argv(const struct trial *trial, struct strv *argv)
{
	strv_add(argv, trial->both->qemu);
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
	struct trials *both = trial->both;
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
		.cwd_fd = both->cwd_fd,
		.uid = both->uid,
		.gid = both->gid};
	trial->proc = proc_spawn(both->base, &spec, on_trial_exit, trial, err);
	if (!trial->proc)
		return -1;
	trial->qmp = qmp_new(both->base, steal_fd(&ours), &trial_qmp_ops, trial);
	return 0;
}

static void
set_deadline(struct trials *both, double seconds)
{
	struct timeval tv = clock_timeval(seconds);

	both->until = clock_mono() + seconds;
	event_add(both->deadline, &tv);
}

/* Fails into the common error; both are finished from the loop in every case. */
static void
trial_start(struct trial *trial)
{
	struct cij_error err;

	trial->over = trial->ok = false;
	trial->why[0] = '\0';
	trial->type = 0;
	trial->log_fd = -1;
	if (trial_spawn(trial, &err) == 0)
		return;
	trial->over = true;
	/* With KVM too: that it does not work would be remembered. */
	trial->both->err = err;
	trial_clear(trial);
	/* The deadline, brought forward, ends what else there is. */
	set_deadline(trial->both, 0);
}

static void
trial_give_up(struct trial *trial)
{
	snprintf(trial->why, sizeof(trial->why), "it did not answer within %d s", PROBE_SECONDS);
	trial_quit(trial);
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct trials *both = arg;
	double more;

	if (both->about.over && both->kvm.over) {
		finish(both);
		return;
	}
	more = clock_grace(&both->until);
	if (more > 0) {
		set_deadline(both, more);
		return;
	}
	/* Killed: their exits finish them. */
	both->about.sandbox = false;
	trial_give_up(&both->about);
	trial_give_up(&both->kvm);
}

struct trials *
trials_new(struct event_base *base, const char *qemu, uid_t uid, gid_t gid, int cwd_fd,
	trials_done_fn *done, void *arg)
{
	struct trials *both = calloc(1, sizeof(*both));

	if (!both)
		abort();
	*both = (struct trials){.base = base,
		.qemu = str_copy(qemu),
		.uid = uid,
		.gid = gid,
		.cwd_fd = fcntl(cwd_fd, F_DUPFD_CLOEXEC, 3),
		.about = {.both = both, .sandbox = true, .log_fd = -1},
		.kvm = {.both = both, .kvm = true, .log_fd = -1},
		.deadline = evtimer_new(base, on_deadline, both),
		.done = done,
		.arg = arg};
	if (!both->deadline)
		abort();
	set_deadline(both, PROBE_SECONDS);
	trial_start(&both->about);
	if (access("/dev/kvm", F_OK) == 0) {
		trial_start(&both->kvm);
	} else {
		both->kvm.over = true;
		snprintf(both->caps.kvm_why, sizeof(both->caps.kvm_why), "KVM: no /dev/kvm");
	}
	return both;
}
