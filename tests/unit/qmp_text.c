/* daemon/qmp_text: messages out of bytes, requests and replies taken apart in place. */
#include "tests/unit/unit.h"

#include "daemon/qmp_text.h"

/* Feeds @text in pieces of @step bytes; what was found goes to @out, a message a line. */
static void
scan(const char *text, size_t len, size_t step, char *out, size_t size)
{
	struct qmp_scan s = {0};
	size_t n = 0;

	*out = '\0';
	for (size_t at = 0; at < len; at += step) {
		const char *p = text + at, *end = p + (len - at < step ? len - at : step);

		while (p < end) {
			size_t used = 0;
			enum qmp_found found = qmp_scan_feed(&s, p, end - p, &used);

			p += used;
			if (found == QMP_MESSAGE) {
				n += snprintf(out + n, size - n, "%.*s\n", (int)s.len, s.text);
				qmp_scan_next(&s);
			} else if (found != QMP_MORE) {
				n += snprintf(out + n, size - n, "%s\n",
					found == QMP_BROKEN ? "broken" : "long");
			}
		}
	}
	qmp_scan_clear(&s);
}

static void
check_scan(const char *text, const char *want)
{
	char out[4096];

	for (size_t step = 1; step <= strlen(text); step++) {
		scan(text, strlen(text), step, out, sizeof(out));
		assert_string_equal(out, want);
	}
}

static void
messages_are_values_not_lines(void **state)
{
	check_scan("{\"a\": 1}\n", "{\"a\": 1}\n");
	check_scan("{}{}[] {\n}\r\n", "{}\n{}\n[]\n{ }\n");
	check_scan("\n\n {\"a\":\r\n\t[1,\n2]}\n", "{\"a\":   [1, 2]}\n");
	check_scan("{\"}{\\\"]\": \"\\\\\"}{}", "{\"}{\\\"]\": \"\\\\\"}\n{}\n");
	check_scan("5\n\"x\" {}\n", "5\n\"x\"\n{}\n");
	check_scan("foo{}", "foo\n{}\n");
	check_scan("  \n", "");
}

static void
single_quotes_are_quotes(void **state)
{
	check_scan("{'a': 'it\\'s \"x\"'}", "{\"a\": \"it's \\\"x\\\"\"}\n");
	check_scan("{\"it's\": 1}", "{\"it's\": 1}\n");
	check_scan("{'a\\\\': 'b'}", "{\"a\\\\\": \"b\"}\n");
}

static void
what_is_broken_ends_with_its_line(void **state)
{
	check_scan("}\n{}\n", "broken\n{}\n");
	check_scan("{\"a\": \"x\n{}\n", "broken\n{}\n");
	check_scan("{\"a\": \001 {} {}\n{}\n", "broken\n{}\n");
	/* QEMU's way to start afresh */
	check_scan("{\"a\": \xff{}\n", "broken\n{}\n");
}

static void
what_is_too_long_is_thrown_away(void **state)
{
	size_t len = QMP_REQUEST_MAX + 1000;
	char *text = malloc(len), out[64];

	memset(text, 'x', len);
	text[0] = '"';
	memcpy(text + len - 4, "\"\n{}", 4);
	scan(text, len, len, out, sizeof(out));
	assert_string_equal(out, "long\n{}\n");
	scan(text, len, 1000, out, sizeof(out));
	assert_string_equal(out, "long\n{}\n");
	free(text);
}

static void
check_request(const char *text, const char *name, const char *arguments, const char *id)
{
	struct qmp_request r;
	char why[100];

	if (qmp_request_parse(&r, text, strlen(text), why, sizeof(why)) < 0)
		fail_msg("%s: %s", text, why);
	assert_true(span_is(r.name, name));
	assert_int_equal(r.arguments.len, strlen(arguments));
	assert_memory_equal(r.arguments.len ? r.arguments.at : "", arguments, r.arguments.len);
	assert_int_equal(r.id.len, strlen(id));
	assert_memory_equal(r.id.len ? r.id.at : "", id, r.id.len);
}

static void
requests_are_taken_apart(void **state)
{
	check_request("{\"execute\": \"stop\"}", "stop", "", "");
	check_request("{ \"id\" : 1.50e1 , \"execute\":\"x\"}", "x", "", "1.50e1");
	check_request("{\"arguments\":{\"id\": 7, \"execute\": "
		      "[{}]},\"execute\":\"x\",\"id\":{\"a\": \"}\"}}",
		"x", "{\"id\": 7, \"execute\": [{}]}", "{\"a\": \"}\"}");
	check_request("{\"execute\": \"x\", \"id\": \"\\\", \\\"id\\\": 2\"}", "x", "",
		"\"\\\", \\\"id\\\": 2\"");
	check_request("{\"execute\": \"x\", \"id\": null}", "x", "", "null");
	check_request("{\"execute\": \"x\", \"id\": \"\\ud83d\\ude00 \xf0\x9f\x98\x80\"}", "x", "",
		"\"\\ud83d\\ude00 \xf0\x9f\x98\x80\"");
}

static void
check_refused(const char *text, const char *why, const char *id)
{
	struct qmp_request r;
	char said[100];

	if (qmp_request_parse(&r, text, strlen(text), said, sizeof(said)) == 0)
		fail_msg("taken: %s", text);
	assert_string_equal(said, why);
	assert_int_equal(r.id.len, strlen(id));
	assert_memory_equal(r.id.len ? r.id.at : "", id, r.id.len);
}

static void
wrong_requests_are_told_as_qemu_does(void **state)
{
	check_refused("[]", "QMP input must be a JSON object", "");
	check_refused("{}", "QMP input lacks member 'execute'", "");
	check_refused("{\"id\": 3}", "QMP input lacks member 'execute'", "3");
	check_refused(
		"{\"execute\": 1, \"id\": 3}", "QMP input member 'execute' must be a string", "3");
	check_refused("{\"execute\": \"x\", \"arguments\": []}",
		"QMP input member 'arguments' must be an object", "");
	check_refused(
		"{\"execute\": \"x\", \"foo\": 1}", "QMP input member 'foo' is unexpected", "");
	check_refused(
		"{\"execute\": \"x\", \"execute\": \"y\"}", "JSON parse error, duplicate key", "");
	check_refused(
		"{\"execute\": \"x\", \"exec-oob\": \"y\"}", "JSON parse error, duplicate key", "");
	/* What might be read in two ways is not passed on. */
	check_refused("{\"execute\": \"st\\u006fp\"}",
		"a command with such a name has not been found", "");
	check_refused("{\"execute\": \"\"}", "a command with such a name has not been found", "");
	check_refused("{\"exec\\u0075te\": \"stop\"}",
		"QMP input member 'exec\\u0075te' is unexpected", "");
}

static void
json_is_read_strictly(void **state)
{
	static const char *const good[] = {"0", "-0", "1.5e+3", "1E9", "true", "null", "[]", "{}",
		"[1, {\"a\": []}]", "\"\\u0000\\/\\b\"", " 1 ", "\"\xc3\xa9\""};
	static const char *const bad[] = {"", "01", "1.", ".5", "-", "+1", "1e", "NaN", "Infinity",
		"nul", "[1,]", "{\"a\":1,}", "{a: 1}", "{1: 2}", "[1 2]", "\"\\x\"", "\"\\ud800\"",
		"\"\\ud800\\u0041\"", "\"\\udc00\"", "\"\\u12\"", "\"\x01\"", "\"\xc0\x80\"",
		"\"\xed\xa0\x80\"", "\"\xf5\x80\x80\x80\"", "\"\xc3\"", "\"a", "[", "[}", "1 2",
		"[[1]]]", "\x80"};
	char deep[4 * QMP_REQUEST_DEPTH_MAX] = "";

	for (size_t i = 0; i < cij_array_size(good); i++)
		if (!qmp_text_is_json(good[i], strlen(good[i])))
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < cij_array_size(bad); i++)
		if (qmp_text_is_json(bad[i], strlen(bad[i])))
			fail_msg("taken: %s", bad[i]);
	assert_false(qmp_text_is_json("\"\\\0\"", 4));
	for (int i = 0; i < QMP_REQUEST_DEPTH_MAX; i++)
		strcat(deep, "[");
	for (int i = 0; i < QMP_REQUEST_DEPTH_MAX; i++)
		strcat(deep, "]");
	assert_true(qmp_text_is_json(deep, strlen(deep)));
	memmove(deep + 1, deep, strlen(deep) + 1);
	strcat(deep, "]");
	assert_false(qmp_text_is_json(deep, strlen(deep)));
}

static void
check_reply(const char *text, enum qmp_line kind, long id, const char *without)
{
	struct qmp_reply r;
	char rest[256];

	qmp_reply_parse(&r, text, strlen(text));
	assert_int_equal(r.kind, kind);
	assert_int_equal(qmp_reply_number(&r), id);
	if (!without)
		return;
	snprintf(rest, sizeof(rest), "%.*s%s", (int)(r.member.at - text), text,
		r.member.at + r.member.len);
	assert_string_equal(rest, without);
}

static void
replies_and_their_ids(void **state)
{
	check_reply("{\"return\": {}, \"id\": 7}", QMP_LINE_RETURN, 7, "{\"return\": {}}");
	check_reply("{\"id\": 12, \"error\": {\"desc\": \"x\"}}", QMP_LINE_ERROR, 12,
		"{\"error\": {\"desc\": \"x\"}}");
	/* Other layouts than QEMU's */
	check_reply("{\"id\":1,\"return\":[]}", QMP_LINE_RETURN, 1, "{\"return\":[]}");
	check_reply("{\"return\": [], \"id\" : 1 }", QMP_LINE_RETURN, 1, "{\"return\": []}");
	check_reply("{ \"id\": 3 }", QMP_LINE_OTHER, -1, NULL);
	/* No ids of ours */
	check_reply("{\"return\": {\"a\": 1, \"id\": 5}}", QMP_LINE_RETURN, -1, NULL);
	check_reply("{\"return\": \", \\\"id\\\": 5\"}", QMP_LINE_RETURN, -1, NULL);
	check_reply("{\"return\": 5}", QMP_LINE_RETURN, -1, NULL);
	check_reply("{\"return\": [{\"id\": 5}]}", QMP_LINE_RETURN, -1, NULL);
	check_reply("{\"return\": 1, \"id\": \"5\"}", QMP_LINE_RETURN, -1, NULL);
	check_reply("{\"return\": 1, \"id\": 99999999999}", QMP_LINE_RETURN, -1, NULL);
	check_reply("{\"error\": {\"desc\": \"id\"}}", QMP_LINE_ERROR, -1, NULL);
	check_reply("{\"timestamp\": {}, \"event\": \"STOP\"}", QMP_LINE_EVENT, -1, NULL);
	check_reply("{\"event\": \"STOP\", \"data\": {\"id\": 1}}", QMP_LINE_EVENT, -1, NULL);
	check_reply("garbage", QMP_LINE_OTHER, -1, NULL);
	check_reply("[]", QMP_LINE_OTHER, -1, NULL);
	check_reply("", QMP_LINE_OTHER, -1, NULL);
	check_reply("{}", QMP_LINE_OTHER, -1, NULL);
}

/* What is cut off anywhere is looked at no further than it goes (under the sanitizers). */
static void
cut_off_anywhere(void **state)
{
	static const char text[] =
		"{\"return\": {\"a\": \"\\ud83d\\ude00\xf0\x9f\x98\x80\"}, \"id\" : 1234}";
	struct qmp_request request;
	struct qmp_reply reply;
	char why[32];

	for (size_t n = 0; n < sizeof(text); n++) {
		char *copy = malloc(n ? n : 1);

		memcpy(copy, text, n);
		qmp_reply_parse(&reply, copy, n);
		qmp_text_is_json(copy, n);
		qmp_request_parse(&request, copy, n, why, sizeof(why));
		free(copy);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_are_values_not_lines),
		cmocka_unit_test(single_quotes_are_quotes),
		cmocka_unit_test(what_is_broken_ends_with_its_line),
		cmocka_unit_test(what_is_too_long_is_thrown_away),
		cmocka_unit_test(requests_are_taken_apart),
		cmocka_unit_test(wrong_requests_are_told_as_qemu_does),
		cmocka_unit_test(json_is_read_strictly),
		cmocka_unit_test(replies_and_their_ids),
		cmocka_unit_test(cut_off_anywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
