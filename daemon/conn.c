#include "daemon/conn.h"

#include <errno.h>
#include <event2/bufferevent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cijqemu/protocol.h"
#include "daemon/op.h"
#include "daemon/sock.h"
#include "daemon/strv.h"
#include "proto/message.h"
#include "proto/text.h"

/* Replies that a client has not read: beyond this its requests wait. One reply may go over it. */
#define OUTPUT_MAX (256 * 1024)

/* Events that a client has not read: beyond this they are dropped; "seq" shows the gap. */
#define EVENTS_MAX (1024 * 1024)

/* Requests of one client that are under way at once; the next wait in its socket. */
#define REQUESTS_MAX 256

struct conn {
	struct bufferevent *bev;
	struct event *resume; /* look at the input again, from the loop */
	struct event *gone; /* the client's end, while nothing is read; NULL: not watched for */
	int gone_fd; /* the same socket once more; -1: none */
	struct peer peer;
	struct registry *registry; /* weak */
	const struct conn_ops *ops;
	void *arg; /* weak */
	LIST_HEAD(, request) requests;
	size_t n_requests;
	bool skipping; /* inside a line that was too long */
	bool ended; /* the client sends no more */
	struct subscriber *subscriber;
	struct strv globs;
	conn_upgrade_fn *upgrade;
	void *upgrade_arg; /* weak */
};

static void
ignore_gone(struct conn *conn)
{
	if (conn->gone)
		event_free(steal_ptr(conn->gone));
	if (conn->gone_fd >= 0)
		close(steal_fd(&conn->gone_fd));
}

static void
free_conn(struct conn *conn)
{
	struct request *request;

	notify_unsubscribe(conn->subscriber);
	while ((request = LIST_FIRST(&conn->requests))) {
		LIST_REMOVE(request, link);
		request->conn = NULL;
		if (request->gone)
			request->gone(request);
	}
	if (conn->upgrade)
		conn->upgrade(conn->upgrade_arg, -1, NULL);
	ignore_gone(conn);
	bufferevent_free(conn->bev);
	event_free(conn->resume);
	strv_clear(&conn->globs);
	free(conn);
}

void
conn_free(struct conn *conn)
{
	free_conn(conn);
}

static void
close_conn(struct conn *conn)
{
	conn->ops->closed(conn->arg, conn);
	free_conn(conn);
}

static void
on_gone(evutil_socket_t fd, short what, void *arg)
{
	if (sock_is_gone(fd))
		close_conn(arg);
}

/*
 * A bufferevent that reads nothing does not see its client leave: what that waits for, perhaps for
 * ever, would be kept for nobody. Edge-triggered, since what stands in the socket would be told
 * again and again; by a descriptor of its own, for the bufferevent's events are not.
 */
static void
watch_gone(struct conn *conn)
{
	if (conn->gone)
		return;
	conn->gone_fd = fcntl(bufferevent_getfd(conn->bev), F_DUPFD_CLOEXEC, 3);
	if (conn->gone_fd < 0)
		return;
	conn->gone = event_new(bufferevent_get_base(conn->bev), conn->gone_fd,
		EV_READ | EV_ET | EV_PERSIST, on_gone, conn);
	if (!conn->gone)
		abort();
	event_add(conn->gone, NULL);
}

static size_t
unsent(const struct conn *conn)
{
	return evbuffer_get_length(bufferevent_get_output(conn->bev));
}

static void
send_error(struct conn *conn, const struct cij_error *err)
{
	_cleanup_json_ struct json_object *msg = cij_message_error(err, NULL);

	conn_send(conn, msg);
}

static void
refuse_long_line(struct conn *conn)
{
	struct cij_error err;

	cij_error_set(&err, CIJ_E_BAD_REQUEST, "a request of over %d bytes", CIJ_REQUEST_LINE_MAX);
	send_error(conn, &err);
}

/* Takes one line out of the input. Returns false when there is none yet. */
static bool
take_line(struct conn *conn, struct evbuffer *in)
{
	struct evbuffer_ptr end = evbuffer_search_eol(in, NULL, NULL, EVBUFFER_EOL_LF);
	size_t len;
	char *line;

	if (end.pos < 0) {
		if (evbuffer_get_length(in) <= CIJ_REQUEST_LINE_MAX)
			return false;
		if (!conn->skipping)
			refuse_long_line(conn);
		conn->skipping = true;
		evbuffer_drain(in, evbuffer_get_length(in));
		return false;
	}
	if (conn->skipping || end.pos > CIJ_REQUEST_LINE_MAX) {
		if (!conn->skipping)
			refuse_long_line(conn);
		conn->skipping = false;
		evbuffer_drain(in, end.pos + 1);
		return true;
	}
	line = evbuffer_readln(in, &len, EVBUFFER_EOL_LF);
	if (strspn(line, " \t\r") < len)
		op_dispatch(conn, conn->registry, line, len);
	free(line);
	return true;
}

/* What stands in the input when no more comes is no request: it may be half of one. */
static void
refuse_half_line(struct conn *conn, struct evbuffer *in)
{
	struct cij_error err;

	if (evbuffer_get_length(in) == 0 || conn->skipping)
		return;
	evbuffer_drain(in, evbuffer_get_length(in));
	cij_error_set(&err, CIJ_E_BAD_REQUEST,
		"the connection ended in the middle of a request: no newline behind it");
	send_error(conn, &err);
}

static void
work(struct conn *conn)
{
	struct evbuffer *in = bufferevent_get_input(conn->bev);

	while (!conn->upgrade && unsent(conn) < OUTPUT_MAX && conn->n_requests < REQUESTS_MAX)
		if (!take_line(conn, in))
			break;
	if (conn->upgrade)
		return;
	if (unsent(conn) >= OUTPUT_MAX || conn->n_requests >= REQUESTS_MAX) {
		bufferevent_disable(conn->bev, EV_READ);
		watch_gone(conn);
		return;
	}
	if (!conn->ended) {
		ignore_gone(conn);
		bufferevent_enable(conn->bev, EV_READ);
		return;
	}
	watch_gone(conn);
	refuse_half_line(conn, in);
	if (conn->n_requests == 0 && unsent(conn) == 0 && !conn->subscriber)
		close_conn(conn);
}

static void
work_soon(struct conn *conn)
{
	event_active(conn->resume, EV_TIMEOUT, 0);
}

static void
do_upgrade(struct conn *conn)
{
	conn_upgrade_fn *fn = conn->upgrade;
	void *arg = conn->upgrade_arg;
	struct evbuffer *input = evbuffer_new();
	int fd = fcntl(bufferevent_getfd(conn->bev), F_DUPFD_CLOEXEC, 3);

	if (!input)
		abort();
	evbuffer_add_buffer(input, bufferevent_get_input(conn->bev));
	conn->upgrade = NULL;
	close_conn(conn);
	fn(arg, fd, input);
	evbuffer_free(input);
}

static void
on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;

	if (!conn->upgrade)
		work(conn);
	else if (conn->n_requests == 0 && unsent(conn) == 0)
		do_upgrade(conn);
}

static void
on_read(struct bufferevent *bev, void *arg)
{
	work(arg);
}

static void
on_written(struct bufferevent *bev, void *arg)
{
	work_soon(arg);
}

static void
on_end(struct bufferevent *bev, short what, void *arg)
{
	struct conn *conn = arg;

	/* Half closed, as by 'printf … | socat': the answers are still wanted. */
	if ((what & BEV_EVENT_EOF) && !sock_is_gone(bufferevent_getfd(bev))) {
		conn->ended = true;
		bufferevent_disable(bev, EV_READ);
		work_soon(conn);
		return;
	}
	close_conn(conn);
}

struct conn *
conn_new(struct event_base *base, int fd, const struct peer *peer, struct registry *registry,
	const struct conn_ops *ops, void *arg)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	_cleanup_json_ struct json_object *greeting = cij_message_greeting();

	if (!conn)
		abort();
	conn->peer = *peer;
	conn->registry = registry;
	conn->ops = ops;
	conn->arg = arg;
	conn->gone_fd = -1;
	conn->resume = event_new(base, -1, 0, on_resume, conn);
	conn->bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!conn->bev || !conn->resume)
		abort();
	bufferevent_setcb(conn->bev, on_read, on_written, on_end, conn);
	/* What is not worked on stays in the client's socket, but for one line and a bit. */
	bufferevent_setwatermark(conn->bev, EV_READ, 0, CIJ_REQUEST_LINE_MAX + 4096);
	bufferevent_enable(conn->bev, EV_READ | EV_WRITE);
	conn_send(conn, greeting);
	return conn;
}

const struct peer *
conn_peer(const struct conn *conn)
{
	return &conn->peer;
}

void
conn_send(struct conn *conn, struct json_object *msg)
{
	size_t len;
	const char *text = cij_message_line(msg, &len);

	bufferevent_write(conn->bev, text, len);
	bufferevent_write(conn->bev, "\n", 1);
}

void
conn_add_request(struct conn *conn, struct request *request)
{
	request->conn = conn;
	LIST_INSERT_HEAD(&conn->requests, request, link);
	conn->n_requests++;
}

void
conn_remove_request(struct conn *conn, struct request *request)
{
	LIST_REMOVE(request, link);
	conn->n_requests--;
	request->conn = NULL;
	work_soon(conn);
}

static bool
wants(const struct conn *conn, const char *guest)
{
	if (conn->globs.n == 0 || !guest)
		return true;
	for (size_t i = 0; i < conn->globs.n; i++)
		if (cij_glob_match(conn->globs.items[i], guest))
			return true;
	return false;
}

static void
on_event(void *arg, const char *guest, struct json_object *event)
{
	struct conn *conn = arg;

	if (wants(conn, guest) && unsent(conn) < EVENTS_MAX && !conn->upgrade)
		conn_send(conn, event);
}

void
conn_subscribe(struct conn *conn, const struct cij_list *globs)
{
	strv_clear(&conn->globs);
	for (size_t i = 0; i < globs->n; i++)
		strv_add(&conn->globs, ((char **)globs->items)[i]);
	if (!conn->subscriber)
		conn->subscriber = notify_subscribe(
			registry_services(conn->registry)->notify, on_event, conn);
}

int
conn_upgrade(struct conn *conn, conn_upgrade_fn *fn, void *arg, struct cij_error *err)
{
	if (conn->n_requests > 1 || conn->subscriber)
		return cij_error_set(err, CIJ_E_BAD_REQUEST,
			"%s on this connection: attach on one of its own",
			conn->subscriber ? "events are subscribed to"
					 : "other requests are under way");
	conn->upgrade = fn;
	conn->upgrade_arg = arg;
	bufferevent_disable(conn->bev, EV_READ);
	return 0;
}
