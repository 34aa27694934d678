/* What the unit tests share: cmocka with its includes, JSON from text, a folder of their own. */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "proto/json.h"

/* The value of @text, which must be JSON; single quotes stand for double ones. */
static inline struct json_object *
json(const char *text)
{
	_cleanup_free_ char *copy = strdup(text);
	struct cij_error err = CIJ_ERROR_INIT;
	struct json_object *obj;

	for (char *p = copy; *p; p++)
		if (*p == '\'')
			*p = '"';
	obj = cij_json_parse(copy, strlen(copy), 1100, &err);
	if (err.class != CIJ_E_NONE)
		fail_msg("the test's own JSON: %s: %s", err.desc, copy);
	return obj;
}

/* Whether @obj is the same JSON as @text (single quotes as above, members in the same order). */
static inline void
assert_json(struct json_object *obj, const char *text)
{
	_cleanup_json_ struct json_object *want = json(text);

	assert_string_equal(json_object_to_json_string_ext(obj, JSON_C_TO_STRING_PLAIN),
		json_object_to_json_string_ext(want, JSON_C_TO_STRING_PLAIN));
}

static inline void
assert_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("'%s' is not in '%s'", part, text);
}

/* A new folder, removed again by folder_remove(). */
static inline char *
folder_make(void)
{
	char *path = strdup("/tmp/cij-unit-XXXXXX");

	assert_non_null(path);
	assert_non_null(mkdtemp(path));
	return path;
}

static inline void
folder_remove(char *path)
{
	char command[256];

	assert_int_equal(strncmp(path, "/tmp/cij-unit-", 14), 0);
	snprintf(command, sizeof(command), "rm -rf '%s'", path);
	assert_int_equal(system(command), 0);
	free(path);
}

/* Opens the file @name in @folder, made where @flags say so. */
static inline int
folder_open(const char *folder, const char *name, int flags)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, flags | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	return fd;
}

#endif
