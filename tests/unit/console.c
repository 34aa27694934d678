/*
 * daemon/console with a log and a FIFO on disk and viewers over socketpairs: every byte reaches
 * every viewer, roles are as asked, and nobody holds anybody up.
 */
#include "tests/unit/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>

#include "daemon/console.h"

static char *top;
static struct console_hub *hub;
static struct console *console;
static int log_out = -1; /* the guest's end of the log */
static int fifo = -1; /* QEMU's end of the keys */
static const struct peer someone = {.uid = 0, .pid = 7};
static char changes[512];

static void
on_changed(void *arg, const char *what, const struct viewer *viewer)
{
	size_t n = strlen(changes);

	snprintf(changes + n, sizeof(changes) - n, "%s(%s) ", what,
		viewer_mode_name(viewer_mode(viewer)));
}

static const struct console_ops ops = {.changed = on_changed};

static int
begin(void **state)
{
	char path[128];
	int log_fd, keys;

	signal(SIGPIPE, SIG_IGN);
	top = folder_make();
	loop = event_base_new();
	hub = console_hub_new(loop);
	snprintf(path, sizeof(path), "%s/out", top);
	log_out = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	log_fd = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/in", top);
	assert_int_equal(mkfifo(path, 0600), 0);
	fifo = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	keys = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	changes[0] = '\0';
	console = console_new(hub, &(struct console_files){log_fd, keys, -1}, 0, &ops, NULL);
	return 0;
}

static int
end(void **state)
{
	console_release(console);
	console = NULL;
	console_hub_free(hub);
	event_base_free(loop);
	close(log_out);
	close(fifo);
	folder_remove(top);
	return 0;
}

/* Lets a viewer in. Its end of the connection goes to *@fd. */
static struct viewer *
attach(enum viewer_mode mode, int64_t from, int *fd)
{
	struct evbuffer *nothing = evbuffer_new();
	struct viewer *viewer = viewer_new(
		console, mode, console_offset(console, from, NULL), &someone);
	int fds[2];

	socket_pair(fds);
	*fd = fds[1];
	viewer_start(viewer, fds[0], nothing);
	evbuffer_free(nothing);
	return viewer;
}

/* Reads from @fd until it got @want bytes. Heap buffer. */
static char *
get(int fd, size_t want)
{
	char *buf = calloc(1, want + 1);
	size_t n = 0;

	while (n < want) {
		ssize_t got = read(fd, buf + n, want - n);

		if (got < 0 && errno == EAGAIN)
			loop_settle(1);
		else if (got <= 0)
			fail_msg("the stream ended after %zu of %zu bytes", n, want);
		else
			n += got;
	}
	return buf;
}

static void
gets(int fd, const char *want)
{
	char *text = get(fd, strlen(want));

	assert_string_equal(text, want);
	free(text);
}

/* Nothing more comes at @fd. */
static void
gets_no_more(int fd)
{
	char c;

	loop_settle(10);
	assert_int_equal(read(fd, &c, 1), -1);
	assert_int_equal(errno, EAGAIN);
}

/* The stream at @fd ends here. */
static void
gets_end(int fd)
{
	char c;
	ssize_t n = -1;

	while ((n = read(fd, &c, 1)) < 0 && errno == EAGAIN)
		loop_settle(1);
	assert_int_equal(n, 0);
}

static void
viewers_are_offsets_into_the_log(void **state)
{
	_cleanup_close_ int start = -1, now = -1, middle = -1, lines = -1;

	say(log_out, "one\ntwo\nthree");
	attach(VIEWER_READ_ONLY, 0, &start);
	attach(VIEWER_READ_ONLY, INT64_MAX, &now);
	attach(VIEWER_READ_ONLY, 5, &middle);
	attach(VIEWER_READ_ONLY, -2, &lines);
	gets(start, "one\ntwo\nthree");
	gets(middle, "wo\nthree");
	gets(lines, "two\nthree");
	gets_no_more(now);
	say(log_out, "!\nfour\n");
	gets(start, "!\nfour\n");
	gets(now, "!\nfour\n");
	gets(middle, "!\nfour\n");
	gets(lines, "!\nfour\n");
	assert_int_equal(console_bytes(console), 20);
	assert_int_equal(console_viewers(console), 4);
	_cleanup_json_ struct json_object *list = console_viewers_to_json(console);
	assert_int_equal(json_object_array_length(list), 4);
	struct json_object *first = json_object_array_get_idx(list, 0);
	assert_int_equal(cij_json_int(first, "pid", 0), 7);
	assert_int_equal(cij_json_int(first, "offset", 0), 20);
	assert_string_equal(cij_json_str(first, "mode"), "read-only");
}

static void
lines_back(void **state)
{
	char long_line[10001];

	assert_int_equal(console_offset(console, -5, NULL), 0);
	say(log_out, "a\nb\nc\n");
	assert_int_equal(console_offset(console, -1, NULL), 4);
	assert_int_equal(console_offset(console, -2, NULL), 2);
	assert_int_equal(console_offset(console, -3, NULL), 0);
	assert_int_equal(console_offset(console, -99, NULL), 0);
	assert_int_equal(console_offset(console, 3, NULL), 3);
	assert_int_equal(console_offset(console, 7, NULL), 6);
	say(log_out, "d");
	assert_int_equal(console_offset(console, -1, NULL), 6); /* an unfinished line is one */
	memset(long_line, 'x', 10000);
	long_line[10000] = '\0';
	say(log_out, "\n");
	say(log_out, long_line); /* over more than one block */
	say(log_out, "\nz\n");
	assert_int_equal(console_offset(console, -1, NULL), 8 + 10001);
	assert_int_equal(console_offset(console, -2, NULL), 8);
	assert_int_equal(console_offset(console, -3, NULL), 6);
}

static void
one_writer_many_readers(void **state)
{
	_cleanup_close_ int a_fd = -1, b_fd = -1, c_fd = -1, d_fd = -1;
	struct viewer *a = attach(VIEWER_AUTO, 0, &a_fd), *b = attach(VIEWER_AUTO, 0, &b_fd), *c,
		      *d;

	assert_int_equal(viewer_mode(a), VIEWER_AUTO);
	assert_int_equal(viewer_mode(b), VIEWER_READ_ONLY);
	assert_ptr_equal(console_writer(console), a);
	assert_string_equal(viewer_mode_name(viewer_mode(a)), "write");
	assert_int_equal(viewer_peer(a)->pid, 7);
	say(a_fd, "A");
	say(b_fd, "B"); /* a reader's keys go nowhere */
	gets(fifo, "A");
	gets_no_more(fifo);
	c = attach(VIEWER_FORCE, 0, &c_fd);
	assert_ptr_equal(console_writer(console), c);
	assert_int_equal(viewer_mode(a), VIEWER_READ_ONLY);
	say(a_fd, "A");
	say(c_fd, "C");
	gets(fifo, "C");
	gets_no_more(fifo);
	d = attach(VIEWER_JOIN, 0, &d_fd);
	assert_int_equal(viewer_mode(d), VIEWER_JOIN);
	assert_ptr_equal(console_writer(console), c);
	say(d_fd, "D");
	gets(fifo, "D");
	close(steal_fd(&c_fd));
	loop_until(console_viewers(console) == 3);
	assert_null(console_writer(console));
	assert_string_equal(changes,
		"came(write) writes(write) came(read-only) came(write) writes(write) came(join) "
		"went(write) ");
}

static void
what_was_sent_behind_the_request_is_typed(void **state)
{
	struct evbuffer *input = evbuffer_new();
	struct viewer *viewer = viewer_new(console, VIEWER_AUTO, 0, &someone);
	int fds[2];

	evbuffer_add(input, "root\n", 5);
	socket_pair(fds);
	viewer_start(viewer, fds[0], input);
	assert_int_equal(evbuffer_get_length(input), 0);
	gets(fifo, "root\n");
	evbuffer_free(input);
	close(fds[1]);
}

static void
keys_while_the_fifo_is_full(void **state)
{
	_cleanup_close_ int fd = -1, other = -1;
	size_t filled = 0, sent = 0, total = 512 * 1024;
	char block[4096], *text;
	ssize_t n;

	memset(block, 'f', sizeof(block));
	while ((n = write(fifo, block, sizeof(block))) > 0)
		filled += n;
	attach(VIEWER_AUTO, 0, &fd);
	attach(VIEWER_READ_ONLY, 0, &other);
	while (sent < total) {
		for (size_t i = 0; i < sizeof(block); i++)
			block[i] = (char)('a' + (sent + i) % 26);
		n = write(fd, block, sizeof(block) < total - sent ? sizeof(block) : total - sent);
		if (n > 0)
			sent += n;
		loop_settle(1);
		if (n < 0) { /* what a guest does not read, the typist feels in the end */
			assert_int_equal(errno, EAGAIN);
			break;
		}
	}
	assert_true(sent < total);
	say(log_out, "x"); /* and it holds up nobody else */
	gets(other, "x");
	text = get(fifo, filled);
	assert_int_equal(strspn(text, "f"), filled);
	free(text);
	text = get(fifo, sent);
	for (size_t i = 0; i < sent; i++)
		assert_int_equal(text[i], 'a' + i % 26);
	free(text);
	say(fd, "!"); /* it is read again */
	gets(fifo, "!");
}

static void
a_stopped_viewer_holds_up_nobody_and_loses_nothing(void **state)
{
	_cleanup_close_ int stopped = -1, quick = -1;
	const size_t total = 8 * 1024 * 1024;
	char block[65536], *text;

	attach(VIEWER_READ_ONLY, 0, &stopped);
	attach(VIEWER_READ_ONLY, 0, &quick);
	for (size_t at = 0; at < total; at += sizeof(block)) {
		for (size_t i = 0; i < sizeof(block); i++)
			block[i] = (char)((at + i) / 251 % 251);
		assert_int_equal(write(log_out, block, sizeof(block)), sizeof(block));
		text = get(quick, sizeof(block));
		assert_memory_equal(text, block, sizeof(block));
		free(text);
	}
	text = get(stopped, total);
	for (size_t i = 0; i < total; i++)
		if (text[i] != (char)(i / 251 % 251))
			fail_msg("byte %zu is wrong", i);
	free(text);
	gets_no_more(stopped);
}

static void
an_ended_run_gives_the_rest_and_closes(void **state)
{
	_cleanup_close_ int fd = -1, late = -1, slow = -1;
	struct viewer *viewer;
	char *text, block[65536];

	attach(VIEWER_AUTO, 0, &fd);
	attach(VIEWER_READ_ONLY, 0, &slow);
	memset(block, 'x', sizeof(block));
	for (int i = 0; i < 32; i++)
		assert_int_equal(write(log_out, block, sizeof(block)), sizeof(block));
	say(log_out, "\nlast words\n");
	console_end(console);
	console_end(console); /* twice is fine */
	assert_true(console_ended(console));
	text = get(fd, 32 * sizeof(block));
	free(text);
	gets(fd, "\nlast words\n");
	gets_end(fd);
	text = get(slow, 32 * sizeof(block));
	free(text);
	gets(slow, "\nlast words\n");
	gets_end(slow);
	/* Whoever comes now reads it too, and cannot write. */
	viewer = attach(VIEWER_FORCE, -1, &late);
	assert_int_equal(viewer_mode(viewer), VIEWER_READ_ONLY);
	gets(late, "last words\n");
	gets_end(late);
	assert_int_equal(console_viewers(console), 0);
}

static void
a_released_console_serves_its_last_viewer(void **state)
{
	_cleanup_close_ int fd = -1;
	char block[65536], *text;

	attach(VIEWER_AUTO, 0, &fd);
	memset(block, 'x', sizeof(block));
	for (int i = 0; i < 32; i++)
		assert_int_equal(write(log_out, block, sizeof(block)), sizeof(block));
	console_release(console);
	console = NULL;
	changes[0] = '\0';
	text = get(fd, 32 * sizeof(block));
	assert_int_equal(strspn(text, "x"), 32 * sizeof(block));
	free(text);
	gets_end(fd);
	loop_settle(5);
	assert_string_equal(changes, ""); /* its owner may be gone */
}

static void
a_viewer_that_shuts_its_side_still_reads(void **state)
{
	_cleanup_close_ int fd = -1;

	attach(VIEWER_AUTO, 0, &fd);
	say(fd, "cmd\n");
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	gets(fifo, "cmd\n");
	loop_settle(5);
	say(log_out, "answer\n");
	gets(fd, "answer\n");
	assert_int_equal(console_viewers(console), 1);
	close(steal_fd(&fd));
	loop_until(console_viewers(console) == 0);
}

static void
viewers_that_vanish(void **state)
{
	int fds[50];

	for (size_t i = 0; i < cij_array_size(fds); i++)
		attach(i ? VIEWER_JOIN : VIEWER_AUTO, 0, &fds[i]);
	for (size_t i = 0; i < cij_array_size(fds); i += 2)
		close(fds[i]);
	say(log_out, "x");
	loop_until(console_viewers(console) == 25);
	for (size_t i = 1; i < cij_array_size(fds); i += 2) {
		gets(fds[i], "x");
		close(fds[i]);
	}
	loop_until(console_viewers(console) == 0);
	/* One whose connection broke before it was handed over. */
	viewer_free(viewer_new(console, VIEWER_AUTO, 0, &someone));
	assert_null(console_writer(console));
}

static void
consoles_do_not_mix(void **state)
{
	char path[128];
	_cleanup_close_ int fd = -1, other_fd = -1, other_out = -1;
	struct console *first = console, *other;

	snprintf(path, sizeof(path), "%s/other", top);
	other_out = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	other = console_new(hub,
		&(struct console_files){open(path, O_RDONLY | O_CLOEXEC),
			open("/dev/null", O_WRONLY | O_CLOEXEC), -1},
		0, NULL, NULL);
	attach(VIEWER_AUTO, 0, &fd);
	console = other;
	attach(VIEWER_AUTO, 0, &other_fd);
	console = first;
	for (int i = 0; i < 20; i++) {
		say(log_out, "first ");
		say(other_out, "other ");
		gets(fd, "first ");
		gets(other_fd, "other ");
	}
	console_release(other);
	gets_end(other_fd);
	say(log_out, "still");
	gets(fd, "still");
}

int
main(void)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, begin, end)
	const struct CMUnitTest tests[] = {
		T(viewers_are_offsets_into_the_log),
		T(lines_back),
		T(one_writer_many_readers),
		T(what_was_sent_behind_the_request_is_typed),
		T(keys_while_the_fifo_is_full),
		T(a_stopped_viewer_holds_up_nobody_and_loses_nothing),
		T(an_ended_run_gives_the_rest_and_closes),
		T(a_released_console_serves_its_last_viewer),
		T(a_viewer_that_shuts_its_side_still_reads),
		T(viewers_that_vanish),
		T(consoles_do_not_mix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
