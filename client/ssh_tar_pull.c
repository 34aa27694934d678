/* pull without SFTP: files through 'cat', folders as tar archives that are taken apart here. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cijqemu/cleanup.h"
#include "client/args.h"
#include "client/quote.h"
#include "client/ssh_local.h"
#include "client/ssh_stream.h"
#include "client/ssh_tar.h"
#include "proto/text.h"

#define BLOCK_BYTES (64 * 1024)

/* One source as the guest's shell sees it. */
struct source {
	enum place place;
	int64_t size;
	unsigned mode;
	unsigned atime, mtime;
};

/* An archive being taken apart. */
struct unpack {
	struct copy *copy; /* weak */
	const char *top; /* weak: the folder here that it goes into */
	struct item item; /* the file under way; its strings are owned */
	struct local_file file;
	bool has_file, skip;
};

static int
look_at(struct copy *c, const char *path, struct source *src, struct cij_error *err)
{
	_cleanup_free_ char *name = shell_quote_path(path), *line = NULL, *out = NULL;
	long long size = -1;
	char clean[256];
	int code;

	*src = (struct source){.place = PLACE_NONE, .mode = 0644, .size = -1};
	if (asprintf(&line,
		    "if [ -d %s ]; then echo folder; elif [ -f %s ]; then stat -L -c "
		    "'file %%s %%a %%X %%Y' %s || wc -c < %s; elif [ -e %s ]; then echo other; "
		    "else echo none; fi",
		    name, name, name, name, name) < 0)
		abort();
	ssh_link_extend(&c->link);
	code = ssh_link_feed(&c->link, line, NULL, 0, &out, err);
	if (code < 0)
		return -1;
	cij_text_clean(path, clean, sizeof(clean));
	if (strncmp(out, "none", 4) == 0)
		return cij_error_set(err, CIJ_E_BAD_REQUEST, "%s: there is no '%s' in the guest",
			c->call->guest, clean);
	if (strncmp(out, "folder", 6) == 0) {
		src->place = PLACE_FOLDER;
	} else if (strncmp(out, "other", 5) == 0) {
		src->place = PLACE_OTHER;
	} else if (sscanf(out, "file %lld %o %u %u", &size, &src->mode, &src->atime, &src->mtime) ==
			   4 ||
		   sscanf(out, "%lld", &size) == 1) {
		src->place = PLACE_FILE;
		src->size = size;
	} else {
		return cij_error_set(
			err, CIJ_E_FAILED, "%s: '%s' cannot be looked at", c->call->guest, clean);
	}
	return 0;
}

/* All that a file gives, into the local file. */
static int
receive(struct ssh_stream *s, struct local_file *f, int64_t *size, struct cij_error *err)
{
	_cleanup_free_ char *buf = malloc(BLOCK_BYTES);

	if (!buf)
		abort();
	*size = 0;
	for (;;) {
		ssize_t n = ssh_stream_read(s, buf, BLOCK_BYTES, err);

		if (n < 0)
			return -1;
		if (n == 0)
			return 0;
		if (local_write(f, buf, n, *size) < 0)
			return cij_error_errno(err, CIJ_E_FAILED, errno, "'%s'", f->path);
		*size += n;
		s->copy->bytes_done += n;
	}
}

static int
pull_file(struct copy *c, const char *path, const char *to, const struct source *src,
	struct cij_error *err)
{
	_cleanup_free_ char *name = shell_quote_path(path), *line = NULL;
	struct item item = {.kind = ITEM_FILE,
		.to = (char *)to,
		.mode = src->mode & 0777,
		.atime = src->atime,
		.mtime = src->mtime};
	struct ssh_stream s = {0};
	struct local_file f;
	int64_t size;
	char clean[256], words[512];
	int rc;

	cij_text_clean(path, clean, sizeof(clean));
	if (asprintf(&line, "exec cat < %s", name) < 0)
		abort();
	if (local_open(&f, &item) < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "'%s'", to);
	rc = ssh_stream_open(&s, c, line, err);
	if (rc == 0)
		rc = receive(&s, &f, &size, err);
	if (rc == 0)
		rc = ssh_stream_finish(&s, err);
	ssh_stream_close(&s);
	if (rc > 0)
		rc = cij_error_set(err, CIJ_E_FAILED, "%s: '%s': %s", c->call->guest, clean,
			ssh_stream_words(&s, words, sizeof(words)));
	else if (rc == 0 && src->size >= 0 && size != src->size)
		rc = cij_error_set(err, CIJ_E_FAILED, "%s: '%s' was changed while it was read",
			c->call->guest, clean);
	if (rc < 0) {
		local_abandon(&f);
		return -1;
	}
	if (local_finish(&f, &item) < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "'%s'", to);
	c->files_done++;
	return 0;
}

/*
 * Where an entry goes: its path below the top, every part of which must be a name and, as far as
 * it is there, a folder that is no link. NULL after telling; "" stands for the top itself.
 */
static char *
entry_target(struct unpack *u, const char *path)
{
	char *to = strdup(u->top);
	const char *at = path;

	while (*at) {
		size_t n = strcspn(at, "/");
		char *longer;
		struct stat st;

		if (n > 0 && !(n == 1 && *at == '.')) {
			if (!path_name_is_safe(at, n) ||
				(strcmp(to, u->top) != 0 && lstat(to, &st) == 0 &&
					!S_ISDIR(st.st_mode))) {
				copy_fail(u->copy, path, "its path leads elsewhere: left out");
				free(to);
				return NULL;
			}
			longer = path_join(to, at, n);
			free(to);
			to = longer;
		}
		at += n;
		at += strspn(at, "/");
	}
	return to;
}

static void
clear_item(struct unpack *u)
{
	free(u->item.to);
	u->item = (struct item){0};
}

/* A second name of a file that came before. */
static void
make_hard_link(struct unpack *u, const char *target, const char *to)
{
	_cleanup_free_ char *old = entry_target(u, target), *part = path_part(to);

	if (!old)
		return;
	if (link(old, part) < 0 || rename(part, to) < 0) {
		copy_fail(u->copy, to, strerror(errno));
		(void)unlink(part);
		return;
	}
	/* Renaming a name of a file over another one of it does nothing. */
	(void)unlink(part);
	u->copy->files_done++;
}

static int
on_begin(void *arg, const struct tar_entry *e, struct cij_error *err)
{
	struct unpack *u = arg;
	char *to = entry_target(u, e->path);
	struct item *item;

	u->skip = true;
	if (!to)
		return 0;
	switch (e->kind) {
	case TAR_FOLDER:
		item = plan_add(&u->copy->plan, ITEM_FOLDER, NULL, to);
		item->mode = e->mode & 0777;
		item->atime = item->mtime = e->mtime;
		if (local_folder(item) < 0) {
			local_fail(u->copy, to);
			item->kind = ITEM_NONE;
		}
		return 0;
	case TAR_LINK:
		item = plan_add(&u->copy->plan, ITEM_LINK, NULL, to);
		item->target = strdup(e->target);
		return 0;
	case TAR_HARD_LINK:
		make_hard_link(u, e->target, to);
		break;
	case TAR_OTHER:
		copy_skip(u->copy, e->path, "is no file, folder or link: left out");
		break;
	case TAR_FILE:
		u->item = (struct item){.kind = ITEM_FILE,
			.to = to,
			.mode = e->mode & 0777,
			.size = e->size,
			.atime = e->mtime,
			.mtime = e->mtime};
		u->has_file = local_open(&u->file, &u->item) == 0;
		u->skip = !u->has_file;
		if (u->skip) {
			local_fail(u->copy, to);
			clear_item(u);
		}
		return 0;
	}
	free(to);
	return 0;
}

static int
on_data(void *arg, const char *data, size_t len, struct cij_error *err)
{
	struct unpack *u = arg;

	u->copy->bytes_done += (int64_t)len;
	if (u->skip || local_write(&u->file, data, len, u->file.end) == 0)
		return 0;
	local_fail(u->copy, u->item.to);
	local_abandon(&u->file);
	clear_item(u);
	u->has_file = false;
	u->skip = true;
	return 0;
}

static int
on_end(void *arg, struct cij_error *err)
{
	struct unpack *u = arg;

	if (u->skip)
		return 0;
	if (local_finish(&u->file, &u->item) < 0)
		local_fail(u->copy, u->item.to);
	else
		u->copy->files_done++;
	u->has_file = false;
	clear_item(u);
	return 0;
}

/* Takes in the whole archive. */
static int
unpack_all(struct ssh_stream *s, struct tar_reader *reader, struct cij_error *err)
{
	_cleanup_free_ char *buf = malloc(BLOCK_BYTES);
	char words[512];
	ssize_t n;
	int code;

	if (!buf)
		abort();
	while ((n = ssh_stream_read(s, buf, BLOCK_BYTES, err)) > 0)
		if (tar_reader_feed(reader, buf, n, err) < 0)
			return -1;
	if (n < 0)
		return -1;
	code = ssh_stream_finish(s, err);
	if (code < 0)
		return -1;
	if (!tar_reader_at_end(reader))
		return cij_error_set(err, CIJ_E_FAILED, "%s: tar in the guest stopped midway: %s",
			s->copy->call->guest, ssh_stream_words(s, words, sizeof(words)));
	if (code != 0)
		copy_fail(s->copy, "tar in the guest", ssh_stream_words(s, words, sizeof(words)));
	return 0;
}

static int
pull_folder(struct copy *c, const char *path, const char *to, struct cij_error *err)
{
	static const struct tar_events events = {on_begin, on_data, on_end};
	struct unpack u = {.copy = c, .top = to, .file = {.fd = -1}};
	_cleanup_free_ char *name = shell_quote_path(path), *line = NULL;
	struct tar_reader *reader = tar_reader_new(&events, &u);
	struct ssh_stream s = {0};
	size_t first = c->plan.n; /* from here on the plan's items are ours: folders and links */
	int rc;

	if (asprintf(&line, "cd %s && exec tar cf - .", name) < 0)
		abort();
	rc = ssh_stream_open(&s, c, line, err);
	if (rc == 0)
		rc = unpack_all(&s, reader, err);
	ssh_stream_close(&s);
	tar_reader_free(reader);
	if (u.has_file)
		local_abandon(&u.file);
	clear_item(&u);
	if (rc == 0)
		local_finish_items(c, first);
	return rc;
}

int
tar_pull(struct copy *c, char **sources, size_t n, const char *path, enum place place,
	struct cij_error *err)
{
	_cleanup_free_ struct source *found = calloc(n, sizeof(*found));
	char clean[256];

	if (!found)
		abort();
	/* All is looked at before anything is copied. */
	c->counted = true;
	for (size_t i = 0; i < n; i++) {
		const char *from = copy_guest_path(sources[i]);

		if (look_at(c, from, &found[i], err) < 0)
			return -1;
		if (found[i].place == PLACE_FOLDER && !call_has(c->call, "recursive")) {
			cij_error_set(err, CIJ_E_BAD_REQUEST, "%s: '%s' is a folder",
				c->call->guest, cij_text_clean(from, clean, sizeof(clean)));
			return cij_error_hint(err, "-r copies folders");
		}
		if (found[i].size < 0)
			c->counted = false;
		else
			c->plan.bytes += found[i].size;
		c->plan.files++;
	}
	for (size_t i = 0; i < n; i++) {
		const char *from = copy_guest_path(sources[i]);
		_cleanup_free_ char *to = copy_target(c, sources[i], n, path, place, err);
		int rc;

		if (!to)
			return -1;
		c->current = from;
		rc = found[i].place == PLACE_FOLDER ? pull_folder(c, from, to, err)
						    : pull_file(c, from, to, &found[i], err);
		c->current = NULL;
		if (rc < 0)
			return -1;
	}
	return 0;
}
