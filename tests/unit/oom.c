/* daemon/oom: the file that counts, for both kinds of control groups, and what it counts. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/fileio.h"
#include "daemon/oom.h"
#include "daemon/strv.h"

static char root[] = "/tmp/cij-oom.XXXXXX";

static void
put(const char *name, const char *text)
{
	_cleanup_free_ char *path = str_printf("%s/%s", root, name);
	_cleanup_fclose_ FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
}

static int
make_root(void **state)
{
	_cleanup_free_ char *v2 = NULL, *v1 = NULL;

	assert_non_null(mkdtemp(root));
	v2 = str_printf("%s/a.slice/g.scope", root);
	v1 = str_printf("%s/memory/lab", root);
	return dir_make_path(v2, 0755) | dir_make_path(v1, 0755);
}

static int
remove_root(void **state)
{
	return dir_remove_at(AT_FDCWD, root);
}

static void
finds_the_file(void **state)
{
	_cleanup_free_ char *v2 = str_printf("%s/a.slice/g.scope/memory.events", root);
	_cleanup_free_ char *v1 = str_printf("%s/memory/lab/memory.oom_control", root);

	put("a.slice/g.scope/memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n");
	put("memory/lab/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n");
	_cleanup_free_ char *a = oom_events_path("0::/a.slice/g.scope\n", root);
	assert_string_equal(a, v2);
	/* Both kinds are mounted: the first that counts. */
	_cleanup_free_ char *b = oom_events_path(
		"5:cpu:/\n4:rdma,memory:/lab\n0::/nowhere\n", root);
	assert_string_equal(b, v1);
	assert_int_equal(oom_read_count(v2), 2);
	assert_int_equal(oom_read_count(v1), 7);
}

static void
knows_what_it_does_not_know(void **state)
{
	struct oom_group none = {.before = -1};

	assert_null(oom_events_path("", root));
	assert_null(oom_events_path("garbage\n1:memory\n::::\n0::/gone\n", root));
	assert_int_equal(oom_read_count(NULL), -1);
	assert_int_equal(oom_read_count("/nowhere"), -1);
	assert_false(oom_happened(&none));
}

static void
sees_a_kill(void **state)
{
	struct oom_group group = {
		.path = str_printf("%s/a.slice/g.scope/memory.events", root), .before = 2};

	put("a.slice/g.scope/memory.events", "oom_kill 2\n");
	assert_false(oom_happened(&group));
	put("a.slice/g.scope/memory.events", "oom_kill 3\n");
	assert_true(oom_happened(&group));
	oom_clear(&group);
	assert_false(oom_happened(&group));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_file),
		cmocka_unit_test(knows_what_it_does_not_know),
		cmocka_unit_test(sees_a_kill),
	};

	return cmocka_run_group_tests(tests, make_root, remove_root);
}
