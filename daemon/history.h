/*
 * Who did what: a line for each operation that changed something or was refused, in files of
 * bounded size under STATE_DIR, of what was done and of what was refused. What was typed or sent is
 * not in it.
 */
#ifndef DAEMON_HISTORY_H
#define DAEMON_HISTORY_H

#include <json-c/json.h>
#include <time.h>

#include "cijqemu/error.h"
#include "daemon/sock.h"
#include "proto/field.h"

struct history;

/* Keeps the files in the folder @state_fd (weak). */
struct history *history_new(int state_fd);
void history_free(struct history *history);

struct deed {
	const struct peer *by;
	const char *operation;
	const char *guest; /* NULL: about none */
	const struct cij_error *err; /* NULL: it was done */
	double seconds; /* that it took */
};

/* Writes it down, here and in the log. */
void history_add(struct history *history, const struct deed *deed);

/*
 * The last @limit entries about guests that match one of @globs (all, when there is none), oldest
 * first: {"time", "uid", "user", "pid", "operation", "guest", "result", "error", "ms"}. Refused in
 * a row of the same is one, the last, with how often as "times".
 */
struct json_object *history_read(
	const struct history *history, const struct cij_list *globs, size_t limit);

#endif
