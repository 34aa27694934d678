/* daemon/guest_conf_apply: dotted keys put into guest.json. */
#include "tests/unit/unit.h"

#include "daemon/guest_conf.h"

static void
applies(const char *before, const char *changes, const char *after)
{
	_cleanup_json_ struct json_object *obj = json(before), *by = json(changes);
	struct cij_error err;

	if (guest_conf_apply(obj, by, &err) < 0)
		fail_msg("%s: %s", changes, err.desc);
	assert_json(obj, after);
}

static void
refused(const char *before, const char *changes, const char *desc)
{
	_cleanup_json_ struct json_object *obj = json(before), *by = json(changes);
	struct cij_error err;

	assert_int_equal(guest_conf_apply(obj, by, &err), -1);
	assert_int_equal(err.class, CIJ_E_BAD_REQUEST);
	assert_string_equal(err.desc, desc);
}

static void
plain_keys(void **state)
{
	applies("{}", "{'memory':'4G'}", "{'memory':'4G'}");
	applies("{'memory':'2G','cpus':1}", "{'memory':'4G'}", "{'memory':'4G','cpus':1}");
	applies("{'memory':'2G','cpus':1}", "{'memory':null}", "{'cpus':1}");
	applies("{}", "{'memory':null}", "{}");
	applies("{'a':1}", "{}", "{'a':1}");
	applies("{}", "{'share':['anna'],'cpus':4}", "{'share':['anna'],'cpus':4}");
}

static void
nested_keys(void **state)
{
	applies("{}", "{'ssh.user':'anna'}", "{'ssh':{'user':'anna'}}");
	applies("{'ssh':{'port':1}}", "{'ssh.user':'anna'}", "{'ssh':{'port':1,'user':'anna'}}");
	applies("{'ssh':{'port':1,'user':'x'}}", "{'ssh.user':null}", "{'ssh':{'port':1}}");
	applies("{}", "{'ssh.user':null}", "{}");
	applies("{'ssh':{}}", "{'ssh':{'user':'x'}}", "{'ssh':{'user':'x'}}");
}

static void
drives_by_id_and_by_index(void **state)
{
	const char *two = "{'devices':[{'id':'a','mdts':1},{'id':'b'}]}";

	applies(two, "{'devices.a.mdts':7}", "{'devices':[{'id':'a','mdts':7},{'id':'b'}]}");
	applies(two, "{'devices.1.mdts':7}",
		"{'devices':[{'id':'a','mdts':1},{'id':'b','mdts':7}]}");
	applies(two, "{'devices.a':null}", "{'devices':[{'id':'b'}]}");
	applies(two, "{'devices.0':null}", "{'devices':[{'id':'b'}]}");
	applies(two, "{'devices.c':null}", two);
	applies(two, "{'devices.9':null}", two);
	applies(two, "{'devices.c.x':null}", two);
	applies(two, "{'devices.a.mdts':null}", "{'devices':[{'id':'a'},{'id':'b'}]}");
	applies(two, "{'devices.b':{'id':'b','type':'nvme'}}",
		"{'devices':[{'id':'a','mdts':1},{'id':'b','type':'nvme'}]}");
	applies(two, "{'devices':null}", "{}");
}

static void
drives_are_added(void **state)
{
	applies("{}", "{'devices.nvme0.type':'nvme','devices.nvme0.size':'8G'}",
		"{'devices':[{'id':'nvme0','type':'nvme','size':'8G'}]}");
	applies("{'devices':[]}", "{'devices.x':{'type':'nvme'}}",
		"{'devices':[{'type':'nvme','id':'x'}]}");
	applies("{'devices':[]}", "{'devices.0':{'id':'x'}}", "{'devices':[{'id':'x'}]}");
	applies("{}", "{'forward.0.host':80,'forward.0.guest':80}",
		"{'forward':[{'host':80,'guest':80}]}");
	applies("{}", "{'share.0':'anna','share.1':'@lab'}", "{'share':['anna','@lab']}");
	applies("{}", "{'extra_args.0':'-rtc'}", "{'extra_args':['-rtc']}");
}

static void
bad_keys_are_named(void **state)
{
	refused("{}", "{'':1}", "key '' has an empty part");
	refused("{}", "{'a..b':1}", "key 'a..b' has an empty part");
	refused("{}", "{'a.':1}", "key 'a.' has an empty part");
	refused("{}", "{'a.b.c.d.e.f.g.h.i':1}", "key 'a.b.c.d.e.f.g.h.i' has too many parts");
	refused("{'memory':'2G'}", "{'memory.x':1}",
		"key 'memory.x' goes into something that is no object");
	refused("{'devices':[]}", "{'devices.1':{}}",
		"key 'devices.1' has an index behind the end");
	refused("{'devices':[]}", "{'devices.5.id':'x'}",
		"key 'devices.5.id' has an index behind the end");
	refused("{'devices':[]}", "{'devices.x':1}", "key 'devices.x' names nothing that is there");
	refused("{'share':['a']}", "{'share.b':'c'}", "key 'share.b' names nothing that is there");
	refused("{'share':['a']}", "{'share.0.x':1}",
		"key 'share.0.x' goes into something that is no object");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_keys),
		cmocka_unit_test(nested_keys),
		cmocka_unit_test(drives_by_id_and_by_index),
		cmocka_unit_test(drives_are_added),
		cmocka_unit_test(bad_keys_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
