#include "client/ssh_flow.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "client/ssh_arrival.h"
#include "client/ssh_link.h"

/* Bytes under way in each direction. */
#define FLOW_BYTES (2 * SSH_BLOCK)

struct flow {
	bool closed; /* nothing more comes in */
	bool told; /* and the other side knows */
	size_t at, len;
	char buf[FLOW_BYTES];
};

struct ssh_flow {
	ssh_session session; /* weak, as are the next two */
	ssh_channel channel;
	struct ssh_arrival arrival;
	int fd;
	bool gone; /* the socket takes no more */
	struct flow in, out; /* from the socket; to it */
};

struct ssh_flow *
ssh_flow_new(ssh_session session, ssh_channel channel, int fd)
{
	struct ssh_flow *s = calloc(1, sizeof(*s));

	if (!s)
		abort();
	s->session = session;
	s->channel = channel;
	s->fd = fd;
	ssh_arrival_watch(&s->arrival, channel);
	return s;
}

void
ssh_flow_free(struct ssh_flow *s)
{
	if (!s)
		return;
	ssh_arrival_forget(&s->arrival, s->channel);
	free(s);
}

/* Towards us: what came over the channel. Returns whether anything moved. */
static bool
move_out(struct ssh_flow *s)
{
	struct flow *f = &s->out;
	bool moved = false;
	ssize_t n;

	if (f->len == 0) {
		char waste[1024];
		int got = ssh_channel_read_nonblocking(s->channel, f->buf, sizeof(f->buf), 0);

		f->at = 0;
		f->len = got > 0 ? got : 0;
		while (ssh_channel_read_nonblocking(s->channel, waste, sizeof(waste), 1) > 0)
			continue;
		if (f->len == 0 && (got == SSH_ERROR || ssh_channel_is_eof(s->channel) ||
					   ssh_channel_is_closed(s->channel)))
			f->closed = true;
	}
	while (f->len > 0) {
		n = send(s->fd, f->buf + f->at, f->len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return moved;
		if (n < 0) {
			s->gone = true;
			return true;
		}
		f->at += n;
		f->len -= n;
		moved = true;
	}
	if (f->closed && !f->told) {
		f->told = true;
		(void)shutdown(s->fd, SHUT_WR);
	}
	return moved;
}

/* Towards the host: what our side wrote. Returns whether anything moved. */
static bool
move_in(struct ssh_flow *s)
{
	struct flow *f = &s->in;
	bool moved = false;
	ssize_t n;

	if (f->len == 0 && !f->closed) {
		n = recv(s->fd, f->buf, sizeof(f->buf), MSG_DONTWAIT);
		f->at = 0;
		f->len = n > 0 ? n : 0;
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			f->closed = true;
	}
	while (f->len > 0 && ssh_channel_window_size(s->channel) > 0 &&
		!(ssh_get_poll_flags(s->session) & SSH_WRITE_PENDING)) {
		int put = ssh_channel_write(s->channel, f->buf + f->at, f->len);

		if (put <= 0)
			break;
		f->at += put;
		f->len -= put;
		moved = true;
	}
	if (f->closed && f->len == 0 && !f->told) {
		f->told = true;
		(void)ssh_channel_send_eof(s->channel);
	}
	return moved;
}

bool
ssh_flow_step(struct ssh_flow *s)
{
	bool moved;

	s->arrival.any = false;
	moved = move_out(s);
	if (!s->gone)
		moved = move_in(s) || moved;
	return moved;
}

bool
ssh_flow_arrived(const struct ssh_flow *s)
{
	return s->arrival.any;
}

bool
ssh_flow_is_over(const struct ssh_flow *s)
{
	return s->gone || (s->out.told && (s->in.told || ssh_channel_is_closed(s->channel)));
}

struct pollfd
ssh_flow_poll(const struct ssh_flow *s)
{
	bool reads = s->in.len == 0 && !s->in.closed, writes = s->out.len > 0;

	/* A hang-up is reported unasked: only look where it leads to something. */
	return (struct pollfd){s->in.closed && !writes ? -1 : s->fd,
		(short)((reads ? POLLIN : 0) | (writes ? POLLOUT : 0))};
}

void
ssh_flow_polled(struct ssh_flow *s, short revents)
{
	if (!(revents & (POLLHUP | POLLERR)))
		return;
	/* Gone for good; what it wrote last is still to be read. */
	s->out.len = 0;
	s->out.closed = s->out.told = true;
	if (s->in.closed && s->in.len == 0)
		s->gone = true;
}
