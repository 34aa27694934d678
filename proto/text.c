#include "proto/text.h"

#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cijqemu/cleanup.h"
#include "cijqemu/protocol.h"

int
cij_guest_name_check(const char *name, struct cij_error *err)
{
	char clean[CIJ_GUEST_NAME_MAX * 2];
	size_t len = strlen(name);

	if (len == 0)
		return cij_error_set(err, CIJ_E_BAD_REQUEST, "a guest's name may not be empty");
	if (len > CIJ_GUEST_NAME_MAX)
		return cij_error_set(err, CIJ_E_BAD_REQUEST,
			"guest name of %zu characters: at most %d are allowed", len,
			CIJ_GUEST_NAME_MAX);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = name[i];

		if (c < 0x80 && (isalnum(c) || (i > 0 && strchr("._-", c))))
			continue;
		cij_error_set(err, CIJ_E_BAD_REQUEST, "bad guest name '%s'",
			cij_text_clean(name, clean, sizeof(clean)));
		return cij_error_hint(err,
			"a name starts with a letter or digit and goes on with letters, digits, "
			"'.', '_' and '-'");
	}
	return 0;
}

int
cij_size_parse(const char *text, int64_t *bytes)
{
	static const char units[] = "KMGT";
	const char *unit;
	char *end;
	long long n;
	int shift = 0;

	if (!isdigit((unsigned char)text[0]))
		return -1;
	errno = 0;
	n = strtoll(text, &end, 10);
	if (errno)
		return -1;
	if (*end && (unit = strchr(units, toupper((unsigned char)*end)))) {
		shift = 10 * (int)(unit - units + 1);
		end++;
		if (*end == 'i')
			end++;
		else if (*end == 'B')
			end++;
		if (end[-1] == 'i' && *end == 'B')
			end++;
	}
	if (*end || n > INT64_MAX >> shift)
		return -1;
	*bytes = (int64_t)n << shift;
	return 0;
}

const char *
cij_size_exact(int64_t bytes, char *buf, size_t size)
{
	static const char units[] = {0, 'K', 'M', 'G', 'T'};
	size_t u = 0;

	while (u + 1 < sizeof(units) && bytes && bytes % 1024 == 0)
		bytes /= 1024, u++;
	if (units[u])
		snprintf(buf, size, "%lld%c", (long long)bytes, units[u]);
	else
		snprintf(buf, size, "%lld", (long long)bytes);
	return buf;
}

const char *
cij_size_human(int64_t bytes, char *buf, size_t size)
{
	static const char units[] = {'B', 'K', 'M', 'G', 'T', 'P'};
	double value = (double)bytes;
	size_t u = 0;

	while (u + 1 < sizeof(units) && value >= 1024)
		value /= 1024, u++;
	if (u == 0 || value >= 100 || value == (double)(long)value)
		snprintf(buf, size, "%.0f%c", value, units[u]);
	else
		snprintf(buf, size, "%.1f%c", value, units[u]);
	return buf;
}

#define NEAREST_WORD_MAX 64

/* Levenshtein's distance with neighbouring swaps counted once; case does not matter. */
static size_t
edit_distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	size_t row[3][NEAREST_WORD_MAX + 1];

	if (la > NEAREST_WORD_MAX || lb > NEAREST_WORD_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= lb; j++)
		row[0][j] = j;
	for (size_t i = 1; i <= la; i++) {
		size_t *now = row[i % 3], *up = row[(i + 2) % 3], *upup = row[(i + 1) % 3];

		now[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			int ca = tolower((unsigned char)a[i - 1]);
			int cb = tolower((unsigned char)b[j - 1]);
			size_t best = up[j - 1] + (ca != cb);

			if (up[j] + 1 < best)
				best = up[j] + 1;
			if (now[j - 1] + 1 < best)
				best = now[j - 1] + 1;
			if (i > 1 && j > 1 && ca == tolower((unsigned char)b[j - 2]) &&
				cb == tolower((unsigned char)a[i - 2]) && upup[j - 2] + 1 < best)
				best = upup[j - 2] + 1;
			now[j] = best;
		}
	}
	return row[la % 3][lb];
}

const char *
cij_nearest(const char *word, const char *(*next)(void *arg), void *arg)
{
	/* A third of the letters may be wrong, one in short words; more than that is another word.
	 */
	size_t limit = strlen(word) < 6 ? 1 : strlen(word) / 3, best = SIZE_MAX;
	const char *candidate, *found = NULL;

	while ((candidate = next(arg))) {
		size_t d = edit_distance(word, candidate);

		if (d < best && d <= limit && d < strlen(candidate)) {
			best = d;
			found = candidate;
		}
	}
	return found;
}

struct words {
	const char *const *at;
	size_t left;
};

static const char *
next_word(void *arg)
{
	struct words *w = arg;

	while (w->left > 0) {
		w->left--;
		if (*w->at++)
			return w->at[-1];
	}
	return NULL;
}

const char *
cij_nearest_of(const char *word, const char *const *words, size_t n)
{
	struct words w = {words, n};

	return cij_nearest(word, next_word, &w);
}

bool
cij_glob_match(const char *glob, const char *name)
{
	return fnmatch(glob, name, 0) == 0;
}

bool
cij_is_glob(const char *text)
{
	return strpbrk(text, "*?[") != NULL;
}

size_t
cij_utf8_len(const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t n;

	if (len == 0)
		return 0;
	n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (n > len || p[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
		(p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

const char *
cij_text_clean(const char *text, char *buf, size_t size)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t at = 0, left = strlen(text);

	while (left > 0) {
		size_t n = cij_utf8_len((const char *)p, left);
		bool c1 = n == 2 && p[0] == 0xc2 && p[1] < 0xa0; /* 8-bit control characters */
		bool plain = n > 0 && *p >= 0x20 && *p != 0x7f && !c1;
		size_t out = plain ? n : 1;

		if (at + out + 1 > size)
			break;
		if (plain)
			memcpy(buf + at, p, n);
		else
			buf[at] = '?';
		at += out;
		p += n ? n : 1;
		left -= n ? n : 1;
	}
	buf[at] = '\0';
	return buf;
}
