#include "client/when.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND INT64_C(1000000)

/* Longer ago than any log: a century, which does not overflow. */
#define AGO_MAX (INT64_C(100) * 366 * 24 * 3600 * SECOND)

/* "10m", "1h30m": each unit once would be tidy, but 90m30s is as clear. */
static int
parse_ago(const char *text, int64_t *usec)
{
	static const struct {
		char unit;
		int64_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
	size_t i;

	*usec = 0;
	do {
		int64_t n = 0;

		if (!isdigit((unsigned char)*text))
			return -1;
		for (; isdigit((unsigned char)*text); text++)
			if ((n = n * 10 + (*text - '0')) > AGO_MAX / SECOND)
				return -1;
		for (i = 0; i < sizeof(units) / sizeof(units[0]) && units[i].unit != *text;)
			i++;
		if (i == sizeof(units) / sizeof(units[0]) ||
			n > AGO_MAX / SECOND / units[i].seconds)
			return -1;
		*usec += n * units[i].seconds * SECOND;
		text++;
	} while (*text);
	return *usec <= AGO_MAX ? 0 : -1;
}

/* Exactly @n digits. Returns what follows, or NULL. */
static const char *
digits(const char *p, int n, int *value)
{
	*value = 0;
	for (; p && n > 0; n--, p++) {
		if (!isdigit((unsigned char)*p))
			return NULL;
		*value = *value * 10 + (*p - '0');
	}
	return p;
}

static const char *
one_of(const char *p, const char *set)
{
	return p && *p && strchr(set, *p) ? p + 1 : NULL;
}

/* "10:40" and what may follow: ":05", ".123456". */
static const char *
parse_clock(const char *p, struct tm *tm, int64_t *usec)
{
	int64_t unit = SECOND / 10;

	p = digits(p, 2, &tm->tm_hour);
	p = digits(one_of(p, ":"), 2, &tm->tm_min);
	if (p && *p == ':')
		p = digits(p + 1, 2, &tm->tm_sec);
	if (p && *p == '.') {
		if (!isdigit((unsigned char)*++p))
			return NULL;
		for (; isdigit((unsigned char)*p); p++, unit /= 10)
			*usec += (*p - '0') * unit;
	}
	return p && tm->tm_hour < 24 && tm->tm_min < 60 && tm->tm_sec < 61 ? p : NULL;
}

/* "Z", "+01:00", "+0100". Returns what follows, or NULL. */
static const char *
parse_zone(const char *p, int *east)
{
	int sign = *p == '-' ? -1 : 1, hours, minutes;

	*east = 0;
	if (*p == 'Z' || *p == 'z')
		return p + 1;
	p = digits(one_of(p, "+-"), 2, &hours);
	if (p && *p == ':')
		p++;
	p = digits(p, 2, &minutes);
	if (!p || hours > 23 || minutes > 59)
		return NULL;
	*east = sign * (hours * 3600 + minutes * 60);
	return p;
}

/* Whether mktime() and timegm() took the date as it was meant, no 31st of April. */
static bool
is_date(const struct tm *tm)
{
	static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int year = tm->tm_year + 1900, month = tm->tm_mon;

	return month >= 0 && month < 12 && tm->tm_mday >= 1 && tm->tm_mday <= days[month] &&
	       !(month == 1 && tm->tm_mday == 29 &&
		       (year % 4 != 0 || (year % 100 == 0 && year % 400 != 0)));
}

static int
parse_date(const char *p, int64_t *usec)
{
	struct tm tm = {.tm_isdst = -1};
	int64_t fraction = 0;
	int east;

	p = digits(p, 4, &tm.tm_year);
	p = digits(one_of(p, "-"), 2, &tm.tm_mon);
	p = digits(one_of(p, "-"), 2, &tm.tm_mday);
	tm.tm_year -= 1900;
	tm.tm_mon--;
	if (!p || !is_date(&tm))
		return -1;
	if (*p) {
		p = parse_clock(one_of(p, "Tt "), &tm, &fraction);
		if (!p)
			return -1;
	}
	if (!*p) {
		*usec = (int64_t)mktime(&tm) * SECOND + fraction;
		return 0;
	}
	p = parse_zone(p, &east);
	if (!p || *p)
		return -1;
	*usec = ((int64_t)timegm(&tm) - east) * SECOND + fraction;
	return 0;
}

/* The last moment before @now when the clock showed this. */
static int
parse_today(const char *p, time_t now, int64_t *usec)
{
	int64_t fraction = 0;
	struct tm tm;
	time_t then;

	localtime_r(&now, &tm);
	tm.tm_sec = 0;
	p = parse_clock(p, &tm, &fraction);
	if (!p || *p)
		return -1;
	tm.tm_isdst = -1;
	then = mktime(&tm);
	if (then > now) {
		tm.tm_mday--;
		tm.tm_isdst = -1;
		then = mktime(&tm);
	}
	*usec = (int64_t)then * SECOND + fraction;
	return 0;
}

int
when_parse(const char *text, time_t now, struct when *when, struct cij_error *err)
{
	*when = (struct when){0};
	if (parse_ago(text, &when->usec) == 0) {
		when->ago = true;
		return 0;
	}
	if (parse_today(text, now, &when->usec) == 0 || parse_date(text, &when->usec) == 0)
		return 0;
	return cij_error_set(err, CIJ_E_BAD_REQUEST,
		"'%s' is no time: it may be 10m (ago), 10:40, or 2026-11-22T10:40:05Z", text);
}

const char *
when_text(int64_t usec, char *buf, size_t size)
{
	int64_t fraction = usec % SECOND;
	time_t seconds = (time_t)(usec / SECOND);
	char date[32], zone[8];
	struct tm tm;

	if (fraction < 0) {
		fraction += SECOND;
		seconds--;
	}
	localtime_r(&seconds, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	strftime(zone, sizeof(zone), "%z", &tm); /* +0100 */
	snprintf(buf, size, "%s.%03d%.3s:%s", date, (int)(fraction / 1000), zone, zone + 3);
	return buf;
}
