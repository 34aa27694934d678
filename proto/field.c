#include "proto/field.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/text.h"

void
cij_problems_add(struct cij_problems *problems, const char *path, const char *fmt, ...)
{
	struct cij_problem *p;
	va_list ap;

	problems->items = realloc(problems->items, (problems->n + 1) * sizeof(*problems->items));
	if (!problems->items)
		abort();
	p = &problems->items[problems->n++];
	p->path = strdup(path);
	p->hint = NULL;
	va_start(ap, fmt);
	if (vasprintf(&p->desc, fmt, ap) < 0 || !p->path)
		abort();
	va_end(ap);
}

void
cij_problems_hint(struct cij_problems *problems, const char *fmt, ...)
{
	struct cij_problem *p = &problems->items[problems->n - 1];
	va_list ap;

	free(p->hint);
	va_start(ap, fmt);
	if (vasprintf(&p->hint, fmt, ap) < 0)
		abort();
	va_end(ap);
}

bool
cij_problems_below(const struct cij_problems *problems, const char *path)
{
	size_t n = strlen(path);

	for (size_t i = 0; i < problems->n; i++)
		if (strncmp(problems->items[i].path, path, n) == 0 &&
			strchr(".[", problems->items[i].path[n])) /* or the end of it */
			return true;
	return false;
}

void
cij_problems_clear(struct cij_problems *problems)
{
	for (size_t i = 0; i < problems->n; i++) {
		free(problems->items[i].path);
		free(problems->items[i].desc);
		free(problems->items[i].hint);
	}
	free(problems->items);
	*problems = (struct cij_problems){0};
}

int
cij_problems_to_error(
	const struct cij_problems *problems, enum cij_error_class class, struct cij_error *err)
{
	const struct cij_problem *p = &problems->items[0];
	char more[48] = "";

	if (problems->n > 1)
		snprintf(more, sizeof(more), " (and %zu more)", problems->n - 1);
	if (*p->path)
		cij_error_set(err, class, "'%s' %s%s", p->path, p->desc, more);
	else
		cij_error_set(err, class, "%s%s", p->desc, more);
	if (p->hint)
		cij_error_hint(err, "%s", p->hint);
	return -1;
}

struct json_object *
cij_problems_to_json(const struct cij_problems *problems)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < problems->n; i++) {
		struct json_object *item = json_object_new_object();

		cij_json_add_str(item, "path", problems->items[i].path);
		cij_json_add_str(item, "desc", problems->items[i].desc);
		cij_json_add_str(item, "hint", problems->items[i].hint);
		json_object_array_add(list, item);
	}
	return list;
}

static int decode_members(const struct cij_table *table, struct json_object *obj, void *out,
	const char *path, struct cij_problems *problems);

struct decode {
	struct cij_problems *problems;
	const char *path; /* of the value at hand */
};

static int
wrong_type(struct decode *d, const char *want, struct json_object *value)
{
	cij_problems_add(
		d->problems, d->path, "must be %s, not %s", want, cij_json_type_word(value));
	return -1;
}

/* The string in @value, which may not hold a NUL; NULL and a problem otherwise. */
static const char *
get_string(struct decode *d, struct json_object *value)
{
	const char *text;

	if (!json_object_is_type(value, json_type_string)) {
		wrong_type(d, "a string", value);
		return NULL;
	}
	text = json_object_get_string(value);
	if (strlen(text) != (size_t)json_object_get_string_len(value)) {
		cij_problems_add(d->problems, d->path, "has a NUL character in it");
		return NULL;
	}
	return text;
}

static int
decode_str(struct decode *d, const struct cij_field *f, struct json_object *value, char **out)
{
	const char *text = get_string(d, value);
	struct cij_error err;

	if (!text)
		return -1;
	if ((f->flags & CIJ_F_NOT_EMPTY) && !*text) {
		cij_problems_add(d->problems, d->path, "may not be empty");
		return -1;
	}
	if ((f->flags & CIJ_F_NAME) && cij_guest_name_check(text, &err) < 0) {
		cij_problems_add(d->problems, d->path, "is no guest's name: %s", err.desc);
		if (*err.hint)
			cij_problems_hint(d->problems, "%s", err.hint);
		return -1;
	}
	free(*out);
	*out = strdup(text);
	if (!*out)
		abort();
	return 0;
}

static int
check_range(struct decode *d, const struct cij_field *f, int64_t n)
{
	char least[24], most[24];

	if (n >= f->min && (f->max == 0 || n <= f->max))
		return 0;
	if (f->type == CIJ_T_SIZE) {
		cij_size_exact(f->min, least, sizeof(least));
		cij_size_exact(f->max, most, sizeof(most));
	} else {
		snprintf(least, sizeof(least), "%lld", (long long)f->min);
		snprintf(most, sizeof(most), "%lld", (long long)f->max);
	}
	if (f->max == 0)
		cij_problems_add(d->problems, d->path, "must be at least %s", least);
	else
		cij_problems_add(d->problems, d->path, "must be from %s to %s", least, most);
	return -1;
}

/* json-c makes the nearest int64_t of a number that fits none: -1 and a problem then. */
static int
check_exact(struct decode *d, struct json_object *value)
{
	int64_t n = json_object_get_int64(value);

	if (n != CIJ_UNSET && (n < 0 || json_object_get_uint64(value) == (uint64_t)n))
		return 0;
	cij_problems_add(d->problems, d->path, "is a number of more than 63 bits");
	return -1;
}

static int
decode_int(struct decode *d, const struct cij_field *f, struct json_object *value, int64_t *out)
{
	int64_t n;

	if (!json_object_is_type(value, json_type_int))
		return wrong_type(d, "a whole number", value);
	n = json_object_get_int64(value);
	if (check_range(d, f, n) < 0 || check_exact(d, value) < 0)
		return -1;
	*out = n;
	return 0;
}

static int
decode_seconds(struct decode *d, struct json_object *value, double *out)
{
	/* A year: larger values are mistakes, and would overflow a struct timeval somewhere. */
	const double longest = 366.0 * 24 * 3600;
	double n;

	if (!json_object_is_type(value, json_type_int) &&
		!json_object_is_type(value, json_type_double))
		return wrong_type(d, "a number of seconds", value);
	n = json_object_get_double(value);
	if (!(n >= 0 && n <= longest)) {
		cij_problems_add(d->problems, d->path, "must be from 0 to %.0f seconds", longest);
		return -1;
	}
	*out = n;
	return 0;
}

static int
decode_size(struct decode *d, const struct cij_field *f, struct json_object *value, int64_t *out)
{
	const char *text;
	char clean[64];
	int64_t n;

	if (json_object_is_type(value, json_type_int))
		return decode_int(d, f, value, out);
	if (!json_object_is_type(value, json_type_string))
		return wrong_type(d, "a size (a number of bytes, or like \"2G\")", value);
	text = get_string(d, value);
	if (!text)
		return -1;
	if (cij_size_parse(text, &n) < 0) {
		cij_problems_add(d->problems, d->path, "is no size: '%s'",
			cij_text_clean(text, clean, sizeof(clean)));
		cij_problems_hint(d->problems, "sizes are like 512M, 2G or 1T");
		return -1;
	}
	if (check_range(d, f, n) < 0)
		return -1;
	*out = n;
	return 0;
}

static int
decode_enum(struct decode *d, const struct cij_field *f, struct json_object *value, int *out)
{
	const char *text = get_string(d, value);
	char clean[64], all[256] = "";

	if (!text)
		return -1;
	for (int i = 0; f->names[i]; i++)
		if (strcmp(f->names[i], text) == 0) {
			*out = i;
			return 0;
		}
	for (int i = 0; f->names[i]; i++) {
		strncat(all, i ? ", " : "", sizeof(all) - strlen(all) - 1);
		strncat(all, f->names[i], sizeof(all) - strlen(all) - 1);
	}
	cij_problems_add(d->problems, d->path, "is '%s', but must be one of: %s",
		cij_text_clean(text, clean, sizeof(clean)), all);
	return -1;
}

static char *
path_join(const char *path, const char *name)
{
	char clean[64];
	char *joined;

	if (asprintf(&joined, "%s%s%s", path, *path ? "." : "",
		    cij_text_clean(name, clean, sizeof(clean))) < 0)
		abort();
	return joined;
}

static char *
path_index(const char *path, size_t i)
{
	char *joined;

	if (asprintf(&joined, "%s[%zu]", path, i) < 0)
		abort();
	return joined;
}

static int
decode_list(struct decode *d, const struct cij_field *f, struct json_object *value,
	struct cij_list *out)
{
	bool strs = f->type == CIJ_T_STRS;
	size_t n, size = strs ? sizeof(char *) : f->table->size;
	int ret = 0;

	if (!json_object_is_type(value, json_type_array))
		return wrong_type(d, "an array", value);
	n = json_object_array_length(value);
	if (f->max && n > (size_t)f->max) {
		cij_problems_add(
			d->problems, d->path, "may have at most %lld items", (long long)f->max);
		return -1;
	}
	out->items = calloc(n + 1, size);
	if (!out->items)
		abort();
	out->n = n;
	for (size_t i = 0; i < n; i++) {
		struct json_object *item = json_object_array_get_idx(value, i);
		_cleanup_free_ char *path = path_index(d->path, i);
		struct decode one = {d->problems, path};

		if (strs)
			ret |= decode_str(&one, f, item, &((char **)out->items)[i]);
		else
			ret |= cij_table_decode(
				f->table, item, (char *)out->items + i * size, path, d->problems);
	}
	return ret;
}

static int
decode_json(struct decode *d, const struct cij_field *f, struct json_object *value,
	struct json_object **out)
{
	if ((f->flags & CIJ_F_OBJECT) && !json_object_is_type(value, json_type_object))
		return wrong_type(d, "an object", value);
	*out = json_object_get(value);
	return 0;
}

static int
decode_field(struct decode *d, const struct cij_field *f, struct json_object *value, void *at)
{
	switch (f->type) {
	case CIJ_T_STR:
		return decode_str(d, f, value, at);
	case CIJ_T_BOOL:
		if (!json_object_is_type(value, json_type_boolean))
			return wrong_type(d, "true or false", value);
		*(bool *)at = json_object_get_boolean(value);
		return 0;
	case CIJ_T_INT:
		return decode_int(d, f, value, at);
	case CIJ_T_SECONDS:
		return decode_seconds(d, value, at);
	case CIJ_T_SIZE:
		return decode_size(d, f, value, at);
	case CIJ_T_ENUM:
		return decode_enum(d, f, value, at);
	case CIJ_T_OBJECT:
		/* Initialised with its parent, which may have given it defaults of its own. */
		return decode_members(f->table, value, at, d->path, d->problems);
	case CIJ_T_LIST:
	case CIJ_T_STRS:
		return decode_list(d, f, value, at);
	case CIJ_T_JSON:
		return decode_json(d, f, value, at);
	case CIJ_T_REST:
		break;
	}
	return 0;
}

static void
init_struct(const struct cij_table *table, void *out)
{
	memset(out, 0, table->size);
	for (size_t i = 0; i < table->n_fields; i++) {
		const struct cij_field *f = &table->fields[i];
		void *at = (char *)out + f->offset;

		if (f->type == CIJ_T_OBJECT)
			init_struct(f->table, at);
		else if (f->type == CIJ_T_INT || f->type == CIJ_T_SIZE)
			*(int64_t *)at = CIJ_UNSET;
	}
	if (table->init)
		table->init(out);
}

static const char *
nearest_field(const struct cij_table *table, const char *word)
{
	const char *names[table->n_fields + 1]; /* an array of none is no array in C */

	for (size_t i = 0; i < table->n_fields; i++)
		names[i] = table->fields[i].type == CIJ_T_REST ? NULL : table->fields[i].name;
	return cij_nearest_of(word, names, table->n_fields);
}

static const struct cij_field *
find_field(const struct cij_table *table, const char *name)
{
	const struct cij_field *rest = NULL;

	for (size_t i = 0; i < table->n_fields; i++) {
		if (table->fields[i].type == CIJ_T_REST)
			rest = &table->fields[i];
		else if (strcmp(table->fields[i].name, name) == 0)
			return &table->fields[i];
	}
	return rest;
}

static void
add_rest(struct json_object **rest, const char *name, struct json_object *value)
{
	if (!*rest)
		*rest = json_object_new_object();
	json_object_object_add(*rest, name, json_object_get(value));
}

static int
decode_members(const struct cij_table *table, struct json_object *obj, void *out, const char *path,
	struct cij_problems *problems)
{
	size_t before = problems->n;

	if (!json_object_is_type(obj, json_type_object)) {
		cij_problems_add(
			problems, path, "must be an object, not %s", cij_json_type_word(obj));
		return -1;
	}
	json_object_object_foreach (obj, name, value) {
		const struct cij_field *f = find_field(table, name);
		_cleanup_free_ char *full = path_join(path, name);
		struct decode d = {problems, full};

		if (!f) {
			const char *near = nearest_field(table, name);

			cij_problems_add(problems, full, "is not known here");
			if (near)
				cij_problems_hint(problems, "did you mean '%s'?", near);
		} else if (f->type == CIJ_T_REST) {
			add_rest((struct json_object **)((char *)out + f->offset), name, value);
		} else {
			decode_field(&d, f, value, (char *)out + f->offset);
		}
	}
	for (size_t i = 0; i < table->n_fields; i++) {
		const struct cij_field *f = &table->fields[i];

		if ((f->flags & CIJ_F_REQUIRED) && !json_object_object_get_ex(obj, f->name, NULL)) {
			_cleanup_free_ char *full = path_join(path, f->name);

			cij_problems_add(problems, full, "is missing");
		}
	}
	return problems->n > before ? -1 : 0;
}

int
cij_table_decode(const struct cij_table *table, struct json_object *obj, void *out,
	const char *path, struct cij_problems *problems)
{
	init_struct(table, out);
	return decode_members(table, obj, out, path, problems);
}

static void
clear_list(const struct cij_field *f, struct cij_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		if (f->type == CIJ_T_STRS)
			free(((char **)list->items)[i]);
		else
			cij_table_clear(f->table, (char *)list->items + i * f->table->size);
	free(list->items);
}

void
cij_table_clear(const struct cij_table *table, void *obj)
{
	for (size_t i = 0; i < table->n_fields; i++) {
		const struct cij_field *f = &table->fields[i];
		void *at = (char *)obj + f->offset;

		switch (f->type) {
		case CIJ_T_STR:
			free(*(char **)at);
			break;
		case CIJ_T_OBJECT:
			cij_table_clear(f->table, at);
			break;
		case CIJ_T_LIST:
		case CIJ_T_STRS:
			clear_list(f, at);
			break;
		case CIJ_T_JSON:
		case CIJ_T_REST:
			json_object_put(*(struct json_object **)at);
			break;
		case CIJ_T_BOOL:
		case CIJ_T_INT:
		case CIJ_T_SECONDS:
		case CIJ_T_SIZE:
		case CIJ_T_ENUM:
			break;
		}
	}
	memset(obj, 0, table->size);
}

static const char *const type_words[] = {
	[CIJ_T_STR] = "string",
	[CIJ_T_BOOL] = "boolean",
	[CIJ_T_INT] = "integer",
	[CIJ_T_SECONDS] = "seconds",
	[CIJ_T_SIZE] = "size",
	[CIJ_T_ENUM] = "enum",
	[CIJ_T_OBJECT] = "object",
	[CIJ_T_LIST] = "array of objects",
	[CIJ_T_STRS] = "array of strings",
	[CIJ_T_JSON] = "any",
	[CIJ_T_REST] = "other members",
};

struct json_object *
cij_table_describe(const struct cij_table *table)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < table->n_fields; i++) {
		const struct cij_field *f = &table->fields[i];
		struct json_object *item = json_object_new_object();

		cij_json_add_str(item, "name", f->name);
		cij_json_add_str(
			item, "type", f->flags & CIJ_F_OBJECT ? "object" : type_words[f->type]);
		cij_json_add_bool(item, "required", f->flags & CIJ_F_REQUIRED);
		if (f->type == CIJ_T_INT || f->type == CIJ_T_SIZE) {
			cij_json_add_int(item, "min", f->min);
			if (f->max)
				cij_json_add_int(item, "max", f->max);
		}
		if (f->names) {
			struct json_object *values = json_object_new_array();

			for (int k = 0; f->names[k]; k++)
				json_object_array_add(values, json_object_new_string(f->names[k]));
			json_object_object_add(item, "values", values);
		}
		if (f->table)
			json_object_object_add(item, "members", cij_table_describe(f->table));
		if (f->doc)
			cij_json_add_str(item, "doc", f->doc);
		json_object_array_add(list, item);
	}
	return list;
}
