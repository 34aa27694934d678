/* The record of who did what, as 'events --history' prints it. */
#ifndef CLIENT_HISTORY_H
#define CLIENT_HISTORY_H

#include "client/command.h"
#include "proto/json.h"

/* Asks with @args (taken over: the globs) and prints. Returns 0, or -1. */
int history_print(struct call *call, struct json_object *args, struct cij_error *err);

#endif
