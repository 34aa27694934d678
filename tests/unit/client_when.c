/* client/when: moments as people write them. */
#include "tests/unit/unit.h"

#include "client/when.h"

/* 2026-03-10T15:00:00Z, which is 16:00 in Berlin, in winter time. */
#define NOW 1773154800

static int64_t
parse(const char *text, bool ago)
{
	struct cij_error err = CIJ_ERROR_INIT;
	struct when when;

	if (when_parse(text, NOW, &when, &err) < 0)
		fail_msg("%s: %s", text, err.desc);
	assert_int_equal(when.ago, ago);
	return when.usec;
}

static void
refused(const char *text)
{
	struct cij_error err = CIJ_ERROR_INIT;
	struct when when;

	if (when_parse(text, NOW, &when, &err) == 0)
		fail_msg("'%s' was taken", text);
	assert_int_equal(err.class, CIJ_E_BAD_REQUEST);
	assert_has(err.desc, "2026-11-22T10:40:05Z");
}

#define SEC INT64_C(1000000)

static void
spans(void **state)
{
	assert_int_equal(parse("10m", true), 600 * SEC);
	assert_int_equal(parse("0s", true), 0);
	assert_int_equal(parse("1h30m", true), 5400 * SEC);
	assert_int_equal(parse("2d", true), 172800 * SEC);
	assert_int_equal(parse("1w", true), 604800 * SEC);
	refused("10");
	refused("m");
	refused("10x");
	refused("-10m");
	refused("10m ");
	refused("99999999999999999999w");
	refused("");
}

static void
times_of_today(void **state)
{
	assert_int_equal(parse("10:40", false), (NOW - 5 * 3600 - 20 * 60) * SEC);
	assert_int_equal(parse("10:40:05", false), (NOW - 5 * 3600 - 20 * 60 + 5) * SEC);
	assert_int_equal(parse("16:00", false), NOW * SEC);
	/* Not yet: it was yesterday's. */
	assert_int_equal(parse("16:01", false), (NOW + 60 - 86400) * SEC);
	refused("24:00");
	refused("10:60");
	refused("10:4");
	refused("1:40");
	refused("10:40x");
}

static void
dates(void **state)
{
	assert_int_equal(parse("2026-03-10T15:00:00Z", false), NOW * SEC);
	assert_int_equal(parse("2026-03-10t15:00:00z", false), NOW * SEC);
	assert_int_equal(parse("2026-03-10T15:00:00.25Z", false), NOW * SEC + SEC / 4);
	assert_int_equal(parse("2026-03-10T17:30:00+02:30", false), NOW * SEC);
	assert_int_equal(parse("2026-03-10T14:00:00-0100", false), NOW * SEC);
	assert_int_equal(parse("2026-03-10 16:00", false), NOW * SEC);
	assert_int_equal(parse("2026-03-10T16:00:00", false), NOW * SEC);
	assert_int_equal(parse("2026-03-10", false), (NOW - 16 * 3600) * SEC);
	/* in summer time */
	assert_int_equal(parse("2026-07-01T02:00:00", false), parse("2026-07-01T00:00:00Z", false));
	assert_int_equal(parse("2024-02-29", false), parse("2024-02-28T23:00:00Z", false));
	refused("2026-02-29");
	refused("2026-04-31");
	refused("2026-13-01");
	refused("2026-00-01");
	refused("2026-03-10T");
	refused("2026-03-10T15:00:00.Z");
	refused("2026-03-10T15:00:00Zx");
	refused("2026-03-10T15:00:00+2");
	refused("2026-03-10T15:00:00+25:00");
	refused("yesterday");
}

static void
written(void **state)
{
	char buf[40];

	assert_string_equal(
		when_text(NOW * SEC + 123456, buf, sizeof(buf)), "2026-03-10T16:00:00.123+01:00");
	assert_string_equal(when_text(-1, buf, sizeof(buf)), "1970-01-01T00:59:59.999+01:00");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spans),
		cmocka_unit_test(times_of_today),
		cmocka_unit_test(dates),
		cmocka_unit_test(written),
	};

	/* Berlin's rules, without needing its file. */
	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
