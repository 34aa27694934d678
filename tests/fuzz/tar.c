/*
 * What tar in a guest gives: the same entries and data however the stream is cut, and what was
 * taken out of an archive goes into one again as it was.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cijqemu/cleanup.h"
#include "client/ssh_tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All that was told, in one number and a few counts. */
struct seen {
	uint64_t sum; /* FNV-1a */
	unsigned begun, ended;
	int64_t left; /* of the entry's data */
	struct tar_entry *copy; /* or NULL: the entry is written and read again */
};

static void
add(struct seen *seen, const void *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		seen->sum = (seen->sum ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3u;
}

static int
on_begin(void *arg, const struct tar_entry *e, struct cij_error *err)
{
	struct seen *seen = arg;

	if (seen->begun != seen->ended)
		abort();
	seen->begun++;
	seen->left = e->kind == TAR_FILE || e->kind == TAR_OTHER ? e->size : 0;
	if (e->size < 0 || (e->mode & ~(mode_t)07777))
		abort();
	add(seen, &e->kind, sizeof(e->kind));
	add(seen, e->path, strlen(e->path) + 1);
	add(seen, e->target, strlen(e->target) + 1);
	add(seen, &e->mode, sizeof(e->mode));
	add(seen, &e->size, sizeof(e->size));
	add(seen, &e->mtime, sizeof(e->mtime));
	if (seen->copy) {
		*seen->copy = *e;
		seen->copy->path = strdup(e->path);
		seen->copy->target = strdup(e->target);
		return cij_error_set(err, CIJ_E_FAILED, "one is enough");
	}
	return 0;
}

static int
on_data(void *arg, const char *data, size_t len, struct cij_error *err)
{
	struct seen *seen = arg;

	seen->left -= (int64_t)len;
	if (seen->begun != seen->ended + 1 || seen->left < 0)
		abort();
	add(seen, data, len);
	return 0;
}

static int
on_end(void *arg, struct cij_error *err)
{
	struct seen *seen = arg;

	if (++seen->ended != seen->begun || seen->left != 0)
		abort();
	return 0;
}

/* Reads the stream in parts of @step bytes, each a block of its own on the heap. */
static struct seen
read_all(const uint8_t *data, size_t len, size_t step, struct tar_entry *copy)
{
	static const struct tar_events events = {on_begin, on_data, on_end};
	struct seen seen = {.sum = 0xcbf29ce484222325u, .copy = copy};
	struct tar_reader *reader = tar_reader_new(&events, &seen);
	struct cij_error err;
	bool bad = false;

	for (size_t at = 0; at < len && !bad; at += step) {
		size_t part = len - at < step ? len - at : step;
		_cleanup_free_ char *exact = malloc(part);

		memcpy(exact, data + at, part);
		bad = tar_reader_feed(reader, exact, part, &err) < 0;
	}
	add(&seen, &bad, sizeof(bad));
	if (bad)
		add(&seen, err.desc, strlen(err.desc));
	bad = tar_reader_at_end(reader);
	add(&seen, &bad, sizeof(bad));
	tar_reader_free(reader);
	return seen;
}

/* The first entry, written by us and read again. */
static void
write_again(const uint8_t *data, size_t len)
{
	struct tar_entry e = {0}, same = {0};
	_cleanup_free_ char *blocks = NULL;
	size_t n;

	(void)read_all(data, len, len, &e);
	if (!e.path)
		return;
	blocks = tar_header(&e, &n);
	(void)read_all((const uint8_t *)blocks, n, n, &same);
	if (!same.path || strcmp(same.path, e.path) != 0 || strcmp(same.target, e.target) != 0 ||
		same.mode != e.mode || same.mtime != e.mtime ||
		same.kind != (e.kind == TAR_OTHER ? TAR_FILE : e.kind) ||
		same.size != (e.kind == TAR_FILE ? e.size : 0))
		abort();
	free((char *)e.path);
	free((char *)e.target);
	free((char *)same.path);
	free((char *)same.target);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seen whole, parts;

	if (size < 2)
		return 0;
	whole = read_all(data + 1, size - 1, size - 1, NULL);
	parts = read_all(data + 1, size - 1, data[0] + 1, NULL);
	if (whole.sum != parts.sum || whole.begun != parts.begun || whole.ended != parts.ended)
		abort();
	write_again(data + 1, size - 1);
	return 0;
}
