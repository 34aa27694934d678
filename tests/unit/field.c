/* proto/field: one table with every type, decoded from good and bad objects. */
#include "tests/unit/unit.h"

#include "proto/field.h"

struct inner {
	char *name;
	int64_t n;
	bool flag;
};

struct sample {
	char *str, *name, *filled;
	bool on;
	int64_t count, wide, bytes;
	double wait;
	int colour;
	struct inner inner;
	struct cij_list inners, words;
	struct json_object *any, *object, *rest;
};

static const char *const colours[] = {"red", "green", NULL};

static const struct cij_field inner_fields[] = {
	{"name", CIJ_T_STR, CIJ_F_REQUIRED, offsetof(struct inner, name)},
	{"n", CIJ_T_INT, 0, offsetof(struct inner, n), .max = 9},
	{"flag", CIJ_T_BOOL, 0, offsetof(struct inner, flag)},
};

static void
init_inner(void *obj)
{
	((struct inner *)obj)->n = 5;
}

static const struct cij_table inner_table = CIJ_TABLE(inner_fields, struct inner, init_inner);

#define AT(member_) offsetof(struct sample, member_)
static const struct cij_field fields[] = {
	{"str", CIJ_T_STR, CIJ_F_REQUIRED, AT(str), .doc = "some text"},
	{"name", CIJ_T_STR, CIJ_F_NAME, AT(name)},
	{"filled", CIJ_T_STR, CIJ_F_NOT_EMPTY, AT(filled)},
	{"on", CIJ_T_BOOL, 0, AT(on)},
	{"count", CIJ_T_INT, 0, AT(count), .min = -3, .max = 7},
	{"wide", CIJ_T_INT, 0, AT(wide), .min = -9},
	{"bytes", CIJ_T_SIZE, 0, AT(bytes), .min = 1024, .max = 1LL << 40},
	{"wait", CIJ_T_SECONDS, 0, AT(wait)},
	{"colour", CIJ_T_ENUM, 0, AT(colour), .names = colours},
	{"inner", CIJ_T_OBJECT, 0, AT(inner), .table = &inner_table},
	{"inners", CIJ_T_LIST, 0, AT(inners), .max = 2, .table = &inner_table},
	{"words", CIJ_T_STRS, CIJ_F_NOT_EMPTY, AT(words), .max = 3},
	{"any", CIJ_T_JSON, 0, AT(any)},
	{"object", CIJ_T_JSON, CIJ_F_OBJECT, AT(object)},
};

static void
init_sample(void *obj)
{
	struct sample *s = obj;

	s->filled = strdup("by default");
	s->colour = 1;
	s->inner.flag = true;
}

static const struct cij_table table = CIJ_TABLE(fields, struct sample, init_sample);

/* Decodes @text, which must be good. */
static void
good(struct sample *s, const char *text)
{
	_cleanup_json_ struct json_object *obj = json(text);
	_cleanup_problems_ struct cij_problems problems = {0};

	if (cij_table_decode(&table, obj, s, "", &problems) < 0)
		fail_msg("%s: '%s' %s", text, problems.items[0].path, problems.items[0].desc);
	assert_int_equal(problems.n, 0);
}

/* @text has one problem: at @path, in the words @desc; and @hint, or none. */
static void
bad(const char *text, const char *path, const char *desc, const char *hint)
{
	_cleanup_json_ struct json_object *obj = json(text);
	_cleanup_problems_ struct cij_problems problems = {0};
	struct sample s;

	assert_int_equal(cij_table_decode(&table, obj, &s, "", &problems), -1);
	assert_int_equal(problems.n, 1);
	assert_string_equal(problems.items[0].path, path);
	assert_string_equal(problems.items[0].desc, desc);
	if (hint)
		assert_string_equal(problems.items[0].hint, hint);
	else
		assert_null(problems.items[0].hint);
	cij_table_clear(&table, &s);
}

static void
defaults_stand_where_nothing_is_given(void **state)
{
	struct sample s;

	good(&s, "{'str':''}");
	assert_string_equal(s.str, "");
	assert_null(s.name);
	assert_string_equal(s.filled, "by default");
	assert_false(s.on);
	assert_true(s.count == CIJ_UNSET && s.wide == CIJ_UNSET && s.bytes == CIJ_UNSET);
	assert_true(s.wait == 0);
	assert_int_equal(s.colour, 1);
	assert_int_equal(s.inner.n, 5); /* the inner table's */
	assert_true(s.inner.flag); /* the outer one's, for its inner */
	assert_int_equal(s.inners.n + s.words.n, 0);
	assert_null(s.any);
	cij_table_clear(&table, &s);
	assert_null(s.filled);
}

static void
a_table_of_nothing_takes_nothing(void **state)
{
	static const struct cij_table nothing = {.size = 1};
	_cleanup_problems_ struct cij_problems problems = {0};
	_cleanup_json_ struct json_object *some = json("{'guest':'g'}"), *none = json("{}");
	char out;

	assert_int_equal(cij_table_decode(&nothing, none, &out, "", &problems), 0);
	assert_int_equal(cij_table_decode(&nothing, some, &out, "", &problems), -1);
	assert_string_equal(problems.items[0].path, "guest");
	assert_null(problems.items[0].hint);
	cij_table_clear(&nothing, &out);
}

static void
every_type_is_decoded(void **state)
{
	struct sample s;

	good(&s, "{'str':'x','name':'emujoe','filled':'y','on':true,'count':-3,'wide':1000000,"
		 "'bytes':'2G','wait':1.5,'colour':'red','inner':{'name':'i','n':9},"
		 "'inners':[{'name':'a'},{'name':'b','flag':true}],'words':['p','q'],"
		 "'any':[1],'object':{'k':null}}");
	assert_string_equal(s.str, "x");
	assert_string_equal(s.name, "emujoe");
	assert_string_equal(s.filled, "y");
	assert_true(s.on);
	assert_int_equal(s.count, -3);
	assert_int_equal(s.wide, 1000000);
	assert_true(s.bytes == 2LL << 30);
	assert_true(s.wait == 1.5);
	assert_int_equal(s.colour, 0);
	assert_string_equal(s.inner.name, "i");
	assert_int_equal(s.inner.n, 9);
	assert_true(s.inner.flag);
	struct inner *inners = s.inners.items;
	assert_int_equal(s.inners.n, 2);
	assert_string_equal(inners[0].name, "a");
	assert_int_equal(inners[0].n, 5);
	assert_true(inners[1].flag);
	assert_int_equal(s.words.n, 2);
	assert_string_equal(((char **)s.words.items)[1], "q");
	assert_json(s.any, "[1]");
	assert_json(s.object, "{'k':null}");
	cij_table_clear(&table, &s);
	assert_null(s.words.items);
}

static void
numbers_of_several_spellings(void **state)
{
	struct sample s;

	good(&s, "{'str':'','bytes':4096,'wait':2,'any':null,'count':7}");
	assert_int_equal(s.bytes, 4096);
	assert_true(s.wait == 2);
	assert_null(s.any);
	cij_table_clear(&table, &s);
	good(&s, "{'str':'','bytes':'1024','wait':0,'wide':9223372036854775807}");
	assert_int_equal(s.bytes, 1024);
	assert_true(s.wide == INT64_MAX);
	cij_table_clear(&table, &s);
}

static void
wrong_types_are_named(void **state)
{
	bad("{'str':1}", "str", "must be a string, not a whole number", NULL);
	bad("{'str':null}", "str", "must be a string, not null", NULL);
	bad("{'str':'','on':'true'}", "on", "must be true or false, not a string", NULL);
	bad("{'str':'','on':1}", "on", "must be true or false, not a whole number", NULL);
	bad("{'str':'','count':'1'}", "count", "must be a whole number, not a string", NULL);
	bad("{'str':'','count':1.0}", "count", "must be a whole number, not a fraction", NULL);
	bad("{'str':'','count':true}", "count", "must be a whole number, not a boolean", NULL);
	bad("{'str':'','bytes':1024.5}", "bytes",
		"must be a size (a number of bytes, or like \"2G\"), not a fraction", NULL);
	bad("{'str':'','wait':'1'}", "wait", "must be a number of seconds, not a string", NULL);
	bad("{'str':'','colour':1}", "colour", "must be a string, not a whole number", NULL);
	bad("{'str':'','inner':[]}", "inner", "must be an object, not an array", NULL);
	bad("{'str':'','inners':{}}", "inners", "must be an array, not an object", NULL);
	bad("{'str':'','words':'a'}", "words", "must be an array, not a string", NULL);
	bad("{'str':'','words':['a',1]}", "words[1]", "must be a string, not a whole number", NULL);
	bad("{'str':'','object':[]}", "object", "must be an object, not an array", NULL);
	bad("[]", "", "must be an object, not an array", NULL);
	bad("null", "", "must be an object, not null", NULL);
}

static void
ranges_are_kept(void **state)
{
	bad("{'str':'','count':8}", "count", "must be from -3 to 7", NULL);
	bad("{'str':'','count':-4}", "count", "must be from -3 to 7", NULL);
	bad("{'str':'','wide':-10}", "wide", "must be at least -9", NULL);
	bad("{'str':'','bytes':1023}", "bytes", "must be from 1K to 1T", NULL);
	bad("{'str':'','bytes':'2T'}", "bytes", "must be from 1K to 1T", NULL);
	bad("{'str':'','bytes':-1}", "bytes", "must be from 1K to 1T", NULL);
	bad("{'str':'','wait':-0.1}", "wait", "must be from 0 to 31622400 seconds", NULL);
	bad("{'str':'','wait':1e300}", "wait", "must be from 0 to 31622400 seconds", NULL);
	bad("{'str':'','inners':[{'name':'a'},{'name':'b'},{'name':'c'}]}", "inners",
		"may have at most 2 items", NULL);
	bad("{'str':'','inner':{'name':'i','n':10}}", "inner.n", "must be from 0 to 9", NULL);
}

/* json-c would make them the nearest that fits, and nobody would know. */
static void
numbers_beyond_64_bits_are_refused(void **state)
{
	static const char desc[] = "is a number of more than 63 bits";

	bad("{'str':'','wide':9223372036854775808}", "wide", desc, NULL);
	bad("{'str':'','wide':18446744073709551615}", "wide", desc, NULL);
	bad("{'str':'','wide':99999999999999999999999}", "wide", desc, NULL);
	bad("{'str':'','wide':-99999999999999999999999}", "wide", "must be at least -9", NULL);
	bad("{'str':'','count':99999999999999999999999}", "count", "must be from -3 to 7", NULL);
	bad("{'str':'','bytes':18446744073709551616}", "bytes", "must be from 1K to 1T", NULL);
}

static void
texts_are_checked(void **state)
{
	bad("{'str':'','filled':''}", "filled", "may not be empty", NULL);
	bad("{'str':'','words':['a','']}", "words[1]", "may not be empty", NULL);
	bad("{'str':'a\\u0000b'}", "str", "has a NUL character in it", NULL);
	bad("{'str':'','bytes':'2G\\u0000x'}", "bytes", "has a NUL character in it", NULL);
	bad("{'str':'','colour':'red\\u0000'}", "colour", "has a NUL character in it", NULL);
	bad("{'str':'','words':['\\u0000']}", "words[0]", "has a NUL character in it", NULL);
	bad("{'str':'','bytes':'2X'}", "bytes", "is no size: '2X'",
		"sizes are like 512M, 2G or 1T");
	bad("{'str':'','colour':'blue'}", "colour", "is 'blue', but must be one of: red, green",
		NULL);
	bad("{'str':'','colour':'re\\u001bd'}", "colour",
		"is 're?d', but must be one of: red, green", NULL);
	bad("{'str':'','name':'../x'}", "name", "is no guest's name: bad guest name '../x'",
		"a name starts with a letter or digit and goes on with letters, digits, '.', '_' "
		"and '-'");
}

static void
unknown_and_missing_members(void **state)
{
	bad("{'str':'','cuont':1}", "cuont", "is not known here", "did you mean 'count'?");
	bad("{'str':'','Words':[]}", "Words", "is not known here", "did you mean 'words'?");
	bad("{'str':'','zzz':1}", "zzz", "is not known here", NULL);
	bad("{'str':'','':1}", "", "is not known here", NULL);
	bad("{'str':'','a\\u001b[2J':1}", "a?[2J", "is not known here", NULL);
	bad("{'str':'','inner':{'nam':'x','name':''}}", "inner.nam", "is not known here",
		"did you mean 'name'?");
	bad("{'on':true}", "str", "is missing", NULL);
	bad("{'str':'','inner':{}}", "inner.name", "is missing", NULL);
	bad("{'str':'','inners':[{'name':''},{}]}", "inners[1].name", "is missing", NULL);
	bad("{'str':'','inners':[{'name':''},3]}", "inners[1]",
		"must be an object, not a whole number", NULL);
}

static void
all_problems_are_told_at_once(void **state)
{
	_cleanup_json_ struct json_object *obj = json("{'on':1,'count':99,'cuont':1}");
	_cleanup_problems_ struct cij_problems problems = {0};
	struct cij_error err;
	struct sample s;

	assert_int_equal(cij_table_decode(&table, obj, &s, "top", &problems), -1);
	assert_int_equal(problems.n, 4);
	assert_string_equal(problems.items[0].path, "top.on");
	assert_string_equal(problems.items[3].path, "top.str");
	assert_int_equal(cij_problems_to_error(&problems, CIJ_E_BAD_CONFIG, &err), -1);
	assert_int_equal(err.class, CIJ_E_BAD_CONFIG);
	assert_string_equal(
		err.desc, "'top.on' must be true or false, not a whole number (and 3 more)");
	assert_string_equal(err.hint, "");
	_cleanup_json_ struct json_object *list = cij_problems_to_json(&problems);
	assert_int_equal(json_object_array_length(list), 4);
	assert_json(json_object_array_get_idx(list, 2),
		"{'path':'top.cuont','desc':'is not known here','hint':'did you mean \\u0027count"
		"\\u0027?'}");
	cij_table_clear(&table, &s);
}

static void
one_problem_becomes_an_error_with_its_hint(void **state)
{
	_cleanup_problems_ struct cij_problems problems = {0};
	struct cij_error err;

	cij_problems_add(&problems, "", "is %s", "wrong");
	cij_problems_hint(&problems, "try %d", 1);
	cij_problems_hint(&problems, "try %d", 2);
	cij_problems_to_error(&problems, CIJ_E_BAD_REQUEST, &err);
	assert_string_equal(err.desc, "is wrong");
	assert_string_equal(err.hint, "try 2");
}

struct open {
	int64_t known;
	struct json_object *rest;
};

static const struct cij_field open_fields[] = {
	{"known", CIJ_T_INT, CIJ_F_REQUIRED, offsetof(struct open, known)},
	{"rest", CIJ_T_REST, 0, offsetof(struct open, rest)},
};
static const struct cij_table open_table = CIJ_TABLE(open_fields, struct open, NULL);

static void
the_rest_is_collected(void **state)
{
	_cleanup_json_ struct json_object *obj = json("{'a':1,'known':2,'b':null,'rest':[3]}");
	_cleanup_json_ struct json_object *none = json("{'known':1}");
	_cleanup_problems_ struct cij_problems problems = {0};
	struct open open;

	assert_int_equal(cij_table_decode(&open_table, obj, &open, "", &problems), 0);
	assert_int_equal(open.known, 2);
	assert_json(open.rest, "{'a':1,'b':null,'rest':[3]}"); /* its own name is no member */
	cij_table_clear(&open_table, &open);
	assert_int_equal(cij_table_decode(&open_table, none, &open, "", &problems), 0);
	assert_null(open.rest);
	cij_table_clear(&open_table, &open);
}

static void
tables_describe_themselves(void **state)
{
	_cleanup_json_ struct json_object *list = cij_table_describe(&table);
	_cleanup_json_ struct json_object *open = cij_table_describe(&open_table);

	assert_int_equal(json_object_array_length(list), cij_array_size(fields));
	assert_json(json_object_array_get_idx(list, 0),
		"{'name':'str','type':'string','required':true,'doc':'some text'}");
	assert_json(json_object_array_get_idx(list, 4),
		"{'name':'count','type':'integer','required':false,'min':-3,'max':7}");
	assert_json(json_object_array_get_idx(list, 5),
		"{'name':'wide','type':'integer','required':false,'min':-9}");
	assert_json(json_object_array_get_idx(list, 8),
		"{'name':'colour','type':'enum','required':false,'values':['red','green']}");
	assert_json(json_object_array_get_idx(list, 9),
		"{'name':'inner','type':'object','required':false,'members':["
		"{'name':'name','type':'string','required':true},"
		"{'name':'n','type':'integer','required':false,'min':0,'max':9},"
		"{'name':'flag','type':'boolean','required':false}]}");
	assert_string_equal(
		cij_json_str(json_object_array_get_idx(list, 10), "type"), "array of objects");
	assert_string_equal(
		cij_json_str(json_object_array_get_idx(list, 11), "type"), "array of strings");
	assert_string_equal(cij_json_str(json_object_array_get_idx(list, 12), "type"), "any");
	assert_string_equal(cij_json_str(json_object_array_get_idx(list, 13), "type"), "object");
	assert_string_equal(
		cij_json_str(json_object_array_get_idx(open, 1), "type"), "other members");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_stand_where_nothing_is_given),
		cmocka_unit_test(a_table_of_nothing_takes_nothing),
		cmocka_unit_test(every_type_is_decoded),
		cmocka_unit_test(numbers_of_several_spellings),
		cmocka_unit_test(wrong_types_are_named),
		cmocka_unit_test(ranges_are_kept),
		cmocka_unit_test(numbers_beyond_64_bits_are_refused),
		cmocka_unit_test(texts_are_checked),
		cmocka_unit_test(unknown_and_missing_members),
		cmocka_unit_test(all_problems_are_told_at_once),
		cmocka_unit_test(one_problem_becomes_an_error_with_its_hint),
		cmocka_unit_test(the_rest_is_collected),
		cmocka_unit_test(tables_describe_themselves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
