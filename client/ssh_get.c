/*
 * pull by SFTP: the guest's folders are read first, so that it is known how much is to come; then
 * many files are under way at a time, each with many reads.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cijqemu/cleanup.h"
#include "client/args.h"
#include "client/ssh_copy.h"
#include "client/ssh_local.h"
#include "proto/text.h"

/* More names than this in one tree are a mistake, or no file system. */
#define ITEMS_MAX 10000000

/* A file's bytes that are asked for and have not come, at most. */
#define AHEAD_BYTES (8L * 1024 * 1024)

/* The walk */

struct walk {
	struct copy *copy; /* weak */
	struct sftp *sftp; /* weak */
	size_t next; /* the plan's items up to here have been looked at */
	size_t under_way;
};

/* A folder being read, or a link. */
struct visit {
	struct walk *walk; /* weak */
	size_t item; /* index into the plan */
	struct sftp_handle handle;
};

static struct item *
visit_item(const struct visit *v)
{
	return &v->walk->copy->plan.items[v->item];
}

static void
visit_end(struct visit *v)
{
	v->walk->under_way--;
	free(v);
}

static void
visit_fail(struct visit *v, const struct sftp_answer *a)
{
	char words[256];

	copy_fail(v->walk->copy, visit_item(v)->from, sftp_status_text(a, words, sizeof(words)));
}

static void
set_item(struct item *item, const struct sftp_attrs *attrs)
{
	item->mode = attrs->mode & 0777;
	item->size = S_ISREG(attrs->mode) ? (int64_t)attrs->size : -1;
	item->atime = attrs->atime;
	item->mtime = attrs->mtime;
}

/* Adds one name of a folder. */
static void
take_name(struct visit *v, const char *name, size_t len, const struct sftp_attrs *attrs)
{
	struct copy *copy = v->walk->copy;
	struct item *item = visit_item(v);
	char *from, *to;

	if (len <= 2 && memcmp(name, "..", len) == 0)
		return;
	if (!path_name_is_safe(name, len)) {
		copy_fail(copy, item->from, "it holds a name that no file can have: left out");
		return;
	}
	from = path_join(item->from, name, len);
	to = path_join(item->to, name, len);
	if (!S_ISREG(attrs->mode) && !S_ISDIR(attrs->mode) && !S_ISLNK(attrs->mode)) {
		copy_skip(copy, from, "is no file, folder or link: left out");
		free(from);
		free(to);
		return;
	}
	item = plan_add(&copy->plan,
		S_ISDIR(attrs->mode)   ? ITEM_FOLDER
		: S_ISLNK(attrs->mode) ? ITEM_LINK
				       : ITEM_FILE,
		from, to);
	set_item(item, attrs);
	plan_count(&copy->plan, item);
}

static void
on_visit_closed(void *arg, const struct sftp_answer *a)
{
	visit_end(arg);
}

static void
on_names(void *arg, const struct sftp_answer *a)
{
	struct sftp_answer rest = *a;
	struct visit *v = arg;
	struct sftp_attrs attrs;
	const char *name;
	size_t len;

	if (a->status != SFTP_OK) {
		if (a->status != SFTP_EOF)
			visit_fail(v, a);
		sftp_close_async(v->walk->sftp, &v->handle, on_visit_closed, v);
		return;
	}
	while (v->walk->copy->plan.n < ITEMS_MAX && sftp_next_name(&rest, &name, &len, &attrs))
		take_name(v, name, len, &attrs);
	sftp_readdir_async(v->walk->sftp, &v->handle, on_names, v);
}

static void
on_folder(void *arg, const struct sftp_answer *a)
{
	struct visit *v = arg;

	if (!sftp_keep_handle(&v->handle, a)) {
		visit_fail(v, a);
		visit_end(v);
		return;
	}
	sftp_readdir_async(v->walk->sftp, &v->handle, on_names, v);
}

static void
on_link(void *arg, const struct sftp_answer *a)
{
	struct sftp_answer rest = *a;
	struct visit *v = arg;
	struct sftp_attrs attrs;
	const char *name;
	size_t len;

	if (a->status == SFTP_OK && sftp_next_name(&rest, &name, &len, &attrs) && len > 0 &&
		!memchr(name, '\0', len))
		visit_item(v)->target = strndup(name, len);
	else
		visit_fail(v, a);
	visit_end(v);
}

/* Looks at the items that have come in since, as many at a time as there may be. */
static void
walk_on(struct walk *w)
{
	struct plan *plan = &w->copy->plan;

	for (; w->next < plan->n && w->under_way < COPY_FILES_MAX && sftp_has_room(w->sftp);
		w->next++) {
		struct item *item = &plan->items[w->next];
		struct visit *v;

		if (item->kind == ITEM_FILE)
			continue;
		v = calloc(1, sizeof(*v));
		if (!v)
			abort();
		v->walk = w;
		v->item = w->next;
		w->under_way++;
		if (item->kind == ITEM_FOLDER)
			sftp_opendir_async(w->sftp, item->from, on_folder, v);
		else
			sftp_readlink_async(w->sftp, item->from, on_link, v);
	}
}

int
sftp_plan(struct copy *copy, struct sftp *sftp, const char *from, const char *to,
	struct cij_error *err)
{
	struct walk w = {.copy = copy, .sftp = sftp, .next = copy->plan.n};
	struct sftp_attrs attrs;
	char clean[256];
	struct item *item;
	int rc = sftp_stat_now(sftp, from, true, &attrs, err);

	cij_text_clean(from, clean, sizeof(clean));
	if (rc < 0)
		return -1;
	if (rc > 0)
		return cij_error_set(err, CIJ_E_BAD_REQUEST, "%s: there is no '%s' in the guest",
			copy->call->guest, clean);
	if (S_ISDIR(attrs.mode) && !call_has(copy->call, "recursive")) {
		cij_error_set(
			err, CIJ_E_BAD_REQUEST, "%s: '%s' is a folder", copy->call->guest, clean);
		return cij_error_hint(err, "-r copies folders");
	}
	item = plan_add(&copy->plan, S_ISDIR(attrs.mode) ? ITEM_FOLDER : ITEM_FILE, strdup(from),
		strdup(to));
	set_item(item, &attrs);
	plan_count(&copy->plan, item);
	for (walk_on(&w); w.under_way > 0; walk_on(&w))
		if (copy_step(copy, sftp, err) < 0)
			return -1;
	return 0;
}

/* The files */

enum get_state { GET_OPENING, GET_READING, GET_CLOSING, GET_OVER };

struct get {
	struct pulling *all; /* weak */
	struct item *item; /* weak; NULL = a free place */
	enum get_state state;
	bool asked, failed;
	struct local_file file;
	bool has_file;
	int64_t asked_for, end; /* next byte to ask for; end: where reads found it, -1 = not yet */
	int64_t received;
	size_t reads;
	struct sftp_handle handle;
};

/* One read: what was asked for. */
struct chunk {
	struct get *get; /* weak; NULL = free */
	int64_t at;
	uint32_t len;
};

struct pulling {
	struct copy *copy; /* weak */
	struct sftp *sftp; /* weak */
	struct get gets[COPY_FILES_MAX];
	size_t n_gets, next;
	struct chunk chunks[SFTP_REQUESTS_MAX];
};

static void
get_fail(struct get *g, const char *why)
{
	if (!g->failed)
		copy_fail(g->all->copy, g->item->from, why);
	g->failed = true;
}

static void
get_fail_here(struct get *g)
{
	if (!g->failed)
		local_fail(g->all->copy, g->item->to);
	g->failed = true;
}

static void ask_chunk(struct get *g, int64_t at, uint32_t len);

static void
on_data(void *arg, const struct sftp_answer *a)
{
	struct chunk *c = arg;
	struct get *g = c->get;
	int64_t at = c->at;
	uint32_t len = c->len;
	char words[256];

	c->get = NULL;
	g->reads--;
	if (a->status == SFTP_EOF || (a->status == SFTP_OK && a->len == 0)) {
		if (g->end < 0 || at < g->end)
			g->end = at;
		return;
	}
	if (a->status != SFTP_OK || a->len > len) {
		get_fail(g, a->status ? sftp_status_text(a, words, sizeof(words))
				      : "the server gave more than was asked for");
		return;
	}
	if (g->failed)
		return;
	if (local_write(&g->file, a->data, a->len, at) < 0) {
		get_fail_here(g);
		return;
	}
	g->received += (int64_t)a->len;
	g->all->copy->bytes_done += (int64_t)a->len;
	/* Fewer bytes than asked for: the rest is there still, or the file ends. */
	if (a->len < len)
		ask_chunk(g, at + (int64_t)a->len, len - (uint32_t)a->len);
}

static void
ask_chunk(struct get *g, int64_t at, uint32_t len)
{
	struct chunk *c = g->all->chunks;

	while (c->get)
		c++;
	*c = (struct chunk){g, at, len};
	g->reads++;
	sftp_read_async(g->all->sftp, &g->handle, (uint64_t)at, len, on_data, c);
}

static void
on_opened(void *arg, const struct sftp_answer *a)
{
	struct get *g = arg;
	char words[256];

	g->asked = false;
	if (!sftp_keep_handle(&g->handle, a)) {
		get_fail(g, sftp_status_text(a, words, sizeof(words)));
		g->state = GET_OVER;
		return;
	}
	g->state = GET_READING;
}

static void
on_closed(void *arg, const struct sftp_answer *a)
{
	struct get *g = arg;

	g->asked = false;
	g->state = GET_OVER;
}

/* Whether there is more to be asked for. */
static bool
wants_more(const struct get *g)
{
	if (g->failed || g->end >= 0)
		return false;
	return g->item->size < 0 || g->asked_for < g->item->size;
}

/* All reads are answered: whether it is whole. */
static void
check_whole(struct get *g)
{
	if (!g->failed && g->item->size >= 0 && g->received != g->item->size)
		get_fail(g, "was changed while it was read");
	else if (!g->failed && g->item->size < 0 && g->received != g->end)
		get_fail(g, "gave less than it has");
}

static void
get_step(struct get *g)
{
	struct sftp *s = g->all->sftp;
	int64_t left;

	while (!g->asked && g->state != GET_OVER && sftp_has_room(s)) {
		switch (g->state) {
		case GET_OPENING:
			g->asked = true;
			sftp_open_async(s, g->item->from, SFTP_READ, on_opened, g);
			break;
		case GET_READING:
			if (!g->has_file) {
				g->has_file = local_open(&g->file, g->item) == 0;
				if (!g->has_file)
					get_fail_here(g);
			}
			left = g->item->size < 0 ? INT64_MAX : g->item->size - g->asked_for;
			if (wants_more(g) && g->asked_for - g->received >= AHEAD_BYTES)
				return;
			if (wants_more(g)) {
				uint32_t len = (uint32_t)(left < (int64_t)sftp_block(s)
								  ? left
								  : (int64_t)sftp_block(s));

				ask_chunk(g, g->asked_for, len);
				g->asked_for += len;
				break;
			}
			if (g->reads > 0)
				return;
			check_whole(g);
			g->state = GET_CLOSING;
			break;
		case GET_CLOSING:
			g->asked = true;
			sftp_close_async(s, &g->handle, on_closed, g);
			break;
		case GET_OVER:
			break;
		}
	}
}

static void
get_end(struct get *g)
{
	if (g->has_file && !g->failed && local_finish(&g->file, g->item) < 0) {
		get_fail_here(g);
		g->has_file = false;
	}
	if (g->has_file && g->failed)
		local_abandon(&g->file);
	if (!g->failed)
		g->all->copy->files_done++;
	g->all->n_gets--;
	*g = (struct get){.state = GET_OVER};
}

static void
fill(struct pulling *all)
{
	struct item *item;

	for (size_t i = 0; i < COPY_FILES_MAX; i++) {
		struct get *g = &all->gets[i];

		if (g->item || !(item = plan_next_file(&all->copy->plan, &all->next)))
			continue;
		*g = (struct get){.all = all, .item = item, .end = -1, .file = {.fd = -1}};
		all->copy->current = item->from;
		all->n_gets++;
	}
}

static int
pull_files(struct pulling *all, struct cij_error *err)
{
	do {
		fill(all);
		for (size_t i = 0; i < COPY_FILES_MAX; i++) {
			struct get *g = &all->gets[i];

			if (!g->item)
				continue;
			get_step(g);
			if (g->state == GET_OVER && !g->asked && g->reads == 0)
				get_end(g);
		}
		if (all->n_gets > 0 && copy_step(all->copy, all->sftp, err) < 0)
			return -1;
	} while (all->n_gets > 0 || all->next < all->copy->plan.n);
	return 0;
}

static void
make_folders(struct copy *copy)
{
	for (size_t i = 0; i < copy->plan.n; i++) {
		struct item *item = &copy->plan.items[i];

		if (item->kind != ITEM_FOLDER || local_folder(item) == 0)
			continue;
		local_fail(copy, item->to);
		plan_give_up(&copy->plan, i + 1, item->to);
	}
}

int
sftp_pull(struct copy *copy, struct sftp *sftp, struct cij_error *err)
{
	struct pulling *all = calloc(1, sizeof(*all));
	int rc;

	if (!all)
		abort();
	copy->work = all;
	all->copy = copy;
	all->sftp = sftp;
	make_folders(copy);
	rc = pull_files(all, err);
	for (size_t i = 0; i < COPY_FILES_MAX; i++)
		if (all->gets[i].item && all->gets[i].has_file)
			local_abandon(&all->gets[i].file);
	if (rc == 0)
		local_finish_items(copy, 0);
	return rc;
}
