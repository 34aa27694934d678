/* client/quote: what a shell reads back is what went in. */
#include "tests/unit/unit.h"

#include <unistd.h>

#include "client/quote.h"

static void
quotes(const char *word, bool first, const char *want)
{
	_cleanup_free_ char *quoted = shell_quote(word, first);

	assert_string_equal(quoted, want);
}

static void
only_where_it_must(void **state)
{
	quotes("plain", false, "plain");
	quotes("-a=b", false, "-a=b");
	quotes("/usr/bin/x-1.0_y", true, "/usr/bin/x-1.0_y");
	quotes("a@b%c+d:e,f", false, "a@b%c+d:e,f");
	quotes("A=b", true, "'A=b'");
	quotes("", false, "''");
	quotes("a b", false, "'a b'");
	quotes("it's", false, "'it'\\''s'");
	quotes("'", true, "''\\'''");
	quotes("$x`y`\"z\"\\", false, "'$x`y`\"z\"\\'");
	quotes("*?[a]~!#;&|<>(){}", false, "'*?[a]~!#;&|<>(){}'");
	quotes("\xc3\xa4", false, "'\xc3\xa4'");
	quotes("a\nb", false, "'a\nb'");
}

static void
a_shell_reads_it_back(void **state)
{
	static const char *const words[] = {"plain", "it's", "$HOME", "a\\b", "--", "''", "~root",
		"*", "a  b", "\xff\xfe", "!x", "`id`", "a=b", "x\ty"};

	for (size_t i = 0; i < cij_array_size(words); i++) {
		_cleanup_free_ char *quoted = shell_quote(words[i], false);
		char command[256], back[64] = "";
		FILE *f;

		snprintf(command, sizeof(command), "printf '%%s|' %s", quoted);
		f = popen(command, "re");
		assert_non_null(f);
		size_t n = fread(back, 1, sizeof(back) - 1, f);
		assert_int_equal(pclose(f), 0);
		assert_true(n > 0 && back[n - 1] == '|');
		back[n - 1] = '\0';
		assert_string_equal(back, words[i]);
	}
}

static void
a_path_is_no_option(void **state)
{
	static const char *const pairs[][2] = {
		{"-rf", "./-rf"}, {"a b", "'./a b'"}, {"/-x", "/-x"}, {".", "./."}, {"", "./"}};

	for (size_t i = 0; i < cij_array_size(pairs); i++) {
		_cleanup_free_ char *quoted = shell_quote_path(pairs[i][0]);

		assert_string_equal(quoted, pairs[i][1]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_where_it_must),
		cmocka_unit_test(a_shell_reads_it_back),
		cmocka_unit_test(a_path_is_no_option),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
