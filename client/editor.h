/*
 * A line typed on the terminal, with editing, history and completion by libedit. The library is
 * loaded when the first line is asked for: all other commands start without it, and where it is
 * missing the terminal's own editing has to do.
 */
#ifndef CLIENT_EDITOR_H
#define CLIENT_EDITOR_H

#include <stdbool.h>
#include <stddef.h>

/* Words to complete to, sorted. */
struct words {
	char **items;
	size_t n;
};
void words_add(struct words *words, const char *text, size_t len);
void words_sort(struct words *words);
void words_clear(struct words *words);

struct editor_spec {
	const char *prompt;
	const char *history; /* name of its file in $XDG_STATE_HOME/cijqemu */
	/* The words that may stand where @start bytes of the line stand before; weak. May be NULL.
	 */
	const struct words *(*complete)(void *arg, const char *line, size_t start);
	int fd; /* also watched while a line is typed; -1: none */
	/* Something came on fd: may print whole lines. False: watch it no more. */
	bool (*ready)(void *arg);
	void *arg; /* weak */
};

struct editor;
struct editor *editor_new(const struct editor_spec *spec);
void editor_free(struct editor *editor);

/* The line without its end, until the next call; NULL at the end of input (^D). */
const char *editor_line(struct editor *editor);

/* Another descriptor from now on. */
void editor_watch(struct editor *editor, int fd);

#endif
