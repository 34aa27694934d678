#include "client/link.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "cijqemu/protocol.h"
#include "client/clock.h"
#include "client/out.h"
#include "proto/addr.h"
#include "proto/message.h"

/* Room for a short reply; the buffer doubles as long ones come in. */
#define LINK_BUFFER_MIN (16 * 1024)

/* A UNIX socket of this machine answers at once or not at all. */
static int
connect_here(const char *socket, int64_t deadline, struct cij_error *err)
{
	return cij_daemon_connect(socket, err);
}

int (*link_connect)(const char *socket, int64_t deadline, struct cij_error *err) = connect_here;

int
link_open(struct link *l, const char *socket, int64_t deadline, struct cij_error *err)
{
	*l = (struct link)LINK_INIT;
	l->deadline = deadline;
	l->fd = link_connect(socket, deadline, err);
	return l->fd < 0 ? -1 : 0;
}

void
link_close(struct link *l)
{
	if (l->fd >= 0)
		close(l->fd);
	free(l->buf);
	*l = (struct link)LINK_INIT;
}

void
reply_clear(struct reply *r)
{
	json_object_put(r->msg);
	free(r->line);
	*r = (struct reply){0};
}

const char *
reply_text(const struct reply *r, size_t *len)
{
	const char *at;

	if (cij_json_raw_member(r->line, r->len, "return", &at, len))
		return at;
	*len = 4;
	return "null";
}

void
reply_print(const struct reply *r)
{
	size_t len;
	const char *text = reply_text(r, &len);

	out_json(text, len, out_colours(stdout));
}

static int
lost(struct cij_error *err, int errnum)
{
	if (errnum)
		cij_error_errno(
			err, CIJ_E_UNREACHABLE, errnum, "lost the connection to the daemon");
	else
		cij_error_set(err, CIJ_E_UNREACHABLE, "the daemon closed the connection");
	return cij_error_hint(err, "it may have been restarted: guests live on, try again");
}

static int
nonsense(struct cij_error *err, const char *what)
{
	return cij_error_set(
		err, CIJ_E_PROTOCOL, "what answers at the socket is no cijqemud: %s", what);
}

/* Makes room for more bytes and reads what is there. Returns 1, 0 for nothing there, or -1. */
static int
fill(struct link *l, struct cij_error *err)
{
	ssize_t n;

	if (l->start > 0 && l->start + l->len == l->size) {
		memmove(l->buf, l->buf + l->start, l->len);
		l->start = 0;
	}
	if (l->start + l->len == l->size) {
		l->size = l->size ? l->size * 2 : LINK_BUFFER_MIN;
		l->buf = realloc(l->buf, l->size);
		if (!l->buf)
			abort();
	}
	n = recv(l->fd, l->buf + l->start + l->len, l->size - l->start - l->len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return lost(err, n < 0 ? errno : 0);
	l->len += n;
	return 1;
}

/*
 * Takes the next line out of the buffer: its length without the newline, -1 when there is no whole
 * one. The line stays in place until the buffer is filled again.
 */
static ssize_t
take_line(struct link *l, const char **line)
{
	const char *at = l->buf + l->start, *newline;
	size_t n;

	newline = l->len > l->scanned ? memchr(at + l->scanned, '\n', l->len - l->scanned) : NULL;
	if (!newline) {
		l->scanned = l->len;
		return -1;
	}
	n = newline - at;
	l->start += n + 1;
	l->len -= n + 1;
	l->scanned = 0;
	*line = at;
	return (ssize_t)n;
}

/* The daemon's first line: who it is and what it speaks. */
static int
check_greeting(struct link *l, struct json_object *msg, struct cij_error *err)
{
	struct json_object *body = cij_json_get(msg, "cijqemud");
	const char *version = cij_json_str(body, "version");
	int64_t api = cij_json_int(body, "api", -1);

	if (cij_json_get(msg, "error")) /* it has no room for us, and says so */
		return cij_message_to_error(msg, err);
	if (!body || api < 0)
		return nonsense(err, "its greeting is another one");
	if (api != CIJ_API) {
		cij_error_set(err, CIJ_E_PROTOCOL,
			"cijqemud %s speaks version %lld of the protocol, this cijqemuctl version "
			"%d",
			version ? version : "(unknown)", (long long)api, CIJ_API);
		return cij_error_hint(err, "install the two from the same release");
	}
	l->greeted = true;
	return 0;
}

/* Makes sense of one line. Returns 1, 0 for one that is not for us, or -1. */
static int
take_message(struct link *l, const char *line, size_t len, struct reply *r, struct cij_error *err)
{
	_cleanup_json_ struct json_object *msg = cij_json_parse(
		line, len, CIJ_REPLY_DEPTH_MAX, err);

	if (!json_object_is_type(msg, json_type_object)) {
		char why[CIJ_ERROR_DESC_MAX];

		snprintf(
			why, sizeof(why), "%s", err->class == CIJ_E_NONE ? "no object" : err->desc);
		return nonsense(err, why);
	}
	if (!l->greeted)
		return check_greeting(l, msg, err);
	*r = (struct reply){.id = cij_json_int(msg, "id", 0)};
	if (json_object_object_get_ex(msg, "return", &r->value))
		r->kind = REPLY_RETURN;
	else if (json_object_object_get_ex(msg, "error", NULL))
		r->kind = REPLY_ERROR;
	else if (cij_json_str(msg, "event"))
		r->kind = REPLY_EVENT, r->value = cij_json_get(msg, "data");
	else
		return 0; /* a later daemon may have more to say */
	r->line = malloc(len + 1);
	if (!r->line)
		abort();
	memcpy(r->line, line, len);
	r->line[len] = '\0';
	r->len = len;
	r->msg = steal_ptr(msg);
	return 1;
}

int
link_next(struct link *l, int64_t deadline, struct reply *r, struct cij_error *err)
{
	for (;;) {
		struct pollfd wait = {.fd = l->fd, .events = POLLIN};
		const char *line;
		ssize_t n = take_line(l, &line);
		int rc;

		if (n >= 0) {
			rc = take_message(l, line, n, r, err);
			if (rc)
				return rc;
			continue;
		}
		if (l->len > CIJ_REPLY_LINE_MAX)
			return nonsense(err, "a line without end");
		rc = fill(l, err);
		if (rc < 0)
			return -1;
		if (rc > 0)
			continue;
		if (poll(&wait, 1, clock_left(deadline)) == 0)
			return 0;
	}
}

/* Sends what fits; takes in what comes meanwhile, so that neither side waits for the other. */
static int
send_all(struct link *l, const char *data, size_t len, struct cij_error *err)
{
	while (len > 0) {
		struct pollfd wait = {.fd = l->fd, .events = POLLIN | POLLOUT};
		ssize_t n = send(l->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n >= 0) {
			data += n;
			len -= n;
			continue;
		}
		if (errno == EPIPE || errno == ECONNRESET)
			return 0; /* its last words may be there to be read: they say more */
		if (errno != EAGAIN && errno != EINTR)
			return lost(err, errno);
		if (poll(&wait, 1, clock_left(l->deadline)) == 0)
			return cij_error_set(
				err, CIJ_E_TIMEOUT, "the daemon did not take the request in time");
		if (wait.revents & POLLIN && fill(l, err) < 0)
			return -1;
	}
	return 0;
}

int64_t
link_send(struct link *l, const char *op, struct json_object *args, struct cij_error *err)
{
	_cleanup_json_ struct json_object *msg = cij_message_request(op, args, ++l->last_id);
	_cleanup_free_ char *line = NULL;
	const char *text;
	size_t len;

	text = cij_message_line(msg, &len);
	if (len > CIJ_REQUEST_LINE_MAX)
		return cij_error_set(err, CIJ_E_BAD_REQUEST,
			"a request of %zu KiB: the daemon takes up to %d", len / 1024,
			CIJ_REQUEST_LINE_MAX / 1024);
	line = malloc(len + 1);
	if (!line)
		abort();
	memcpy(line, text, len);
	line[len] = '\n';
	return send_all(l, line, len + 1, err) < 0 ? -1 : l->last_id;
}

int
link_receive(struct link *l, int64_t id, struct reply *r, struct cij_error *err)
{
	for (;;) {
		int rc = link_next(l, l->deadline, r, err);

		if (rc < 0)
			return -1;
		if (rc == 0)
			return cij_error_set(
				err, CIJ_E_TIMEOUT, "the daemon did not answer in time");
		/* An error without an id is about a line that it could not read: ours. */
		if (r->kind == REPLY_ERROR && (r->id == id || r->id == 0)) {
			cij_message_to_error(r->msg, err);
			reply_clear(r);
			return -1;
		}
		if (r->kind == REPLY_RETURN && r->id == id)
			return 0;
		reply_clear(r);
	}
}

int
link_call(struct link *l, const char *op, struct json_object *args, struct reply *r,
	struct cij_error *err)
{
	int64_t id = link_send(l, op, args, err);

	return id < 0 ? -1 : link_receive(l, id, r, err);
}

int
call_daemon(struct call *call, double patience, const char *op, struct json_object *args,
	struct reply *r, struct cij_error *err)
{
	double seconds = call->timeout < 0 ? patience : call->timeout;
	_cleanup_link_ struct link l = LINK_INIT;

	if (link_open(&l, call->socket, clock_deadline(seconds), err) < 0) {
		json_object_put(args);
		return -1;
	}
	return link_call(&l, op, args, r, err);
}

struct json_object *
guest_arguments(const char *guest)
{
	struct json_object *args = json_object_new_object();

	cij_json_add_str(args, "guest", guest);
	return args;
}

struct json_object *
globs_arguments(const char *const *globs, size_t n)
{
	struct json_object *args = json_object_new_object(), *list;

	if (n == 0)
		return args;
	list = json_object_new_array();
	for (size_t i = 0; i < n; i++)
		json_object_array_add(list, json_object_new_string(globs[i]));
	json_object_object_add(args, "guests", list);
	return args;
}

bool
link_has_raw(const struct link *l)
{
	return l->len > 0;
}

ssize_t
link_read_raw(struct link *l, void *buf, size_t size)
{
	size_t n = l->len < size ? l->len : size;

	if (n == 0)
		return recv(l->fd, buf, size, MSG_DONTWAIT);
	memcpy(buf, l->buf + l->start, n);
	l->start += n;
	l->len -= n;
	l->scanned = 0;
	return (ssize_t)n;
}
