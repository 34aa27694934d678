/* One request of a client: decoded, allowed, answered exactly once. */
#ifndef DAEMON_REQUEST_H
#define DAEMON_REQUEST_H

#include <sys/queue.h>

#include "daemon/access.h"
#include "daemon/guest.h"
#include "daemon/registry.h"
#include "proto/json.h"

struct conn;
struct op;

struct request {
	LIST_ENTRY(request) link;
	struct conn *conn; /* weak; NULL when the client went away: the work goes on */
	const struct op *op;
	struct registry *registry; /* weak */
	struct guest *guest; /* weak; of operations that take one, until it is answered */
	char *guest_name;
	struct peer peer;
	enum access access; /* what the peer may do at most to the guest */
	struct json_object *id; /* NULL: none was given */
	void *args; /* the struct that op->table decoded to */
	const char *line; /* weak; as it came, while op->run() is called */
	size_t line_len;
	char *kept_line; /* of one that had to wait first; or NULL */
	char *what; /* for the journal, in the place of the operation's name; NULL: that */
	bool no_audit; /* it turned out to change nothing */
	double began; /* monotonic */
	/* The client went away: for work that is of no use then. May be NULL, may answer. */
	void (*gone)(struct request *request);
};

/* The argument's text as the client wrote it, inside op->run(). False when that cannot be told. */
bool request_raw_argument(
	const struct request *request, const char *name, const char **at, size_t *len);

/* Answers with @value (taken over) and frees the request. */
void request_reply(struct request *request, struct json_object *value);

/* Answers with an error and frees the request. */
void request_fail(struct request *request, const struct cij_error *err);

/* Answers with the guest as it is now, "already": true added where there was nothing to do. */
void request_reply_guest(struct request *request, bool already);

#endif
