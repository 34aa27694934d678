/*
 * Commands for a monitor, from wherever they come: the command line, a pipe, or a person at a
 * terminal; to one guest, or to all that a glob matches.
 */
#ifndef CLIENT_REPL_H
#define CLIENT_REPL_H

#include "client/args.h"
#include "client/editor.h"
#include "client/link.h"

struct repl {
	struct call *call; /* weak */
	struct link link;
	const char *guest; /* weak; whom the next line is for */
	bool several; /* what is printed says whose it is */
	bool person; /* at a terminal */
	/* Runs one line and prints what comes of it. */
	int (*run)(struct repl *repl, const char *line, struct cij_error *err);
	/* What a person is helped by. */
	const char *prompt, *history;
	const struct words *(*complete)(void *repl, const char *line, size_t start);
	struct words commands, more; /* for complete() */
	bool asked; /* for them */
	/* A connection of a person's, watched while they type. NULL: none. */
	int (*enter)(struct repl *repl, struct cij_error *err);
	bool (*ready)(void *repl);
	struct link session;
	char *in; /* of it, n_in bytes: the beginning of a line */
	size_t n_in;
};

/* Runs @line; or, without one, the lines of stdin. Returns the exit code, or -1 with an error. */
int repl_run(struct repl *repl, const char *line, struct cij_error *err);

/* The words of the command line as one line, on the heap. */
char *repl_words(const struct call *call);

/* The time until which one command's answer is waited for. */
void repl_start_clock(struct repl *repl);

/* Prints text of a guest's, its name before each line where there are several. */
void repl_print(const struct repl *repl, const char *text, size_t len);

#endif
