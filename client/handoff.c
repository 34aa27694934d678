/*
 * The commands that need SSH, in the program that has no libssh: they are handed to cijqemuctl-ssh,
 * which is the same program with it. Loading libssh would triple the start-up time of all others.
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cijqemu/cleanup.h"
#include "client/host.h"

#define SSH_PROGRAM "cijqemuctl-ssh"

/* Replaces this program by cijqemuctl-ssh. */
static int
hand_off(struct call *call, struct cij_error *err)
{
	/* Beside itself, as built; then as installed, wherever that was moved to. */
	static const char *const places[] = {"", "../libexec/cijqemu/"};
	char self[PATH_MAX], path[PATH_MAX + 64];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *dir;

	self[n > 0 ? n : 0] = '\0';
	dir = n > 0 ? dirname(self) : NULL;
	for (size_t i = 0; dir && i < cij_array_size(places); i++) {
		snprintf(path, sizeof(path), "%s/%s%s", dir, places[i], SSH_PROGRAM);
		execv(path, call->argv);
		if (errno != ENOENT)
			return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot run '%s'", path);
	}
	execv(CIJ_LIBEXECDIR "/" SSH_PROGRAM, call->argv);
	cij_error_errno(
		err, CIJ_E_FAILED, errno, "cannot run '%s'", CIJ_LIBEXECDIR "/" SSH_PROGRAM);
	return cij_error_hint(
		err, "'%s' needs it; it is installed along with cijqemuctl", call->command->name);
}

/* What needs SSH by itself. */
#define HANDED_OFF(name) \
	int name(struct call *call, struct cij_error *err) \
	{ \
		return hand_off(call, err); \
	}

HANDED_OFF(cmd_exec)
HANDED_OFF(cmd_forward)
HANDED_OFF(cmd_pull)
HANDED_OFF(cmd_push)
HANDED_OFF(cmd_shell)

/* Every command may be meant for another machine. */
int
host_begin(struct call *call, int *code, struct cij_error *err)
{
	return call->host ? hand_off(call, err) : 0;
}

bool
host_active(void)
{
	return false;
}

char *
host_run(const char *command, int in, size_t *len, int64_t deadline, struct cij_error *err)
{
	cij_error_set(err, CIJ_E_INTERNAL, "no host to run '%s' on", command);
	return NULL;
}

/* It needs no SSH, but ncurses, and --host as all do. */
int
cmd_top(struct call *call, struct cij_error *err)
{
	return hand_off(call, err);
}
