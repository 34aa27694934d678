/* Operations on the way into a guest: whose SSH server it is, and which kernel it boots. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/as_owner.h"
#include "daemon/guest_inside.h"
#include "daemon/op.h"
#include "daemon/view.h"
#include "proto/text.h"

/* ssh-pin */

struct pin_args {
	char *guest;
	char *key;
	int64_t run;
	bool replace;
};
static const struct cij_field pin_fields[] = {
	OP_GUEST_FIELD(pin_args),
	{.name = "key",
		.type = CIJ_T_STR,
		.flags = CIJ_F_REQUIRED,
		.offset = offsetof(struct pin_args, key),
		.doc = "the host key that was shown: TYPE BASE64"},
	{.name = "run",
		.type = CIJ_T_INT,
		.flags = CIJ_F_REQUIRED,
		.offset = offsetof(struct pin_args, run),
		.max = RUN_NUMBER_MAX,
		.doc = "the run that the port was taken from"},
	{.name = "replace",
		.type = CIJ_T_BOOL,
		.offset = offsetof(struct pin_args, replace),
		.doc = "take the key in place of the pinned one"},
};
static const struct cij_table pin_table = CIJ_TABLE(pin_fields, struct pin_args, NULL);

/*
 * QEMU holds the port from the start of a run to its end: a connection made before this moment is
 * this guest's if the run still goes on.
 */
static int
check_run(struct request *request, int64_t run, struct cij_error *err)
{
	struct guest_status status;

	guest_status(request->guest, &status);
	if (status.active && (int64_t)status.run == run)
		return 0;
	cij_error_set(err, CIJ_E_BUSY, "guest '%s' ended or was started anew meanwhile",
		request->guest_name);
	return cij_error_hint(err, "try again");
}

static void
ssh_pin(struct request *request)
{
	static const char *const words[] = {
		[PIN_SAME] = "same",
		[PIN_FIRST] = "first",
		[PIN_NEW_IMAGE] = "new-image",
		[PIN_REPLACED] = "replaced",
		[PIN_CHANGED] = "changed",
	};
	struct pin_args *args = request->args;
	_cleanup_free_ char *known = NULL;
	struct json_object *reply;
	struct cij_error err;
	enum guest_pin pin;

	if (check_run(request, args->run, &err) < 0 ||
		guest_pin_host_key(request->guest, args->key, args->replace, &pin, &known, &err) <
			0) {
		request_fail(request, &err);
		return;
	}
	reply = json_object_new_object();
	cij_json_add_str(reply, "guest", request->guest_name);
	cij_json_add_str(reply, "pin", words[pin]);
	cij_json_add_str(reply, "known", known);
	request_reply(request, reply);
}

const struct op op_ssh_pin = {
	.name = "ssh-pin",
	.verb = "log in to",
	.access = ACCESS_OPERATE,
	.takes_guest = true,
	.table = &pin_table,
	.run = ssh_pin,
	.doc = "compare the host key of a guest's SSH server with the one pinned for its boot "
	       "image; the first is pinned",
};

/* kernel-install */

struct kernel_args {
	char *guest;
	char *path;
};
static const struct cij_field kernel_fields[] = {
	OP_GUEST_FIELD(kernel_args),
	{.name = "path",
		.type = CIJ_T_STR,
		.flags = CIJ_F_REQUIRED | CIJ_F_NOT_EMPTY,
		.offset = offsetof(struct kernel_args, path),
		.doc = "a bzImage on this machine that the caller may read, by its full path"},
};
static const struct cij_table kernel_table = CIJ_TABLE(kernel_fields, struct kernel_args, NULL);

/* Opens the kernel with the rights of whoever asks: nobody reads through us what is not theirs. */
static int
open_kernel(const struct request *request, const char *path, struct cij_error *err)
{
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(
		request->peer.uid, request->peer.gid);
	_cleanup_close_ int fd = -1;
	char clean[256];

	cij_text_clean(path, clean, sizeof(clean));
	if (path[0] != '/')
		return cij_error_set(err, CIJ_E_BAD_REQUEST, "'path': '%s' is no full path", clean);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return cij_error_errno(err, CIJ_E_BAD_REQUEST, errno, "'path': '%s'", clean);
	if (kernel_check(fd, err) < 0)
		return cij_error_prefix(err, "'%s'", clean);
	return steal_fd(&fd);
}

/* guest.json names another kernel: the one in the folder is meant from now on. */
static int
use_kernel(struct guest *guest, struct cij_error *err)
{
	_cleanup_json_ struct json_object *config = guest_config_read(guest, err);
	const char *named = cij_json_str(cij_json_get(config, "kernel"), "image");
	_cleanup_json_ struct json_object *changes = NULL;

	if (!config && err->class != CIJ_E_NONE)
		return -1;
	if (!named || strcmp(named, "bzImage") == 0)
		return 0;
	changes = json_object_new_object();
	cij_json_add_str(changes, "kernel.image", "bzImage");
	return guest_config_change(guest, changes, err);
}

static void
on_installed(void *arg, const struct cij_error *why)
{
	struct request *request = arg;
	struct cij_error err = CIJ_ERROR_INIT;

	if (why) {
		request_fail(request, why);
		return;
	}
	request->guest = registry_find(request->registry, request->guest_name, &err);
	if (!request->guest || use_kernel(request->guest, &err) < 0) {
		request_fail(request, &err);
		return;
	}
	guest_refresh(request->guest); /* the file alone may be another */
	request_reply_guest(request, false);
}

static void
kernel_install(struct request *request)
{
	struct kernel_args *args = request->args;
	_cleanup_close_ int fd = -1;
	struct cij_error err;

	fd = open_kernel(request, args->path, &err);
	if (fd < 0)
		request_fail(request, &err);
	else if (guest_dir(request->guest) < 0)
		cij_error_set(&err, CIJ_E_BAD_CONFIG, "guest '%s' has no folder that can be opened",
			request->guest_name),
			request_fail(request, &err);
	else
		guest_install_kernel(request->guest, fd, on_installed, request);
}

const struct op op_kernel_install = {
	.name = "kernel-install",
	.verb = "install a kernel in",
	.access = ACCESS_OWN,
	.takes_guest = true,
	.changes = true,
	.table = &kernel_table,
	.run = kernel_install,
	.doc = "put a kernel into the guest's folder, as bzImage; the next start boots it",
};
