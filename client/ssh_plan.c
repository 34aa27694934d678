#include "client/ssh_plan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "cijqemu/cleanup.h"
#include "proto/text.h"

/* A tree that is deeper than a path is long goes round in a circle. */
#define DEPTH_MAX (PATH_MAX / 2)

struct scan {
	struct plan *plan;
	bool recursive;
	void (*skip)(void *arg, const char *path, const char *why);
	void *arg;
};

struct item *
plan_add(struct plan *p, enum item_kind kind, char *from, char *to)
{
	if ((p->n & (p->n - 1)) == 0) { /* grow at each power of two */
		p->items = realloc(p->items, (p->n ? p->n * 2 : 1) * sizeof(*p->items));
		if (!p->items)
			abort();
	}
	p->items[p->n] = (struct item){.kind = kind, .from = from, .to = to};
	return &p->items[p->n++];
}

void
plan_count(struct plan *p, const struct item *item)
{
	if (item->kind != ITEM_FOLDER)
		p->files++;
	if (item->kind == ITEM_FILE && item->size > 0)
		p->bytes += item->size;
}

struct item *
plan_next_file(struct plan *p, size_t *next)
{
	while (*next < p->n) {
		struct item *item = &p->items[(*next)++];

		if (item->kind == ITEM_FILE)
			return item;
	}
	return NULL;
}

void
plan_give_up(struct plan *p, size_t first, const char *to)
{
	size_t len = strlen(to);

	for (size_t i = first; i < p->n; i++)
		if (strncmp(p->items[i].to, to, len) == 0 && p->items[i].to[len] == '/')
			p->items[i].kind = ITEM_NONE;
}

void
plan_clear(struct plan *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free(p->items[i].from);
		free(p->items[i].to);
		free(p->items[i].target);
	}
	free(p->items);
	*p = (struct plan){0};
}

char *
path_join(const char *folder, const char *name, size_t len)
{
	size_t n = strlen(folder);
	char *path;

	if (asprintf(&path, "%s%s%.*s", folder, n > 0 && folder[n - 1] == '/' ? "" : "/", (int)len,
		    name) < 0)
		abort();
	return path;
}

char *
path_base(const char *path)
{
	size_t end = strlen(path), begin;
	char *base;

	while (end > 1 && path[end - 1] == '/')
		end--;
	begin = end;
	while (begin > 0 && path[begin - 1] != '/')
		begin--;
	base = strndup(path + begin, end - begin);
	if (!base)
		abort();
	return base;
}

char *
path_part(const char *path)
{
	static unsigned count;
	static uint32_t ours;
	const char *slash = strrchr(path, '/');
	char *part;

	if (ours == 0 && getrandom(&ours, sizeof(ours), 0) != sizeof(ours))
		ours = (uint32_t)getpid();
	/* Without the file's own name, which may be as long as names get. */
	if (asprintf(&part, "%.*s.cijqemu-%08x-%u.part", slash ? (int)(slash + 1 - path) : 0, path,
		    ours, count++) < 0)
		abort();
	return part;
}

bool
path_name_is_safe(const char *name, size_t len)
{
	if (len == 0 || len > NAME_MAX || memchr(name, '/', len) || memchr(name, '\0', len))
		return false;
	return !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

/* A link stays one; where it leads to is not looked at. */
static void
add_link(struct scan *s, const char *from, const char *to)
{
	char target[PATH_MAX];
	ssize_t n = readlink(from, target, sizeof(target) - 1);
	struct item *item;

	if (n < 0) {
		s->skip(s->arg, from, strerror(errno));
		return;
	}
	target[n] = '\0';
	item = plan_add(s->plan, ITEM_LINK, strdup(from), strdup(to));
	item->target = strdup(target);
	plan_count(s->plan, item);
}

/* Adds one file, or a folder without what is in it. Returns the item's index; -1: not copied. */
static ssize_t
add_one(struct scan *s, const char *from, const char *to, const struct stat *st)
{
	struct item *item;

	if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode) && !S_ISBLK(st->st_mode)) {
		s->skip(s->arg, from, "is no file, folder or link: left out");
		return -1;
	}
	item = plan_add(
		s->plan, S_ISDIR(st->st_mode) ? ITEM_FOLDER : ITEM_FILE, strdup(from), strdup(to));
	item->mode = st->st_mode & 0777;
	item->size = S_ISREG(st->st_mode) ? st->st_size : S_ISBLK(st->st_mode) ? -1 : 0;
	item->atime = (uint32_t)st->st_atim.tv_sec;
	item->mtime = (uint32_t)st->st_mtim.tv_sec;
	plan_count(s->plan, item);
	return item - s->plan->items;
}

static void
add_tree(struct scan *s, const char *from, const char *to, int depth)
{
	_cleanup_closedir_ DIR *dir = opendir(from);
	struct dirent *entry;
	struct stat st;

	if (!dir || depth > DEPTH_MAX) {
		s->skip(s->arg, from, dir ? "is too deep" : strerror(errno));
		return;
	}
	while ((entry = readdir(dir))) {
		_cleanup_free_ char *inner = NULL, *target = NULL;

		if (!path_name_is_safe(entry->d_name, strlen(entry->d_name)))
			continue;
		inner = path_join(from, entry->d_name, strlen(entry->d_name));
		target = path_join(to, entry->d_name, strlen(entry->d_name));
		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			s->skip(s->arg, inner, strerror(errno));
		else if (S_ISLNK(st.st_mode))
			add_link(s, inner, target);
		else if (add_one(s, inner, target, &st) >= 0 && S_ISDIR(st.st_mode))
			add_tree(s, inner, target, depth + 1);
	}
}

int
plan_local(struct plan *plan, const char *from, const char *to, bool recursive,
	void (*skip)(void *arg, const char *path, const char *why), void *arg,
	struct cij_error *err)
{
	struct scan s = {plan, recursive, skip, arg};
	char clean[256];
	struct stat st;

	cij_text_clean(from, clean, sizeof(clean));
	if (stat(from, &st) < 0)
		return cij_error_errno(err, CIJ_E_BAD_REQUEST, errno, "'%s'", clean);
	if (S_ISDIR(st.st_mode) && !recursive) {
		cij_error_set(err, CIJ_E_BAD_REQUEST, "'%s' is a folder", clean);
		return cij_error_hint(err, "-r copies folders");
	}
	if (add_one(&s, from, to, &st) < 0)
		return cij_error_set(
			err, CIJ_E_BAD_REQUEST, "'%s' is no file and no folder", clean);
	if (S_ISDIR(st.st_mode))
		add_tree(&s, from, to, 0);
	return 0;
}
