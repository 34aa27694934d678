/* The words for one drive: those that qemu-builds/README.md saw work, and the same over QMP. */
#include "tests/unit/drive.h"
#include "tests/unit/recorded.h"

#include "daemon/argv.h"

/* The drive's command line for @build, its words with a blank between. */
static char *
line_of(const char *build, const char *text, bool live)
{
	struct qemu_caps caps = recorded_caps(build);
	_cleanup_strv_ struct strv args = {0};
	struct drive_place place = {.file = "nvme0.img", .bus = "port0", .live = live};
	struct json_object *parts;
	struct device_conf d;
	char *line = NULL;
	size_t size;
	FILE *out = open_memstream(&line, &size);

	drive_of(text, &d);
	parts = dialect_drive(&caps, &d, &place);
	dialect_drive_argv(parts, &args);
	for (size_t i = 0; i < args.n; i++)
		fprintf(out, "%s%s", i ? " " : "", args.items[i]);
	fclose(out);
	json_object_put(parts);
	device_conf_clear(&d);
	return line;
}

#define README_OCSSD \
	"{'id':'nvme0','type':'ocssd','num_grp':4,'num_pu':2,'num_chk':30,'num_sec':4096," \
	"'sec_size':4096,'md_size':16,'ws_min':4,'ws_opt':8,'mw_cunits':24,'mdts':7," \
	"'writefail':'w','resetfail':'r','chunkinfo':'c'}"

static void
lightnvm_as_it_is_known_to_work(void **state)
{
	_cleanup_free_ char *line = line_of("qemu-nvme-3.1.50", README_OCSSD, false);

	assert_string_equal(line,
		"-blockdev ocssd,node-name=drive-nvme0,discard=unmap,detect-zeroes=unmap,"
		"file.driver=file,file.filename=nvme0.img "
		"-device nvme,drive=drive-nvme0,serial=nvme0,id=nvme0,mdts=7,lws_min=4,lws_opt=8,"
		"lmw_cunits=24,learly_reset=1,lwritefail=.nvme0.writefail,"
		"lresetfail=.nvme0.resetfail,lchunkstate=.nvme0.chunkinfo,bus=port0");
}

static void
ocssd_ns_as_it_is_known_to_work(void **state)
{
	_cleanup_free_ char *line = line_of("qemu-nvme-4.1.50", README_OCSSD, false);

	assert_string_equal(line,
		"-drive file=nvme0.img,if=none,id=drive-nvme0,format=raw,discard=unmap "
		"-device ocssd,serial=nvme0,id=nvme0,mdts=7,bus=port0 "
		"-device "
		"ocssd-ns,id=nvme0-ns1,drive=drive-nvme0,bus=nvme0,nsid=1,num_grp=4,num_pu=2,"
		"num_chk=30,clba=4096,lbads=12,ms=16,ws_min=4,ws_opt=8,mw_cunits=24,mccap=5,"
		"writefail=.nvme0.writefail,resetfail=.nvme0.resetfail,"
		"chunkinfo=.nvme0.chunkinfo");
}

static void
refenv_as_its_users_have_it(void **state)
{
	_cleanup_free_ char *line = line_of("qemu-refenv", README_OCSSD, false);

	assert_string_equal(line,
		"-blockdev ocssd,node-name=drive-nvme0,discard=unmap,detect-zeroes=unmap,"
		"file.driver=file,file.filename=nvme0.img "
		"-device ocssd,drive=drive-nvme0,serial=nvme0,id=nvme0,mdts=7,ws_min=4,ws_opt=8,"
		"mw_cunits=24,early_reset=on,writefail=.nvme0.writefail,"
		"resetfail=.nvme0.resetfail,chunkinfo=.nvme0.chunkinfo,bus=port0");
}

static void
plain_drives_on_each_build(void **state)
{
	static const char *const lines[][2] = {
		{"qemu-nvme-3.1.50",
			"-blockdev raw,node-name=drive-nvme0,discard=unmap,file.driver=file,"
			"file.filename=nvme0.img -device nvme,drive=drive-nvme0,serial=nvme0,"
			"id=nvme0,mdts=7,dialect=0,bus=port0"},
		{"qemu-nvme-4.1.50",
			"-drive file=nvme0.img,if=none,id=drive-nvme0,format=raw,discard=unmap "
			"-device nvme,serial=nvme0,id=nvme0,mdts=7,bus=port0 "
			"-device nvme-ns,id=nvme0-ns1,drive=drive-nvme0,bus=nvme0,nsid=1"},
		{"qemu-upstream-7.2",
			"-blockdev raw,node-name=drive-nvme0,discard=unmap,file.driver=file,"
			"file.filename=nvme0.img -device nvme,drive=drive-nvme0,serial=nvme0,"
			"id=nvme0,mdts=7,bus=port0"},
	};

	for (size_t i = 0; i < cij_array_size(lines); i++) {
		_cleanup_free_ char *line = line_of(
			lines[i][0], "{'id':'nvme0','type':'nvme','size':'1G'}", false);

		assert_string_equal(line, lines[i][1]);
	}
}

/* QMP has the same members; a namespace needs a handler for its bus first. */
static void
live_it_goes_over_qmp(void **state)
{
	struct qemu_caps caps = recorded_caps("qemu-upstream-7.2");
	struct drive_place place = {.file = "z.img", .bus = "port3", .live = true};
	_cleanup_json_ struct json_object *parts = NULL;
	struct device_conf d;

	drive_of("{'id':'z','type':'zns','size':'64M','zone_size':'16M'}", &d);
	parts = dialect_drive(&caps, &d, &place);
	assert_json(parts,
		"[['blockdev',{'driver':'raw','node-name':'drive-z','discard':'unmap',"
		"'file':{'driver':'file','filename':'z.img'}}],"
		"['device',{'driver':'nvme','serial':'z','id':'z','mdts':7,'bus':'port3'}],"
		"['qom',{'path':'/machine/peripheral/z/z','property':'hotplug-handler',"
		"'value':'/machine'}],"
		"['device',{'driver':'nvme-ns','id':'z-ns1','drive':'drive-z','bus':'z','nsid':1,"
		"'zoned':true,'zoned.zone_size':16777216,'zoned.zone_capacity':16777216,"
		"'zoned.max_open':0,'zoned.max_active':0}]]");
	device_conf_clear(&d);
	/* -drive is for a command line. */
	_cleanup_free_ char *line = line_of("qemu-nvme-4.1.50", README_OCSSD, true);
	assert_int_equal(strncmp(line, "-blockdev raw,", 14), 0);
	assert_has(line, " -qom path=/machine/peripheral/nvme0/nvme0,");
}

static int
check(const char *build, const char *text, struct cij_error *err)
{
	struct qemu_caps caps = recorded_caps(build);
	enum image_format format;
	struct device_conf d;
	int ret;

	drive_of(text, &d);
	ret = dialect_check(&caps, &d, "/q/qemu", &format, err);
	device_conf_clear(&d);
	return ret;
}

/* Nothing is dropped: a property that a build does not have is refused. */
static void
what_a_dialect_cannot_express_is_refused(void **state)
{
	static const struct {
		const char *build, *json, *desc;
	} cases[] = {
		{"qemu-nvme-4.1.50", "{'id':'d','type':'ocssd','sec_size':512}",
			"sec_size of 4096"},
		{"qemu-refenv", "{'id':'d','type':'ocssd','sec_size':512}", "sec_size of 4096"},
		{"qemu-nvme-4.1.50", "{'id':'d','type':'ocssd','md_size':24}", "power of two"},
		{"qemu-nvme-4.1.50", "{'id':'d','type':'ocssd','num_chk':524288}",
			"needs 34 address bits, /q/qemu (QEMU 4.1.50) has 30"},
		{"qemu-nvme-3.1.50", "{'id':'d','type':'ocssd','num_chk':131072}",
			"needs 32 address bits, /q/qemu (QEMU 3.1.50) has 31"},
		{"qemu-nvme-3.1.50", "{'id':'d','type':'zns'}", "has no zoned NVMe namespaces"},
	};
	struct qemu_caps old = {.version = "2.0", .nvme = true, .nvme_drive = true};
	enum image_format format;
	struct cij_error err;
	struct device_conf d;

	for (size_t i = 0; i < cij_array_size(cases); i++) {
		assert_int_equal(check(cases[i].build, cases[i].json, &err), -1);
		assert_int_equal(err.class, CIJ_E_NOT_SUPPORTED);
		assert_has(err.desc, cases[i].desc);
	}
	assert_int_equal(
		check("qemu-nvme-3.1.50", "{'id':'d','type':'ocssd','sec_size':512}", &err), 0);
	assert_int_equal(
		check("qemu-nvme-3.1.50", "{'id':'d','type':'ocssd','num_chk':65536}", &err), 0);
	drive_of("{'id':'d','type':'nvme','mdts':5}", &d);
	assert_int_equal(dialect_check(&old, &d, "/q/qemu", &format, &err), -1);
	assert_has(err.desc, "cannot set mdts");
	device_conf_clear(&d);
}

static void
machines_take_drives_where_they_can(void **state)
{
	struct argv_place place;

	assert_int_equal(dialect_machine_bus("q35"), MACHINE_PCIE);
	assert_int_equal(dialect_machine_bus("q35,hpet=off"), MACHINE_PCIE);
	assert_int_equal(dialect_machine_bus("pc-q35-3.1"), MACHINE_PCIE);
	assert_int_equal(dialect_machine_bus("pc"), MACHINE_PCI);
	assert_int_equal(dialect_machine_bus("pc-i440fx-4.1"), MACHINE_PCI);
	assert_int_equal(dialect_machine_bus("microvm"), MACHINE_OTHER);
	place = argv_drive_place(MACHINE_PCIE, 9);
	assert_string_equal(place.bus, "port9");
	assert_string_equal(place.addr, "");
	place = argv_drive_place(MACHINE_PCI, 1);
	assert_string_equal(place.bus, "pci.0");
	assert_string_equal(place.addr, "0x11");
	place = argv_drive_place(MACHINE_OTHER, 1);
	assert_string_equal(place.bus, "");
}

/* The same guest and drive, the same name in every run; another's is another. */
static void
namespaces_keep_their_uuid(void **state)
{
	const char *guest = "5d0c6a5e-9e57-5b0c-8d5b-2f7f3f1c7a11";
	char a[ARGV_UUID_SIZE], b[ARGV_UUID_SIZE];

	argv_namespace_uuid(guest, "z0", a);
	argv_namespace_uuid(guest, "z0", b);
	assert_string_equal(a, b);
	argv_namespace_uuid(guest, "z1", b);
	assert_string_not_equal(a, b);
	argv_namespace_uuid("5d0c6a5e-9e57-5b0c-8d5b-2f7f3f1c7a12", "z0", b);
	assert_string_not_equal(a, b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lightnvm_as_it_is_known_to_work),
		cmocka_unit_test(ocssd_ns_as_it_is_known_to_work),
		cmocka_unit_test(refenv_as_its_users_have_it),
		cmocka_unit_test(plain_drives_on_each_build),
		cmocka_unit_test(live_it_goes_over_qmp),
		cmocka_unit_test(what_a_dialect_cannot_express_is_refused),
		cmocka_unit_test(machines_take_drives_where_they_can),
		cmocka_unit_test(namespaces_keep_their_uuid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
