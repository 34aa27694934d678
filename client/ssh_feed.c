/* Helper commands in the guest, run to their end: what they are fed, and what they say. */
#include <string.h>

#include "client/ssh_link.h"

/* More output than this is none of ours. */
#define RUN_OUTPUT_MAX (16 * 1024 * 1024)

/* A helper command in the guest: what it is fed and what it has said. */
struct helper {
	ssh_channel channel;
	const char *in;
	size_t in_left;
	bool sent_eof;
	char *out;
	size_t len, size;
};

/* Sends and fetches what can be. Returns 1 when its output is at its end, 0 when not, or -1. */
static int
helper_step(struct ssh_link *l, struct helper *h, struct cij_error *err)
{
	int n;

	while (h->in_left > 0 && ssh_channel_window_size(h->channel) > 0 &&
		!(ssh_get_poll_flags(l->session) & SSH_WRITE_PENDING)) {
		n = ssh_channel_write(
			h->channel, h->in, h->in_left < SSH_BLOCK ? h->in_left : SSH_BLOCK);
		if (n <= 0)
			break;
		h->in += n;
		h->in_left -= n;
	}
	if (h->in_left == 0 && !h->sent_eof) {
		ssh_channel_send_eof(h->channel);
		h->sent_eof = true;
	}
	if (h->len + 1 >= h->size) {
		h->out = realloc(h->out, h->size = h->size ? h->size * 2 : 4096);
		if (!h->out)
			abort();
	}
	n = ssh_channel_read_nonblocking(h->channel, h->out + h->len, h->size - h->len - 1, 0);
	if (n > 0)
		h->len += n;
	h->out[h->len] = '\0';
	if (h->len > RUN_OUTPUT_MAX)
		return cij_error_set(
			err, CIJ_E_FAILED, "%s: a command prints without end", l->guest);
	if (n > 0)
		return helper_step(l, h, err);
	return n == SSH_ERROR || ssh_channel_is_eof(h->channel) ||
	       ssh_channel_is_closed(h->channel);
}

/* The exit code, which may come behind the end of the output. */
static int
helper_code(struct ssh_link *l, struct helper *h, struct cij_error *err)
{
	int code;

	while ((code = ssh_channel_get_exit_status(h->channel)) < 0) {
		if (ssh_channel_is_closed(h->channel) || !ssh_is_connected(l->session))
			return cij_error_set(err, CIJ_E_FAILED,
				"%s: a command ended without an exit code", l->guest);
		if (ssh_link_wait(l, "a command's end", err) < 0)
			return -1;
	}
	/* dropbear ends a channel that is opened before it is done with another. */
	while (!ssh_channel_is_closed(h->channel) && ssh_is_connected(l->session))
		if (ssh_link_wait(l, "a command's end", err) < 0)
			return -1;
	return code;
}

int
ssh_link_feed(struct ssh_link *l, const char *line, const char *in, size_t len, char **out,
	struct cij_error *err)
{
	struct helper h = {.channel = ssh_link_channel(l, err), .in = in, .in_left = len};
	int rc;

	*out = NULL;
	if (!h.channel)
		return -1;
	rc = ssh_link_exec(l, h.channel, line, err);
	while (rc == 0 && (rc = helper_step(l, &h, err)) == 0)
		rc = ssh_link_wait(l, "a command's output", err);
	if (rc > 0)
		rc = helper_code(l, &h, err);
	if (rc >= 0)
		*out = steal_ptr(h.out);
	free(h.out);
	ssh_channel_free(h.channel);
	return rc;
}
