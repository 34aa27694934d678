#include "daemon/console_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/log.h"

/* After a look at the logs the next is so far away: a flood of one-byte writes costs one a ms. */
#define NEWS_DELAY_USEC 1000

/* Where inotify has no room for another log, it is looked at so often. */
#define POLL_USEC 50000

/* A full disk is asked for room so often. */
#define RETRY_SECONDS 1

/* Room in the FIFO: two pages, so that QEMU finds one full while we fill the other. */
#define FIFO_BYTES 8192

static void unwatch_log(struct console *console);

/* Holes may have been made in what was read. */
static void
forget_blocks(struct console *console)
{
	for (size_t i = 0; i < N_BLOCKS; i++)
		if (console->hub->blocks[i].console == console)
			console->hub->blocks[i].console = NULL;
}

/* Those who stood where a hole was made now go on behind it, and are told how much they lost. */
static void
skip_hole(struct console *console)
{
	struct viewer *viewer;

	TAILQ_FOREACH (viewer, &console->viewers, link) {
		uint64_t at = viewer->offset;

		if (at >= console->log.head)
			continue;
		viewer->offset = console->log.head;
		if (console->ops)
			console->ops->lost(console->arg, viewer, at, console->log.head - at);
	}
}

static void
tell_news(struct console *console, unsigned news)
{
	if (console->ops && (news & ~(CONSOLE_LOG_GREW | CONSOLE_LOG_PUNCHED)))
		console->ops->log(console->arg, news, &console->log);
}

/* Keeps the log under its limit. */
static void
bound(struct console *console)
{
	unsigned news = console_log_bound(&console->log);

	if (news & CONSOLE_LOG_PUNCHED) {
		forget_blocks(console);
		skip_hole(console);
	}
	tell_news(console, news);
}

/* Looks at the log, and tells of it what there is to tell. */
static void
look(struct console *console)
{
	tell_news(console, console_log_look(&console->log));
	if (console->log.full && console->log.live && !evtimer_pending(console->hub->retry, NULL))
		event_add(console->hub->retry, &(struct timeval){RETRY_SECONDS, 0});
}

/*
 * Serves the viewers who wait for news; those whose sockets are full are woken by them. But before
 * the log loses its head all take what they can.
 */
static void
console_pump(struct console *console)
{
	struct viewer *viewer, *next;
	bool over;

	console->dirty = false;
	look(console);
	over = console_log_is_over(&console->log);
	for (viewer = TAILQ_FIRST(&console->viewers); viewer; viewer = next) {
		next = TAILQ_NEXT(viewer, link);
		if (viewer->fd >= 0 && (!viewer->blocked || over))
			viewer_pump(viewer);
	}
	if (over)
		bound(console);
}

static void
mark_dirty(struct console_hub *hub, const struct inotify_event *event)
{
	struct console *console;

	LIST_FOREACH (console, &hub->consoles, link)
		if (console->watch == event->wd || (event->mask & IN_Q_OVERFLOW))
			console->dirty = true;
}

/* Takes in what inotify has, and serves the consoles that have grown. Returns whether any has. */
static bool
take_news(struct console_hub *hub)
{
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	struct console *console, *next;
	bool any = false;
	ssize_t n;

	while ((n = read(hub->inotify_fd, buf, sizeof(buf))) > 0) {
		any = true;
		for (char *p = buf; p < buf + n;) {
			const struct inotify_event *event = (struct inotify_event *)p;

			mark_dirty(hub, event);
			p += sizeof(*event) + event->len;
		}
	}
	for (console = LIST_FIRST(&hub->consoles); any && console; console = next) {
		next = LIST_NEXT(console, link);
		if (console->dirty)
			console_pump(console);
	}
	return any;
}

/* The first news is passed on at once; then for a while equal events melt into one. */
static void
on_news(evutil_socket_t fd, short what, void *arg)
{
	struct console_hub *hub = arg;

	event_del(hub->news);
	(void)take_news(hub);
	event_add(hub->delay, &(struct timeval){0, NEWS_DELAY_USEC});
}

static void
on_delay(evutil_socket_t fd, short what, void *arg)
{
	struct console_hub *hub = arg;

	if (take_news(hub))
		event_add(hub->delay, &(struct timeval){0, NEWS_DELAY_USEC});
	else
		event_add(hub->news, NULL);
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

/* A disk was full: is there room again? The log does not grow meanwhile, nothing else would tell.
 */
static void
on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct console_hub *hub = arg;
	struct console *console, *next;

	for (console = LIST_FIRST(&hub->consoles); console; console = next) {
		next = LIST_NEXT(console, link);
		if (console->log.full && console->log.live)
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
	forget_blocks(console);
	unwatch_log(console);
	LIST_REMOVE(console, link);
	event_free(console->fifo_room);
	evbuffer_free(console->keys);
	if (console->fifo_fd >= 0)
		close(console->fifo_fd);
	console_log_close(&console->log);
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

/* Each has a descriptor, and nobody may take the daemon's away from the others. */
static void
set_viewers_max(struct console_hub *hub)
{
	struct rlimit files = {RLIM_INFINITY, RLIM_INFINITY};

	getrlimit(RLIMIT_NOFILE, &files);
	hub->viewers_max = VIEWERS_MAX < files.rlim_cur / 2 ? VIEWERS_MAX : files.rlim_cur / 2;
	hub->viewers_per_user_max = VIEWERS_PER_USER_MAX < files.rlim_cur / 3 ? VIEWERS_PER_USER_MAX
									      : files.rlim_cur / 3;
}

struct console_hub *
console_hub_new(struct event_base *base)
{
	struct console_hub *hub = calloc(1, sizeof(*hub));

	if (!hub)
		abort();
	hub->base = base;
	set_viewers_max(hub);
	LIST_INIT(&hub->consoles);
	hub->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (hub->inotify_fd < 0)
		log_warn("no inotify (%s): consoles are looked at 20 times a second",
			strerror(errno));
	hub->news = event_new(base, hub->inotify_fd, EV_READ | EV_PERSIST, on_news, hub);
	hub->delay = evtimer_new(base, on_delay, hub);
	hub->poll = event_new(base, -1, EV_PERSIST, on_poll, hub);
	hub->retry = evtimer_new(base, on_retry, hub);
	hub->reaper = evtimer_new(base, on_reaper, hub);
	if (!hub->news || !hub->delay || !hub->poll || !hub->retry || !hub->reaper)
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
	event_free(hub->retry);
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
	snprintf(path, sizeof(path), "/proc/self/fd/%d", console->log.fd);
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

void
console_push_keys(struct console *console)
{
	struct viewer *viewer, *next;

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
	if (evbuffer_get_length(console->keys) >= INPUT_MAX)
		return;
	for (viewer = TAILQ_FIRST(&console->viewers); viewer; viewer = next) {
		next = TAILQ_NEXT(viewer, link);
		viewer_resume_input(viewer);
	}
}

static void
on_fifo_room(evutil_socket_t fd, short what, void *arg)
{
	console_push_keys(arg);
}

struct console *
console_new(struct console_hub *hub, const struct console_files *files, uint64_t limit,
	const struct console_ops *ops, void *arg)
{
	struct console *console = calloc(1, sizeof(*console));

	if (!console)
		abort();
	console->hub = hub;
	console->fifo_fd = files->fifo_fd;
	console->watch = -1;
	console->ended = files->fifo_fd < 0;
	console->ops = ops;
	console->arg = arg;
	TAILQ_INIT(&console->viewers);
	console->keys = evbuffer_new();
	console->fifo_room = event_new(
		hub->base, console->fifo_fd, EV_WRITE, on_fifo_room, console);
	if (!console->keys || !console->fifo_room)
		abort();
	LIST_INSERT_HEAD(&hub->consoles, console, link);
	console_log_open(&console->log, files->log_fd, files->index_fd, limit, !console->ended);
	if (console->ended)
		return console;
	/* The guest's own pace is kept by the FIFO: what it has not read yet is not much. */
	(void)fcntl(console->fifo_fd, F_SETPIPE_SZ, FIFO_BYTES);
	watch_log(console);
	if (console->log.no_punch && ops)
		ops->log(arg, CONSOLE_LOG_NO_PUNCH, &console->log);
	look(console);
	return console;
}

/* Nothing more is looked for: viewers get the rest and are then closed. */
static void
stop(struct console *console)
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
console_end(struct console *console)
{
	if (!console || console->ended)
		return;
	stop(console);
	console_log_end(&console->log);
}

void
console_release(struct console *console)
{
	if (!console)
		return;
	console->ops = NULL;
	console->released = true;
	stop(console);
	console_reap(console);
}

void
console_reap(struct console *console)
{
	if (console->released && console->n_viewers == 0)
		event_active(console->hub->reaper, EV_TIMEOUT, 0);
}

uint64_t
console_bytes(struct console *console)
{
	if (!console->ended)
		look(console);
	return console->log.size;
}

uint64_t
console_head(const struct console *console)
{
	return console->log.head;
}

bool
console_bounded(const struct console *console)
{
	return console->log.no_punch == 0;
}

const struct logindex *
console_index(const struct console *console)
{
	return &console->log.index;
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

uint64_t
console_offset(struct console *console, int64_t from, uint64_t *end)
{
	uint64_t bytes = console_bytes(console), head = console->log.head;

	if (end)
		*end = bytes;
	if (from < 0)
		return console_log_lines_back(&console->log, from == INT64_MIN ? INT64_MAX : -from);
	if ((uint64_t)from < head)
		return head;
	return (uint64_t)from < bytes ? (uint64_t)from : bytes;
}

/* The block of this place, or the one that was not used for longest, emptied. */
static struct block *
find_block(struct console *console, uint64_t at)
{
	struct console_hub *hub = console->hub;
	struct block *oldest = &hub->blocks[0];

	for (size_t i = 0; i < N_BLOCKS; i++) {
		struct block *block = &hub->blocks[i];

		if (block->console == console && block->at == at)
			return block;
		if (block->used < oldest->used)
			oldest = block;
	}
	oldest->console = console;
	oldest->at = at;
	oldest->len = 0;
	return oldest;
}

size_t
console_read(struct console *console, uint64_t offset, const char **at)
{
	struct block *block = find_block(console, offset / BLOCK_SIZE * BLOCK_SIZE);
	size_t skip = offset - block->at;
	ssize_t n;

	block->used = ++console->hub->reads;
	if (block->len <= skip) { /* the log has grown since it was read, or it never was */
		n = pread(console->log.fd, block->data + block->len, BLOCK_SIZE - block->len,
			(off_t)(block->at + block->len));
		if (n > 0)
			block->len += (size_t)n;
	}
	*at = block->data + skip;
	return block->len > skip ? block->len - skip : 0;
}
