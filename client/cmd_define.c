/* create, set, delete: definitions. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/ask.h"
#include "client/cloud.h"
#include "client/keyvalue.h"
#include "client/link.h"
#include "client/out.h"
#include "client/view.h"

/* Definitions are small files; making a guest may check an image. */
#define DEFINE_SECONDS 60

/* Deleting may remove big images from a slow disk. */
#define DELETE_SECONDS 600

/* Adds the file of option @option as @key, by its full path: the daemon stands elsewhere. */
static int
add_file(struct call *call, const char *option, const char *key, struct json_object *args,
	struct cij_error *err)
{
	const char *path = call_value(call, option);
	_cleanup_free_ char *full = NULL;
	struct stat st;

	if (!path)
		return 0;
	/* Over there only the daemon sees it. */
	if (call->host) {
		if (*path != '/')
			return call_usage(call, err,
				"--%s '%s': with --host it is a full path over there", option,
				path);
		cij_json_add_str(args, key, path);
		return 0;
	}
	full = realpath(path, NULL);
	if (!full || stat(full, &st) < 0)
		return cij_error_errno(err, CIJ_E_BAD_REQUEST, errno, "--%s '%s'", option, path);
	if (S_ISDIR(st.st_mode))
		return cij_error_errno(err, CIJ_E_BAD_REQUEST, EISDIR, "--%s '%s'", option, path);
	cij_json_add_str(args, key, full);
	return 0;
}

static int
create_arguments(struct call *call, struct json_object *args, struct cij_error *err)
{
	const char *append = call_value(call, "append"), *memory = call_value(call, "memory");
	const char *cpus = call_value(call, "cpus"), *text;
	struct json_object *devices;
	size_t at = 0;

	if (add_file(call, "boot", "boot.image", args, err) < 0 ||
		add_file(call, "kernel", "kernel.image", args, err) < 0 ||
		add_file(call, "initrd", "kernel.initrd", args, err) < 0 ||
		(cloud_wanted(call) ? cloud_arguments(call, args, err)
				    : add_file(call, "ssh-key", "ssh.key", args, err)) < 0)
		return -1;
	if (call_has(call, "user"))
		cij_json_add_str(args, "ssh.user", call_value(call, "user"));
	if (append)
		cij_json_add_str(args, "kernel.append", append);
	if (memory)
		cij_json_add_str(args, "memory", memory);
	if (cpus)
		json_object_object_add(args, "cpus", value_of(cpus, strlen(cpus)));
	if (devices_of(call, &devices, err) < 0)
		return -1;
	if (devices)
		json_object_object_add(args, "devices", devices);
	/* Last: they may change what the others set. */
	while ((text = call_each(call, "set", &at)))
		if (keyvalue_add(call, args, text, err) < 0)
			return -1;
	return 0;
}

/* Prints the guest's view as JSON where that was asked for. */
static void
print_view(struct call *call, const struct reply *r)
{
	if (call->json)
		reply_print(r);
}

/* What could not be finished is not left behind: nobody else has used it yet. */
static int
undo_create(struct call *call, const struct cij_error *why, struct cij_error *err)
{
	_cleanup_reply_ struct reply r = {0};
	struct cij_error kept = *why;

	if (call_daemon(call, DELETE_SECONDS, "guest-delete", guest_arguments(call->guest), &r,
		    err) < 0)
		out_error(err);
	*err = kept;
	return -1;
}

int
cmd_create(struct call *call, struct cij_error *err)
{
	_cleanup_json_ struct json_object *args = guest_arguments(call->guest);
	_cleanup_reply_ struct reply r = {0};
	const char *path;

	if (create_arguments(call, args, err) < 0 ||
		call_daemon(call, DEFINE_SECONDS, "guest-create", steal_ptr(args), &r, err) < 0)
		return -1;
	path = cij_json_str(r.value, "path");
	if (cloud_wanted(call) && cloud_make(call, path, err) < 0)
		return undo_create(call, err, err);
	print_view(call, &r);
	if (!call->json)
		out_note("%s: created%s%s", call->guest, path ? " in " : "", path ? path : "");
	return 0;
}

int
cmd_set(struct call *call, struct cij_error *err)
{
	_cleanup_json_ struct json_object *args = guest_arguments(call->guest);
	_cleanup_reply_ struct reply r = {0};

	for (size_t i = 0; i < call->n_args; i++)
		if (keyvalue_add(call, args, call->args[i], err) < 0)
			return -1;
	if (call_daemon(call, DEFINE_SECONDS, "guest-set", steal_ptr(args), &r, err) < 0)
		return -1;
	print_view(call, &r);
	if (view_is_live(r.value))
		out_note("%s: set; takes effect at the next start", call->guest);
	return 0;
}

int
cmd_delete(struct call *call, struct cij_error *err)
{
	_cleanup_reply_ struct reply r = {0};

	/* A person may have slipped; a script that names a guest means it. */
	if (!call_has(call, "yes") && isatty(STDIN_FILENO)) {
		if (!ask_possible())
			return call_usage(
				call, err, "stderr is no terminal to ask on: --yes is needed");
		if (!ask_yes(false, "Delete guest '%s' with its folder and images?", call->guest))
			return cij_error_set(err, CIJ_E_FAILED, "%s: not deleted", call->guest);
	}
	if (call_daemon(call, DELETE_SECONDS, "guest-delete", guest_arguments(call->guest), &r,
		    err) < 0)
		return -1;
	print_view(call, &r);
	if (!call->json)
		out_note("%s: deleted", call->guest);
	return 0;
}
