#include "daemon/image.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/argv.h"
#include "daemon/as_owner.h"
#include "daemon/fileio.h"
#include "daemon/proc.h"
#include "proto/text.h"

struct image_job {
	struct event_base *base; /* weak */
	struct image_spec spec;
	char *qemu_img;
	size_t at; /* the device in work */
	struct proc *proc;
	int log_fd; /* what qemu-img prints */
	struct event *next;
	image_done_fn *done;
	void *arg; /* weak */
};

static void
step_soon(struct image_job *job)
{
	event_active(job->next, EV_TIMEOUT, 0);
}

/* qemu-img beside the QEMU in use: only its own knows its fork's formats. */
static char *
find_qemu_img(const char *qemu)
{
	_cleanup_free_ char *copy = str_copy(qemu);

	return str_printf("%s/qemu-img", dirname(copy));
}

static char *
temporary_name(const char *file)
{
	return str_printf(".%s.new", file);
}

static int
cannot_make(const char *file, int errnum, struct cij_error *err)
{
	cij_error_errno(err,
		errnum == ENOSPC || errnum == EDQUOT ? CIJ_E_NO_RESOURCES : CIJ_E_BAD_CONFIG,
		errnum, "cannot make '%s'", file);
	return errnum == ENOSPC
		       ? cij_error_hint(err, "the disk is full: make room, then start again")
		       : -1;
}

/* The file of a drive that is there already: it must fit the definition. 1 there, 0 missing, -1. */
static int
check_existing(const struct image_job *job, const struct device_conf *d, const char *file,
	enum image_kind kind, struct cij_error *err)
{
	char is[24], want[24];
	struct stat st;

	if (fstatat(job->spec.dir_fd, file, &st, 0) < 0) {
		if (errno == ENOENT)
			return 0;
		return cij_error_errno(
			err, CIJ_E_BAD_CONFIG, errno, "drive '%s': '%s'", d->id, file);
	}
	if (!S_ISREG(st.st_mode))
		return cij_error_set(
			err, CIJ_E_BAD_CONFIG, "drive '%s': '%s' is no regular file", d->id, file);
	if (kind != IMAGE_RAW || st.st_size == d->size)
		return 1;
	cij_error_set(err, CIJ_E_BAD_CONFIG,
		"drive '%s': its file '%s' has %s bytes, guest.json says %s", d->id, file,
		cij_size_exact(st.st_size, is, sizeof(is)),
		cij_size_exact(d->size, want, sizeof(want)));
	return cij_error_hint(err,
		"set devices.%s.size to %s, or move the file away to get a new one", d->id, is);
}

static int
make_sparse(const struct image_job *job, const char *file, int64_t size, struct cij_error *err)
{
	_cleanup_free_ char *temporary = temporary_name(file);
	_cleanup_close_ int fd = -1;
	int dir = job->spec.dir_fd, saved;

	unlinkat(dir, temporary, 0);
	fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return cannot_make(file, errno, err);
	if (ftruncate(fd, size) < 0 || renameat(dir, temporary, dir, file) < 0) {
		saved = errno;
		unlinkat(dir, temporary, 0);
		return cannot_make(file, saved, err);
	}
	return 0;
}

static void
finish(struct image_job *job, const struct cij_error *err)
{
	job->done(job->arg, err);
}

static void
on_qemu_img_exit(void *arg, const struct proc_exit *how)
{
	struct image_job *job = arg;
	const struct device_conf *d = &job->spec.devices[job->at];
	_cleanup_free_ char *file = argv_device_file(d);
	_cleanup_free_ char *temporary = temporary_name(file);
	struct cij_error err;
	char last[256], text[64];
	int dir = job->spec.dir_fd;
	bool ok = how->known && !how->signaled && how->code == 0;

	proc_free(job->proc);
	job->proc = NULL;
	file_last_line(job->log_fd, last, sizeof(last));
	close(job->log_fd);
	job->log_fd = -1;
	{
		_cleanup_as_owner_ struct as_owner as = as_owner_begin(
			job->spec.uid, job->spec.gid);

		if (ok && renameat(dir, temporary, dir, file) == 0) {
			job->at++;
			step_soon(job);
			return;
		}
		if (ok)
			cannot_make(file, errno, &err);
		unlinkat(dir, temporary, 0);
	}
	if (!ok)
		cij_error_set(&err, CIJ_E_QEMU_FAILED, "drive '%s': %s could not make '%s': %s",
			d->id, job->qemu_img, file,
			*last ? last : proc_exit_text(how, text, sizeof(text)));
	finish(job, &err);
}

static int
run_qemu_img(
	struct image_job *job, const struct device_conf *d, const char *file, struct cij_error *err)
{
	_cleanup_free_ char *temporary = temporary_name(file);
	_cleanup_free_ char *options = dialect_image_options(d);
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	_cleanup_strv_ struct strv argv = {0};

	job->log_fd = memfd_create("qemu-img", MFD_CLOEXEC);
	if (null < 0 || job->log_fd < 0)
		return cij_error_errno(err, CIJ_E_NO_RESOURCES, errno, "cannot run qemu-img");
	strv_add(&argv, job->qemu_img);
	strv_add(&argv, "create");
	strv_add(&argv, "-q");
	strv_add(&argv, "-f");
	strv_add(&argv, "ocssd");
	strv_add(&argv, "-o");
	strv_add(&argv, options);
	strv_add(&argv, temporary);
	struct proc_spec spec = {.argv = argv.items,
		.fds = {null, job->log_fd, job->log_fd},
		.n_fds = 3,
		.cwd_fd = job->spec.dir_fd,
		.uid = job->spec.uid,
		.gid = job->spec.gid};
	job->proc = proc_spawn(job->base, &spec, on_qemu_img_exit, job, err);
	return job->proc ? 0 : -1;
}

/* Sees to the file of one drive. 1: it is there now; 0: qemu-img is at work; -1. */
static int
make_one(struct image_job *job, const struct device_conf *d, struct cij_error *err)
{
	_cleanup_free_ char *file = argv_device_file(d);
	enum image_kind kind;
	int there;

	if (dialect_image_kind(&job->spec.caps, d, job->spec.qemu, &kind, err) < 0)
		return -1;
	{
		_cleanup_as_owner_ struct as_owner as = as_owner_begin(
			job->spec.uid, job->spec.gid);

		there = check_existing(job, d, file, kind, err);
		if (there)
			return there;
		if (kind != IMAGE_OCSSD)
			return make_sparse(job, file, kind == IMAGE_RAW ? d->size : 0, err) < 0 ? -1
												: 1;
	}
	return run_qemu_img(job, d, file, err);
}

static void
on_step(evutil_socket_t fd, short what, void *arg)
{
	struct image_job *job = arg;
	struct cij_error err;

	while (job->at < job->spec.n_devices) {
		int ret = make_one(job, &job->spec.devices[job->at], &err);

		if (ret == 0)
			return;
		if (ret < 0) {
			finish(job, &err);
			return;
		}
		job->at++;
	}
	finish(job, NULL);
}

struct image_job *
image_job_new(
	struct event_base *base, const struct image_spec *spec, image_done_fn *done, void *arg)
{
	struct image_job *job = calloc(1, sizeof(*job));

	if (!job)
		abort();
	job->base = base;
	job->spec = *spec;
	job->qemu_img = find_qemu_img(spec->qemu);
	job->log_fd = -1;
	job->done = done;
	job->arg = arg;
	job->next = event_new(base, -1, 0, on_step, job);
	if (!job->next)
		abort();
	step_soon(job);
	return job;
}

void
image_job_free(struct image_job *job)
{
	if (!job)
		return;
	if (job->proc)
		proc_signal(job->proc, SIGKILL);
	proc_free(job->proc);
	if (job->log_fd >= 0)
		close(job->log_fd);
	event_free(job->next);
	free(job->qemu_img);
	free(job);
}
