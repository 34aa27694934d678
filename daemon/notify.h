/* Events: from whoever knows something to whoever has subscribed. */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

#include <json-c/json.h>

struct notify;
struct subscriber;

/* @event: the whole message, weak; @guest: whom it is about, or NULL. */
typedef void notify_fn(void *arg, const char *guest, struct json_object *event);

struct notify *notify_new(void);
void notify_free(struct notify *notify);

/* Sends event @name about @guest (may be NULL); @data is taken over. Sequence numbers have no gaps.
 */
void notify_send(
	struct notify *notify, const char *name, const char *guest, struct json_object *data);

struct subscriber *notify_subscribe(struct notify *notify, notify_fn *fn, void *arg);

/* NULL is fine. Not from inside the subscriber's own call. */
void notify_unsubscribe(struct subscriber *subscriber);

#endif
