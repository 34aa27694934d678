/* QMP clients of a shared monitor: messages in, answers with the ids that they gave, events. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/monitor_impl.h"
#include "daemon/strv.h"
#include "proto/json.h"

/* QEMU's classes: programs look at these two. */
static const char generic[] = "GenericError", not_found[] = "CommandNotFound";

/*
 * What QEMU's greeting offers beyond its version is not offered here. Out-of-band commands are
 * QEMU's for its whole connection: one client's would change the order of all others' answers.
 */
static const char no_capabilities[] = ", \"capabilities\": []}}";

static void
greet_qmp(struct client *client)
{
	size_t len;
	const char *line = qmp_greeting(client->monitor->qmp, &len);
	const char *end = memmem(line, len, ", \"capabilities\": [", 19);

	/* Its version stays as QEMU wrote it. */
	if (end) {
		client_write(client, line, end - line);
		client_write(client, no_capabilities, sizeof(no_capabilities) - 1);
	} else {
		client_write(client, line, len);
	}
	client_write(client, "\r\n", 2);
}

/* {"id": …, "error": {"class": …, "desc": …}}, as QEMU lays it out. */
static char *
error_text(struct span id, const char *class, const char *desc)
{
	_cleanup_json_ struct json_object *text = json_object_new_string(desc);

	return str_printf("{%s%.*s%s\"error\": {\"class\": \"%s\", \"desc\": %s}}\r\n",
		id.len ? "\"id\": " : "", (int)id.len, id.at, id.len ? ", " : "", class,
		json_object_to_json_string_ext(
			text, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

static void
refuse(struct client *client, struct span id, const char *class, const char *desc)
{
	_cleanup_free_ char *text = error_text(id, class, desc);

	client_answer(client, text, strlen(text));
}

/* "desc; hint": QMP has one text. */
static void
refuse_for(struct client *client, struct span id, const struct cij_error *err)
{
	_cleanup_free_ char *text = str_printf(
		"%s%s%s", err->desc, *err->hint ? "; " : "", err->hint);

	refuse(client, id, generic, text);
}

static void
negotiate(struct client *client, const struct qmp_request *request)
{
	_cleanup_json_ struct json_object *arguments =
		request->arguments.len
			? cij_json_parse(request->arguments.at, request->arguments.len,
				  QMP_REQUEST_DEPTH_MAX, NULL)
			: NULL;
	struct json_object *enable = cij_json_get(arguments, "enable");
	_cleanup_free_ char *text = NULL;

	if (client->negotiated) {
		refuse(client, request->id, not_found,
			"Capabilities negotiation is already complete, command ignored");
	} else if (json_object_is_type(enable, json_type_array) &&
		   json_object_array_length(enable) > 0) {
		refuse(client, request->id, generic,
			"this monitor is shared and offers no capabilities: 'enable' must be "
			"empty");
	} else {
		client->negotiated = true;
		text = str_printf("{\"return\": {}%s%.*s}\r\n", request->id.len ? ", \"id\": " : "",
			(int)request->id.len, request->id.at);
		client_answer(client, text, strlen(text));
	}
}

static void
take_request(struct client *client, const char *text, size_t len)
{
	struct qmp_request request;
	struct pending *pending;
	struct cij_error err, lease;
	char why[160];

	if (qmp_request_parse(&request, text, len, why, sizeof(why)) < 0) {
		refuse(client, request.id, generic, why);
	} else if (request.oob) {
		refuse(client, request.id, generic, "QMP input member 'exec-oob' is unexpected");
	} else if (span_is(request.name, "qmp_capabilities")) {
		negotiate(client, &request);
	} else if (!client->negotiated) {
		refuse(client, request.id, not_found,
			"Expecting capabilities negotiation with 'qmp_capabilities'");
	} else if (qmp_policy_check(client_rights(client, &lease), request.name, request.arguments,
			   &err) < 0) {
		if (lease.class != CIJ_E_NONE)
			err = lease;
		_cleanup_free_ char *what = qmp_policy_describe(request.name, request.arguments);

		client_deed(client, what ? what : "qmp", &err, 0);
		refuse_for(client, request.id, &err);
	} else {
		pending = client_pending(client, request.id.at, request.id.len);
		pending->what = qmp_policy_describe(request.name, request.arguments);
		client_send(pending, request.name, request.arguments, request.id.len > 0);
	}
}

static size_t
take_qmp(struct client *client, const char *data, size_t len, bool last)
{
	static const struct span no_id;
	size_t used = 0;
	enum qmp_found found = qmp_scan_feed(&client->scan, data, len, &used);

	if (found == QMP_MESSAGE && used == 0) { /* a bare word, ended by what begins here */
		take_request(client, client->scan.text, client->scan.len);
		qmp_scan_next(&client->scan);
		found = qmp_scan_feed(&client->scan, data, len, &used);
	}
	switch (found) {
	case QMP_MORE:
		break;
	case QMP_MESSAGE:
		take_request(client, client->scan.text, client->scan.len);
		qmp_scan_next(&client->scan);
		break;
	case QMP_BROKEN:
		refuse(client, no_id, generic, "JSON parse error");
		break;
	case QMP_TOO_LONG:
		refuse(client, no_id, generic, "JSON parse error: a command of over 256 KiB");
		break;
	}
	return used;
}

/* The answer with the client's id in the place of ours. */
static void
write_with_id(struct client *client, struct span id, const struct qmp_reply *reply)
{
	const char *end = reply->text + reply->len, *behind = reply->id.at + reply->id.len;

	if (reply->id.len > 0) {
		client_write(client, reply->text, reply->id.at - reply->text);
		client_write(client, id.at, id.len);
		client_write(client, behind, end - behind);
	} else if (reply->kind == QMP_LINE_ERROR) {
		client_write(client, "{\"id\": ", 7);
		client_write(client, id.at, id.len);
		client_write(client, ", ", 2);
		client_write(client, reply->text + 1, reply->len - 1);
	} else {
		client_write(client, reply->text, reply->len - 1);
		client_write(client, ", \"id\": ", 8);
		client_write(client, id.at, id.len);
		client_write(client, "}", 1);
	}
}

static void
answer_qmp(struct client *client, const struct pending *pending, const struct qmp_reply *reply,
	const struct cij_error *err)
{
	struct span id = {pending->text, pending->len};

	if (err) {
		_cleanup_free_ char *text = error_text(id, generic, err->desc);

		client_write(client, text, strlen(text));
		return;
	}
	if (id.len > 0) {
		write_with_id(client, id, reply);
	} else if (reply->id.len > 0) {
		const char *behind = reply->member.at + reply->member.len;

		client_write(client, reply->text, reply->member.at - reply->text);
		client_write(client, behind, reply->text + reply->len - behind);
	} else {
		client_write(client, reply->text, reply->len);
	}
	client_write(client, "\r\n", 2);
}

const struct client_kind client_qmp = {
	.pending_max = MONITOR_PENDING_MAX,
	.greet = greet_qmp,
	.take = take_qmp,
	.answer = answer_qmp,
	.events = true,
};

/* Has no greeting: a client that looks for one shows what came in its place. */
void
monitor_turn_away(enum monitor_kind kind, int fd, const struct cij_error *why)
{
	static const struct span no_id;
	_cleanup_free_ char *text = kind == MONITOR_QMP ? error_text(no_id, generic, why->desc)
							: str_printf("Error: %s\r\n", why->desc);

	send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}
