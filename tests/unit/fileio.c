/* daemon/fileio: files in somebody else's folder: no link followed, nothing waited for. */
#include "tests/unit/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/fileio.h"

static void
put(const char *name, const char *text, size_t len)
{
	_cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_int_equal(write_all(fd, text, len), 0);
}

static void
refused(const char *name, int errnum)
{
	size_t len;

	errno = 0;
	assert_int_equal(file_open_read_at(dir, name), -1);
	assert_int_equal(errno, errnum);
	assert_null(file_read_at(dir, name, 100, &len, NULL));
}

static void
only_regular_files_are_read(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -1, sock = socket(AF_UNIX, SOCK_STREAM, 0);

	put("file", "text", 4);
	fd = file_open_read_at(dir, "file");
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(symlinkat("file", dir, "link"), 0);
	assert_int_equal(mkfifoat(dir, "fifo", 0600), 0);
	assert_int_equal(mkdirat(dir, "folder", 0700), 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/sock", top);
	assert_int_equal(bind(sock, (struct sockaddr *)&addr, sizeof(addr)), 0);
	refused("none", ENOENT);
	refused("link", ELOOP);
	refused("fifo", EINVAL); /* without waiting for a writer */
	refused("folder", EINVAL);
	refused("sock", ENXIO);
	refused("/dev/null", EINVAL);
}

static void
files_have_a_limit(void **state)
{
	_cleanup_free_ char *text = NULL, *empty = NULL;
	struct stat st;
	size_t len;

	put("file", "a\0b", 3);
	text = file_read_at(dir, "file", 3, &len, &st);
	assert_int_equal(len, 3);
	assert_memory_equal(text, "a\0b", 4); /* a NUL behind it */
	assert_int_equal(st.st_size, 3);
	assert_null(file_read_at(dir, "file", 2, &len, NULL));
	assert_int_equal(errno, EFBIG);
	put("empty", "", 0);
	empty = file_read_at(dir, "empty", 0, &len, NULL);
	assert_int_equal(len, 0);
	assert_string_equal(empty, "");
}

static void
files_are_replaced_whole(void **state)
{
	char temporary[64];
	_cleanup_free_ char *text = NULL, *victim = NULL;
	struct stat st;
	size_t len;

	put("victim", "mine", 4);
	assert_int_equal(symlinkat("victim", dir, "file"), 0);
	/* What an earlier life of the same pid left, even a link. */
	snprintf(temporary, sizeof(temporary), ".file.%d", (int)getpid());
	assert_int_equal(symlinkat("victim", dir, temporary), 0);
	umask(077);
	assert_int_equal(file_write_at(dir, "file", "new", 3, 0644), 0);
	umask(022);
	assert_int_equal(fstatat(dir, "file", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0644); /* whatever the umask */
	text = file_read_at(dir, "file", 100, &len, NULL);
	assert_string_equal(text, "new");
	victim = file_read_at(dir, "victim", 100, &len, NULL);
	assert_string_equal(victim, "mine");
	assert_int_equal(faccessat(dir, temporary, F_OK, AT_SYMLINK_NOFOLLOW), -1);
}

static void
a_failed_write_leaves_nothing(void **state)
{
	char temporary[64];

	assert_int_equal(mkdirat(dir, "folder", 0700), 0);
	assert_int_equal(file_write_at(dir, "folder", "x", 1, 0644), -1);
	assert_int_equal(errno, EISDIR);
	snprintf(temporary, sizeof(temporary), ".folder.%d", (int)getpid());
	assert_int_equal(faccessat(dir, temporary, F_OK, AT_SYMLINK_NOFOLLOW), -1);
	assert_int_equal(file_write_at(dir, "none/file", "x", 1, 0644), -1);
}

static void
folders_are_made_and_opened(void **state)
{
	_cleanup_close_ int made = -1, again = -1;
	_cleanup_free_ char *deep = NULL;
	char path[256];
	struct stat st;

	umask(077);
	made = dir_make_at(dir, "a", 0755);
	umask(022);
	assert_true(made >= 0);
	assert_int_equal(fstatat(dir, "a", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0755);
	again = dir_make_at(dir, "a", 0700); /* what is there stays as it is */
	assert_true(again >= 0);
	assert_int_equal(fstatat(dir, "a", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0755);
	assert_int_equal(symlinkat("a", dir, "link"), 0);
	assert_int_equal(dir_open_at(dir, "link"), -1);
	assert_int_equal(dir_make_at(dir, "link", 0755), -1);
	put("file", "", 0);
	assert_int_equal(dir_make_at(dir, "file", 0755), -1);
	snprintf(path, sizeof(path), "%s/b/c//d/", top);
	assert_int_equal(dir_make_path(path, 0750), 0);
	assert_int_equal(fstatat(dir, "b/c/d", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0750);
	assert_int_equal(dir_make_path(path, 0750), 0);
	snprintf(path, sizeof(path), "%s/file/x", top);
	assert_int_equal(dir_make_path(path, 0750), -1);
}

static void
folders_are_removed_but_nothing_behind_links(void **state)
{
	assert_int_equal(mkdirat(dir, "kept", 0700), 0);
	put("kept/file", "mine", 4);
	assert_int_equal(mkdirat(dir, "gone", 0700), 0);
	assert_int_equal(mkdirat(dir, "gone/sub", 0700), 0);
	put("gone/sub/file", "x", 1);
	put("gone/.hidden", "x", 1);
	assert_int_equal(symlinkat("../kept", dir, "gone/link"), 0);
	assert_int_equal(mkfifoat(dir, "gone/fifo", 0600), 0);
	assert_int_equal(dir_remove_at(dir, "gone"), 0);
	assert_int_equal(faccessat(dir, "gone", F_OK, 0), -1);
	assert_int_equal(faccessat(dir, "kept/file", F_OK, 0), 0);
	assert_int_equal(dir_remove_at(dir, "gone"), -1);
	assert_int_equal(errno, ENOENT);
	/* A link in its place: the link goes. */
	assert_int_equal(symlinkat("kept", dir, "link"), 0);
	assert_int_equal(dir_remove_at(dir, "link"), 0);
	assert_int_equal(faccessat(dir, "kept/file", F_OK, 0), 0);
}

static void
count(void *arg)
{
	++*(int *)arg;
}

static void
nesting_has_a_limit(void **state)
{
	char path[512] = "d", *p = path + 1;
	int gone = 0;

	assert_int_equal(mkdirat(dir, path, 0700), 0);
	for (int i = 0; i < 50; i++) {
		p = stpcpy(p, "/d");
		assert_int_equal(mkdirat(dir, path, 0700), 0);
	}
	assert_int_equal(dir_remove_at(dir, "d"), -1);
	assert_int_equal(errno, ELOOP);
	/* What cannot be removed keeps nothing else. */
	put("a", "x", 1);
	put("z", "x", 1);
	assert_int_equal(mkdirat(dir, "e", 0700), 0);
	put("e/file", "x", 1);
	assert_int_equal(dir_clear(dir, count, &gone), -1);
	assert_int_equal(errno, ELOOP);
	assert_int_equal(gone, 4);
	assert_int_equal(faccessat(dir, "d", F_OK, 0), 0);
	assert_int_equal(faccessat(dir, "z", F_OK, 0), -1);
}

static const char *
last_line(const char *text, size_t len)
{
	static char buf[80];
	_cleanup_close_ int fd = -1;

	put("log", text, len);
	fd = openat(dir, "log", O_RDONLY | O_CLOEXEC);
	return file_last_line(fd, buf, sizeof(buf));
}
#define LAST(text_) last_line(text_, sizeof(text_) - 1)

static void
last_words(void **state)
{
	char window[5000];

	assert_string_equal(LAST(""), "");
	assert_string_equal(LAST("\n\r\n \t\n"), "");
	assert_string_equal(LAST("one"), "one");
	assert_string_equal(LAST("one\ntwo\n"), "two");
	assert_string_equal(LAST("one\ntwo\r\n\n  \n"), "two");
	assert_string_equal(LAST("one\n\033[31mred\xff\n"), "?[31mred?");
	assert_string_equal(LAST("one\ntw\0o\nthree\n"), "three");
	assert_string_equal(LAST("one\ntwo\0x\n"), "two x");
	assert_string_equal(LAST("one\n\0\0\0"), "one");
	/* A line longer than the window is cut to what the buffer holds. */
	memset(window, 'x', sizeof(window));
	assert_int_equal(strlen(last_line(window, sizeof(window))), 79);
	char buf[8];
	assert_string_equal(file_last_line(-1, buf, sizeof(buf)), "");
}

int
main(void)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, begin, end)
	const struct CMUnitTest tests[] = {
		T(only_regular_files_are_read),
		T(files_have_a_limit),
		T(files_are_replaced_whole),
		T(a_failed_write_leaves_nothing),
		T(folders_are_made_and_opened),
		T(folders_are_removed_but_nothing_behind_links),
		T(nesting_has_a_limit),
		T(last_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
