/* daemon/users, admission, access: names from files, room in numbers, rights in a table. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <unistd.h>

#include "daemon/access.h"
#include "daemon/admission.h"
#include "daemon/users.h"

static char *
write_file(const char *dir, const char *name, const char *text)
{
	char *path;
	FILE *file;

	assert_true(asprintf(&path, "%s/%s", dir, name) > 0);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	return path;
}

static void
names_of_the_files(void **state)
{
	char *dir = folder_make();
	_cleanup_free_ char *passwd = write_file(dir, "passwd",
		"root:x:0:0::/:/bin/sh\nanna:x:1003:1003::/:\nrubbish\n"
		"toor:x:0:0::/:\nbob:x:1002:100::/:\n");
	_cleanup_free_ char *group = write_file(
		dir, "group", "root:x:0:\nstorage:x:2000:bob,anna\nusers:x:100:\nempty:x:7:\n");
	gid_t gid = 0;
	uid_t uid = 0;

	users_use(passwd, group);
	assert_string_equal(user_name(0), "root"); /* the first of two */
	assert_string_equal(user_name(1003), "anna");
	assert_null(user_name(1004));
	assert_true(user_id("bob", &uid));
	assert_int_equal(uid, 1002);
	assert_true(user_id("toor", &uid));
	assert_false(user_id("carl", &uid));
	assert_true(group_id("storage", &gid));
	assert_int_equal(gid, 2000);
	assert_false(group_id("nix", &gid));
	assert_true(user_primary_group(1002, &gid));
	assert_int_equal(gid, 100);
	assert_false(user_primary_group(77, &gid));
	assert_true(user_has_group(1002, 2000));
	assert_true(user_has_group(1002, 100));
	assert_false(user_has_group(1002, 1003));
	assert_false(user_has_group(77, 2000));
	gid_t gids[4];
	assert_int_equal(user_groups(1002, gids, 4), 2);
	assert_int_equal(gids[0], 100);
	assert_int_equal(gids[1], 2000);
	assert_int_equal(user_groups(1002, gids, 1), 1);
	assert_int_equal(user_groups(77, gids, 4), 0);
	users_use("/nonexistent", "/nonexistent");
	assert_null(user_name(0));
	assert_false(group_id("root", &gid));
	folder_remove(dir);
}

/* Whoever is not known may have come just now: the files are looked at again soon. */
static void
newcomers_are_known_soon(void **state)
{
	char *dir = folder_make();
	_cleanup_free_ char *passwd = write_file(dir, "passwd", "root:x:0:0::/:/bin/sh\n");
	_cleanup_free_ char *group = write_file(dir, "group", "root:x:0:\n");
	_cleanup_free_ char *later = write_file(dir, "p", "root:x:0:0::/:\nanna:x:1003:5::/:\n");
	_cleanup_free_ char *groups = write_file(dir, "g", "root:x:0:\nlab:x:5:anna\n");
	uid_t uid = 0;
	gid_t gid = 0;

	users_use(passwd, group);
	assert_null(user_name(1003));
	assert_false(user_id("anna", &uid));
	assert_false(group_id("lab", &gid));
	assert_int_equal(rename(later, passwd), 0);
	assert_int_equal(rename(groups, group), 0);
	usleep(25000);
	assert_string_equal(user_name(1003), "anna");
	assert_true(user_id("anna", &uid) && uid == 1003);
	assert_true(group_id("lab", &gid) && gid == 5);
	folder_remove(dir);
}

static void
ids_in_digits(void **state)
{
	unsigned id;

	assert_true(id_parse("0", &id) && id == 0);
	assert_true(id_parse("4294967294", &id) && id == 4294967294u);
	assert_false(id_parse("4294967295", &id)); /* (uid_t)-1 */
	assert_false(id_parse("", &id));
	assert_false(id_parse("-1", &id));
	assert_false(id_parse("12a", &id));
	assert_false(id_parse("99999999999", &id));
}

/* Everyone who can ask, and what they may do at most. */
static void
rights(void **state)
{
	static const struct access_rule rule = {.daemon_uid = 50, .admin_gid = 60};
	static const struct access_rule no_group = {.daemon_uid = 50, .admin_gid = (gid_t)-1};
	struct peer owner = {.uid = 1}, other = {.uid = 2}, root = {.uid = 0}, daemon = {.uid = 50};
	struct peer admin = {.uid = 3, .gid = 4, .groups = {5, 60}, .n_groups = 2};
	struct peer primary = {.uid = 3, .gid = 60};

	assert_int_equal(access_level(&rule, &owner, 1, false), ACCESS_OWN);
	assert_int_equal(access_level(&rule, &other, 1, false), ACCESS_VIEW);
	assert_int_equal(access_level(&rule, &other, 1, true), ACCESS_OPERATE);
	assert_int_equal(access_level(&rule, &root, 1, false), ACCESS_OWN);
	assert_int_equal(access_level(&rule, &daemon, 1, false), ACCESS_OWN);
	assert_int_equal(access_level(&rule, &admin, 1, false), ACCESS_OWN);
	assert_int_equal(access_level(&rule, &primary, 1, false), ACCESS_OWN);
	assert_int_equal(access_level(&no_group, &admin, 1, false), ACCESS_VIEW);
	struct peer *all[] = {&owner, &other, &root, &daemon, &admin, &primary};
	for (size_t i = 0; i < cij_array_size(all); i++) {
		all[i]->view_only = true;
		assert_int_equal(access_level(&rule, all[i], 1, true), ACCESS_VIEW);
		assert_false(access_is_admin(&rule, all[i]));
	}
}

#define GiB (1LL << 30)

static void
room(void **state)
{
	struct daemon_conf conf = {.memory_limit = {true, 90},
		.disk_reserve = {false, 0},
		.user_guests = 2,
		.user_memory = 6 * GiB};
	static const struct host_room host = {.memory = 10 * GiB};
	struct admission *admission = admission_new(&conf, &host);
	struct cij_error err;
	int a, b, c, dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	users_use("/nonexistent", "/nonexistent");
	assert_int_equal(admission_check(admission, "g", 7, 6 * GiB, dir, dir, &err), 0);
	assert_int_equal(admission_check(admission, "g", 7, 6 * GiB + 1, dir, dir, &err), -1);
	assert_int_equal(admission_check(admission, "g", 0, 9 * GiB, dir, dir, &err), 0);
	assert_int_equal(admission_check(admission, "g", 0, 9 * GiB + 1, dir, dir, &err), -1);
	assert_int_equal(err.class, CIJ_E_NO_RESOURCES);
	assert_has(err.desc, "90% of 10");
	admission_enter(admission, &a, "a", 7, 2 * GiB);
	admission_enter(admission, &b, "b", 7, GiB);
	admission_enter(admission, &c, "c", 8, 5 * GiB);
	assert_int_equal(admission_check(admission, "g", 9, 1 * GiB, dir, dir, &err), 0);
	assert_int_equal(admission_check(admission, "g", 9, 2 * GiB, dir, dir, &err), -1);
	assert_has(err.desc, "uid 8 5G in 1 guest, uid 7 3G in 2 guests");
	assert_int_equal(admission_check(admission, "g", 7, 1, dir, dir, &err), -1);
	assert_has(err.desc, "'b', 'a'");
	assert_int_equal(admission_check(admission, "g", 8, 1 * GiB + 1, dir, dir, &err), -1);
	assert_has(err.desc, "uid 8 has 5");
	admission_leave(admission, &a);
	admission_leave(admission, &a); /* once is enough */
	assert_int_equal(admission_check(admission, "g", 7, 2 * GiB, dir, dir, &err), 0);
	conf.disk_reserve = (struct quantity){true, 100};
	assert_int_equal(admission_check(admission, "g", 7, GiB, dir, dir, &err), -1);
	assert_has(err.desc, "no disk for guest 'g'");
	close(dir);
	admission_free(admission);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_of_the_files),
		cmocka_unit_test(newcomers_are_known_soon),
		cmocka_unit_test(ids_in_digits),
		cmocka_unit_test(rights),
		cmocka_unit_test(room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
