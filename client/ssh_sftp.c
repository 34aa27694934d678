/* The engine: what is to be sent, what has come, and whose it is. */
#include "client/ssh_sftp_impl.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "client/clock.h"
#include "client/term.h"
#include "proto/text.h"

/* Every server takes this much in one read or write (section 3: packets of 34000 bytes). */
#define BLOCK_DEFAULT (32 * 1024)
/* Larger ones cost fewer turns, but no more than this. */
#define BLOCK_MAX (255 * 1024)

/* Hands one packet to whoever waits for it. */
static void
take_packet(struct sftp *s, const char *packet, size_t len)
{
	struct sftp_pending *p = NULL, one;
	struct sftp_answer a;
	uint32_t id;

	if (sftp_packet_type(packet) == FXP_VERSION) {
		sftp_greeting_read(packet, len, &s->has);
		s->greeted = true;
		return;
	}
	id = sftp_answer_id(packet, len);
	for (size_t i = 0; i < SFTP_REQUESTS_MAX; i++)
		if (s->pending[i].fn && s->pending[i].id == id)
			p = &s->pending[i];
	if (!p || !sftp_answer_read(packet, len, &a)) {
		s->bad = true;
		return;
	}
	one = *p;
	p->fn = NULL;
	s->n_pending--;
	one.fn(one.arg, &a);
}

/* Hands out all whole packets. Returns whether there were any. */
static bool
take_packets(struct sftp *s)
{
	const char *packet;
	bool any = false;
	size_t len;
	int rc = 0;

	while (!s->bad && (rc = sftp_packet_next(&s->in, &packet, &len)) > 0) {
		take_packet(s, packet, len);
		any = true;
	}
	s->bad |= rc < 0;
	return any;
}

/* Channel data goes straight into our buffer: libssh's own would copy it twice more. */
static int
on_data(ssh_session session, ssh_channel channel, void *data, uint32_t len, int is_stderr,
	void *arg)
{
	struct sftp *s = arg;

	if (!is_stderr)
		memcpy(sftp_bytes_add(&s->in, len), data, len);
	return (int)len;
}

/* Sends what the server has room for; libssh's own queue is kept empty. */
static void
flush(struct sftp *s)
{
	while (s->out.len > 0 && ssh_channel_window_size(s->channel) > 0 &&
		!(ssh_get_poll_flags(s->link->session) & SSH_WRITE_PENDING)) {
		int n = ssh_channel_write(s->channel, s->out.data + s->out.at,
			s->out.len < SSH_BLOCK ? s->out.len : SSH_BLOCK);

		if (n <= 0)
			return;
		s->out.at += n;
		s->out.len -= n;
	}
}

int
sftp_step(struct sftp *s, int ms, struct cij_error *err)
{
	struct pollfd fd = {.fd = ssh_get_fd(s->link->session), .events = POLLIN};

	flush(s);
	/* Answers may have come in while we were sending: poll() would not tell of them. */
	if (take_packets(s))
		ms = 0;
	if (ssh_get_poll_flags(s->link->session) & SSH_WRITE_PENDING)
		fd.events |= POLLOUT;
	if (poll(&fd, 1, ms) > 0)
		(void)ssh_event_dopoll(s->event, 0);
	(void)take_packets(s);
	if (s->bad)
		return cij_error_set(
			err, CIJ_E_FAILED, "%s: its SFTP server talks nonsense", s->link->guest);
	if (ssh_channel_is_closed(s->channel) || ssh_channel_is_eof(s->channel) ||
		!ssh_is_connected(s->link->session))
		return cij_error_set(
			err, CIJ_E_FAILED, "%s: the connection was lost", s->link->guest);
	return 0;
}

size_t
sftp_block(const struct sftp *s)
{
	return s->block;
}

/* One answer, waited for. */
struct one {
	bool done;
	uint32_t status;
	char words[256];
	struct sftp_attrs attrs;
};

static void
on_one(void *arg, const struct sftp_answer *a)
{
	struct one *one = arg;

	one->done = true;
	one->status = a->status;
	one->attrs = a->attrs;
	snprintf(one->words, sizeof(one->words), "%s",
		a->status ? sftp_status_text(a, one->words, sizeof(one->words)) : "");
}

/* Waits until @done, by the link's deadline. */
static int
wait_for(struct sftp *s, const bool *done, const char *step, struct cij_error *err)
{
	while (!*done) {
		int left = clock_left(s->link->deadline);

		if (left == 0)
			return cij_error_set(err, CIJ_E_TIMEOUT, "%s: %s: no answer in time",
				s->link->guest, step);
		if (term_caught())
			return cij_error_set(err, CIJ_E_FAILED, "interrupted");
		if (sftp_step(s, left < 0 || left > 1000 ? 1000 : left, err) < 0)
			return -1;
	}
	return 0;
}

int
sftp_stat_now(struct sftp *s, const char *path, bool follow, struct sftp_attrs *attrs,
	struct cij_error *err)
{
	struct one one = {0};
	char clean[256];

	ssh_link_extend(s->link);
	sftp_stat_async(s, path, follow, on_one, &one);
	if (wait_for(s, &one.done, "looking at a file", err) < 0)
		return -1;
	*attrs = one.attrs;
	if (one.status == SFTP_NO_SUCH_FILE)
		return 1;
	if (one.status != SFTP_OK)
		return cij_error_set(err, CIJ_E_FAILED, "%s: '%s': %s", s->link->guest,
			cij_text_clean(path, clean, sizeof(clean)), one.words);
	return 0;
}

static void
on_limits(void *arg, const struct sftp_answer *a)
{
	struct sftp *s = arg;
	uint64_t most = sftp_limits_read(a);

	s->limits_known = true;
	if (most > BLOCK_DEFAULT)
		s->block = most > BLOCK_MAX ? BLOCK_MAX : (size_t)most;
}

/* Greets, and learns what the server can. */
static int
greet(struct sftp *s, struct cij_error *err)
{
	static const char limits[] = "limits@openssh.com";

	sftp_put_u32(&s->out, 5);
	*sftp_bytes_add(&s->out, 1) = FXP_INIT;
	sftp_put_u32(&s->out, 3);
	if (wait_for(s, &s->greeted, "waiting for its SFTP server", err) < 0)
		return -1;
	if (!s->has.limits)
		return 0;
	sftp_begin(s, FXP_EXTENDED, 4 + strlen(limits), on_limits, s);
	sftp_put_str(&s->out, limits);
	return wait_for(s, &s->limits_known, "asking for its limits", err);
}

void
sftp_free_all(struct sftp *s)
{
	if (!s)
		return;
	if (s->event) {
		ssh_event_remove_session(s->event, s->link->session);
		ssh_event_free(s->event);
	}
	if (s->channel) {
		ssh_remove_channel_callbacks(s->channel, &s->callbacks);
		ssh_channel_free(s->channel);
	}
	free(s->in.data);
	free(s->out.data);
	free(s);
}

struct sftp *
sftp_new_on(struct ssh_link *l, struct cij_error *err)
{
	struct sftp *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		abort();
	s->link = l;
	s->block = BLOCK_DEFAULT;
	s->channel = ssh_link_channel(l, err);
	if (!s->channel) {
		free(s);
		return NULL;
	}
	s->callbacks.userdata = s;
	s->callbacks.channel_data_function = on_data;
	ssh_callbacks_init(&s->callbacks);
	ssh_add_channel_callbacks(s->channel, &s->callbacks);
	s->event = ssh_event_new();
	if (!s->event || ssh_event_add_session(s->event, l->session) != SSH_OK)
		abort();
	while ((rc = ssh_channel_request_sftp(s->channel)) == SSH_AGAIN)
		if (ssh_link_wait(l, "asking for SFTP", err) < 0)
			break;
	/* dropbear says yes and then finds no program to run: the channel ends without a greeting.
	 */
	if (rc == SSH_OK && greet(s, err) == 0)
		return s;
	if (rc != SSH_AGAIN && err->class != CIJ_E_TIMEOUT && !s->greeted && !s->bad &&
		ssh_is_connected(l->session))
		cij_error_set(err, CIJ_E_NOT_SUPPORTED, "%s has no SFTP server", l->guest);
	sftp_free_all(s);
	return NULL;
}
