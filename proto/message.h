/* The messages on the control socket, built and taken apart. */
#ifndef PROTO_MESSAGE_H
#define PROTO_MESSAGE_H

#include "proto/json.h"

/* {"execute": @op, "arguments": @args (owned by the result from here on; may be NULL), "id": @id}
 */
struct json_object *cij_message_request(const char *op, struct json_object *args, int64_t id);

/* {"return": @value, "id": …}; @value and @id are taken over; @id may be NULL = no id was given. */
struct json_object *cij_message_return(struct json_object *value, struct json_object *id);

/* {"error": {"class", "desc", "hint"}, "id": …}; @id as above. */
struct json_object *cij_message_error(const struct cij_error *error, struct json_object *id);

/* {"event": @name, "data": @data (taken over), "timestamp": now, "seq": @seq} */
struct json_object *cij_message_event(const char *name, struct json_object *data, uint64_t seq);

/* {"cijqemud": {"version", "api"}} */
struct json_object *cij_message_greeting(void);

/* Fills @err from the "error" member of a reply. Always returns -1. */
int cij_message_to_error(struct json_object *reply, struct cij_error *err);

/* The text of @msg on one line, without the newline that ends it; weak: owned by @msg. */
const char *cij_message_line(struct json_object *msg, size_t *len);

#endif
