/*
 * One client: bytes to lines, lines to requests, replies and events back. A client that does not
 * read is not read from; one that attaches to a console leaves with its descriptor.
 */
#ifndef DAEMON_CONN_H
#define DAEMON_CONN_H

#include <event2/buffer.h>
#include <event2/event.h>
#include <json-c/json.h>

#include "daemon/registry.h"
#include "daemon/request.h"

struct conn_ops {
	/* The connection is gone; called once. */
	void (*closed)(void *arg, struct conn *conn);
};

/* Takes over @fd of a client known as @peer, and greets it. */
struct conn *conn_new(struct event_base *base, int fd, const struct peer *peer,
	struct registry *registry, const struct conn_ops *ops, void *arg);
void conn_free(struct conn *conn);

const struct peer *conn_peer(const struct conn *conn);

/* Sends one message. */
void conn_send(struct conn *conn, struct json_object *msg);

/* Enters and leaves a request that is under way. */
void conn_add_request(struct conn *conn, struct request *request);
void conn_remove_request(struct conn *conn, struct request *request);

/* Sends events about guests that match one of @globs (all, when empty; copied) from now on. */
void conn_subscribe(struct conn *conn, const struct cij_list *globs);

/*
 * Turns the connection into a raw stream once @request is answered and all is sent: @fn gets the
 * descriptor and what came behind the request, and the conn is gone; or it gets -1, when the client
 * left before. -1 with BadRequest where other requests are under way.
 */
typedef void conn_upgrade_fn(void *arg, int fd, struct evbuffer *input);
int conn_upgrade(struct conn *conn, conn_upgrade_fn *fn, void *arg, struct cij_error *err);

#endif
