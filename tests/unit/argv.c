/*
 * daemon/argv: the vector of several guests for each QEMU build, against golden files in
 * tests/unit/golden/BUILD/GUEST.argv: one word a line, or the error. UPDATE_GOLDEN=1 writes them
 * anew: look at the difference before you commit it.
 */
#include "tests/unit/recorded.h"

#include <errno.h>
#include <unistd.h>

#include "daemon/argv.h"

struct golden_guest {
	const char *name, *json;
	const char *boot, *format, *kernel, *initrd;
	bool kvm, sandbox;
	unsigned run;
};

static const struct golden_guest guests[] = {
	{"plain", "{}", "boot.qcow2", "qcow2", .run = 1},
	{"raw-with-kernel", "{'memory':'1536M','cpus':4}", "boot.img", "raw", "bzImage", .run = 42},
	{"kernel-only", "{'memory':'256M','cpus':1}", NULL, NULL, "bzImage", "initrd.img",
		.run = 10000},
	{"append",
		"{'kernel':{'append':'console=ttyS0,115200 quiet'},'machine':'pc','cpu':'qemu64'}",
		NULL, NULL, "/boot/vmlinuz", .run = 7},
	{"commas", "{'boot':{'image':'a,b,.qcow2'},'kernel':{'image':'k,1','initrd':'i,1'}}",
		"a,b,.qcow2", "qcow2", "k,1", "i,1", .run = 7},
	{"odd-memory", "{'memory':1048577}", "boot.img", "raw", .run = 7},
	{"kvm-sandbox", "{'accel':'kvm'}", "boot.img", "raw", .kvm = true, .sandbox = true,
		.run = 7},
	{"ocssd", "{'devices':[{'id':'nvme0','type':'ocssd'}]}", "boot.qcow2", "qcow2", .run = 7},
	{"ocssd-geometry",
		"{'devices':[{'id':'lnvm','type':'ocssd','num_grp':4,'num_pu':2,'num_chk':30,"
		"'num_sec':400,'sec_size':512,'md_size':0,'ws_min':12,'ws_opt':24,'mw_cunits':0,"
		"'mdts':5,'early_reset':false}]}",
		"boot.qcow2", "qcow2", .run = 7},
	{"nvme", "{'devices':[{'id':'nvme0','type':'nvme','size':'1G','mdts':3}]}", "boot.qcow2",
		"qcow2", .run = 7},
	{"zns",
		"{'devices':[{'id':'z0','type':'zns','size':'4G','zone_size':'64M',"
		"'zone_capacity':'48M','max_open':16,'max_active':32}]}",
		"boot.qcow2", "qcow2", .run = 7},
	{"two-drives", "{'devices':[{'id':'nvme0','type':'ocssd'},{'id':'nvme1','type':'nvme'}]}",
		"boot.qcow2", "qcow2", .run = 7},
	{"mixed-on-pc",
		"{'machine':'pc','devices':[{'id':'nvme0','type':'nvme'},{'id':'nvme1','type':'"
		"nvme',"
		"'size':'1G'}]}",
		"boot.qcow2", "qcow2", .run = 7},
	{"inject",
		"{'devices':[{'id':'nvme0','type':'ocssd',"
		"'inject':[{'write':{'grp':0,'pu':3,'chk':0,'sec':53},'percent':100},"
		"{'reset':{'grp':0,'pu':3,'chk':'5-6'},'percent':20}],"
		"'chunks':[{'grp':0,'pu':0,'chk':1,'state':'offline'}]},"
		"{'id':'nvme1','type':'ocssd','resetfail':'by-hand.txt'}]}",
		"boot.qcow2", "qcow2", .run = 7},
	{"extra-args", "{'extra_args':['-device','virtio-rng-pci','-rtc','base=utc']}",
		"boot.qcow2", "qcow2", .run = 7},
};

static struct cij_error error;

/* The vector of @guest for @caps; false and an error where there is none. */
static bool
build(const struct golden_guest *guest, const struct qemu_caps *caps, struct argv *argv)
{
	_cleanup_json_ struct json_object *obj = json(guest->json);
	_cleanup_problems_ struct cij_problems problems = {0};
	struct guest_conf conf;
	struct argv_input in = {.qemu = "/opt/qemu/bin/qemu-system-x86_64",
		.name = guest->name,
		.uuid = "5d0c6a5e-9e57-5b0c-8d5b-2f7f3f1c7a11",
		.conf = &conf,
		.caps = caps,
		.kvm = guest->kvm,
		.accel_why = "accel, as it is",
		.run = guest->run,
		.qmp_fd = 3,
		.boot = guest->boot,
		.boot_format = guest->format,
		.kernel = guest->kernel,
		.initrd = guest->initrd};
	int ret;

	assert_int_equal(guest_conf_decode(&conf, obj, &problems), 0);
	ret = argv_build(&in, argv, &error);
	guest_conf_clear(&conf);
	return ret == 0;
}

static char *
text_of(const struct golden_guest *guest, const struct qemu_caps *caps)
{
	struct argv argv;
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	if (build(guest, caps, &argv))
		for (size_t i = 0; i < argv.items.n; i++)
			fprintf(f, "%s\n", argv.items.items[i]);
	else
		fprintf(f, "%s: %s\n%s\n", cij_error_class_name(error.class), error.desc,
			error.hint);
	argv_clear(&argv);
	fclose(f);
	return text;
}

static void
write_golden(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static char *
read_golden(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t room = 0;

	if (!f)
		fail_msg("no golden file %s: UPDATE_GOLDEN=1 writes it", path);
	if (getdelim(&text, &room, EOF, f) < 0)
		fail_msg("golden file %s is empty", path);
	fclose(f);
	return text;
}

static void
vectors_are_the_golden_ones(void **state)
{
	bool update = getenv("UPDATE_GOLDEN") != NULL;
	char path[512];

	for (size_t b = 0; b < cij_array_size(recorded_builds); b++) {
		snprintf(path, sizeof(path), TESTS_DIR "/unit/golden/%s", recorded_builds[b]);
		if (update)
			assert_true(mkdir(path, 0777) == 0 || errno == EEXIST);
		for (size_t g = 0; g < cij_array_size(guests); g++) {
			struct qemu_caps caps = recorded_caps(recorded_builds[b]);

			caps.sandbox = guests[g].sandbox;
			_cleanup_free_ char *text = text_of(&guests[g], &caps);
			snprintf(path, sizeof(path), TESTS_DIR "/unit/golden/%s/%s.argv",
				recorded_builds[b], guests[g].name);
			if (update)
				write_golden(path, text);
			_cleanup_free_ char *golden = read_golden(path);
			if (strcmp(text, golden) != 0)
				fail_msg("%s is no longer so:\n%s", path, text);
		}
	}
}

/* What --explain prints: a reason for each word. */
static void
every_word_has_a_reason(void **state)
{
	for (size_t b = 0; b < cij_array_size(recorded_builds); b++)
		for (size_t g = 0; g < cij_array_size(guests); g++) {
			struct qemu_caps caps = recorded_caps(recorded_builds[b]);
			struct argv argv;

			if (build(&guests[g], &caps, &argv)) {
				assert_int_equal(argv.items.n, argv.why.n);
				for (size_t i = 0; i < argv.why.n; i++)
					assert_true(*argv.why.items[i]);
				assert_null(argv.items.items[argv.items.n]);
			}
			argv_clear(&argv);
		}
}

/* The reason that stands beside @word. */
static const char *
why(const struct argv *argv, const char *word)
{
	for (size_t i = 0; i < argv->items.n; i++)
		if (strcmp(argv->items.items[i], word) == 0)
			return argv->why.items[i];
	return "not there";
}

static void
reasons_name_the_key(void **state)
{
	struct qemu_caps caps = recorded_caps("qemu-nvme-3.1.50");
	struct argv argv;

	assert_true(build(&guests[4], &caps, &argv)); /* commas */
	assert_string_equal(why(&argv, "-kernel"), "kernel.image");
	assert_string_equal(why(&argv, "-initrd"), "kernel.initrd");
	assert_string_equal(why(&argv, "-drive"), "boot.image");
	assert_string_equal(why(&argv, "-append"), "default of kernel.append");
	assert_string_equal(why(&argv, "-accel"), "accel, as it is");
	argv_clear(&argv);
	assert_true(build(&guests[2], &caps, &argv)); /* kernel-only */
	assert_string_equal(why(&argv, "-kernel"), "found in the guest's folder");
	assert_string_equal(why(&argv, "-m"), "memory");
	assert_string_equal(why(&argv, "-cpu"), "default of cpu");
	argv_clear(&argv);
	assert_true(build(&guests[7], &caps, &argv)); /* ocssd */
	assert_string_equal(
		why(&argv, "-blockdev"), "devices.nvme0 (by default), dialect lightnvm");
	argv_clear(&argv);
	assert_true(build(&guests[cij_array_size(guests) - 1], &caps, &argv)); /* extra-args */
	assert_string_equal(why(&argv, "base=utc"), "extra_args");
	argv_clear(&argv);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vectors_are_the_golden_ones),
		cmocka_unit_test(every_word_has_a_reason),
		cmocka_unit_test(reasons_name_the_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
