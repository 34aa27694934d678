/* kernel: another kernel for a guest. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "client/args.h"
#include "client/host.h"
#include "client/link.h"
#include "client/out.h"
#include "client/quote.h"
#include "client/view.h"

/* Kernels are 10 to 100 MB; the disk may be slow, and so may the way to another machine. */
#define KERNEL_SECONDS 120

/* A copy of our file on the host, for the time being. Its name, on the heap; NULL with an error. */
static char *
send_there(int fd, int64_t deadline, struct cij_error *err)
{
	size_t len;

	return host_run("umask 077; f=$(mktemp) && cat >\"$f\" && printf %s \"$f\"", fd, &len,
		deadline, err);
}

static void
remove_there(const char *path, int64_t deadline)
{
	_cleanup_free_ char *quoted = shell_quote(path, false), *command = NULL, *out = NULL;
	struct cij_error unheard = CIJ_ERROR_INIT;
	size_t len;

	if (asprintf(&command, "rm -f %s", quoted) < 0)
		abort();
	out = host_run(command, -1, &len, deadline, &unheard);
}

static int
install(struct call *call, const char *path, struct cij_error *err)
{
	struct json_object *args = guest_arguments(call->guest);
	_cleanup_reply_ struct reply r = {0};

	cij_json_add_str(args, "path", path);
	if (call_daemon(call, KERNEL_SECONDS, "kernel-install", args, &r, err) < 0)
		return -1;
	if (call->json) {
		reply_print(&r);
	} else {
		out_note("%s: has the kernel%s", call->guest,
			view_is_live(r.value) ? "; it boots at the next start" : "");
	}
	return 0;
}

int
cmd_kernel(struct call *call, struct cij_error *err)
{
	int64_t deadline = call_deadline(call, KERNEL_SECONDS);
	const char *path = call->args[0];
	_cleanup_free_ char *full = realpath(path, NULL), *there = NULL;
	_cleanup_close_ int fd = full ? open(full, O_RDONLY | O_CLOEXEC) : -1;
	int rc;

	if (fd < 0)
		return cij_error_errno(err, CIJ_E_BAD_REQUEST, errno, "'%s'", path);
	if (!host_active())
		return install(call, full, err);
	there = send_there(fd, deadline, err);
	if (!there)
		return -1;
	rc = install(call, there, err);
	remove_there(there, deadline);
	return rc;
}
