#include "daemon/image.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/argv.h"
#include "daemon/as_owner.h"
#include "daemon/fileio.h"
#include "daemon/image_record.h"
#include "daemon/proc.h"
#include "proto/text.h"

/* Both geometries in an error, a dozen numbers each. */
#define GEOMETRY_TEXT_MAX 320

/* While qemu-img works, how far it is. */
#define PROGRESS_SECONDS 1

/* What the small files beside an image take. */
#define SMALL_FILES_BYTES (16 * 1024)

struct image_job {
	struct event_base *base; /* weak */
	struct image_spec spec;
	char *qemu_img;
	size_t at; /* the device in work */
	enum image_format format; /* of its image */
	struct proc *proc;
	int log_fd; /* what qemu-img prints */
	struct event *next, *tick;
	const struct image_ops *ops; /* weak */
	void *arg; /* weak */
};

static void
step_soon(struct image_job *job)
{
	event_active(job->next, EV_TIMEOUT, 0);
}

static void __attribute__((format(printf, 2, 3)))
tell(const struct image_job *job, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	job->ops->progress(job->arg, text);
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
	bool full = errnum == ENOSPC || errnum == EDQUOT;

	cij_error_errno(err, full ? CIJ_E_NO_RESOURCES : CIJ_E_BAD_CONFIG, errnum,
		"cannot make '%s'", file);
	return full ? cij_error_hint(err, "the disk is full: make room, then try again") : -1;
}

static int
mismatch(const struct image_job *job, const struct device_conf *d, const char *file, const char *is,
	const char *want, struct cij_error *err)
{
	cij_error_set(err, CIJ_E_BAD_CONFIG, "drive '%s': '%s' was made as %s; guest.json wants %s",
		d->id, file, is, want);
	return cij_error_hint(err,
		"'cijqemuctl device format %s %s' makes it anew and its data is gone; or set "
		"devices.%s in guest.json back to what it was made as",
		job->spec.guest, d->id, d->id);
}

/* An image that nobody recorded: a raw file of the right size will do, an OCSSD's will not. */
static int
check_unrecorded(const struct image_job *job, const struct device_conf *d, const char *file,
	const struct stat *st, struct geometry *is, struct cij_error *err)
{
	geometry_of(d, job->format, is);
	if (job->format == FORMAT_RAW) {
		is->size = st->st_size;
		return 0;
	}
	if (job->format == FORMAT_OCSSD_NS && st->st_size == 0)
		return 0;
	cij_error_set(err, CIJ_E_BAD_CONFIG,
		"drive '%s': '%s' is no OCSSD image: what geometry it was made with is not known",
		d->id, file);
	return cij_error_hint(err,
		"'cijqemuctl device format %s %s' makes it anew and its data is gone; or move the "
		"file away",
		job->spec.guest, d->id);
}

/*
 * The image that is there must be the drive's. 1 it is, and whether that is @recorded (else @is is
 * what to record); 0 there is none; -1. As the owner.
 */
static int
compare_existing(const struct image_job *job, const struct device_conf *d, const char *file,
	struct geometry *is, bool *recorded, struct cij_error *err)
{
	char is_text[GEOMETRY_TEXT_MAX], want_text[GEOMETRY_TEXT_MAX];
	struct geometry want;
	struct stat st;
	int known;

	if (fstatat(job->spec.dir_fd, file, &st, 0) < 0) {
		if (errno == ENOENT)
			return 0;
		return cij_error_errno(
			err, CIJ_E_BAD_CONFIG, errno, "drive '%s': '%s'", d->id, file);
	}
	if (!S_ISREG(st.st_mode))
		return cij_error_set(
			err, CIJ_E_BAD_CONFIG, "drive '%s': '%s' is no regular file", d->id, file);
	known = image_record_read(job->spec.dir_fd, d->id, file, &st, is, err);
	if (known < 0 || (known == 0 && check_unrecorded(job, d, file, &st, is, err) < 0))
		return -1;
	geometry_of(d, job->format, &want);
	if (!geometry_matches(is, &want, is_text, want_text, sizeof(is_text)))
		return mismatch(job, d, file, is_text, want_text, err);
	*recorded = known;
	return 1;
}

/* The same, and it is recorded from now on. */
static int
check_existing(const struct image_job *job, const struct device_conf *d, const char *file,
	struct cij_error *err)
{
	struct geometry is;
	bool recorded = true;
	int there = compare_existing(job, d, file, &is, &recorded, err);

	if (!recorded && image_record_write(job->spec.dir_fd, d->id, &is) < 0)
		return cannot_make(file, errno, err);
	return there;
}

int
image_check(int dir_fd, const char *guest, const struct device_conf *d, enum image_format format,
	struct cij_error *err)
{
	struct image_job job = {.spec = {.dir_fd = dir_fd, .guest = guest}, .format = format};
	_cleanup_free_ char *file = argv_device_file(d->id);
	struct geometry is;
	bool recorded;

	return compare_existing(&job, d, file, &is, &recorded, err) < 0 ? -1 : 0;
}

/* Room for what is about to be written, and a word where the drive may outgrow the disk. */
static int
check_room(const struct image_job *job, const struct device_conf *d, const char *file,
	struct cij_error *err)
{
	char need_text[24], free_text[24], size_text[24];
	struct geometry want;
	struct statvfs vfs;
	int64_t need, avail;

	geometry_of(d, job->format, &want);
	need = geometry_bytes_to_make(&want) + SMALL_FILES_BYTES;
	if (fstatvfs(job->spec.dir_fd, &vfs) < 0)
		return 0; /* making it tells */
	avail = (int64_t)vfs.f_bavail * (int64_t)vfs.f_frsize;
	cij_size_human(avail, free_text, sizeof(free_text));
	if (avail < need) {
		cij_error_set(err, CIJ_E_NO_RESOURCES,
			"drive '%s': making '%s' takes %s, but the disk has only %s left", d->id,
			file, cij_size_human(need, need_text, sizeof(need_text)), free_text);
		return cij_error_hint(err, "make room, then try again");
	}
	cij_size_human(device_conf_bytes(d), size_text, sizeof(size_text));
	if (device_conf_bytes(d) > avail)
		tell(job, "making '%s', %s, sparse: the disk has only %s left to fill it", file,
			size_text, free_text);
	else
		tell(job, "making '%s', %s, sparse", file, size_text);
	return 0;
}

/* The image is whole under its temporary name: gives it its own, and records what it is. */
static int
put_in_place(const struct image_job *job, const struct device_conf *d, const char *file,
	const char *temporary, struct cij_error *err)
{
	int dir = job->spec.dir_fd, saved;
	struct geometry geo;

	/* Between the two an image without a record: read from itself, or refused; never a wrong
	 * one. */
	image_record_remove(dir, d->id);
	if (renameat(dir, temporary, dir, file) < 0) {
		saved = errno;
		unlinkat(dir, temporary, 0);
		return cannot_make(file, saved, err);
	}
	geometry_of(d, job->format, &geo);
	if (image_record_write(dir, d->id, &geo) == 0)
		return 0;
	saved = errno;
	unlinkat(dir, file, 0); /* as empty as it was made */
	return cannot_make(file, saved, err);
}

static int
make_sparse(const struct image_job *job, const struct device_conf *d, const char *file,
	int64_t size, struct cij_error *err)
{
	_cleanup_free_ char *temporary = temporary_name(file);
	_cleanup_close_ int fd = -1;
	int dir = job->spec.dir_fd, saved;

	unlinkat(dir, temporary, 0);
	fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return cannot_make(file, errno, err);
	if (ftruncate(fd, size) < 0) {
		saved = errno;
		unlinkat(dir, temporary, 0);
		return cannot_make(file, saved, err);
	}
	return put_in_place(job, d, file, temporary, err);
}

static int write_inject_files(
	struct image_job *job, const struct device_conf *d, struct cij_error *err);

/* The drive in work has its image: writes what goes with it, and goes on to the next. */
static int
drive_done(struct image_job *job, const struct device_conf *d, struct cij_error *err)
{
	if (write_inject_files(job, d, err) < 0)
		return -1;
	job->at++;
	return 1;
}

static void
finish(struct image_job *job, const struct cij_error *err)
{
	job->ops->done(job->arg, err);
}

/* qemu-img's own words, unless they are about the disk. */
static int
qemu_img_failed(const struct image_job *job, const struct device_conf *d, const char *file,
	const struct proc_exit *how, const char *last, struct cij_error *err)
{
	char text[64];

	if (strstr(last, strerror(ENOSPC)))
		return cannot_make(file, ENOSPC, err);
	if (strstr(last, strerror(EDQUOT)))
		return cannot_make(file, EDQUOT, err);
	return cij_error_set(err, CIJ_E_QEMU_FAILED, "drive '%s': %s could not make '%s': %s",
		d->id, job->qemu_img, file, *last ? last : proc_exit_text(how, text, sizeof(text)));
}

static void
on_qemu_img_exit(void *arg, const struct proc_exit *how)
{
	struct image_job *job = arg;
	const struct device_conf *d = &job->spec.devices[job->at];
	_cleanup_free_ char *file = argv_device_file(d->id);
	_cleanup_free_ char *temporary = temporary_name(file);
	bool ok = how->known && !how->signaled && how->code == 0;
	struct cij_error err;
	char last[256];
	int ret;

	event_del(job->tick);
	proc_free(steal_ptr(job->proc));
	file_last_line(job->log_fd, last, sizeof(last));
	close(steal_fd(&job->log_fd));
	{
		_cleanup_as_owner_ struct as_owner as = as_owner_begin(
			job->spec.uid, job->spec.gid);

		if (!ok)
			unlinkat(job->spec.dir_fd, temporary, 0);
		ret = ok ? put_in_place(job, d, file, temporary, &err)
			 : qemu_img_failed(job, d, file, how, last, &err);
		if (ret == 0)
			ret = drive_done(job, d, &err);
	}
	if (ret < 0)
		finish(job, &err);
	else
		step_soon(job);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct image_job *job = arg;
	_cleanup_free_ char *file = argv_device_file(job->spec.devices[job->at].id);
	_cleanup_free_ char *temporary = temporary_name(file);
	char text[24];
	struct stat st;

	if (fstatat(job->spec.dir_fd, temporary, &st, AT_SYMLINK_NOFOLLOW) == 0)
		tell(job, "making '%s', %s written", file,
			cij_size_human((int64_t)st.st_blocks * 512, text, sizeof(text)));
}

static int
run_qemu_img(
	struct image_job *job, const struct device_conf *d, const char *file, struct cij_error *err)
{
	_cleanup_free_ char *temporary = temporary_name(file);
	_cleanup_free_ char *options = dialect_image_options(d);
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	_cleanup_strv_ struct strv argv = {0};

	if (access(job->qemu_img, X_OK) < 0) {
		cij_error_errno(err, CIJ_E_QEMU_FAILED, errno,
			"drive '%s': no '%s' to make its image with", d->id, job->qemu_img);
		return cij_error_hint(err,
			"it is built and installed with this QEMU: no other qemu-img knows its "
			"image format");
	}
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
	if (!job->proc)
		return -1;
	event_add(job->tick, &(struct timeval){PROGRESS_SECONDS, 0});
	return 0;
}

/* What QEMU reads of errors and chunk states; all of it is checked before QEMU sees it. */
static int
write_inject_file(struct image_job *job, const struct device_conf *d, enum inject_kind kind,
	struct cij_error *err)
{
	_cleanup_free_ char *name = inject_rendered_name(d, kind), *by_hand = NULL, *text = NULL;
	const char *file = inject_file(d, kind);
	size_t len;

	if (file) {
		by_hand = file_read_at(job->spec.dir_fd, file, INJECT_FILE_MAX, &len, NULL);
		if (!by_hand)
			return cij_error_errno(err, CIJ_E_BAD_CONFIG, errno,
				"drive '%s': its %s '%s'", d->id, inject_file_key(kind), file);
		if (strlen(by_hand) != len)
			return cij_error_set(err, CIJ_E_BAD_CONFIG,
				"drive '%s': its %s '%s' has NUL characters in it", d->id,
				inject_file_key(kind), file);
	}
	text = inject_render(d, kind, dialect_inject_words(&job->spec.caps), by_hand, err);
	if (!text)
		return -1;
	if (file_write_at(job->spec.dir_fd, name, text, strlen(text), 0600) < 0)
		return cannot_make(name, errno, err);
	return 0;
}

static int
write_inject_files(struct image_job *job, const struct device_conf *d, struct cij_error *err)
{
	for (int kind = 0; kind < INJECT_KINDS; kind++)
		if (inject_has(d, kind) && write_inject_file(job, d, kind, err) < 0)
			return -1;
	return 0;
}

/* Sees to the files of one drive. 1: they are there now; 0: qemu-img is at work; -1. */
static int
make_one(struct image_job *job, const struct device_conf *d, struct cij_error *err)
{
	_cleanup_free_ char *file = argv_device_file(d->id);
	int there;

	if (dialect_check(&job->spec.caps, d, job->spec.qemu, &job->format, err) < 0)
		return -1;
	{
		_cleanup_as_owner_ struct as_owner as = as_owner_begin(
			job->spec.uid, job->spec.gid);

		there = job->spec.anew ? 0 : check_existing(job, d, file, err);
		if (there)
			return there < 0 ? -1 : drive_done(job, d, err);
		if (check_room(job, d, file, err) < 0)
			return -1;
		if (job->format == FORMAT_RAW || job->format == FORMAT_OCSSD_NS) {
			int64_t size = job->format == FORMAT_RAW ? d->size : 0;

			if (make_sparse(job, d, file, size, err) < 0)
				return -1;
			return drive_done(job, d, err);
		}
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
	}
	finish(job, NULL);
}

struct image_job *
image_job_new(struct event_base *base, const struct image_spec *spec, const struct image_ops *ops,
	void *arg)
{
	struct image_job *job = calloc(1, sizeof(*job));

	if (!job)
		abort();
	job->base = base;
	job->spec = *spec;
	job->qemu_img = find_qemu_img(spec->qemu);
	job->log_fd = -1;
	job->ops = ops;
	job->arg = arg;
	job->next = event_new(base, -1, 0, on_step, job);
	job->tick = event_new(base, -1, EV_PERSIST, on_tick, job);
	if (!job->next || !job->tick)
		abort();
	step_soon(job);
	return job;
}

void
image_job_free(struct image_job *job)
{
	if (!job)
		return;
	if (job->proc) {
		const struct device_conf *d = &job->spec.devices[job->at];
		_cleanup_free_ char *file = argv_device_file(d->id);
		_cleanup_free_ char *temporary = temporary_name(file);
		_cleanup_as_owner_ struct as_owner as = as_owner_begin(
			job->spec.uid, job->spec.gid);

		proc_signal(job->proc, SIGKILL);
		unlinkat(job->spec.dir_fd, temporary, 0);
	}
	proc_free(job->proc);
	if (job->log_fd >= 0)
		close(job->log_fd);
	event_free(job->next);
	event_free(job->tick);
	free(job->qemu_img);
	free(job);
}
