/* daemon/run: which logs are kept, and who may read them. */
#include "tests/unit/unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "daemon/run.h"

static char *folder;
static int dir_fd;

static int
set_up(void **state)
{
	folder = folder_make();
	dir_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir_fd >= 0);
	return 0;
}

static int
tear_down(void **state)
{
	close(dir_fd);
	folder_remove(folder);
	return 0;
}

static void
make(unsigned number, unsigned keep)
{
	struct run_files files = RUN_FILES_INIT;
	struct cij_error err = CIJ_ERROR_INIT;

	if (run_files_make(dir_fd, number, keep, &files, &err) < 0)
		fail_msg("%s", err.desc);
	assert_true(files.log_fd >= 0 && files.fifo_fd >= 0 && files.index_fd >= 0 &&
		    files.qemu_fd >= 0);
	run_files_close(&files);
}

static bool
exists(const char *name)
{
	return faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void
last_runs_are_kept(void **state)
{
	char name[64];

	for (unsigned i = 1; i <= 15; i++)
		make(i, 10);
	for (unsigned i = 1; i <= 15; i++) {
		snprintf(name, sizeof(name), "logs/%04u.out", i);
		assert_int_equal(exists(name), i > 5);
		snprintf(name, sizeof(name), "logs/%04u.index", i);
		assert_int_equal(exists(name), i > 5);
	}
	assert_int_equal(run_newest(dir_fd), 15);
	/* The last one before stays at least: it may be why this one is started. */
	make(16, 1);
	assert_true(exists("logs/0015.out") && !exists("logs/0014.out"));
}

/* Names that look like ours, and a log that cannot be removed: no endless loop, and nothing
 * touched. */
static void
foreign_names_are_left_alone(void **state)
{
	make(3, 10);
	assert_int_equal(mkdirat(dir_fd, "logs/0001.out", 0755), 0);
	close(openat(dir_fd, "logs/2.out", O_CREAT | O_WRONLY, 0644));
	close(openat(dir_fd, "logs/00002.out", O_CREAT | O_WRONLY, 0644));
	close(openat(dir_fd, "logs/99999999999999.out", O_CREAT | O_WRONLY, 0644));
	make(4, 1);
	make(5, 1);
	assert_false(exists("logs/0003.out"));
	assert_true(exists("logs/0001.out"));
	assert_true(exists("logs/2.out"));
	assert_int_equal(run_newest(dir_fd), 5);
}

static void
files_are_readable_for_all(void **state)
{
	struct stat st;

	umask(0077);
	make(1, 10);
	assert_int_equal(fstatat(dir_fd, "logs/0001.out", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	assert_int_equal(fstatat(dir_fd, "logs/0001.index", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	assert_int_equal(fstatat(dir_fd, "logs", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0755);
	assert_int_equal(fstatat(dir_fd, "logs/0001.in", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(fstatat(dir_fd, "console.log", &st, 0), 0);
	assert_true(S_ISREG(st.st_mode));
}

/* A link in the place of a log leads nowhere. */
static void
links_are_not_followed(void **state)
{
	struct run_files files = RUN_FILES_INIT;

	make(1, 10);
	assert_int_equal(unlinkat(dir_fd, "logs/0001.out", 0), 0);
	assert_int_equal(symlinkat("/etc/passwd", dir_fd, "logs/0001.out"), 0);
	run_files_open(dir_fd, 1, true, &files);
	assert_int_equal(files.log_fd, -1);
	run_files_close(&files);
	run_files_open(dir_fd, 1, false, &files);
	assert_int_equal(files.log_fd, -1);
	run_files_close(&files);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(last_runs_are_kept),
		T(foreign_names_are_left_alone),
		T(files_are_readable_for_all),
		T(links_are_not_followed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
