#include "daemon/request.h"

#include <stdlib.h>

#include "daemon/clock.h"
#include "daemon/conn.h"
#include "daemon/history.h"
#include "daemon/log.h"
#include "daemon/op.h"
#include "daemon/view.h"
#include "proto/message.h"

bool
request_raw_argument(const struct request *request, const char *name, const char **at, size_t *len)
{
	const char *arguments;
	size_t n;

	return cij_json_raw_member(request->line, request->line_len, "arguments", &arguments, &n) &&
	       cij_json_raw_member(arguments, n, name, at, len);
}

/* Who, what, result, how long: on record for each operation that changes something, or would have;
 * of all, a line with --verbose. */
static void
audit(const struct request *request, const struct cij_error *err)
{
	struct deed deed = {.by = &request->peer,
		.operation = request->what ? request->what : request->op->name,
		.guest = request->guest_name,
		.err = err,
		.seconds = clock_mono() - request->began};

	log_debug("uid %u, pid %d: %s%s%s: %s, %.3f s", (unsigned)deed.by->uid, (int)deed.by->pid,
		deed.operation, deed.guest ? " " : "", deed.guest ? deed.guest : "",
		err ? cij_error_class_name(err->class) : "done", deed.seconds);
	if (request->op->changes && !request->no_audit)
		history_add(registry_services(request->registry)->history, &deed);
}

static void
answer(struct request *request, struct json_object *msg)
{
	struct conn *conn = request->conn;

	if (conn) {
		conn_send(conn, msg);
		conn_remove_request(conn, request);
	}
	json_object_put(msg);
	if (request->args)
		cij_table_clear(request->op->table, request->args);
	free(request->args);
	free(request->guest_name);
	free(request->kept_line);
	free(request->what);
	free(request);
}

void
request_reply(struct request *request, struct json_object *value)
{
	audit(request, NULL);
	answer(request, cij_message_return(value, steal_ptr(request->id)));
}

void
request_fail(struct request *request, const struct cij_error *err)
{
	audit(request, err);
	answer(request, cij_message_error(err, steal_ptr(request->id)));
}

void
request_reply_guest(struct request *request, bool already)
{
	struct json_object *view = view_guest(request->guest);

	if (already)
		cij_json_add_bool(view, "already", true);
	request_reply(request, view);
}
