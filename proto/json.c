#include "proto/json.h"

#include <ctype.h>
#include <string.h>

#include "proto/text.h"

static void
cleanup_tokener(struct json_tokener **tok)
{
	if (*tok)
		json_tokener_free(*tok);
}

/* Skips digits; NULL when there is none. */
static const char *
skip_digits(const char *p, const char *end)
{
	const char *from = p;

	while (p < end && isdigit((unsigned char)*p))
		p++;
	return p > from ? p : NULL;
}

/* The byte behind the number at @p, as RFC 8259 section 6 has it; NULL when it is none. */
static const char *
skip_number(const char *p, const char *end)
{
	if (*p == '-')
		p++;
	if (p < end && *p == '0')
		p++;
	else
		p = skip_digits(p, end);
	if (p && p < end && *p == '.')
		p = skip_digits(p + 1, end);
	if (p && p < end && (*p == 'e' || *p == 'E')) {
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		p = skip_digits(p, end);
	}
	return p;
}

/*
 * Refuses what json-c takes and JSON has not: NaN, Infinity, "-01", "1.", control characters in
 * strings, text that is not UTF-8. It would go out again as it came in, to clients and to QEMU.
 */
static int
check_strict(const char *text, size_t len, int depth, struct cij_error *err)
{
	const char *end = text + len, *p = text, *why = NULL;
	bool quoted = false;
	int level = 0;

	while (p < end && !why) {
		unsigned char c = *p;
		size_t n = c < 0x80 ? 1 : cij_utf8_len(p, end - p);

		if (n == 0)
			return cij_error_set(err, CIJ_E_BAD_REQUEST,
				"bad JSON: not UTF-8 at byte %zu", p - text + 1);
		if (quoted && c < 0x20) {
			why = "control character in a string";
		} else if (quoted) {
			quoted = c != '"';
			/* Never over a byte that has to be looked at. */
			p += c == '\\' && p + 1 < end && strchr("\\\"", p[1]) ? 2 : n;
		} else if (c == '-' || isdigit(c)) {
			const char *behind = skip_number(p, end);

			if (!behind || (behind < end && isalnum((unsigned char)*behind)))
				why = "number expected";
			else
				p = behind;
		} else if (n > 1 || c == 'N' || c == 'I') {
			why = "unexpected character";
		} else {
			if ((c == '{' || c == '[') && ++level > depth)
				return cij_error_set(err, CIJ_E_BAD_REQUEST,
					"JSON nested deeper than %d levels", depth);
			level -= c == '}' || c == ']';
			quoted = c == '"';
			p++;
		}
	}
	if (why)
		cij_error_set(
			err, CIJ_E_BAD_REQUEST, "bad JSON at byte %zu: %s", p - text + 1, why);
	return why ? -1 : 0;
}

struct json_object *
cij_json_parse(const char *text, size_t len, int depth, struct cij_error *err)
{
	_cleanup_(cleanup_tokener)
	struct json_tokener *tok = NULL;
	_cleanup_json_ struct json_object *obj = NULL;
	enum json_tokener_error fault;
	size_t end;

	if (err)
		err->class = CIJ_E_NONE;
	if (memchr(text, '\0', len)) {
		cij_error_set(err, CIJ_E_BAD_REQUEST, "JSON with a NUL byte in it");
		return NULL;
	}
	while (len > 0 && isspace((unsigned char)text[len - 1]))
		len--;
	if (len == 0) {
		cij_error_set(err, CIJ_E_BAD_REQUEST, "no JSON: the text is empty");
		return NULL;
	}
	if (check_strict(text, len, depth, err) < 0)
		return NULL;
	/* json-c counts the value itself as a level, and one more for the members of an object. */
	tok = json_tokener_new_ex(depth + 1);
	if (!tok)
		abort();
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
	obj = json_tokener_parse_ex(tok, text, (int)len);
	fault = json_tokener_get_error(tok);
	/* A bare number or word needs a byte behind it. */
	if (fault == json_tokener_continue && isalnum((unsigned char)text[len - 1]))
		obj = json_tokener_parse_ex(tok, " ", 1), fault = json_tokener_get_error(tok);
	end = json_tokener_get_parse_end(tok);
	switch (fault) {
	case json_tokener_success:
		return steal_ptr(obj);
	case json_tokener_continue:
		cij_error_set(err, CIJ_E_BAD_REQUEST, "bad JSON: it ends too early");
		return NULL;
	default:
		cij_error_set(err, CIJ_E_BAD_REQUEST, "bad JSON at byte %zu: %s", end + 1,
			json_tokener_error_desc(fault));
		return NULL;
	}
}

struct json_object *
cij_json_get(struct json_object *obj, const char *name)
{
	struct json_object *value;

	if (!json_object_is_type(obj, json_type_object) ||
		!json_object_object_get_ex(obj, name, &value))
		return NULL;
	return value;
}

size_t
cij_json_length(struct json_object *array)
{
	return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

const char *
cij_json_str(struct json_object *obj, const char *name)
{
	struct json_object *value = cij_json_get(obj, name);

	return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
}

int64_t
cij_json_int(struct json_object *obj, const char *name, int64_t fallback)
{
	struct json_object *value = cij_json_get(obj, name);

	return json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : fallback;
}

bool
cij_json_bool(struct json_object *obj, const char *name, bool fallback)
{
	struct json_object *value = cij_json_get(obj, name);

	return json_object_is_type(value, json_type_boolean) ? json_object_get_boolean(value)
							     : fallback;
}

void
cij_json_add_str_(struct json_object *obj, const char *name, const char *value, unsigned flags)
{
	json_object_object_add_ex(obj, name, value ? json_object_new_string(value) : NULL, flags);
}

void
cij_json_add_int_(struct json_object *obj, const char *name, int64_t value, unsigned flags)
{
	json_object_object_add_ex(obj, name, json_object_new_int64(value), flags);
}

void
cij_json_add_bool_(struct json_object *obj, const char *name, bool value, unsigned flags)
{
	json_object_object_add_ex(obj, name, json_object_new_boolean(value), flags);
}

static const char *
skip_space(const char *p, const char *end)
{
	while (p < end && isspace((unsigned char)*p))
		p++;
	return p;
}

/* The byte behind the string that starts at @p. */
static const char *
skip_string(const char *p, const char *end)
{
	for (p++; p < end && *p != '"'; p++)
		if (*p == '\\')
			p++;
	return p < end ? p + 1 : end;
}

/* The byte behind the value that starts at @p. */
static const char *
skip_value(const char *p, const char *end)
{
	int depth = 0;

	while (p < end) {
		if (*p == '"') {
			p = skip_string(p, end);
		} else if (*p == '{' || *p == '[') {
			depth++, p++;
		} else if (*p == '}' || *p == ']') {
			if (depth == 0)
				return p;
			depth--, p++;
		} else if (depth == 0 && (*p == ',' || isspace((unsigned char)*p))) {
			return p;
		} else {
			p++;
			continue;
		}
		if (depth == 0)
			return p;
	}
	return end;
}

/* Whether the string of @len bytes at @key, without its quotes, says @name. */
static bool
key_is(const char *key, size_t len, const char *name)
{
	_cleanup_json_ struct json_object *value = NULL;

	if (!memchr(key, '\\', len))
		return len == strlen(name) && memcmp(key, name, len) == 0;
	value = cij_json_parse(key - 1, len + 2, 1, NULL);
	return value && (size_t)json_object_get_string_len(value) == strlen(name) &&
	       strcmp(json_object_get_string(value), name) == 0;
}

bool
cij_json_raw_member(const char *text, size_t len, const char *name, const char **at, size_t *n)
{
	const char *end = text + len, *p = skip_space(text, end), *key, *value;
	bool found = false;

	if (p == end || *p != '{')
		return false;
	p = skip_space(p + 1, end);
	while (p < end && *p == '"') {
		key = p + 1;
		p = skip_string(p, end);
		bool ours = key_is(key, p - 1 - key, name);
		p = skip_space(p, end);
		if (p == end || *p != ':')
			return false;
		value = skip_space(p + 1, end);
		p = skip_value(value, end);
		if (ours) { /* the last one counts, as in json-c */
			*at = value;
			*n = p - value;
			found = true;
		}
		p = skip_space(p, end);
		if (p < end && *p == ',')
			p = skip_space(p + 1, end);
	}
	return found;
}

struct json_object *
cij_json_raw(const char *text, size_t len)
{
	struct json_object *obj = json_object_new_object();
	char *copy = strndup(text, len);

	if (!obj || !copy)
		abort();
	json_object_set_serializer(
		obj, json_object_userdata_to_json_string, copy, json_object_free_userdata);
	return obj;
}

const char *
cij_json_type_word(struct json_object *value)
{
	switch (json_object_get_type(value)) {
	case json_type_null:
		return "null";
	case json_type_boolean:
		return "a boolean";
	case json_type_double:
		return "a fraction";
	case json_type_int:
		return "a whole number";
	case json_type_object:
		return "an object";
	case json_type_array:
		return "an array";
	case json_type_string:
		return "a string";
	}
	return "something else";
}
