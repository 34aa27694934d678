/* The guest's console on the user's terminal. */
#ifndef CLIENT_CONSOLE_H
#define CLIENT_CONSOLE_H

#include "client/command.h"

/* Attaches to the console of run @run of @guest, just started, from its first byte. */
int console_run_started(struct call *call, const char *guest, int64_t run, struct cij_error *err);

#endif
