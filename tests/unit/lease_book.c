/* daemon/lease_book: who has it, who is next, what is said, and what the file holds. */
#include "tests/unit/unit.h"

#include "daemon/lease_book.h"

#define ANNA 1001
#define BOB 1002
#define NOW 1800000000

static const char *
name_of(uid_t uid)
{
	return uid == ANNA ? "anna" : uid == BOB ? "bob" : NULL;
}

static struct lease_terms
terms(uid_t uid, int64_t seconds, pid_t pid)
{
	return (struct lease_terms){.uid = uid, .by = 7, .seconds = seconds, .process = {pid, 99}};
}

static void
grant(struct lease_page *page, uid_t uid, int64_t seconds, pid_t pid)
{
	struct lease_terms t = terms(uid, seconds, pid);

	lease_page_grant(page, &t, NOW);
}

static struct lease_place *
join(struct lease_page *page, uid_t uid)
{
	struct lease_terms t = terms(uid, 60, 0);

	return lease_page_join(page, &t);
}

static enum lease_answer
ask(const struct lease_page *page, uid_t uid, pid_t pid)
{
	struct lease_terms t = terms(uid, pid ? 0 : 60, pid);

	return lease_page_ask(page, &t, NOW);
}

static void
what_asking_comes_to(void **state)
{
	static const struct {
		uid_t holder;
		pid_t holder_pid;
		uid_t uid;
		pid_t pid;
		enum lease_answer want;
	} rows[] = {
		{0, 0, ANNA, 0, LEASE_YES},
		{0, 0, ANNA, 5, LEASE_YES},
		{ANNA, 0, ANNA, 0, LEASE_EXTEND},
		{ANNA, 0, ANNA, 5, LEASE_ALREADY},
		{ANNA, 5, ANNA, 0, LEASE_EXTEND},
		{ANNA, 5, ANNA, 5, LEASE_EXTEND},
		{ANNA, 5, ANNA, 6, LEASE_NO}, /* two jobs of one user */
		{ANNA, 0, BOB, 0, LEASE_NO},
		{ANNA, 5, BOB, 6, LEASE_NO},
	};

	for (size_t i = 0; i < cij_array_size(rows); i++) {
		struct lease_page page;

		lease_page_init(&page, "g");
		if (rows[i].holder)
			grant(&page, rows[i].holder, 60, rows[i].holder_pid);
		assert_int_equal(ask(&page, rows[i].uid, rows[i].pid), rows[i].want);
		assert_int_equal(lease_page_lets(&page, rows[i].uid),
			!rows[i].holder || rows[i].holder == rows[i].uid);
		lease_page_clear(&page);
	}
}

static void
the_queue_is_in_order(void **state)
{
	struct lease_place *first, *second;
	struct lease_page page;

	lease_page_init(&page, "g");
	grant(&page, ANNA, 60, 0);
	first = join(&page, BOB);
	second = join(&page, ANNA);
	assert_null(lease_page_next(&page));
	lease_page_end(&page);
	assert_ptr_equal(lease_page_next(&page), first);
	assert_int_equal(ask(&page, 1003, 0), LEASE_NO); /* no way past those who wait */
	lease_page_leave(&page, first);
	assert_ptr_equal(lease_page_next(&page), second);
	page.resetting = true;
	assert_null(lease_page_next(&page));
	assert_int_equal(ask(&page, ANNA, 0), LEASE_NO);
	assert_false(lease_page_lets(&page, ANNA));
	lease_page_clear(&page);
}

/* A client that went with the daemon before has its place for a while, not for ever. */
static void
places_are_kept_for_a_while(void **state)
{
	struct lease_place *place;
	struct lease_page page;

	lease_page_init(&page, "g");
	join(&page, ANNA)->gone = NOW;
	place = join(&page, BOB);
	assert_null(lease_page_next(&page));
	assert_int_equal(ask(&page, BOB, 0), LEASE_NO);
	assert_int_equal(ask(&page, ANNA, 0), LEASE_YES);
	assert_true(lease_page_next_change(&page, NOW) > 0);
	lease_page_prune(&page, NOW + 10);
	assert_null(lease_page_next(&page));
	lease_page_prune(&page, NOW + 100);
	assert_ptr_equal(lease_page_next(&page), place);
	assert_int_equal(lease_page_next_change(&page, NOW), -1);
	place->gone = NOW;
	assert_ptr_equal(join(&page, BOB), place); /* back in the same place */
	assert_int_equal(place->gone, 0);
	lease_page_clear(&page);
}

static void
a_refusal_says_all(void **state)
{
	struct cij_error err;
	struct lease_page page;

	lease_page_init(&page, "g");
	grant(&page, ANNA, 60, 0);
	page.holder.why = strdup("bisecting");
	assert_int_equal(lease_page_refuse(&page, BOB, false, name_of, &err), -1);
	assert_int_equal(err.class, CIJ_E_LEASED);
	assert_string_equal(
		err.desc, "guest 'g' is leased by anna until 2027-01-15T08:01:00Z (bisecting)");
	assert_has(err.hint, "lease g --wait");
	assert_null(strstr(err.hint, "--steal"));
	join(&page, 1003);
	lease_page_refuse(&page, BOB, true, name_of, &err);
	assert_has(err.desc, "; 1 waits for it");
	assert_has(err.hint, "--steal -m REASON");
	page.lost.known = true;
	page.lost.uid = BOB;
	page.lost.by = 1004;
	page.lost.when = NOW;
	page.lost.why = strdup("power cut");
	lease_page_refuse(&page, BOB, false, name_of, &err);
	assert_has(err.desc, "your lease was taken by uid 1004 at 2027-01-15T08:00:00Z: power cut");
	lease_page_refuse(&page, 1003, false, name_of, &err);
	assert_null(strstr(err.desc, "power cut"));
	assert_int_equal(lease_page_refuse(&page, BOB, false, name_of, NULL), -1);
	/* Who has it back has lost nothing. */
	grant(&page, BOB, 60, 0);
	assert_false(page.lost.known);
	lease_page_clear(&page);
}

static void
the_file_holds_it_all(void **state)
{
	struct lease_page page, again;
	struct json_object *first, *second;

	lease_page_init(&page, "g");
	grant(&page, ANNA, 60, 4711);
	page.holder.why = strdup("w\"hy");
	page.holder.reset = true;
	join(&page, BOB);
	page.lost.known = true;
	page.lost.uid = BOB;
	page.lost.by = ANNA;
	page.lost.when = NOW;
	page.lost.why = strdup("x");
	first = lease_page_to_json(&page);
	assert_true(lease_page_from_json(&again, first, NOW + 1));
	second = lease_page_to_json(&again);
	assert_string_equal(json_object_to_json_string(first), json_object_to_json_string(second));
	assert_int_equal(again.holder.process.start, 99);
	assert_int_equal(TAILQ_FIRST(&again.queue)->gone, NOW + 1);
	json_object_put(first);
	json_object_put(second);
	lease_page_clear(&page);
	lease_page_clear(&again);
}

static void
a_file_that_makes_no_sense(void **state)
{
	static const char *const texts[] = {
		"[]",
		"3",
		"{}",
		"{'guest': 3}",
		"{'guest': 'g', 'holder': {}}",
		"{'guest': 'g', 'holder': {'uid': -1, 'seconds': 5}}",
		"{'guest': 'g', 'holder': {'uid': 1, 'seconds': 5}}", /* no end */
		"{'guest': 'g', 'holder': {'uid': 1, 'seconds': 99999999}}",
		"{'guest': 'g', 'holder': {'uid': 1, 'pid': -4}}",
	};

	for (size_t i = 0; i < cij_array_size(texts); i++) {
		_cleanup_json_ struct json_object *obj = json(texts[i]);
		struct lease_page page;

		if (lease_page_from_json(&page, obj, NOW))
			fail_msg("taken: %s", texts[i]);
		lease_page_clear(&page);
	}
}

static void
goes_with_a_clock_that_is_set(void **state)
{
	struct lease_page page;

	lease_page_init(&page, "g");
	grant(&page, ANNA, 60, 0);
	join(&page, BOB)->gone = NOW;
	for (int64_t by = -7200; by <= 7200; by += 14400) {
		lease_page_shift(&page, by);
		assert_int_equal(lease_page_next_change(&page, NOW + by), 30);
		assert_int_equal(page.until - page.since, 60);
		lease_page_shift(&page, -by);
	}
	assert_int_equal(page.until, NOW + 60);
	lease_page_clear(&page);
	/* What has no end has none by any clock. */
	lease_page_init(&page, "g");
	grant(&page, ANNA, 0, 5);
	lease_page_shift(&page, 7200);
	assert_int_equal(page.until, 0);
	lease_page_clear(&page);
}

static void
blank_pages(void **state)
{
	struct lease_page page;

	lease_page_init(&page, "g");
	assert_true(lease_page_is_blank(&page));
	assert_null(lease_page_view(&page, name_of));
	grant(&page, ANNA, 0, 5);
	assert_int_equal(page.until, 0);
	assert_int_equal(lease_page_next_change(&page, NOW), -1);
	assert_false(lease_page_is_blank(&page));
	lease_page_end(&page);
	assert_true(lease_page_is_blank(&page));
	lease_page_clear(&page);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_asking_comes_to),
		cmocka_unit_test(the_queue_is_in_order),
		cmocka_unit_test(places_are_kept_for_a_while),
		cmocka_unit_test(a_refusal_says_all),
		cmocka_unit_test(the_file_holds_it_all),
		cmocka_unit_test(a_file_that_makes_no_sense),
		cmocka_unit_test(goes_with_a_clock_that_is_set),
		cmocka_unit_test(blank_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
