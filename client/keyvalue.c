#include "client/keyvalue.h"

#include <stdio.h>
#include <string.h>

#include "cijqemu/protocol.h"
#include "proto/text.h"

struct json_object *
value_of(const char *text, size_t len)
{
	struct cij_error err = CIJ_ERROR_INIT;
	struct json_object *value = cij_json_parse(text, len, CIJ_REQUEST_DEPTH_MAX, &err);

	if (value || err.class == CIJ_E_NONE) /* JSON's null is NULL */
		return value;
	return json_object_new_string_len(text, (int)len);
}

int
keyvalue_add(
	const struct call *call, struct json_object *obj, const char *text, struct cij_error *err)
{
	const char *equals = strchr(text, '=');
	char clean[256];

	if (!equals || equals == text)
		return call_usage(call, err, "'%s' is not KEY=VALUE",
			cij_text_clean(text, clean, sizeof(clean)));
	_cleanup_free_ char *key = strndup(text, equals - text);
	if (!key)
		abort();
	if (strcmp(key, "guest") == 0) /* it names whom the request is about */
		return call_usage(call, err, "'guest' is no key of guest.json");
	/* A key given twice holds its last value, at its last place. */
	json_object_object_del(obj, key);
	json_object_object_add(obj, key, value_of(equals + 1, strlen(equals + 1)));
	return 0;
}

/* The comma that ends the word at @p: those within JSON's brackets and strings do not count. */
static const char *
word_end(const char *p)
{
	int depth = 0;
	bool quoted = false;

	for (; *p; p++) {
		if (quoted) {
			if (*p == '\\' && p[1])
				p++;
			else if (*p == '"')
				quoted = false;
		} else if (*p == '"') {
			quoted = true;
		} else if (*p == '{' || *p == '[') {
			depth++;
		} else if (*p == '}' || *p == ']') {
			depth--;
		} else if (*p == ',' && depth <= 0) {
			break;
		}
	}
	return p;
}

int
device_of(const struct call *call, const char *text, struct json_object **device,
	struct cij_error *err)
{
	_cleanup_json_ struct json_object *obj = json_object_new_object();
	const char *end = word_end(text);

	if (end == text || memchr(text, '=', end - text))
		return call_usage(call, err,
			"a device is TYPE[,KEY=VALUE…], as in 'nvme,size=8G', not '%s'", text);
	json_object_object_add(obj, "id", NULL); /* the first member, for who reads guest.json */
	json_object_object_add(obj, "type", json_object_new_string_len(text, (int)(end - text)));
	while (*end) {
		const char *word = end + 1, *equals;

		end = word_end(word);
		equals = memchr(word, '=', end - word);
		if (!equals || equals == word)
			return call_usage(call, err, "device %.*s: '%.*s' is not KEY=VALUE",
				(int)strcspn(text, ","), text, (int)(end - word), word);
		_cleanup_free_ char *key = strndup(word, equals - word);
		if (!key)
			abort();
		json_object_object_add(obj, key, value_of(equals + 1, end - equals - 1));
	}
	*device = steal_ptr(obj);
	return 0;
}

int
members_of(const struct call *call, const char *text, struct json_object **members,
	struct cij_error *err)
{
	_cleanup_json_ struct json_object *obj = json_object_new_object();
	const char *word = text, *end, *equals;

	for (;; word = end + 1) {
		end = word_end(word);
		equals = memchr(word, '=', end - word);
		if (!equals || equals == word)
			return call_usage(call, err, "'%.*s' in '%s' is not KEY=VALUE",
				(int)(end - word), word, text);
		_cleanup_free_ char *key = strndup(word, equals - word);
		if (!key)
			abort();
		json_object_object_add(obj, key, value_of(equals + 1, end - equals - 1));
		if (!*end)
			break;
	}
	*members = steal_ptr(obj);
	return 0;
}

static bool
has_id(struct json_object *devices, const char *id)
{
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		const char *other = cij_json_str(json_object_array_get_idx(devices, i), "id");

		if (other && strcmp(other, id) == 0)
			return true;
	}
	return false;
}

int
devices_of(const struct call *call, struct json_object **devices, struct cij_error *err)
{
	_cleanup_json_ struct json_object *list = json_object_new_array();
	const char *text;
	size_t at = 0, n = 0;

	*devices = NULL;
	while ((text = call_each(call, "device", &at))) {
		struct json_object *device = NULL;

		if (device_of(call, text, &device, err) < 0)
			return -1;
		json_object_array_add(list, device);
	}
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *device = json_object_array_get_idx(list, i);
		char id[32];

		if (cij_json_get(device, "id"))
			continue;
		do
			snprintf(id, sizeof(id), "nvme%zu", n++);
		while (has_id(list, id));
		cij_json_add_str(device, "id", id);
	}
	if (json_object_array_length(list) > 0)
		*devices = steal_ptr(list);
	return 0;
}
