/* cijqemuctl: takes the command line apart and runs the command that it names. */
#include <stdio.h>
#include <string.h>

#include "cijqemu/protocol.h"
#include "client/args.h"
#include "client/host.h"
#include "client/out.h"
#include "client/term.h"

/* 'exec' and 'shell': everything that is not the guest's command failing. */
#define EXIT_NOT_THE_COMMAND 255

/* Prints the error of @call and gives its exit code. */
static int
failed(const struct call *call, const struct cij_error *err)
{
	out_error(err);
	if (call->command && call->command->flags & CMD_SSH_CODES)
		return EXIT_NOT_THE_COMMAND;
	return cij_error_exit_code(err->class);
}

/* The exit code of the program that has come to @code. */
static int
finish(const struct call *call, int code)
{
	if (call->command && call->command->flags & CMD_SSH_CODES)
		return out_finish(0) ? EXIT_NOT_THE_COMMAND : code;
	return out_finish(code);
}

int
main(int argc, char **argv)
{
	struct cij_error err = CIJ_ERROR_INIT;
	struct call call;
	int code = -1, rc;

	term_init();
	if (args_parse(&call, argc, argv, &err) < 0) {
		code = failed(&call, &err);
	} else if (call_has(&call, "help")) {
		if (call.command)
			help_print(call.command);
		else
			help_print_all();
		code = 0;
	} else if (call_has(&call, "version")) {
		printf("cijqemuctl %s (protocol %d)\n", CIJ_VERSION, CIJ_API);
		code = 0;
	} else {
		if (call.quiet)
			out_be_quiet();
		rc = call.command->flags & CMD_HERE ? 0 : host_begin(&call, &code, &err);
		if (rc == 0)
			code = call.command->run(&call, &err);
		else if (rc < 0)
			code = rc;
		if (code < 0)
			code = failed(&call, &err);
	}
	code = finish(&call, code);
	args_clear(&call);
	return code;
}
