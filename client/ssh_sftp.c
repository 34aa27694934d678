#include "client/ssh_sftp.h"

#include <endian.h>
#include <errno.h>
#include <libssh/callbacks.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "client/clock.h"
#include "client/term.h"
#include "proto/text.h"

/* draft-ietf-secsh-filexfer-02, section 3 */
enum packet {
	FXP_INIT = 1,
	FXP_VERSION = 2,
	FXP_OPEN = 3,
	FXP_CLOSE = 4,
	FXP_READ = 5,
	FXP_WRITE = 6,
	FXP_LSTAT = 7,
	FXP_SETSTAT = 9,
	FXP_FSETSTAT = 10,
	FXP_OPENDIR = 11,
	FXP_READDIR = 12,
	FXP_REMOVE = 13,
	FXP_MKDIR = 14,
	FXP_STAT = 17,
	FXP_RENAME = 18,
	FXP_READLINK = 19,
	FXP_SYMLINK = 20,
	FXP_STATUS = 101,
	FXP_HANDLE = 102,
	FXP_DATA = 103,
	FXP_NAME = 104,
	FXP_ATTRS = 105,
	FXP_EXTENDED = 200,
	FXP_EXTENDED_REPLY = 201,
};

/* section 5: which attributes there are */
#define ATTR_SIZE 0x1u
#define ATTR_UIDGID 0x2u
#define ATTR_PERMISSIONS 0x4u
#define ATTR_ACMODTIME 0x8u
#define ATTR_EXTENDED 0x80000000u

/* Every server takes this much in one read or write (section 3: packets of 34000 bytes). */
#define BLOCK_DEFAULT (32 * 1024)
/* Larger ones cost fewer turns, but no more than this. */
#define BLOCK_MAX (255 * 1024)

/* A packet from the server that is larger is none. */
#define PACKET_MAX (4 * 1024 * 1024)

/* What may wait here to be sent: more would only be late. */
#define OUT_MAX (2 * 1024 * 1024)

/* As much as fits into one packet of a channel. */
#define CHANNEL_BLOCK (32 * 1024)

struct pending {
	uint32_t id;
	sftp_fn *fn; /* NULL: free */
	void *arg;
};

struct bytes {
	char *data;
	size_t at, len, size; /* len bytes from at on */
};

struct sftp {
	struct ssh_link *link; /* weak */
	ssh_channel channel;
	ssh_event event;
	struct ssh_channel_callbacks_struct callbacks;
	struct bytes in, out;
	struct pending pending[SFTP_REQUESTS_MAX];
	size_t n_pending;
	uint32_t last_id;
	size_t block;
	bool posix_rename, limits, greeted, bad;
};

/* Reading a packet: what is short leaves "bad" set and zeros. */
struct reader {
	const char *at, *end;
	bool bad;
};

static void
bytes_room(struct bytes *b, size_t more)
{
	if (b->at > 0 && (b->len == 0 || b->at + b->len + more > b->size)) {
		memmove(b->data, b->data + b->at, b->len);
		b->at = 0;
	}
	if (b->len + more <= b->size)
		return;
	while (b->len + more > b->size)
		b->size = b->size ? b->size * 2 : 64 * 1024;
	b->data = realloc(b->data, b->size);
	if (!b->data)
		abort();
}

static char *
bytes_add(struct bytes *b, size_t len)
{
	bytes_room(b, len);
	b->len += len;
	return b->data + b->at + b->len - len;
}

static void
put_u32(struct sftp *s, uint32_t n)
{
	n = htobe32(n);
	memcpy(bytes_add(&s->out, 4), &n, 4);
}

static void
put_u64(struct sftp *s, uint64_t n)
{
	n = htobe64(n);
	memcpy(bytes_add(&s->out, 8), &n, 8);
}

static void
put_bytes(struct sftp *s, const char *data, size_t len)
{
	put_u32(s, (uint32_t)len);
	memcpy(bytes_add(&s->out, len), data, len);
}

static void
put_str(struct sftp *s, const char *text)
{
	put_bytes(s, text, strlen(text));
}

static void
put_attrs(struct sftp *s, const struct sftp_attrs *a)
{
	put_u32(s, (a->has & SFTP_HAS_SIZE ? ATTR_SIZE : 0) |
			   (a->has & SFTP_HAS_MODE ? ATTR_PERMISSIONS : 0) |
			   (a->has & SFTP_HAS_TIMES ? ATTR_ACMODTIME : 0));
	if (a->has & SFTP_HAS_SIZE)
		put_u64(s, a->size);
	if (a->has & SFTP_HAS_MODE)
		put_u32(s, a->mode);
	if (a->has & SFTP_HAS_TIMES) {
		put_u32(s, a->atime);
		put_u32(s, a->mtime);
	}
}

static size_t
attrs_size(const struct sftp_attrs *a)
{
	return 4 + (a->has & SFTP_HAS_SIZE ? 8 : 0) + (a->has & SFTP_HAS_MODE ? 4 : 0) +
	       (a->has & SFTP_HAS_TIMES ? 8 : 0);
}

/* Begins a request whose body (behind its id) has @len bytes. */
static void
begin(struct sftp *s, enum packet type, size_t len, sftp_fn *fn, void *arg)
{
	struct pending *p = s->pending;
	char kind = (char)type;

	while (p->fn)
		p++;
	*p = (struct pending){++s->last_id, fn, arg};
	s->n_pending++;
	put_u32(s, (uint32_t)(1 + 4 + len));
	*bytes_add(&s->out, 1) = kind;
	put_u32(s, p->id);
}

static uint32_t
get_u32(struct reader *r)
{
	uint32_t n;

	if (r->end - r->at < 4) {
		r->bad = true;
		return 0;
	}
	memcpy(&n, r->at, 4);
	r->at += 4;
	return be32toh(n);
}

static uint64_t
get_u64(struct reader *r)
{
	uint64_t high = get_u32(r);

	return high << 32 | get_u32(r);
}

static const char *
get_bytes(struct reader *r, size_t *len)
{
	const char *data;

	*len = get_u32(r);
	if (r->bad || (size_t)(r->end - r->at) < *len) {
		r->bad = true;
		*len = 0;
		return r->at;
	}
	data = r->at;
	r->at += *len;
	return data;
}

static void
get_attrs(struct reader *r, struct sftp_attrs *a)
{
	uint32_t flags = get_u32(r);
	size_t len;

	*a = (struct sftp_attrs){0};
	if (flags & ATTR_SIZE) {
		a->has |= SFTP_HAS_SIZE;
		a->size = get_u64(r);
	}
	if (flags & ATTR_UIDGID)
		(void)get_u64(r);
	if (flags & ATTR_PERMISSIONS) {
		a->has |= SFTP_HAS_MODE;
		a->mode = get_u32(r);
	}
	if (flags & ATTR_ACMODTIME) {
		a->has |= SFTP_HAS_TIMES;
		a->atime = get_u32(r);
		a->mtime = get_u32(r);
	}
	if (flags & ATTR_EXTENDED) {
		uint32_t n = get_u32(r);

		for (uint32_t i = 0; i < n && !r->bad; i++) {
			(void)get_bytes(r, &len);
			(void)get_bytes(r, &len);
		}
	}
}

bool
sftp_next_name(struct sftp_answer *a, const char **name, size_t *len, struct sftp_attrs *attrs)
{
	struct reader r = {a->data, a->data + a->len, false};
	size_t skipped;

	if (a->names == 0)
		return false;
	*name = get_bytes(&r, len);
	(void)get_bytes(&r, &skipped); /* the line that 'ls -l' would print */
	get_attrs(&r, attrs);
	a->len = a->data + a->len - r.at;
	a->data = r.at;
	a->names--;
	return !r.bad;
}

bool
sftp_keep_handle(struct sftp_handle *h, const struct sftp_answer *a)
{
	if (a->status != SFTP_OK || a->len > sizeof(h->bytes))
		return false;
	h->len = a->len;
	memcpy(h->bytes, a->data, a->len);
	return true;
}

const char *
sftp_status_text(const struct sftp_answer *a, char *buf, size_t size)
{
	char text[256];

	snprintf(text, sizeof(text), "%.*s", (int)(a->message_len < 255 ? a->message_len : 255),
		a->message_len ? a->message : "");
	switch (a->status) {
	case SFTP_NO_SUCH_FILE:
		return "no such file or folder";
	case SFTP_PERMISSION_DENIED:
		return "permission denied";
	}
	if (!*text)
		snprintf(text, sizeof(text), "it failed (SFTP status %u)", a->status);
	return cij_text_clean(text, buf, size);
}

/* The server's greeting: which of the extensions that we use it has. */
static void
take_version(struct sftp *s, struct reader *r)
{
	(void)get_u32(r);
	while (!r->bad && r->at < r->end) {
		size_t n, m;
		const char *name = get_bytes(r, &n), *data = get_bytes(r, &m);

		if (n == 24 && memcmp(name, "posix-rename@openssh.com", n) == 0 && m == 1 &&
			*data == '1')
			s->posix_rename = true;
		else if (n == 18 && memcmp(name, "limits@openssh.com", n) == 0)
			s->limits = true;
	}
	s->greeted = true;
}

/* Hands one packet to whoever waits for it. */
static void
take_packet(struct sftp *s, const char *data, size_t len)
{
	struct reader r = {data + 1, data + len, false};
	enum packet type = (unsigned char)data[0];
	struct sftp_answer a = {.status = SFTP_OK};
	struct pending *p = NULL;
	uint32_t id;

	if (type == FXP_VERSION) {
		take_version(s, &r);
		return;
	}
	id = get_u32(&r);
	for (size_t i = 0; i < SFTP_REQUESTS_MAX; i++)
		if (s->pending[i].fn && s->pending[i].id == id)
			p = &s->pending[i];
	if (!p) {
		s->bad = true;
		return;
	}
	switch (type) {
	case FXP_STATUS:
		a.status = get_u32(&r);
		if (r.at < r.end)
			a.message = get_bytes(&r, &a.message_len);
		break;
	case FXP_HANDLE:
	case FXP_DATA:
		a.data = get_bytes(&r, &a.len);
		break;
	case FXP_NAME:
		a.names = get_u32(&r);
		a.data = r.at;
		a.len = r.end - r.at;
		break;
	case FXP_ATTRS:
		get_attrs(&r, &a.attrs);
		break;
	case FXP_EXTENDED_REPLY:
		a.data = r.at;
		a.len = r.end - r.at;
		break;
	default:
		r.bad = true;
	}
	if (r.bad) {
		s->bad = true;
		return;
	}
	struct pending one = *p;
	p->fn = NULL;
	s->n_pending--;
	one.fn(one.arg, &a);
}

/* Hands out all whole packets. Returns whether there were any. */
static bool
take_packets(struct sftp *s)
{
	bool any = false;

	while (!s->bad && s->in.len >= 5) {
		const char *data = s->in.data + s->in.at;
		uint32_t len;

		memcpy(&len, data, 4);
		len = be32toh(len);
		if (len < 1 || len > PACKET_MAX) {
			s->bad = true;
			break;
		}
		if (s->in.len < 4 + (size_t)len)
			break;
		s->in.at += 4 + len;
		s->in.len -= 4 + len;
		take_packet(s, data + 4, len);
		any = true;
	}
	return any;
}

/* Channel data goes straight into our buffer: libssh's own would copy it twice more. */
static int
on_data(ssh_session session, ssh_channel channel, void *data, uint32_t len, int is_stderr,
	void *arg)
{
	struct sftp *s = arg;

	if (!is_stderr)
		memcpy(bytes_add(&s->in, len), data, len);
	return (int)len;
}

/* Sends what the server has room for; libssh's own queue is kept empty. */
static void
flush(struct sftp *s)
{
	while (s->out.len > 0 && ssh_channel_window_size(s->channel) > 0 &&
		!(ssh_get_poll_flags(s->link->session) & SSH_WRITE_PENDING)) {
		int n = ssh_channel_write(s->channel, s->out.data + s->out.at,
			s->out.len < CHANNEL_BLOCK ? s->out.len : CHANNEL_BLOCK);

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

bool
sftp_has_room(const struct sftp *s)
{
	/* A few places stay free for what must be said behind each file. */
	return s->n_pending < SFTP_REQUESTS_MAX - 8 && s->out.len < OUT_MAX;
}

size_t
sftp_under_way(const struct sftp *s)
{
	return s->n_pending;
}

void
sftp_stat_async(struct sftp *s, const char *path, bool follow, sftp_fn *fn, void *arg)
{
	begin(s, follow ? FXP_STAT : FXP_LSTAT, 4 + strlen(path), fn, arg);
	put_str(s, path);
}

void
sftp_open_async(struct sftp *s, const char *path, unsigned how, sftp_fn *fn, void *arg)
{
	struct sftp_attrs attrs = {.has = how & SFTP_CREATE ? SFTP_HAS_MODE : 0, .mode = 0600};

	begin(s, FXP_OPEN, 4 + strlen(path) + 4 + attrs_size(&attrs), fn, arg);
	put_str(s, path);
	put_u32(s, how);
	put_attrs(s, &attrs);
}

void
sftp_close_async(struct sftp *s, const struct sftp_handle *h, sftp_fn *fn, void *arg)
{
	begin(s, FXP_CLOSE, 4 + h->len, fn, arg);
	put_bytes(s, h->bytes, h->len);
}

void
sftp_read_async(struct sftp *s, const struct sftp_handle *h, uint64_t at, uint32_t len, sftp_fn *fn,
	void *arg)
{
	begin(s, FXP_READ, 4 + h->len + 8 + 4, fn, arg);
	put_bytes(s, h->bytes, h->len);
	put_u64(s, at);
	put_u32(s, len);
}

char *
sftp_write_async(struct sftp *s, const struct sftp_handle *h, uint64_t at, uint32_t len,
	sftp_fn *fn, void *arg)
{
	begin(s, FXP_WRITE, 4 + h->len + 8 + 4 + len, fn, arg);
	put_bytes(s, h->bytes, h->len);
	put_u64(s, at);
	put_u32(s, len);
	return bytes_add(&s->out, len);
}

void
sftp_fsetstat_async(struct sftp *s, const struct sftp_handle *h, const struct sftp_attrs *attrs,
	sftp_fn *fn, void *arg)
{
	begin(s, FXP_FSETSTAT, 4 + h->len + attrs_size(attrs), fn, arg);
	put_bytes(s, h->bytes, h->len);
	put_attrs(s, attrs);
}

void
sftp_setstat_async(
	struct sftp *s, const char *path, const struct sftp_attrs *attrs, sftp_fn *fn, void *arg)
{
	begin(s, FXP_SETSTAT, 4 + strlen(path) + attrs_size(attrs), fn, arg);
	put_str(s, path);
	put_attrs(s, attrs);
}

void
sftp_mkdir_async(struct sftp *s, const char *path, mode_t mode, sftp_fn *fn, void *arg)
{
	struct sftp_attrs attrs = {.has = SFTP_HAS_MODE, .mode = mode};

	begin(s, FXP_MKDIR, 4 + strlen(path) + attrs_size(&attrs), fn, arg);
	put_str(s, path);
	put_attrs(s, &attrs);
}

void
sftp_remove_async(struct sftp *s, const char *path, sftp_fn *fn, void *arg)
{
	begin(s, FXP_REMOVE, 4 + strlen(path), fn, arg);
	put_str(s, path);
}

bool
sftp_renames_over(const struct sftp *s)
{
	return s->posix_rename;
}

void
sftp_rename_async(struct sftp *s, const char *from, const char *to, sftp_fn *fn, void *arg)
{
	static const char extension[] = "posix-rename@openssh.com";

	if (s->posix_rename) {
		begin(s, FXP_EXTENDED, 4 + strlen(extension) + 8 + strlen(from) + strlen(to), fn,
			arg);
		put_str(s, extension);
	} else {
		begin(s, FXP_RENAME, 8 + strlen(from) + strlen(to), fn, arg);
	}
	put_str(s, from);
	put_str(s, to);
}

void
sftp_symlink_async(struct sftp *s, const char *target, const char *path, sftp_fn *fn, void *arg)
{
	/* OpenSSH, and all who follow it, take the two in this order, against the draft. */
	begin(s, FXP_SYMLINK, 8 + strlen(target) + strlen(path), fn, arg);
	put_str(s, target);
	put_str(s, path);
}

void
sftp_readlink_async(struct sftp *s, const char *path, sftp_fn *fn, void *arg)
{
	begin(s, FXP_READLINK, 4 + strlen(path), fn, arg);
	put_str(s, path);
}

void
sftp_opendir_async(struct sftp *s, const char *path, sftp_fn *fn, void *arg)
{
	begin(s, FXP_OPENDIR, 4 + strlen(path), fn, arg);
	put_str(s, path);
}

void
sftp_readdir_async(struct sftp *s, const struct sftp_handle *h, sftp_fn *fn, void *arg)
{
	begin(s, FXP_READDIR, 4 + h->len, fn, arg);
	put_bytes(s, h->bytes, h->len);
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

/* OpenSSH tells how large reads and writes may be: max-packet, max-read, max-write, max-handles. */
static void
on_limits(void *arg, const struct sftp_answer *a)
{
	struct sftp *s = arg;
	struct reader r = {a->data, a->data + a->len, false};
	uint64_t reads, writes, least;

	s->limits = false;
	if (a->status != SFTP_OK || !a->data)
		return;
	(void)get_u64(&r);
	reads = get_u64(&r);
	writes = get_u64(&r);
	least = reads < writes ? reads : writes;
	if (!r.bad && least > BLOCK_DEFAULT)
		s->block = least > BLOCK_MAX ? BLOCK_MAX : (size_t)least;
}

/* Greets, and learns what the server can. */
static int
greet(struct sftp *s, struct cij_error *err)
{
	static const char limits[] = "limits@openssh.com";
	bool done;

	put_u32(s, 5);
	*bytes_add(&s->out, 1) = FXP_INIT;
	put_u32(s, 3);
	if (wait_for(s, &s->greeted, "waiting for its SFTP server", err) < 0)
		return -1;
	if (!s->limits)
		return 0;
	begin(s, FXP_EXTENDED, 4 + strlen(limits), on_limits, s);
	put_str(s, limits);
	for (done = false; s->limits && !done; done = s->n_pending == 0)
		if (sftp_step(s, 1000, err) < 0)
			return -1;
	return 0;
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
