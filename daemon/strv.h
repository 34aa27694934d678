/* A growing vector of strings, NULL-terminated so that exec can take it. */
#ifndef DAEMON_STRV_H
#define DAEMON_STRV_H

#include <json-c/json.h>
#include <stddef.h>

#include "cijqemu/cleanup.h"

struct strv {
	char **items; /* NULL while empty; items[n] is NULL otherwise */
	size_t n;
};

/* Appends a copy. */
void strv_add(struct strv *v, const char *text);
void strv_addf(struct strv *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void strv_clear(struct strv *v);
struct json_object *strv_to_json(const struct strv *v);
#define _cleanup_strv_ _cleanup_(strv_clear)

/* A formatted heap string; never NULL. */
char *str_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A copy, NULL for NULL. */
char *str_copy(const char *text);
/* Frees what *@at holds and puts a copy of @text there. */
void str_replace(char **at, const char *text);

#endif
