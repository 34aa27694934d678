/* proto/json: what is JSON and what is not, members, and the raw text of one. */
#include "tests/unit/unit.h"

#include "cijqemu/protocol.h"

static struct json_object *
parse(const char *text, struct cij_error *err)
{
	*err = (struct cij_error)CIJ_ERROR_INIT;
	return cij_json_parse(text, strlen(text), CIJ_REQUEST_DEPTH_MAX, err);
}

static void
assert_bad(const char *text, const char *desc)
{
	struct cij_error err;

	assert_null(parse(text, &err));
	assert_int_equal(err.class, CIJ_E_BAD_REQUEST);
	assert_string_equal(err.desc, desc);
}

static void
values_of_every_type(void **state)
{
	static const char *const good[] = {"{}", "[]", "\"\"", "0", "-0", "-1", "1.5", "1e5",
		"1E+5", "-0.5e-3", "true", "false", "{\"a\":[1,{\"b\":null}]}", "\"\\u00e4\"",
		"\"\\\\\"", "\"\\\"\"", "[\"\\\\\",1]", "\"N\"", "[\"Infinity\"]",
		"18446744073709551615", "{\"\":1}", "\"\xc3\xa4\"", "\"\xf0\x9f\x90\xa7\""};
	struct cij_error err;

	for (size_t i = 0; i < cij_array_size(good); i++) {
		_cleanup_json_ struct json_object *obj = parse(good[i], &err);

		if (err.class != CIJ_E_NONE)
			fail_msg("'%s' is JSON, but: %s", good[i], err.desc);
		assert_non_null(obj);
	}
}

static void
null_is_told_from_an_error_by_the_class(void **state)
{
	struct cij_error err;

	assert_null(parse("null", &err));
	assert_int_equal(err.class, CIJ_E_NONE);
	assert_null(parse(" null\r\n", &err));
	assert_int_equal(err.class, CIJ_E_NONE);
	assert_null(parse("nul", &err));
	assert_int_equal(err.class, CIJ_E_BAD_REQUEST);
	/* Nobody need want to know why. */
	assert_null(cij_json_parse("nul", 3, 4, NULL));
}

static void
a_bare_number_needs_nothing_behind_it(void **state)
{
	struct cij_error err;
	_cleanup_json_ struct json_object *n = parse("42", &err), *spaced = parse(" 42 \n", &err);
	_cleanup_json_ struct json_object *only = cij_json_parse("4711", 2, 1, &err);

	assert_int_equal(json_object_get_int64(n), 42);
	assert_int_equal(json_object_get_int64(spaced), 42);
	assert_int_equal(json_object_get_int64(only), 47); /* of the length given, not beyond */
}

static void
what_is_no_json_is_refused_with_its_place(void **state)
{
	assert_bad("", "no JSON: the text is empty");
	assert_bad(" \r\n\t", "no JSON: the text is empty");
	assert_bad("{", "bad JSON: it ends too early");
	assert_bad("[1,", "bad JSON: it ends too early");
	assert_bad("\"abc", "bad JSON: it ends too early");
	assert_bad("\"abc\\", "bad JSON: it ends too early");
	assert_bad("{} x", "bad JSON at byte 4: unexpected character");
	assert_bad("[1] [2]", "bad JSON at byte 5: unexpected character");
	assert_bad("{a:1}", "bad JSON at byte 2: quoted object property name expected");
	assert_bad("[1,]", "bad JSON at byte 4: unexpected character");
	assert_bad("'a'", "bad JSON at byte 1: unexpected character");
	assert_bad("// x\n1", "bad JSON at byte 1: unexpected character");
	assert_bad("\"\\x\"", "bad JSON at byte 3: invalid string sequence");
}

/* json-c takes these; sent on to QEMU or to a client, they would break its parser. */
static void
what_only_json_c_takes_is_refused(void **state)
{
	assert_bad("NaN", "bad JSON at byte 1: unexpected character");
	assert_bad("{\"id\":NaN}", "bad JSON at byte 7: unexpected character");
	assert_bad("Infinity", "bad JSON at byte 1: unexpected character");
	assert_bad("[-Infinity]", "bad JSON at byte 2: number expected");
	assert_bad("1.", "bad JSON at byte 1: number expected");
	assert_bad("[1.e5]", "bad JSON at byte 2: number expected");
	assert_bad("-01", "bad JSON at byte 1: number expected");
	assert_bad("01", "bad JSON at byte 1: number expected");
	assert_bad("-", "bad JSON at byte 1: number expected");
	assert_bad("1e", "bad JSON at byte 1: number expected");
	assert_bad("1e+", "bad JSON at byte 1: number expected");
	assert_bad("\"a\tb\"", "bad JSON at byte 3: control character in a string");
	assert_bad("\"a\nb\"", "bad JSON at byte 3: control character in a string");
	assert_bad("\xef\xbb\xbf{}", "bad JSON at byte 1: unexpected character"); /* a BOM */
}

static void
utf8_is_required(void **state)
{
	static const char *const bad[] = {"\"\xff\"", "\"\xc3\"", "\"\x80\"", "\"\xc0\xaf\"",
		"\"\xe0\x80\xaf\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xf0\x9f\x90\"",
		"\"\xe4\xb8\""};

	for (size_t i = 0; i < cij_array_size(bad); i++)
		assert_bad(bad[i], "bad JSON: not UTF-8 at byte 2");
	assert_bad("{\"a\":\"\xc3\xa4\xff\"}", "bad JSON: not UTF-8 at byte 9");
	assert_bad("\"\xc3", "bad JSON: not UTF-8 at byte 2");
}

static void
nul_bytes_are_refused(void **state)
{
	struct cij_error err;

	assert_null(cij_json_parse("{}\0", 3, 4, &err));
	assert_string_equal(err.desc, "JSON with a NUL byte in it");
	assert_null(cij_json_parse("\"a\0b\"", 5, 4, &err));
	assert_int_equal(err.class, CIJ_E_BAD_REQUEST);
}

static void
nesting_has_a_limit(void **state)
{
	char deep[2001], *p = deep;
	struct cij_error err;

	for (int i = 0; i < 1000; i++)
		*p++ = '[';
	for (int i = 0; i < 1000; i++)
		*p++ = ']';
	*p = '\0';
	assert_bad(deep, "JSON nested deeper than 16 levels");
	/* Exactly the limit is fine, arrays and objects alike. */
	for (int depth = 1; depth <= 4; depth++) {
		_cleanup_json_ struct json_object *arrays = cij_json_parse(
			deep + 1000 - depth, 2 * depth, depth, &err);
		assert_non_null(arrays);
		assert_null(cij_json_parse(deep + 1000 - depth - 1, 2 * depth + 2, depth, &err));
		assert_has(err.desc, "nested deeper");
	}
	_cleanup_json_ struct json_object *two = cij_json_parse("{\"a\":{\"b\":1}}", 13, 2, &err);
	assert_non_null(two);
	assert_null(cij_json_parse("{\"a\":{\"b\":{}}}", 14, 2, &err));
}

static void
members_have_fallbacks(void **state)
{
	_cleanup_json_ struct json_object *obj = json("{'s':'x','i':7,'b':true,'n':null,'d':1.5}");

	assert_string_equal(cij_json_str(obj, "s"), "x");
	assert_null(cij_json_str(obj, "i"));
	assert_null(cij_json_str(obj, "none"));
	assert_null(cij_json_str(NULL, "s"));
	assert_int_equal(cij_json_int(obj, "i", -1), 7);
	assert_int_equal(cij_json_int(obj, "s", -1), -1);
	assert_int_equal(cij_json_int(obj, "d", -1), -1); /* a fraction is no whole number */
	assert_int_equal(cij_json_int(NULL, "i", 3), 3);
	assert_true(cij_json_bool(obj, "b", false));
	assert_true(cij_json_bool(obj, "i", true)); /* 7 is no boolean */
	assert_null(cij_json_get(obj, "n"));
	_cleanup_json_ struct json_object *array = json("[1]");
	assert_null(cij_json_get(array, "s"));
}

static void
members_are_added(void **state)
{
	_cleanup_json_ struct json_object *obj = json_object_new_object();

	cij_json_add_str(obj, "s", "x");
	cij_json_add_str(obj, "none", NULL);
	cij_json_add_int(obj, "i", INT64_MAX);
	cij_json_add_bool(obj, "b", false);
	assert_json(obj, "{'s':'x','none':null,'i':9223372036854775807,'b':false}");
}

/* The raw text of "id" in @text, or NULL. */
static const char *
raw(const char *text)
{
	static char copy[256];
	const char *at;
	size_t n;

	if (!cij_json_raw_member(text, strlen(text), "id", &at, &n))
		return NULL;
	assert_true(n < sizeof(copy));
	memcpy(copy, at, n);
	copy[n] = '\0';
	return copy;
}

static void
raw_members_are_as_they_were_written(void **state)
{
	assert_string_equal(raw("{\"id\":1}"), "1");
	assert_string_equal(raw(" { \"id\" : 1e3 , \"x\":2}"), "1e3");
	assert_string_equal(raw("{\"x\":{\"id\":5},\"id\":123456789012345678901234567890}"),
		"123456789012345678901234567890");
	assert_string_equal(raw("{\"id\": \"a\\\"},b\" }"), "\"a\\\"},b\"");
	assert_string_equal(raw("{\"id\":[1,{\"a\":\"]\"}],\"x\":1}"), "[1,{\"a\":\"]\"}]");
	assert_string_equal(raw("{\"id\":null}"), "null");
	assert_string_equal(raw("{\"id\":\"\\\\\"}"), "\"\\\\\"");
	assert_string_equal(raw("{\"a\":\"\\\\\",\"id\":2}"), "2");
	assert_string_equal(raw("{\"a\":\"id\",\"b\":[\"id\",1],\"id\":3}"), "3");
	assert_string_equal(raw("{\"id\":{}}"), "{}");
	assert_string_equal(raw("{\"id\":-0.50}"), "-0.50");
}

static void
raw_members_that_are_not_there(void **state)
{
	assert_null(raw("{}"));
	assert_null(raw("[\"id\",1]"));
	assert_null(raw("1"));
	assert_null(raw(""));
	assert_null(raw("{\"idx\":1,\"i\":2,\"x\":{\"id\":3}}"));
	assert_null(raw("{\"ID\":1}"));
}

static void
the_last_of_duplicates_counts_as_in_json_c(void **state)
{
	const char *text = "{\"id\":1,\"x\":0,\"id\":2}";
	_cleanup_json_ struct json_object *obj = json(text);

	assert_string_equal(raw(text), "2");
	assert_int_equal(cij_json_int(obj, "id", 0), 2);
}

static void
escapes_in_a_name_are_read(void **state)
{
	assert_string_equal(raw("{\"\\u0069d\":7}"), "7");
	assert_string_equal(raw("{\"id\":1,\"i\\u0064\":2}"), "2");
	assert_null(raw("{\"i\\u0000d\":7}"));
	assert_null(raw("{\"id\\\\\":7}"));
}

static void
raw_values_print_as_they_are(void **state)
{
	const char *text = "123456789012345678901234567890";
	_cleanup_json_ struct json_object *obj = json_object_new_object();

	json_object_object_add(obj, "id", cij_json_raw(text, strlen(text)));
	assert_string_equal(json_object_to_json_string_ext(obj, JSON_C_TO_STRING_PLAIN),
		"{\"id\":123456789012345678901234567890}");
}

static void
types_have_words(void **state)
{
	static const char *const texts[] = {"{}", "[]", "'x'", "1", "1.5", "true", "null"};
	static const char *const words[] = {"an object", "an array", "a string", "a whole number",
		"a fraction", "a boolean", "null"};

	for (size_t i = 0; i < cij_array_size(texts); i++) {
		_cleanup_json_ struct json_object *obj = json(texts[i]);

		assert_string_equal(cij_json_type_word(obj), words[i]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_of_every_type),
		cmocka_unit_test(null_is_told_from_an_error_by_the_class),
		cmocka_unit_test(a_bare_number_needs_nothing_behind_it),
		cmocka_unit_test(what_is_no_json_is_refused_with_its_place),
		cmocka_unit_test(what_only_json_c_takes_is_refused),
		cmocka_unit_test(utf8_is_required),
		cmocka_unit_test(nul_bytes_are_refused),
		cmocka_unit_test(nesting_has_a_limit),
		cmocka_unit_test(members_have_fallbacks),
		cmocka_unit_test(members_are_added),
		cmocka_unit_test(raw_members_are_as_they_were_written),
		cmocka_unit_test(raw_members_that_are_not_there),
		cmocka_unit_test(the_last_of_duplicates_counts_as_in_json_c),
		cmocka_unit_test(escapes_in_a_name_are_read),
		cmocka_unit_test(raw_values_print_as_they_are),
		cmocka_unit_test(types_have_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
