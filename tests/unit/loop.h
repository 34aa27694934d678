/* For tests of drivers: a loop that is run until something came true, or a hang is plain. */
#ifndef TESTS_LOOP_H
#define TESTS_LOOP_H

#include <event2/event.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/unit.h"

/* Longer than any machine needs for anything here. */
#define LOOP_HANG_SECONDS 60

static struct event_base *loop;

static inline void
loop_hang(evutil_socket_t fd, short what, void *arg)
{
	*(bool *)arg = true;
}

/* A timer that sets *@hangs when the loop has run too long. */
static inline struct event *
loop_alarm(bool *hangs)
{
	const struct timeval tv = {LOOP_HANG_SECONDS, 0};
	struct event *timer = event_new(loop, -1, 0, loop_hang, hangs);

	event_add(timer, &tv);
	return timer;
}

/* Runs the loop until the expression is true; fails when it never is. */
#define loop_until(true_) \
	do { \
		bool hangs_ = false; \
		struct event *alarm_ = loop_alarm(&hangs_); \
\
		while (!(true_) && !hangs_) \
			event_base_loop(loop, EVLOOP_ONCE); \
		event_free(alarm_); \
		if (hangs_) \
			fail_msg("never came true: %s", #true_); \
	} while (0)

static inline void
loop_done(evutil_socket_t fd, short what, void *arg)
{
	*(bool *)arg = true;
}

/* Lets the loop work off what is there now, and what comes within some milliseconds. */
static inline void
loop_settle(int milliseconds)
{
	const struct timeval tv = {0, milliseconds * 1000L};
	bool done = false;

	event_base_once(loop, -1, EV_TIMEOUT, loop_done, &done, &tv);
	loop_until(done);
}

static inline void
socket_pair(int fds[2])
{
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

/* Writes all of @text, which must fit. */
static inline void
say(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

#endif
