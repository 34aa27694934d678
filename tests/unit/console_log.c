/* daemon/console_log: a log that grows under us, its bounds, its room, its lines. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/console_log.h"

#define KiB 1024

static char *folder;
static int writer; /* QEMU's end */
static struct console_log log_;

static int
open_at(const char *name, int flags)
{
	return folder_open(folder, name, flags);
}

static void
reopen(uint64_t limit, bool live)
{
	console_log_open(&log_, open_at("out", O_RDWR), open_at("index", O_RDWR), limit, live);
}

static int
set_up(void **state)
{
	folder = folder_make();
	writer = open_at("out", O_WRONLY | O_CREAT);
	close(open_at("index", O_WRONLY | O_CREAT));
	return 0;
}

static int
tear_down(void **state)
{
	console_log_close(&log_);
	close(writer);
	folder_remove(folder);
	return 0;
}

/* Numbered lines of 16 bytes. */
static void
print(int from, int to)
{
	char line[32];

	for (int i = from; i < to; i++) {
		snprintf(line, sizeof(line), "line %010d\n", i);
		assert_int_equal(write(writer, line, 16), 16);
	}
}

static int64_t
room(void)
{
	struct stat st;

	assert_int_equal(fstat(writer, &st), 0);
	return st.st_blocks * 512;
}

static void
head_goes_beyond_the_limit(void **state)
{
	char line[17] = "";

	reopen(64 * KiB, true);
	if (log_.no_punch)
		skip();
	for (int i = 0; i < 100; i++) {
		print(i * 256, (i + 1) * 256);
		console_log_look(&log_);
		console_log_bound(&log_);
		assert_true(log_.size - log_.head <= 64 * KiB);
		assert_int_equal(log_.head % 4096, 0);
		assert_int_equal(pread(log_.fd, line, 16, (off_t)log_.head), 16);
		assert_int_equal(atoi(line + 5), log_.head / 16);
	}
	assert_int_equal(log_.size, 100 * 4096);
	assert_true(log_.size - log_.head > 56 * KiB);
	/* Ahead there is no more than one and a half steps. */
	assert_true(room() <= (64 + 96 + 8) * KiB);
	/* The next daemon finds the head where it is. */
	uint64_t head = log_.head;
	console_log_close(&log_);
	reopen(64 * KiB, true);
	assert_int_equal(log_.head, head);
	/* All in one go, as after a stop of the daemon. */
	print(25600, 125600);
	console_log_look(&log_);
	assert_int_equal(console_log_bound(&log_), CONSOLE_LOG_PUNCHED);
	assert_true(log_.size - log_.head <= 64 * KiB);
}

static void
room_ahead_is_given_back(void **state)
{
	reopen(0, true);
	console_log_look(&log_);
	if (log_.no_allocate)
		skip();
	assert_true(room() >= 256 * KiB);
	assert_true(log_.allocated >= 256 * KiB);
	print(0, 10);
	console_log_look(&log_);
	console_log_end(&log_);
	assert_int_equal(lseek(writer, 0, SEEK_END), 160);
	assert_true(room() <= 4096);
}

static void
lines_are_counted_back(void **state)
{
	reopen(0, true);
	console_log_look(&log_);
	assert_int_equal(console_log_lines_back(&log_, 3), 0);
	print(0, 20000);
	console_log_look(&log_);
	assert_int_equal(console_log_lines_back(&log_, 1), 19999 * 16);
	assert_int_equal(console_log_lines_back(&log_, 20000), 0);
	assert_int_equal(console_log_lines_back(&log_, 19999), 16);
	assert_int_equal(console_log_lines_back(&log_, 12345), (20000 - 12345) * 16);
	assert_int_equal(console_log_lines_back(&log_, INT64_MAX), 0);
	/* An unfinished last line counts as one. */
	assert_int_equal(write(writer, "login: ", 7), 7);
	console_log_look(&log_);
	assert_int_equal(console_log_lines_back(&log_, 1), 20000 * 16);
	assert_int_equal(console_log_lines_back(&log_, 2), 19999 * 16);
}

static void
lines_end_at_the_head(void **state)
{
	reopen(64 * KiB, true);
	if (log_.no_punch)
		skip();
	print(0, 20000);
	console_log_look(&log_);
	console_log_bound(&log_);
	assert_true(log_.head > 0);
	assert_int_equal(console_log_lines_back(&log_, 20000), log_.head);
	assert_int_equal(console_log_lines_back(&log_, 2), 19998 * 16);
}

static void
owner_may_cut_it(void **state)
{
	reopen(0, true);
	print(0, 100);
	console_log_look(&log_);
	assert_int_equal(ftruncate(writer, 0), 0);
	console_log_look(&log_);
	assert_int_equal(log_.size, 0);
	print(100, 200); /* QEMU writes on at its own offset */
	console_log_look(&log_);
	assert_int_equal(log_.size, 3200);
	assert_int_equal(console_log_lines_back(&log_, 1), 199 * 16);
}

static void
read_only_log_is_told(void **state)
{
	int fd = open_at("out", O_RDONLY);

	console_log_open(&log_, fd, -1, 64 * KiB, true);
	print(0, 10000);
	console_log_look(&log_);
	assert_int_equal(console_log_bound(&log_), CONSOLE_LOG_NO_PUNCH);
	assert_true(log_.no_punch);
	assert_int_equal(log_.head, 0);
	assert_int_equal(log_.size, 160000);
	assert_false(log_.full);
	print(10000, 20000);
	assert_int_equal(console_log_look(&log_), CONSOLE_LOG_GREW);
	assert_int_equal(console_log_bound(&log_), 0); /* told once */
}

static void
ended_log_is_left_alone(void **state)
{
	print(0, 10000);
	reopen(0, false);
	int64_t before = room();

	console_log_look(&log_);
	console_log_end(&log_);
	assert_int_equal(room(), before);
	assert_int_equal(log_.size, 160000);
}

/* Its owner can give a log any time; this kernel's file systems in memory take all of them. */
static void
absurd_times_are_no_news(void **state)
{
	static const int64_t seconds[] = {INT64_MAX, INT64_MAX / 1000000, INT64_MIN, -1, 0};

	reopen(0, true);
	for (size_t i = 0; i < cij_array_size(seconds); i++) {
		struct timespec times[2] = {{seconds[i], 0}, {seconds[i], 999999999}};
		struct logtime now = logtime_now();
		int fd = memfd_create("out", MFD_CLOEXEC);

		assert_int_equal(write(fd, "line\n", 5), 5);
		assert_int_equal(futimens(fd, times), 0);
		console_log_close(&log_);
		console_log_open(&log_, fd, memfd_create("index", MFD_CLOEXEC), 0, true);
		console_log_look(&log_);
		assert_int_equal(log_.size, 5);
		assert_true(log_.index.last.time.wall >= 0);
		assert_true(log_.index.last.time.wall <= now.wall + 60 * 1000000LL);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(head_goes_beyond_the_limit),
		T(room_ahead_is_given_back),
		T(lines_are_counted_back),
		T(lines_end_at_the_head),
		T(owner_may_cut_it),
		T(read_only_log_is_told),
		T(ended_log_is_left_alone),
		T(absurd_times_are_no_news),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
