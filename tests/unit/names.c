/*
 * daemon/names: asked of a script in the place of NSS. This program stands in for cijqemud, which
 * executes itself with --launch.
 */
#include "tests/unit/loop.h"

#include "daemon/launch.h"
#include "daemon/names.h"
#include "daemon/proc.h"

static char *top, *program, *asked;
static struct names *names;
static bool told;

static void
write_script(const char *body)
{
	FILE *file = fopen(program, "w");

	assert_non_null(file);
	/* Every question is put down, so that the test sees what was asked. */
	fprintf(file, "#!/bin/sh\nshift\necho \"$@\" >>%s\n%s\n", asked, body);
	fclose(file);
	assert_int_equal(chmod(program, 0755), 0);
}

static int
begin(void **state)
{
	top = folder_make();
	assert_true(asprintf(&program, "%s/resolve", top) > 0);
	assert_true(asprintf(&asked, "%s/asked", top) > 0);
	loop = event_base_new();
	names = names_new(loop, program);
	told = false;
	return 0;
}

static int
end(void **state)
{
	names_free(names);
	proc_forget_all();
	event_base_free(loop);
	folder_remove(top);
	free(program);
	free(asked);
	return 0;
}

static void
on_told(void *arg)
{
	*(bool *)arg = true;
}

static void
wait_for_names(void)
{
	bool hangs = false;
	struct event *alarm = loop_alarm(&hangs);

	told = false;
	names_wait(names, on_told, &told);
	assert_false(told);
	while (!told && !hangs)
		event_base_loop(loop, EVLOOP_ONCE);
	event_free(alarm);
	assert_false(hangs);
}

static size_t
times_asked(void)
{
	FILE *file = fopen(asked, "r");
	size_t lines = 0;
	int c;

	while (file && (c = fgetc(file)) != EOF)
		lines += c == '\n';
	if (file)
		fclose(file);
	return lines;
}

static void
asked_once_and_kept(void **state)
{
	unsigned id = 0;

	write_script("echo anna 5001; echo @storage 6001; echo annabel 7");
	assert_int_equal(names_lookup(names, "anna", &id), NAME_ASKED);
	assert_int_equal(names_lookup(names, "@storage", &id), NAME_ASKED);
	assert_int_equal(names_lookup(names, "ann", &id), NAME_ASKED);
	wait_for_names();
	assert_int_equal(names_lookup(names, "anna", &id), NAME_IS);
	assert_int_equal(id, 5001);
	assert_int_equal(names_lookup(names, "@storage", &id), NAME_IS);
	assert_int_equal(id, 6001);
	assert_int_equal(names_lookup(names, "ann", &id), NAME_IS_NONE);
	assert_int_equal(times_asked(), 1);
	wait_for_names(); /* nothing is asked: told at once, from the loop */
	assert_int_equal(times_asked(), 1);
}

static void
names_that_nobody_has(void **state)
{
	unsigned id;

	write_script("exit 0");
	assert_int_equal(names_lookup(names, "", &id), NAME_IS_NONE);
	assert_int_equal(names_lookup(names, "@", &id), NAME_IS_NONE);
	assert_int_equal(names_lookup(names, "a b", &id), NAME_IS_NONE);
	assert_int_equal(names_lookup(names, "a\nb 0", &id), NAME_IS_NONE);
	assert_int_equal(names_lookup(names, "../x", &id), NAME_IS_NONE);
	assert_int_equal(times_asked(), 0);
}

static void
a_service_that_fails(void **state)
{
	static const char *const bodies[] = {"exit 1", "kill -9 $$", "echo anna", "echo anna -5",
		"echo anna 4294967295", "echo anna 5x", "echo xanna 5",
		"head -c 1000000 /dev/zero"};

	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		_cleanup_free_ char *name = NULL;
		unsigned id;

		write_script(bodies[i]);
		assert_true(asprintf(&name, "anna%zu", i) > 0);
		assert_int_equal(names_lookup(names, name, &id), NAME_ASKED);
		wait_for_names();
		assert_int_equal(names_lookup(names, name, &id), NAME_IS_NONE);
	}
}

static void
more_than_goes_into_one_question(void **state)
{
	unsigned id;

	write_script("for n; do echo $n 9; done");
	for (int i = 0; i < 150; i++) {
		char name[16];

		snprintf(name, sizeof(name), "user%d", i);
		assert_int_equal(names_lookup(names, name, &id), NAME_ASKED);
	}
	wait_for_names();
	assert_int_equal(times_asked(), 3);
	assert_int_equal(names_lookup(names, "user0", &id), NAME_IS);
	assert_int_equal(names_lookup(names, "user149", &id), NAME_IS);
}

static void
who_waits_is_told_at_the_end(void **state)
{
	unsigned id;

	write_script("sleep 100");
	assert_int_equal(names_lookup(names, "anna", &id), NAME_ASKED);
	names_wait(names, on_told, &told);
	event_base_loop(loop, EVLOOP_ONCE);
	names_free(names);
	names = NULL;
	assert_true(told);
}

int
main(int argc, char **argv)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, begin, end)
	const struct CMUnitTest tests[] = {
		T(asked_once_and_kept),
		T(names_that_nobody_has),
		T(a_service_that_fails),
		T(more_than_goes_into_one_question),
		T(who_waits_is_told_at_the_end),
	};

	if (argc > 2 && strcmp(argv[1], "--launch") == 0)
		return launch_main(argc - 2, argv + 2);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
