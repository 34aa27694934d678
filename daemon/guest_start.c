/*
 * A start, step by step: probe, images, launch, monitor; then guest_network.c goes on. Each step is
 * an event.
 */
#include "daemon/guest_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/fileio.h"
#include "daemon/log.h"
#include "proto/text.h"

/* A QEMU whose monitor closed is given so long to end by itself, with its own last words. */
#define LAST_WORDS_SECONDS 1

void
guest_start_fail(struct guest *guest, const struct cij_error *err)
{
	if (guest->exited)
		return; /* the run is being closed, and why is known */
	guest->start_err = *err;
	if (guest->qmp && !qmp_is_open(guest->qmp))
		return; /* on_closed() gives QEMU time for its last words */
	if (guest->proc) { /* its exit ends the run */
		proc_signal(guest->proc, SIGKILL);
		return;
	}
	guest_ended(guest, GE_FAILED);
}

void
guest_start_cancel(struct guest *guest)
{
	guest->sent_kill = true;
	guest_ended(guest, GE_FAILED);
}

void
guest_start_deadline(struct guest *guest)
{
	struct cij_error err;

	if (guest->start_err.class != CIJ_E_NONE)
		err = guest->start_err;
	else if (!guest->qmp)
		cij_error_set(&err, CIJ_E_QEMU_FAILED, "QEMU's monitor cannot be reached");
	else
		cij_error_set(&err, CIJ_E_QEMU_FAILED,
			"QEMU did not answer on its monitor within %d s", GUEST_START_SECONDS);
	guest_start_fail(guest, &err);
}

static void
fill_argv_input(const struct guest *guest, struct argv_input *in)
{
	*in = (struct argv_input){
		.qemu = guest->run.qemu,
		.name = guest->name,
		.uuid = guest->uuid,
		.conf = &guest->conf,
		.caps = &guest->caps,
		.kvm = guest->run.kvm,
		.accel_why = guest->run.accel_why,
		.run = guest->run.number,
		.qmp_fd = FD_QMP,
		.boot = guest->files.boot,
		.boot_format = guest->files.boot_format,
		.kernel = guest->files.kernel,
		.initrd = guest->files.initrd,
	};
}

/* Whether to use KVM, and why (not). 0, or -1 where guest.json insists and the host cannot. */
static int
choose_accel(const struct guest_conf *conf, const struct qemu_caps *caps, bool *kvm, char **why,
	struct cij_error *err)
{
	*kvm = false;
	switch ((enum accel_mode)conf->accel) {
	case ACCEL_TCG:
		str_replace(why, "accel is tcg");
		return 0;
	case ACCEL_KVM:
		if (!caps->kvm) {
			cij_error_set(
				err, CIJ_E_QEMU_FAILED, "accel is kvm, but %s", caps->kvm_why);
			return cij_error_hint(err, "set accel to auto or tcg");
		}
		*kvm = true;
		str_replace(why, "accel is kvm");
		return 0;
	case ACCEL_AUTO:
		*kvm = caps->kvm;
		str_replace(why, caps->kvm ? "KVM works" : caps->kvm_why);
		return 0;
	}
	return 0;
}

static struct scope_spec
scope_of(const struct guest *guest)
{
	int64_t memory = guest->conf.limits.memory_max, tasks = guest->conf.limits.tasks_max;

	return (struct scope_spec){.guest = guest->name,
		.run = guest->run.number,
		.memory_max = memory == CIJ_UNSET ? 0 : memory,
		.cpu_usec = guest_conf_cpu_usec(&guest->conf),
		.tasks_max = tasks == CIJ_UNSET ? 0 : tasks};
}

static int
spawn_qemu(struct guest *guest, struct cij_error *err)
{
	_cleanup_close_ int sockets = -1, listener = -1, null = -1, handle = -1;
	struct argv argv;
	struct argv_input in;
	int ret;

	sockets = guest_sockets_dir(guest, err);
	if (sockets < 0)
		return -1;
	listener = sock_listen_at(sockets, "qemu.sock", 0600, err);
	if (listener < 0)
		return -1;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	handle = openat(sockets, "qemu.sock", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (null < 0 || handle < 0)
		return cij_error_errno(err, CIJ_E_NO_RESOURCES, errno, "cannot start a process");
	fill_argv_input(guest, &in);
	ret = argv_build(&in, &argv, err);
	if (ret == 0) {
		struct scope_spec scope = scope_of(guest);
		struct proc_spec spec = {.argv = argv.items.items,
			.fds = {[FD_STDIN] = null,
				[FD_STDOUT] = guest->run_files.qemu_fd,
				[FD_STDERR] = guest->run_files.qemu_fd,
				[FD_QMP] = listener,
				[FD_QMP_NAME] = handle},
			.n_fds = FD_COUNT,
			.cwd_fd = guest->dir_fd,
			.uid = guest->uid,
			.gid = guest->gid,
			.scope = &scope};

		guest->run.argv = strv_to_json(&argv.items);
		/* Before there is a process: whatever ends us, the next daemon knows of it. */
		guest_save_run(guest);
		guest->proc = proc_spawn(guest->sv->base, &spec, guest_on_exit, guest, err);
	}
	argv_clear(&argv);
	return guest->proc ? 0 : -1;
}

/*
 * QEMU writes its number through whatever link has the name of its pid file: such a name goes, the
 * file that it led to stays as it is. A plain file stays, too: another QEMU may hold its lock.
 */
static int
check_pid_file(const struct guest *guest, struct cij_error *err)
{
	struct stat st;

	if (fstatat(guest->dir_fd, "guest.pid", &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		(S_ISREG(st.st_mode) && st.st_nlink == 1))
		return 0;
	if (unlinkat(guest->dir_fd, "guest.pid", 0) == 0)
		return 0;
	return cij_error_errno(err, CIJ_E_BAD_CONFIG, errno,
		"guest.pid is no plain file of its own, and cannot be removed");
}

static int
make_run(struct guest *guest, struct cij_error *err)
{
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest->uid, guest->gid);

	struct cij_error ignored;

	if (check_pid_file(guest, err) < 0)
		return -1;
	/* The folder may have runs that another daemon made: the number is looked up each time. */
	guest->run.number = run_newest(guest->dir_fd) + 1;
	/* First: whatever ends us from here on, the next daemon knows what was begun. Where it
	 * cannot be written, the other files' error tells. */
	run_begin(guest->dir_fd, &guest->run, &ignored);
	if (run_files_make(guest->dir_fd, guest->run.number, (unsigned)guest->conf.log.keep,
		    &guest->run_files, err) < 0)
		return -1;
	guest_open_console(guest);
	guest_cut_logs(guest);
	return 0;
}

static void
launch(struct guest *guest)
{
	struct cij_error err;

	guest_tell_phase(guest, "launching", "starting QEMU");
	if (make_run(guest, &err) < 0 || spawn_qemu(guest, &err) < 0) {
		guest_start_fail(guest, &err);
		return;
	}
	guest_arm(guest, GUEST_START_SECONDS);
	if (guest_monitor_connect(guest) < 0) {
		/* QEMU has ended already: its exit comes, with last words of its own. */
		guest->qmp_over = true;
		guest_arm(guest, LAST_WORDS_SECONDS);
	}
}

static void
on_images_progress(void *arg, const char *text)
{
	guest_tell_phase(arg, "images", text);
}

static void
on_images(void *arg, const struct cij_error *err)
{
	struct guest *guest = arg;

	image_job_free(steal_ptr(guest->images));
	if (err)
		guest_start_fail(guest, err);
	else
		launch(guest);
}

static const struct image_ops start_images_ops = {on_images_progress, on_images};

static void
on_probe(void *arg, const struct qemu_caps *caps, const struct cij_error *err)
{
	struct guest *guest = arg;
	struct cij_error own;

	if (!caps) {
		guest_start_fail(guest, err);
		return;
	}
	guest->caps = *caps;
	str_replace(&guest->run.version, caps->version);
	str_replace(&guest->run.dialect, dialect_name(caps->dialect));
	if (choose_accel(&guest->conf, caps, &guest->run.kvm, &guest->run.accel_why, &own) < 0) {
		guest_start_fail(guest, &own);
		return;
	}
	guest_tell_phase(guest, "images", "looking after the drives' files");
	struct image_spec spec = {.devices = guest->conf.devices.items,
		.n_devices = guest->conf.devices.n,
		.caps = guest->caps,
		.qemu = guest->run.qemu,
		.dir_fd = guest->dir_fd,
		.uid = guest->uid,
		.gid = guest->gid,
		.guest = guest->name};
	guest->images = image_job_new(guest->sv->base, &spec, &start_images_ops, guest);
}

/* As the owner: whether a file is there that only root can see is not told. */
static char *
find_binary(const struct guest *guest, struct cij_error *err)
{
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest->uid, guest->gid);

	return probe_find_qemu(guest->conf.qemu_home, guest->sv->conf->qemu_home, err);
}

/* Forgets the run before, but for what goes from one to the next. */
static void
begin_run(struct guest *guest, char *qemu, const struct peer *by, bool automatic)
{
	struct backoff backoff = {0};

	guest->last_port = guest->run.port;
	if (automatic)
		backoff = guest->run.backoff;
	run_clear(&guest->run);
	guest->run = (struct run){.qemu = qemu,
		.by_uid = by->uid,
		.by_pid = by->pid,
		.automatic = automatic,
		.started = time(NULL),
		.this_boot = true,
		.backoff = backoff,
		.config = json_object_get(guest->conf.json),
		.boot_ms = -1};
	guest->start_err.class = CIJ_E_NONE;
	guest->exited = guest->qmp_over = false;
	guest->asked_stop = guest->sent_kill = false;
	guest->saw_panic = guest->saw_guest_shutdown = guest->saw_shutdown = false;
	guest->folder_gone = false;
	str_replace(&guest->io_error, NULL);
	guest->out_of_memory = OOM_NO;
	guest->resets = guest->quick_resets = 0;
	guest->reset_at = 0;
	guest->start_at = clock_mono();
}

static int
start(struct guest *guest, const struct peer *by, bool automatic, bool paused,
	struct cij_error *err)
{
	struct gstep step = gstate_step(guest->state, GE_START);
	char *qemu;

	if (step.action == GA_ALREADY)
		return GUEST_ALREADY;
	if (step.action != GA_LAUNCH)
		return guest_refused(guest, GE_START, err);
	if (guest->device_job) {
		cij_error_set(err, CIJ_E_BUSY,
			"cannot start guest '%s': one of its drives is being worked on",
			guest->name);
		return cij_error_hint(err, "try again when that is done");
	}
	if (admission_check(guest->sv->admission, guest->name, guest->uid, guest->conf.memory,
		    guest->dir_fd, guest->sv->guests_fd, err) < 0)
		return -1;
	qemu = find_binary(guest, err);
	if (!qemu)
		return cij_error_prefix(err, "guest '%s' did not start", guest->name);
	guest_restart_cancel(guest);
	begin_run(guest, qemu, by, automatic);
	guest->frozen = false;
	guest_drives_set(guest, cij_json_get(guest->conf.json, "devices"), DRIVE_PRESENT);
	guest->run.paused = guest->paused_start = paused;
	log_notice("guest '%s': starting for uid %u%s", guest->name, (unsigned)by->uid,
		automatic ? ", by itself" : "");
	guest_step(guest, GE_START);
	guest_tell_phase(guest, "probing", "asking QEMU what it can do");
	probe_ask(guest->sv->probes, guest->run.qemu, guest->uid, guest->gid, guest->dir_fd,
		on_probe, guest);
	return GUEST_DID;
}

int
guest_start(struct guest *guest, const struct peer *by, bool paused, struct cij_error *err)
{
	return start(guest, by, false, paused, err);
}

int
guest_start_again(struct guest *guest, struct cij_error *err)
{
	struct peer by = {.uid = guest->run.by_uid, .pid = guest->run.by_pid};

	return start(guest, &by, true, false, err);
}

int
guest_autostart(struct guest *guest, struct cij_error *err)
{
	struct peer by = {.uid = guest->uid, .gid = guest->gid, .pid = getpid()};

	guest->run.backoff = (struct backoff){0};
	return start(guest, &by, true, false, err);
}

void
guest_up(struct guest *guest, bool paused)
{
	event_del(guest->deadline);
	guest->boot_seen = true;
	guest->run.up = true;
	guest->run.up_at = guest->up_at = clock_mono();
	guest_watch_memory(guest);
	log_id(LOG_ID_RUNNING, LOG_NOTICE, "guest '%s': %s, pid %d, SSH port %d", guest->name,
		paused ? "paused" : "running", (int)proc_pid(guest->proc), guest->run.port);
	guest_monitor_watch(guest);
	guest_watch_boot(guest);
	guest_step(guest, paused ? GE_UP_PAUSED : GE_UP);
	/* Once more, now with the port that the next start shall try first, and since when it runs.
	 */
	guest_save_run(guest);
}

int
guest_find_qemu(const struct guest *guest, char **qemu, struct cij_error *err)
{
	if (guest->broken.class != CIJ_E_NONE)
		return guest_refused(guest, GE_START, err);
	*qemu = find_binary(guest, err);
	return *qemu ? 0 : -1;
}

void
guest_probe(struct guest *guest, const char *qemu, probe_done_fn *done, void *arg)
{
	probe_ask(guest->sv->probes, qemu, guest->uid, guest->gid, guest->dir_fd, done, arg);
}

int
guest_argv(const struct guest *guest, const char *qemu, const struct qemu_caps *caps,
	struct argv *argv, struct cij_error *err)
{
	_cleanup_free_ char *why = NULL;
	struct argv_input in;
	bool kvm;

	*argv = (struct argv){0};
	if (choose_accel(&guest->conf, caps, &kvm, &why, err) < 0)
		return -1;
	fill_argv_input(guest, &in);
	in.qemu = qemu;
	in.caps = caps;
	in.kvm = kvm;
	in.accel_why = why;
	in.run = guest->run.number + 1;
	return argv_build(&in, argv, err);
}
