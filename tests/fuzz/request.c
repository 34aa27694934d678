/*
 * A line on the control socket: JSON, the raw text of its id, and the fields of a request, by a
 * table with every type. What is accepted must be JSON again when it is printed.
 */
#include <stdint.h>
#include <string.h>

#include "cijqemu/protocol.h"
#include "proto/field.h"

struct request {
	char *execute;
	struct json_object *arguments, *id;
};

static const struct cij_field request_fields[] = {
	{"execute", CIJ_T_STR, CIJ_F_REQUIRED, offsetof(struct request, execute)},
	{"arguments", CIJ_T_JSON, CIJ_F_OBJECT, offsetof(struct request, arguments)},
	{"id", CIJ_T_JSON, 0, offsetof(struct request, id)},
};
static const struct cij_table request_table = CIJ_TABLE(request_fields, struct request, NULL);

struct item {
	char *name;
	int64_t n;
};

static const struct cij_field item_fields[] = {
	{"name", CIJ_T_STR, CIJ_F_REQUIRED, offsetof(struct item, name)},
	{"n", CIJ_T_INT, 0, offsetof(struct item, n), .min = -5},
};
static const struct cij_table item_table = CIJ_TABLE(item_fields, struct item, NULL);

struct arguments {
	char *guest, *text;
	bool on;
	int64_t number, size;
	double seconds;
	int word;
	struct item one;
	struct cij_list items, texts;
	struct json_object *any, *rest;
};

static const char *const words[] = {"auto", "force", NULL};

#define AT(member_) offsetof(struct arguments, member_)
static const struct cij_field argument_fields[] = {
	{"guest", CIJ_T_STR, CIJ_F_REQUIRED | CIJ_F_NAME, AT(guest)},
	{"text", CIJ_T_STR, CIJ_F_NOT_EMPTY, AT(text)},
	{"on", CIJ_T_BOOL, 0, AT(on)},
	{"number", CIJ_T_INT, 0, AT(number), .min = -100, .max = 100},
	{"size", CIJ_T_SIZE, 0, AT(size), .min = 1},
	{"seconds", CIJ_T_SECONDS, 0, AT(seconds)},
	{"word", CIJ_T_ENUM, 0, AT(word), .names = words},
	{"one", CIJ_T_OBJECT, 0, AT(one), .table = &item_table},
	{"items", CIJ_T_LIST, 0, AT(items), .table = &item_table, .max = 8},
	{"texts", CIJ_T_STRS, 0, AT(texts), .max = 8},
	{"any", CIJ_T_JSON, 0, AT(any)},
	{"rest", CIJ_T_REST, 0, AT(rest)},
};
static const struct cij_table argument_table = CIJ_TABLE(argument_fields, struct arguments, NULL);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
decode(const struct cij_table *table, struct json_object *obj, void *out)
{
	_cleanup_problems_ struct cij_problems problems = {0};
	struct cij_error err;

	if (cij_table_decode(table, obj, out, "", &problems) < 0) {
		cij_problems_to_error(&problems, CIJ_E_BAD_REQUEST, &err);
		json_object_put(cij_problems_to_json(&problems));
	} else if (problems.n) {
		abort();
	}
}

/* Prints @obj and reads it again. */
static void
check_printed(struct json_object *obj)
{
	const char *text = json_object_to_json_string_ext(obj, JSON_C_TO_STRING_PLAIN);
	struct cij_error err = CIJ_ERROR_INIT;
	struct json_object *again = cij_json_parse(text, strlen(text), CIJ_REQUEST_DEPTH_MAX, &err);

	if (err.class != CIJ_E_NONE)
		abort();
	json_object_put(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *line = (const char *)data, *at;
	struct cij_error err = CIJ_ERROR_INIT;
	struct request request;
	struct arguments arguments;
	size_t n;
	_cleanup_json_ struct json_object *msg = cij_json_parse(
		line, size, CIJ_REQUEST_DEPTH_MAX, &err);

	if (!msg)
		return 0;
	check_printed(msg);
	/* The raw member is there exactly where json-c has one, and is JSON itself. */
	bool raw = json_object_is_type(msg, json_type_object) &&
		   cij_json_raw_member(line, size, "id", &at, &n);
	bool has = json_object_is_type(msg, json_type_object) &&
		   json_object_object_get_ex(msg, "id", NULL);
	if (raw != has)
		abort();
	if (raw) {
		_cleanup_json_ struct json_object *id = cij_json_parse(
			at, n, CIJ_REQUEST_DEPTH_MAX, &err);

		if (err.class != CIJ_E_NONE ||
			json_object_get_type(id) != json_object_get_type(cij_json_get(msg, "id")))
			abort();
	}
	decode(&request_table, msg, &request);
	if (request.arguments) {
		decode(&argument_table, request.arguments, &arguments);
		cij_table_clear(&argument_table, &arguments);
	}
	cij_table_clear(&request_table, &request);
	return 0;
}
