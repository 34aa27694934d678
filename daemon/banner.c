#include "daemon/banner.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cijqemu/cleanup.h"
#include "daemon/clock.h"

/*
 * QEMU's user network accepts at once and connects to the guest in the background, where a guest
 * that boots drops the packet: one attempt is given up after a while, a longer one each time, for
 * guests that are slow on a loaded host.
 */
#define ATTEMPT_FIRST_SECONDS 0.5
#define ATTEMPT_LAST_SECONDS 10
#define PAUSE_SECONDS 0.1

/* RFC 4253 section 4.2: the identification string begins so. */
static const char greeting[] = "SSH-";

struct banner {
	struct event_base *base; /* weak */
	int port;
	int fd;
	struct event *readable;
	struct event *timer; /* the attempt's end, or the pause before the next */
	double patience;
	enum banner_sight sight;
	banner_seen_fn *seen;
	void (*changed)(void *arg); /* may be NULL */
	void *arg; /* weak */
};

static void
attempt_end(struct banner *banner)
{
	if (banner->readable)
		event_free(banner->readable);
	banner->readable = NULL;
	if (banner->fd >= 0)
		close(banner->fd);
	banner->fd = -1;
}

static void
set_timer(struct banner *banner, double seconds)
{
	struct timeval tv = clock_timeval(seconds);

	event_add(banner->timer, &tv);
}

static void
see(struct banner *banner, enum banner_sight sight)
{
	if (banner->sight == sight)
		return;
	banner->sight = sight;
	if (banner->changed)
		banner->changed(banner->arg);
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct banner *banner = arg;
	char buf[sizeof(greeting) - 1];
	ssize_t n = recv(fd, buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT);

	if (n == sizeof(buf) && memcmp(buf, greeting, sizeof(buf)) == 0) {
		attempt_end(banner);
		event_del(banner->timer);
		banner->seen(banner->arg);
		return;
	}
	if (n < 0 && errno == EAGAIN)
		return;
	/* Closed, refused, something else, or (never seen) a greeting in pieces: try again. */
	attempt_end(banner);
	set_timer(banner, PAUSE_SECONDS);
	see(banner, n > 0 ? BANNER_OTHER : BANNER_CLOSED);
}

static int
attempt_begin(struct banner *banner)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)banner->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	banner->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (banner->fd < 0)
		return -1;
	if (connect(banner->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 && errno != EINPROGRESS)
		return -1;
	banner->readable = event_new(
		banner->base, banner->fd, EV_READ | EV_PERSIST, on_readable, banner);
	if (!banner->readable)
		abort();
	event_add(banner->readable, NULL);
	return 0;
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct banner *banner = arg;

	if (banner->fd >= 0) { /* this attempt took too long */
		banner->patience *= 2;
		if (banner->patience > ATTEMPT_LAST_SECONDS)
			banner->patience = ATTEMPT_LAST_SECONDS;
		attempt_end(banner);
		see(banner, BANNER_SILENT);
	}
	if (attempt_begin(banner) == 0) {
		set_timer(banner, banner->patience);
		return;
	}
	attempt_end(banner);
	set_timer(banner, PAUSE_SECONDS);
}

struct banner *
banner_new(struct event_base *base, int port, banner_seen_fn *seen, void *arg)
{
	struct banner *banner = calloc(1, sizeof(*banner));

	if (!banner)
		abort();
	*banner = (struct banner){.base = base,
		.port = port,
		.fd = -1,
		.patience = ATTEMPT_FIRST_SECONDS,
		.seen = seen,
		.arg = arg};
	banner->timer = evtimer_new(base, on_timer, banner);
	if (!banner->timer)
		abort();
	set_timer(banner, PAUSE_SECONDS);
	return banner;
}

enum banner_sight
banner_sight(const struct banner *banner)
{
	return banner->sight;
}

void
banner_on_change(struct banner *banner, void (*changed)(void *arg))
{
	banner->changed = changed;
}

void
banner_free(struct banner *banner)
{
	if (!banner)
		return;
	attempt_end(banner);
	event_free(banner->timer);
	free(banner);
}
