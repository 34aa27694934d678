/* A process whose end ends a lease, by a descriptor of it: a pid alone may become another's. */
#include <errno.h>
#include <unistd.h>

#include "cijqemu/cleanup.h"
#include "daemon/lease_impl.h"
#include "daemon/proc.h"

int
lease_process_open(pid_t pid, uid_t uid, struct lease_process *process, struct cij_error *err)
{
	_cleanup_close_ int fd = proc_pidfd(pid);
	uid_t is, effective;

	if (fd < 0 && errno == ENOSYS)
		return cij_error_set(err, CIJ_E_NOT_SUPPORTED,
			"a lease cannot end with a process here: that takes Linux 5.3");
	proc_uids_of(pid, &is, &effective);
	process->pid = pid;
	process->start = proc_start_of(pid);
	/* What was read is about the process that the descriptor is of, while that one lives. */
	if (fd < 0 || !process->start || proc_pidfd_ended(fd))
		return cij_error_set(err, CIJ_E_BAD_REQUEST, "no process %d runs here", (int)pid);
	if (is != uid)
		return cij_error_set(err, CIJ_E_DENIED,
			"process %d is not yours: a lease may end with a process of your own",
			(int)pid);
	return steal_fd(&fd);
}
