/* exec: a command, or a script of ours, in one guest or in many. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cijqemu/cleanup.h"
#include "client/args.h"
#include "client/quote.h"
#include "client/ssh_command.h"
#include "client/ssh_many.h"
#include "client/ssh_tty.h"

/* A script is sent whole before it runs; more than this is no script. */
#define SCRIPT_MAX (16L * 1024 * 1024)

/* The script of --script, read once. */
static struct {
	char *text;
	size_t len;
} script;

/* Reads the script here, so that a missing one is told before anything is done. */
static int
read_script(const char *path, struct cij_error *err)
{
	_cleanup_fclose_ FILE *f = strcmp(path, "-") == 0 ? fdopen(dup(STDIN_FILENO), "r")
							  : fopen(path, "re");
	struct stat st;
	size_t size = 64 * 1024;

	if (!f)
		return cij_error_errno(err, CIJ_E_BAD_REQUEST, errno, "--script '%s'", path);
	if (fstat(fileno(f), &st) == 0 && S_ISDIR(st.st_mode))
		return cij_error_errno(err, CIJ_E_BAD_REQUEST, EISDIR, "--script '%s'", path);
	script.text = malloc(size);
	while (script.text) {
		script.len += fread(script.text + script.len, 1, size - script.len, f);
		if (script.len < size || size >= SCRIPT_MAX)
			break;
		script.text = realloc(script.text, size *= 2);
	}
	if (!script.text)
		abort();
	if (ferror(f))
		return cij_error_errno(err, CIJ_E_BAD_REQUEST, errno, "--script '%s'", path);
	if (script.len >= SCRIPT_MAX)
		return cij_error_set(err, CIJ_E_BAD_REQUEST, "--script '%s': over %ld MiB", path,
			SCRIPT_MAX >> 20);
	return 0;
}

/* Sends the script into a file of its own in the guest; its name is put into @path. */
static int
send_script(struct ssh_link *l, char *path, size_t size, struct cij_error *err)
{
	static const char line[] = "umask 077; f=$(mktemp) && cat >\"$f\" && chmod 700 \"$f\" && "
				   "printf '%s\\n' \"$f\"";
	_cleanup_free_ char *out = NULL;
	int code = ssh_link_feed(l, line, script.text, script.len, &out, err);

	if (code < 0)
		return -1;
	if (code != 0 || out[0] != '/' || strcspn(out, "\n") >= size)
		return cij_error_set(err, CIJ_E_FAILED,
			"%s: cannot make a file for the script in the guest (exit code %d)",
			l->guest, code);
	out[strcspn(out, "\n")] = '\0';
	strcpy(path, out);
	return 0;
}

/* The command that runs the script at @path and removes it behind that. Heap string. */
static char *
script_line(const char *path, struct call *call)
{
	bool named = script.len > 2 && script.text[0] == '#' && script.text[1] == '!';
	_cleanup_free_ char *file = shell_quote(path, false), *words = NULL;
	char *line;

	words = ssh_command_line(call->args, call->n_args);
	if (call->n_args == 1) { /* an argument, not a command line */
		free(words);
		words = shell_quote(call->args[0], false);
	}
	if (asprintf(&line, "trap 'rm -f %s' EXIT; trap 'exit 129' HUP; %s%s %s", file,
		    named ? "" : "sh ", file, words) < 0)
		abort();
	return line;
}

/* The command line for the guest; NULL with an error. */
static char *
make_line(struct ssh_link *l, struct call *call, struct cij_error *err)
{
	_cleanup_free_ char *line = NULL;
	char path[256];

	if (!script.text) {
		line = ssh_command_line(call->args, call->n_args);
	} else {
		if (send_script(l, path, sizeof(path), err) < 0)
			return NULL;
		line = script_line(path, call);
	}
	return ssh_command_with_env(call, line, err);
}

static int
exec_one(struct call *call, struct cij_error *err)
{
	bool tty = call_has(call, "tty");
	_cleanup_ssh_link_ struct ssh_link l = {0};
	_cleanup_free_ char *line = NULL;
	struct ssh_tty terminal;

	/* The script goes first: dropbear ends a channel on which nothing runs when another ends.
	 */
	if (ssh_link_login(&l, call, err) < 0)
		return -1;
	line = make_line(&l, call, err);
	l.channel = line ? ssh_link_channel(&l, err) : NULL;
	if (!l.channel)
		return -1;
	_cleanup_pump_ struct pump *p = pump_new(&l);

	if ((tty && ssh_tty_request(&terminal, &l, p, err) < 0) ||
		ssh_link_exec(&l, l.channel, line, err) < 0)
		return -1;
	if (tty)
		return ssh_tty_run(p, err);
	pump_set_signals(p);
	return pump_run(p, err);
}

/* What can be known to be wrong before any guest is asked. */
static int
check(struct call *call, struct cij_error *err)
{
	const char *file = call_value(call, "script");
	_cleanup_free_ char *line = NULL;
	bool many = call->guests || call->json;

	if (!file && call->n_args == 0) {
		call_usage(call, err, "which command?");
		return cij_error_hint(err, "usage: cijqemuctl %s %s", call->command->name,
			call->command->synopsis);
	}
	if (call_has(call, "tty") && call_has(call, "no-tty"))
		return call_usage(call, err, "either -t or -T");
	if (call_has(call, "tty") && many)
		return call_usage(call, err, "-t is for one guest, without --json");
	if (call_has(call, "parallel") && !call->guests)
		return call_usage(call, err, "--parallel is for several guests");
	line = ssh_command_with_env(call, "", err);
	if (!line)
		return -1;
	return file ? read_script(file, err) : 0;
}

int
cmd_exec(struct call *call, struct cij_error *err)
{
	int rc;

	if (check(call, err) < 0)
		rc = -1;
	else if (call->guests)
		rc = ssh_many_run(call, exec_one, err);
	else if (call->json)
		rc = ssh_many_run_json(call, exec_one, err);
	else
		rc = exec_one(call, err);
	free(script.text);
	return rc;
}
