/* daemon/dialect: the builds told apart by what they answer, and what each can emulate. */
#include "tests/unit/recorded.h"

static void
builds_are_told_apart(void **state)
{
	struct qemu_caps v3 = recorded_caps("qemu-nvme-3.1.50"),
			 v4 = recorded_caps("qemu-nvme-4.1.50"),
			 refenv = recorded_caps("qemu-refenv"),
			 upstream = recorded_caps("qemu-upstream-7.2");

	assert_string_equal(v3.version, "3.1.50");
	assert_int_equal(v3.dialect, DIALECT_LIGHTNVM);
	assert_true(v3.nvme && v3.nvme_drive && v3.nvme_mdts && v3.nvme_dialect);
	assert_false(v3.nvme_ns || v3.nvme_ns_zoned);

	assert_string_equal(v4.version, "4.1.50");
	assert_int_equal(v4.dialect, DIALECT_OCSSD_NS);
	assert_true(v4.nvme && v4.nvme_mdts && v4.nvme_ns && v4.ocssd_mdts);
	assert_false(v4.nvme_drive || v4.nvme_ns_zoned || v4.nvme_dialect);

	assert_int_equal(refenv.dialect, DIALECT_OCSSD_DRIVE);
	assert_true(refenv.nvme_drive && refenv.ocssd_mdts && refenv.pvpanic);
	assert_false(refenv.pvpanic_pci || refenv.nvme_ns);

	assert_int_equal(upstream.dialect, DIALECT_UPSTREAM);
	assert_true(upstream.nvme && upstream.nvme_ns && upstream.nvme_ns_zoned);
	assert_true(upstream.pvpanic && upstream.pvpanic_pci && upstream.nvme_mdts);
}

static void
the_order_of_the_answers_does_not_matter(void **state)
{
	_cleanup_json_ struct json_object *ocssd = json("[{'name':'mdts'},{'name':'drive'}]");
	_cleanup_json_ struct json_object *nvme = json("[{'name':'drive'},{'other':1},3,null]");
	_cleanup_json_ struct json_object *odd = json("{'name':'drive'}");
	struct qemu_caps caps = {0};

	dialect_take(&caps, "ocssd", ocssd);
	dialect_take(&caps, "ocssd-ns", NULL);
	dialect_take(&caps, "nvme", nvme);
	dialect_take(&caps, "nvme-ns", odd); /* no array: no answer */
	dialect_take(&caps, "unheard-of", nvme);
	assert_int_equal(caps.dialect, DIALECT_OCSSD_DRIVE);
	assert_true(caps.nvme && caps.nvme_drive);
	assert_false(caps.nvme_ns || caps.nvme_mdts);
}

static void
dialects_have_names(void **state)
{
	assert_string_equal(dialect_name(DIALECT_UPSTREAM), "upstream");
	assert_string_equal(dialect_name(DIALECT_LIGHTNVM), "lightnvm");
	assert_string_equal(dialect_name(DIALECT_OCSSD_NS), "ocssd-ns");
	assert_string_equal(dialect_name(DIALECT_OCSSD_DRIVE), "ocssd");
}

static int
kind_of(const char *build, enum device_type type, struct cij_error *err)
{
	struct qemu_caps caps = recorded_caps(build);
	struct device_conf d = {.id = (char *)"d0", .type = type, .sec_size = 4096, .mdts = 7};
	enum image_format format;

	return dialect_check(&caps, &d, "/q/qemu", &format, err) < 0 ? -1 : (int)format;
}

static void
what_each_build_can_emulate(void **state)
{
	struct cij_error err;

	assert_int_equal(kind_of("qemu-nvme-3.1.50", DEVICE_OCSSD, &err), FORMAT_LIGHTNVM);
	assert_int_equal(kind_of("qemu-nvme-4.1.50", DEVICE_OCSSD, &err), FORMAT_OCSSD_NS);
	assert_int_equal(kind_of("qemu-refenv", DEVICE_OCSSD, &err), FORMAT_OCSSD);
	for (size_t i = 0; i < cij_array_size(recorded_builds); i++)
		assert_int_equal(kind_of(recorded_builds[i], DEVICE_NVME, &err), FORMAT_RAW);
	assert_int_equal(kind_of("qemu-upstream-7.2", DEVICE_ZNS, &err), FORMAT_RAW);
}

static void
what_a_build_cannot_is_said_with_the_way_out(void **state)
{
	struct qemu_caps nothing = {.version = "1.0"};
	struct device_conf d = {.id = (char *)"d0", .type = DEVICE_NVME, .mdts = 7};
	enum image_format format;
	struct cij_error err;

	assert_int_equal(kind_of("qemu-upstream-7.2", DEVICE_OCSSD, &err), -1);
	assert_int_equal(err.class, CIJ_E_NOT_SUPPORTED);
	assert_string_equal(err.desc, "drive 'd0': /q/qemu (QEMU 7.2.22) has no Open-Channel SSD");
	assert_has(err.hint, "OpenChannelSSD/qemu-nvme");
	assert_int_equal(kind_of("qemu-nvme-4.1.50", DEVICE_ZNS, &err), -1);
	assert_string_equal(
		err.desc, "drive 'd0': /q/qemu (QEMU 4.1.50) has no zoned NVMe namespaces");
	assert_has(err.hint, "6.0");
	assert_int_equal(dialect_check(&nothing, &d, "/q/qemu", &format, &err), -1);
	assert_string_equal(err.desc, "drive 'd0': /q/qemu (QEMU 1.0) has no NVMe drive");
}

static void
commas_are_doubled(void **state)
{
	static const char *const texts[][2] = {
		{"", ""}, {"plain", "plain"}, {"a,b", "a,,b"}, {",,", ",,,,"}, {"a,", "a,,"}};

	for (size_t i = 0; i < cij_array_size(texts); i++) {
		_cleanup_free_ char *escaped = qemu_escape(texts[i][0]);

		assert_string_equal(escaped, texts[i][1]);
	}
}

static void
options_of_an_ocssd_image(void **state)
{
	struct device_conf d = {.num_grp = 2,
		.num_pu = 4,
		.num_chk = 60,
		.num_sec = 4096,
		.sec_size = 512,
		.md_size = 16,
		.ws_min = 4,
		.ws_opt = 8,
		.mw_cunits = 0};
	_cleanup_free_ char *options = dialect_image_options(&d);

	assert_string_equal(options,
		"num_grp=2,num_pu=4,num_chk=60,num_sec=4096,sec_size=512,md_size=16,"
		"ws_min=4,ws_opt=8,mw_cunits=0");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(builds_are_told_apart),
		cmocka_unit_test(the_order_of_the_answers_does_not_matter),
		cmocka_unit_test(dialects_have_names),
		cmocka_unit_test(what_each_build_can_emulate),
		cmocka_unit_test(what_a_build_cannot_is_said_with_the_way_out),
		cmocka_unit_test(commas_are_doubled),
		cmocka_unit_test(options_of_an_ocssd_image),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
