/* The program's help, made from the tables. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cijqemu/protocol.h"
#include "client/args.h"
#include "client/table.h"

/* Where the second column of a list of options starts. */
#define HELP_COLUMN 30

/* Lines of text are broken at this column. */
#define HELP_WIDTH 80

/*
 * Prints one line of text, which starts at column @at, over as many as it needs; those behind the
 * first are moved in by @indent.
 */
static void
print_wrapped(const char *text, size_t len, int at, int indent)
{
	const char *end = text + len;
	bool first = true;

	while (text < end) {
		const char *space = memchr(text, ' ', end - text), *stop = space ? space : end;
		char word[HELP_WIDTH * 4];
		int width;

		snprintf(word, sizeof(word), "%.*s", (int)(stop - text), text);
		width = (int)text_width(word);
		if (!first && at + 1 + width > HELP_WIDTH)
			printf("\n%*s", at = indent, "");
		else if (!first)
			at += printf(" ");
		fputs(word, stdout);
		at += width;
		text = stop + 1;
		first = false;
	}
	putchar('\n');
}

static void
print_options(const struct opt *table)
{
	for (const struct opt *o = table; o && o->name; o++) {
		char left[128];
		int n;

		n = snprintf(left, sizeof(left), "  %c%c%s--%s", o->letter ? '-' : ' ',
			o->letter ? o->letter : ' ', o->letter ? ", " : "  ", o->name);
		if (o->value)
			snprintf(left + n, sizeof(left) - n, "%s%s%s",
				o->kind == OPT_MAYBE ? "[=" : " ", o->value,
				o->kind == OPT_MAYBE ? "]" : "");
		printf("%-*s", HELP_COLUMN, left);
		if (strlen(left) >= HELP_COLUMN)
			printf("\n%*s", HELP_COLUMN, "");
		print_wrapped(o->help, strlen(o->help), HELP_COLUMN, HELP_COLUMN);
	}
}

void
help_print_all(void)
{
	const char *group = "";

	printf("cijqemuctl %s: talks to cijqemud, which supervises this machine's QEMU guests.\n\n"
	       "Usage: cijqemuctl [OPTION…] COMMAND …\n",
		CIJ_VERSION);
	for (const struct command *c = commands; c->name; c++) {
		if (!c->group)
			continue;
		if (strcmp(c->group, group) != 0)
			printf("\n%s:\n", group = c->group);
		printf("  %-12s%s\n", c->name, c->summary);
	}
	printf("\nOptions, before or behind the command:\n");
	print_options(global_options);
	printf("\n'cijqemuctl COMMAND --help' explains one command; the start of a name will do "
	       "for it "
	       "where only\none command has it.\n\n"
	       "Environment:\n"
	       "  QEMU_GUEST_NAME   the guest, where one is needed and none is named\n"
	       "  CIJQEMU_SOCKET    the daemon's socket, where --socket is not given\n"
	       "  NO_COLOR          no colours\n\n"
	       "Exit codes: 64 usage, 65 bad request or name, 66 no such guest, 69 no daemon, 70 "
	       "internal,\n75 busy, leased or out of resources, 76 not our protocol, 77 denied, 78 "
	       "bad "
	       "definition,\n124 time-out, 1 the rest.\n");
}

void
help_print(const struct command *command)
{
	char usage[64];
	int at = snprintf(usage, sizeof(usage), "Usage: cijqemuctl %s ", command->name);

	fputs(usage, stdout);
	print_wrapped(command->synopsis, strlen(command->synopsis), at, at);
	printf("\n%c%s.\n", toupper((unsigned char)command->summary[0]), command->summary + 1);
	if (command->options) {
		printf("\n");
		print_options(command->options);
	}
	if (command->details)
		printf("\n");
	for (const char *line = command->details; line && *line; line += strcspn(line, "\n") + 1)
		print_wrapped(line, strcspn(line, "\n"), 0, 0);
	printf("\nOptions of every command:\n");
	print_options(global_options);
}

int
cmd_help(struct call *call, struct cij_error *err)
{
	const struct command *command;

	if (call->n_args == 0) {
		help_print_all();
		return 0;
	}
	command = command_find(call->args[0], err);
	if (!command)
		return -1;
	help_print(command);
	return 0;
}
