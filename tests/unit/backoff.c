/* daemon/backoff: which ends are followed by a start, after how long, and when it is given up. */
#include "tests/unit/unit.h"

#include "daemon/backoff.h"
#include "daemon/guest_conf.h"

static const enum greason reasons[] = {GR_NEVER_STARTED, GR_GUEST_SHUTDOWN, GR_STOPPED, GR_KILLED,
	GR_CRASHED, GR_PANICKED, GR_HOST_SHUTDOWN, GR_START_FAILED, GR_LOST};

/* Whether an end with this reason is followed by a start. */
static bool
again(int policy, enum greason reason, bool asked, bool automatic)
{
	struct backoff backoff = {0};
	struct backoff_end end = {
		.reason = reason, .asked = asked, .automatic = automatic, .now = 100};

	return backoff_plan(&backoff, policy, &end) >= 0;
}

static void
policies(void **state)
{
	for (size_t i = 0; i < cij_array_size(reasons); i++) {
		enum greason r = reasons[i];
		bool failed = r == GR_CRASHED || r == GR_PANICKED || r == GR_LOST;

		assert_false(again(RESTART_NO, r, false, true));
		assert_int_equal(again(RESTART_ON_FAILURE, r, false, false), failed);
		assert_false(again(RESTART_ON_FAILURE, r, true, false));
		assert_false(again(RESTART_ALWAYS, r, true, true));
		assert_int_equal(again(RESTART_ALWAYS, r, false, false),
			r != GR_HOST_SHUTDOWN && r != GR_START_FAILED);
	}
	/* A start that the daemon made by itself and that failed is tried again; a user's is not.
	 */
	assert_true(again(RESTART_ON_FAILURE, GR_START_FAILED, false, true));
	assert_true(again(RESTART_ALWAYS, GR_START_FAILED, false, true));
}

static void
delays_double_to_a_minute(void **state)
{
	static const double delays[] = {1, 2, 4, 8, 16, 32, 60, 60};
	struct backoff backoff = {0};
	struct backoff_end end = {.reason = GR_CRASHED, .now = 1000, .ran = 200};

	/* Far enough apart that it is never given up. */
	for (size_t i = 0; i < cij_array_size(delays); i++) {
		assert_true(backoff_plan(&backoff, RESTART_ON_FAILURE, &end) == delays[i]);
		end.now += 200;
	}
	/* One that lasted begins anew. */
	end.ran = BACKOFF_WINDOW_SECONDS;
	end.now += BACKOFF_WINDOW_SECONDS;
	assert_true(backoff_plan(&backoff, RESTART_ON_FAILURE, &end) == 1);
	assert_false(backoff.gave_up);
}

static void
the_fifth_failure_within_ten_minutes_ends_it(void **state)
{
	struct backoff backoff = {0};
	struct backoff_end end = {.reason = GR_CRASHED, .now = 1000};

	for (int i = 0; i < 4; i++, end.now += 100)
		assert_true(backoff_plan(&backoff, RESTART_ON_FAILURE, &end) >= 0);
	end.now = 1000 + BACKOFF_WINDOW_SECONDS;
	assert_true(backoff_plan(&backoff, RESTART_ON_FAILURE, &end) < 0);
	assert_true(backoff.gave_up);
}

static void
shutdowns_are_no_failures(void **state)
{
	struct backoff backoff = {0};
	struct backoff_end end = {.reason = GR_GUEST_SHUTDOWN, .now = 1000};

	for (int i = 0; i < 100; i++)
		assert_true(backoff_plan(&backoff, RESTART_ALWAYS, &end) >= 0);
	assert_false(backoff.gave_up);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(policies),
		cmocka_unit_test(delays_double_to_a_minute),
		cmocka_unit_test(the_fifth_failure_within_ten_minutes_ends_it),
		cmocka_unit_test(shutdowns_are_no_failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
