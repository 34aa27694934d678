/* A new kernel into a guest's folder: copied block by block from the loop, as the owner. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/fileio.h"
#include "daemon/guest_impl.h"
#include "daemon/guest_inside.h"

/* Copied at a time, so that the loop is never held up for more than about a millisecond. */
#define BLOCK_BYTES (512 * 1024)

/* No kernel is that large; a mistake may be. */
#define KERNEL_MAX (1024LL * 1024 * 1024)

struct kernel_job {
	LIST_ENTRY(kernel_job) link;
	struct event *next;
	int dir_fd, in, out;
	char temporary[64];
	uid_t uid;
	gid_t gid;
	kernel_done_fn *done;
	void *arg; /* weak */
	char buf[BLOCK_BYTES];
};

static LIST_HEAD(, kernel_job) jobs = LIST_HEAD_INITIALIZER(jobs);

int
kernel_check(int fd, struct cij_error *err)
{
	unsigned char header[0x206];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return cij_error_errno(err, CIJ_E_BAD_REQUEST, errno, "the kernel");
	if (!S_ISREG(st.st_mode))
		return cij_error_set(err, CIJ_E_BAD_REQUEST, "the kernel is no regular file");
	if (st.st_size > KERNEL_MAX)
		return cij_error_set(err, CIJ_E_BAD_REQUEST, "a kernel of %lld MiB: at most %lld",
			(long long)st.st_size >> 20, KERNEL_MAX >> 20);
	/* Documentation/arch/x86/boot.rst: boot_flag at 0x1fe, header at 0x202. */
	if (pread(fd, header, sizeof(header), 0) == sizeof(header) && header[0x1fe] == 0x55 &&
		header[0x1ff] == 0xaa && memcmp(header + 0x202, "HdrS", 4) == 0)
		return 0;
	cij_error_set(err, CIJ_E_BAD_REQUEST, "it is no bzImage: it has no boot header");
	return cij_error_hint(err, "in a kernel's tree it is arch/x86/boot/bzImage, not vmlinux");
}

/* Ends the job, the new kernel in place or nothing changed. */
static void
job_end(struct kernel_job *job, const struct cij_error *err)
{
	LIST_REMOVE(job, link);
	if (job->out >= 0)
		close(job->out);
	event_free(job->next);
	close(job->in);
	close(job->dir_fd);
	job->done(job->arg, err);
	free(job);
}

static int
copy_block(struct kernel_job *job, struct cij_error *err)
{
	ssize_t n = read(job->in, job->buf, sizeof(job->buf));

	if (n < 0)
		return cij_error_errno(err, CIJ_E_BAD_REQUEST, errno, "cannot read the kernel");
	if (n > 0 && write_all(job->out, job->buf, n) < 0)
		return cij_error_errno(err, CIJ_E_NO_RESOURCES, errno, "cannot write the kernel");
	if (n > 0)
		return 1;
	if (fchmod(job->out, 0644) < 0 ||
		renameat(job->dir_fd, job->temporary, job->dir_fd, "bzImage") < 0)
		return cij_error_errno(
			err, CIJ_E_NO_RESOURCES, errno, "cannot put the kernel into place");
	return 0;
}

static void
on_next(evutil_socket_t fd, short what, void *arg)
{
	struct timeval now = {0, 0};
	struct kernel_job *job = arg;
	struct cij_error err = CIJ_ERROR_INIT;
	int rc;

	{
		_cleanup_as_owner_ struct as_owner as = as_owner_begin(job->uid, job->gid);

		if (job->out < 0)
			(void)unlinkat(job->dir_fd, job->temporary, 0);
		if (job->out < 0)
			job->out = openat(job->dir_fd, job->temporary,
				O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (job->out < 0)
			rc = cij_error_errno(&err, CIJ_E_NO_RESOURCES, errno,
				"cannot make a file in the guest's folder");
		else
			rc = copy_block(job, &err);
		if (rc < 0)
			unlinkat(job->dir_fd, job->temporary, 0);
	}
	if (rc > 0)
		event_add(job->next, &now);
	else
		job_end(job, rc < 0 ? &err : NULL);
}

void
kernel_forget_all(void)
{
	struct kernel_job *job;
	struct cij_error err;

	cij_error_set(&err, CIJ_E_FAILED, "the daemon was stopped before the kernel was copied");
	while ((job = LIST_FIRST(&jobs))) {
		{
			_cleanup_as_owner_ struct as_owner as = as_owner_begin(job->uid, job->gid);

			unlinkat(job->dir_fd, job->temporary, 0);
		}
		job_end(job, &err);
	}
}

void
guest_install_kernel(struct guest *guest, int fd, kernel_done_fn *done, void *arg)
{
	static unsigned count;
	struct timeval now = {0, 0};
	struct kernel_job *job = calloc(1, sizeof(*job));

	if (!job)
		abort();
	job->dir_fd = fcntl(guest->dir_fd, F_DUPFD_CLOEXEC, 0);
	job->in = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	job->out = -1;
	job->uid = guest->uid;
	job->gid = guest->gid;
	job->done = done;
	job->arg = arg;
	/* Two at a time do not meet, nor do we meet what an earlier daemon left behind. */
	snprintf(job->temporary, sizeof(job->temporary), ".bzImage.%d.%u", (int)getpid(), count++);
	job->next = evtimer_new(guest->sv->base, on_next, job);
	if (!job->next)
		abort();
	LIST_INSERT_HEAD(&jobs, job, link);
	event_add(job->next, &now);
}
