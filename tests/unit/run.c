/* daemon/run: a run's files and its record on disk, whatever else lies there. */
#include "tests/unit/folder.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/fileio.h"
#include "daemon/run.h"

/* Makes the file @name with @text in it. */
static void
put(const char *name, const char *text)
{
	_cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, text, strlen(text)), 0);
}

static bool
there(const char *name)
{
	return faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void
make(unsigned number, unsigned keep)
{
	struct run_files files = RUN_FILES_INIT;
	struct cij_error err;

	if (run_files_make(dir, number, keep, &files, &err) < 0)
		fail_msg("run %u: %s", number, err.desc);
	run_files_close(&files);
}

static void
a_run_has_its_files(void **state)
{
	struct run_files files = RUN_FILES_INIT;
	struct cij_error err;
	struct stat st;
	char link[64] = "";

	assert_int_equal(run_newest(dir), 0);
	assert_int_equal(run_files_make(dir, 7, 10, &files, &err), 0);
	assert_true(files.log_fd >= 0 && files.fifo_fd >= 0 && files.qemu_fd >= 0);
	assert_int_equal(fstatat(dir, "logs/0007.out", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0644);
	assert_int_equal(fstatat(dir, "logs/0007.in", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFIFO | 0600);
	assert_true(there("logs/0007.qemu"));
	assert_true(readlinkat(dir, "console.log", link, sizeof(link)) > 0);
	assert_string_equal(link, "logs/0007.out");
	memset(link, 0, sizeof(link));
	assert_true(readlinkat(dir, "console.out", link, sizeof(link)) > 0);
	assert_string_equal(link, "console.log");
	run_files_close(&files);
	assert_int_equal(files.log_fd, -1);
	assert_int_equal(run_newest(dir), 7);
	run_files_open(dir, 7, false, &files);
	assert_true(files.log_fd >= 0 && files.fifo_fd >= 0 && files.qemu_fd >= 0);
	run_files_close(&files);
	run_files_open(dir, 8, false, &files);
	assert_true(files.log_fd < 0 && files.fifo_fd < 0 && files.qemu_fd < 0);
}

static void
the_oldest_runs_go(void **state)
{
	for (unsigned i = 1; i <= 5; i++)
		make(i, 3);
	assert_false(there("logs/0001.out") || there("logs/0002.out") || there("logs/0002.in"));
	assert_true(there("logs/0003.out") && there("logs/0005.in"));
	make(6, 1); /* the one before stays at least */
	assert_true(there("logs/0005.out"));
	assert_false(there("logs/0004.out"));
	make(10000, 3);
	assert_int_equal(run_newest(dir), 10000);
	assert_true(there("logs/10000.out"));
}

/* The owner of a folder may put anything there: no start may hang on it. */
static void
what_cannot_be_removed_stays(void **state)
{
	assert_int_equal(mkdirat(dir, "logs", 0755), 0);
	for (int i = 1; i <= 5; i++) {
		char name[32];

		snprintf(name, sizeof(name), "logs/000%d.out", i);
		assert_int_equal(mkdirat(dir, name, 0755), 0);
	}
	put("logs/6.out", "");
	put("logs/00007.out", "");
	put("logs/8.out.bak", "");
	put("logs/99999999999.out", "");
	put("logs/0009.run.json", "");
	assert_int_equal(run_newest(dir), 5); /* names that are not ours do not count */
	make(6, 2);
	assert_true(there("logs/0001.out") && there("logs/6.out"));
	assert_true(there("logs/0006.out"));
}

static void
leftovers_of_a_start_that_was_cut_short(void **state)
{
	assert_int_equal(mkdirat(dir, "logs", 0755), 0);
	put("logs/0001.in", "");
	put("logs/0001.qemu", "old");
	make(1, 10);
	assert_true(there("logs/0001.out"));
}

static void
links_and_files_of_the_owners_own(void **state)
{
	struct run_files files = RUN_FILES_INIT;
	struct cij_error err;

	put("console.log", "the owner's own");
	make(1, 10);
	struct stat st;
	assert_int_equal(fstatat(dir, "console.log", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISREG(st.st_mode)); /* not replaced by a link */
	/* A link instead of logs/ is not followed. */
	assert_int_equal(renameat(dir, "logs", dir, "elsewhere"), 0);
	assert_int_equal(symlinkat("elsewhere", dir, "logs"), 0);
	assert_int_equal(run_newest(dir), 0);
	assert_int_equal(run_files_make(dir, 2, 10, &files, &err), -1);
	assert_has(err.desc, "cannot make the folder 'logs'");
	run_files_close(&files);
	assert_false(there("elsewhere/0002.out"));
}

static void
what_is_no_fifo_or_file_is_not_opened(void **state)
{
	struct run_files files = RUN_FILES_INIT;

	assert_int_equal(mkdirat(dir, "logs", 0755), 0);
	put("logs/0001.in", "a file");
	assert_int_equal(mkfifoat(dir, "logs/0001.out", 0600), 0); /* would block a reader */
	assert_int_equal(symlinkat("/dev/zero", dir, "logs/0001.qemu"), 0);
	run_files_open(dir, 1, false, &files);
	assert_true(files.log_fd < 0 && files.fifo_fd < 0 && files.qemu_fd < 0);
	run_files_close(&files);
}

static void
a_record_comes_back(void **state)
{
	struct run run = {.number = 12,
		.qemu = strdup("/opt/qemu"),
		.version = strdup("7.2.22"),
		.dialect = strdup("upstream"),
		.kvm = true,
		.accel_why = strdup("it \"works\""),
		.port = 2022,
		.by_uid = 1003,
		.by_pid = 4711,
		.started = 1790000000,
		.ended = 1790000100,
		.boot_ms = 5832,
		.reason = GR_CRASHED,
		.has_exit = true,
		.exit = {true, true, SIGSEGV},
		.error = strdup("last words \xc3\xa4"),
		.argv = json("['/opt/qemu','-S']")};
	struct run back;
	struct cij_error err;

	make(12, 10);
	assert_int_equal(run_save(dir, &run, &err), 0);
	assert_int_equal(run_load(dir, 12, &back), 0);
	assert_int_equal(back.number, 12);
	assert_string_equal(back.qemu, run.qemu);
	assert_string_equal(back.version, run.version);
	assert_string_equal(back.dialect, run.dialect);
	assert_true(back.kvm);
	assert_string_equal(back.accel_why, run.accel_why);
	assert_int_equal(back.port, 2022);
	assert_int_equal(back.by_uid, 1003);
	assert_int_equal(back.by_pid, 4711);
	assert_int_equal(back.started, run.started);
	assert_int_equal(back.ended, run.ended);
	assert_int_equal(back.boot_ms, 5832);
	assert_int_equal(back.reason, GR_CRASHED);
	assert_true(back.has_exit && back.exit.known && back.exit.signaled);
	assert_int_equal(back.exit.code, SIGSEGV);
	assert_string_equal(back.error, run.error);
	assert_json(back.argv, "['/opt/qemu','-S']");
	run_clear(&back);
	run_clear(&run);
}

static void
what_is_not_known_stays_unknown(void **state)
{
	struct run run = {.number = 1, .boot_ms = -1}, back;
	struct cij_error err;

	make(1, 10);
	assert_int_equal(run_save(dir, &run, &err), 0);
	assert_int_equal(run_load(dir, 1, &back), 0);
	assert_null(back.qemu);
	assert_int_equal(back.started, 0);
	assert_int_equal(back.ended, 0);
	assert_int_equal(back.boot_ms, -1);
	assert_int_equal(back.reason, GR_NONE);
	assert_false(back.has_exit);
	assert_null(back.argv);
	run_clear(&back);
}

static void
a_record_that_is_cut_short_is_none(void **state)
{
	struct run run = {.number = 1, .boot_ms = -1, .qemu = strdup("/q")}, back;
	_cleanup_free_ char *text = NULL;
	struct cij_error err;
	struct stat st;
	size_t len;

	make(1, 10);
	assert_int_equal(run_save(dir, &run, &err), 0);
	text = file_read_at(dir, "logs/0001.run.json", 65536, &len, &st);
	assert_non_null(text);
	for (size_t cut = 0; cut < len; cut++) {
		char was = text[cut];

		text[cut] = '\0';
		put("logs/0001.run.json", text);
		assert_int_equal(run_load(dir, 1, &back), -1);
		run_clear(&back);
		text[cut] = was;
	}
	put("logs/0001.run.json", "[1]");
	assert_int_equal(run_load(dir, 1, &back), -1);
	run_clear(&back);
	assert_int_equal(run_load(dir, 2, &back), -1);
	run_clear(&back);
	run_clear(&run);
}

static void
a_record_of_the_wrong_types_does_no_harm(void **state)
{
	struct run back;

	make(1, 10);
	put("logs/0001.run.json", "{\"qemu\":1,\"port\":70000,\"started\":\"yesterday\",\"exit\":7,"
				  "\"by\":[],\"reason\":\"odd\",\"boot_ms\":\"x\"}");
	assert_int_equal(run_load(dir, 1, &back), 0);
	assert_null(back.qemu);
	assert_int_equal(back.port, 0);
	assert_int_equal(back.started, 0);
	assert_int_equal(back.reason, GR_NONE);
	assert_int_equal(back.boot_ms, -1);
	assert_false(back.has_exit);
	run_clear(&back);
}

/* How it ended, and when: numbers that no process ends with, and no clock shows, are not known. */
static void
a_record_of_impossible_numbers_does_no_harm(void **state)
{
	static const char *const exits[] = {"{\"signal\":4294967305}", "{\"signal\":0}",
		"{\"signal\":65}", "{\"code\":256}", "{\"code\":-1}", "{\"signal\":-9}"};
	_cleanup_free_ char *text = NULL;
	struct run back;

	make(1, 10);
	for (size_t i = 0; i < cij_array_size(exits); i++) {
		text = (free(text), str_printf("{\"exit\":%s}", exits[i]));
		put("logs/0001.run.json", text);
		assert_int_equal(run_load(dir, 1, &back), 0);
		assert_false(back.has_exit || back.exit.known || back.exit.signaled);
		assert_int_equal(back.exit.code, 0);
		run_clear(&back);
	}
	text = (free(text),
		str_printf("{\"boot_id\":\"%s\",\"exit\":{\"signal\":-1,\"code\":3},\"backoff\":"
			   "{\"failures\":[-1,1e300,\"x\",7.5,9,1,2,3,4]}}",
			clock_boot_id()));
	put("logs/0001.run.json", text);
	assert_int_equal(run_load(dir, 1, &back), 0);
	assert_true(back.has_exit && !back.exit.signaled);
	assert_int_equal(back.exit.code, 3);
	/* No hole between those that are left: the first 0 ends them. */
	assert_true(back.backoff.failures[0] == 7.5 && back.backoff.failures[1] == 9);
	assert_true(back.backoff.failures[4] == 3);
	run_clear(&back);
}

static void
a_record_is_replaced_whole(void **state)
{
	struct run run = {.number = 1, .boot_ms = -1};
	struct cij_error err;

	make(1, 10);
	assert_int_equal(unlinkat(dir, "logs/0001.qemu", 0), 0);
	/* A link planted in its place is replaced, not followed. */
	put("victim", "mine");
	assert_int_equal(symlinkat("../victim", dir, "logs/0001.run.json"), 0);
	assert_int_equal(run_save(dir, &run, &err), 0);
	size_t len;
	_cleanup_free_ char *victim = file_read_at(dir, "victim", 100, &len, NULL);
	assert_string_equal(victim, "mine");
	assert_int_equal(renameat(dir, "logs", dir, "gone"), 0);
	assert_int_equal(run_save(dir, &run, &err), -1);
	assert_string_equal(
		err.desc, "cannot write 'logs/0001.run.json': No such file or directory");
}

static void
exits_in_json(void **state)
{
	const struct proc_exit code = {true, false, 3}, killed = {true, true, SIGKILL},
			       odd = {true, true, 64 + 10}, unknown = {false, false, 0};
	_cleanup_json_ struct json_object *a = run_exit_to_json(true, &code),
					  *b = run_exit_to_json(true, &killed),
					  *c = run_exit_to_json(true, &odd);

	assert_json(a, "{'code':3}");
	assert_json(b, "{'signal':9,'name':'SIGKILL'}");
	assert_json(c, "{'signal':74,'name':null}");
	assert_null(run_exit_to_json(true, &unknown));
	assert_null(run_exit_to_json(false, &code));
}

int
main(void)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, begin, end)
	const struct CMUnitTest tests[] = {
		T(a_run_has_its_files),
		T(the_oldest_runs_go),
		T(what_cannot_be_removed_stays),
		T(leftovers_of_a_start_that_was_cut_short),
		T(links_and_files_of_the_owners_own),
		T(what_is_no_fifo_or_file_is_not_opened),
		T(a_record_comes_back),
		T(what_is_not_known_stays_unknown),
		T(a_record_that_is_cut_short_is_none),
		T(a_record_of_the_wrong_types_does_no_harm),
		T(a_record_of_impossible_numbers_does_no_harm),
		T(a_record_is_replaced_whole),
		cmocka_unit_test(exits_in_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
