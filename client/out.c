#include "client/out.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ctlfilter.h"
#include "proto/text.h"

/* Longest line of a note: an error's text and its hint are shorter. */
#define LINE_MAX_BYTES 2048

static bool quiet, raw, progress_shown;

void
out_be_quiet(void)
{
	quiet = true;
}

void
out_set_raw(bool is_raw)
{
	raw = is_raw;
}

/* Writes one line at once, so that lines of several programs do not mix. */
static void
put_line(const char *prefix, const char *text)
{
	char clean[LINE_MAX_BYTES], line[LINE_MAX_BYTES + 64];
	int n;

	out_progress_end();
	cij_text_clean(text, clean, sizeof(clean));
	n = snprintf(line, sizeof(line), "%s%s%s%s", raw ? "\r" : "", prefix, clean,
		raw ? "\r\n" : "\n");
	if (n > 0)
		(void)out_write(STDERR_FILENO, line, n);
}

void
out_error_of(const char *subject, const struct cij_error *err)
{
	char text[LINE_MAX_BYTES];

	fflush(stdout); /* where both go to one place, the order stays */
	/* One line, what is wrong and the way out: logs and scripts keep them together. */
	snprintf(text, sizeof(text), "%s%s%s%s%s", subject ? subject : "", subject ? ": " : "",
		err->desc, *err->hint ? "; " : "", err->hint);
	put_line("cijqemuctl: ", text);
}

void
out_error(const struct cij_error *err)
{
	out_error_of(NULL, err);
}

void
out_note(const char *fmt, ...)
{
	char text[LINE_MAX_BYTES];
	va_list ap;

	if (quiet)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fflush(stdout);
	put_line("", text);
}

bool
out_has_progress(void)
{
	return !quiet && isatty(STDERR_FILENO);
}

void
out_progress(const char *fmt, ...)
{
	char text[LINE_MAX_BYTES], clean[LINE_MAX_BYTES], line[LINE_MAX_BYTES + 64];
	va_list ap;
	int n;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	n = snprintf(line, sizeof(line), "\r%s\033[K", cij_text_clean(text, clean, sizeof(clean)));
	(void)out_write(STDERR_FILENO, line, n);
	progress_shown = true;
}

void
out_progress_end(void)
{
	static const char clear[] = "\r\033[K";

	if (progress_shown)
		(void)out_write(STDERR_FILENO, clear, sizeof(clear) - 1);
	progress_shown = false;
}

bool
out_colours(FILE *f)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return !(no && *no) && isatty(fileno(f)) && !(term && strcmp(term, "dumb") == 0);
}

/* Prints one string of a JSON text, the quotes included; returns the byte behind it. */
static const char *
put_json_string(const char *p, const char *end)
{
	putchar(*p++);
	while (p < end && *p != '"') {
		unsigned char c = *p;

		if (c == '\\' && p + 1 < end) {
			putchar(*p++);
			putchar(*p++);
		} else if (c < 0x20 || c == 0x7f) {
			printf("\\u%04x", c);
			p++;
		} else if (c == 0xc2 && p + 1 < end && (unsigned char)p[1] < 0xa0) {
			printf("\\u%04x", (unsigned char)p[1]); /* 8-bit control characters */
			p += 2;
		} else {
			putchar(*p++);
		}
	}
	if (p < end)
		putchar(*p++);
	return p;
}

static void
put_indent(int depth)
{
	printf("\n%*s", depth * 2, "");
}

static const char *
skip_blanks(const char *p, const char *end)
{
	while (p < end && strchr(" \t\r\n", *p))
		p++;
	return p;
}

void
out_json(const char *text, size_t len, bool pretty)
{
	const char *p = skip_blanks(text, text + len), *end = text + len;
	int depth = 0;

	if (!pretty)
		(void)fwrite(text, 1, len, stdout);
	while (pretty && p < end) {
		char c = *p, next;

		if (c == '"') {
			p = skip_blanks(put_json_string(p, end), end);
			continue;
		}
		p = skip_blanks(p + 1, end);
		next = p < end ? *p : '\0';
		if (c == '}' || c == ']')
			put_indent(--depth);
		putchar(c);
		if (c == ':') {
			putchar(' ');
		} else if (c == ',') {
			put_indent(depth);
		} else if ((c == '{' || c == '[') && (next == '}' || next == ']')) {
			putchar(next);
			p = skip_blanks(p + 1, end);
		} else if (c == '{' || c == '[') {
			put_indent(++depth);
		}
	}
	putchar('\n');
}

void
out_text(const char *text, size_t len)
{
	struct ctl_filter filter = {0};
	char block[4096 + CTL_FILTER_HELD];

	if (!isatty(STDOUT_FILENO)) {
		(void)fwrite(text, 1, len, stdout);
		return;
	}
	while (len > 0) {
		size_t n = len < 4096 ? len : 4096;
		size_t kept = ctl_filter_run(&filter, text, n, block);

		(void)fwrite(block, 1, kept, stdout);
		text += n;
		len -= n;
	}
}

int
out_write(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 &&
			errno == EAGAIN) { /* somebody made it non-blocking for their own use */
			struct pollfd wait = {.fd = fd, .events = POLLOUT};

			(void)poll(&wait, 1, -1);
		} else if (n < 0 && errno != EINTR) {
			return -1;
		} else if (n > 0) {
			p += n;
			len -= n;
		}
	}
	return 0;
}

int
out_finish(int code)
{
	struct cij_error err = CIJ_ERROR_INIT;

	out_progress_end();
	/* A reader that has seen enough is no failure. */
	if ((fflush(stdout) == 0 && !ferror(stdout)) || errno == EPIPE)
		return code;
	cij_error_errno(&err, CIJ_E_FAILED, errno, "cannot write the output");
	out_error(&err);
	return code ? code : cij_error_exit_code(err.class);
}
