/* Time: monotonic for how long, wall clock for people. */
#ifndef DAEMON_CLOCK_H
#define DAEMON_CLOCK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>
#include <time.h>

/* Seconds since some moment; never jumps. */
double clock_mono(void);

/*
 * A timer has told that @*until, a moment as of clock_mono(), is over. For how many seconds more
 * nobody is to be blamed for being silent: 0 as a rule. More where the timer came too early (the
 * loop's time was old when it was set), or so late that it was us who were away, stopped or on a
 * host that stood still: what was said meanwhile is still to be read. @*until becomes that moment.
 */
double clock_grace(double *until);

/* "2026-11-22T10:40:05Z". Returns @buf. */
const char *clock_rfc3339(time_t when, char *buf, size_t size);

/* Reads what clock_rfc3339() writes; 0 for anything else. */
time_t clock_parse(const char *text);

/*
 * How far the wall clock is ahead of the one that is never set and goes on while the host sleeps,
 * in microseconds: what is the same as ever until somebody sets the host's clock.
 */
int64_t clock_wall_ahead(void);

struct timeval clock_timeval(double seconds);

/* Which boot of the host this is, as the kernel names it (a UUID; "?": not known): monotonic times
 * and pids of another one mean nothing now. Weak, the same for as long as we run. */
const char *clock_boot_id(void);

#endif
