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
#include "client/command.h"

#define SSH_PROGRAM "cijqemuctl-ssh"

/* Replaces this program by cijqemuctl-ssh: the one beside it, else the installed one. */
static int
hand_off(struct call *call, struct cij_error *err)
{
	char self[PATH_MAX], beside[PATH_MAX + sizeof(SSH_PROGRAM)];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n > 0) {
		self[n] = '\0';
		snprintf(beside, sizeof(beside), "%s/%s", dirname(self), SSH_PROGRAM);
		execv(beside, call->argv);
		if (errno != ENOENT)
			return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot run '%s'", beside);
	}
	execv(CIJ_LIBEXECDIR "/" SSH_PROGRAM, call->argv);
	cij_error_errno(
		err, CIJ_E_FAILED, errno, "cannot run '%s'", CIJ_LIBEXECDIR "/" SSH_PROGRAM);
	return cij_error_hint(
		err, "'%s' needs it; it is installed along with cijqemuctl", call->command->name);
}

int
cmd_exec(struct call *call, struct cij_error *err)
{
	return hand_off(call, err);
}

int
cmd_shell(struct call *call, struct cij_error *err)
{
	return hand_off(call, err);
}

/* It needs no SSH, but ncurses, and --host as all do. */
int
cmd_top(struct call *call, struct cij_error *err)
{
	return hand_off(call, err);
}
