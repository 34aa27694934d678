/* What the QEMU builds answered to 'device-list-properties', from tests/data, as the probe takes
 * it. */
#ifndef TESTS_RECORDED_H
#define TESTS_RECORDED_H

#include "daemon/dialect.h"
#include "tests/unit/unit.h"

static const char *const recorded_builds[] = {
	"qemu-nvme-3.1.50", "qemu-nvme-4.1.50", "qemu-refenv", "qemu-upstream-7.2"};

/* The abilities of @build, taken from the lines of its transcript. */
static inline struct qemu_caps
recorded_caps(const char *build)
{
	struct qemu_caps caps = {0};
	char path[512], type[64] = "", *line = NULL;
	_cleanup_fclose_ FILE *f = NULL;
	size_t room = 0;
	ssize_t len;

	snprintf(path, sizeof(path), TESTS_DIR "/data/%s.qmp", build);
	f = fopen(path, "re");
	assert_non_null(f);
	while ((len = getline(&line, &room, f)) > 0) {
		_cleanup_json_ struct json_object *msg = cij_json_parse(
			line + 2, len - 2, 64, NULL);
		struct json_object *version = cij_json_get(
			cij_json_get(cij_json_get(msg, "QMP"), "version"), "qemu");
		const char *asked = cij_json_str(cij_json_get(msg, "arguments"), "typename");

		if (version)
			snprintf(caps.version, sizeof(caps.version), "%d.%d.%d",
				(int)cij_json_int(version, "major", 0),
				(int)cij_json_int(version, "minor", 0),
				(int)cij_json_int(version, "micro", 0));
		if (line[0] == '<' && *type)
			dialect_take(&caps, type, cij_json_get(msg, "return"));
		snprintf(type, sizeof(type), "%s", line[0] == '>' && asked ? asked : "");
	}
	free(line);
	return caps;
}

#endif
