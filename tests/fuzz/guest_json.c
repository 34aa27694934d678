/* guest.json: decoded, changed by dotted keys, and made into an argument vector for each dialect.
 */
#include <stdint.h>

#include "daemon/argv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
build(const struct guest_conf *conf, enum dialect dialect)
{
	const struct qemu_caps caps = {.dialect = dialect,
		.nvme = true,
		.nvme_drive = dialect != DIALECT_OCSSD_NS,
		.nvme_ns = dialect == DIALECT_OCSSD_NS || dialect == DIALECT_UPSTREAM,
		.nvme_ns_zoned = dialect == DIALECT_UPSTREAM,
		.nvme_mdts = true};
	const struct argv_input in = {.qemu = "/q",
		.name = "g",
		.uuid = "u",
		.conf = conf,
		.caps = &caps,
		.accel_why = "",
		.run = 1,
		.boot = conf->boot.image ? conf->boot.image : "boot.img",
		.boot_format = "raw"};
	struct cij_error err;
	struct argv argv;

	if (argv_build(&in, &argv, &err) == 0 && argv.items.n != argv.why.n)
		abort();
	argv_clear(&argv);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_problems_ struct cij_problems problems = {0};
	_cleanup_json_ struct json_object *json = cij_json_parse(
		(const char *)data, size, 16, NULL);
	struct guest_conf conf;
	struct cij_error err;

	if (!json_object_is_type(json, json_type_object))
		return 0;
	if (guest_conf_decode(&conf, json, &problems) == 0)
		for (enum dialect d = DIALECT_UPSTREAM; d <= DIALECT_OCSSD_DRIVE; d++)
			build(&conf, d);
	else if (problems.n == 0)
		abort();
	guest_conf_clear(&conf);
	/* The same text as changes of what it has under "base". */
	struct json_object *base = cij_json_get(json, "base");
	if (json_object_is_type(base, json_type_object)) {
		_cleanup_json_ struct json_object *copy = NULL;

		json_object_deep_copy(base, &copy, NULL);
		guest_conf_apply(copy, json, &err);
	}
	return 0;
}
