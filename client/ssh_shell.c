/* shell: a login shell in the guest, on a terminal of its own. */
#include <stdio.h>
#include <string.h>

#include "cijqemu/cleanup.h"
#include "client/args.h"
#include "client/ssh_command.h"
#include "client/ssh_tty.h"

/* Starts the login shell: with an environment of ours by its name, else as the server does. */
static int
start(struct ssh_link *l, struct call *call, struct cij_error *err)
{
	_cleanup_free_ char *line = NULL;
	int rc;

	if (call_has(call, "env")) {
		line = ssh_command_with_env(call, "exec \"${SHELL:-/bin/sh}\" -l", err);
		return line ? ssh_link_exec(l, l->channel, line, err) : -1;
	}
	while ((rc = ssh_channel_request_shell(l->channel)) == SSH_AGAIN)
		if (ssh_link_wait(l, "starting the shell", err) < 0)
			return -1;
	return rc == SSH_OK ? 0 : ssh_link_failed(l, "starting the shell", err);
}

int
cmd_shell(struct call *call, struct cij_error *err)
{
	bool tty = call_has(call, "tty") || (isatty(STDIN_FILENO) && !call_has(call, "no-tty"));
	_cleanup_ssh_link_ struct ssh_link l = {0};
	struct ssh_tty terminal;

	if (call_has(call, "tty") && call_has(call, "no-tty"))
		return call_usage(call, err, "either -t or -T");
	if (ssh_link_open(&l, call, err) < 0)
		return -1;
	_cleanup_pump_ struct pump *p = pump_new(&l);

	if ((tty && ssh_tty_request(&terminal, &l, p, err) < 0) || start(&l, call, err) < 0)
		return -1;
	return tty ? ssh_tty_run(p, err) : pump_run(p, err);
}
