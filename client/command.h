/* A command of cijqemuctl is a row of a table; a call is one command line, taken apart by it. */
#ifndef CLIENT_COMMAND_H
#define CLIENT_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cijqemu/error.h"

struct call;

enum opt_kind {
	OPT_FLAG, /* --name */
	OPT_VALUE, /* --name VALUE or --name=VALUE */
	OPT_MAYBE, /* --name or --name=VALUE */
};

struct opt {
	const char *name; /* without dashes; NULL ends a table */
	char letter; /* its short form, or 0 */
	enum opt_kind kind;
	const char *value; /* the value's name in the help */
	const char *help;
};

enum command_flag {
	CMD_GUEST = 1 << 0, /* the first operand is a guest; none named = $QEMU_GUEST_NAME */
	CMD_GUESTS = 1 << 1, /* the operands are guests and globs; none = --all or the same */
	CMD_WORDS = 1 << 2, /* behind the guest comes a command line: our options end there */
	CMD_SSH_CODES = 1 << 3, /* the guest's exit codes; 255 for every failure of ours */
	CMD_GLOB = 1 << 4, /* the guest of CMD_GUEST may be a glob, too */
	CMD_MAYBE_GUEST = 1 << 5, /* as CMD_GUEST, but with none named all are meant */
	CMD_MANY = 1 << 6, /* with CMD_WORDS: all operands in front of "--" are guests or globs */
	CMD_HOSTS = 1 << 7, /* may be done on several hosts at once */
	CMD_HERE = 1 << 8, /* is done here, whatever --host names */
};

#define CMD_ANY SIZE_MAX

struct command {
	const char *name;
	const char
		*group; /* the heading it stands under in the list of commands; NULL: not there */
	const char *synopsis; /* what may follow the name */
	const char *summary; /* one line */
	const char *details; /* the rest of the help, or NULL */
	unsigned flags;
	size_t min_args, max_args; /* operands, without the guest */
	const struct opt *options; /* or NULL */
	/* Returns the exit code; or -1 and an error, which main() prints. */
	int (*run)(struct call *call, struct cij_error *err);
};

/* All commands, in the order of the help; a NULL name ends. */
extern const struct command commands[];

/* Accepted before and behind the command's name. */
extern const struct opt global_options[];

/* An option that was given. */
struct given {
	const struct opt *opt;
	const char *value; /* NULL where it has none */
};

struct call {
	const struct command *command;
	char **argv; /* the whole command line, as main() got it */
	const char *socket; /* --socket, or NULL; with a host a path over there */
	const char *host; /* --host, or QEMU_HOST where that is another machine; NULL = this one */
	bool json;
	bool quiet;
	bool verbose;
	double timeout; /* --timeout in seconds, 0 = for ever; -1 = not given */
	const char *guest; /* CMD_GUEST */
	char **operands; /* all that are no options; owned, the strings are argv's */
	char **args; /* those behind the guest; weak */
	size_t n_args;
	char **guests; /* CMD_MANY: those in front of "--", when they are not just call->guest */
	size_t n_guests;
	struct given *given;
	size_t n_given;
};

/* The command that @word names, in full or by a prefix that only it has; else NULL and Usage. */
const struct command *command_find(const char *word, struct cij_error *err);

/* The whole program's help, and one command's, on stdout. */
void help_print_all(void);
void help_print(const struct command *command);

int cmd_help(struct call *call, struct cij_error *err);
int cmd_complete(struct call *call, struct cij_error *err);
int cmd_list(struct call *call, struct cij_error *err);
int cmd_show(struct call *call, struct cij_error *err);
int cmd_status(struct call *call, struct cij_error *err);
int cmd_create(struct call *call, struct cij_error *err);
int cmd_set(struct call *call, struct cij_error *err);
int cmd_device(struct call *call, struct cij_error *err);
int cmd_doctor(struct call *call, struct cij_error *err);
int cmd_edit(struct call *call, struct cij_error *err);
int cmd_delete(struct call *call, struct cij_error *err);
int cmd_validate(struct call *call, struct cij_error *err);
int cmd_argv(struct call *call, struct cij_error *err);
int cmd_start(struct call *call, struct cij_error *err);
int cmd_stop(struct call *call, struct cij_error *err);
int cmd_import(struct call *call, struct cij_error *err);
int cmd_kill(struct call *call, struct cij_error *err);
int cmd_restart(struct call *call, struct cij_error *err);
int cmd_reset(struct call *call, struct cij_error *err);
int cmd_pause(struct call *call, struct cij_error *err);
int cmd_resume(struct call *call, struct cij_error *err);
int cmd_wait(struct call *call, struct cij_error *err);
int cmd_console(struct call *call, struct cij_error *err);
int cmd_logs(struct call *call, struct cij_error *err);
int cmd_monitor(struct call *call, struct cij_error *err);
int cmd_qmp(struct call *call, struct cij_error *err);
int cmd_events(struct call *call, struct cij_error *err);
int cmd_host(struct call *call, struct cij_error *err);
int cmd_lease(struct call *call, struct cij_error *err);
int cmd_release(struct call *call, struct cij_error *err);
int cmd_share(struct call *call, struct cij_error *err);
int cmd_who(struct call *call, struct cij_error *err);
int cmd_top(struct call *call, struct cij_error *err); /* handoff.c, or top.c */
int cmd_env(struct call *call, struct cij_error *err);
int cmd_kernel(struct call *call, struct cij_error *err);
int cmd_ssh_config(struct call *call, struct cij_error *err);
/* handoff.c, or ssh_*.c */
int cmd_exec(struct call *call, struct cij_error *err);
int cmd_forward(struct call *call, struct cij_error *err);
int cmd_pull(struct call *call, struct cij_error *err);
int cmd_push(struct call *call, struct cij_error *err);
int cmd_shell(struct call *call, struct cij_error *err);

#endif
