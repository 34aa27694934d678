/* daemon/qmp_policy: who may give QEMU which command. */
#include "tests/unit/unit.h"

#include "daemon/qmp_policy.h"

static const struct qmp_rights view = {ACCESS_VIEW, false}, operate = {ACCESS_OPERATE, false},
			       own = {ACCESS_OWN, false}, look = {ACCESS_OWN, true};

/* The error's class: CIJ_E_NONE for what may pass. */
static enum cij_error_class
qmp(const struct qmp_rights *rights, const char *name, const char *arguments)
{
	struct cij_error err = CIJ_ERROR_INIT;
	struct span args = {arguments, arguments ? strlen(arguments) : 0};
	int rc = qmp_policy_check(rights, (struct span){name, strlen(name)}, args, &err);

	assert_int_equal(rc, err.class == CIJ_E_NONE ? 0 : -1);
	return err.class;
}

static enum cij_error_class
hmp(const struct qmp_rights *rights, const char *line)
{
	struct cij_error err = CIJ_ERROR_INIT;
	_cleanup_json_ struct json_object *obj = json_object_new_object();

	cij_json_add_str(obj, "command-line", line);
	qmp_policy_check_hmp(rights, line, &err);
	/* Inside QMP it is the same line. */
	assert_int_equal(
		qmp(rights, "human-monitor-command", json_object_to_json_string(obj)), err.class);
	return err.class;
}

static void
owners(void **state)
{
	assert_int_equal(qmp(&own, "query-status", NULL), CIJ_E_NONE);
	assert_int_equal(qmp(&own, "quit", NULL), CIJ_E_NONE);
	assert_int_equal(qmp(&own, "device_add", "{\"driver\": \"nvme\"}"), CIJ_E_NONE);
	assert_int_equal(qmp(&own, "no-such-command", NULL), CIJ_E_NONE); /* QEMU's to say */
	assert_int_equal(qmp(&own, "human-monitor-command", NULL), CIJ_E_NONE);
	assert_int_equal(hmp(&own, "device_add nvme"), CIJ_E_NONE);
	assert_int_equal(hmp(&own, ""), CIJ_E_NONE);
}

static void
operators(void **state)
{
	static const char *const may[] = {"query-status", "query-block", "query-", "stop", "cont",
		"quit", "system_reset", "system_powerdown", "system_wakeup"};
	static const char *const may_not[] = {"device_add", "screendump", "xquery-status", "Stop",
		"stop ", "object-add", "blockdev-add", "x-query-rdma", "memsave"};
	static const char *const lines[] = {"", " ", "stop", "s", "c", "cont", "q", "quit",
		"system_powerdown", "\tsystem_reset\t"};
	static const char *const no_lines[] = {"device_add nvme", "infox", "stop/x", "x /4x 0",
		"screendump x", "pmemsave 0 1 x", "info status", "help", "?"};

	for (size_t i = 0; i < cij_array_size(may); i++)
		assert_int_equal(qmp(&operate, may[i], NULL), CIJ_E_NONE);
	for (size_t i = 0; i < cij_array_size(may_not); i++)
		assert_int_equal(qmp(&operate, may_not[i], NULL), CIJ_E_DENIED);
	for (size_t i = 0; i < cij_array_size(lines); i++)
		assert_int_equal(hmp(&operate, lines[i]), CIJ_E_NONE);
	for (size_t i = 0; i < cij_array_size(no_lines); i++)
		if (strcmp(no_lines[i], "stop/x") != 0)
			assert_int_equal(hmp(&operate, no_lines[i]), CIJ_E_DENIED);
}

static void
viewers(void **state)
{
	assert_int_equal(qmp(&view, "query-status", NULL), CIJ_E_DENIED);
	assert_int_equal(qmp(&view, "quit", NULL), CIJ_E_DENIED);
	assert_int_equal(hmp(&view, "info status"), CIJ_E_DENIED);
	assert_int_equal(hmp(&view, "system_powerdown"), CIJ_E_DENIED);
}

static void
read_only(void **state)
{
	assert_int_equal(qmp(&look, "query-status", NULL), CIJ_E_NONE);
	assert_int_equal(hmp(&look, "info status"), CIJ_E_DENIED);
	assert_int_equal(qmp(&look, "stop", NULL), CIJ_E_DENIED);
	assert_int_equal(qmp(&look, "device_add", NULL), CIJ_E_DENIED);
	assert_int_equal(hmp(&look, "stop"), CIJ_E_DENIED);
}

static void
nobody_breaks_supervision(void **state)
{
	static const char *const lines[] = {"migrate tcp:x:1", "  migrate -d exec:x",
		"migrate_incoming x", "migrate/x", "chardev-remove qmp0", "chardev-remove con0",
		"chardev-change con0 null", "chardev-remove \"qmp0\"", "chardev-remove qm\"p0\"",
		"chardev-remove \\qmp0", "\vchardev-remove\r\fqmp0"};

	assert_int_equal(qmp(&own, "migrate", "{\"uri\": \"exec:x\"}"), CIJ_E_NOT_SUPPORTED);
	assert_int_equal(qmp(&own, "migrate-incoming", NULL), CIJ_E_NOT_SUPPORTED);
	assert_int_equal(qmp(&own, "set-action", NULL), CIJ_E_NOT_SUPPORTED);
	assert_int_equal(qmp(&own, "add_client", NULL), CIJ_E_NOT_SUPPORTED);
	assert_int_equal(qmp(&own, "chardev-remove", "{\"id\": \"qmp0\"}"), CIJ_E_NOT_SUPPORTED);
	assert_int_equal(
		qmp(&own, "chardev-remove", "{\"id\": \"qm\\u0070\\u0030\"}"), CIJ_E_NOT_SUPPORTED);
	assert_int_equal(qmp(&own, "chardev-change", "{\"id\": \"con0\", \"backend\": {}}"),
		CIJ_E_NOT_SUPPORTED);
	for (size_t i = 0; i < cij_array_size(lines); i++)
		assert_int_equal(hmp(&own, lines[i]), CIJ_E_NOT_SUPPORTED);
	/* What is the owner's own is theirs. */
	assert_int_equal(qmp(&own, "chardev-remove", "{\"id\": \"mine\"}"), CIJ_E_NONE);
	assert_int_equal(qmp(&own, "chardev-add", "{\"id\": \"x\"}"), CIJ_E_NONE);
	assert_int_equal(hmp(&own, "chardev-remove mine"), CIJ_E_NONE);
	/* The text that QEMU would see ends elsewhere. */
	assert_int_equal(
		qmp(&operate, "human-monitor-command", "{\"command-line\": \"info\\u0000 block\"}"),
		CIJ_E_BAD_REQUEST);
}

static void
what_the_journal_tells(void **state)
{
	static const struct {
		const char *name, *arguments, *want;
	} cases[] = {
		{"query-block", "", NULL},
		{"stop", "", "qmp 'stop'"},
		{"human-monitor-command", "{\"command-line\": \" info block\"}", NULL},
		{"human-monitor-command", "{\"command-line\": \"stop\\u001b[2J\"}",
			"hmp 'stop?[2J'"},
		{"human-monitor-command", "{}", NULL},
	};

	for (size_t i = 0; i < cij_array_size(cases); i++) {
		_cleanup_free_ char *said = qmp_policy_describe(
			(struct span){cases[i].name, strlen(cases[i].name)},
			(struct span){cases[i].arguments, strlen(cases[i].arguments)});

		if (cases[i].want)
			assert_string_equal(said, cases[i].want);
		else
			assert_null(said);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(owners),
		cmocka_unit_test(operators),
		cmocka_unit_test(viewers),
		cmocka_unit_test(read_only),
		cmocka_unit_test(nobody_breaks_supervision),
		cmocka_unit_test(what_the_journal_tells),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
