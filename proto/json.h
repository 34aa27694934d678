/* json-c, with the checks that it leaves to its callers: depth, UTF-8, NULs, types. */
#ifndef PROTO_JSON_H
#define PROTO_JSON_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cijqemu/cleanup.h"
#include "cijqemu/error.h"

static inline void
cij_cleanup_json(struct json_object **obj)
{
	json_object_put(*obj);
}
#define _cleanup_json_ _cleanup_(cij_cleanup_json)

/*
 * Parses one JSON value of @len bytes that fills the text but for white space. Refuses NUL bytes,
 * invalid UTF-8 and nesting over @depth. The caller owns the result; NULL and BadRequest otherwise.
 * (The value 'null' parses to NULL too: *@err tells them apart by its class, CIJ_E_NONE.)
 */
struct json_object *cij_json_parse(const char *text, size_t len, int depth, struct cij_error *err);

/* Members of @obj, which may be NULL or no object; the fallback where absent or of another type. */
const char *cij_json_str(struct json_object *obj, const char *name);
int64_t cij_json_int(struct json_object *obj, const char *name, int64_t fallback);
bool cij_json_bool(struct json_object *obj, const char *name, bool fallback);
struct json_object *cij_json_get(struct json_object *obj, const char *name); /* weak */
/* How many items @array has; 0 for NULL and what is no array. */
size_t cij_json_length(struct json_object *array);

/* Adds to @obj: owned strings are copied, NULL becomes JSON's null. */
#define cij_json_add_str(obj, name, value) cij_json_add_str_(obj, name, value, CIJ_JSON_KEY(name))
#define cij_json_add_int(obj, name, value) cij_json_add_int_(obj, name, value, CIJ_JSON_KEY(name))
#define cij_json_add_bool(obj, name, value) cij_json_add_bool_(obj, name, value, CIJ_JSON_KEY(name))

/* A literal key is not copied: half of what building an answer costs. */
#define CIJ_JSON_KEY(name) (__builtin_constant_p(name) ? JSON_C_OBJECT_ADD_CONSTANT_KEY : 0)
void cij_json_add_str_(
	struct json_object *obj, const char *name, const char *value, unsigned flags);
void cij_json_add_int_(struct json_object *obj, const char *name, int64_t value, unsigned flags);
void cij_json_add_bool_(struct json_object *obj, const char *name, bool value, unsigned flags);

/*
 * Finds the raw text of member @name of the object that @text holds, at its top level, as the peer
 * wrote it: numbers beyond 64 bits and odd spellings survive. Returns false when it is not there.
 * @text must have been accepted by cij_json_parse().
 */
bool cij_json_raw_member(
	const char *text, size_t len, const char *name, const char **at, size_t *n);

/* A value that prints as exactly these bytes. */
struct json_object *cij_json_raw(const char *text, size_t len);

/* The user's word for a value's type: "a string", "an object", "null". */
const char *cij_json_type_word(struct json_object *value);

#endif
