#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/console_impl.h"
#include "daemon/sock.h"
#include "daemon/users.h"
#include "proto/json.h"

static bool
may_type(const struct viewer *viewer)
{
	return viewer->mode == VIEWER_AUTO || viewer->mode == VIEWER_JOIN;
}

static void
tell(struct console *console, const char *what, const struct viewer *viewer)
{
	if (console->ops)
		console->ops->changed(console->arg, what, viewer);
}

static size_t
count_of(const struct console_hub *hub, uid_t uid)
{
	const struct console *console;
	const struct viewer *viewer;
	size_t n = 0;

	LIST_FOREACH (console, &hub->consoles, link)
		TAILQ_FOREACH (viewer, &console->viewers, link)
			n += viewer->peer.uid == uid;
	return n;
}

int
console_admit(const struct console *console, const struct peer *peer, struct cij_error *err)
{
	const struct console_hub *hub = console->hub;

	if (hub->n_viewers >= hub->viewers_max)
		return cij_error_set(err, CIJ_E_NO_RESOURCES,
			"the consoles have %zu viewers: no more", hub->n_viewers);
	if (peer->uid == 0 || hub->n_viewers < hub->viewers_per_user_max ||
		count_of(hub, peer->uid) < hub->viewers_per_user_max)
		return 0;
	cij_error_set(err, CIJ_E_NO_RESOURCES, "%zu viewers of consoles are yours: no more",
		hub->viewers_per_user_max);
	return cij_error_hint(err, "'cijqemuctl who GUEST' shows them with their processes");
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
	viewer->number = ++console->hub->last_viewer;
	viewer->mode = takes ? VIEWER_AUTO : mode;
	viewer->offset = offset;
	viewer->last_key = clock_mono();
	viewer->peer = *peer;
	viewer->fd = -1;
	TAILQ_INSERT_TAIL(&console->viewers, viewer, link);
	console->n_viewers++;
	console->hub->n_viewers++;
	tell(console, "came", viewer);
	if (takes) {
		if (console->writer) {
			console->writer->mode = VIEWER_READ_ONLY;
			viewer_resume_input(console->writer); /* to drop what it types */
		}
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
	console->hub->n_viewers--;
	if (console->writer == viewer)
		console->writer = NULL;
	tell(console, "went", viewer);
	free(viewer);
	console_reap(console);
}

/* Nobody reads its output any more; what it typed before that still goes to the guest. */
static void
lost_reader(struct viewer *viewer)
{
	int unread = 0;

	if (!may_type(viewer) || viewer->console->ended ||
		ioctl(viewer->fd, FIONREAD, &unread) < 0 || unread == 0) {
		viewer_free(viewer);
		return;
	}
	viewer->deaf = true;
	event_del(viewer->writable);
}

void
viewer_pump(struct viewer *viewer)
{
	struct console *console = viewer->console;
	size_t sent = 0, len;
	const char *data;
	ssize_t n;

	if (viewer->deaf) {
		if (console->ended)
			viewer_free(viewer);
		return;
	}
	while (viewer->offset < console->log.size && sent < TURN_BYTES &&
		(len = console_read(console, viewer->offset, &data)) > 0) {
		if (len > console->log.size - viewer->offset)
			len = console->log.size - viewer->offset;
		n = send(viewer->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			lost_reader(viewer);
			return;
		}
		if (n < 0)
			break;
		viewer->offset += n;
		sent += n;
		if ((size_t)n < len) /* its socket is full */
			break;
	}
	viewer->blocked = viewer->offset < console->log.size;
	if (viewer->blocked)
		event_add(viewer->writable, NULL);
	else if (console->ended)
		viewer_free(viewer);
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct viewer *viewer = arg;

	viewer_pump(viewer);
}

/*
 * Reads no more, now or at all, but hears of it when the connection goes: edge-triggered, an event
 * comes only when something changes.
 */
static void
hold_input(struct viewer *viewer)
{
	event_del(viewer->readable);
	event_assign(viewer->readable, event_get_base(viewer->writable), viewer->fd,
		EV_READ | EV_PERSIST | EV_ET, event_get_callback(viewer->readable), viewer);
	event_add(viewer->readable, NULL);
}

void
viewer_resume_input(struct viewer *viewer)
{
	if (!viewer->held || viewer->input_over)
		return;
	viewer->held = false;
	event_del(viewer->readable);
	event_assign(viewer->readable, event_get_base(viewer->writable), viewer->fd,
		EV_READ | EV_PERSIST, event_get_callback(viewer->readable), viewer);
	event_add(viewer->readable, NULL);
}

/* It will send no more; it may still want to read ('echo cmd | socat …' does), or be gone. */
static void
input_over(struct viewer *viewer)
{
	viewer->input_over = true;
	if (viewer->deaf || sock_is_gone(viewer->fd))
		viewer_free(viewer);
	else
		hold_input(viewer);
}

/* Its input waits for QEMU to take what there is. */
static void
on_held(struct viewer *viewer)
{
	int unread = 0;

	if (sock_is_gone(viewer->fd) && (ioctl(viewer->fd, FIONREAD, &unread) < 0 || unread == 0))
		viewer_free(viewer);
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct viewer *viewer = arg;
	struct console *console = viewer->console;
	char buf[4096];
	ssize_t n;

	if (viewer->input_over) {
		if (sock_is_gone(viewer->fd))
			viewer_free(viewer);
		return;
	}
	if (viewer->held) {
		on_held(viewer);
		return;
	}
	if (may_type(viewer) && evbuffer_get_length(console->keys) >= INPUT_MAX) {
		viewer->held = true; /* until console_push_keys() has made room */
		hold_input(viewer);
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
		viewer->last_key = clock_mono();
		evbuffer_add(console->keys, buf, n);
		console_push_keys(console);
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
		console_push_keys(console);
	}
	/* From the loop, as every other turn: the caller still has its hands on the connection. */
	viewer->blocked = true;
	event_active(viewer->writable, EV_WRITE, 0);
}

void
console_review(struct console *console, bool (*may)(void *arg, const struct peer *peer), void *arg)
{
	struct viewer *viewer;

	TAILQ_FOREACH (viewer, &console->viewers, link) {
		if (!may_type(viewer) || may(arg, &viewer->peer))
			continue;
		viewer->mode = VIEWER_READ_ONLY;
		if (console->writer == viewer)
			console->writer = NULL;
		if (viewer->readable)
			viewer_resume_input(viewer); /* to drop what it types */
		tell(console, "reads", viewer);
	}
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

uint64_t
viewer_number(const struct viewer *viewer)
{
	return viewer->number;
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

		cij_json_add_int(item, "viewer", (int64_t)viewer->number);
		cij_json_add_int(item, "uid", viewer->peer.uid);
		cij_json_add_str(item, "user", user_name(viewer->peer.uid));
		cij_json_add_int(item, "pid", viewer->peer.pid);
		cij_json_add_str(item, "mode", viewer_mode_name(viewer->mode));
		cij_json_add_int(item, "offset", (int64_t)viewer->offset);
		cij_json_add_int(item, "idle_s", (int64_t)(clock_mono() - viewer->last_key));
		json_object_array_add(list, item);
	}
	return list;
}
