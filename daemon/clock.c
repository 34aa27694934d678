#include "daemon/clock.h"

#include <stdio.h>
#include <string.h>

#include "cijqemu/cleanup.h"

/* The loop is never as late as that by its own work. */
#define LATE_SECONDS 0.5

/* For what lies in a thousand sockets to be read, and for a few more questions and answers. */
#define GRACE_SECONDS 5

double
clock_mono(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

double
clock_grace(double *until)
{
	double now = clock_mono();

	if (now - *until > LATE_SECONDS)
		*until = now + GRACE_SECONDS;
	return *until > now ? *until - now : 0;
}

const char *
clock_rfc3339(time_t when, char *buf, size_t size)
{
	struct tm tm;

	gmtime_r(&when, &tm);
	strftime(buf, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return buf;
}

time_t
clock_parse(const char *text)
{
	struct tm tm = {0};
	const char *end = text ? strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm) : NULL;

	return end && !*end ? timegm(&tm) : 0;
}

static int64_t
usec_of(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t
clock_wall_ahead(void)
{
	return usec_of(CLOCK_REALTIME) - usec_of(CLOCK_BOOTTIME);
}

struct timeval
clock_timeval(double seconds)
{
	return (struct timeval){(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e6)};
}

const char *
clock_boot_id(void)
{
	static char id[40];
	_cleanup_fclose_ FILE *file = NULL;

	if (*id)
		return id;
	file = fopen("/proc/sys/kernel/random/boot_id", "re");
	if (!file || !fgets(id, sizeof(id), file))
		strcpy(id, "?");
	id[strcspn(id, "\n")] = '\0';
	return id;
}
