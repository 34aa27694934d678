/* One connection to the daemon: requests out, replies and events in. */
#ifndef CLIENT_LINK_H
#define CLIENT_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/command.h"
#include "proto/json.h"

struct link {
	int fd; /* -1 = not open */
	bool greeted; /* the daemon has said who it is */
	int64_t last_id;
	int64_t deadline; /* of every wait for a reply; CLOCK_NEVER */
	char *buf; /* received and not used yet: len bytes from start on */
	size_t start, len, size;
	size_t scanned; /* bytes of them known to hold no newline */
};

#define LINK_INIT \
	{ \
		.fd = -1 \
	}

enum reply_kind { REPLY_RETURN, REPLY_ERROR, REPLY_EVENT };

/* A message of the daemon's. */
struct reply {
	enum reply_kind kind;
	int64_t id; /* of the request that it answers; 0 = none */
	struct json_object *msg;
	struct json_object *value; /* weak: "return", or an event's "data"; may be NULL */
	char *line; /* as it came, newline cut off */
	size_t len;
};

/*
 * How the daemon is reached: as cij_daemon_connect(), until --host puts another way in its place.
 */
extern int (*link_connect)(const char *socket, int64_t deadline, struct cij_error *err);

/* Connects; the daemon's greeting is checked when the first reply is read. */
int link_open(struct link *link, const char *socket, int64_t deadline, struct cij_error *err);
void link_close(struct link *link);
#define _cleanup_link_ _cleanup_(link_close)

void reply_clear(struct reply *reply);
#define _cleanup_reply_ _cleanup_(reply_clear)

/* The text of "return" as the daemon wrote it; weak. */
const char *reply_text(const struct reply *reply, size_t *len);
/* Prints that on stdout, as --json does. */
void reply_print(const struct reply *reply);

/* Sends a request (@args is taken over; may be NULL). Returns its id, or -1. */
int64_t link_send(
	struct link *link, const char *op, struct json_object *args, struct cij_error *err);

/*
 * The next message, waiting for it until @deadline at most. Returns 1, 0 when none came in time,
 * -1 with Unreachable when the daemon went away and Protocol when it talks nonsense.
 */
int link_next(struct link *link, int64_t deadline, struct reply *reply, struct cij_error *err);

/* Waits for the reply to request @id; the daemon's error becomes @err. Drops all others. */
int link_receive(struct link *link, int64_t id, struct reply *reply, struct cij_error *err);

/* Sends a request and waits for its reply. */
int link_call(struct link *link, const char *op, struct json_object *args, struct reply *reply,
	struct cij_error *err);

/* Opens a connection for one request and makes it: most commands are that. */
int call_daemon(struct call *call, double patience, const char *op, struct json_object *args,
	struct reply *reply, struct cij_error *err);

/* {"guest": @guest} */
struct json_object *guest_arguments(const char *guest);
/* {"guests": [@globs]}; {}, which means all, where @n is 0. */
struct json_object *globs_arguments(const char *const *globs, size_t n);

/*
 * Behind a reply that turned the connection into a stream: reads raw bytes, first what came with
 * the reply. As recv(): 0 = end, -1 with errno, EAGAIN too.
 */
ssize_t link_read_raw(struct link *link, void *buf, size_t size);

/* Whether raw bytes are there already, so that poll() must not be asked. */
bool link_has_raw(const struct link *link);

#endif
