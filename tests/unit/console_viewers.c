/* daemon/console: many viewers of a log that grows, what is lost, and input that waits for QEMU. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/console.h"

#define KiB 1024
#define MiB (1024 * 1024)

/* What the console told. */
struct told {
	char changes[1024]; /* "1 came, 1 writes, " */
	uint64_t lost_at, lost_bytes;
	unsigned news;
};

static char *folder;
static struct event_base *base;
static struct console_hub *hub;
static struct console *console;
static struct told told;
static int qemu_log, qemu_keys; /* QEMU's ends */

static void
on_changed(void *arg, const char *what, const struct viewer *viewer)
{
	size_t n = strlen(told.changes);

	snprintf(told.changes + n, sizeof(told.changes) - n, "%u %s, ",
		(unsigned)viewer_number(viewer), what);
}

static void
on_lost(void *arg, const struct viewer *viewer, uint64_t at, uint64_t bytes)
{
	told.lost_at = at;
	told.lost_bytes += bytes;
}

static void
on_log(void *arg, unsigned news, const struct console_log *log)
{
	told.news |= news;
}

static const struct console_ops ops = {on_changed, on_lost, on_log};

static int
open_at(const char *name, int flags)
{
	return folder_open(folder, name, flags);
}

static void
open_console(uint64_t limit)
{
	console = console_new(hub,
		&(struct console_files){open_at("out", O_RDWR | O_CREAT),
			open_at("in", O_RDWR | O_NONBLOCK), open_at("index", O_RDWR | O_CREAT)},
		limit, &ops, NULL);
	qemu_log = open_at("out", O_RDWR);
	qemu_keys = open_at("in", O_RDWR | O_NONBLOCK);
}

static int
set_up(void **state)
{
	char path[128];

	folder = folder_make();
	snprintf(path, sizeof(path), "%s/in", folder);
	assert_int_equal(mkfifo(path, 0600), 0);
	base = event_base_new();
	hub = console_hub_new(base);
	told = (struct told){0};
	return 0;
}

static int
tear_down(void **state)
{
	console_release(console);
	console_hub_free(hub);
	event_base_free(base);
	close(qemu_log);
	close(qemu_keys);
	folder_remove(folder);
	return 0;
}

/* Turns of the loop for @ms. */
static void
turn(int ms)
{
	event_base_loopexit(base, &(struct timeval){ms / 1000, ms % 1000 * 1000});
	event_base_dispatch(base);
}

/* A viewer; returns the user's end of its connection. */
static int
attach(enum viewer_mode mode, int64_t from, const char *typed)
{
	struct evbuffer *input = evbuffer_new();
	struct peer peer = {.uid = 1};
	struct viewer *viewer;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	viewer = viewer_new(console, mode, console_offset(console, from, NULL), &peer);
	evbuffer_add(input, typed, strlen(typed));
	viewer_start(viewer, fds[0], input);
	evbuffer_free(input);
	turn(5);
	return fds[1];
}

/* All that can be had from @fd now, appended to *@text. Returns whether it goes on. */
static bool
drain(int fd, char **text, size_t *len)
{
	char buf[64 * KiB];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		*text = realloc(*text, *len + n);
		memcpy(*text + *len, buf, n);
		*len += n;
	}
	return n < 0 && errno == EAGAIN;
}

static void
print(const char *text)
{
	assert_int_equal(write(qemu_log, text, strlen(text)), strlen(text));
}

static char *
noise(size_t len)
{
	char *text = malloc(len);

	for (size_t i = 0; i < len; i++)
		text[i] = (char)((i * 2654435761u) >> 13);
	return text;
}

static void
assert_gets(int fd, const char *want)
{
	char *text = NULL;
	size_t len = 0;

	turn(5);
	drain(fd, &text, &len);
	assert_int_equal(len, strlen(want));
	assert_memory_equal(text, want, len);
	free(text);
}

static void
assert_keys(const char *want)
{
	char buf[256];
	ssize_t n;

	turn(5);
	n = read(qemu_keys, buf, sizeof(buf));
	if (n < 0)
		n = 0;
	assert_int_equal(n, strlen(want));
	assert_memory_equal(buf, want, n);
}

static void
viewers_get_what_they_asked_for(void **state)
{
	open_console(0);
	print("one\ntwo\nthree\n");
	int all = attach(VIEWER_READ_ONLY, 0, ""), line = attach(VIEWER_READ_ONLY, -1, "");
	int byte = attach(VIEWER_READ_ONLY, 5, ""), end = attach(VIEWER_READ_ONLY, 1000, "");
	assert_gets(all, "one\ntwo\nthree\n");
	assert_gets(line, "three\n");
	assert_gets(byte, "wo\nthree\n");
	assert_gets(end, "");
	print("four");
	assert_gets(all, "four");
	assert_gets(line, "four");
	assert_gets(byte, "four");
	assert_gets(end, "four");
	close(all), close(line), close(byte), close(end);
}

/* Fast, slow and stopped ones: each gets each byte. */
static void
streams_equal_the_log(void **state)
{
	enum { N = 8, TOTAL = 8 * MiB };
	char *want = noise(TOTAL), *got[N] = {NULL};
	size_t len[N] = {0}, at = 0;
	int fds[N];

	open_console(0);
	for (int i = 0; i < N; i++)
		fds[i] = attach(VIEWER_READ_ONLY, 0, "");
	for (int round = 0; at < TOTAL; round++) {
		size_t part = 1 + (size_t)round * 7919 % (256 * KiB);

		part = part < TOTAL - at ? part : TOTAL - at;
		assert_int_equal(write(qemu_log, want + at, part), part);
		at += part;
		turn(1);
		for (int i = 0; i < N - 2; i++) /* the last two read nothing for now */
			if (round % (i + 1) == 0)
				drain(fds[i], &got[i], &len[i]);
	}
	for (int tries = 0; tries < 5000; tries++) {
		size_t least = TOTAL;

		turn(1);
		for (int i = 0; i < N; i++) {
			assert_true(drain(fds[i], &got[i], &len[i]));
			least = len[i] < least ? len[i] : least;
		}
		if (least == TOTAL)
			break;
	}
	for (int i = 0; i < N; i++) {
		assert_int_equal(len[i], TOTAL);
		assert_memory_equal(got[i], want, TOTAL);
		free(got[i]);
		close(fds[i]);
	}
	free(want);
}

static void
lost_bytes_are_told(void **state)
{
	enum { TOTAL = 4 * MiB };
	char *want = noise(TOTAL), *got = NULL;
	size_t len = 0;

	open_console(64 * KiB);
	if (!console_bounded(console))
		skip();
	int stands = attach(VIEWER_READ_ONLY, 0, "");
	for (size_t at = 0; at < TOTAL; at += 32 * KiB) {
		assert_int_equal(write(qemu_log, want + at, 32 * KiB), 32 * KiB);
		turn(2);
	}
	assert_true(told.lost_bytes > 0);
	for (int i = 0; i < 200; i++) {
		drain(stands, &got, &len);
		turn(1);
	}
	/* What it has and what it lost is the whole. */
	assert_int_equal(len + told.lost_bytes, TOTAL);
	assert_true(console_head(console) >= TOTAL - 64 * KiB);
	size_t before = len - (TOTAL - console_head(console));
	assert_memory_equal(got, want, before);
	assert_memory_equal(got + before, want + console_head(console), len - before);
	/* Who comes now begins at the head. */
	assert_int_equal(console_offset(console, 0, NULL), console_head(console));
	free(got);
	free(want);
	close(stands);
}

static void
run_ends_for_all(void **state)
{
	open_console(0);
	print("last words");
	int fd = attach(VIEWER_AUTO, 0, ""), late;
	char *got = NULL;
	size_t len = 0;

	console_end(console);
	turn(5);
	assert_false(drain(fd, &got, &len));
	assert_int_equal(len, 10);
	/* One that comes later still gets it. */
	late = attach(VIEWER_AUTO, 0, "");
	turn(5);
	assert_false(drain(late, &got, &len));
	assert_int_equal(len, 20);
	free(got);
	close(fd), close(late);
}

static void
one_writes(void **state)
{
	open_console(0);
	int a = attach(VIEWER_AUTO, 0, "typed before the answer, "),
	    b = attach(VIEWER_AUTO, 0, "b");
	int r = attach(VIEWER_READ_ONLY, 0, "r");
	assert_keys("typed before the answer, ");
	assert_int_equal(write(a, "a1", 2), 2);
	assert_int_equal(write(b, "b1", 2), 2);
	assert_int_equal(write(r, "r1", 2), 2);
	assert_keys("a1");
	int j = attach(VIEWER_JOIN, 0, "");
	assert_int_equal(write(j, "j1", 2), 2);
	assert_keys("j1");
	int f = attach(VIEWER_FORCE, 0, "");
	assert_int_equal(write(a, "a2", 2), 2);
	assert_int_equal(write(f, "f1", 2), 2);
	assert_keys("f1");
	assert_int_equal(write(j, "j2", 2), 2);
	assert_keys("j2");
	close(f);
	turn(5);
	assert_null(console_writer(console));
	int c = attach(VIEWER_AUTO, 0, "");
	assert_int_equal(write(c, "c1", 2), 2);
	assert_keys("c1");
	assert_string_equal(told.changes,
		"1 came, 1 writes, 2 came, 3 came, 4 came, 5 came, 5 writes, 5 went, 6 came, "
		"6 writes, ");
	close(a), close(b), close(r), close(j), close(c);
	turn(5);
	assert_int_equal(console_viewers(console), 0);
}

/* A guest that takes no keys: what was typed waits, bounded, and arrives whole. */
static void
paste_waits_and_arrives_whole(void **state)
{
	enum { TOTAL = 512 * KiB };
	char *want = noise(TOTAL), *got = NULL;
	size_t sent = 0, len = 0;

	open_console(0);
	int fd = attach(VIEWER_AUTO, 0, "");
	for (int i = 0; i < 50; i++) {
		ssize_t n = write(fd, want + sent, TOTAL - sent);

		if (n > 0)
			sent += n;
		turn(1);
	}
	/* FIFO, buffer and socket are full; the rest is with whoever pastes. */
	assert_true(sent >= 64 * KiB);
	assert_true(sent < TOTAL);
	while (len < TOTAL) {
		ssize_t n;

		drain(qemu_keys, &got, &len);
		turn(1);
		n = write(fd, want + sent, TOTAL - sent);
		if (n > 0)
			sent += n;
	}
	assert_memory_equal(got, want, TOTAL);
	free(got);
	free(want);
	close(fd);
}

/* Whoever pastes and leaves: what was sent still goes to the guest, then the viewer is gone. */
static void
paste_outlives_its_sender(void **state)
{
	char *want = noise(256 * KiB), *got = NULL;
	ssize_t sent = 0, n;
	size_t len = 0;

	open_console(0);
	int fd = attach(VIEWER_AUTO, 0, "");
	for (int i = 0; i < 50; i++) {
		n = write(fd, want + sent, 256 * KiB - sent);
		sent += n > 0 ? n : 0;
		turn(1);
	}
	close(fd);
	print("output that nobody reads\n");
	turn(10);
	for (int i = 0; i < 2000 && len < (size_t)sent; i++) {
		drain(qemu_keys, &got, &len);
		turn(1);
	}
	assert_int_equal(len, sent);
	assert_memory_equal(got, want, len);
	turn(10);
	assert_int_equal(console_viewers(console), 0);
	free(got);
	free(want);
}

/* A hang-up is noticed, though keys wait and no output comes. */
static void
hang_up_is_noticed_behind_a_full_fifo(void **state)
{
	char *keys = noise(64 * KiB);
	ssize_t n;

	open_console(0);
	int fd = attach(VIEWER_AUTO, 0, "");
	/* Just what FIFO and buffer take, so that nothing is left in the socket. */
	for (size_t sent = 0; sent<64 * KiB; sent += n> 0 ? n : 0) {
		n = write(fd, keys, 4096);
		turn(1);
	}
	turn(10);
	close(fd);
	turn(10);
	assert_int_equal(console_viewers(console), 0);
	assert_null(console_writer(console));
	free(keys);
}

static void
half_closed_viewer_still_reads(void **state)
{
	open_console(0);
	int fd = attach(VIEWER_AUTO, 0, "poweroff\n");
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	assert_keys("poweroff\n");
	print("bye");
	assert_gets(fd, "bye");
	assert_int_equal(console_viewers(console), 1);
	close(fd);
	turn(5);
	assert_int_equal(console_viewers(console), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(viewers_get_what_they_asked_for),
		T(streams_equal_the_log),
		T(lost_bytes_are_told),
		T(run_ends_for_all),
		T(one_writes),
		T(paste_waits_and_arrives_whole),
		T(paste_outlives_its_sender),
		T(hang_up_is_noticed_behind_a_full_fifo),
		T(half_closed_viewer_still_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
