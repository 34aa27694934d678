/* daemon/logindex: when which byte came, also across a change of the host's clock. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <unistd.h>

#include "daemon/logindex.h"

#define SECOND INT64_C(1000000)
#define HOUR (3600 * SECOND)

static char *folder;

static int
set_up(void **state)
{
	folder = folder_make();
	return 0;
}

static int
tear_down(void **state)
{
	folder_remove(folder);
	return 0;
}

static int
file(const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	return fd;
}

static struct logtime
at(int64_t wall, int64_t mono)
{
	return (struct logtime){wall, mono};
}

static void
bytes_have_their_times(void **state)
{
	struct logindex index, again;
	int fd = file("a");
	struct logtime t = at(1000 * SECOND, 10 * SECOND);

	logindex_create(&index, fd);
	assert_int_equal(logindex_find(&index, 0), index.n);
	for (int i = 0; i < 1000; i++) {
		logindex_note(&index, i * 100, (i + 1) * 100, t);
		t.wall += SECOND;
		t.mono += SECOND;
	}
	logindex_open(&again, fd);
	for (int i = 0; i < 1000; i += 7)
		for (int byte = 0; byte < 100; byte += 33) {
			size_t found = logindex_find(&again, i * 100 + byte);
			struct logindex_record record = logindex_read(&again, found);

			assert_int_equal(record.offset, i * 100);
			assert_int_equal(record.kind, LOGINDEX_TIME);
			assert_int_equal(logindex_wall(&again, &record, t), (1000 + i) * SECOND);
		}
	/* The record of kind 'seen' says where knowledge ends. */
	assert_int_equal(logindex_read(&again, logindex_find(&again, 100000)).kind, LOGINDEX_SEEN);
	assert_int_equal(
		logindex_read(&again, logindex_find_since(&again, 1500 * SECOND, t)).offset,
		500 * 100);
	assert_int_equal(
		logindex_read(&again, logindex_find_since(&again, 1500 * SECOND + 1, t)).offset,
		501 * 100);
	assert_int_equal(logindex_find_since(&again, 5000 * SECOND, t), again.n);
	close(fd);
}

/* An NTP step in the middle: all times are told by the clock as it is now. */
static void
clock_change_bends_nothing(void **state)
{
	struct logindex index;
	struct logtime now = at(20 * HOUR + 400 * SECOND, 500 * SECOND);
	int fd = file("a");

	logindex_create(&index, fd);
	/* The clock is 5 h slow, is put right after 200 s, then back by mistake, and right again.
	 */
	logindex_note(&index, 0, 10, at(15 * HOUR, 100 * SECOND));
	logindex_note(&index, 10, 20, at(15 * HOUR + 100 * SECOND, 200 * SECOND));
	logindex_note(&index, 20, 30, at(20 * HOUR + 200 * SECOND, 300 * SECOND));
	logindex_note(&index, 30, 40, at(2 * HOUR, 400 * SECOND));
	for (int i = 0; i < 4; i++) {
		struct logindex_record record = logindex_read(&index, i);

		assert_int_equal(logindex_wall(&index, &record, now), 20 * HOUR + i * 100 * SECOND);
	}
	/* "since 150 s ago" is by the clock that never jumps */
	assert_int_equal(
		logindex_read(&index, logindex_find_since(&index, now.wall - 150 * SECOND, now))
			.offset,
		30);
	/* After another boot of the host: counted from the last moment that was noted. */
	index.same_boot = false;
	for (int i = 0; i < 4; i++) {
		struct logindex_record record = logindex_read(&index, i);

		assert_int_equal(logindex_wall(&index, &record, at(99 * HOUR, 7)),
			2 * HOUR - (3 - i) * 100 * SECOND);
	}
	close(fd);
}

static void
boot_of_the_host_is_told(void **state)
{
	struct logindex index;
	int fd = file("a");

	logindex_create(&index, fd);
	logindex_open(&index, fd);
	assert_true(index.same_boot);
	assert_int_equal(pwrite(fd, "another boot's id", 16, 8), 16);
	logindex_open(&index, fd);
	assert_false(index.same_boot);
	close(fd);
}

/* A flood does not make the index bigger than it needs be, a dribble not bigger than its log. */
static void
records_are_apart(void **state)
{
	struct logindex index;
	int fd = file("a");
	struct stat st;
	uint64_t size = 0;
	int64_t us = 1;

	logindex_create(&index, fd);
	for (int i = 0; i < 10000; i++, us += 100, size += 50)
		logindex_note(&index, size, size + 50, at(us, us));
	assert_in_range(index.n, 99, 102); /* one second, a record each 10 ms */
	/* A byte each 20 ms for two hours: 12 MiB, were each noted. */
	for (int i = 0; i < 400000; i++, us += 20000, size += 1)
		logindex_note(&index, size, size + 1, at(us, us));
	fstat(fd, &st);
	assert_true(st.st_size < 6 * 1024 * 1024);
	close(fd);
}

static void
time_away_is_told(void **state)
{
	struct logindex index;
	int fd = file("a");
	struct logindex_record record;

	logindex_create(&index, fd);
	logindex_note(&index, 0, 100, at(1000 * SECOND, 100 * SECOND));
	logindex_open(&index, fd);
	/* 50 bytes came meanwhile, the last of them 3 s ago. */
	logindex_resume(&index, 150, 1997 * SECOND, at(2000 * SECOND, 1100 * SECOND));
	record = logindex_read(&index, logindex_find(&index, 100));
	assert_int_equal(record.offset, 100);
	assert_int_equal(record.kind, LOGINDEX_AWAY);
	assert_int_equal(record.time.mono, 1097 * SECOND);
	assert_int_equal(record.time.wall, 1997 * SECOND);
	assert_int_equal(logindex_find(&index, 99), 0);
	/* Nothing came: nothing is told. */
	logindex_open(&index, fd);
	logindex_resume(&index, 150, 1997 * SECOND, at(3000 * SECOND, 2100 * SECOND));
	assert_int_equal(logindex_find(&index, 149), 1);
	/* Set ahead by 1000 s since: when within the last 50 s it came is not known any more. */
	logindex_resume(&index, 160, 2960 * SECOND, at(4010 * SECOND, 2110 * SECOND));
	record = logindex_read(&index, logindex_find(&index, 155));
	assert_int_equal(record.offset, 150);
	assert_int_equal(record.kind, LOGINDEX_AWAY);
	assert_int_equal(record.time.mono, 2110 * SECOND);
	/* A clock that jumped back makes no time before the last. */
	logindex_resume(&index, 200, -5, at(10, 2120 * SECOND));
	record = logindex_read(&index, logindex_find(&index, 160));
	assert_true(record.time.mono >= 1097 * SECOND);
	/* Nor does a time that is none. */
	logindex_resume(&index, 300, INT64_MIN, at(3000 * SECOND, 2130 * SECOND));
	record = logindex_read(&index, logindex_find(&index, 250));
	assert_int_equal(record.offset, 200);
	assert_true(record.time.mono >= 1097 * SECOND);
	close(fd);
}

static void
old_records_are_forgotten(void **state)
{
	struct logindex index, again;
	int fd = file("a");
	int64_t us = SECOND;
	struct stat st;

	logindex_create(&index, fd);
	for (int i = 0; i < 3000; i++, us += SECOND)
		logindex_note(&index, i * 1000, (i + 1) * 1000, at(us, us));
	fstat(fd, &st);
	assert_true(st.st_blocks * 512 > 90000);
	logindex_forget(&index, 2900 * 1000);
	fstat(fd, &st);
	assert_true(st.st_blocks * 512 <= 3 * 4096 + 4096);
	logindex_open(&again, fd);
	for (int i = 2900; i < 3000; i++) {
		assert_int_equal(logindex_read(&index, logindex_find(&index, i * 1000 + 5)).offset,
			i * 1000);
		assert_int_equal(logindex_read(&again, logindex_find(&again, i * 1000 + 5)).offset,
			i * 1000);
	}
	assert_int_equal(logindex_find(&again, 5), again.n);
	/* and it goes on */
	logindex_note(&again, 3000000, 3000001, at(us, us));
	assert_int_equal(logindex_read(&again, logindex_find(&again, 3000000)).offset, 3000000);
	close(fd);
}

static void
cut_index_fits_the_cut_log(void **state)
{
	struct logindex index, copy;
	int fd = file("a"), to = file("b");

	logindex_create(&index, fd);
	for (int i = 0; i < 10; i++)
		logindex_note(&index, i * 100, (i + 1) * 100, at(i * SECOND, i * SECOND));
	index.gap_at = 700;
	index.gap_since = 7 * SECOND;
	logindex_copy_cut(&index, 350, to);
	logindex_open(&copy, to);
	assert_int_equal(copy.cut, 350);
	assert_int_equal(copy.gap_at, 350);
	assert_int_equal(copy.gap_since, 7 * SECOND);
	assert_int_equal(logindex_read(&copy, logindex_find(&copy, 0)).time.mono, 3 * SECOND);
	assert_int_equal(logindex_read(&copy, logindex_find(&copy, 50)).time.mono, 4 * SECOND);
	assert_int_equal(logindex_read(&copy, logindex_find(&copy, 649)).time.mono, 9 * SECOND);
	close(fd);
	close(to);
}

/* The file is the owner's. */
static void
garbage_is_survived(void **state)
{
	struct logindex index;
	char junk[8192];
	int fd = file("a");

	logindex_open(&index, -1);
	assert_int_equal(index.fd, -1);
	logindex_note(&index, 0, 10, at(1, 1));
	logindex_forget(&index, 10);
	assert_int_equal(logindex_find(&index, 5), index.n);
	logindex_open(&index, fd); /* empty */
	assert_int_equal(index.fd, -1);
	memset(junk, 0xff, sizeof(junk));
	assert_int_equal(pwrite(fd, junk, sizeof(junk), 0), sizeof(junk));
	logindex_open(&index, fd);
	assert_int_equal(index.fd, -1);
	/* A right head, and nonsense behind. */
	logindex_create(&index, fd);
	logindex_open(&index, fd);
	for (uint64_t offset = 1; offset; offset <<= 1) {
		struct logindex_record record = logindex_read(
			&index, logindex_find(&index, offset));

		(void)logindex_wall(&index, &record, logtime_now());
		(void)logindex_find_since(&index, (int64_t)offset, logtime_now());
	}
	logindex_note(&index, 5, 6, logtime_now());
	logindex_resume(&index, 100, 50, logtime_now());
	close(fd);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(bytes_have_their_times),
		T(clock_change_bends_nothing),
		T(boot_of_the_host_is_told),
		T(records_are_apart),
		T(time_away_is_told),
		T(old_records_are_forgotten),
		T(cut_index_fits_the_cut_log),
		T(garbage_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
