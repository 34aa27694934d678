/* Deadlines: milliseconds of the monotonic clock, CLOCK_NEVER for none. */
#ifndef CLIENT_CLOCK_H
#define CLIENT_CLOCK_H

#include <limits.h>
#include <stdint.h>
#include <time.h>

#define CLOCK_NEVER (-1)

static inline int64_t
clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The deadline @seconds from now; 0 or less = never. */
static inline int64_t
clock_deadline(double seconds)
{
	return seconds > 0 ? clock_ms() + (int64_t)(seconds * 1000) : CLOCK_NEVER;
}

/* The earlier of two deadlines. */
static inline int64_t
clock_earlier(int64_t a, int64_t b)
{
	if (a == CLOCK_NEVER || b == CLOCK_NEVER)
		return a == CLOCK_NEVER ? b : a;
	return a < b ? a : b;
}

/* What is left until @deadline, as poll() wants it: -1 = for ever, 0 = it has passed. */
static inline int
clock_left(int64_t deadline)
{
	int64_t left;

	if (deadline == CLOCK_NEVER)
		return -1;
	left = deadline - clock_ms();
	return left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

#endif
