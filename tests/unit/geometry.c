/* daemon/geometry: numbers that make no sense, images told apart, and what is read from them. */
#include "tests/unit/drive.h"

#include "daemon/geometry.h"

static void
bad(const char *members, const char *path, const char *desc)
{
	char text[512];

	snprintf(text, sizeof(text), "{'id':'d',%s}", members);
	drive_bad(text, path, desc);
}

static void
numbers_that_make_no_sense(void **state)
{
	bad("'type':'ocssd','mdts':20", "d.mdts",
		"is 20: QEMU takes at most 19 (2 GiB a transfer)");
	bad("'type':'ocssd','mdts':1,'ws_min':4,'ws_opt':8", "d.ws_min",
		"is 4 blocks: more than mdts 1 lets through in one transfer, 2");
	bad("'type':'ocssd','num_sec':2,'mw_cunits':0", "d.ws_min",
		"is 4: more than the 2 blocks of a chunk");
	bad("'type':'ocssd','num_sec':4,'mw_cunits':0", "d.ws_opt",
		"is 8: more than the 4 blocks of a chunk");
	bad("'type':'ocssd','num_sec':8", "d.mw_cunits",
		"is 24: more than the 8 blocks of a chunk");
	bad("'type':'nvme','size':1048577", "d.size",
		"is 1048577 bytes: not a multiple of a block's 512");
	bad("'type':'zns','zone_size':'64M','zone_capacity':4097", "d.zone_capacity",
		"is 4097 bytes: not a multiple of a block's 512");
	bad("'type':'zns','size':'256M','zone_size':'64M','max_open':5", "d.max_open",
		"is 5: the drive has 4 zones");
	bad("'type':'zns','size':'256M','zone_size':'64M','max_active':5", "d.max_active",
		"is 5: the drive has 4 zones");
}

/* What people had in their target_env.sh in 2018 and 2019. */
static void
geometries_in_use_are_fine(void **state)
{
	struct device_conf d;

	drive_of("{'id':'d','type':'ocssd','num_grp':4,'num_pu':4,'num_chk':100,'num_sec':400,"
		 "'sec_size':4096,'md_size':16,'ws_min':12,'ws_opt':24,'mw_cunits':0}",
		&d);
	assert_int_equal(geometry_address_bits(&d), 2 + 2 + 7 + 9);
	device_conf_clear(&d);
	drive_of("{'id':'d','type':'ocssd'}", &d);
	assert_int_equal(geometry_address_bits(&d), 1 + 2 + 6 + 12);
	assert_int_equal(device_conf_bytes(&d), 8053063680LL);
	device_conf_clear(&d);
}

static void
put(unsigned char *at, uint64_t n, int bytes)
{
	for (int i = 0; i < bytes; i++)
		at[i] = (unsigned char)(n >> 8 * i);
}

static unsigned char image[GEOMETRY_HEADER_BYTES];

/* The OCSSD 2.0 geometry 2, 4, 60, 4096 with writes of 4, 8, 24 at @at. */
static void
put_geometry(size_t at)
{
	put(image + at + 64, 2, 2);
	put(image + at + 66, 4, 2);
	put(image + at + 68, 60, 4);
	put(image + at + 72, 4096, 4);
	put(image + at + 128, 4, 4);
	put(image + at + 132, 8, 4);
	put(image + at + 136, 24, 4);
}

static void
images_tell_what_they_are(void **state)
{
	char is_text[320], want_text[320];
	struct geometry is, want;
	struct device_conf d;

	drive_of("{'id':'d','type':'ocssd'}", &d);
	geometry_of(&d, FORMAT_LIGHTNVM, &want);
	memset(image, 0, sizeof(image));
	assert_false(geometry_from_header(image, sizeof(image), &is));
	memcpy(image, "MVNL", 4); /* qemu-nvme 3.1.50 */
	put(image + 16, 512, 8);
	put(image + 24, 16, 4);
	put_geometry(512);
	assert_true(geometry_from_header(image, sizeof(image), &is));
	assert_int_equal(is.format, FORMAT_LIGHTNVM);
	assert_false(geometry_matches(&is, &want, is_text, want_text, sizeof(is_text)));
	assert_string_equal(is_text,
		"type ocssd, num_grp 2, num_pu 4, num_chk 60, num_sec 4096, sec_size 512, md_size "
		"16, ws_min 4, ws_opt 8, mw_cunits 24");
	assert_has(want_text, "sec_size 4096");
	is.sec_size = 4096;
	assert_true(geometry_matches(&is, &want, is_text, want_text, sizeof(is_text)));
	is.ws_opt = 16; /* it takes that from the image */
	assert_false(geometry_matches(&is, &want, is_text, want_text, sizeof(is_text)));

	memset(image, 0, sizeof(image));
	memcpy(image, "02CO", 4); /* refenv's, and 4.1.50 */
	put(image + 12, 16, 4);
	put(image + 16, 4096, 8);
	put_geometry(4096);
	assert_true(geometry_from_header(image, sizeof(image), &is));
	assert_int_equal(is.format, FORMAT_OCSSD);
	geometry_of(&d, FORMAT_OCSSD_NS, &want);
	assert_true(geometry_matches(&is, &want, is_text, want_text, sizeof(is_text)));
	is.ws_opt = 16; /* it takes that from its device */
	assert_true(geometry_matches(&is, &want, is_text, want_text, sizeof(is_text)));
	geometry_of(&d, FORMAT_LIGHTNVM, &want);
	assert_false(geometry_matches(&is, &want, is_text, want_text, sizeof(is_text)));
	assert_has(is_text, "format ocssd");
	assert_has(want_text, "format lightnvm");
	/* QEMU was killed while it grew the file: a header, and nothing behind it. */
	memset(image + 4096, 0, 4096);
	assert_true(geometry_from_header(image, sizeof(image), &is));
	geometry_of(&d, FORMAT_OCSSD_NS, &want);
	assert_false(geometry_matches(&is, &want, is_text, want_text, sizeof(is_text)));
	assert_true(geometry_from_header(image, 4096, &is));
	assert_false(geometry_matches(&is, &want, is_text, want_text, sizeof(is_text)));
	assert_false(geometry_from_header(image, 4095, &is));
	device_conf_clear(&d);
}

static void
records_come_back(void **state)
{
	static const char *const drives[] = {"{'id':'d','type':'ocssd','mw_cunits':0}",
		"{'id':'d','type':'nvme'}", "{'id':'d','type':'zns'}"};
	char is_text[320], want_text[320];

	for (size_t i = 0; i < cij_array_size(drives); i++) {
		_cleanup_json_ struct json_object *obj = NULL;
		struct geometry geo, back;
		struct device_conf d;

		drive_of(drives[i], &d);
		geometry_of(&d, i == 0 ? FORMAT_OCSSD : FORMAT_RAW, &geo);
		obj = geometry_to_json(&geo);
		assert_int_equal(geometry_from_json(obj, &back), 0);
		assert_memory_equal(&geo, &back, sizeof(geo));
		assert_true(geometry_matches(&geo, &back, is_text, want_text, sizeof(is_text)));
		device_conf_clear(&d);
	}
	_cleanup_json_ struct json_object *odd = json("{'type':'floppy','format':'raw'}");
	struct geometry geo;
	assert_int_equal(geometry_from_json(odd, &geo), -1);
	assert_int_equal(geometry_from_json(NULL, &geo), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_that_make_no_sense),
		cmocka_unit_test(geometries_in_use_are_fine),
		cmocka_unit_test(images_tell_what_they_are),
		cmocka_unit_test(records_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
