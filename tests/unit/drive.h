/* Drives as guest.json defines them. */
#ifndef TESTS_UNIT_DRIVE_H
#define TESTS_UNIT_DRIVE_H

#include "daemon/device_conf.h"
#include "tests/unit/unit.h"

/* The drive of guest.json's @text, which must be right; to be cleared by the caller. */
static inline void
drive_of(const char *text, struct device_conf *d)
{
	_cleanup_json_ struct json_object *obj = json(text);
	_cleanup_problems_ struct cij_problems problems = {0};

	if (device_conf_decode(d, obj, "d", &problems) < 0)
		fail_msg("%s %s", problems.items[0].path, problems.items[0].desc);
}

/* Decodes the wrong drive @text, whose first problem must be @desc at @path. How many it has. */
static inline size_t
drive_bad(const char *text, const char *path, const char *desc)
{
	_cleanup_json_ struct json_object *obj = json(text);
	_cleanup_problems_ struct cij_problems problems = {0};
	struct device_conf d;

	assert_int_equal(device_conf_decode(&d, obj, "d", &problems), -1);
	assert_string_equal(problems.items[0].path, path);
	assert_string_equal(problems.items[0].desc, desc);
	device_conf_clear(&d);
	return problems.n;
}

#endif
