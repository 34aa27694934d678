/*
 * Field tables: what a JSON object may hold, written once, used to decode it into a struct, to name
 * what is wrong with it, to describe it to clients and to free it. Requests and guest.json both
 * come in through here and nowhere else.
 */
#ifndef PROTO_FIELD_H
#define PROTO_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/json.h"

/* What an optional number holds when it was not given and its table's init() set no default. */
#define CIJ_UNSET INT64_MIN

enum cij_field_type {
	CIJ_T_STR, /* char *, owned; no NUL inside */
	CIJ_T_BOOL, /* bool */
	CIJ_T_INT, /* int64_t, within min and max */
	CIJ_T_SECONDS, /* double, 0 or more */
	CIJ_T_SIZE, /* int64_t bytes; a number or "2G"; within min and max */
	CIJ_T_ENUM, /* int: the index of the word in names */
	CIJ_T_OBJECT, /* an embedded struct, by its own table */
	CIJ_T_LIST, /* struct cij_list of structs, by their table */
	CIJ_T_STRS, /* struct cij_list of char * */
	CIJ_T_JSON, /* struct json_object *, owned: any value */
	CIJ_T_REST, /* struct json_object *, owned: an object of all members not named here */
};

enum cij_field_flag {
	CIJ_F_REQUIRED = 1 << 0,
	CIJ_F_NAME = 1 << 1, /* CIJ_T_STR: must be a guest name */
	CIJ_F_NOT_EMPTY = 1 << 2, /* CIJ_T_STR: "" is refused */
	CIJ_F_OBJECT = 1 << 3, /* CIJ_T_JSON: must be an object */
};

struct cij_table;

struct cij_field {
	const char *name;
	enum cij_field_type type;
	unsigned flags;
	size_t offset;
	int64_t min, max; /* CIJ_T_INT, CIJ_T_SIZE; max 0 = no limit */
	const char *const *names; /* CIJ_T_ENUM; NULL ends */
	const struct cij_table
		*table; /* CIJ_T_OBJECT, CIJ_T_LIST; CIJ_T_REST: only to describe them */
	const char *doc; /* one line, for 'query-operations' */
};

struct cij_table {
	const struct cij_field *fields;
	size_t n_fields;
	size_t size; /* of the struct */
	void (*init)(void *obj); /* sets defaults on a zeroed struct; may be NULL */
};

struct cij_list {
	void *items;
	size_t n;
};

#define CIJ_TABLE(array, type, init_fn) \
	{ \
		.fields = (array), .n_fields = cij_array_size(array), .size = sizeof(type), \
		.init = (init_fn) \
	}

/* What is wrong with a document, all of it, each with the path of its key. */
struct cij_problem {
	char *path; /* "devices[0].num_grp"; "" for the whole */
	char *desc;
	char *hint; /* or NULL */
};

struct cij_problems {
	struct cij_problem *items;
	size_t n;
};

void cij_problems_add(struct cij_problems *problems, const char *path, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Sets the hint of the last problem. */
void cij_problems_hint(struct cij_problems *problems, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Whether there is one with @path or what is below that. */
bool cij_problems_below(const struct cij_problems *problems, const char *path);
void cij_problems_clear(struct cij_problems *problems);
#define _cleanup_problems_ _cleanup_(cij_problems_clear)

/* Turns the first problem into an error of @class, with "(and N more)". Always returns -1. */
int cij_problems_to_error(
	const struct cij_problems *problems, enum cij_error_class class, struct cij_error *err);

/* An array of {"path", "desc", "hint"}. */
struct json_object *cij_problems_to_json(const struct cij_problems *problems);

/*
 * Decodes @obj into the struct at @out, which is zeroed and given its defaults first. All problems
 * are added to @problems, none stops the rest. Returns 0, or -1 when there were any; the struct may
 * be read and must be cleared with cij_table_clear() in both cases. @path: of @obj itself, "" =
 * top.
 */
int cij_table_decode(const struct cij_table *table, struct json_object *obj, void *out,
	const char *path, struct cij_problems *problems);

/* Frees what decoding allocated and zeroes the struct. */
void cij_table_clear(const struct cij_table *table, void *obj);

/* An array with one {"name", "type", "required", …, "doc"} a field. */
struct json_object *cij_table_describe(const struct cij_table *table);

#endif
