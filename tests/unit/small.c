/* daemon/access, ports, strv, clock: the small pure ones. */
#include "tests/unit/unit.h"

#include <sys/fsuid.h>
#include <unistd.h>

#include "daemon/access.h"
#include "daemon/as_owner.h"
#include "daemon/clock.h"
#include "daemon/ports.h"
#include "daemon/strv.h"
#include "daemon/users.h"

#define ADMINS 500

static enum access
level(uid_t uid, gid_t gid, uid_t owner, bool shared)
{
	const struct access_rule rule = {.daemon_uid = 77, .admin_gid = ADMINS};
	const struct peer peer = {.uid = uid, .gid = gid, .groups = {1, 2, 3}, .n_groups = 3};

	return access_level(&rule, &peer, owner, shared);
}

static void
who_may_do_what(void **state)
{
	assert_int_equal(level(1000, 1, 1000, false), ACCESS_OWN);
	assert_int_equal(level(1001, 1, 1000, true), ACCESS_OPERATE);
	assert_int_equal(level(1001, 1, 1000, false), ACCESS_VIEW);
	assert_int_equal(level(0, 0, 1000, false), ACCESS_OWN);
	assert_int_equal(level(77, 1, 1000, false), ACCESS_OWN); /* whom the daemon runs as */
	assert_int_equal(level(1001, ADMINS, 1000, false), ACCESS_OWN);
	assert_true(ACCESS_VIEW < ACCESS_OPERATE && ACCESS_OPERATE < ACCESS_OWN);
	assert_string_equal(access_name(ACCESS_VIEW), "view");
	assert_string_equal(access_name(ACCESS_OPERATE), "operate");
	assert_string_equal(access_name(ACCESS_OWN), "own");
}

static void
who_is_an_admin(void **state)
{
	const struct access_rule rule = {.daemon_uid = 77, .admin_gid = 3},
				 none = {.daemon_uid = 77, .admin_gid = (gid_t)-1};
	const struct peer peer = {.uid = 1000, .gid = 9, .groups = {1, 2, 3}, .n_groups = 3},
			  stranger = {.uid = 1001, .gid = (gid_t)-1};

	assert_true(access_is_admin(&rule, &peer)); /* by a supplementary group */
	assert_false(access_is_admin(&none, &peer));
	assert_false(access_is_admin(&none, &stranger)); /* no group is nobody's group */
	assert_true(peer_in_group(&peer, 9) && peer_in_group(&peer, 2));
	assert_false(peer_in_group(&peer, 4));
}

static void
ports_are_held_once(void **state)
{
	struct ports *ports = ports_new(2022, 2025);
	int a, b; /* guests, by their addresses */
	char who[64];

	assert_int_equal(ports_take(ports, 0, &a, "a"), 2022);
	assert_int_equal(ports_take(ports, 0, &a, "a"), 2023);
	assert_int_equal(ports_take_this(ports, 2022, &b, "b"), -1);
	assert_int_equal(ports_take_this(ports, 2024, &b, "b"), 0);
	assert_int_equal(ports_take(ports, 0, &a, "a"), 2025);
	ports_give_back(ports, 2023);
	ports_give_back(ports, 2023); /* twice is fine */
	assert_int_equal(ports_take(ports, 0, &a, "a"), 2023);
	assert_int_equal(ports_take(ports, 0, &a, "a"), 0); /* the range is used up */
	assert_int_equal(ports_take_this(ports, 8080, &a, "a"), 0); /* outside of it */
	assert_string_equal(ports_holder(ports, 2024, who, sizeof(who)), "guest 'b'");
	assert_string_equal(ports_holder(ports, 8080, who, sizeof(who)), "guest 'a'");
	ports_give_back_all(ports, &a);
	assert_int_equal(ports_take(ports, 0, &b, "b"), 2022);
	assert_int_equal(ports_take_this(ports, 2024, &a, "a"), -1);
	assert_string_equal(ports_holder(ports, 1, who, sizeof(who)), "somebody");
	ports_free(ports);
}

static void
ports_have_an_end(void **state)
{
	struct ports *ports = ports_new(1, 65535);
	int b;

	assert_int_equal(ports_take(ports, 65535, &b, "b"), 65535);
	assert_int_equal(ports_take(ports, 65535, &b, "b"), 0);
	assert_int_equal(ports_take(ports, 65536, &b, "b"), 0);
	assert_int_equal(ports_take(ports, -1, &b, "b"), 1);
	assert_int_equal(ports_take_this(ports, 0, &b, "b"), -1);
	assert_int_equal(ports_take_this(ports, -5, &b, "b"), -1);
	assert_int_equal(ports_take_this(ports, 65536, &b, "b"), -1);
	ports_give_back(ports, 0);
	ports_give_back(ports, -1);
	ports_give_back(ports, 65536);
	ports_free(ports);
}

static void
string_vectors(void **state)
{
	_cleanup_strv_ struct strv v = {0};

	assert_null(v.items);
	strv_add(&v, "a");
	strv_addf(&v, "%d-%s", 7, "b");
	for (int i = 0; i < 100; i++)
		strv_add(&v, "");
	assert_int_equal(v.n, 102);
	assert_string_equal(v.items[1], "7-b");
	assert_null(v.items[v.n]);
	strv_clear(&v);
	assert_int_equal(v.n, 0);
	_cleanup_json_ struct json_object *none = strv_to_json(&v);
	assert_json(none, "[]");
	strv_add(&v, "x\"");
	_cleanup_json_ struct json_object *one = strv_to_json(&v);
	assert_json(one, "['x\\\"']");
}

static void
strings(void **state)
{
	char *text = NULL;
	_cleanup_free_ char *printed = str_printf("%s=%d", "a", 1);

	assert_string_equal(printed, "a=1");
	assert_null(str_copy(NULL));
	str_replace(&text, "one");
	assert_string_equal(text, "one");
	str_replace(&text, text + 1); /* a part of itself */
	assert_string_equal(text, "ne");
	str_replace(&text, NULL);
	assert_null(text);
}

static void
times(void **state)
{
	struct timeval tv = clock_timeval(1.25);
	char buf[32];

	assert_string_equal(clock_rfc3339(1795344005, buf, sizeof(buf)), "2026-11-22T10:40:05Z");
	assert_int_equal(clock_parse("2026-11-22T10:40:05Z"), 1795344005);
	assert_int_equal(clock_parse(NULL), 0);
	assert_int_equal(clock_parse(""), 0);
	assert_int_equal(clock_parse("yesterday"), 0);
	assert_int_equal(clock_parse("2026-11-22T10:40:05"), 0);
	assert_int_equal(clock_parse("2026-11-22T10:40:05Z and more"), 0);
	assert_int_equal(tv.tv_sec, 1);
	assert_int_equal(tv.tv_usec, 250000);
	assert_true(clock_mono() <= clock_mono());
}

static int
fsuid(void)
{
	return setfsuid((uid_t)-1);
}

static void
scopes_of_owners_nest(void **state)
{
	int own = fsuid();

	if (geteuid() != 0)
		skip();
	as_owner_init();
	{
		_cleanup_as_owner_ struct as_owner outer = as_owner_begin(30001, 30001);

		assert_int_equal(fsuid(), 30001);
		{
			_cleanup_as_owner_ struct as_owner inner = as_owner_begin(30002, 30002);

			assert_int_equal(fsuid(), 30002);
		}
		assert_int_equal(fsuid(), 30001);
		{
			_cleanup_as_owner_ struct as_owner same = as_owner_begin(30001, 30001);
			_cleanup_as_owner_ struct as_owner root = as_owner_begin(0, 0);

			assert_int_equal(fsuid(), 30001);
		}
		assert_int_equal(fsuid(), 30001);
	}
	assert_int_equal(fsuid(), own);
	{
		_cleanup_as_owner_ struct as_owner gone = as_owner_begin((uid_t)-1, (gid_t)-1);

		assert_int_equal(fsuid(), 65534);
	}
	assert_int_equal(fsuid(), own);
}

static char *
write_file(const char *dir, const char *name, const char *text)
{
	char *path = str_printf("%s/%s", dir, name);
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	return path;
}

static void
assert_groups(const gid_t *want, int n)
{
	gid_t have[16];

	assert_int_equal(getgroups(16, have), n);
	assert_memory_equal(have, want, (size_t)n * sizeof(*want));
}

/* What an owner reaches through a group, we reach as that owner; and no other owner's. The kernel
 * sorts them. */
static void
owners_have_their_groups(void **state)
{
	char *dir = folder_make();
	_cleanup_free_ char *passwd = write_file(
		dir, "passwd", "anna:x:30001:30001::/:\nbob:x:30002:100::/:\n");
	_cleanup_free_ char *group = write_file(
		dir, "group", "team:x:2000:bob,anna\nusers:x:100:bob\nlab:x:2001:anna\n");
	static const gid_t annas[] = {2000, 2001, 30001}, bobs[] = {100, 2000};
	gid_t own[64];
	int n_own = getgroups(64, own);

	users_use(passwd, group);
	if (geteuid() == 0) {
		as_owner_init();
		{
			_cleanup_as_owner_ struct as_owner outer = as_owner_begin(30001, 30001);

			assert_groups(annas, 3);
			{
				_cleanup_as_owner_ struct as_owner inner = as_owner_begin(
					30002, 100);

				assert_groups(bobs, 2);
			}
			assert_groups(annas, 3);
			{
				_cleanup_as_owner_ struct as_owner none = as_owner_begin(
					30003, 30003);

				assert_groups(NULL, 0);
			}
			assert_groups(annas, 3);
		}
		assert_groups(own, n_own);
	}
	users_use("/etc/passwd", "/etc/group");
	folder_remove(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_may_do_what),
		cmocka_unit_test(who_is_an_admin),
		cmocka_unit_test(scopes_of_owners_nest),
		cmocka_unit_test(owners_have_their_groups),
		cmocka_unit_test(ports_are_held_once),
		cmocka_unit_test(ports_have_an_end),
		cmocka_unit_test(string_vectors),
		cmocka_unit_test(strings),
		cmocka_unit_test(times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
