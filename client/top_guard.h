/* A program that has taken the terminal over runs under a guard, which gives it back. */
#ifndef CLIENT_TOP_GUARD_H
#define CLIENT_TOP_GUARD_H

#include "cijqemu/error.h"

/*
 * Runs @fn in a child process. When the child ends by a signal, even KILL, the terminal is put in
 * order here; when we do, the child is ended and does it itself. Returns its exit code (128 +
 * signal as shells have it). In the child fn's result is returned: both processes go on from here.
 */
int top_guarded(int (*fn)(void *arg, struct cij_error *err), void *arg, struct cij_error *err);

#endif
