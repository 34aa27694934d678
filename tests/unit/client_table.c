/* client/table: columns, widths, colours. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <unistd.h>

#include "client/table.h"

/* What table_print() puts on stdout. Heap string. */
static char *
printed(const struct table *table, bool colours)
{
	char path[] = "/tmp/cij-unit-XXXXXX", *text = calloc(1, 8192);
	int fd = mkstemp(path), was = dup(1);

	assert_true(fd >= 0 && was >= 0);
	unlink(path);
	fflush(stdout);
	dup2(fd, 1);
	table_print(table, colours);
	fflush(stdout);
	dup2(was, 1);
	assert_true(pread(fd, text, 8191, 0) >= 0);
	close(was);
	close(fd);
	return text;
}

static void
columns_are_as_wide_as_their_longest_cell(void **state)
{
	_cleanup_table_ struct table t = {.n_columns = 3};
	static const char *const cells[] = {
		"NAME", "STATE", "UPTIME", "emujoe", "running", "1m", "x", "-", ""};

	for (size_t i = 0; i < cij_array_size(cells); i++)
		table_add(&t, cells[i], NULL);
	_cleanup_free_ char *text = printed(&t, false);
	assert_string_equal(text, "NAME    STATE    UPTIME\n"
				  "emujoe  running  1m\n"
				  "x       -\n"); /* no blanks at a line's end */
}

static void
wide_and_combining_characters(void **state)
{
	_cleanup_table_ struct table t = {.n_columns = 2};
	static const char *const cells[] = {"\xe7\x8c\xab", "a", "xyz", "b", "\xc3\xa4", "c"};

	for (size_t i = 0; i < cij_array_size(cells); i++)
		table_add(&t, cells[i], NULL);
	_cleanup_free_ char *text = printed(&t, false);
	assert_string_equal(text, "\xe7\x8c\xab   a\nxyz  b\n\xc3\xa4    c\n");
	assert_int_equal(text_width(""), 0);
	assert_int_equal(text_width("abc"), 3);
	assert_int_equal(text_width("\xc3\xa4"), 1);
	assert_int_equal(text_width("e\xcc\x81"), 1); /* a combining accent */
	assert_int_equal(text_width("\xe7\x8c\xab"), 2);
	assert_int_equal(text_width("\xf0\x9f\x90\xa7"), 2);
	assert_int_equal(text_width("\xef\xbc\xa1"), 2); /* a full-width letter */
}

static void
colours_where_they_are_wanted(void **state)
{
	_cleanup_table_ struct table t = {.n_columns = 2};

	table_add(&t, "a", "32");
	table_add(&t, "b", NULL);
	_cleanup_free_ char *with = printed(&t, true), *without = printed(&t, false);
	assert_string_equal(with, "\033[32ma\033[0m  b\n");
	assert_string_equal(without, "a  b\n");
}

static void
cells_are_safe_on_a_terminal(void **state)
{
	_cleanup_table_ struct table t = {.n_columns = 1};
	char long_text[3000];

	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	table_add(&t, "a\033[2Jb\n", NULL);
	table_add(&t, long_text, NULL);
	assert_string_equal(t.cells[0].text, "a?[2Jb?");
	assert_int_equal(strlen(t.cells[1].text), 1023);
	table_clear(&t);
	assert_int_equal(t.n_cells, 0);
	assert_int_equal(t.n_columns, 1);
}

static void
a_hundred_rows(void **state)
{
	_cleanup_table_ struct table t = {.n_columns = 2};

	for (int i = 0; i < 200; i++)
		table_add(&t, "x", NULL);
	_cleanup_free_ char *text = printed(&t, false);
	assert_int_equal(strlen(text), 100 * strlen("x  x\n"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(columns_are_as_wide_as_their_longest_cell),
		cmocka_unit_test(wide_and_combining_characters),
		cmocka_unit_test(colours_where_they_are_wanted),
		cmocka_unit_test(cells_are_safe_on_a_terminal),
		cmocka_unit_test(a_hundred_rows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
