#include "client/ssh_tar.h"

#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cijqemu/cleanup.h"

/* POSIX 1003.1, pax, "ustar Interchange Format" */
struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type;
	char linkname[100], magic[6], version[2], uname[32], gname[32], major[8], minor[8];
	char prefix[155], pad[12];
};

_Static_assert(sizeof(struct header) == TAR_BLOCK, "a header is one block");

/* Names and pax records that are longer are no names. */
#define LONG_MAX_BYTES (64 * 1024)

/* Octal digits where they fit, else GNU's base 256. */
static void
put_number(char *field, size_t size, uint64_t n)
{
	if (n >> (3 * (size - 1)) == 0) {
		char text[24];

		snprintf(text, sizeof(text), "%0*llo", (int)size - 1, (unsigned long long)n);
		memcpy(field, text, size); /* its NUL too */
		return;
	}
	for (size_t i = size; i > 1; i--, n >>= 8)
		field[i - 1] = (char)(n & 0xff);
	field[0] = (char)0x80;
}

static void
put_checksum(struct header *h)
{
	const unsigned char *bytes = (const unsigned char *)h;
	unsigned sum = 0;
	char text[8];

	memset(h->checksum, ' ', sizeof(h->checksum));
	for (size_t i = 0; i < sizeof(*h); i++)
		sum += bytes[i];
	snprintf(text, sizeof(text), "%06o", sum & 0777777);
	memcpy(h->checksum, text, 7);
}

static void
fill_header(
	struct header *h, char type, const char *name, mode_t mode, int64_t size, uint32_t mtime)
{
	memset(h, 0, sizeof(*h));
	memcpy(h->name, name, strnlen(name, sizeof(h->name)));
	put_number(h->mode, sizeof(h->mode), mode & 07777);
	put_number(h->uid, sizeof(h->uid), 0);
	put_number(h->gid, sizeof(h->gid), 0);
	put_number(h->size, sizeof(h->size), (uint64_t)size);
	put_number(h->mtime, sizeof(h->mtime), mtime);
	h->type = type;
	/* GNU's magic: what follows uses its long names. */
	memcpy(h->magic, "ustar ", 6);
	memcpy(h->version, " ", 2);
}

/* Appends "the next entry's name (or link) is this". */
static char *
put_long(char *at, char type, const char *text)
{
	size_t n = strlen(text) + 1;
	struct header *h = (struct header *)at;

	fill_header(h, type, "././@LongLink", 0644, (int64_t)n, 0);
	put_checksum(h);
	memcpy(at + TAR_BLOCK, text, n);
	memset(at + TAR_BLOCK + n, 0, TAR_PADDING(n));
	return at + TAR_BLOCK + n + TAR_PADDING(n);
}

char *
tar_header(const struct tar_entry *e, size_t *len)
{
	static const char types[] = {[TAR_FILE] = '0',
		[TAR_HARD_LINK] = '1',
		[TAR_LINK] = '2',
		[TAR_FOLDER] = '5',
		[TAR_OTHER] = '0'};
	size_t name = strlen(e->path), target = e->target ? strlen(e->target) : 0;
	char *blocks = malloc(3 * TAR_BLOCK + name + target + 2 * TAR_BLOCK + 2), *at = blocks;
	struct header *h;

	if (!blocks)
		abort();
	if (name > sizeof(h->name))
		at = put_long(at, 'L', e->path);
	if (target > sizeof(h->linkname))
		at = put_long(at, 'K', e->target);
	h = (struct header *)at;
	fill_header(
		h, types[e->kind], e->path, e->mode, e->kind == TAR_FILE ? e->size : 0, e->mtime);
	if (e->target)
		memcpy(h->linkname, e->target, target < 100 ? target : 100);
	put_checksum(h);
	*len = (size_t)(at - blocks) + TAR_BLOCK;
	return blocks;
}

struct tar_reader {
	struct tar_events events;
	void *arg; /* weak */
	enum { READ_HEADER, READ_DATA, READ_LONG, READ_PADDING, READ_END } state;
	struct header header;
	size_t have; /* bytes of the header, or of a long text */
	int64_t left; /* bytes of data that are to come */
	size_t padding;
	bool ours; /* the data is an entry's that was begun */
	char *text; /* of a long name or a pax header; text_size bytes and a NUL */
	size_t text_size;
	/* for the next entry: NULL, -1 = the header says it */
	char *path, *target;
	int64_t size;
};

struct tar_reader *
tar_reader_new(const struct tar_events *events, void *arg)
{
	struct tar_reader *r = calloc(1, sizeof(*r));

	if (!r)
		abort();
	r->events = *events;
	r->arg = arg;
	r->size = -1;
	return r;
}

void
tar_reader_free(struct tar_reader *r)
{
	if (!r)
		return;
	free(r->text);
	free(r->path);
	free(r->target);
	free(r);
}

bool
tar_reader_at_end(const struct tar_reader *r)
{
	return r->state == READ_END;
}

static int
nonsense(struct cij_error *err, const char *what)
{
	return cij_error_set(
		err, CIJ_E_FAILED, "what tar in the guest gives is no archive: %s", what);
}

/* A number of a header; -1 for what is none. */
static int64_t
get_number(const char *field, size_t size)
{
	uint64_t n = 0;
	size_t i = 0;

	if ((unsigned char)field[0] == 0x80) {
		for (i = 1; i < size; i++) {
			if (n >> 55)
				return -1;
			n = n << 8 | (unsigned char)field[i];
		}
		return (int64_t)n;
	}
	while (i < size && field[i] == ' ')
		i++;
	for (; i < size && field[i] >= '0' && field[i] <= '7'; i++)
		n = n << 3 | (uint64_t)(field[i] - '0');
	if (i < size && field[i] && field[i] != ' ')
		return -1;
	return (int64_t)n;
}

static bool
checksum_is_right(const struct header *h)
{
	const unsigned char *bytes = (const unsigned char *)h;
	int64_t sum = 0;

	for (size_t i = 0; i < sizeof(*h); i++)
		sum += i >= offsetof(struct header, checksum) && i < offsetof(struct header, type)
			       ? ' '
			       : bytes[i];
	return get_number(h->checksum, sizeof(h->checksum)) == sum;
}

/* The name as the header has it, its prefix included. Heap. */
static char *
header_path(const struct header *h)
{
	/* GNU's headers have other things where POSIX has a prefix. */
	bool posix = memcmp(h->magic, "ustar", 6) == 0 && h->prefix[0];
	char *path;

	if (asprintf(&path, "%.*s%s%.*s", posix ? (int)sizeof(h->prefix) : 0, h->prefix,
		    posix ? "/" : "", (int)sizeof(h->name), h->name) < 0)
		abort();
	return path;
}

/* Takes "LENGTH KEY=VALUE\n" records. */
static void
take_pax(struct tar_reader *r)
{
	char *at = r->text, *end = r->text + r->text_size;

	while (at < end) {
		char *rest, *key, *value;
		unsigned long n = strtoul(at, &rest, 10);

		if (n == 0 || n > (unsigned long)(end - at) || *rest != ' ' || at[n - 1] != '\n')
			return;
		at[n - 1] = '\0';
		key = rest + 1;
		value = strchr(key, '=');
		if (value) {
			*value++ = '\0';
			if (strcmp(key, "path") == 0) {
				free(r->path);
				r->path = strdup(value);
			} else if (strcmp(key, "linkpath") == 0) {
				free(r->target);
				r->target = strdup(value);
			} else if (strcmp(key, "size") == 0) {
				r->size = strtoll(value, NULL, 10);
			}
		}
		at += n;
	}
}

/* A long text has come. */
static void
take_long(struct tar_reader *r)
{
	char **into = r->header.type == 'L' ? &r->path : &r->target;

	r->text[r->text_size] = '\0';
	if (r->header.type == 'x') {
		take_pax(r);
	} else if (r->header.type != 'g') {
		free(*into);
		*into = r->text;
		r->text = NULL;
	}
	free(r->text);
	r->text = NULL;
}

static void
begin_padding(struct tar_reader *r)
{
	r->have = 0;
	r->state = r->padding > 0 ? READ_PADDING : READ_HEADER;
}

static int
end_data(struct tar_reader *r, struct cij_error *err)
{
	begin_padding(r);
	return r->ours && r->events.end(r->arg, err) < 0 ? -1 : 0;
}

static int
begin_entry(struct tar_reader *r, struct cij_error *err)
{
	const struct header *h = &r->header;
	_cleanup_free_ char *path = r->path ? steal_ptr(r->path) : header_path(h);
	_cleanup_free_ char *target = r->target ? steal_ptr(r->target)
						: strndup(h->linkname, sizeof(h->linkname));
	struct tar_entry e = {.path = path, .target = target};

	e.mode = (mode_t)get_number(h->mode, sizeof(h->mode)) & 07777;
	e.mtime = (uint32_t)get_number(h->mtime, sizeof(h->mtime));
	e.size = r->size >= 0 ? r->size : get_number(h->size, sizeof(h->size));
	r->size = -1;
	switch (h->type) {
	case '0':
	case '\0':
	case '7':
		e.kind = TAR_FILE;
		break;
	case '1':
		e.kind = TAR_HARD_LINK;
		break;
	case '2':
		e.kind = TAR_LINK;
		break;
	case '5':
		e.kind = TAR_FOLDER;
		break;
	default:
		e.kind = TAR_OTHER;
	}
	if (e.size < 0)
		return nonsense(err, "a size below zero");
	r->left = e.kind == TAR_FILE || e.kind == TAR_OTHER ? e.size : 0;
	r->padding = TAR_PADDING(r->left);
	r->ours = true;
	r->state = READ_DATA;
	if (r->events.begin(r->arg, &e, err) < 0)
		return -1;
	return r->left == 0 ? end_data(r, err) : 0;
}

/* A whole header has come. */
static int
take_header(struct tar_reader *r, struct cij_error *err)
{
	static const struct header zero;
	const struct header *h = &r->header;

	if (memcmp(h, &zero, sizeof(zero)) == 0) {
		r->state = READ_END;
		return 0;
	}
	if (!checksum_is_right(h))
		return nonsense(err, "a header's checksum is wrong");
	if (!strchr("LKxg", h->type) || !h->type)
		return begin_entry(r, err);
	r->left = get_number(h->size, sizeof(h->size));
	if (r->left <= 0 || r->left > LONG_MAX_BYTES)
		return nonsense(err, "a name that is too long");
	r->text_size = (size_t)r->left;
	r->text = malloc(r->text_size + 1);
	if (!r->text)
		abort();
	r->have = 0;
	r->padding = TAR_PADDING(r->text_size);
	r->state = READ_LONG;
	return 0;
}

/* Takes in some of the bytes. Returns how many, or -1. */
static ssize_t
take_some(struct tar_reader *r, const char *data, size_t len, struct cij_error *err)
{
	size_t n = len;

	switch (r->state) {
	case READ_HEADER:
		if (n > TAR_BLOCK - r->have)
			n = TAR_BLOCK - r->have;
		memcpy((char *)&r->header + r->have, data, n);
		r->have += n;
		if (r->have == TAR_BLOCK && take_header(r, err) < 0)
			return -1;
		break;
	case READ_LONG:
		if (n > r->text_size - r->have)
			n = r->text_size - r->have;
		memcpy(r->text + r->have, data, n);
		r->have += n;
		if (r->have == r->text_size) {
			take_long(r);
			begin_padding(r);
		}
		break;
	case READ_DATA:
		if ((int64_t)n > r->left)
			n = (size_t)r->left;
		r->left -= (int64_t)n;
		if (r->events.data(r->arg, data, n, err) < 0 ||
			(r->left == 0 && end_data(r, err) < 0))
			return -1;
		break;
	case READ_PADDING:
		if (n > r->padding)
			n = r->padding;
		r->padding -= n;
		if (r->padding == 0)
			r->state = READ_HEADER;
		break;
	case READ_END:
		break;
	}
	return (ssize_t)n;
}

int
tar_reader_feed(struct tar_reader *r, const char *data, size_t len, struct cij_error *err)
{
	while (len > 0) {
		ssize_t n = take_some(r, data, len, err);

		if (n < 0)
			return -1;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}
