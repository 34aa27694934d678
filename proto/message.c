#include "proto/message.h"

#include <string.h>
#include <sys/time.h>

#include "cijqemu/protocol.h"

struct json_object *
cij_message_request(const char *op, struct json_object *args, int64_t id)
{
	struct json_object *msg = json_object_new_object();

	cij_json_add_str(msg, "execute", op);
	if (args)
		json_object_object_add(msg, "arguments", args);
	cij_json_add_int(msg, "id", id);
	return msg;
}

struct json_object *
cij_message_return(struct json_object *value, struct json_object *id)
{
	struct json_object *msg = json_object_new_object();

	json_object_object_add(msg, "return", value);
	if (id)
		json_object_object_add(msg, "id", id);
	return msg;
}

struct json_object *
cij_message_error(const struct cij_error *error, struct json_object *id)
{
	struct json_object *msg = json_object_new_object(), *body = json_object_new_object();

	cij_json_add_str(body, "class", cij_error_class_name(error->class));
	cij_json_add_str(body, "desc", error->desc);
	if (*error->hint)
		cij_json_add_str(body, "hint", error->hint);
	json_object_object_add(msg, "error", body);
	if (id)
		json_object_object_add(msg, "id", id);
	return msg;
}

struct json_object *
cij_message_event(const char *name, struct json_object *data, uint64_t seq)
{
	struct json_object *msg = json_object_new_object(), *stamp = json_object_new_object();
	struct timeval now;

	gettimeofday(&now, NULL);
	cij_json_add_int(stamp, "seconds", now.tv_sec);
	cij_json_add_int(stamp, "microseconds", now.tv_usec);
	cij_json_add_str(msg, "event", name);
	json_object_object_add(msg, "data", data);
	json_object_object_add(msg, "timestamp", stamp);
	cij_json_add_int(msg, "seq", (int64_t)seq);
	return msg;
}

struct json_object *
cij_message_greeting(void)
{
	struct json_object *msg = json_object_new_object(), *body = json_object_new_object();

	cij_json_add_str(body, "version", CIJ_VERSION);
	cij_json_add_int(body, "api", CIJ_API);
	json_object_object_add(msg, "cijqemud", body);
	return msg;
}

int
cij_message_to_error(struct json_object *reply, struct cij_error *err)
{
	struct json_object *body = cij_json_get(reply, "error");
	const char *class = cij_json_str(body, "class"), *desc = cij_json_str(body, "desc");
	const char *hint = cij_json_str(body, "hint");

	cij_error_set(err, cij_error_class_from_name(class), "%s",
		desc ? desc : "the daemon gave no reason");
	if (hint)
		cij_error_hint(err, "%s", hint);
	return -1;
}

const char *
cij_message_line(struct json_object *msg, size_t *len)
{
	return json_object_to_json_string_length(
		msg, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, len);
}
