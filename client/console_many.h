/* The consoles of several guests at once, for scripts. */
#ifndef CLIENT_CONSOLE_MANY_H
#define CLIENT_CONSOLE_MANY_H

#include "client/command.h"

/*
 * Runs @one for each running guest that the glob call->guest matches, all at the same time, each in
 * a process of its own with a copy of our stdin (none, where !@input). Each line that one prints is
 * printed with its guest's name before it. Returns the exit code of the first guest that failed, 0
 * where none did, or -1 with an error.
 */
int console_many(struct call *call, bool input, int (*one)(struct call *, struct cij_error *),
	struct cij_error *err);

#endif
