/* proto/text: names, sizes, nearest words, globs, text made safe for a terminal. */
#include "tests/unit/unit.h"

#include "proto/text.h"

static void
guest_names(void **state)
{
	static const char *const ok[] = {"a", "7", "emujoe", "A.b_c-d", "x..", "guest.1"};
	static const char *const not_ok[] = {"../x", ".hidden", "-x", "_x", "a/b", "a b", "a\n",
		"\xc3\xa4", "a\xc3\xa4", "a*", "a=b", "a,b"};
	char name[80];
	struct cij_error err;

	for (size_t i = 0; i < cij_array_size(ok); i++)
		assert_int_equal(cij_guest_name_check(ok[i], &err), 0);
	for (size_t i = 0; i < cij_array_size(not_ok); i++) {
		assert_int_equal(cij_guest_name_check(not_ok[i], &err), -1);
		assert_int_equal(err.class, CIJ_E_BAD_REQUEST);
		assert_has(err.desc, "bad guest name '");
		assert_has(err.hint, "a name starts with a letter or digit");
	}
	assert_int_equal(cij_guest_name_check("", &err), -1);
	assert_string_equal(err.desc, "a guest's name may not be empty");
	memset(name, 'x', sizeof(name));
	name[63] = '\0';
	assert_int_equal(cij_guest_name_check(name, &err), 0);
	name[63] = 'x';
	name[64] = '\0';
	assert_int_equal(cij_guest_name_check(name, &err), -1);
	assert_string_equal(err.desc, "guest name of 64 characters: at most 63 are allowed");
	assert_int_equal(cij_guest_name_check("a\033[2Jb", &err), -1);
	assert_string_equal(err.desc, "bad guest name 'a?[2Jb'");
}

static void
sizes_are_read(void **state)
{
	static const struct {
		const char *text;
		int64_t bytes;
	} ok[] = {
		{"0", 0},
		{"1000", 1000},
		{"1K", 1024},
		{"1k", 1024},
		{"1KB", 1024},
		{"1KiB", 1024},
		{"512M", 512LL << 20},
		{"2g", 2LL << 30},
		{"2GiB", 2LL << 30},
		{"1T", 1LL << 40},
		{"8388607T", 8388607LL << 40},
		{"9223372036854775807", INT64_MAX},
		{"007", 7},
	};
	static const char *const not_ok[] = {"", "K", "-1", "+1", " 1", "1 ", "1 K", "1.5G", "0x10",
		"1P", "1KK", "1BK", "1B", "1KiBs", "1iB", "9223372036854775808", "8388608T",
		"9007199254740992K", "99999999999999999999", "1e3", "nan"};
	int64_t n;

	for (size_t i = 0; i < cij_array_size(ok); i++) {
		assert_int_equal(cij_size_parse(ok[i].text, &n), 0);
		assert_true(n == ok[i].bytes);
	}
	for (size_t i = 0; i < cij_array_size(not_ok); i++)
		if (cij_size_parse(not_ok[i], &n) == 0)
			fail_msg("'%s' is no size", not_ok[i]);
}

static void
sizes_are_written_exactly(void **state)
{
	static const int64_t sizes[] = {0, 1, 1000, 1023, 1024, 1536LL << 20, 2LL << 30, 1LL << 40,
		1LL << 50, INT64_MAX, 8053063680, 1025};
	static const char *const texts[] = {"0", "1", "1000", "1023", "1K", "1536M", "2G", "1T",
		"1024T", "9223372036854775807", "7680M", "1025"};
	char buf[24];
	int64_t back;

	for (size_t i = 0; i < cij_array_size(sizes); i++) {
		assert_string_equal(cij_size_exact(sizes[i], buf, sizeof(buf)), texts[i]);
		assert_int_equal(cij_size_parse(buf, &back), 0);
		assert_true(back == sizes[i]);
	}
}

static void
sizes_are_written_for_people(void **state)
{
	char buf[24];

	assert_string_equal(cij_size_human(0, buf, sizeof(buf)), "0B");
	assert_string_equal(cij_size_human(1023, buf, sizeof(buf)), "1023B");
	assert_string_equal(cij_size_human(1024, buf, sizeof(buf)), "1K");
	assert_string_equal(cij_size_human(8053063680, buf, sizeof(buf)), "7.5G");
	assert_string_equal(cij_size_human(2LL << 30, buf, sizeof(buf)), "2G");
	assert_string_equal(cij_size_human(150 * 1024 + 512, buf, sizeof(buf)), "150K");
	assert_string_equal(cij_size_human(INT64_MAX, buf, sizeof(buf)), "8192P");
}

static void
nearest_words(void **state)
{
	static const char *const words[] = {"start", "status", "stop", "restart", "reset", "memory",
		NULL, "num_grp", "num_pu", "a"};
	size_t n = cij_array_size(words);
	char long_word[200];

	assert_string_equal(cij_nearest_of("strat", words, n), "start"); /* a swap is one slip */
	assert_string_equal(cij_nearest_of("statsu", words, n), "status");
	assert_string_equal(cij_nearest_of("STOP", words, n), "stop");
	assert_string_equal(cij_nearest_of("stp", words, n), "stop");
	assert_string_equal(cij_nearest_of("memroy", words, n), "memory");
	assert_string_equal(cij_nearest_of("num_gpr", words, n), "num_grp");
	assert_null(cij_nearest_of("zzzzzz", words, n));
	assert_null(cij_nearest_of("xy", words, n));
	assert_null(cij_nearest_of("", words, n));
	assert_null(cij_nearest_of("b", words, n)); /* all its letters are wrong */
	assert_null(cij_nearest_of("start", words, 0));
	memset(long_word, 's', sizeof(long_word) - 1);
	long_word[sizeof(long_word) - 1] = '\0';
	assert_null(cij_nearest_of(long_word, words, n));
}

static void
globs(void **state)
{
	assert_true(cij_glob_match("emu*", "emujoe"));
	assert_true(cij_glob_match("*", "x"));
	assert_true(cij_glob_match("g?[0-9]", "ga7"));
	assert_false(cij_glob_match("emu", "emujoe"));
	assert_false(cij_glob_match("g[!a]", "ga"));
	assert_false(cij_glob_match("[", "x"));
	assert_true(cij_is_glob("a*") && cij_is_glob("?") && cij_is_glob("[a]"));
	assert_false(cij_is_glob("emu.joe-1_2"));
}

static void
utf8_lengths(void **state)
{
	assert_int_equal(cij_utf8_len("", 0), 0);
	assert_int_equal(cij_utf8_len("a", 1), 1);
	assert_int_equal(cij_utf8_len("\0", 1), 1);
	assert_int_equal(cij_utf8_len("\xc3\xa4z", 3), 2);
	assert_int_equal(cij_utf8_len("\xc3\xa4", 1), 0);
	assert_int_equal(cij_utf8_len("\xe2\x82\xac", 3), 3);
	assert_int_equal(cij_utf8_len("\xf4\x8f\xbf\xbf", 4), 4);
	assert_int_equal(cij_utf8_len("\xf4\x90\x80\x80", 4), 0);
	assert_int_equal(cij_utf8_len("\xc1\x81", 2), 0);
	assert_int_equal(cij_utf8_len("\xed\xa0\x80", 3), 0);
	assert_int_equal(cij_utf8_len("\xf5\x80\x80\x80", 4), 0);
	assert_int_equal(cij_utf8_len("\x80", 1), 0);
}

static void
text_is_made_clean(void **state)
{
	char buf[64], small[5];

	assert_string_equal(cij_text_clean("plain \xc3\xa4\xe2\x82\xac", buf, sizeof(buf)),
		"plain \xc3\xa4\xe2\x82\xac");
	assert_string_equal(
		cij_text_clean("a\033[31mb\n\t\r\x7f", buf, sizeof(buf)), "a?[31mb????");
	assert_string_equal(cij_text_clean("\xc2\x9b"
					   "2J",
				    buf, sizeof(buf)),
		"?2J"); /* CSI */
	assert_string_equal(cij_text_clean("\xff\xc3(\xe2\x82", buf, sizeof(buf)), "?"
										   "?(?"
										   "?");
	assert_string_equal(cij_text_clean("\xed\xa0\x80", buf, sizeof(buf)), "???");
	assert_string_equal(cij_text_clean("", buf, sizeof(buf)), "");
	assert_string_equal(cij_text_clean("abcdefgh", small, sizeof(small)), "abcd");
	/* A character is never cut in two. */
	assert_string_equal(cij_text_clean("abc\xc3\xa4", small, sizeof(small)), "abc");
	assert_string_equal(cij_text_clean("x", buf, 1), "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(guest_names),
		cmocka_unit_test(sizes_are_read),
		cmocka_unit_test(sizes_are_written_exactly),
		cmocka_unit_test(sizes_are_written_for_people),
		cmocka_unit_test(nearest_words),
		cmocka_unit_test(globs),
		cmocka_unit_test(utf8_lengths),
		cmocka_unit_test(text_is_made_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
