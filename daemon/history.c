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

#define FILE_NAME "history.jsonl"
#define FILE_BEFORE "history.1.jsonl"

/* Some 2500 entries; then it becomes the one before, so that as many again are kept. */
#define FILE_BYTES_MAX (512 * 1024)

/* One entry: the error's text is the longest part. */
#define ENTRY_DEPTH_MAX 4

struct history {
	int state_fd; /* weak */
	int fd; /* -1: cannot be written */
	off_t size;
	bool told; /* that it cannot be written */
};

/* What a crash of the host cut off in the middle of a line must not take the next entry with it. */
static void
end_line(struct history *history)
{
	char last;

	if (history->size > 0 && pread(history->fd, &last, 1, history->size - 1) == 1 &&
		last != '\n' && write_all(history->fd, "\n", 1) == 0)
		history->size++;
}

static void
open_file(struct history *history)
{
	struct stat st;

	history->fd = openat(history->state_fd, FILE_NAME,
		O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	history->size = history->fd >= 0 && fstat(history->fd, &st) == 0 ? st.st_size : 0;
	end_line(history);
}

struct history *
history_new(int state_fd)
{
	struct history *history = calloc(1, sizeof(*history));

	if (!history)
		abort();
	history->state_fd = state_fd;
	open_file(history);
	return history;
}

void
history_free(struct history *history)
{
	if (!history)
		return;
	if (history->fd >= 0)
		close(history->fd);
	free(history);
}

static struct json_object *
entry_of(const struct deed *deed)
{
	struct json_object *entry = json_object_new_object();
	/* No more of a name than a guest can have: what is asked for in vain, by anybody, must not
	 * push out what was done. */
	char when[32], guest[CIJ_GUEST_NAME_MAX + 1];

	cij_json_add_str(entry, "time", clock_rfc3339(time(NULL), when, sizeof(when)));
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
	return entry;
}

/* What a full disk cut off in the middle is no entry; the next one starts on a line of its own. */
static int
append(struct history *history, const char *line, size_t len)
{
	if (write_all(history->fd, line, len) == 0) {
		history->size += (off_t)len;
		return 0;
	}
	if (ftruncate(history->fd, history->size) < 0)
		history->size += (off_t)len;
	return -1;
}

static void
keep(struct history *history, struct json_object *entry)
{
	size_t len;
	const char *text = json_object_to_json_string_length(
		entry, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
	_cleanup_free_ char *line = malloc(len + 1);

	if (!line)
		abort();
	memcpy(line, text, len);
	line[len++] = '\n';
	if (history->size + (off_t)len > FILE_BYTES_MAX) {
		renameat(history->state_fd, FILE_NAME, history->state_fd, FILE_BEFORE);
		if (history->fd >= 0)
			close(history->fd);
		open_file(history);
	}
	if (history->fd >= 0 && append(history, line, len) == 0) {
		history->told = false;
	} else if (!history->told) {
		history->told = true;
		log_warn("cannot write '%s': %s: the journal alone has what is done now", FILE_NAME,
			strerror(errno));
	}
}

void
history_add(struct history *history, const struct deed *deed)
{
	_cleanup_json_ struct json_object *entry = entry_of(deed);

	log_info("uid %u pid %d: %s%s%s: %s (%.0f ms)", (unsigned)deed->by->uid, (int)deed->by->pid,
		deed->operation, deed->guest ? " " : "", deed->guest ? deed->guest : "",
		deed->err ? deed->err->desc : "done", deed->seconds * 1000);
	keep(history, entry);
}

static bool
wanted(const struct cij_list *globs, const char *guest)
{
	for (size_t i = 0; i < globs->n; i++)
		if (guest && cij_glob_match(((char **)globs->items)[i], guest))
			return true;
	return globs->n == 0;
}

/* Puts what is wanted of the last lines of @text before the entries in @list, which has @*left
 * places. */
static void
collect(char *text, size_t len, const struct cij_list *globs, struct json_object **found,
	size_t *left)
{
	while (len > 0 && *left > 0) {
		_cleanup_json_ struct json_object *entry = NULL;
		size_t start = len;

		while (start > 0 && text[start - 1] != '\n')
			start--;
		if (start < len)
			entry = cij_json_parse(text + start, len - start, ENTRY_DEPTH_MAX, NULL);
		if (json_object_is_type(entry, json_type_object) &&
			wanted(globs, cij_json_str(entry, "guest")))
			found[--*left] = steal_ptr(entry);
		len = start > 0 ? start - 1 : 0;
	}
}

struct json_object *
history_read(const struct history *history, const struct cij_list *globs, size_t limit)
{
	static const char *const files[] = {FILE_NAME, FILE_BEFORE};
	struct json_object *list = json_object_new_array();
	struct json_object **found = calloc(limit + 1, sizeof(struct json_object *));
	size_t left = limit;

	if (!found)
		abort();
	for (size_t i = 0; i < cij_array_size(files) && left > 0; i++) {
		size_t len;
		_cleanup_free_ char *text = file_read_at(
			history->state_fd, files[i], FILE_BYTES_MAX, &len, NULL);

		if (text)
			collect(text, len, globs, found, &left);
	}
	for (size_t i = left; i < limit; i++)
		json_object_array_add(list, found[i]);
	free(found);
	return list;
}
