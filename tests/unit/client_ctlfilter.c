/* client/ctlfilter: what of a guest's console reaches a terminal, however it is cut. */
#include "tests/unit/unit.h"

#include "client/ctlfilter.h"

/* Filters @text in pieces of @step bytes; checks the bound on the output. Heap string. */
static char *
filter(const char *text, size_t len, size_t step)
{
	char *out = calloc(1, 2 * len + CTL_FILTER_HELD + 1);
	struct ctl_filter f = {0};
	size_t n = 0;

	for (size_t at = 0; at < len; at += step) {
		size_t part = len - at < step ? len - at : step;
		size_t got = ctl_filter_run(&f, text + at, part, out + n);

		assert_true(got <= part + CTL_FILTER_HELD);
		n += got;
	}
	assert_int_equal(strlen(out), n); /* no NUL gets through */
	return out;
}

static void
gives_of(const char *text, size_t len, const char *want)
{
	for (size_t step = 1; step <= len; step++) {
		char *out = filter(text, len, step);

		if (strcmp(out, want) != 0)
			fail_msg("in pieces of %zu: '%s' instead of '%s'", step, out, want);
		free(out);
	}
}
#define gives(text_, want_) gives_of(text_, sizeof(text_) - 1, want_)

static void
text_passes(void **state)
{
	gives("plain\ttext\r\n", "plain\ttext\r\n");
	gives("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x90\xa7", "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x90\xa7");
}

static void
colours_pass(void **state)
{
	gives("\033[31mred\033[0m \033[1;38;5;12mx\033[m",
		"\033[31mred\033[0m \033[1;38;5;12mx\033[m");
	gives("\033[38:2::1:2:3mx", "\033[38:2::1:2:3mx");
}

static void
control_characters_go(void **state)
{
	gives("a\0b\a\b\v\f\x7f\x0e\x0f"
	      "c",
		"abc");
	gives("a\033", "a");
}

static void
sequences_go(void **state)
{
	gives("\033[2Ja\033[Hb\033[?25lc\033[6nd\033[10;20Re", "abcde");
	gives("\033[>0mx\033[?1my", "xy"); /* end in m, but are no colours */
	gives("\033cx\0337y\033(Bz\033#8w", "xyzw");
	gives("\033[1 mx", "x");
	gives("\033[31\030x\033[31\032y", "xy"); /* cancelled */
	gives("\033[31\033[32mx", "\033[32mx"); /* the next one begins */
	gives("\033\033[32mx", "\033[32mx");
	gives("\033[3\001"
	      "1mx",
		"\033[31mx");
}

static void
strings_go(void **state)
{
	gives("\033]0;title\ax", "x");
	gives("\033]0;title\033\\x", "x");
	gives("\033Pq#0\033\\x\033_a\033\\y\033^b\033\\z\033Xc\033\\w", "xyzw");
	gives("\033]52;c;aGk=\033[31mred", "\033[31mred"); /* ESC ends it without ST */
	gives("\033]0;t\033\033]0;u\ax", "x");
	gives("\033]0;t\033\033[31mx", "\033[31mx");
	gives("\033]0;t\030x", "x");
}

static void
a_cut_sequence_does_not_swallow_the_log(void **state)
{
	gives("\033]0;never ended\nnext", "\nnext");
	gives("\033[31\nnext", "\nnext");
	gives("\033\nnext", "\nnext");
	gives("\033(\nnext", "\nnext");
	gives("\033]x\033\nnext", "\nnext");
}

static void
eight_bit_controls_go(void **state)
{
	gives("\xc2\x9b"
	      "2Jx",
		"x"); /* CSI as UTF-8 */
	gives("\xc2\x9b"
	      "31mx",
		"x"); /* even a colour */
	gives("\xc2\x9d"
	      "0;title\ax",
		"x"); /* OSC */
	gives("\xc2\x85x\xc2\x80y\xc2\xa0z", "xy\xc2\xa0z");
	gives("\x9b"
	      "2Jx",
		"?2Jx"); /* as a single byte it is no UTF-8 */
}

static void
what_is_no_utf8_is_marked(void **state)
{
	gives("\xff\xfe", "??");
	gives("\xc3(", "?(");
	gives("\xc0\xaf", "??");
	gives("\xed\xa0\x80", "???");
	gives("\xe2\x82x", "?x");
	gives("\xe2\033[31mx", "?\033[31mx");
	gives("\xe2\xe2\x82\xac", "?\xe2\x82\xac");
	gives("\xf4\x90\x80\x80", "????");
}

static void
a_sequence_has_a_limit(void **state)
{
	char text[400] = "\033[", *p = text + 2;

	for (int i = 0; i < 100; i++)
		p += sprintf(p, "1;");
	strcpy(p, "1mx");
	gives_of(text, strlen(text), "x");
	/* One that just fits. */
	memset(text + 2, '1', CTL_FILTER_HELD - 4);
	strcpy(text + CTL_FILTER_HELD - 2, "mx");
	gives_of(text, strlen(text), text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_passes),
		cmocka_unit_test(colours_pass),
		cmocka_unit_test(control_characters_go),
		cmocka_unit_test(sequences_go),
		cmocka_unit_test(strings_go),
		cmocka_unit_test(a_cut_sequence_does_not_swallow_the_log),
		cmocka_unit_test(eight_bit_controls_go),
		cmocka_unit_test(what_is_no_utf8_is_marked),
		cmocka_unit_test(a_sequence_has_a_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
