/* The states are those of ECMA-48: section 5.4 control sequences, 5.6 control strings. */
#include "client/ctlfilter.h"

#include <stdbool.h>
#include <string.h>

/* Bytes of the UTF-8 character that starts with @c; 0 when none does. */
static size_t
utf8_want(unsigned char c)
{
	return c >= 0xc2 && c < 0xe0   ? 2
	       : c >= 0xe0 && c < 0xf0 ? 3
	       : c >= 0xf0 && c < 0xf5 ? 4
				       : 0;
}

/* One byte of plain text, or what begins something else. Returns the bytes put at @out. */
static size_t
text_byte(struct ctl_filter *f, unsigned char c, char *out)
{
	if (c == 0x1b) {
		f->state = CTL_ESCAPE;
		return 0;
	}
	if (c == '\n' || c == '\t' || c == '\r' || (c >= 0x20 && c < 0x7f)) {
		*out = (char)c;
		return 1;
	}
	if (c < 0x80)
		return 0;
	f->want = utf8_want(c);
	if (f->want) {
		f->state = CTL_UTF8;
		f->hold[0] = (char)c;
		f->held = 1;
		return 0;
	}
	*out = '?'; /* no UTF-8: some terminals take 0x80 to 0x9f for control characters */
	return 1;
}

/* Whether @c may be the second byte behind @first: no overlong forms, no surrogates. */
static bool
utf8_second(unsigned char first, unsigned char c)
{
	return !(first == 0xe0 && c < 0xa0) && !(first == 0xed && c > 0x9f) &&
	       !(first == 0xf0 && c < 0x90) && !(first == 0xf4 && c > 0x8f);
}

/* A byte within a character: puts the character out when it is whole. */
static size_t
utf8_byte(struct ctl_filter *f, unsigned char c, char *out)
{
	if ((c & 0xc0) != 0x80 || (f->held == 1 && !utf8_second(f->hold[0], c))) {
		f->state = CTL_TEXT;
		*out = '?';
		return 1 + text_byte(f, c, out + 1);
	}
	f->hold[f->held++] = (char)c;
	if (f->held < f->want)
		return 0;
	f->state = CTL_TEXT;
	if ((unsigned char)f->hold[0] == 0xc2 && c < 0xa0) {
		/* The 8-bit forms of CSI, and of what starts a string; the others are dropped. */
		f->held = 0;
		if (c == 0x9b)
			f->state = CTL_CSI, f->held = CTL_FILTER_HELD; /* not let through */
		else if (c == 0x90 || c == 0x98 || c == 0x9d || c == 0x9e || c == 0x9f)
			f->state = CTL_STRING;
		return 0;
	}
	memcpy(out, f->hold, f->want);
	return f->want;
}

/* The byte behind ESC. */
static size_t
escape_byte(struct ctl_filter *f, unsigned char c, char *out)
{
	if (c == '[') {
		f->state = CTL_CSI;
		memcpy(f->hold, "\033[", 2);
		f->held = 2;
	} else if (c && strchr("]PX^_", c)) {
		f->state = CTL_STRING;
	} else if (c >= 0x20 && c < 0x30) {
		f->state = CTL_ESCAPE_MORE;
	} else if (c < 0x20 && c != 0x1b) {
		f->state = CTL_TEXT;
		return text_byte(f, c, out);
	} else if (c != 0x1b) {
		f->state = CTL_TEXT;
	}
	return 0;
}

/* Whether the control sequence in @f->hold only changes colours: digits, ';' and ':', then 'm'. */
static bool
is_colour(const struct ctl_filter *f)
{
	return f->held < CTL_FILTER_HELD && f->hold[f->held - 1] == 'm' &&
	       strspn(f->hold + 2, "0123456789;:") >= f->held - 3;
}

static size_t
csi_byte(struct ctl_filter *f, unsigned char c, char *out)
{
	if (c == 0x1b) { /* cut short by the next one */
		f->state = CTL_ESCAPE;
		return 0;
	}
	if (c == '\n' || c == 0x18 || c == 0x1a || c >= 0x7f) { /* cancelled */
		f->state = CTL_TEXT;
		return c == '\n' ? text_byte(f, c, out) : 0;
	}
	if (c < 0x20)
		return 0;
	if (f->held < CTL_FILTER_HELD)
		f->hold[f->held++] = (char)c;
	if (c < 0x40)
		return 0;
	f->state = CTL_TEXT;
	if (f->plain || !is_colour(f))
		return 0;
	memcpy(out, f->hold, f->held);
	return f->held;
}

size_t
ctl_filter_run(struct ctl_filter *f, const char *in, size_t len, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = in[i];

		switch (f->state) {
		case CTL_TEXT:
			n += text_byte(f, c, out + n);
			break;
		case CTL_UTF8:
			n += utf8_byte(f, c, out + n);
			break;
		case CTL_ESCAPE:
			n += escape_byte(f, c, out + n);
			break;
		case CTL_ESCAPE_MORE:
			if (c < 0x20) { /* cut short by what is text, or by the next one */
				f->state = CTL_TEXT;
				n += text_byte(f, c, out + n);
			} else if (c >= 0x30) {
				f->state = CTL_TEXT;
			}
			break;
		case CTL_CSI:
			n += csi_byte(f, c, out + n);
			break;
		case CTL_STRING:
			/* A newline ends it too: what is no string must not swallow the log. */
			if (c == 0x1b)
				f->state = CTL_STRING_ESCAPE;
			else if (c == 0x07 || c == 0x18 || c == 0x1a || c == '\n')
				f->state = CTL_TEXT;
			if (c == '\n')
				out[n++] = '\n';
			break;
		case CTL_STRING_ESCAPE:
			f->state = c == '\\' ? CTL_TEXT : CTL_ESCAPE;
			if (f->state == CTL_ESCAPE)
				n += escape_byte(f, c, out + n);
			break;
		}
	}
	return n;
}
