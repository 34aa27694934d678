/*
 * A QMP client's bytes, in pieces: messages are cut out the same however they come, what passes for
 * JSON with us does so with json-c, and what is passed on to QEMU is one line of JSON that gives
 * the command that was checked.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/qmp_policy.h"
#include "proto/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What came out of one way of feeding. */
struct found {
	char *text;
	size_t len;
};

static void
keep(struct found *found, char kind, const char *text, size_t len)
{
	found->text = realloc(found->text, found->len + len + 2);
	if (!found->text)
		abort();
	found->text[found->len++] = kind;
	if (len)
		memcpy(found->text + found->len, text, len);
	found->len += len;
	found->text[found->len++] = '\n';
}

static void
check_request(const char *text, size_t len)
{
	static const struct qmp_rights rights = {.access = ACCESS_OWN};
	_cleanup_json_ struct json_object *seen = NULL;
	struct qmp_request request;
	struct cij_error err;
	const char *name;
	char why[160];

	if (memchr(text, '\n', len) || memchr(text, '\r', len))
		abort();
	if (qmp_request_parse(&request, text, len, why, sizeof(why)) < 0)
		return;
	seen = cij_json_parse(text, len, QMP_REQUEST_DEPTH_MAX + 1, NULL);
	name = cij_json_str(seen, request.oob ? "exec-oob" : "execute");
	if (!name || !span_is(request.name, name))
		abort();
	if (request.arguments.len > 0 &&
		!qmp_text_is_json(request.arguments.at, request.arguments.len))
		abort();
	if (request.id.len > 0 && !qmp_text_is_json(request.id.at, request.id.len))
		abort();
	qmp_policy_check(&rights, request.name, request.arguments, &err);
	free(qmp_policy_describe(request.name, request.arguments));
}

static void
check_json(const char *text, size_t len)
{
	_cleanup_json_ struct json_object *seen = NULL;
	struct cij_error err;

	if (!qmp_text_is_json(text, len))
		return;
	seen = cij_json_parse(text, len, QMP_REQUEST_DEPTH_MAX + 1, &err);
	if (!seen && err.class != CIJ_E_NONE) /* null is NULL */
		abort();
}

static struct found
feed(const char *data, size_t size, size_t step)
{
	struct qmp_scan scan = {0};
	struct found found = {0};

	for (size_t at = 0; at < size;) {
		size_t n = size - at < step ? size - at : step, used = 0;

		switch (qmp_scan_feed(&scan, data + at, n, &used)) {
		case QMP_MORE:
			break;
		case QMP_MESSAGE:
			keep(&found, 'm', scan.text, scan.len);
			check_request(scan.text, scan.len);
			check_json(scan.text, scan.len);
			qmp_scan_next(&scan);
			break;
		case QMP_BROKEN:
			keep(&found, 'b', NULL, 0);
			break;
		case QMP_TOO_LONG:
			keep(&found, 'l', NULL, 0);
			break;
		}
		if (used > n)
			abort();
		at += used; /* 0 behind a bare word: what ended it is looked at again */
	}
	qmp_scan_clear(&scan);
	return found;
}

/* QEMU's answer: its id is cut out for the client's own, and JSON it is still. */
static void
check_id(const struct qmp_reply *reply)
{
	const char *text = reply->text, *end = text + reply->len;
	size_t before = (size_t)(reply->member.at - text);
	_cleanup_free_ char *rest = malloc(reply->len);

	if (reply->id.at < text || reply->id.at + reply->id.len > end || reply->member.at < text ||
		reply->member.at + reply->member.len > end || reply->id.at < reply->member.at ||
		reply->id.at + reply->id.len > reply->member.at + reply->member.len)
		abort();
	if (!qmp_text_is_json(reply->id.at, reply->id.len))
		abort();
	memcpy(rest, text, before);
	memcpy(rest + before, reply->member.at + reply->member.len,
		reply->len - before - reply->member.len);
	if (!qmp_text_is_json(rest, reply->len - reply->member.len))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct found whole, bytes, pieces;
	struct qmp_reply reply;

	if (size == 0)
		return 0;
	whole = feed(text, size, size);
	bytes = feed(text, size, 1);
	pieces = feed(text, size, 1 + data[0] % 17);
	if (whole.len != bytes.len || whole.len != pieces.len ||
		(whole.len && (memcmp(whole.text, bytes.text, whole.len) != 0 ||
				      memcmp(whole.text, pieces.text, whole.len) != 0)))
		abort();
	free(whole.text);
	free(bytes.text);
	free(pieces.text);
	check_json(text, size);
	if (!qmp_text_is_json(text, size))
		return 0;
	qmp_reply_parse(&reply, text, size);
	if (reply.id.len > 0)
		check_id(&reply);
	return 0;
}
