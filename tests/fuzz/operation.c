/*
 * Requests by the tables of the daemon's own operations: what is accepted is within the bounds that
 * 'query-operations' tells, and is accepted again as it was understood.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "cijqemu/protocol.h"
#include "daemon/op.h"
#include "proto/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct json_object *write_struct(
	const struct cij_table *table, const void *from, const void *unset);

static void
look(bool good)
{
	if (!good)
		abort();
}

static void
check_text(const struct cij_field *f, const char *text)
{
	struct cij_error err;

	look(text || !(f->flags & CIJ_F_REQUIRED));
	if (!text)
		return;
	look(*text || !(f->flags & CIJ_F_NOT_EMPTY));
	look(!(f->flags & CIJ_F_NAME) || cij_guest_name_check(text, &err) == 0);
	for (size_t n = 0, left = strlen(text); left > 0; left -= n, text += n)
		look((n = cij_utf8_len(text, left)) > 0);
}

/* As write_struct(); what is unset is as the table has it. */
static struct json_object *
write_with_defaults(const struct cij_table *table, const void *from)
{
	_cleanup_problems_ struct cij_problems problems = {0};
	_cleanup_json_ struct json_object *nothing = json_object_new_object();
	_cleanup_free_ void *unset = calloc(1, table->size);
	struct json_object *obj;

	(void)cij_table_decode(table, nothing, unset, "", &problems);
	obj = write_struct(table, from, unset);
	cij_table_clear(table, unset);
	return obj;
}

static struct json_object *
write_list(const struct cij_field *f, const struct cij_list *list)
{
	struct json_object *array;

	look(f->max == 0 || list->n <= (size_t)f->max);
	if (!list->items)
		return NULL;
	array = json_object_new_array();
	for (size_t i = 0; i < list->n; i++) {
		if (f->type == CIJ_T_STRS) {
			const char *text = ((char **)list->items)[i];

			look(text);
			check_text(f, text);
			json_object_array_add(array, json_object_new_string(text));
		} else {
			json_object_array_add(
				array, write_with_defaults(
					       f->table, (char *)list->items + i * f->table->size));
		}
	}
	return array;
}

/* What is at @at, as JSON; NULL where it was not given, and is as it is at @unset. */
static struct json_object *
write_field(const struct cij_field *f, const void *at, const void *unset)
{
	int64_t n;
	double seconds;

	switch (f->type) {
	case CIJ_T_STR:
		check_text(f, *(char *const *)at);
		return *(char *const *)at ? json_object_new_string(*(char *const *)at) : NULL;
	case CIJ_T_BOOL:
		return json_object_new_boolean(*(const bool *)at);
	case CIJ_T_INT:
	case CIJ_T_SIZE:
		n = *(const int64_t *)at;
		if (!(f->flags & CIJ_F_REQUIRED) && n == *(const int64_t *)unset)
			return NULL;
		look(n >= f->min && (f->max == 0 || n <= f->max));
		return json_object_new_int64(n);
	case CIJ_T_SECONDS:
		seconds = *(const double *)at;
		look(!isnan(seconds));
		if (!(f->flags & CIJ_F_REQUIRED) && seconds == *(const double *)unset)
			return NULL;
		look(seconds >= 0);
		return json_object_new_double(seconds);
	case CIJ_T_ENUM:
		n = *(const int *)at;
		if (!(f->flags & CIJ_F_REQUIRED) && n == *(const int *)unset)
			return NULL;
		look(n >= 0);
		for (int64_t i = 0; i < n; i++)
			look(f->names[i]);
		look(f->names[n]);
		return json_object_new_string(f->names[n]);
	case CIJ_T_OBJECT:
		return write_struct(f->table, at, unset);
	case CIJ_T_LIST:
	case CIJ_T_STRS:
		return write_list(f, at);
	case CIJ_T_JSON:
	case CIJ_T_REST:
		return json_object_get(*(struct json_object *const *)at);
	}
	return NULL;
}

static struct json_object *
write_struct(const struct cij_table *table, const void *from, const void *unset)
{
	struct json_object *obj = json_object_new_object();

	for (size_t i = 0; i < table->n_fields; i++) {
		const struct cij_field *f = &table->fields[i];
		struct json_object *value = write_field(
			f, (const char *)from + f->offset, (const char *)unset + f->offset);

		if (value && f->type == CIJ_T_REST) {
			json_object_object_foreach (value, name, member)
				json_object_object_add(obj, name, json_object_get(member));
			json_object_put(value);
		} else if (value) {
			json_object_object_add(obj, f->name, value);
		}
	}
	return obj;
}

/* Returns what was understood; NULL and problems for what is refused. */
static struct json_object *
read_arguments(const struct op *op, struct json_object *json)
{
	_cleanup_problems_ struct cij_problems problems = {0};
	struct json_object *understood = NULL;
	void *args = calloc(1, op->table->size);
	struct cij_error err;

	if (cij_table_decode(op->table, json, args, "", &problems) == 0) {
		look(problems.n == 0);
		understood = write_with_defaults(op->table, args);
	} else {
		look(problems.n > 0);
		cij_problems_to_error(&problems, CIJ_E_BAD_REQUEST, &err);
		json_object_put(cij_problems_to_json(&problems));
	}
	cij_table_clear(op->table, args);
	free(args);
	return understood;
}

static void
take_line(const char *line, size_t len)
{
	struct cij_error err;
	_cleanup_json_ struct json_object *msg = cij_json_parse(
		line, len, CIJ_REQUEST_DEPTH_MAX, &err);
	_cleanup_json_ struct json_object *was = NULL, *is = NULL;
	const char *name = cij_json_str(msg, "execute");
	const struct op *op = name ? op_find(name, &err) : NULL;

	if (!op)
		return;
	was = read_arguments(op, cij_json_get(msg, "arguments"));
	if (!was)
		return;
	is = read_arguments(op, was);
	if (!is || !json_object_equal(was, is))
		abort();
}

/* Lines, as a client sends them. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data, *end;

	for (size_t at = 0; at < size; at += (size_t)(end - (text + at)) + 1) {
		end = memchr(text + at, '\n', size - at);
		if (!end)
			end = text + size;
		take_line(text + at, (size_t)(end - (text + at)));
	}
	return 0;
}
