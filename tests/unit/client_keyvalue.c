/* client/keyvalue: KEY=VALUE and --device as JSON. */
#include "tests/unit/unit.h"

#include "client/keyvalue.h"

static const struct call no_call;

static void
value(const char *text, const char *want)
{
	_cleanup_json_ struct json_object *obj = value_of(text, strlen(text));

	assert_json(obj, want);
}

static void
json_where_it_parses_else_a_string(void **state)
{
	value("7", "7");
	value("-1.5", "-1.5");
	value("true", "true");
	value("null", "null");
	value("\"7\"", "'7'");
	value("[1,2]", "[1,2]");
	value("{\"a\":1}", "{'a':1}");
	value("4G", "'4G'");
	value("", "''");
	value("a b", "'a b'");
	value("[1,", "'[1,'");
	value("007", "'007'");
	value("NaN", "'NaN'");
	value("Infinity", "'Infinity'");
	value("root=/dev/vda1 console=ttyS0", "'root=/dev/vda1 console=ttyS0'");
}

static void
keys_and_values(void **state)
{
	_cleanup_json_ struct json_object *obj = json_object_new_object();
	struct cij_error err;

	assert_int_equal(keyvalue_add(&no_call, obj, "memory=4G", &err), 0);
	assert_int_equal(keyvalue_add(&no_call, obj, "devices.nvme0.mdts=7", &err), 0);
	assert_int_equal(keyvalue_add(&no_call, obj, "kernel.append=a=b", &err), 0);
	assert_int_equal(keyvalue_add(&no_call, obj, "share=null", &err), 0);
	assert_int_equal(keyvalue_add(&no_call, obj, "memory=2G", &err), 0);
	assert_json(obj, "{'devices.nvme0.mdts':7,'kernel.append':'a=b','share':null,"
			 "'memory':'2G'}");
	assert_int_equal(keyvalue_add(&no_call, obj, "memory", &err), -1);
	assert_int_equal(err.class, CIJ_E_USAGE);
	assert_string_equal(err.desc, "'memory' is not KEY=VALUE");
	assert_int_equal(keyvalue_add(&no_call, obj, "=1", &err), -1);
	assert_int_equal(keyvalue_add(&no_call, obj, "guest=other", &err), -1);
	assert_string_equal(err.desc, "'guest' is no key of guest.json");
}

/* The array "devices" of these --device options. */
static int
devices(const char *const *texts, size_t n, struct json_object **list, struct cij_error *err)
{
	static const struct opt option = {"device", 0, OPT_VALUE, "X", "x"};
	struct given given[8];
	struct call call = {.given = given, .n_given = n};

	for (size_t i = 0; i < n; i++)
		given[i] = (struct given){&option, texts[i]};
	return devices_of(&call, list, err);
}

static void
devices_become_objects(void **state)
{
	static const char *const texts[] = {"ocssd,num_grp=2,early_reset=true", "nvme,size=8G",
		"zns,id=nvme0,size=4G", "nvme,inject=[{\"a\":1,\"b\":2},3],size=\"1,2\""};
	_cleanup_json_ struct json_object *list = NULL;
	struct cij_error err;

	assert_int_equal(devices(texts, cij_array_size(texts), &list, &err), 0);
	/* Ids that are given are not given again. */
	assert_json(list, "[{'id':'nvme1','type':'ocssd','num_grp':2,'early_reset':true},"
			  "{'id':'nvme2','type':'nvme','size':'8G'},"
			  "{'id':'nvme0','type':'zns','size':'4G'},"
			  "{'id':'nvme3','type':'nvme','inject':[{'a':1,'b':2},3],'size':'1,2'}]");
}

static void
no_device_is_no_list(void **state)
{
	struct json_object *list;
	struct cij_error err;

	assert_int_equal(devices(NULL, 0, &list, &err), 0);
	assert_null(list);
}

static void
bad_devices_are_named(void **state)
{
	static const struct {
		const char *text, *desc;
	} bad[] = {
		{"", "a device is TYPE[,KEY=VALUE…], as in 'nvme,size=8G', not ''"},
		{",size=1", "a device is TYPE[,KEY=VALUE…], as in 'nvme,size=8G', not ',size=1'"},
		{"size=8G", "a device is TYPE[,KEY=VALUE…], as in 'nvme,size=8G', not 'size=8G'"},
		{"nvme,size", "device nvme: 'size' is not KEY=VALUE"},
		{"nvme,", "device nvme: '' is not KEY=VALUE"},
		{"nvme,=1", "device nvme: '=1' is not KEY=VALUE"},
		{"nvme,a=1,,b=2", "device nvme: '' is not KEY=VALUE"},
	};

	for (size_t i = 0; i < cij_array_size(bad); i++) {
		struct json_object *list;
		struct cij_error err;

		assert_int_equal(devices(&bad[i].text, 1, &list, &err), -1);
		assert_int_equal(err.class, CIJ_E_USAGE);
		assert_string_equal(err.desc, bad[i].desc);
		assert_null(list);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(json_where_it_parses_else_a_string),
		cmocka_unit_test(keys_and_values),
		cmocka_unit_test(devices_become_objects),
		cmocka_unit_test(no_device_is_no_list),
		cmocka_unit_test(bad_devices_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
