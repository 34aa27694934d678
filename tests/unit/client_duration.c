/* client/duration: spans of time as people write them. */
#include "tests/unit/unit.h"

#include "client/duration.h"

static void
spans(void **state)
{
	static const struct {
		const char *text;
		int64_t seconds; /* -1: refused */
	} rows[] = {
		{"90", 90},
		{"45s", 45},
		{"30m", 1800},
		{"2h", 7200},
		{"1h30m", 5400},
		{"1d2h3m4s", 93784},
		{"0", 0},
		{"007s", 7},
		{"", -1},
		{"s", -1},
		{"-5", -1},
		{"+5", -1},
		{" 5", -1},
		{"5 ", -1},
		{"1h30", -1}, /* thirty of what */
		{"1.5h", -1},
		{"1w", -1},
		{"0x10", -1},
		{"99999999999999999999", -1},
		{"9999999999999d", -1},
	};

	for (size_t i = 0; i < cij_array_size(rows); i++) {
		int64_t seconds;
		int ret = duration_parse(rows[i].text, &seconds);

		if (ret != (rows[i].seconds < 0 ? -1 : 0) ||
			(ret == 0 && seconds != rows[i].seconds))
			fail_msg("'%s': %d, %lld", rows[i].text, ret, (long long)seconds);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spans),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
