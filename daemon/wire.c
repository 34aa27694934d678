#include "daemon/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/sock.h"

/* One read; what is longer comes in several. Shared: the loop has one thread. */
#define READ_SIZE (64 * 1024)

/* An output buffer that grew beyond this is given back when it is empty. */
#define KEEP_SIZE (16 * 1024)

static void
shrink(struct wire *wire)
{
	wire->start = wire->len = 0;
	if (wire->size <= KEEP_SIZE)
		return;
	free(wire->out);
	wire->out = NULL;
	wire->size = 0;
}

static void on_readable(evutil_socket_t fd, short what, void *arg);

/*
 * While nothing is read, only the end of all is of interest: edge-triggered, since what stands in
 * the socket would be told again and again.
 */
static void
watch(struct wire *wire)
{
	short edge = wire->paused || wire->half ? EV_ET : 0;

	event_del(wire->readable);
	event_assign(wire->readable, event_get_base(wire->writable), wire->fd,
		EV_READ | EV_PERSIST | edge, on_readable, wire);
	event_add(wire->readable, NULL);
}

static void
tell_gone(struct wire *wire)
{
	event_del(wire->readable);
	wire->ops->ended(wire->arg, true);
}

static void
input_ended(struct wire *wire)
{
	if (sock_is_gone(wire->fd)) {
		tell_gone(wire);
		return;
	}
	wire->half = true;
	watch(wire);
	wire->ops->ended(wire->arg, false);
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	static char buf[READ_SIZE];
	struct wire *wire = arg;
	ssize_t n;

	if (wire->half || wire->paused) {
		if (sock_is_gone(wire->fd))
			tell_gone(wire);
		return;
	}
	n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	if (n > 0)
		wire->ops->input(wire->arg, buf, n);
	else if (n == 0)
		input_ended(wire);
	else if (errno != EAGAIN && errno != EINTR)
		tell_gone(wire);
}

/* Sends what the socket takes. Returns false when the other side is gone. */
static bool
push(struct wire *wire)
{
	while (wire->len > 0) {
		ssize_t n = send(
			wire->fd, wire->out + wire->start, wire->len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		wire->start += n;
		wire->len -= n;
	}
	shrink(wire);
	return true;
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct wire *wire = arg;

	if (!push(wire))
		tell_gone(wire);
	else if (wire->len > 0)
		event_add(wire->writable, NULL);
	else
		wire->ops->drained(wire->arg);
}

void
wire_open(struct wire *wire, struct event_base *base, int fd, const struct wire_ops *ops, void *arg)
{
	*wire = (struct wire){.fd = fd, .ops = ops, .arg = arg};
	wire->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, wire);
	wire->writable = event_new(base, fd, EV_WRITE, on_writable, wire);
	if (!wire->readable || !wire->writable)
		abort();
	event_add(wire->readable, NULL);
}

void
wire_close(struct wire *wire)
{
	if (wire->readable)
		event_free(wire->readable);
	if (wire->writable)
		event_free(wire->writable);
	if (wire->fd >= 0)
		close(wire->fd);
	free(wire->out);
	*wire = (struct wire){.fd = -1};
}

void
wire_add(struct wire *wire, const char *data, size_t len)
{
	if (wire->fd < 0 || len == 0)
		return;
	if (wire->start > 0 && wire->start + wire->len + len > wire->size) {
		memmove(wire->out, wire->out + wire->start, wire->len);
		wire->start = 0;
	}
	if (wire->len + len > wire->size) {
		size_t size = wire->size ? wire->size : 512;

		while (size < wire->len + len)
			size *= 2;
		wire->out = realloc(wire->out, size);
		if (!wire->out)
			abort();
		wire->size = size;
	}
	memcpy(wire->out + wire->start + wire->len, data, len);
	wire->len += len;
}

void
wire_flush(struct wire *wire)
{
	if (wire->fd < 0 || wire->len == 0 || event_pending(wire->writable, EV_WRITE, NULL))
		return;
	/* A side that is gone is told from the loop: the caller has its hands on the owner. */
	if (!push(wire) || wire->len > 0)
		event_add(wire->writable, NULL);
}

size_t
wire_unsent(const struct wire *wire)
{
	return wire->len;
}

void
wire_pause(struct wire *wire, bool paused)
{
	if (wire->fd < 0 || wire->paused == paused)
		return;
	wire->paused = paused;
	if (!wire->half)
		watch(wire);
}
