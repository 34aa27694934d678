/* proto/message, error and addr: what goes over the socket, exit codes, where the socket is. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "cijqemu/protocol.h"
#include "proto/addr.h"
#include "proto/message.h"
#include "proto/text.h"

static void
requests_and_replies(void **state)
{
	struct cij_error error = {.class = CIJ_E_GUEST_NOT_FOUND, .desc = "no guest 'x'"};
	_cleanup_json_ struct json_object *bare = cij_message_request("query-guests", NULL, 1);
	_cleanup_json_ struct json_object *request = cij_message_request(
		"guest-start", json("{'guest':'x'}"), 7);
	_cleanup_json_ struct json_object *reply = cij_message_return(
		json("{'a':1}"), json_object_new_string("id"));
	_cleanup_json_ struct json_object *no_id = cij_message_return(NULL, NULL);
	_cleanup_json_ struct json_object *failure = cij_message_error(&error, json("7"));

	assert_json(bare, "{'execute':'query-guests','id':1}");
	assert_json(request, "{'execute':'guest-start','arguments':{'guest':'x'},'id':7}");
	assert_json(reply, "{'return':{'a':1},'id':'id'}");
	assert_json(no_id, "{'return':null}");
	assert_json(failure,
		"{'error':{'class':'GuestNotFound','desc':'no guest \\u0027x\\u0027'},'id':7}");
	cij_error_hint(&error, "did you mean '%s'?", "y");
	_cleanup_json_ struct json_object *hinted = cij_message_error(&error, NULL);
	assert_string_equal(
		cij_json_str(cij_json_get(hinted, "error"), "hint"), "did you mean 'y'?");
	assert_null(cij_json_get(hinted, "id"));
}

static void
events_and_greeting(void **state)
{
	_cleanup_json_ struct json_object *event = cij_message_event(
		"LEASE", json("{'guest':'x'}"), 42);
	_cleanup_json_ struct json_object *greeting = cij_message_greeting();
	struct json_object *stamp = cij_json_get(event, "timestamp");

	assert_string_equal(cij_json_str(event, "event"), "LEASE");
	assert_json(cij_json_get(event, "data"), "{'guest':'x'}");
	assert_int_equal(cij_json_int(event, "seq", -1), 42);
	assert_true(cij_json_int(stamp, "seconds", 0) > 1600000000);
	assert_true(cij_json_int(stamp, "microseconds", -1) >= 0);
	assert_json(greeting, "{'cijqemud':{'version':'" CIJ_VERSION "','api':1}}");
}

static void
a_message_is_one_line(void **state)
{
	_cleanup_json_ struct json_object *msg = json_object_new_object();
	const char *text;
	size_t len;

	cij_json_add_str(msg, "a", "x\ny\r\x01/\xc3\xa4");
	text = cij_message_line(msg, &len);
	assert_int_equal(len, strlen(text));
	assert_string_equal(text, "{\"a\":\"x\\ny\\r\\u0001/\xc3\xa4\"}");
}

static void
errors_come_back_from_replies(void **state)
{
	_cleanup_json_ struct json_object *full = json(
		"{'error':{'class':'Busy','desc':'it is','hint':'wait'}}");
	_cleanup_json_ struct json_object *odd = json("{'error':{'class':'FromTheFuture'}}");
	_cleanup_json_ struct json_object *none = json("{}");
	struct cij_error err;

	assert_int_equal(cij_message_to_error(full, &err), -1);
	assert_int_equal(err.class, CIJ_E_BUSY);
	assert_string_equal(err.desc, "it is");
	assert_string_equal(err.hint, "wait");
	cij_message_to_error(odd, &err);
	assert_int_equal(err.class, CIJ_E_FAILED);
	assert_string_equal(err.desc, "the daemon gave no reason");
	assert_string_equal(err.hint, "");
	cij_message_to_error(none, &err);
	assert_int_equal(err.class, CIJ_E_FAILED);
}

static void
exit_codes_are_the_contract(void **state)
{
	static const struct {
		const char *name;
		int code;
	} contract[] = {
		{"BadRequest", 65},
		{"GuestExists", 65},
		{"GuestNotFound", 66},
		{"Internal", 70},
		{"Busy", 75},
		{"Leased", 75},
		{"NoResources", 75},
		{"Denied", 77},
		{"BadConfig", 78},
		{"Timeout", 124},
		{"QemuFailed", 1},
		{"NotSupported", 1},
	};

	for (size_t i = 0; i < cij_array_size(contract); i++) {
		enum cij_error_class class = cij_error_class_from_name(contract[i].name);

		assert_int_not_equal(class, CIJ_E_FAILED);
		assert_string_equal(cij_error_class_name(class), contract[i].name);
		assert_int_equal(cij_error_exit_code(class), contract[i].code);
	}
	assert_int_equal(cij_error_exit_code(CIJ_E_USAGE), 64);
	assert_int_equal(cij_error_exit_code(CIJ_E_UNREACHABLE), 69);
	assert_int_equal(cij_error_exit_code(CIJ_E_PROTOCOL), 76);
	assert_int_equal(cij_error_exit_code(CIJ_E_FAILED), 1);
	assert_int_equal(cij_error_exit_code(CIJ_E_NONE), 0);
	assert_int_equal(cij_error_class_from_name(NULL), CIJ_E_FAILED);
	assert_int_equal(cij_error_class_from_name(""), CIJ_E_FAILED);
}

static void
errors_are_set_prefixed_and_cut(void **state)
{
	char long_text[3000];
	struct cij_error err;

	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	assert_int_equal(cij_error_set(NULL, CIJ_E_BUSY, "x"), -1);
	assert_int_equal(cij_error_prefix(NULL, "x"), -1);
	assert_int_equal(cij_error_hint(NULL, "x"), -1);
	assert_int_equal(cij_error_errno(NULL, CIJ_E_BUSY, ENOENT, "x"), -1);
	cij_error_set(&err, CIJ_E_BUSY, "first");
	cij_error_hint(&err, "a way out");
	cij_error_errno(&err, CIJ_E_DENIED, ENOENT, "file '%s'", "f");
	assert_int_equal(err.class, CIJ_E_DENIED);
	assert_string_equal(err.desc, "file 'f': No such file or directory");
	assert_string_equal(err.hint, "");
	cij_error_prefix(&err, "guest '%s'", "g");
	assert_string_equal(err.desc, "guest 'g': file 'f': No such file or directory");
	cij_error_errno(&err, CIJ_E_DENIED, ENOENT, "%s", long_text);
	assert_int_equal(strlen(err.desc), CIJ_ERROR_DESC_MAX - 1);
	cij_error_prefix(&err, "%s", long_text);
	assert_int_equal(strlen(err.desc), CIJ_ERROR_DESC_MAX - 1);
	cij_error_hint(&err, "%s", long_text);
	assert_int_equal(strlen(err.hint), CIJ_ERROR_HINT_MAX - 1);
}

static void
errors_are_one_line_of_utf8(void **state)
{
	char long_text[3000] = "";
	struct cij_error err;

	cij_error_set(&err, CIJ_E_BUSY, "file '%s'", "a\nb\xff\xc3\xa4\033[m");
	assert_string_equal(err.desc, "file 'a?b?\xc3\xa4?[m'");
	cij_error_hint(&err, "\xed\xa0\x80");
	assert_string_equal(err.hint, "???");
	cij_error_prefix(&err, "\t");
	assert_string_equal(err.desc, "?: file 'a?b?\xc3\xa4?[m'");
	cij_error_errno(&err, CIJ_E_BUSY, ENOENT, "\x80");
	assert_string_equal(err.desc, "?: No such file or directory");
	/* Two bytes a character, and one before them: the last one does not fit as a whole. */
	for (size_t i = 0; i < sizeof(long_text) / 2 - 1; i++)
		strcat(long_text, "\xc3\xa4");
	cij_error_set(&err, CIJ_E_BUSY, "%s", long_text);
	for (size_t n = 0, at = 0; err.desc[at]; at += n)
		assert_true((n = cij_utf8_len(err.desc + at, strlen(err.desc + at))) > 0);
	_cleanup_json_ struct json_object *reply = cij_message_error(&err, NULL);
	const char *line = cij_message_line(reply, &(size_t){0});
	_cleanup_json_ struct json_object *again = cij_json_parse(line, strlen(line), 16, NULL);
	assert_non_null(again);
}

/* Listens at @name in the folder @dir, by its descriptor: the path may be of any length. */
static int
listen_in(const char *dir, const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int dir_fd = open(dir, O_PATH | O_CLOEXEC), fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/%s", dir_fd, name);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	close(dir_fd);
	return fd;
}

static void
paths_of_any_length_connect(void **state)
{
	char *top = folder_make(), deep[4096], *p = deep + sprintf(deep, "%s", top);
	_cleanup_close_ int listener = -1, fd = -1, short_fd = -1, short_listener = -1;
	char path[4400];

	short_listener = listen_in(top, "s");
	snprintf(path, sizeof(path), "%s/s", top);
	short_fd = cij_unix_connect(path);
	assert_true(short_fd >= 0);
	for (int i = 0; i < 10; i++) {
		p += sprintf(p, "/%050d", i);
		assert_int_equal(mkdir(deep, 0700), 0);
	}
	listener = listen_in(deep, "s");
	snprintf(path, sizeof(path), "%s/s", deep);
	fd = cij_unix_connect(path);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	snprintf(path, sizeof(path), "%s/none", deep);
	assert_int_equal(cij_unix_connect(path), -1);
	assert_int_equal(errno, ENOENT);
	snprintf(path, sizeof(path), "%s/%0120d", deep, 0); /* a name that fits no address */
	assert_int_equal(cij_unix_connect(path), -1);
	assert_int_equal(errno, ENAMETOOLONG);
	folder_remove(top);
}

static void
run_folders_by_user(void **state)
{
	setenv("XDG_RUNTIME_DIR", "/run/user/1000", 1);
	_cleanup_free_ char *root = cij_run_dir_default(0), *xdg = cij_run_dir_default(1000);
	setenv("XDG_RUNTIME_DIR", "relative", 1);
	_cleanup_free_ char *relative = cij_run_dir_default(1000);
	unsetenv("XDG_RUNTIME_DIR");
	_cleanup_free_ char *none = cij_run_dir_default(1000);

	assert_string_equal(root, "/run/cijqemu");
	assert_string_equal(xdg, "/run/user/1000/cijqemu");
	assert_string_equal(relative, "/tmp/cijqemu-1000");
	assert_string_equal(none, "/tmp/cijqemu-1000");
}

static void
the_daemon_is_found_or_named(void **state)
{
	char *top = folder_make(), path[64];
	_cleanup_close_ int listener = listen_in(top, "s"), fd = -1, by_env = -1;
	struct cij_error err;

	snprintf(path, sizeof(path), "%s/s", top);
	setenv("CIJQEMU_SOCKET", "/nowhere", 1);
	fd = cij_daemon_connect(path, &err); /* the argument goes before the environment */
	assert_true(fd >= 0);
	assert_int_equal(cij_daemon_connect(NULL, &err), -1);
	assert_int_equal(err.class, CIJ_E_UNREACHABLE);
	assert_string_equal(err.desc, "no daemon at '/nowhere': No such file or directory");
	assert_has(err.hint, "systemctl start cijqemud");
	setenv("CIJQEMU_SOCKET", path, 1);
	by_env = cij_daemon_connect(NULL, &err);
	assert_true(by_env >= 0);
	unsetenv("CIJQEMU_SOCKET");
	folder_remove(top);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_and_replies),
		cmocka_unit_test(events_and_greeting),
		cmocka_unit_test(a_message_is_one_line),
		cmocka_unit_test(errors_come_back_from_replies),
		cmocka_unit_test(exit_codes_are_the_contract),
		cmocka_unit_test(errors_are_set_prefixed_and_cut),
		cmocka_unit_test(errors_are_one_line_of_utf8),
		cmocka_unit_test(paths_of_any_length_connect),
		cmocka_unit_test(run_folders_by_user),
		cmocka_unit_test(the_daemon_is_found_or_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
