/* exec: a command in the guest. */
#include <stdio.h>
#include <string.h>

#include "cijqemu/cleanup.h"
#include "client/args.h"
#include "client/quote.h"
#include "client/ssh_pump.h"

/* One word is a command line; several are quoted, so that each arrives as it is. Heap string. */
static char *
command_line(const struct call *call)
{
	size_t size = 1;
	char *line, *at;

	if (call->n_args == 1)
		return strdup(call->args[0]);
	for (size_t i = 0; i < call->n_args; i++)
		size += strlen(call->args[i]) * 4 + 3;
	at = line = malloc(size);
	if (!line)
		abort();
	for (size_t i = 0; i < call->n_args; i++) {
		_cleanup_free_ char *word = shell_quote(call->args[i], i == 0);

		at = stpcpy(stpcpy(at, i ? " " : ""), word);
	}
	return line;
}

static void
cleanup_pump(struct pump **p)
{
	pump_free(*p);
}

int
cmd_exec(struct call *call, struct cij_error *err)
{
	_cleanup_ssh_link_ struct ssh_link l = {0};
	_cleanup_free_ char *line = command_line(call);
	int rc;

	if (!line)
		abort();
	if (ssh_link_open(&l, call, err) < 0)
		return -1;
	_cleanup_(cleanup_pump)
	struct pump *p = pump_new(&l);

	while ((rc = ssh_channel_request_exec(l.channel, line)) == SSH_AGAIN)
		if (ssh_link_wait(&l, "running the command", err) < 0)
			return -1;
	if (rc != SSH_OK)
		return ssh_link_failed(&l, "running the command", err);
	return pump_run(p, err);
}
