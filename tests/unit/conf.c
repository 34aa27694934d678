/* daemon/conf: the daemon's command line over its environment over its defaults. */
#include "tests/unit/unit.h"

#include "daemon/conf.h"

static const char *environment[8][2];

static const char *
env(const char *name)
{
	for (int i = 0; i < 8 && environment[i][0]; i++)
		if (strcmp(environment[i][0], name) == 0)
			return environment[i][1];
	return NULL;
}

static struct daemon_conf conf;
static struct cij_error err;

static int
parse(uid_t uid, const char *text)
{
	static char line[512];
	char *argv[16];
	int n = 0;

	daemon_conf_clear(&conf);
	snprintf(line, sizeof(line), "cijqemud%s%s", *text ? " " : "", text);
	for (char *rest = line, *word; (word = strsep(&rest, " "));)
		argv[n++] = word;
	argv[n] = NULL;
	return daemon_conf_parse(&conf, n, argv, uid, env, &err);
}

static void
bad(const char *text, const char *desc)
{
	assert_int_equal(parse(0, text), -1);
	assert_int_equal(err.class, CIJ_E_USAGE);
	assert_string_equal(err.desc, desc);
}

static int
begin(void **state)
{
	memset(environment, 0, sizeof(environment));
	return 0;
}

static int
end(void **state)
{
	daemon_conf_clear(&conf);
	return 0;
}

static void
set_env(int i, const char *name, const char *value)
{
	environment[i][0] = name;
	environment[i][1] = value;
}

static void
defaults_of_root(void **state)
{
	set_env(0, "XDG_RUNTIME_DIR", "/run/user/0");
	set_env(1, "HOME", "/root");
	assert_int_equal(parse(0, ""), 0);
	assert_string_equal(conf.guests_dir, "/opt/qemu-guests");
	assert_null(conf.qemu_home);
	assert_string_equal(conf.run_dir, "/run/cijqemu");
	assert_string_equal(conf.state_dir, "/var/lib/cijqemu");
	assert_false(conf.user_only || conf.check || conf.verbose || conf.help || conf.version);
}

static void
defaults_of_others(void **state)
{
	assert_int_equal(parse(1000, ""), 0);
	assert_string_equal(conf.run_dir, "/tmp/cijqemu-1000");
	assert_string_equal(conf.state_dir, "/tmp/cijqemu-1000/state");
	set_env(0, "HOME", "/home/anna");
	assert_int_equal(parse(1000, ""), 0);
	assert_string_equal(conf.state_dir, "/home/anna/.local/state/cijqemu");
	set_env(1, "XDG_RUNTIME_DIR", "/run/user/1000");
	set_env(2, "XDG_STATE_HOME", "/state");
	assert_int_equal(parse(1000, ""), 0);
	assert_string_equal(conf.run_dir, "/run/user/1000/cijqemu");
	assert_string_equal(conf.state_dir, "/state/cijqemu");
	set_env(1, "XDG_RUNTIME_DIR", "relative"); /* does not count */
	set_env(2, "XDG_STATE_HOME", "");
	assert_int_equal(parse(1000, ""), 0);
	assert_string_equal(conf.run_dir, "/tmp/cijqemu-1000");
	assert_string_equal(conf.state_dir, "/home/anna/.local/state/cijqemu");
}

static void
options_go_before_the_environment(void **state)
{
	set_env(0, "QEMU_GUESTS", "/env/guests");
	set_env(1, "QEMU_HOME", "/env/qemu");
	assert_int_equal(parse(0, ""), 0);
	assert_string_equal(conf.guests_dir, "/env/guests");
	assert_string_equal(conf.qemu_home, "/env/qemu");
	assert_int_equal(parse(0, "--guests /a --guests=/g --qemu-home /q --run-dir /r --state-dir "
				  "/s --user-only --check -v"),
		0);
	assert_string_equal(conf.guests_dir, "/g");
	assert_string_equal(conf.qemu_home, "/q");
	assert_string_equal(conf.run_dir, "/r");
	assert_string_equal(conf.state_dir, "/s");
	assert_true(conf.user_only && conf.check && conf.verbose);
	set_env(0, "QEMU_GUESTS", "");
	set_env(1, "QEMU_HOME", "");
	assert_int_equal(parse(0, "-hV"), 0);
	assert_string_equal(conf.guests_dir, "/opt/qemu-guests");
	assert_null(conf.qemu_home);
	assert_true(conf.help && conf.version);
}

static void
wrong_options_are_named(void **state)
{
	bad("--nonsense", "unknown option '--nonsense'");
	assert_string_equal(err.hint, "'cijqemud --help' lists the options");
	bad("-x", "unknown option '-x'");
	bad("-vx", "unknown option '-x'");
	bad("-xv", "unknown option '-x'");
	bad("--check=1", "unknown option '--check=1'");
	bad("--guests", "option '--guests' needs a value");
	bad("start emujoe", "unexpected argument 'start'");
	bad("-v -- x", "unexpected argument 'x'");
}

static void
paths_must_be_absolute(void **state)
{
	bad("--guests guests", "--guests (QEMU_GUESTS) must be an absolute path, not 'guests'");
	bad("--run-dir run", "--run-dir must be an absolute path, not 'run'");
	bad("--state-dir ./s", "--state-dir must be an absolute path, not './s'");
	set_env(0, "QEMU_HOME", "qemu");
	bad("", "--qemu-home (QEMU_HOME) must be an absolute path, not 'qemu'");
}

int
main(void)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, begin, end)
	const struct CMUnitTest tests[] = {
		T(defaults_of_root),
		T(defaults_of_others),
		T(options_go_before_the_environment),
		T(wrong_options_are_named),
		T(paths_must_be_absolute),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
