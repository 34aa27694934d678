#include "client/editor.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <limits.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "cijqemu/cleanup.h"
#include "client/term.h"

/* Lines of the history that are kept. */
#define HISTORY_SIZE 1000

/* More candidates than this are not listed: they would push all else off the screen. */
#define LIST_MAX 200

/* Debian's name of the library, then everybody else's: one interface. */
static const char *const library_names[] = {"libedit.so.2", "libedit.so.0"};

/* The library's functions, under their own names. */
static struct {
	typeof(el_init) *init;
	typeof(el_end) *end;
	typeof(el_set) *set;
	typeof(el_wset) *wset;
	typeof(el_gets) *gets;
	typeof(el_line) *line;
	typeof(el_insertstr) *insertstr;
	typeof(el_deletestr) *deletestr;
	typeof(el_cursor) *cursor;
	typeof(history_init) *history_init;
	typeof(history_end) *history_end;
	typeof(history) *history;
} lib;

struct editor {
	struct editor_spec spec;
	EditLine *el; /* NULL: without the library */
	History *history;
	char *history_path;
	char *line;
	size_t size;
};

/* libedit asks for the prompt with the EditLine alone; one terminal a process. */
static struct editor *the_editor;

void
words_add(struct words *words, const char *text, size_t len)
{
	if ((words->n & (words->n - 1)) == 0) { /* grow at each power of two */
		words->items = realloc(
			words->items, (words->n ? words->n * 2 : 1) * sizeof(*words->items));
		if (!words->items)
			abort();
	}
	words->items[words->n] = strndup(text, len);
	if (!words->items[words->n++])
		abort();
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void
words_sort(struct words *words)
{
	if (words->n > 0)
		qsort(words->items, words->n, sizeof(*words->items), by_name);
}

void
words_clear(struct words *words)
{
	for (size_t i = 0; i < words->n; i++)
		free(words->items[i]);
	free(words->items);
	*words = (struct words){0};
}

/* The library */

static bool
load_library(void)
{
	static const struct {
		const char *name;
		void **at;
	} symbols[] = {
		{"el_init", (void **)&lib.init},
		{"el_end", (void **)&lib.end},
		{"el_set", (void **)&lib.set},
		{"el_wset", (void **)&lib.wset},
		{"el_gets", (void **)&lib.gets},
		{"el_line", (void **)&lib.line},
		{"el_insertstr", (void **)&lib.insertstr},
		{"el_deletestr", (void **)&lib.deletestr},
		{"el_cursor", (void **)&lib.cursor},
		{"history_init", (void **)&lib.history_init},
		{"history_end", (void **)&lib.history_end},
		{"history", (void **)&lib.history},
	};
	void *handle = NULL;

	for (size_t i = 0; i < cij_array_size(library_names) && !handle; i++)
		handle = dlopen(library_names[i], RTLD_NOW | RTLD_LOCAL);
	for (size_t i = 0; i < cij_array_size(symbols) && handle; i++) {
		*symbols[i].at = dlsym(handle, symbols[i].name);
		if (!*symbols[i].at)
			return false;
	}
	return handle != NULL;
}

static char *
prompt_of(EditLine *el)
{
	return (char *)the_editor->spec.prompt;
}

/* Takes the line that is typed off the screen, lets others print, and puts it back. */
static void
let_print(struct editor *editor)
{
	fputs("\r\033[K", stdout);
	fflush(stdout);
	if (!editor->spec.ready(editor->spec.arg))
		editor->spec.fd = -1;
	fflush(stdout);
	lib.set(editor->el, EL_REFRESH);
}

/* libedit's next character; what comes on the other descriptor is served meanwhile. */
static int
read_char(EditLine *el, wchar_t *out)
{
	struct editor *editor = the_editor;
	mbstate_t state = {0};

	for (;;) {
		struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
			{.fd = editor->spec.fd, .events = POLLIN}};
		unsigned char byte;
		ssize_t n;

		if (poll(fds, cij_array_size(fds), -1) < 0 && errno != EINTR)
			return -1;
		if (fds[1].revents)
			let_print(editor);
		if (!fds[0].revents)
			continue;
		n = read(STDIN_FILENO, &byte, 1);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return (int)n;
		switch (mbrtowc(out, (char *)&byte, 1, &state)) {
		case (size_t)-2: /* not whole yet */
			continue;
		case (size_t)-1:
			state = (mbstate_t){0};
			continue;
		default:
			return 1;
		}
	}
}

/* ^C: a new line, as shells have it. */
static unsigned char
cancel_line(EditLine *el, wint_t key)
{
	const LineInfo *line = lib.line(el);

	fputs("^C\n", stdout);
	fflush(stdout);
	lib.cursor(el, (int)(line->lastchar - line->cursor));
	lib.deletestr(el, (int)(line->lastchar - line->buffer));
	return CC_REDISPLAY;
}

/* Lists what might be meant, below the line. */
static void
list_words(const struct words *words, size_t from, size_t to)
{
	putchar('\n');
	if (to - from > LIST_MAX) {
		printf("%zu possibilities\n", to - from);
	} else {
		int width = 0, at = 0;

		for (size_t i = from; i < to; i++)
			if ((int)strlen(words->items[i]) > width)
				width = (int)strlen(words->items[i]);
		for (size_t i = from; i < to; i++) {
			bool last = i + 1 == to || (at += width + 2) + width > 78;

			printf("%-*s%s", last ? 0 : width + 2, words->items[i], last ? "\n" : "");
			at = last ? 0 : at;
		}
	}
	fflush(stdout);
}

/* How many bytes the words from @from to before @to have in common. */
static size_t
common(const struct words *words, size_t from, size_t to)
{
	const char *first = words->items[from], *last = words->items[to - 1];
	size_t n = 0;

	while (first[n] && first[n] == last[n]) /* sorted: what these two share, all share */
		n++;
	return n;
}

static unsigned char
complete_word(EditLine *el, wint_t key)
{
	struct editor *editor = the_editor;
	const LineInfo *line = lib.line(el);
	const char *start = line->cursor;
	_cleanup_free_ char *before = NULL, *insert = NULL;
	const struct words *words;
	size_t from, to, typed, shared;

	while (start > line->buffer && start[-1] != ' ')
		start--;
	before = strndup(line->buffer, line->cursor - line->buffer);
	typed = line->cursor - start;
	words = before ? editor->spec.complete(editor->spec.arg, before, start - line->buffer)
		       : NULL;
	if (!words)
		return CC_ERROR;
	for (from = 0; from < words->n && strncmp(words->items[from], start, typed) != 0; from++)
		continue;
	for (to = from; to < words->n && strncmp(words->items[to], start, typed) == 0; to++)
		continue;
	if (from == to)
		return CC_ERROR;
	shared = common(words, from, to);
	if (shared == typed && to - from > 1) {
		list_words(words, from, to);
		return CC_REDISPLAY;
	}
	insert = malloc(shared - typed + 2);
	if (!insert)
		abort();
	memcpy(insert, words->items[from] + typed, shared - typed);
	strcpy(insert + shared - typed, to - from == 1 ? " " : "");
	return lib.insertstr(el, insert) < 0 ? CC_ERROR : CC_REFRESH;
}

/* History */

/* Makes the folder and those above it; what fails shows when a file is made in it. */
static void
make_folder(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdir(path, 0700);
		*slash = '/';
	}
	(void)mkdir(path, 0700);
}

/* The history's file, on the heap; NULL where there is no place for it. */
static char *
history_file(const char *name)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	char path[PATH_MAX];
	int n;

	if (state && *state == '/')
		n = snprintf(path, sizeof(path), "%s/cijqemu", state);
	else if (home && *home == '/')
		n = snprintf(path, sizeof(path), "%s/.local/state/cijqemu", home);
	else
		return NULL;
	if (n + 1 + strlen(name) >= sizeof(path))
		return NULL;
	make_folder(path);
	snprintf(path + n, sizeof(path) - n, "/%s", name);
	return strdup(path);
}

static void
open_history(struct editor *editor)
{
	HistEvent event;

	editor->history = lib.history_init();
	if (!editor->history)
		return;
	lib.history(editor->history, &event, H_SETSIZE, HISTORY_SIZE);
	lib.history(editor->history, &event, H_SETUNIQUE, 1);
	lib.set(editor->el, EL_HIST, lib.history, editor->history);
	editor->history_path = history_file(editor->spec.history);
	if (editor->history_path)
		lib.history(editor->history, &event, H_LOAD, editor->history_path);
}

/* Each line is saved when it is entered: a terminal that is closed loses none. */
static void
remember(struct editor *editor, const char *line)
{
	HistEvent event;
	int fd;

	if (!editor->history || line[strspn(line, " \t\r\n")] == '\0')
		return;
	lib.history(editor->history, &event, H_ENTER, line);
	if (!editor->history_path)
		return;
	/* Commands may hold what is nobody else's business. */
	fd = open(editor->history_path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return;
	close(fd);
	lib.history(editor->history, &event, H_SAVE, editor->history_path);
}

/* The editor */

static void
open_el(struct editor *editor)
{
	editor->el = lib.init("cijqemuctl", stdin, stdout, stderr);
	if (!editor->el)
		return;
	lib.set(editor->el, EL_PROMPT, prompt_of);
	lib.set(editor->el, EL_EDITOR, "emacs");
	lib.set(editor->el, EL_GETCFN, read_char);
	/* ^C is a key; what else ends us gives the terminal back, see term.h. */
	lib.set(editor->el, EL_SETTY, "-d", "-isig", NULL);
	/* In wide characters: libedit never frees its copies of others. */
	lib.wset(editor->el, EL_ADDFN, L"cij-cancel", L"a new line", cancel_line);
	lib.set(editor->el, EL_BIND, "^C", "cij-cancel", NULL);
	lib.set(editor->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
	if (editor->spec.complete) {
		lib.wset(editor->el, EL_ADDFN, L"cij-complete", L"complete a word", complete_word);
		lib.set(editor->el, EL_BIND, "^I", "cij-complete", NULL);
	}
	open_history(editor);
}

struct editor *
editor_new(const struct editor_spec *spec)
{
	struct editor *editor = calloc(1, sizeof(*editor));

	if (!editor)
		abort();
	editor->spec = *spec;
	the_editor = editor;
	setlocale(LC_CTYPE, "");
	term_keep(STDIN_FILENO);
	if (load_library())
		open_el(editor);
	return editor;
}

void
editor_free(struct editor *editor)
{
	if (editor->el)
		lib.end(editor->el);
	if (editor->history)
		lib.history_end(editor->history);
	free(editor->history_path);
	free(editor->line);
	free(editor);
	the_editor = NULL;
}

void
editor_watch(struct editor *editor, int fd)
{
	editor->spec.fd = fd;
}

/* Without the library: the terminal's own line. */
static const char *
plain_line(struct editor *editor)
{
	ssize_t n;

	fputs(editor->spec.prompt, stdout);
	fflush(stdout);
	n = getline(&editor->line, &editor->size, stdin);
	return n < 0 ? NULL : editor->line;
}

const char *
editor_line(struct editor *editor)
{
	const char *line;
	int count = 0;

	if (editor->el) {
		fflush(stdout);
		/* Before the prompt, not behind it: what is typed as soon as it is seen counts. */
		lib.set(editor->el, EL_PREP_TERM, 1);
		line = lib.gets(editor->el, &count);
		if (line && count > 0) {
			remember(editor, line);
			free(editor->line);
			editor->line = strdup(line);
			if (!editor->line)
				abort();
		}
		line = line && count > 0 ? editor->line : NULL;
	} else {
		line = plain_line(editor);
	}
	if (!line) {
		putchar('\n'); /* the shell's prompt has a line of its own */
		return NULL;
	}
	editor->line[strcspn(editor->line, "\r\n")] = '\0';
	return editor->line;
}
