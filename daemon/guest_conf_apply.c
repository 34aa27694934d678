/* Changes to guest.json by dotted keys: "memory=4G", "devices.nvme0.mdts=7", "forward.0=null". */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "daemon/guest_conf.h"
#include "daemon/strv.h"

/* Deeper than any key of guest.json. */
#define KEY_PARTS_MAX 8

static int
bad_key(const char *key, const char *why, struct cij_error *err)
{
	return cij_error_set(err, CIJ_E_BAD_REQUEST, "key '%s' %s", key, why);
}

static int
split_key(const char *key, struct strv *parts, struct cij_error *err)
{
	_cleanup_free_ char *copy = str_copy(key);
	char *rest = copy, *part;

	while ((part = strsep(&rest, "."))) {
		if (!*part)
			return bad_key(key, "has an empty part", err);
		if (parts->n == KEY_PARTS_MAX)
			return bad_key(key, "has too many parts", err);
		strv_add(parts, part);
	}
	return 0;
}

/* The index that @part names in @array: a number, or the "id" of an element; -1 for neither. */
static long
array_index(struct json_object *array, const char *part)
{
	size_t n = json_object_array_length(array);
	char *end;
	long i;

	errno = 0;
	i = strtol(part, &end, 10);
	if (*end == '\0' && !errno && i >= 0)
		return i;
	for (size_t k = 0; k < n; k++) {
		const char *id = cij_json_str(json_object_array_get_idx(array, k), "id");

		if (id && strcmp(id, part) == 0)
			return (long)k;
	}
	return -1;
}

/* Puts @value (a weak pointer) at @index of @array, or takes that element away where it is NULL. */
static int
set_element(struct json_object *array, const char *key, const char *part, struct json_object *value,
	struct cij_error *err)
{
	size_t n = json_object_array_length(array);
	long i = array_index(array, part);

	if ((i < 0 || (size_t)i >= n) && !value)
		return 0; /* what is not there need not be removed */
	if (i < 0) { /* a new element by its id */
		if (!json_object_is_type(value, json_type_object))
			return bad_key(key, "names nothing that is there", err);
		if (!cij_json_get(value, "id"))
			cij_json_add_str(value, "id", part);
		json_object_array_add(array, json_object_get(value));
		return 0;
	}
	if ((size_t)i > n)
		return bad_key(key, "has an index behind the end", err);
	/* Named by its id, it keeps it. */
	if (json_object_is_type(value, json_type_object) && !isdigit((unsigned char)*part) &&
		!cij_json_get(value, "id"))
		cij_json_add_str(value, "id", part);
	if (value)
		json_object_array_put_idx(array, i, json_object_get(value));
	else
		json_object_array_del_idx(array, i, 1);
	return 0;
}

/*
 * The container at @part of @at, made where it is missing and @make. Weak; NULL with an error, or
 * where it is missing and not to be made, without one that counts.
 */
static struct json_object *
descend(struct json_object *at, const char *key, const char *part, bool make, struct cij_error *err)
{
	struct json_object *next = NULL;

	if (json_object_is_type(at, json_type_array)) {
		long i = array_index(at, part);
		size_t n = json_object_array_length(at);

		if (i > (long)n) {
			bad_key(key, "has an index behind the end", err);
			return NULL;
		}
		if (i >= 0 && i < (long)n)
			next = json_object_array_get_idx(at, i);
		if (!next && make) {
			next = json_object_new_object();
			if (i < 0)
				cij_json_add_str(next, "id", part);
			json_object_array_add(at, next);
		}
	} else if (json_object_is_type(at, json_type_object)) {
		next = cij_json_get(at, part);
		if (!next && make) {
			bool array = strcmp(part, "devices") == 0 || strcmp(part, "forward") == 0 ||
				     strcmp(part, "share") == 0 || strcmp(part, "extra_args") == 0;

			next = array ? json_object_new_array() : json_object_new_object();
			json_object_object_add(at, part, next);
		}
	}
	if (!json_object_is_type(next, json_type_object) &&
		!json_object_is_type(next, json_type_array)) {
		bad_key(key, "goes into something that is no object", err);
		return NULL;
	}
	return next;
}

static int
apply_one(
	struct json_object *json, const char *key, struct json_object *value, struct cij_error *err)
{
	_cleanup_strv_ struct strv parts = {0};
	struct json_object *at = json;
	const char *last;

	if (split_key(key, &parts, err) < 0)
		return -1;
	for (size_t i = 0; i + 1 < parts.n; i++) {
		at = descend(at, key, parts.items[i], value != NULL, err);
		if (!at)
			return value ? -1 : 0; /* what is not there need not be removed */
	}
	last = parts.items[parts.n - 1];
	if (json_object_is_type(at, json_type_array))
		return set_element(at, key, last, value, err);
	if (value)
		json_object_object_add(at, last, json_object_get(value));
	else
		json_object_object_del(at, last);
	return 0;
}

int
guest_conf_apply(struct json_object *json, struct json_object *changes, struct cij_error *err)
{
	if (!changes)
		return 0;
	json_object_object_foreach (changes, key, value) {
		if (apply_one(json, key, value, err) < 0)
			return -1;
	}
	return 0;
}
