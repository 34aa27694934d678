/* daemon/history: what was done is on record, whatever stands in the file before it. */
#include "tests/unit/folder.h"

#include "daemon/history.h"
#include "proto/json.h"

static void
done(struct history *history, const char *operation)
{
	static const struct peer by = {.uid = 7, .pid = 8};
	const struct deed deed = {.by = &by, .operation = operation, .guest = "g"};

	history_add(history, &deed);
}

static void
assert_operations(const char *const *names, size_t n)
{
	const struct cij_list all = {NULL, 0};
	struct history *history = history_new(dir);
	_cleanup_json_ struct json_object *found = history_read(history, &all, 100);

	assert_int_equal(cij_json_length(found), n);
	for (size_t i = 0; i < n; i++)
		assert_string_equal(
			cij_json_str(json_object_array_get_idx(found, i), "operation"), names[i]);
	history_free(history);
}

static void
half_a_line_takes_no_entry_with_it(void **state)
{
	static const char *const names[] = {"guest-start", "guest-kill"};
	struct history *history = history_new(dir);
	struct stat st;

	done(history, "guest-start");
	done(history, "guest-stop");
	history_free(history);
	/* As a host that lost its power leaves it. */
	assert_int_equal(fstatat(dir, "history.jsonl", &st, 0), 0);
	_cleanup_close_ int fd = openat(dir, "history.jsonl", O_WRONLY);
	assert_int_equal(ftruncate(fd, st.st_size - 5), 0);
	history = history_new(dir);
	done(history, "guest-kill");
	history_free(history);
	assert_operations(names, 2);
}

static void
a_whole_file_is_only_added_to(void **state)
{
	static const char *const names[] = {"guest-start", "guest-kill"};
	struct stat st, again;

	for (size_t i = 0; i < 2; i++) {
		struct history *history = history_new(dir);

		assert_int_equal(fstatat(dir, "history.jsonl", &st, 0), 0);
		assert_true(i == 0 ? st.st_size == 0 : st.st_size == again.st_size);
		done(history, names[i]);
		history_free(history);
		assert_int_equal(fstatat(dir, "history.jsonl", &again, 0), 0);
	}
	assert_operations(names, 2);
}

static void
refuse(struct history *history, const char *guest, uid_t uid)
{
	const struct peer by = {.uid = uid, .pid = 8};
	struct cij_error err;
	const struct deed deed = {
		.by = &by, .operation = "guest-kill", .guest = guest, .err = &err};

	cij_error_set(&err, CIJ_E_DENIED, "no");
	history_add(history, &deed);
}

/* What was done and what was refused, in the order of both; repeated refusals are one. */
static void
refusals_have_a_place_of_their_own(void **state)
{
	static const char *const names[] = {
		"guest-start", "guest-kill", "guest-stop", "guest-kill", "guest-kill"};
	struct history *history = history_new(dir);
	const struct cij_list all = {NULL, 0};

	done(history, "guest-start");
	for (int i = 0; i < 5000; i++)
		refuse(history, "g", 9);
	usleep(2000); /* the order is told by the clock */
	done(history, "guest-stop");
	usleep(2000);
	refuse(history, "g", 9);
	refuse(history, "g", 9);
	refuse(history, "g", 10);
	_cleanup_json_ struct json_object *last = history_read(history, &all, 2);
	assert_int_equal(cij_json_length(last), 2);
	assert_int_equal(cij_json_int(json_object_array_get_idx(last, 0), "times", 1), 2);
	assert_int_equal(cij_json_int(json_object_array_get_idx(last, 1), "times", 1), 1);
	history_free(history);
	assert_operations(names, 5);
}

int
main(void)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, begin, end)
	const struct CMUnitTest tests[] = {
		T(half_a_line_takes_no_entry_with_it),
		T(a_whole_file_is_only_added_to),
		T(refusals_have_a_place_of_their_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
