#include "daemon/metrics.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "daemon/clock.h"
#include "daemon/metrics_text.h"
#include "daemon/stats.h"

/* Everybody may connect: so many at once, the next wait in the socket's queue. */
#define CONNS_MAX 32

/* One that has not come to its end by then is ended: a scrape takes milliseconds. */
#define CONN_SECONDS 60

/* evhttp's own, between two bytes. */
#define SILENCE_SECONDS 15

#define HEADERS_MAX 8192
#define BODY_MAX 1024

/* How often connections are looked through, while there are some. */
#define SWEEP_SECONDS 1

/*
 * evhttp of libevent 2.1 bounds neither the number of its connections nor their life, and does not
 * tell when one ends. We hold a reference on each one's bufferevent: once evhttp has freed its own,
 * there are no callbacks any more.
 */
struct slot {
	struct bufferevent *bev; /* NULL: free */
	double deadline;
};

/* One GET, until the guests have told their numbers. */
struct pending {
	LIST_ENTRY(pending) link;
	struct metrics *metrics; /* weak; NULL: nobody waits any more */
	struct evhttp_request *http; /* weak */
};

struct metrics {
	struct registry *registry; /* weak */
	struct evhttp *http;
	struct evconnlistener *listener; /* weak: http's */
	struct event *sweep;
	struct slot slots[CONNS_MAX];
	size_t n_slots;
	LIST_HEAD(, pending) pending;
};

static bool
is_over(struct bufferevent *bev)
{
	bufferevent_data_cb on_read, on_write;
	bufferevent_event_cb on_event;
	void *arg;

	bufferevent_getcb(bev, &on_read, &on_write, &on_event, &arg);
	return !on_read && !on_write && !on_event;
}

/* Lets go of what has ended, ends what takes too long, and accepts again where there is room. */
static void
sweep(struct metrics *metrics)
{
	double now = clock_mono();

	for (size_t i = 0; i < CONNS_MAX; i++) {
		struct slot *slot = &metrics->slots[i];

		if (!slot->bev)
			continue;
		if (is_over(slot->bev)) {
			bufferevent_decref(steal_ptr(slot->bev));
			metrics->n_slots--;
		} else if (now >= slot->deadline) {
			shutdown(bufferevent_getfd(slot->bev), SHUT_RDWR);
		}
	}
	if (metrics->n_slots < CONNS_MAX)
		evconnlistener_enable(metrics->listener);
	if (metrics->n_slots > 0)
		event_add(metrics->sweep, &(struct timeval){SWEEP_SECONDS, 0});
}

static void
on_sweep(evutil_socket_t fd, short what, void *arg)
{
	sweep(arg);
}

/* evhttp has accepted a connection and asks for its bufferevent. */
static struct bufferevent *
on_connection(struct event_base *base, void *arg)
{
	struct metrics *metrics = arg;
	struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);

	if (!bev)
		abort();
	for (size_t i = 0; i < CONNS_MAX; i++) {
		struct slot *slot = &metrics->slots[i];

		if (slot->bev)
			continue;
		bufferevent_incref(bev);
		*slot = (struct slot){bev, clock_mono() + CONN_SECONDS};
		metrics->n_slots++;
		break;
	}
	if (metrics->n_slots == CONNS_MAX)
		evconnlistener_disable(metrics->listener);
	event_add(metrics->sweep, &(struct timeval){SWEEP_SECONDS, 0});
	return bev;
}

static void
on_refreshed(void *arg)
{
	struct pending *pending = arg;
	struct evbuffer *out;

	if (pending->metrics) {
		LIST_REMOVE(pending, link);
		out = evbuffer_new();
		if (!out)
			abort();
		metrics_print(pending->metrics->registry, out);
		evhttp_add_header(evhttp_request_get_output_headers(pending->http), "Content-Type",
			METRICS_CONTENT_TYPE);
		/* One whose client left meanwhile has no connection: it is only freed. */
		evhttp_send_reply(pending->http, HTTP_OK, "OK", out);
		evbuffer_free(out);
	}
	free(pending);
}

static void
on_get_metrics(struct evhttp_request *http, void *arg)
{
	static const struct cij_list all = {0};
	struct metrics *metrics = arg;
	struct pending *pending = calloc(1, sizeof(*pending));

	if (!pending)
		abort();
	pending->metrics = metrics;
	pending->http = http;
	LIST_INSERT_HEAD(&metrics->pending, pending, link);
	registry_scan(metrics->registry);
	stats_refresh(metrics->registry, &all, on_refreshed, pending);
}

static void
on_get_root(struct evhttp_request *http, void *arg)
{
	struct evbuffer *out = evbuffer_new();

	if (!out)
		abort();
	evbuffer_add_printf(out, "cijqemud: Prometheus' metrics are at /metrics\n");
	evhttp_add_header(evhttp_request_get_output_headers(http), "Content-Type",
		"text/plain; charset=utf-8");
	evhttp_send_reply(http, HTTP_OK, "OK", out);
	evbuffer_free(out);
}

struct metrics *
metrics_new(struct event_base *base, int run_fd, bool for_all, struct registry *registry,
	struct cij_error *err)
{
	int fd = sock_listen_at(run_fd, METRICS_SOCKET_NAME, for_all ? 0666 : 0600, err);
	struct evhttp_bound_socket *bound;
	struct metrics *metrics;

	if (fd < 0)
		return NULL;
	metrics = calloc(1, sizeof(*metrics));
	if (!metrics || !(metrics->http = evhttp_new(base)) ||
		!(metrics->sweep = evtimer_new(base, on_sweep, metrics)))
		abort();
	metrics->registry = registry;
	evhttp_set_allowed_methods(metrics->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
	evhttp_set_timeout(metrics->http, SILENCE_SECONDS);
	evhttp_set_max_headers_size(metrics->http, HEADERS_MAX);
	evhttp_set_max_body_size(metrics->http, BODY_MAX);
	evhttp_set_bevcb(metrics->http, on_connection, metrics);
	evhttp_set_cb(metrics->http, "/metrics", on_get_metrics, metrics);
	evhttp_set_cb(metrics->http, "/", on_get_root, NULL);
	bound = evhttp_accept_socket_with_handle(metrics->http, fd);
	if (!bound)
		abort();
	metrics->listener = evhttp_bound_socket_get_listener(bound);
	return metrics;
}

void
metrics_free(struct metrics *metrics)
{
	struct pending *pending;

	if (!metrics)
		return;
	while ((pending = LIST_FIRST(&metrics->pending))) {
		LIST_REMOVE(pending, link);
		pending->metrics = NULL;
		/* Where its client has left it is nobody's but ours. */
		if (!evhttp_request_get_connection(pending->http))
			evhttp_request_free(pending->http);
	}
	evhttp_free(metrics->http);
	for (size_t i = 0; i < CONNS_MAX; i++)
		if (metrics->slots[i].bev)
			bufferevent_decref(metrics->slots[i].bev);
	event_free(metrics->sweep);
	free(metrics);
}
