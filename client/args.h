/* The command line taken apart by the tables of command.h. */
#ifndef CLIENT_ARGS_H
#define CLIENT_ARGS_H

#include "client/command.h"

/*
 * Fills @call from the command line. Asked for help or the version it stops early: see
 * call_has(call, "help"); call->command is NULL then when none was named. Usage or BadRequest
 * otherwise. args_clear() frees.
 */
int args_parse(struct call *call, int argc, char **argv, struct cij_error *err);
void args_clear(struct call *call);

/* Whether the option was given; its last value (NULL without); all its values, one a call. */
bool call_has(const struct call *call, const char *name);
const char *call_value(const struct call *call, const char *name);
const char *call_each(const struct call *call, const char *name, size_t *at);

/* The option's value as seconds, @fallback where it was not given. */
int call_seconds(const struct call *call, const char *name, double fallback, double *seconds,
	struct cij_error *err);

/* The option's value as a whole number, @fallback where it was not given. */
int call_number(const struct call *call, const char *name, int64_t fallback, int64_t *number,
	struct cij_error *err);

/* The moment at which --timeout ends, or @fallback seconds where it was not given; 0 = never. */
int64_t call_deadline(const struct call *call, double fallback);

/* Refuses the command line: Usage, with a hint at the help. Always returns -1. */
int call_usage(const struct call *call, struct cij_error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
