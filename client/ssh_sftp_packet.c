#include "client/ssh_sftp_packet.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/text.h"

/* section 5: which attributes there are */
#define ATTR_SIZE 0x1u
#define ATTR_UIDGID 0x2u
#define ATTR_PERMISSIONS 0x4u
#define ATTR_ACMODTIME 0x8u
#define ATTR_EXTENDED 0x80000000u

/* A packet from the server that is larger is none. */
#define PACKET_MAX (4 * 1024 * 1024)

/* Reading a packet: what is short leaves "bad" set and zeros. */
struct sftp_reader {
	const char *at, *end;
	bool bad;
};

static void
bytes_room(struct sftp_bytes *b, size_t more)
{
	if (b->at > 0 && (b->len == 0 || b->at + b->len + more > b->size)) {
		memmove(b->data, b->data + b->at, b->len);
		b->at = 0;
	}
	if (b->data && b->len + more <= b->size)
		return;
	do
		b->size = b->size ? b->size * 2 : 64 * 1024;
	while (b->len + more > b->size);
	b->data = realloc(b->data, b->size);
	if (!b->data)
		abort();
}

char *
sftp_bytes_add(struct sftp_bytes *b, size_t len)
{
	bytes_room(b, len);
	b->len += len;
	return b->data + b->at + b->len - len;
}

void
sftp_put_u32(struct sftp_bytes *out, uint32_t n)
{
	n = htobe32(n);
	memcpy(sftp_bytes_add(out, 4), &n, 4);
}

void
sftp_put_u64(struct sftp_bytes *out, uint64_t n)
{
	n = htobe64(n);
	memcpy(sftp_bytes_add(out, 8), &n, 8);
}

void
sftp_put_bytes(struct sftp_bytes *out, const char *data, size_t len)
{
	sftp_put_u32(out, (uint32_t)len);
	memcpy(sftp_bytes_add(out, len), data, len);
}

void
sftp_put_str(struct sftp_bytes *out, const char *text)
{
	sftp_put_bytes(out, text, strlen(text));
}

void
sftp_put_attrs(struct sftp_bytes *out, const struct sftp_attrs *a)
{
	sftp_put_u32(out, (a->has & SFTP_HAS_SIZE ? ATTR_SIZE : 0) |
				  (a->has & SFTP_HAS_MODE ? ATTR_PERMISSIONS : 0) |
				  (a->has & SFTP_HAS_TIMES ? ATTR_ACMODTIME : 0));
	if (a->has & SFTP_HAS_SIZE)
		sftp_put_u64(out, a->size);
	if (a->has & SFTP_HAS_MODE)
		sftp_put_u32(out, a->mode);
	if (a->has & SFTP_HAS_TIMES) {
		sftp_put_u32(out, a->atime);
		sftp_put_u32(out, a->mtime);
	}
}

size_t
sftp_attrs_size(const struct sftp_attrs *a)
{
	return 4 + (a->has & SFTP_HAS_SIZE ? 8 : 0) + (a->has & SFTP_HAS_MODE ? 4 : 0) +
	       (a->has & SFTP_HAS_TIMES ? 8 : 0);
}

static uint32_t
get_u32(struct sftp_reader *r)
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
get_u64(struct sftp_reader *r)
{
	uint64_t high = get_u32(r);

	return high << 32 | get_u32(r);
}

static const char *
get_bytes(struct sftp_reader *r, size_t *len)
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
get_attrs(struct sftp_reader *r, struct sftp_attrs *a)
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

enum sftp_packet
sftp_packet_type(const char *packet)
{
	return (unsigned char)packet[0];
}

int
sftp_packet_next(struct sftp_bytes *in, const char **packet, size_t *len)
{
	const char *data;
	uint32_t n;

	if (in->len < 5)
		return 0;
	data = in->data + in->at;
	memcpy(&n, data, 4);
	n = be32toh(n);
	if (n < 1 || n > PACKET_MAX)
		return -1;
	if (in->len < 4 + (size_t)n)
		return 0;
	in->at += 4 + n;
	in->len -= 4 + n;
	*packet = data + 4;
	*len = n;
	return 1;
}

void
sftp_greeting_read(const char *packet, size_t len, struct sftp_greeting *greeting)
{
	struct sftp_reader r = {packet + 1, packet + len, false};

	*greeting = (struct sftp_greeting){0};
	(void)get_u32(&r);
	while (!r.bad && r.at < r.end) {
		size_t n, m;
		const char *name = get_bytes(&r, &n), *data = get_bytes(&r, &m);

		if (n == 24 && memcmp(name, "posix-rename@openssh.com", n) == 0 && m == 1 &&
			*data == '1')
			greeting->posix_rename = true;
		else if (n == 18 && memcmp(name, "limits@openssh.com", n) == 0)
			greeting->limits = true;
	}
}

uint32_t
sftp_answer_id(const char *packet, size_t len)
{
	struct sftp_reader r = {packet + 1, packet + len, false};

	return get_u32(&r);
}

bool
sftp_answer_read(const char *packet, size_t len, struct sftp_answer *a)
{
	struct sftp_reader r = {packet + 1, packet + len, false};

	*a = (struct sftp_answer){.status = SFTP_OK};
	(void)get_u32(&r); /* its id */
	switch (sftp_packet_type(packet)) {
	case FXP_STATUS:
		a->status = get_u32(&r);
		if (r.at < r.end)
			a->message = get_bytes(&r, &a->message_len);
		break;
	case FXP_HANDLE:
	case FXP_DATA:
		a->data = get_bytes(&r, &a->len);
		break;
	case FXP_NAME:
		a->names = get_u32(&r);
		a->data = r.at;
		a->len = r.end - r.at;
		break;
	case FXP_ATTRS:
		get_attrs(&r, &a->attrs);
		break;
	case FXP_EXTENDED_REPLY:
		a->data = r.at;
		a->len = r.end - r.at;
		break;
	default:
		r.bad = true;
	}
	return !r.bad;
}

uint64_t
sftp_limits_read(const struct sftp_answer *a)
{
	struct sftp_reader r;
	uint64_t reads, writes;

	if (a->status != SFTP_OK || !a->data)
		return 0;
	r = (struct sftp_reader){a->data, a->data + a->len, false};
	(void)get_u64(&r);
	reads = get_u64(&r);
	writes = get_u64(&r);
	return r.bad ? 0 : reads < writes ? reads : writes;
}

bool
sftp_next_name(struct sftp_answer *a, const char **name, size_t *len, struct sftp_attrs *attrs)
{
	struct sftp_reader r;
	size_t skipped;

	if (a->names == 0)
		return false;
	r = (struct sftp_reader){a->data, a->data + a->len, false};
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
	if (a->status != SFTP_OK || !a->data || a->len > sizeof(h->bytes))
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
