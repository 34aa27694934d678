/* daemon/guest_conf: guest.json's defaults, and each rule with the path and the words of its error.
 */
#include "tests/unit/unit.h"

#include "daemon/guest_conf.h"

#define GiB (1LL << 30)
#define MiB (1LL << 20)

static void
good(struct guest_conf *conf, const char *text)
{
	_cleanup_json_ struct json_object *obj = text ? json(text) : NULL;
	_cleanup_problems_ struct cij_problems problems = {0};

	if (guest_conf_decode(conf, obj, &problems) < 0)
		fail_msg("%s: '%s' %s", text, problems.items[0].path, problems.items[0].desc);
}

/* @text has one problem. */
static void
bad(const char *text, const char *path, const char *desc)
{
	_cleanup_json_ struct json_object *obj = json(text);
	_cleanup_problems_ struct cij_problems problems = {0};
	struct guest_conf conf;

	if (guest_conf_decode(&conf, obj, &problems) == 0)
		fail_msg("%s: taken, but '%s' %s", text, path, desc);
	assert_string_equal(problems.items[0].path, path);
	assert_string_equal(problems.items[0].desc, desc);
	assert_int_equal(problems.n, 1);
	guest_conf_clear(&conf);
}

/* A drive of @type with more members has one problem at devices[0]@where. */
static void
bad_drive(const char *type, const char *members, const char *where, const char *desc)
{
	char text[512], path[64];

	snprintf(text, sizeof(text), "{'devices':[{'id':'d0','type':'%s'%s}]}", type, members);
	snprintf(path, sizeof(path), "devices[0]%s", where);
	bad(text, path, desc);
}

static void
defaults_of_a_guest(void **state)
{
	static const char *const texts[] = {NULL, "{}"};

	for (size_t i = 0; i < cij_array_size(texts); i++) {
		struct guest_conf conf;

		good(&conf, texts[i]);
		assert_true(conf.memory == 2 * GiB);
		assert_int_equal(conf.cpus, 2);
		assert_string_equal(conf.cpu, "max");
		assert_string_equal(conf.machine, "q35");
		assert_int_equal(conf.accel, ACCEL_AUTO);
		assert_null(conf.boot.image);
		assert_null(conf.boot.format);
		assert_null(conf.kernel.image);
		assert_null(conf.kernel.initrd);
		assert_null(conf.kernel.append);
		assert_string_equal(conf.ssh.user, "root");
		assert_int_equal(conf.ssh.port, 0);
		assert_null(conf.ssh.key);
		assert_int_equal(conf.forward.n + conf.devices.n + conf.share.n, 0);
		assert_null(conf.qemu_home);
		assert_true(conf.log.limit == 64 * MiB);
		assert_int_equal(conf.log.keep, 10);
		assert_true(conf.limits.memory_max == CIJ_UNSET);
		assert_true(conf.limits.tasks_max == CIJ_UNSET);
		assert_null(conf.limits.cpu_quota);
		assert_false(conf.lease.reset);
		assert_false(conf.autostart);
		assert_int_equal(conf.restart, RESTART_NO);
		assert_int_equal(conf.extra_args.n, 0);
		guest_conf_clear(&conf);
	}
}

/* The example of the design, word for word. */
static void
a_whole_guest(void **state)
{
	struct guest_conf conf;
	const struct device_conf *d;

	good(&conf,
		"{'memory':'2G','cpus':2,'cpu':'max','machine':'q35','accel':'auto',"
		"'boot':{'image':'boot.qcow2','format':'qcow2'},'kernel':{'image':'bzImage',"
		"'initrd':'initrd.img','append':'root=/dev/vda1 console=ttyS0'},"
		"'ssh':{'user':'root','port':0,'key':'id_ed25519'},"
		"'forward':[{'host':8080,'guest':80}],'devices':["
		"{'id':'nvme0','type':'ocssd','num_grp':2,'num_pu':4,'num_chk':60,'num_sec':4096,"
		"'sec_size':4096,'md_size':16,'ws_min':4,'ws_opt':8,'mw_cunits':24,'mdts':7,"
		"'early_reset':true},{'id':'nvme1','type':'nvme','size':'8G'},"
		"{'id':'nvme2','type':'zns','size':'4G','zone_size':'64M','zone_capacity':'48M',"
		"'max_open':16,'max_active':32}],'qemu_home':'/opt/qemu-nvme',"
		"'log':{'limit':'64M','keep':10},'limits':{'memory_max':'3G','cpu_quota':'200%',"
		"'tasks_max':256},'share':['anna','@storage'],'lease':{'reset':false},"
		"'autostart':false,'restart':'no','extra_args':[]}");
	assert_string_equal(conf.boot.image, "boot.qcow2");
	assert_string_equal(conf.kernel.append, "root=/dev/vda1 console=ttyS0");
	assert_int_equal(((struct forward_conf *)conf.forward.items)[0].guest, 80);
	assert_int_equal(conf.devices.n, 3);
	d = conf.devices.items;
	assert_int_equal(d[0].type, DEVICE_OCSSD);
	assert_true(device_conf_bytes(&d[0]) == 8053063680);
	assert_true(d[0].early_reset);
	assert_true(d[0].size == CIJ_UNSET);
	assert_true(device_conf_bytes(&d[1]) == 8 * GiB);
	assert_true(d[1].num_grp == CIJ_UNSET);
	assert_true(d[2].zone_capacity == 48 * MiB);
	assert_int_equal(d[2].max_active, 32);
	assert_true(conf.limits.memory_max == 3 * GiB);
	assert_string_equal(conf.limits.cpu_quota, "200%");
	assert_string_equal(((char **)conf.share.items)[1], "@storage");
	guest_conf_clear(&conf);
}

static void
defaults_of_the_drives(void **state)
{
	struct guest_conf conf;
	const struct device_conf *d;

	good(&conf, "{'devices':[{'id':'o','type':'ocssd'},{'id':'n','type':'nvme'},"
		    "{'id':'z','type':'zns'},{'id':'e','type':'ocssd','early_reset':false}]}");
	d = conf.devices.items;
	assert_int_equal(d[0].num_grp, 2);
	assert_int_equal(d[0].num_pu, 4);
	assert_int_equal(d[0].num_chk, 60);
	assert_int_equal(d[0].num_sec, 4096);
	assert_int_equal(d[0].sec_size, 4096);
	assert_int_equal(d[0].md_size, 16);
	assert_int_equal(d[0].ws_min, 4);
	assert_int_equal(d[0].ws_opt, 8);
	assert_int_equal(d[0].mw_cunits, 24);
	assert_int_equal(d[0].mdts, 7);
	assert_true(d[0].early_reset);
	assert_true(d[1].size == 8 * GiB);
	assert_int_equal(d[1].mdts, 7);
	assert_true(d[2].size == 4 * GiB);
	assert_true(d[2].zone_size == 64 * MiB);
	assert_true(d[2].zone_capacity == 64 * MiB); /* as the zone's size */
	assert_int_equal(d[2].max_open + d[2].max_active, 0);
	assert_false(d[3].early_reset);
	guest_conf_clear(&conf);
	assert_string_equal(device_type_name(DEVICE_OCSSD), "ocssd");
	assert_string_equal(device_type_name(DEVICE_NVME), "nvme");
	assert_string_equal(device_type_name(DEVICE_ZNS), "zns");
}

static void
a_zone_capacity_follows_the_zones_size(void **state)
{
	struct guest_conf conf;

	good(&conf, "{'devices':[{'id':'z','type':'zns','zone_size':'128M'}]}");
	assert_true(((struct device_conf *)conf.devices.items)->zone_capacity == 128 * MiB);
	guest_conf_clear(&conf);
}

static void
ranges(void **state)
{
	bad("{'memory':0}", "memory", "must be from 1M to 16T");
	bad("{'memory':'17T'}", "memory", "must be from 1M to 16T");
	bad("{'memory':'2 G'}", "memory", "is no size: '2 G'");
	bad("{'memory':2.5}", "memory",
		"must be a size (a number of bytes, or like \"2G\"), not a fraction");
	bad("{'cpus':0}", "cpus", "must be from 1 to 288");
	bad("{'cpus':289}", "cpus", "must be from 1 to 288");
	bad("{'ssh':{'port':65536}}", "ssh.port", "must be from 0 to 65535");
	bad("{'forward':[{'host':0,'guest':1}]}", "forward[0].host", "must be from 1 to 65535");
	bad("{'forward':[{'host':1,'guest':65536}]}", "forward[0].guest",
		"must be from 1 to 65535");
	bad("{'forward':[{'host':1}]}", "forward[0].guest", "is missing");
	bad("{'log':{'limit':1}}", "log.limit", "must be from 64K to 1T");
	bad("{'log':{'keep':0}}", "log.keep", "must be from 1 to 1000");
	bad("{'limits':{'memory_max':'1M'}}", "limits.memory_max", "must be at least 16M");
	bad("{'limits':{'tasks_max':7}}", "limits.tasks_max", "must be from 8 to 1000000");
}

static void
words_and_texts(void **state)
{
	bad("{'accel':'hvf'}", "accel", "is 'hvf', but must be one of: auto, kvm, tcg");
	bad("{'restart':'yes'}", "restart", "is 'yes', but must be one of: no, on-failure, always");
	bad("{'cpu':''}", "cpu", "may not be empty");
	bad("{'machine':''}", "machine", "may not be empty");
	bad("{'boot':{'image':''}}", "boot.image", "may not be empty");
	bad("{'kernel':{'image':''}}", "kernel.image", "may not be empty");
	bad("{'kernel':{'initrd':''}}", "kernel.initrd", "may not be empty");
	bad("{'ssh':{'user':''}}", "ssh.user", "may not be empty");
	bad("{'ssh':{'key':''}}", "ssh.key", "may not be empty");
	bad("{'share':['']}", "share[0]", "may not be empty");
	bad("{'boot':{'format':'vmdk'}}", "boot.format", "must be raw or qcow2");
	bad("{'qemu_home':'qemu'}", "qemu_home", "must be an absolute path");
	bad("{'boot':'boot.img'}", "boot", "must be an object, not a string");
	bad("{'autostart':'no'}", "autostart", "must be true or false, not a string");
	bad("{'extra_args':'-m 1'}", "extra_args", "must be an array, not a string");
	bad("{'cpu':'a\\u0000b'}", "cpu", "has a NUL character in it");
	bad("[]", "", "must be an object, not an array");
}

static void
unknown_keys_have_a_nearest(void **state)
{
	_cleanup_json_ struct json_object *obj = json(
		"{'memroy':'2G','devices':[{'id':'d','type':'ocssd','num_grps':2}],"
		"'boot':{'imgae':'x'},'quux':1}");
	_cleanup_problems_ struct cij_problems problems = {0};
	struct guest_conf conf;

	assert_int_equal(guest_conf_decode(&conf, obj, &problems), -1);
	assert_int_equal(problems.n, 4);
	assert_string_equal(problems.items[0].path, "memroy");
	assert_string_equal(problems.items[0].desc, "is not known here");
	assert_string_equal(problems.items[0].hint, "did you mean 'memory'?");
	assert_string_equal(problems.items[1].path, "devices[0].num_grps");
	assert_string_equal(problems.items[1].hint, "did you mean 'num_grp'?");
	assert_string_equal(problems.items[2].path, "boot.imgae");
	assert_string_equal(problems.items[2].hint, "did you mean 'image'?");
	assert_null(problems.items[3].hint);
	guest_conf_clear(&conf);
}

static void
host_ports_are_taken_once(void **state)
{
	bad("{'forward':[{'host':80,'guest':1},{'host':81,'guest':1},{'host':80,'guest':2}]}",
		"forward[2].host", "is 80, as in forward[0]");
	bad("{'forward':[{'host':80,'guest':1}],'ssh':{'port':80}}", "ssh.port",
		"is 80, as in forward[0]");
}

static void
ids_of_drives(void **state)
{
	static const char *const ok[] = {"a", "nvme0", "A_b-c", "x1234567890123456789"};
	static const char *const not_ok[] = {"", "0a", "-a", "_a", "a.b", "a/b", "a,b", "a b",
		"x12345678901234567890", "n\xc3\xa4"};
	char text[128];

	for (size_t i = 0; i < cij_array_size(ok); i++) {
		struct guest_conf conf;

		snprintf(text, sizeof(text), "{'devices':[{'id':'%s','type':'nvme'}]}", ok[i]);
		good(&conf, text);
		guest_conf_clear(&conf);
	}
	for (size_t i = 0; i < cij_array_size(not_ok); i++) {
		snprintf(text, sizeof(text), "{'devices':[{'id':'%s','type':'nvme'}]}", not_ok[i]);
		bad(text, "devices[0].id",
			"must start with a letter and go on with at most 19 letters, digits, '_' "
			"and '-'");
	}
	bad("{'devices':[{'type':'nvme'}]}", "devices[0].id", "is missing");
	bad("{'devices':[{'id':'x'}]}", "devices[0].type", "is missing");
	bad("{'devices':[{'id':'x','type':'nvme'},{'id':'y','type':'nvme'},"
	    "{'id':'x','type':'zns'}]}",
		"devices[2]", "has the id 'x' of devices[0]");
	bad("{'devices':[{'id':'x','type':'ssd'}]}", "devices[0].type",
		"is 'ssd', but must be one of: ocssd, nvme, zns");
}

/* Their files would be the guest's own boot.img and initrd.img. */
static void
drives_do_not_take_the_guests_own_files(void **state)
{
	bad("{'devices':[{'id':'boot','type':'nvme'}]}", "devices[0].id",
		"may not be 'boot': its file would be the guest's 'boot.img'");
	bad("{'devices':[{'id':'initrd','type':'nvme'}]}", "devices[0].id",
		"may not be 'initrd': its file would be the guest's 'initrd.img'");
}

/* QEMU's ids of root ports, and of what stands behind a drive 'x': no other drive has them. */
static void
drives_do_not_take_the_daemons_own_ids(void **state)
{
	static const char *const taken[] = {"x-ns1", "nvme0-ns1", "x-subsys", "port0", "port17"};
	static const char *const free_ones[] = {
		"x-ns2", "x-ns", "ns1", "subsys", "portal", "x-port1"};
	char text[128], desc[128];
	struct guest_conf conf;

	for (size_t i = 0; i < cij_array_size(taken); i++) {
		snprintf(text, sizeof(text),
			"{'devices':[{'id':'x','type':'zns'},{'id':'%s','type':'nvme'}]}",
			taken[i]);
		snprintf(desc, sizeof(desc), "is '%s', a name that the daemon uses itself",
			taken[i]);
		bad(text, "devices[1].id", desc);
	}
	for (size_t i = 0; i < cij_array_size(free_ones); i++) {
		snprintf(text, sizeof(text), "{'devices':[{'id':'%s','type':'nvme'}]}",
			free_ones[i]);
		good(&conf, text);
		guest_conf_clear(&conf);
	}
}

static void
numbers_belong_to_a_type(void **state)
{
	bad_drive("nvme", ",'num_grp':2", ".num_grp", "does not belong to a drive of type 'nvme'");
	bad_drive("ocssd", ",'size':'8G'", ".size", "does not belong to a drive of type 'ocssd'");
	bad_drive("nvme", ",'zone_size':'64M'", ".zone_size",
		"does not belong to a drive of type 'nvme'");
	bad_drive("zns", ",'ws_min':4", ".ws_min", "does not belong to a drive of type 'zns'");
	bad_drive("zns", ",'early_reset':true", ".early_reset",
		"does not belong to a drive of type 'zns'");
	bad_drive("nvme", ",'early_reset':false", ".early_reset",
		"does not belong to a drive of type 'nvme'");
	bad_drive("ocssd", ",'max_open':1", ".max_open",
		"does not belong to a drive of type 'ocssd'");
}

static void
geometry(void **state)
{
	struct guest_conf conf;

	bad_drive("ocssd", ",'num_grp':0", ".num_grp", "must be from 1 to 65535");
	bad_drive("ocssd", ",'num_pu':65536", ".num_pu", "must be from 1 to 65535");
	bad_drive("ocssd", ",'num_chk':4294967296", ".num_chk", "must be from 1 to 4294967295");
	bad_drive("ocssd", ",'sec_size':256", ".sec_size", "must be from 512 to 64K");
	bad_drive("ocssd", ",'sec_size':5000", ".sec_size", "is 5000: not a power of two");
	bad_drive("ocssd", ",'md_size':256", ".md_size", "must be from 0 to 255");
	bad_drive("ocssd", ",'ws_min':3", ".ws_opt", "is 8: not a multiple of ws_min, 3");
	bad_drive("ocssd", ",'ws_min':16", ".ws_opt", "is 8: not a multiple of ws_min, 16");
	bad_drive("ocssd", ",'mdts':256", ".mdts", "must be from 0 to 255");
	bad_drive("ocssd",
		",'num_grp':65535,'num_pu':65535,'num_chk':4294967295,'num_sec':4294967295", "",
		"has a geometry that needs 96 address bits: OCSSD 2.0 has 64");
	bad_drive("ocssd", ",'num_grp':65535,'num_pu':65535,'num_chk':524288,'num_sec':32", "",
		"has a geometry of more than 8 EiB");
	good(&conf,
		"{'devices':[{'id':'d','type':'ocssd','num_grp':1,'num_pu':1,'num_chk':1,"
		"'num_sec':1,'sec_size':512,'md_size':0,'ws_min':1,'ws_opt':1,'mw_cunits':0}]}");
	assert_int_equal(device_conf_bytes(conf.devices.items), 512);
	guest_conf_clear(&conf);
}

static void
zones(void **state)
{
	bad_drive("zns", ",'zone_capacity':'65M'", ".zone_capacity", "is over zone_size");
	bad_drive("zns", ",'size':'100M'", ".size", "is not a multiple of zone_size");
	bad_drive("zns", ",'size':'32M'", ".size", "is not a multiple of zone_size");
	bad_drive("zns", ",'max_open':2,'max_active':1", ".max_open", "is over max_active");
	bad_drive("zns", ",'size':'1K'", ".size", "must be from 1M to 256T");
	bad_drive("zns", ",'zone_size':1", ".zone_size", "must be from 4K to 256T");
}

static void
lists_have_limits(void **state)
{
	char text[8192], *p = text;

	p += sprintf(p, "{'devices':[");
	for (int i = 0; i < 17; i++)
		p += sprintf(p, "%s{'id':'d%d','type':'nvme'}", i ? "," : "", i);
	strcpy(p, "]}");
	bad(text, "devices", "may have at most 16 items");
	p = text + sprintf(text, "{'forward':[");
	for (int i = 1; i <= 65; i++)
		p += sprintf(p, "%s{'host':%d,'guest':1}", i > 1 ? "," : "", i);
	strcpy(p, "]}");
	bad(text, "forward", "may have at most 64 items");
}

static void
extra_args_may_not_be_the_daemons_own(void **state)
{
	static const char *const owned[] = {"-qmp", "--qmp", "-pidfile", "-daemonize", "-S", "-m",
		"-accel", "-mon", "-monitor", "-serial", "-name", "-uuid", "-sandbox", "-runas",
		"-kernel", "-append", "-initrd", "-nographic", "-incoming", "-no-shutdown"};
	struct guest_conf conf;
	char text[128], desc[128];

	for (size_t i = 0; i < cij_array_size(owned); i++) {
		snprintf(text, sizeof(text), "{'extra_args':['-boot','d','%s']}", owned[i]);
		snprintf(desc, sizeof(desc), "is '%s', which the daemon sets itself", owned[i]);
		bad(text, "extra_args[2]", desc);
	}
	good(&conf, "{'extra_args':['-device','virtio-rng-pci','-rtc','base=utc','-vga','std',"
		    "'-mem-path','/dev/hugepages','m','-']}");
	assert_int_equal(conf.extra_args.n, 10);
	guest_conf_clear(&conf);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_of_a_guest),
		cmocka_unit_test(a_whole_guest),
		cmocka_unit_test(defaults_of_the_drives),
		cmocka_unit_test(a_zone_capacity_follows_the_zones_size),
		cmocka_unit_test(ranges),
		cmocka_unit_test(words_and_texts),
		cmocka_unit_test(unknown_keys_have_a_nearest),
		cmocka_unit_test(host_ports_are_taken_once),
		cmocka_unit_test(ids_of_drives),
		cmocka_unit_test(drives_do_not_take_the_guests_own_files),
		cmocka_unit_test(drives_do_not_take_the_daemons_own_ids),
		cmocka_unit_test(numbers_belong_to_a_type),
		cmocka_unit_test(geometry),
		cmocka_unit_test(zones),
		cmocka_unit_test(lists_have_limits),
		cmocka_unit_test(extra_args_may_not_be_the_daemons_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
