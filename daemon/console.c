#include "daemon/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/users.h"
#include "proto/json.h"

/* One read of the log, shared by the viewers that stand at the same offset. */
#define BLOCK_SIZE (128 * 1024)

/* A viewer that catches up yields to the others after so much. */
#define TURN_BYTES (1024 * 1024)

/* Keys that QEMU has not taken yet; the connection is not read while there are more. */
#define INPUT_MAX (64 * 1024)

/* After news the hub waits so long before it looks: a flood of one-byte writes costs one wake-up.
 */
#define NEWS_DELAY_USEC 1000

/* Where inotify has no room for another log, it is looked at so often. */
#define POLL_USEC 50000

struct console_hub {
	struct event_base *base; /* weak */
	int inotify_fd;
	struct event *news; /* inotify has something to say */
	struct event *delay; /* look now */
	struct event *poll; /* for logs without a watch */
	struct event *reaper; /* a released console has lost its last viewer */
	LIST_HEAD(, console) consoles;
	size_t n_polled;
	/* the block read last */
	const struct console *block_of;
	uint64_t block_at;
	size_t block_len;
	char block[BLOCK_SIZE];
};

struct console {
	LIST_ENTRY(console) link;
	struct console_hub *hub; /* weak */
	int log_fd, fifo_fd;
	int watch; /* inotify's; -1: polled, or ended */
	bool polled, ended, released;
	bool dirty; /* news since the viewers were served */
	uint64_t size;
	TAILQ_HEAD(, viewer) viewers;
	size_t n_viewers;
	struct viewer *writer; /* weak */
	struct evbuffer *keys; /* on their way to the FIFO */
	struct event *fifo_room; /* the FIFO takes more */
	const struct console_ops *ops;
	void *arg; /* weak */
};

struct viewer {
	TAILQ_ENTRY(viewer) link;
	struct console *console; /* weak */
	enum viewer_mode mode;
	uint64_t offset;
	struct peer peer;
	int fd;
	struct event *readable, *writable;
	bool blocked; /* waits for room in its socket */
	bool input_over;
};

static void viewer_pump(struct viewer *viewer);
static void unwatch_log(struct console *console);

static uint64_t
log_size(const struct console *console)
{
	struct stat st;

	return fstat(console->log_fd, &st) == 0 ? (uint64_t)st.st_size : console->size;
}

/* Serves the viewers who wait for news; those whose sockets are full are woken by them. */
static void
console_pump(struct console *console)
{
	struct viewer *viewer, *next;

	console->dirty = false;
	console->size = log_size(console);
	for (viewer = TAILQ_FIRST(&console->viewers); viewer; viewer = next) {
		next = TAILQ_NEXT(viewer, link);
		if (viewer->fd >= 0 && !viewer->blocked)
			viewer_pump(viewer);
	}
}

static void
on_news(evutil_socket_t fd, short what, void *arg)
{
	struct console_hub *hub = arg;

	/* Read when the delay is over: until then equal events melt into one. */
	event_del(hub->news);
	event_add(hub->delay, &(struct timeval){0, NEWS_DELAY_USEC});
}

static void
mark_dirty(struct console_hub *hub, const struct inotify_event *event)
{
	struct console *console;

	LIST_FOREACH (console, &hub->consoles, link)
		if (console->watch == event->wd || (event->mask & IN_Q_OVERFLOW))
			console->dirty = true;
}

static void
on_delay(evutil_socket_t fd, short what, void *arg)
{
	struct console_hub *hub = arg;
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	struct console *console, *next;
	ssize_t n;

	while ((n = read(hub->inotify_fd, buf, sizeof(buf))) > 0)
		for (char *p = buf; p < buf + n;) {
			const struct inotify_event *event = (struct inotify_event *)p;

			mark_dirty(hub, event);
			p += sizeof(*event) + event->len;
		}
	event_add(hub->news, NULL);
	for (console = LIST_FIRST(&hub->consoles); console; console = next) {
		next = LIST_NEXT(console, link);
		if (console->dirty)
			console_pump(console);
	}
}

static void
on_poll(evutil_socket_t fd, short what, void *arg)
{
	struct console_hub *hub = arg;
	struct console *console, *next;

	for (console = LIST_FIRST(&hub->consoles); console; console = next) {
		next = LIST_NEXT(console, link);
		if (console->polled)
			console_pump(console);
	}
}

static void
console_free(struct console *console)
{
	struct viewer *viewer;

	console->ops = NULL;
	while ((viewer = TAILQ_FIRST(&console->viewers)))
		viewer_free(viewer);
	if (console->hub->block_of == console)
		console->hub->block_of = NULL;
	unwatch_log(console);
	LIST_REMOVE(console, link);
	event_free(console->fifo_room);
	evbuffer_free(console->keys);
	if (console->fifo_fd >= 0)
		close(console->fifo_fd);
	close(console->log_fd);
	free(console);
}

static void
on_reaper(evutil_socket_t fd, short what, void *arg)
{
	struct console_hub *hub = arg;
	struct console *console, *next;

	for (console = LIST_FIRST(&hub->consoles); console; console = next) {
		next = LIST_NEXT(console, link);
		if (console->released && console->n_viewers == 0)
			console_free(console);
	}
}

struct console_hub *
console_hub_new(struct event_base *base)
{
	struct console_hub *hub = calloc(1, sizeof(*hub));

	if (!hub)
		abort();
	hub->base = base;
	LIST_INIT(&hub->consoles);
	hub->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (hub->inotify_fd < 0)
		log_warn("no inotify (%s): consoles are looked at 20 times a second",
			strerror(errno));
	hub->news = event_new(base, hub->inotify_fd, EV_READ | EV_PERSIST, on_news, hub);
	hub->delay = evtimer_new(base, on_delay, hub);
	hub->poll = event_new(base, -1, EV_PERSIST, on_poll, hub);
	hub->reaper = evtimer_new(base, on_reaper, hub);
	if (!hub->news || !hub->delay || !hub->poll || !hub->reaper)
		abort();
	if (hub->inotify_fd >= 0)
		event_add(hub->news, NULL);
	return hub;
}

void
console_hub_free(struct console_hub *hub)
{
	struct console *console;

	if (!hub)
		return;
	while ((console = LIST_FIRST(&hub->consoles)))
		console_free(console);
	event_free(hub->news);
	event_free(hub->reaper);
	event_free(hub->delay);
	event_free(hub->poll);
	if (hub->inotify_fd >= 0)
		close(hub->inotify_fd);
	free(hub);
}

static void
watch_log(struct console *console)
{
	struct console_hub *hub = console->hub;
	char path[32];

	/* By descriptor: whatever happens to the name, it is this file. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", console->log_fd);
	if (hub->inotify_fd >= 0)
		console->watch = inotify_add_watch(hub->inotify_fd, path, IN_MODIFY);
	if (console->watch >= 0)
		return;
	if (hub->inotify_fd >= 0)
		log_warn("no inotify watch for a console (%s): raise fs.inotify.max_user_watches",
			strerror(errno));
	console->polled = true;
	if (hub->n_polled++ == 0)
		event_add(hub->poll, &(struct timeval){0, POLL_USEC});
}

static void
unwatch_log(struct console *console)
{
	struct console_hub *hub = console->hub;

	if (console->watch >= 0)
		inotify_rm_watch(hub->inotify_fd, console->watch);
	console->watch = -1;
	if (console->polled && --hub->n_polled == 0)
		event_del(hub->poll);
	console->polled = false;
}

/* Lets every viewer's connection be read again, when there is room for its keys. */
static void
resume_input(struct console *console)
{
	struct viewer *viewer;

	TAILQ_FOREACH (viewer, &console->viewers, link)
		if (viewer->readable && !viewer->input_over)
			event_add(viewer->readable, NULL);
}

/* Moves keys into the FIFO, as many as it takes: QEMU reads it no faster than the guest does. */
static void
push_keys(struct console *console)
{
	size_t before = evbuffer_get_length(console->keys);

	while (console->fifo_fd >= 0 && evbuffer_get_length(console->keys) > 0) {
		int n = evbuffer_write(console->keys, console->fifo_fd);

		if (n > 0)
			continue;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			event_add(console->fifo_room, NULL);
		else
			evbuffer_drain(console->keys, evbuffer_get_length(console->keys));
		break;
	}
	if (before >= INPUT_MAX && evbuffer_get_length(console->keys) < INPUT_MAX)
		resume_input(console);
}

static void
on_fifo_room(evutil_socket_t fd, short what, void *arg)
{
	push_keys(arg);
}

struct console *
console_new(
	struct console_hub *hub, int log_fd, int fifo_fd, const struct console_ops *ops, void *arg)
{
	struct console *console = calloc(1, sizeof(*console));

	if (!console)
		abort();
	console->hub = hub;
	console->log_fd = log_fd;
	console->fifo_fd = fifo_fd;
	console->watch = -1;
	console->ended = fifo_fd < 0;
	console->ops = ops;
	console->arg = arg;
	TAILQ_INIT(&console->viewers);
	console->keys = evbuffer_new();
	console->fifo_room = event_new(hub->base, fifo_fd, EV_WRITE, on_fifo_room, console);
	if (!console->keys || !console->fifo_room)
		abort();
	LIST_INSERT_HEAD(&hub->consoles, console, link);
	if (!console->ended)
		watch_log(console);
	console->size = log_size(console);
	return console;
}

void
console_end(struct console *console)
{
	if (console->ended)
		return;
	console->ended = true;
	unwatch_log(console);
	event_del(console->fifo_room);
	close(console->fifo_fd);
	console->fifo_fd = -1;
	evbuffer_drain(console->keys, evbuffer_get_length(console->keys));
	console_pump(console);
}

void
console_release(struct console *console)
{
	if (!console)
		return;
	console->ops = NULL;
	console->released = true;
	console_end(console);
	if (console->n_viewers == 0)
		event_active(console->hub->reaper, EV_TIMEOUT, 0);
}

uint64_t
console_bytes(struct console *console)
{
	console->size = log_size(console);
	return console->size;
}

size_t
console_viewers(const struct console *console)
{
	return console->n_viewers;
}

const struct viewer *
console_writer(const struct console *console)
{
	return console->writer;
}

bool
console_ended(const struct console *console)
{
	return console->ended;
}

/* The offset behind the newline before the last @lines lines. */
static uint64_t
lines_back(struct console *console, int64_t lines)
{
	uint64_t end = log_size(console), at = end;
	char buf[4096];

	while (at > 0) {
		size_t want = at < sizeof(buf) ? at : sizeof(buf);
		ssize_t n = pread(console->log_fd, buf, want, (off_t)(at - want));

		if (n != (ssize_t)want)
			return at;
		for (size_t i = want; i-- > 0;) {
			/* The newline that ends the last line is no line's beginning. */
			if (buf[i] != '\n' || at - want + i + 1 == end)
				continue;
			if (--lines == 0)
				return at - want + i + 1;
		}
		at -= want;
	}
	return 0;
}

uint64_t
console_offset(struct console *console, int64_t from)
{
	uint64_t end = console_bytes(console);

	if (from < 0)
		return lines_back(console, -from);
	return (uint64_t)from < end ? (uint64_t)from : end;
}

static void
tell(struct console *console, const char *what, const struct viewer *viewer)
{
	if (console->ops)
		console->ops->changed(console->arg, what, viewer);
}

struct viewer *
viewer_new(struct console *console, enum viewer_mode mode, uint64_t offset, const struct peer *peer)
{
	struct viewer *viewer = calloc(1, sizeof(*viewer));
	bool takes;

	if (!viewer)
		abort();
	if (console->ended || (mode == VIEWER_AUTO && console->writer))
		mode = VIEWER_READ_ONLY;
	takes = mode == VIEWER_FORCE || mode == VIEWER_AUTO;
	viewer->console = console;
	viewer->mode = takes ? VIEWER_AUTO : mode;
	viewer->offset = offset;
	viewer->peer = *peer;
	viewer->fd = -1;
	TAILQ_INSERT_TAIL(&console->viewers, viewer, link);
	console->n_viewers++;
	tell(console, "came", viewer);
	if (takes) {
		if (console->writer)
			console->writer->mode = VIEWER_READ_ONLY;
		console->writer = viewer;
		tell(console, "writes", viewer);
	}
	return viewer;
}

static void
close_fd(struct viewer *viewer)
{
	if (viewer->readable)
		event_free(viewer->readable);
	if (viewer->writable)
		event_free(viewer->writable);
	if (viewer->fd >= 0)
		close(viewer->fd);
}

void
viewer_free(struct viewer *viewer)
{
	struct console *console = viewer->console;

	close_fd(viewer);
	TAILQ_REMOVE(&console->viewers, viewer, link);
	console->n_viewers--;
	if (console->writer == viewer)
		console->writer = NULL;
	tell(console, "went", viewer);
	free(viewer);
	if (console->released && console->n_viewers == 0)
		event_active(console->hub->reaper, EV_TIMEOUT, 0);
}

/* The bytes of the log at @offset; 0 at its end. Weak: valid until the next call. */
static size_t
read_block(struct console *console, uint64_t offset, const char **at)
{
	struct console_hub *hub = console->hub;
	ssize_t n;

	if (hub->block_of == console && offset >= hub->block_at &&
		offset < hub->block_at + hub->block_len) {
		*at = hub->block + (offset - hub->block_at);
		return hub->block_at + hub->block_len - offset;
	}
	n = pread(console->log_fd, hub->block, sizeof(hub->block), (off_t)offset);
	if (n <= 0)
		return 0;
	hub->block_of = console;
	hub->block_at = offset;
	hub->block_len = n;
	*at = hub->block;
	return n;
}

/* Sends what is new to one viewer, as much as its socket takes. May free it. */
static void
viewer_pump(struct viewer *viewer)
{
	struct console *console = viewer->console;
	size_t sent = 0, len;
	const char *data;
	ssize_t n;

	while (viewer->offset < console->size && sent < TURN_BYTES &&
		(len = read_block(console, viewer->offset, &data)) > 0) {
		if (len > console->size - viewer->offset)
			len = console->size - viewer->offset;
		n = send(viewer->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			viewer_free(viewer);
			return;
		}
		if (n < 0)
			break;
		viewer->offset += n;
		sent += n;
	}
	viewer->blocked = viewer->offset < console->size;
	if (viewer->blocked)
		event_add(viewer->writable, NULL);
	else if (console->ended)
		viewer_free(viewer);
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct viewer *viewer = arg;

	viewer->console->size = log_size(viewer->console);
	viewer_pump(viewer);
}

static bool
may_type(const struct viewer *viewer)
{
	return viewer->mode == VIEWER_AUTO || viewer->mode == VIEWER_JOIN;
}

/*
 * The other side will send no more. It may still want to read ('echo cmd | socat …' does), or be
 * gone altogether: edge-triggered, the event comes again only when the rest of the connection goes
 * too.
 */
static void
input_over(struct viewer *viewer)
{
	struct pollfd gone = {.fd = viewer->fd, .events = 0};

	if (viewer->input_over ||
		(poll(&gone, 1, 0) == 1 && (gone.revents & (POLLHUP | POLLERR)))) {
		viewer_free(viewer);
		return;
	}
	viewer->input_over = true;
	event_del(viewer->readable);
	event_assign(viewer->readable, event_get_base(viewer->writable), viewer->fd,
		EV_READ | EV_PERSIST | EV_ET, event_get_callback(viewer->readable), viewer);
	event_add(viewer->readable, NULL);
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct viewer *viewer = arg;
	struct console *console = viewer->console;
	struct pollfd gone = {.fd = fd, .events = 0};
	char buf[4096];
	ssize_t n;

	if (viewer->input_over) {
		if (poll(&gone, 1, 0) == 1 && (gone.revents & (POLLHUP | POLLERR)))
			viewer_free(viewer);
		return;
	}
	if (may_type(viewer) && evbuffer_get_length(console->keys) >= INPUT_MAX) {
		event_del(viewer->readable); /* push_keys() adds it again */
		return;
	}
	n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		viewer_free(viewer);
	} else if (n == 0) {
		input_over(viewer);
	} else if (may_type(viewer) && !console->ended) {
		evbuffer_add(console->keys, buf, n);
		push_keys(console);
	}
}

void
viewer_start(struct viewer *viewer, int fd, struct evbuffer *input)
{
	struct console *console = viewer->console;

	viewer->fd = fd;
	viewer->readable = event_new(
		console->hub->base, fd, EV_READ | EV_PERSIST, on_readable, viewer);
	viewer->writable = event_new(console->hub->base, fd, EV_WRITE, on_writable, viewer);
	if (!viewer->readable || !viewer->writable)
		abort();
	event_add(viewer->readable, NULL);
	if (may_type(viewer) && !console->ended) {
		evbuffer_add_buffer(console->keys, input);
		push_keys(console);
	}
	/* From the loop, as every other turn: the caller still has its hands on the connection. */
	viewer->blocked = true;
	event_active(viewer->writable, EV_WRITE, 0);
}

enum viewer_mode
viewer_mode(const struct viewer *viewer)
{
	return viewer->mode;
}

const char *
viewer_mode_name(enum viewer_mode mode)
{
	static const char *const names[] = {
		[VIEWER_AUTO] = "write",
		[VIEWER_READ_ONLY] = "read-only",
		[VIEWER_FORCE] = "force",
		[VIEWER_JOIN] = "join",
	};

	return names[mode];
}

const struct peer *
viewer_peer(const struct viewer *viewer)
{
	return &viewer->peer;
}

struct json_object *
console_viewers_to_json(const struct console *console)
{
	struct json_object *list = json_object_new_array();
	const struct viewer *viewer;

	TAILQ_FOREACH (viewer, &console->viewers, link) {
		struct json_object *item = json_object_new_object();

		cij_json_add_int(item, "uid", viewer->peer.uid);
		cij_json_add_str(item, "user", user_name(viewer->peer.uid));
		cij_json_add_int(item, "pid", viewer->peer.pid);
		cij_json_add_str(item, "mode", viewer_mode_name(viewer->mode));
		cij_json_add_int(item, "offset", (int64_t)viewer->offset);
		json_object_array_add(list, item);
	}
	return list;
}
