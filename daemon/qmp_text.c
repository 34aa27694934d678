#include "daemon/qmp_text.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json.h"

bool
span_is(struct span span, const char *text)
{
	return strlen(text) == span.len && memcmp(span.at, text, span.len) == 0;
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Messages out of bytes */

static void
keep(struct qmp_scan *scan, char c)
{
	if (scan->len == scan->size) {
		scan->size = scan->size ? scan->size * 2 : 256;
		scan->text = realloc(scan->text, scan->size);
		if (!scan->text)
			abort();
	}
	scan->text[scan->len++] = c;
}

void
qmp_scan_clear(struct qmp_scan *scan)
{
	free(scan->text);
	*scan = (struct qmp_scan){0};
}

void
qmp_scan_next(struct qmp_scan *scan)
{
	scan->len = 0;
	scan->depth = 0;
	scan->quote = 0;
	scan->escaped = scan->bare = false;
	if (scan->size > 16 * 1024) /* a long one is rare */
		qmp_scan_clear(scan);
}

/* A byte inside a string. Returns false for one that no string may hold. */
static bool
take_string_byte(struct qmp_scan *scan, char c)
{
	if ((unsigned char)c < 0x20 || (unsigned char)c >= 0xf8)
		return false;
	if (scan->escaped) {
		scan->escaped = false;
		if (c == '\'') { /* JSON knows no such escape, QEMU does */
			scan->text[scan->len - 1] = c;
			return true;
		}
	} else if (c == '\\') {
		scan->escaped = true;
	} else if (c == scan->quote) {
		scan->quote = 0;
		c = '"';
	} else if (c == '"') {
		keep(scan, '\\');
	}
	keep(scan, c);
	return true;
}

/* A byte outside of strings. Returns false for one that no JSON may hold. */
static bool
take_byte(struct qmp_scan *scan, char c)
{
	if (((unsigned char)c < 0x20 && !is_space(c)) || (unsigned char)c >= 0x7f)
		return false;
	if (is_space(c)) {
		c = ' ';
	} else if (c == '"' || c == '\'') {
		scan->quote = c;
		c = '"';
	} else if (c == '{' || c == '[') {
		scan->depth++;
	} else if (c == '}' || c == ']') {
		if (--scan->depth < 0)
			return false;
	} else if (scan->depth == 0) {
		scan->bare = true;
	}
	keep(scan, c);
	return true;
}

enum qmp_found
qmp_scan_feed(struct qmp_scan *scan, const char *data, size_t len, size_t *used)
{
	for (size_t i = 0; i < len; i++) {
		char c = data[i];
		bool was_string = scan->quote;

		*used = i + 1;
		if (scan->skipping) {
			scan->skipping = c != '\n';
			continue;
		}
		if (scan->len == 0 && is_space(c))
			continue;
		if (scan->bare && (is_space(c) || c == '{' || c == '[')) {
			/* A bare word ends here; what ends it belongs to the next. */
			*used = i + (is_space(c) ? 1 : 0);
			return QMP_MESSAGE;
		}
		if (!(was_string ? take_string_byte(scan, c) : take_byte(scan, c))) {
			qmp_scan_next(scan);
			scan->skipping = c != '\n' && (unsigned char)c < 0x80;
			return QMP_BROKEN;
		}
		if (scan->len > QMP_REQUEST_MAX) {
			qmp_scan_next(scan);
			scan->skipping = true;
			return QMP_TOO_LONG;
		}
		if (scan->depth == 0 && !scan->quote && !scan->bare)
			return QMP_MESSAGE;
	}
	*used = len;
	return QMP_MORE;
}

/* Requests: strict JSON, so that QEMU's parser sees what we saw */

struct reader {
	const char *at, *end;
};

static void
skip_space(struct reader *r)
{
	while (r->at < r->end && is_space(*r->at))
		r->at++;
}

static bool
skip_char(struct reader *r, char c)
{
	if (r->at == r->end || *r->at != c)
		return false;
	r->at++;
	return true;
}

/* Four hexadecimal digits; -1 for others. */
static int
read_hex(struct reader *r)
{
	int value = 0;

	if (r->end - r->at < 4)
		return -1;
	for (int i = 0; i < 4; i++, r->at++) {
		char c = *r->at;

		if (c >= '0' && c <= '9')
			value = value * 16 + c - '0';
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			value = value * 16 + (c | 0x20) - 'a' + 10;
		else
			return -1;
	}
	return value;
}

static bool
skip_escape(struct reader *r)
{
	int code;
	char c;

	if (r->at == r->end)
		return false;
	c = *r->at++;
	if (c != 'u')
		return c && strchr("\"\\/bfnrt", c); /* strchr() finds a NUL in any text */
	code = read_hex(r);
	if (code >= 0xd800 && code < 0xdc00) { /* half of a pair */
		if (!skip_char(r, '\\') || !skip_char(r, 'u'))
			return false;
		code = read_hex(r);
		return code >= 0xdc00 && code < 0xe000;
	}
	return code >= 0 && !(code >= 0xdc00 && code < 0xe000);
}

/* One character of UTF-8 (RFC 3629) beyond ASCII, whose first byte has been read. */
static bool
skip_utf8(struct reader *r, unsigned char first)
{
	int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
	uint32_t code = first & (0x3f >> more);

	if (first < 0xc2 || first > 0xf4 || r->end - r->at < more)
		return false;
	for (int i = 0; i < more; i++, r->at++) {
		if ((*r->at & 0xc0) != 0x80)
			return false;
		code = code << 6 | (*r->at & 0x3f);
	}
	return !(more == 2 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) &&
	       !(more == 3 && (code < 0x10000 || code > 0x10ffff));
}

static bool
skip_string(struct reader *r)
{
	if (!skip_char(r, '"'))
		return false;
	while (r->at < r->end) {
		unsigned char c = *r->at++;

		if (c == '"')
			return true;
		if (c < 0x20 || (c == '\\' && !skip_escape(r)) || (c >= 0x80 && !skip_utf8(r, c)))
			return false;
	}
	return false;
}

static bool
skip_digits(struct reader *r)
{
	const char *from = r->at;

	while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
		r->at++;
	return r->at > from;
}

static bool
skip_number(struct reader *r)
{
	skip_char(r, '-');
	if (!skip_char(r, '0') && !skip_digits(r))
		return false;
	if (skip_char(r, '.') && !skip_digits(r))
		return false;
	if (skip_char(r, 'e') || skip_char(r, 'E')) {
		if (!skip_char(r, '+'))
			skip_char(r, '-');
		return skip_digits(r);
	}
	return true;
}

static bool
skip_word(struct reader *r)
{
	static const char *const words[] = {"true", "false", "null"};

	for (size_t i = 0; i < cij_array_size(words); i++) {
		size_t n = strlen(words[i]);

		if ((size_t)(r->end - r->at) >= n && memcmp(r->at, words[i], n) == 0) {
			r->at += n;
			return true;
		}
	}
	return false;
}

static bool
skip_scalar(struct reader *r)
{
	if (r->at == r->end)
		return false;
	if (*r->at == '"')
		return skip_string(r);
	return *r->at == '-' || (*r->at >= '0' && *r->at <= '9') ? skip_number(r) : skip_word(r);
}

/* A member's name and its colon. */
static bool
skip_name(struct reader *r)
{
	skip_space(r);
	if (!skip_string(r))
		return false;
	skip_space(r);
	return skip_char(r, ':');
}

/* One value of any kind, without recursion. */
static bool
skip_value(struct reader *r)
{
	char closes[QMP_REQUEST_DEPTH_MAX];
	int depth = 0;

	for (;;) {
		skip_space(r);
		if (r->at < r->end && (*r->at == '{' || *r->at == '[')) {
			if (depth == QMP_REQUEST_DEPTH_MAX)
				return false;
			closes[depth++] = *r->at++ == '{' ? '}' : ']';
			skip_space(r);
			if (!skip_char(r, closes[depth - 1])) { /* not empty */
				if (closes[depth - 1] == '}' && !skip_name(r))
					return false;
				continue;
			}
			depth--;
		} else if (!skip_scalar(r)) {
			return false;
		}
		/* A value has ended: so may those that it stood in. */
		while (depth > 0) {
			skip_space(r);
			if (!skip_char(r, closes[depth - 1]))
				break;
			depth--;
		}
		if (depth == 0)
			return true;
		if (!skip_char(r, ',') || (closes[depth - 1] == '}' && !skip_name(r)))
			return false;
	}
}

bool
qmp_text_is_json(const char *text, size_t len)
{
	struct reader r = {text, text + len};

	return skip_value(&r) && (skip_space(&r), r.at == r.end);
}

static struct span *
member_named(struct qmp_request *request, struct span *name, struct span key)
{
	if (span_is(key, "arguments"))
		return &request->arguments;
	if (span_is(key, "id"))
		return &request->id;
	request->oob = request->oob || span_is(key, "exec-oob");
	return span_is(key, "execute") || span_is(key, "exec-oob") ? name : NULL;
}

/* The command's name: what could be one needs no escapes. */
static bool
is_plain(struct span name)
{
	for (size_t i = 0; i < name.len; i++)
		if ((unsigned char)name.at[i] <= ' ' || (unsigned char)name.at[i] >= 0x7f ||
			strchr("\"\\'", name.at[i]))
			return false;
	return name.len > 0;
}

static int
wrong(char *why, size_t size, const char *text)
{
	snprintf(why, size, "%s", text);
	return -1;
}

static int
check_members(struct qmp_request *request, struct span name, char *why, size_t size)
{
	if (name.len == 0)
		return wrong(why, size, "QMP input lacks member 'execute'");
	if (*name.at != '"')
		return wrong(why, size, "QMP input member 'execute' must be a string");
	if (request->arguments.len > 0 && *request->arguments.at != '{')
		return wrong(why, size, "QMP input member 'arguments' must be an object");
	request->name = (struct span){name.at + 1, name.len - 2};
	if (!is_plain(request->name))
		return wrong(why, size, "a command with such a name has not been found");
	return 0;
}

int
qmp_request_parse(struct qmp_request *request, const char *text, size_t len, char *why, size_t size)
{
	struct reader r = {text, text + len};
	struct span name = {0}, strange = {0};

	*request = (struct qmp_request){0};
	if (!qmp_text_is_json(text, len))
		return wrong(why, size, "JSON parse error");
	skip_space(&r);
	if (!skip_char(&r, '{'))
		return wrong(why, size, "QMP input must be a JSON object");
	skip_space(&r);
	while (!skip_char(&r, '}')) {
		struct span key, *value;
		const char *from;

		skip_space(&r);
		from = r.at + 1;
		skip_name(&r);
		key = (struct span){
			from, (size_t)((const char *)memchr(from, '"', r.at - from) - from)};
		value = member_named(request, &name, key);
		skip_space(&r);
		from = r.at;
		skip_value(&r);
		if (value && value->len > 0)
			return wrong(why, size, "JSON parse error, duplicate key");
		if (value)
			*value = (struct span){from, (size_t)(r.at - from)};
		else if (!strange.at)
			strange = key;
		skip_space(&r);
		skip_char(&r, ',');
		skip_space(&r);
	}
	if (strange.at) {
		snprintf(why, size, "QMP input member '%.*s' is unexpected",
			(int)(strange.len < 64 ? strange.len : 64), strange.at);
		return -1;
	}
	return check_members(request, name, why, size);
}

/* QEMU's lines */

/* The id where QEMU puts it in a reply: last, or in an error first. */
static bool
find_id_fast(struct qmp_reply *reply)
{
	static const char first[] = "{\"id\": ", last[] = ", \"id\": ";
	const char *text = reply->text, *end = text + reply->len - 1, *p = end;

	while (p > text && p[-1] >= '0' && p[-1] <= '9')
		p--;
	if (p < end && (size_t)(p - text) >= sizeof(last) - 1 &&
		memcmp(p - (sizeof(last) - 1), last, sizeof(last) - 1) == 0) {
		reply->id = (struct span){p, (size_t)(end - p)};
		reply->member = (struct span){p - (sizeof(last) - 1), end - p + sizeof(last) - 1};
		return true;
	}
	if (reply->len < sizeof(first) || memcmp(text, first, sizeof(first) - 1) != 0)
		return false;
	for (p = text + sizeof(first) - 1; p < end && *p >= '0' && *p <= '9'; p++)
		continue;
	if (p == text + sizeof(first) - 1 || end - p < 2 || p[0] != ',' || p[1] != ' ')
		return false;
	reply->id = (struct span){text + sizeof(first) - 1, p - text - (sizeof(first) - 1)};
	reply->member = (struct span){text + 1, p + 2 - (text + 1)};
	return true;
}

static bool
begins(const struct qmp_reply *reply, const char *with)
{
	return reply->len >= strlen(with) && memcmp(reply->text, with, strlen(with)) == 0;
}

/* The member with one comma, so that the rest is an object still. */
static void
find_id(struct qmp_reply *reply)
{
	const char *text = reply->text, *end = text + reply->len, *from, *to;

	if (find_id_fast(reply))
		return;
	/* Nothing follows the "return" that stands first, and no id of ours can be it. */
	if (begins(reply, "{\"return\":") && strchr("}]\"", end[-2]))
		return;
	if (!cij_json_raw_member(text, reply->len, "id", &reply->id.at, &reply->id.len))
		return;
	from = reply->id.at;
	while (from > text && *from != ':')
		from--;
	while (from > text && *from != '"')
		from--;
	from -= from > text;
	while (from > text && *from != '"')
		from--;
	for (to = reply->id.at + reply->id.len; to < end && is_space(*to); to++)
		continue;
	if (to < end && *to == ',') {
		for (to++; to < end && is_space(*to); to++)
			continue;
	} else {
		while (from > text && *from != ',')
			from--;
	}
	reply->member = (struct span){from, (size_t)(to - from)};
}

static bool
has_member(const struct qmp_reply *reply, const char *name)
{
	const char *at;
	size_t n;

	return cij_json_raw_member(reply->text, reply->len, name, &at, &n);
}

void
qmp_reply_parse(struct qmp_reply *reply, const char *text, size_t len)
{
	*reply = (struct qmp_reply){.kind = QMP_LINE_OTHER, .text = text, .len = len};
	if (len < 2 || *text != '{' || text[len - 1] != '}')
		return;
	if (begins(reply, "{\"return\":"))
		reply->kind = QMP_LINE_RETURN;
	else if (begins(reply, "{\"timestamp\":") || has_member(reply, "event"))
		reply->kind = QMP_LINE_EVENT;
	else if (has_member(reply, "error"))
		reply->kind = QMP_LINE_ERROR;
	else if (has_member(reply, "return"))
		reply->kind = QMP_LINE_RETURN;
	if (reply->kind == QMP_LINE_RETURN || reply->kind == QMP_LINE_ERROR)
		find_id(reply);
}

long
qmp_reply_number(const struct qmp_reply *reply)
{
	long value = 0;

	if (reply->id.len == 0 || reply->id.len > 9)
		return -1;
	for (size_t i = 0; i < reply->id.len; i++) {
		if (reply->id.at[i] < '0' || reply->id.at[i] > '9')
			return -1;
		value = value * 10 + reply->id.at[i] - '0';
	}
	return value;
}
