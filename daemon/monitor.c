#include "daemon/monitor.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/monitor_impl.h"
#include "daemon/strv.h"
#include "daemon/users.h"
#include "proto/json.h"

/* Clients of one guest at once, in all and of one user: nobody can take it from the others. */
#define CLIENTS_MAX 512
#define CLIENTS_PER_USER_MAX 256

/* Answers that a client has not read: beyond this its commands wait. Those under way go over it. */
#define OUTPUT_MAX (256 * 1024)

/* Events that a client has not read: beyond this it is closed, rather than told half the truth. */
#define EVENTS_MAX (1024 * 1024)

/* When QEMU has gone, clients have so long to read what was said last. */
#define LAST_WORDS_SECONDS 5

/* What a socket holds, and more: a client that goes on sending is not listened to for ever. */
#define UNREAD_MAX (1024 * 1024)

/* Clients that outlive their monitor; one loop a process. */
static LIST_HEAD(, client) leaving = LIST_HEAD_INITIALIZER(leaving);

static void
mark(struct client *client)
{
	if (client->dirty || !client->monitor)
		return;
	client->dirty = true;
	TAILQ_INSERT_TAIL(&client->monitor->dirty, client, turn);
}

static void
pending_free(struct pending *pending)
{
	TAILQ_REMOVE(&pending->client->pending, pending, link);
	pending->client->n_pending--;
	free(pending->what);
	free(pending);
}

static void
client_free(struct client *client)
{
	struct pending *pending;

	if (client->dirty)
		TAILQ_REMOVE(&client->monitor->dirty, client, turn);
	if (client->monitor)
		client->monitor->n_clients--;
	LIST_REMOVE(client, link);
	qmp_lane_free(client->lane);
	while ((pending = TAILQ_FIRST(&client->pending)))
		pending_free(pending);
	if (client->deadline)
		event_free(client->deadline);
	wire_close(&client->wire);
	qmp_scan_clear(&client->scan);
	free(client->rest);
	free(client);
}

/* What is written */

void
client_write(struct client *client, const char *data, size_t len)
{
	wire_add(&client->wire, data, len);
	mark(client);
}

struct pending *
client_pending(struct client *client, const char *text, size_t len)
{
	struct pending *pending = calloc(1, sizeof(*pending) + len + 1);

	if (!pending)
		abort();
	pending->client = client;
	pending->since = clock_mono();
	pending->len = len;
	if (len)
		memcpy(pending->text, text, len);
	TAILQ_INSERT_TAIL(&client->pending, pending, link);
	client->n_pending++;
	return pending;
}

/* Gives the answers of ours whose turn has come. */
static void
give_answers(struct client *client)
{
	struct pending *pending;

	while ((pending = TAILQ_FIRST(&client->pending)) && pending->is_answer) {
		client_write(client, pending->text, pending->len);
		pending_free(pending);
	}
}

void
client_answer(struct client *client, const char *text, size_t len)
{
	client_pending(client, text, len)->is_answer = true;
	give_answers(client);
}

void
client_deed(
	const struct client *client, const char *what, const struct cij_error *err, double seconds)
{
	const struct monitor *monitor = client->monitor;

	if (monitor && monitor->ops)
		monitor->ops->deed(monitor->ops_arg, &client->peer, what, err, seconds);
	else
		log_info("uid %u pid %d: %s %s: %s (%.0f ms)", (unsigned)client->uid,
			(int)client->pid, what, monitor ? monitor->guest : "",
			err ? err->desc : "done", seconds * 1000);
}

/* A line in the journal for each command that changes something. */
static void
audit(const struct pending *pending, const struct qmp_reply *reply, const struct cij_error *err)
{
	const struct client *client = pending->client;
	struct cij_error own;

	if (!pending->what)
		return;
	if (!err && reply && reply->kind == QMP_LINE_ERROR) {
		qmp_reply_to_error(reply, &own);
		err = &own;
	}
	client_deed(client, pending->what, err, clock_mono() - pending->since);
}

static void
on_reply(void *arg, const struct qmp_reply *reply, const struct cij_error *err)
{
	struct pending *pending = arg;
	struct client *client = pending->client;

	audit(pending, reply, err);
	client->kind->answer(client, pending, reply, err);
	pending_free(pending);
	give_answers(client);
	mark(client);
}

void
client_send(struct pending *pending, struct span command, struct span arguments, bool has_id)
{
	if (pending->client->over)
		on_reply(pending, NULL, pending->client->over);
	else
		qmp_lane_send(pending->client->lane, command, arguments, has_id, on_reply, pending);
}

/* What is read */

static bool
is_full(const struct client *client)
{
	return client->n_pending >= client->kind->pending_max ||
	       wire_unsent(&client->wire) >= OUTPUT_MAX;
}

static void
keep_rest(struct client *client, const char *data, size_t len)
{
	client->rest = realloc(client->rest, client->rest_len + len + 1);
	if (!client->rest)
		abort();
	memcpy(client->rest + client->rest_len, data, len);
	client->rest_len += len;
}

/* Takes what may be taken of @len bytes; returns how much. */
static size_t
take(struct client *client, const char *data, size_t len)
{
	size_t done = 0;

	while (done < len && !client->failed && !is_full(client)) {
		size_t n = client->kind->take(client, data + done, len - done, client->ended);

		if (n == 0)
			break;
		done += n;
	}
	return done;
}

static void
take_rest(struct client *client)
{
	size_t n = take(client, client->rest, client->rest_len);

	client->rest_len -= n;
	if (client->rest_len > 0) {
		memmove(client->rest, client->rest + n, client->rest_len);
	} else {
		free(client->rest);
		client->rest = NULL;
	}
}

static void
on_input(void *arg, const char *data, size_t len)
{
	struct client *client = arg;
	struct qmp *qmp = client->monitor ? client->monitor->qmp : NULL;

	if (!qmp)
		return; /* nobody is there to be told */
	client->last = clock_mono();
	if (client->rest_len > 0) {
		keep_rest(client, data, len);
		take_rest(client);
	} else {
		size_t n = take(client, data, len);

		if (n < len)
			keep_rest(client, data + n, len - n);
	}
	mark(client);
	qmp_push(qmp);
	/* What is answered without QEMU goes out from here. */
	wire_flush(&client->wire);
	wire_pause(&client->wire, is_full(client));
}

/* One client's turn: sends, goes on with what had to wait, and closes what is over. */
static void
serve(struct client *client)
{
	TAILQ_REMOVE(&client->monitor->dirty, client, turn);
	client->dirty = false;
	wire_flush(&client->wire);
	if (!is_full(client) && client->rest_len > 0)
		take_rest(client);
	qmp_lane_hold(client->lane, wire_unsent(&client->wire) >= OUTPUT_MAX);
	wire_pause(&client->wire, is_full(client));
	if (client->failed ||
		(client->ended && client->n_pending == 0 && wire_unsent(&client->wire) == 0))
		client_free(client);
}

static void
serve_all(struct monitor *monitor)
{
	struct client *client;

	while ((client = TAILQ_FIRST(&monitor->dirty)))
		serve(client);
	qmp_push(monitor->qmp);
}

static void
on_drained(void *arg)
{
	struct client *client = arg;

	client->events_unread = 0;
	if (!client->monitor) {
		client_free(client);
		return;
	}
	mark(client);
	serve_all(client->monitor);
}

static void
on_ended(void *arg, bool gone)
{
	struct client *client = arg;

	client->ended = true;
	if (gone) {
		client_free(client);
		return;
	}
	if (!client->monitor)
		return;
	if (!is_full(client))
		take_rest(client);
	mark(client);
	serve_all(client->monitor);
}

static const struct wire_ops client_wire_ops = {on_input, on_drained, on_ended};

const struct qmp_rights *
client_rights(struct client *client, struct cij_error *why)
{
	const struct monitor *monitor = client->monitor;

	why->class = CIJ_E_NONE;
	if (monitor && monitor->ops)
		client->rights.access = monitor->ops->access(monitor->ops_arg, &client->peer, why);
	return &client->rights;
}

/* The monitor */

static void
on_event(void *arg, const char *line, size_t len)
{
	struct monitor *monitor = arg;
	struct client *client;
	struct cij_error why;

	LIST_FOREACH (client, &monitor->clients, link) {
		if (!client->kind->events || !client->negotiated ||
			client_rights(client, &why)->access < ACCESS_OPERATE)
			continue;
		if (wire_unsent(&client->wire) > 0)
			client->events_unread += len + 2;
		if (client->events_unread > EVENTS_MAX && !client->failed) {
			log_warn("guest '%s': pid %d on its monitor did not read %zu bytes of "
				 "events: closed",
				monitor->guest, (int)client->pid, client->events_unread);
			client->failed = true;
		}
		client_write(client, line, len);
		client_write(client, "\r\n", 2);
	}
}

static void
on_flush(void *arg)
{
	serve_all(arg);
}

static const struct qmp_tap_ops monitor_tap_ops = {on_event, on_flush};

struct monitor *
monitor_new(struct event_base *base, struct qmp *qmp, const char *guest)
{
	struct monitor *monitor = calloc(1, sizeof(*monitor));

	if (!monitor)
		abort();
	monitor->base = base;
	monitor->qmp = qmp;
	monitor->guest = str_copy(guest);
	LIST_INIT(&monitor->clients);
	TAILQ_INIT(&monitor->dirty);
	qmp_set_tap(qmp, &monitor_tap_ops, monitor);
	return monitor;
}

void
monitor_set_ops(struct monitor *monitor, const struct monitor_ops *ops, void *arg)
{
	monitor->ops = ops;
	monitor->ops_arg = arg;
}

struct json_object *
monitor_clients_to_json(const struct monitor *monitor)
{
	struct json_object *list = json_object_new_array();
	struct client *client;
	struct cij_error why;

	if (!monitor)
		return list;
	LIST_FOREACH (client, &monitor->clients, link) {
		struct json_object *item = json_object_new_object();
		const struct qmp_rights *rights = client_rights(client, &why);
		bool reads = rights->read_only || rights->access < ACCESS_OWN;

		cij_json_add_int(item, "uid", client->uid);
		cij_json_add_str(item, "user", user_name(client->uid));
		cij_json_add_int(item, "pid", client->pid);
		cij_json_add_str(item, "kind", client->kind == &client_qmp ? "qmp" : "hmp");
		cij_json_add_str(item, "mode",
			rights->access < ACCESS_OPERATE ? "none"
			: reads                         ? "queries"
							: "all");
		cij_json_add_int(item, "pending", (int64_t)client->n_pending);
		cij_json_add_int(item, "idle_s", (int64_t)(clock_mono() - client->last));
		json_object_array_add(list, item);
	}
	return list;
}

static const struct client_kind *
kind_of(enum monitor_kind kind)
{
	switch (kind) {
	case MONITOR_QMP:
		return &client_qmp;
	case MONITOR_HMP:
		return &client_hmp;
	}
	return NULL;
}

static size_t
count_of(const struct monitor *monitor, uid_t uid)
{
	const struct client *client;
	size_t n = 0;

	LIST_FOREACH (client, &monitor->clients, link)
		n += client->uid == uid;
	return n;
}

void
monitor_add(struct monitor *monitor, enum monitor_kind kind, int fd, const struct peer *peer,
	const struct qmp_rights *rights, const char *data, size_t len)
{
	struct client *client;

	if (monitor->n_clients >= CLIENTS_MAX ||
		(peer->uid != 0 && count_of(monitor, peer->uid) >= CLIENTS_PER_USER_MAX)) {
		struct cij_error err;

		cij_error_set(&err, CIJ_E_NO_RESOURCES, "too many clients of this monitor");
		monitor_turn_away(kind, fd, &err);
		return;
	}
	client = calloc(1, sizeof(*client));
	if (!client)
		abort();
	client->monitor = monitor;
	client->kind = kind_of(kind);
	client->rights = *rights;
	client->uid = peer->uid;
	client->pid = peer->pid;
	client->peer = *peer;
	client->last = clock_mono();
	client->cpu = client->next_cpu = -1;
	client->lane = qmp_lane_new(monitor->qmp);
	TAILQ_INIT(&client->pending);
	LIST_INSERT_HEAD(&monitor->clients, client, link);
	monitor->n_clients++;
	wire_open(&client->wire, monitor->base, fd, &client_wire_ops, client);
	client->kind->greet(client);
	wire_flush(&client->wire);
	if (len > 0)
		on_input(client, data, len);
}

static void
on_leaving_deadline(evutil_socket_t fd, short what, void *arg)
{
	client_free(arg);
}

/* What has been sent to a QEMU that is no more, and not been read yet, fails as the rest. */
static void
fail_unread(struct client *client)
{
	size_t left = UNREAD_MAX;
	char buf[4096];
	ssize_t n;

	take_rest(client);
	while (left > 0 && client->rest_len == 0 && !is_full(client) && !client->ended &&
		(n = recv(client->wire.fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		left -= (size_t)n < left ? (size_t)n : left;
		keep_rest(client, buf, n);
		take_rest(client);
	}
}

/* QEMU has gone: fails what waits, and closes as soon as that is sent. */
static void
dismiss(struct client *client, const struct cij_error *why)
{
	struct monitor *monitor = client->monitor;
	struct pending *pending;

	/* First, so that none of them comes back. */
	qmp_lane_free(steal_ptr(client->lane));
	while ((pending = TAILQ_FIRST(&client->pending))) {
		if (pending->is_answer) {
			give_answers(client);
			continue;
		}
		audit(pending, NULL, why);
		client->kind->answer(client, pending, NULL, why);
		pending_free(pending);
	}
	client->over = why;
	fail_unread(client);
	wire_flush(&client->wire);
	if (wire_unsent(&client->wire) == 0) {
		client_free(client);
		return;
	}
	if (client->dirty)
		TAILQ_REMOVE(&monitor->dirty, client, turn);
	client->dirty = false;
	LIST_REMOVE(client, link);
	LIST_INSERT_HEAD(&leaving, client, link);
	client->monitor = NULL;
	client->over = NULL;
	client->deadline = evtimer_new(monitor->base, on_leaving_deadline, client);
	if (!client->deadline)
		abort();
	event_add(client->deadline, &(struct timeval){LAST_WORDS_SECONDS, 0});
}

void
monitor_free(struct monitor *monitor, const struct cij_error *why)
{
	struct client *client;

	if (!monitor)
		return;
	qmp_set_tap(monitor->qmp, NULL, NULL);
	while ((client = LIST_FIRST(&monitor->clients)))
		dismiss(client, why);
	free(monitor->guest);
	free(monitor);
}

void
monitor_forget_all(void)
{
	struct client *client;

	while ((client = LIST_FIRST(&leaving)))
		client_free(client);
}
