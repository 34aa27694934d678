#include "client/ssh_stream.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "proto/text.h"

/* libssh is asked again after this long, and the progress is shown. */
#define WAIT_MS 100

/* Waits until something can go on. */
static int
wait_step(struct ssh_stream *s, struct cij_error *err)
{
	ssh_session session = s->copy->link.session;
	struct pollfd fd = {.fd = ssh_get_fd(session), .events = POLLIN};

	if (copy_tick(s->copy, err) < 0)
		return -1;
	if (ssh_get_poll_flags(session) & SSH_WRITE_PENDING)
		fd.events |= POLLOUT;
	(void)poll(&fd, 1, WAIT_MS);
	return 0;
}

/* Keeps the end of what it says. */
static void
listen_to(struct ssh_stream *s, int is_stderr)
{
	char buf[512];
	int n;

	while ((n = ssh_channel_read_nonblocking(s->channel, buf, sizeof(buf), is_stderr)) > 0) {
		size_t room = sizeof(s->said) - 1;

		if (s->said_len + n > room) {
			size_t drop = s->said_len + n - room;

			memmove(s->said, s->said + drop, s->said_len - drop);
			s->said_len -= drop;
		}
		memcpy(s->said + s->said_len, buf, n);
		s->said_len += n;
		s->said[s->said_len] = '\0';
	}
}

int
ssh_stream_open(struct ssh_stream *s, struct copy *copy, const char *line, struct cij_error *err)
{
	ssh_link_extend(&copy->link);
	*s = (struct ssh_stream){.copy = copy, .channel = ssh_link_channel(&copy->link, err)};
	if (!s->channel)
		return -1;
	return ssh_link_exec(&copy->link, s->channel, line, err);
}

void
ssh_stream_close(struct ssh_stream *s)
{
	if (s->channel)
		ssh_channel_free(s->channel);
	s->channel = NULL;
}

const char *
ssh_stream_words(const struct ssh_stream *s, char *buf, size_t size)
{
	char text[sizeof(s->said)];
	size_t n = s->said_len;

	while (n > 0 && strchr(" \r\n", s->said[n - 1]))
		n--;
	snprintf(text, sizeof(text), "%.*s", (int)n, s->said);
	return n > 0 ? cij_text_clean(text, buf, size) : "without a word";
}

bool
ssh_stream_is_over(const struct ssh_stream *s)
{
	return ssh_channel_is_closed(s->channel) || ssh_channel_is_eof(s->channel) ||
	       !ssh_is_connected(s->copy->link.session);
}

/* It ended, or the connection did, before all was sent. */
static int
ended_early(struct ssh_stream *s, struct cij_error *err)
{
	char clean[512];

	if (!ssh_is_connected(s->copy->link.session))
		return cij_error_set(
			err, CIJ_E_FAILED, "%s: the connection was lost", s->copy->call->guest);
	listen_to(s, 1);
	return cij_error_set(err, CIJ_E_FAILED, "%s: the guest stopped taking it: %s",
		s->copy->call->guest, ssh_stream_words(s, clean, sizeof(clean)));
}

int
ssh_stream_write(struct ssh_stream *s, const char *data, size_t len, struct cij_error *err)
{
	ssh_session session = s->copy->link.session;

	while (len > 0) {
		listen_to(s, 1);
		if (ssh_stream_is_over(s))
			return ended_early(s, err);
		if (ssh_channel_window_size(s->channel) > 0 &&
			!(ssh_get_poll_flags(session) & SSH_WRITE_PENDING)) {
			int n = ssh_channel_write(
				s->channel, data, len < SSH_BLOCK ? len : SSH_BLOCK);

			if (n > 0) {
				data += n;
				len -= n;
				if (copy_tick(s->copy, err) < 0)
					return -1;
				continue;
			}
		}
		if (wait_step(s, err) < 0)
			return -1;
	}
	return 0;
}

ssize_t
ssh_stream_read(struct ssh_stream *s, char *buf, size_t size, struct cij_error *err)
{
	for (;;) {
		int n = ssh_channel_read_nonblocking(s->channel, buf, size, 0);

		listen_to(s, 1);
		if (n > 0)
			return n;
		if (!ssh_is_connected(s->copy->link.session))
			return cij_error_set(err, CIJ_E_FAILED, "%s: the connection was lost",
				s->copy->call->guest);
		if (ssh_stream_is_over(s))
			return 0;
		if (wait_step(s, err) < 0)
			return -1;
	}
}

int
ssh_stream_finish(struct ssh_stream *s, struct cij_error *err)
{
	int code;

	(void)ssh_channel_send_eof(s->channel);
	while ((code = ssh_channel_get_exit_status(s->channel)) < 0) {
		listen_to(s, 0);
		listen_to(s, 1);
		if (!ssh_is_connected(s->copy->link.session))
			return cij_error_set(err, CIJ_E_FAILED, "%s: the connection was lost",
				s->copy->call->guest);
		if (ssh_channel_is_closed(s->channel))
			return cij_error_set(err, CIJ_E_FAILED,
				"%s: a command in the guest was ended", s->copy->call->guest);
		if (wait_step(s, err) < 0)
			return -1;
	}
	listen_to(s, 0);
	listen_to(s, 1);
	return code;
}
