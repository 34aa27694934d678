/*
 * A guest's console on its way to a terminal: the same however it is cut, within its bound, and
 * with no control sequence left but colours.
 */
#include <stdint.h>
#include <string.h>

#include "cijqemu/cleanup.h"
#include "client/ctlfilter.h"
#include "proto/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t
filter(const char *text, size_t len, size_t step, char *out)
{
	struct ctl_filter f = {0};
	size_t n = 0;

	for (size_t at = 0; at < len; at += step) {
		size_t part = len - at < step ? len - at : step;
		_cleanup_free_ char *exact = malloc(part + CTL_FILTER_HELD);
		size_t got = ctl_filter_run(&f, text + at, part, exact);

		if (got > part + CTL_FILTER_HELD)
			abort();
		memcpy(out + n, exact, got);
		n += got;
	}
	return n;
}

/* The bytes of a change of colour at @p; 0 when there is none. */
static size_t
colour(const char *p, size_t len)
{
	size_t n = 2;

	if (len < 3 || p[0] != '\033' || p[1] != '[')
		return 0;
	while (n < len && ((p[n] >= '0' && p[n] <= '9') || p[n] == ';' || p[n] == ':'))
		n++;
	return n < len && p[n] == 'm' ? n + 1 : 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 || size > 4096)
		return 0;
	const char *text = (const char *)data + 1;
	size_t len = size - 1, step = data[0] % 16 + 1;
	/* Each byte may become two at most: a mark for a cut character, and itself. */
	_cleanup_free_ char *whole = malloc(2 * len + CTL_FILTER_HELD);
	_cleanup_free_ char *pieces = malloc(2 * len + CTL_FILTER_HELD);
	size_t n = filter(text, len, len ? len : 1, whole);

	if (filter(text, len, step, pieces) != n || memcmp(whole, pieces, n) != 0)
		abort();
	for (size_t i = 0; i < n;) {
		size_t c = colour(whole + i, n - i), u = cij_utf8_len(whole + i, n - i);

		if (!c && (unsigned char)whole[i] < 0x20 && !strchr("\n\t\r", whole[i]))
			abort();
		if (!c && (u == 0 || whole[i] == 0x7f || whole[i] == 0))
			abort();
		if (u == 2 && (unsigned char)whole[i] == 0xc2 && (unsigned char)whole[i + 1] < 0xa0)
			abort();
		i += c ? c : u;
	}
	return 0;
}
