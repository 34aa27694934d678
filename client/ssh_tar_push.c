/*
 * push without SFTP: a tar archive into a folder beside the target, by a shell and tar in the
 * guest. Only when its last entry, a mark of ours, is there is all of it moved into place.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cijqemu/cleanup.h"
#include "client/args.h"
#include "client/quote.h"
#include "client/ssh_stream.h"
#include "client/ssh_tar.h"
#include "proto/text.h"

/* Read from a file here at a time. */
#define BLOCK_BYTES (4 * SSH_BLOCK)

/* Folders whose times are set by name: a command line has an end. */
#define TIMES_MAX 200

#define END_MARK ".cijqemu-end"
#define FAIL_MARK ".cijqemu-failed"

/* Text that grows: the script. */
struct text {
	char *data;
};

__attribute__((format(printf, 2, 3))) static void
add(struct text *t, const char *fmt, ...)
{
	_cleanup_free_ char *more = NULL;
	char *all;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&more, fmt, ap) < 0)
		abort();
	va_end(ap);
	if (asprintf(&all, "%s%s", t->data ? t->data : "", more) < 0)
		abort();
	free(t->data);
	t->data = all;
}

/* What stands at @path in the guest. */
static int
place_there(struct copy *c, const char *path, enum place *place, struct cij_error *err)
{
	static const char *const words[] = {
		[PLACE_NONE] = "none",
		[PLACE_FOLDER] = "folder",
		[PLACE_FILE] = "file",
		[PLACE_OTHER] = "other",
	};
	_cleanup_free_ char *name = shell_quote_path(path), *line = NULL, *out = NULL;
	int code;

	if (asprintf(&line,
		    "if [ -d %s ]; then echo folder; elif [ -f %s ]; then echo file; elif [ -e %s "
		    "]; "
		    "then echo other; else echo none; fi",
		    name, name, name) < 0)
		abort();
	code = ssh_link_feed(&c->link, line, NULL, 0, &out, err);
	for (size_t i = 0; code == 0 && i < cij_array_size(words); i++)
		if (strncmp(out, words[i], strlen(words[i])) == 0) {
			*place = (enum place)i;
			return 0;
		}
	if (code < 0)
		return -1;
	return cij_error_set(
		err, CIJ_E_FAILED, "%s: its shell does not understand us", c->call->guest);
}

/* The part of the script that moves one source into place. */
static void
add_move(struct text *t, const char *base, bool is_folder)
{
	_cleanup_free_ char *name = shell_quote_path(base);

	if (!is_folder) {
		add(t,
			"if [ -d %s ]; then echo %s: there is a folder of that name >&2; r=1; "
			"else mv -f \"$t\"/%s %s || r=1; fi\n",
			name, name, name, name);
		return;
	}
	/*
	 * Into a folder that is there: what is in it stays, files are replaced one by one. A folder
	 * that is new in it is moved as a whole, with its mode and time.
	 */
	add(t,
		"if [ -d %s ]; then (cd \"$t\" && find %s -type d ! -exec test -d ../{} \\; "
		"\\( -exec mv {} ../{} \\; -o -exec touch " FAIL_MARK " \\; \\) -prune && "
		"find %s ! -type d -exec sh -c '"
		"for f do if [ -d \"../$f\" ] && [ ! -L \"../$f\" ]; then "
		"echo \"$f: there is a folder of that name\" >&2; exit 1; fi; "
		"mv -f \"$f\" \"../$f\" || exit 1; done' sh {} + && [ ! -e " FAIL_MARK
		" ]) || r=1\n"
		"elif [ -e %s ]; then echo %s: is no folder >&2; r=1\n"
		"else mv \"$t\"/%s %s || r=1; fi\n",
		name, name, name, name, name, name, name);
}

/*
 * busybox's tar makes links that lead out of their folder only when all else is there, which moves
 * the folder's time: it is set once more.
 */
static void
add_times(struct text *t, const struct plan *plan)
{
	size_t added = 0;

	for (size_t i = 0; i < plan->n && added < TIMES_MAX; i++) {
		const struct item *folder = &plan->items[i];
		size_t len = strlen(folder->to);
		bool has_link = false;

		if (folder->kind != ITEM_FOLDER)
			continue;
		for (size_t k = i + 1; k < plan->n && !has_link; k++) {
			const char *to = plan->items[k].to;

			if (strncmp(to, folder->to, len) != 0 || to[len] != '/')
				break; /* what is in a folder stands right behind it */
			has_link = plan->items[k].kind == ITEM_LINK && !strchr(to + len + 1, '/');
		}
		if (has_link) {
			_cleanup_free_ char *name = shell_quote_path(folder->to);

			add(t, "touch -c -m -d @%u \"$t\"/%s\n", folder->mtime, name);
			added++;
		}
	}
}

/* The script that takes the archive in the folder @folder and puts everything into place. */
static char *
make_script(const struct copy *c, const char *folder, const size_t *tops, size_t n)
{
	_cleanup_free_ char *where = shell_quote_path(folder), *quoted = NULL;
	_cleanup_(cij_cleanup_free)
	char *script = NULL;
	struct text t = {NULL};
	char *line;

	add(&t,
		"cd %s || exit 81\n"
		"t=$(mktemp -d ./.cijqemu-XXXXXX) || exit 82\n"
		"trap 'rm -rf \"$t\"' EXIT\n"
		"trap 'exit 83' HUP INT TERM PIPE\n"
		"(cd \"$t\" && exec tar xf -) || exit 84\n"
		"[ -e \"$t\"/" END_MARK " ] || exit 85\n"
		"rm -f \"$t\"/" END_MARK "\nr=0\n",
		where);
	add_times(&t, &c->plan);
	for (size_t i = 0; i < n; i++) {
		const struct item *item = &c->plan.items[tops[i]];

		add_move(&t, item->to, item->kind == ITEM_FOLDER);
	}
	add(&t, "exit $r\n");
	script = t.data;
	quoted = shell_quote(script, false);
	if (asprintf(&line, "exec sh -c %s", quoted) < 0)
		abort();
	return line;
}

static int
send_header(struct ssh_stream *s, const struct tar_entry *e, struct cij_error *err)
{
	_cleanup_free_ char *blocks = NULL;
	size_t len;

	blocks = tar_header(e, &len);
	return ssh_stream_write(s, blocks, len, err);
}

/* Sends @size bytes of the file at @fd. One that got shorter makes the whole copy fail. */
static int
send_data(struct ssh_stream *s, int fd, const char *name, int64_t size, struct cij_error *err)
{
	_cleanup_free_ char *buf = malloc(BLOCK_BYTES);
	char zeros[TAR_BLOCK] = {0}, clean[256];

	if (!buf)
		abort();
	for (int64_t left = size; size < 0 || left > 0;) {
		size_t want = size < 0 || left > BLOCK_BYTES ? BLOCK_BYTES : (size_t)left;
		ssize_t n = read(fd, buf, want);

		if (n == 0 && size < 0)
			return 0;
		if (n <= 0)
			return cij_error_set(err, CIJ_E_FAILED, "'%s' %s",
				cij_text_clean(name, clean, sizeof(clean)),
				n < 0 ? strerror(errno) : "was changed while it was read");
		if (ssh_stream_write(s, buf, n, err) < 0)
			return -1;
		left -= n;
		s->copy->bytes_done += n;
	}
	return size > 0 ? ssh_stream_write(s, zeros, TAR_PADDING(size), err) : 0;
}

static int
send_file(struct ssh_stream *s, struct item *item, struct cij_error *err)
{
	_cleanup_close_ int fd = open(item->from, O_RDONLY | O_CLOEXEC);
	struct tar_entry e = {TAR_FILE, item->to, NULL, item->mode, 0, item->mtime};
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		copy_fail(s->copy, item->from, strerror(errno));
		return 0;
	}
	e.size = S_ISREG(st.st_mode) ? st.st_size : lseek(fd, 0, SEEK_END);
	if (!S_ISREG(st.st_mode))
		(void)lseek(fd, 0, SEEK_SET);
	s->copy->current = item->from;
	if (send_header(s, &e, err) < 0 || send_data(s, fd, item->from, e.size, err) < 0)
		return -1;
	s->copy->files_done++;
	return 0;
}

static int
send_item(struct ssh_stream *s, struct item *item, struct cij_error *err)
{
	struct tar_entry e = {
		TAR_FOLDER, item->to, item->target, item->mode | 0700, 0, item->mtime};

	switch (item->kind) {
	case ITEM_FILE:
		return send_file(s, item, err);
	case ITEM_LINK:
		e.kind = TAR_LINK;
		s->copy->files_done++;
		return send_header(s, &e, err);
	case ITEM_FOLDER:
		return send_header(s, &e, err);
	case ITEM_NONE:
		return 0;
	}
	return 0;
}

/* The archive: all items, the folders once more with their own modes and times, the mark, the end.
 */
static int
send_archive(struct ssh_stream *s, struct cij_error *err)
{
	static const char end[2 * TAR_BLOCK];
	struct tar_entry mark = {TAR_FILE, END_MARK, NULL, 0600, 0, 0};
	struct plan *plan = &s->copy->plan;

	for (size_t i = 0; i < plan->n; i++)
		if (send_item(s, &plan->items[i], err) < 0)
			return -1;
	for (size_t i = plan->n; i > 0; i--) {
		const struct item *item = &plan->items[i - 1];
		struct tar_entry e = {TAR_FOLDER, item->to, NULL, item->mode, 0, item->mtime};

		if (item->kind == ITEM_FOLDER && send_header(s, &e, err) < 0)
			return -1;
	}
	if (send_header(s, &mark, err) < 0)
		return -1;
	return ssh_stream_write(s, end, sizeof(end), err);
}

/*
 * What the script's end says; @sent is what sending to it came to. One that ended before it took
 * all says by its exit code why.
 */
static int
judge(struct ssh_stream *s, int sent, struct cij_error *err)
{
	const char *guest = s->copy->call->guest, *said;
	char words[512];
	int code;

	if (sent < 0 && !ssh_stream_is_over(s))
		return -1;
	code = ssh_stream_finish(s, err);
	if (code <= 0)
		return code < 0 ? -1 : sent;
	said = ssh_stream_words(s, words, sizeof(words));
	if (code == 81)
		return cij_error_set(err, CIJ_E_BAD_REQUEST,
			"%s: the folder is not there or may not be entered: %s", guest, said);
	if (code == 127 || code == 84)
		return cij_error_set(err, CIJ_E_FAILED,
			"%s: tar in the guest failed (is its disk full?): %s", guest, said);
	return cij_error_set(
		err, CIJ_E_FAILED, "%s: it could not be put into place: %s", guest, said);
}

/* A device or FIFO in the guest: written to where it is. */
static int
push_in_place(struct copy *c, const char *source, const char *path, struct cij_error *err)
{
	_cleanup_free_ char *name = shell_quote_path(path), *line = NULL;
	_cleanup_close_ int fd = open(source, O_RDONLY | O_CLOEXEC);
	struct ssh_stream s = {0};
	struct stat st;
	int rc;

	if (fd < 0 || fstat(fd, &st) < 0)
		return cij_error_errno(err, CIJ_E_BAD_REQUEST, errno, "'%s'", source);
	c->plan.bytes = st.st_size;
	c->plan.files = 1;
	c->counted = S_ISREG(st.st_mode);
	if (asprintf(&line, "exec cat > %s", name) < 0)
		abort();
	rc = ssh_stream_open(&s, c, line, err);
	if (rc == 0)
		rc = judge(&s, send_data(&s, fd, source, -1, err), err);
	c->files_done += rc == 0;
	ssh_stream_close(&s);
	return rc;
}

/* "a/b" of "a/b/c", "." of "c", "/" of "/c". Heap. */
static char *
folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return strdup(".");
	return strndup(path, slash == path ? 1 : slash - path);
}

static int
run_script(struct copy *c, const char *folder, const size_t *tops, size_t n, struct cij_error *err)
{
	_cleanup_free_ char *line = make_script(c, folder, tops, n);
	struct ssh_stream s = {0};
	int rc = ssh_stream_open(&s, c, line, err);

	if (rc == 0)
		rc = judge(&s, send_archive(&s, err), err);
	ssh_stream_close(&s);
	return rc;
}

int
tar_push(struct copy *c, char **sources, size_t n, const char *path, struct cij_error *err)
{
	_cleanup_free_ size_t *tops = calloc(n, sizeof(*tops));
	_cleanup_free_ char *folder = NULL;
	enum place place = PLACE_NONE;

	if (!tops)
		abort();
	if (place_there(c, path, &place, err) < 0)
		return -1;
	if (place == PLACE_OTHER && n == 1)
		return push_in_place(c, sources[0], path, err);
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *to = copy_target(c, sources[i], n, path, place, err);
		_cleanup_free_ char *base = NULL;
		bool contents;

		if (!to)
			return -1;
		/* What is in the source goes straight into the folder. */
		contents = place == PLACE_FOLDER && strcmp(to, path) == 0;
		base = contents ? strdup(".") : path_base(to);
		if (!folder)
			folder = contents || place == PLACE_FOLDER ? strdup(path) : folder_of(to);
		tops[i] = c->plan.n;
		for (size_t k = 0; k < i; k++)
			if (strcmp(c->plan.items[tops[k]].to, base) == 0)
				return cij_error_set(err, CIJ_E_BAD_REQUEST,
					"two of the sources would become '%s'", to);
		if (plan_local(&c->plan, sources[i], base, call_has(c->call, "recursive"),
			    copy_skip, c, err) < 0)
			return -1;
		if (c->plan.items[tops[i]].kind == ITEM_FOLDER && place == PLACE_FILE)
			return cij_error_set(
				err, CIJ_E_BAD_REQUEST, "'%s' is no folder in the guest", path);
	}
	c->counted = true;
	return run_script(c, folder, tops, n, err);
}
