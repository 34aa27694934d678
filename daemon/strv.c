#include "daemon/strv.h"

#include <stdarg.h>
#include <string.h>

static void
take(struct strv *v, char *text)
{
	v->items = realloc(v->items, (v->n + 2) * sizeof(*v->items));
	if (!v->items || !text)
		abort();
	v->items[v->n++] = text;
	v->items[v->n] = NULL;
}

void
strv_add(struct strv *v, const char *text)
{
	take(v, strdup(text));
}

void
strv_addf(struct strv *v, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	take(v, text);
}

void
strv_clear(struct strv *v)
{
	for (size_t i = 0; i < v->n; i++)
		free(v->items[i]);
	free(v->items);
	*v = (struct strv){0};
}

struct json_object *
strv_to_json(const struct strv *v)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < v->n; i++)
		json_object_array_add(list, json_object_new_string(v->items[i]));
	return list;
}

char *
str_printf(const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	return text;
}

char *
str_copy(const char *text)
{
	char *copy = text ? strdup(text) : NULL;

	if (text && !copy)
		abort();
	return copy;
}

void
str_replace(char **at, const char *text)
{
	char *was = *at;

	*at = str_copy(text);
	free(was);
}
