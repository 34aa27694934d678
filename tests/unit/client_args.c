/* client/args: command lines taken apart, and what is wrong with them. */
#include "tests/unit/unit.h"

#include "client/args.h"
#include "client/clock.h"

#define WORDS_MAX 24

static struct call call;
static struct cij_error err;
static char line[512], *words[WORDS_MAX];

/* Parses "cijqemuctl TEXT", split at blanks; '' is an empty word. */
static int
parse(const char *text)
{
	int n = 0;

	args_clear(&call);
	err = (struct cij_error)CIJ_ERROR_INIT;
	snprintf(line, sizeof(line), "cijqemuctl %s", text);
	for (char *rest = line, *word; (word = strsep(&rest, " "));)
		words[n++] = strcmp(word, "''") == 0 ? word + 2 : word;
	words[n] = NULL;
	assert_true(n < WORDS_MAX);
	return args_parse(&call, n, words, &err);
}

static void
good(const char *text)
{
	if (parse(text) < 0)
		fail_msg("%s: %s", text, err.desc);
}

static void
bad(const char *text, enum cij_error_class class, const char *desc)
{
	if (parse(text) == 0)
		fail_msg("%s: taken", text);
	assert_string_equal(err.desc, desc);
	assert_int_equal(err.class, class);
}

static void
usage(const char *text, const char *desc, const char *hint)
{
	bad(text, CIJ_E_USAGE, desc);
	assert_string_equal(err.hint, hint);
}

static int
begin(void **state)
{
	unsetenv("QEMU_GUEST_NAME");
	return 0;
}

static int
end(void **state)
{
	args_clear(&call);
	unsetenv("QEMU_GUEST_NAME");
	return 0;
}

static void
commands_and_guests(void **state)
{
	good("show emujoe");
	assert_string_equal(call.command->name, "show");
	assert_string_equal(call.guest, "emujoe");
	assert_int_equal(call.n_args, 0);
	good("start a b* c");
	assert_null(call.guest);
	assert_int_equal(call.n_args, 3);
	assert_string_equal(call.args[1], "b*");
	good("list");
	assert_int_equal(call.n_args, 0);
	good("set emujoe memory=4G cpus=2");
	assert_string_equal(call.guest, "emujoe");
	assert_int_equal(call.n_args, 2);
	assert_string_equal(call.args[0], "memory=4G");
}

static void
unique_prefixes_are_enough(void **state)
{
	good("vali emujoe");
	assert_string_equal(call.command->name, "validate");
	good("stat emujoe");
	assert_string_equal(call.command->name, "status");
	good("start a"); /* in full, though 'start' begins no other */
	assert_string_equal(call.command->name, "start");
	bad("s emujoe", CIJ_E_USAGE, err.desc);
	assert_has(err.desc, "'s'");
	usage("strat emujoe", "unknown command 'strat'", "did you mean 'start'?");
	usage("zzzzzz", "unknown command 'zzzzzz'", "'cijqemuctl --help' lists them");
	usage("''", "unknown command ''", "'cijqemuctl --help' lists them");
	usage("a\033[2J", "unknown command 'a?[2J'", "'cijqemuctl --help' lists them");
}

static void
global_options_stand_anywhere(void **state)
{
	good("--json --socket /s show emujoe -q --timeout 2.5");
	assert_true(call.json && call.quiet);
	assert_string_equal(call.socket, "/s");
	assert_true(call.timeout == 2.5);
	good("show --socket=/t emujoe");
	assert_string_equal(call.socket, "/t");
	assert_false(call.json || call.quiet);
	assert_true(call.timeout == -1);
	good("--socket /a --socket /b list"); /* the last one counts */
	assert_string_equal(call.socket, "/b");
	usage("--socket= list", "list: --socket needs a path", "'cijqemuctl list --help' explains");
}

static void
options_of_a_command(void **state)
{
	size_t at = 0;

	good("start emujoe --wait --console");
	assert_true(call_has(&call, "wait") && call_has(&call, "console"));
	assert_false(call_has(&call, "paused"));
	assert_null(call_value(&call, "wait"));
	good("start --wait=ssh emujoe");
	assert_string_equal(call_value(&call, "wait"), "ssh");
	good("start --wait emujoe"); /* an optional value only stands behind '=' */
	assert_null(call_value(&call, "wait"));
	assert_string_equal(call.args[0], "emujoe");
	good("create g --device nvme --device ocssd,num_grp=2 --memory 1G");
	assert_string_equal(call_each(&call, "device", &at), "nvme");
	assert_string_equal(call_each(&call, "device", &at), "ocssd,num_grp=2");
	assert_null(call_each(&call, "device", &at));
	good("create g --append ''");
	assert_string_equal(call_value(&call, "append"), "");
}

static void
short_options_in_clusters(void **state)
{
	good("logs -fn5 emujoe");
	assert_true(call_has(&call, "follow"));
	assert_string_equal(call_value(&call, "lines"), "5");
	good("logs emujoe -n 7 -qf");
	assert_string_equal(call_value(&call, "lines"), "7");
	assert_true(call.quiet && call_has(&call, "follow"));
	usage("logs emujoe -n", "logs: -n needs a value: -n LINES",
		"'cijqemuctl logs --help' explains");
	usage("logs emujoe -fx", "logs: unknown option '-x' in '-fx'",
		"'cijqemuctl logs --help' explains");
	usage("-\001 list", "unknown option '-?' in '-?'", "'cijqemuctl --help' explains");
}

static void
wrong_options(void **state)
{
	usage("start a --wiat", "start: unknown option '--wiat'", "did you mean '--wait'?");
	usage("--jsno list", "unknown option '--jsno'", "did you mean '--json'?");
	usage("start a --zzzzz", "start: unknown option '--zzzzz'",
		"'cijqemuctl start --help' explains");
	usage("--json=1 list", "--json takes no value", "'cijqemuctl --help' explains");
	usage("list --socket", "list: --socket needs a value: --socket PATH",
		"'cijqemuctl list --help' explains");
	/* A command's option is not known in front of it. */
	usage("--wait start a", "unknown option '--wait'", "'cijqemuctl --help' explains");
}

static void
seconds_and_numbers(void **state)
{
	static const char *const not_ok[] = {
		"x", "-1", "1s", "''", "1.2.3", ".", "inf", "nan", "0x10", "1e3", "99999999999999"};
	double seconds;
	int64_t number;

	for (size_t i = 0; i < cij_array_size(not_ok); i++) {
		char text[64], desc[96];

		snprintf(text, sizeof(text), "--timeout %s list", not_ok[i]);
		snprintf(desc, sizeof(desc), "list: --timeout takes seconds, not '%s'",
			strcmp(not_ok[i], "''") == 0 ? "" : not_ok[i]);
		bad(text, CIJ_E_USAGE, desc);
	}
	good("stop a --force-after 0.5");
	assert_int_equal(call_seconds(&call, "force-after", 60, &seconds, &err), 0);
	assert_true(seconds == 0.5);
	good("stop a");
	assert_int_equal(call_seconds(&call, "force-after", 60, &seconds, &err), 0);
	assert_true(seconds == 60);
	good("logs a --boot -1");
	assert_int_equal(call_number(&call, "boot", 0, &number, &err), 0);
	assert_int_equal(number, -1);
	good("logs a --boot 9223372036854775808");
	assert_int_equal(call_number(&call, "boot", 0, &number, &err), -1);
	assert_string_equal(
		err.desc, "logs: --boot takes a whole number, not '9223372036854775808'");
	good("logs a --boot 1.5");
	assert_int_equal(call_number(&call, "boot", 0, &number, &err), -1);
	good("logs a --boot=");
	assert_int_equal(call_number(&call, "boot", 0, &number, &err), -1);
}

static void
deadlines(void **state)
{
	int64_t now = clock_ms();

	good("list");
	assert_int_equal(call_deadline(&call, 0), CLOCK_NEVER);
	assert_true(call_deadline(&call, 100) >= now + 100000);
	good("--timeout 0 list");
	assert_int_equal(call_deadline(&call, 100), CLOCK_NEVER);
	good("--timeout 50 list");
	assert_in_range(call_deadline(&call, 100), now + 50000, now + 90000);
	assert_int_equal(clock_earlier(CLOCK_NEVER, 5), 5);
	assert_int_equal(clock_earlier(5, CLOCK_NEVER), 5);
	assert_int_equal(clock_earlier(7, 5), 5);
	assert_int_equal(clock_left(CLOCK_NEVER), -1);
	assert_int_equal(clock_left(now - 1), 0);
	assert_int_equal(clock_left(INT64_MAX), INT32_MAX);
}

static void
the_default_guest(void **state)
{
	usage("show", "show: which guest? None is named, nor is QEMU_GUEST_NAME set",
		"usage: cijqemuctl show GUEST");
	usage("start", "start: which guest? None is named, nor is QEMU_GUEST_NAME set",
		"name one or more, a glob, or --all");
	setenv("QEMU_GUEST_NAME", "", 1);
	bad("show", CIJ_E_USAGE, "show: which guest? None is named, nor is QEMU_GUEST_NAME set");
	setenv("QEMU_GUEST_NAME", "envy", 1);
	good("show");
	assert_string_equal(call.guest, "envy");
	good("show emujoe");
	assert_string_equal(call.guest, "emujoe");
	good("start");
	assert_int_equal(call.n_args, 1);
	assert_string_equal(call.args[0], "envy");
	good("set memory=4G"); /* what holds a '=' is no guest */
	assert_string_equal(call.guest, "envy");
	assert_int_equal(call.n_args, 1);
	good("qmp {\"execute\":\"stop\"}");
	assert_string_equal(call.guest, "envy");
	assert_string_equal(call.args[0], "{\"execute\":\"stop\"}");
	good("exec -- uname -a");
	assert_string_equal(call.guest, "envy");
	assert_int_equal(call.n_args, 2);
	good("kernel arch/x86/boot/bzImage"); /* what cannot be left out is no guest either */
	assert_string_equal(call.guest, "envy");
	assert_string_equal(call.args[0], "arch/x86/boot/bzImage");
	good("push here there");
	assert_string_equal(call.guest, "envy");
	assert_int_equal(call.n_args, 2);
	good("push emujoe here there");
	assert_string_equal(call.guest, "emujoe");
	good("forward 8080:80");
	assert_string_equal(call.guest, "envy");
	setenv("QEMU_GUEST_NAME", "../evil", 1);
	bad("show", CIJ_E_BAD_REQUEST, "bad guest name '../evil'");
}

static void
the_words_of_a_guests_command_are_its_own(void **state)
{
	good("exec emujoe -- ls -l --json -q");
	assert_string_equal(call.guest, "emujoe");
	assert_int_equal(call.n_args, 4);
	assert_string_equal(call.args[1], "-l");
	assert_string_equal(call.args[2], "--json");
	assert_false(call.json || call.quiet);
	good("exec emujoe ls -l --json"); /* our options end at its name */
	assert_int_equal(call.n_args, 3);
	assert_false(call.json);
	good("exec --json emujoe ls");
	assert_true(call.json);
	good("exec emujoe -- -- x");
	assert_int_equal(call.n_args, 2);
	assert_string_equal(call.args[0], "--");
	good("monitor emujoe info status -x");
	assert_int_equal(call.n_args, 3);
	good("exec a b* -- ls"); /* several guests: what they shall do stands behind the dashes */
}

static void
names_are_checked_before_anything_is_asked(void **state)
{
	bad("show ../x", CIJ_E_BAD_REQUEST, "bad guest name '../x'");
	bad("show ''", CIJ_E_BAD_REQUEST, "a guest's name may not be empty");
	bad("start a b/c", CIJ_E_BAD_REQUEST, "bad guest name 'b/c'");
	good("start a* b?"); /* globs are the daemon's to match */
	usage("start --all a", "start: --all, or guests by name, but not both",
		"'cijqemuctl start --help' explains");
	good("start --all");
	assert_int_equal(call.n_args, 0);
}

static void
too_many_or_none(void **state)
{
	usage("show a b", "show: 'b' is one argument too many",
		"'cijqemuctl show --help' explains");
	usage("show a x\033y", "show: 'x?y' is one argument too many",
		"'cijqemuctl show --help' explains");
	usage("set emujoe", "set: something is missing", "usage: cijqemuctl set GUEST KEY=VALUE…");
	usage("", "unknown command ''", "'cijqemuctl --help' lists them");
	args_clear(&call);
	words[1] = NULL;
	assert_int_equal(args_parse(&call, 1, words, &err), -1);
	assert_string_equal(err.desc, "which command?");
}

static void
help_and_version_come_first(void **state)
{
	good("--help");
	assert_true(call_has(&call, "help"));
	assert_null(call.command);
	good("show --help"); /* the guest may be missing then */
	assert_string_equal(call.command->name, "show");
	good("-h");
	good("-V");
	assert_true(call_has(&call, "version"));
	good("exec emujoe -- ls --help");
	assert_false(call_has(&call, "help"));
}

static void
every_row_of_the_table_is_whole(void **state)
{
	for (const struct command *c = commands; c->name; c++) {
		assert_non_null(c->run);
		assert_true(c->group || c->name[0] == '_'); /* those are for programs */
		assert_non_null(c->synopsis);
		assert_non_null(c->summary);
		assert_true(c->max_args >= c->min_args);
		assert_ptr_equal(command_find(c->name, &err), c);
		for (const struct opt *o = c->options; o && o->name; o++) {
			assert_non_null(o->help);
			assert_true((o->kind == OPT_FLAG) == !o->value);
			for (const struct opt *g = global_options; g->name; g++) {
				assert_string_not_equal(o->name, g->name);
				assert_true(!o->letter || o->letter != g->letter);
			}
			for (const struct opt *p = c->options; p < o; p++) {
				assert_string_not_equal(o->name, p->name);
				assert_true(!o->letter || o->letter != p->letter);
			}
		}
	}
}

int
main(void)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, begin, end)
	const struct CMUnitTest tests[] = {
		T(commands_and_guests),
		T(unique_prefixes_are_enough),
		T(global_options_stand_anywhere),
		T(options_of_a_command),
		T(short_options_in_clusters),
		T(wrong_options),
		T(seconds_and_numbers),
		T(deadlines),
		T(the_default_guest),
		T(the_words_of_a_guests_command_are_its_own),
		T(names_are_checked_before_anything_is_asked),
		T(too_many_or_none),
		T(help_and_version_come_first),
		T(every_row_of_the_table_is_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
