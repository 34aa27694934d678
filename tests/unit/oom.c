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
	assert_int_equal(oom_read_count(v2, "oom_kill"), 2);
	assert_int_equal(oom_read_count(v1, "oom_kill"), 7);
	assert_int_equal(oom_read_count(v2, "oom"), 1);
	assert_int_equal(oom_read_count(v1, "oom"), -1);
}

static void
knows_what_it_does_not_know(void **state)
{
	struct oom_group none = {.before = -1};

	assert_null(oom_events_path("", root));
	assert_null(oom_events_path("garbage\n1:memory\n::::\n0::/gone\n", root));
	assert_int_equal(oom_read_count(NULL, "oom_kill"), -1);
	assert_int_equal(oom_read_count("/nowhere", "oom_kill"), -1);
	assert_int_equal(oom_happened(&none), OOM_NO);
}

static void
sees_a_kill(void **state)
{
	struct oom_group group = {.path = str_printf("%s/a.slice/g.scope/memory.events", root),
		.before = 2,
		.limit_before = 1};

	put("a.slice/g.scope/memory.events", "oom 1\noom_kill 2\noom_group_kill 0\n");
	assert_int_equal(oom_happened(&group), OOM_NO);
	put("a.slice/g.scope/memory.events", "oom 1\noom_kill 3\noom_group_kill 0\n");
	assert_int_equal(oom_happened(&group), OOM_HOST);
	put("a.slice/g.scope/memory.events", "oom 2\noom_kill 3\noom_group_kill 0\n");
	assert_int_equal(oom_happened(&group), OOM_LIMIT);
	/* The limit was in the way, and nobody was killed for it. */
	put("a.slice/g.scope/memory.events", "oom 9\noom_kill 2\noom_group_kill 9\n");
	assert_int_equal(oom_happened(&group), OOM_NO);
	oom_clear(&group);
	assert_int_equal(oom_happened(&group), OOM_NO);
}

/* v1 does not tell whose limit it was. */
static void
sees_a_kill_of_v1(void **state)
{
	struct oom_group group = {.path = str_printf("%s/memory/lab/memory.oom_control", root),
		.before = 7,
		.limit_before = -1};

	put("memory/lab/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 8\n");
	assert_int_equal(oom_happened(&group), OOM_HOST);
	oom_clear(&group);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_file),
		cmocka_unit_test(knows_what_it_does_not_know),
		cmocka_unit_test(sees_a_kill),
		cmocka_unit_test(sees_a_kill_of_v1),
	};

	return cmocka_run_group_tests(tests, make_root, remove_root);
}
