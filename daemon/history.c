#include "daemon/history.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cijqemu/protocol.h"
#include "daemon/clock.h"
#include "daemon/fileio.h"
#include "daemon/log.h"
#include "daemon/users.h"
#include "proto/json.h"
#include "proto/text.h"

/*
 * What was done and what was refused are kept apart: whoever is refused all day pushes out refusals
 * alone. Some 2500 deeds; then a file becomes the one before, so that as many again are kept.
 */
enum { DONE, REFUSED, SHELVES };
static const struct shelf_kind {
	const char *file, *before;
	off_t bytes_max;
} kinds[SHELVES] = {
	[DONE] = {"history.jsonl", "history.1.jsonl", 512 * 1024},
	[REFUSED] = {"refused.jsonl", "refused.1.jsonl", 256 * 1024},
};

/* One entry: the error's text is the longest part. */
#define ENTRY_DEPTH_MAX 4

/* When it was, exactly: in the files alone, for the order of entries from both. */
#define STAMP "us"

/* How often something was refused in a row: in answers alone. */
#define TIMES "times"

struct shelf {
	int fd; /* -1: cannot be written */
	off_t size;
	bool told; /* that it cannot be written */
};

struct history {
	int state_fd; /* weak */
	struct shelf shelves[SHELVES];
};

/* What a crash of the host cut off in the middle of a line must not take the next entry with it. */
static void
end_line(struct shelf *shelf)
{
	char last;

	if (shelf->size > 0 && pread(shelf->fd, &last, 1, shelf->size - 1) == 1 && last != '\n' &&
		write_all(shelf->fd, "\n", 1) == 0)
		shelf->size++;
}

static void
open_file(struct history *history, int kind)
{
	struct shelf *shelf = &history->shelves[kind];
	struct stat st;

	shelf->fd = openat(history->state_fd, kinds[kind].file,
		O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	shelf->size = shelf->fd >= 0 && fstat(shelf->fd, &st) == 0 ? st.st_size : 0;
	end_line(shelf);
}

struct history *
history_new(int state_fd)
{
	struct history *history = calloc(1, sizeof(*history));

	if (!history)
		abort();
	history->state_fd = state_fd;
	for (int kind = 0; kind < SHELVES; kind++)
		open_file(history, kind);
	return history;
}

void
history_free(struct history *history)
{
	if (!history)
		return;
	for (int kind = 0; kind < SHELVES; kind++)
		if (history->shelves[kind].fd >= 0)
			close(history->shelves[kind].fd);
	free(history);
}

/* Whether nothing was begun: anybody can have that happen as often as they like. */
static bool
is_refusal(const struct cij_error *err)
{
	switch (err ? err->class : CIJ_E_NONE) {
	case CIJ_E_BAD_CONFIG:
	case CIJ_E_BAD_REQUEST:
	case CIJ_E_DENIED:
	case CIJ_E_GUEST_EXISTS:
	case CIJ_E_GUEST_NOT_FOUND:
	case CIJ_E_LEASED:
		return true;
	default:
		return false;
	}
}

static struct json_object *
entry_of(const struct deed *deed)
{
	struct json_object *entry = json_object_new_object();
	/* No more of a name than a guest can have: what is asked for in vain, by anybody, must not
	 * push out what was done. */
	char when[32], guest[CIJ_GUEST_NAME_MAX + 1];
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	cij_json_add_str(entry, "time", clock_rfc3339(now.tv_sec, when, sizeof(when)));
	cij_json_add_int(entry, "uid", deed->by->uid);
	cij_json_add_str(entry, "user", user_name(deed->by->uid));
	cij_json_add_int(entry, "pid", deed->by->pid);
	cij_json_add_str(entry, "operation", deed->operation);
	cij_json_add_str(entry, "guest",
		deed->guest ? cij_text_clean(deed->guest, guest, sizeof(guest)) : NULL);
	cij_json_add_str(
		entry, "result", deed->err ? cij_error_class_name(deed->err->class) : "done");
	cij_json_add_str(entry, "error", deed->err ? deed->err->desc : NULL);
	cij_json_add_int(entry, "ms", (int64_t)(deed->seconds * 1000));
	cij_json_add_int(entry, STAMP, (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
	return entry;
}

/* What a full disk cut off in the middle is no entry; the next one starts on a line of its own. */
static int
append(struct shelf *shelf, const char *line, size_t len)
{
	if (write_all(shelf->fd, line, len) == 0) {
		shelf->size += (off_t)len;
		return 0;
	}
	if (ftruncate(shelf->fd, shelf->size) < 0)
		shelf->size += (off_t)len;
	return -1;
}

static void
keep(struct history *history, int kind, struct json_object *entry)
{
	struct shelf *shelf = &history->shelves[kind];
	size_t len;
	const char *text = json_object_to_json_string_length(
		entry, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
	_cleanup_free_ char *line = malloc(len + 1);

	if (!line)
		abort();
	memcpy(line, text, len);
	line[len++] = '\n';
	if (shelf->size + (off_t)len > kinds[kind].bytes_max) {
		renameat(
			history->state_fd, kinds[kind].file, history->state_fd, kinds[kind].before);
		if (shelf->fd >= 0)
			close(shelf->fd);
		open_file(history, kind);
	}
	if (shelf->fd >= 0 && append(shelf, line, len) == 0) {
		shelf->told = false;
	} else if (!shelf->told) {
		shelf->told = true;
		log_warn("cannot write '%s': %s: the journal alone has what is done now",
			kinds[kind].file, strerror(errno));
	}
}

void
history_add(struct history *history, const struct deed *deed)
{
	_cleanup_json_ struct json_object *entry = entry_of(deed);

	log_info("uid %u pid %d: %s%s%s: %s (%.0f ms)", (unsigned)deed->by->uid, (int)deed->by->pid,
		deed->operation, deed->guest ? " " : "", deed->guest ? deed->guest : "",
		deed->err ? deed->err->desc : "done", deed->seconds * 1000);
	keep(history, is_refusal(deed->err) ? REFUSED : DONE, entry);
}

static bool
wanted(const struct cij_list *globs, const char *guest)
{
	for (size_t i = 0; i < globs->n; i++)
		if (guest && cij_glob_match(((char **)globs->items)[i], guest))
			return true;
	return globs->n == 0;
}

/* One shelf, read from its end. */
struct reader {
	const struct history *history; /* weak */
	int kind, files; /* files of it that were read */
	char *text;
	size_t left; /* of the text, not looked at */
	struct json_object *entry; /* the newest not given out; NULL: there is none */
	int64_t stamp; /* its time; 0 of one that an earlier version wrote */
};

/* The text of the file before, in the place of the one that was used up. */
static bool
next_file(struct reader *reader)
{
	const struct shelf_kind *kind = &kinds[reader->kind];

	if (reader->files == 2)
		return false;
	free(reader->text);
	reader->text = file_read_at(reader->history->state_fd,
		reader->files == 0 ? kind->file : kind->before, kind->bytes_max, &reader->left,
		NULL);
	if (!reader->text)
		reader->left = 0;
	reader->files++;
	return true;
}

/* Goes on to the next older entry that is wanted. */
static void
step(struct reader *reader, const struct cij_list *globs)
{
	json_object_put(steal_ptr(reader->entry));
	while (!reader->entry && (reader->left > 0 || next_file(reader))) {
		_cleanup_json_ struct json_object *entry = NULL;
		size_t end = reader->left, start = end;

		while (start > 0 && reader->text[start - 1] != '\n')
			start--;
		if (start < end)
			entry = cij_json_parse(
				reader->text + start, end - start, ENTRY_DEPTH_MAX, NULL);
		reader->left = start > 0 ? start - 1 : 0;
		if (!json_object_is_type(entry, json_type_object) ||
			!wanted(globs, cij_json_str(entry, "guest")))
			continue;
		reader->stamp = cij_json_int(entry, STAMP, 0);
		json_object_object_del(entry, STAMP);
		json_object_object_del(entry, TIMES);
		reader->entry = steal_ptr(entry);
	}
}

static bool
same_member(struct json_object *one, struct json_object *two, const char *name)
{
	return json_object_equal(cij_json_get(one, name), cij_json_get(two, name));
}

/* Whether the same was refused to the same user, so that one entry with a count tells it all. */
static bool
is_repeated(struct json_object *newer, struct json_object *entry)
{
	static const char *const members[] = {"uid", "operation", "guest", "result", "error"};

	for (size_t i = 0; i < cij_array_size(members); i++)
		if (!same_member(newer, entry, members[i]))
			return false;
	return true;
}

/* Whose entry comes next, from the newest to the oldest; NULL: there are no more. */
static struct reader *
newest_of(struct reader readers[SHELVES])
{
	struct reader *done = &readers[DONE], *refused = &readers[REFUSED];

	if (!done->entry || (refused->entry && refused->stamp > done->stamp))
		return refused->entry ? refused : NULL;
	return done;
}

/* Puts its entry before those in @found, which has *@left places. False when it is full. */
static bool
enter(const struct reader *reader, struct json_object **found, size_t limit, size_t *left)
{
	struct json_object *newer = *left < limit ? found[*left] : NULL;

	if (reader->kind == REFUSED && newer && is_repeated(newer, reader->entry)) {
		cij_json_add_int(newer, TIMES, cij_json_int(newer, TIMES, 1) + 1);
		return true;
	}
	if (*left == 0)
		return false;
	found[--*left] = json_object_get(reader->entry);
	return true;
}

struct json_object *
history_read(const struct history *history, const struct cij_list *globs, size_t limit)
{
	struct json_object *list = json_object_new_array();
	struct json_object **found = calloc(limit + 1, sizeof(struct json_object *));
	struct reader readers[SHELVES] = {{0}};
	struct reader *newest;
	size_t left = limit;

	if (!found)
		abort();
	for (int kind = 0; kind < SHELVES; kind++) {
		readers[kind].history = history;
		readers[kind].kind = kind;
		step(&readers[kind], globs);
	}
	while ((newest = newest_of(readers)) && enter(newest, found, limit, &left))
		step(newest, globs);
	for (size_t i = left; i < limit; i++)
		json_object_array_add(list, found[i]);
	free(found);
	for (int kind = 0; kind < SHELVES; kind++) {
		json_object_put(readers[kind].entry);
		free(readers[kind].text);
	}
	return list;
}
