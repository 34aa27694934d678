#include "daemon/notify.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "proto/message.h"

struct subscriber {
	LIST_ENTRY(subscriber) link;
	notify_fn *fn;
	void *arg; /* weak */
};

struct notify {
	LIST_HEAD(, subscriber) subscribers;
	uint64_t seq;
};

struct notify *
notify_new(void)
{
	struct notify *notify = calloc(1, sizeof(*notify));

	if (!notify)
		abort();
	return notify;
}

void
notify_free(struct notify *notify)
{
	free(notify);
}

void
notify_send(struct notify *notify, const char *name, const char *guest, struct json_object *data)
{
	_cleanup_json_ struct json_object *event = NULL;
	struct subscriber *subscriber, *next;

	event = cij_message_event(name, data, ++notify->seq);
	for (subscriber = LIST_FIRST(&notify->subscribers); subscriber; subscriber = next) {
		next = LIST_NEXT(subscriber, link);
		subscriber->fn(subscriber->arg, guest, event);
	}
}

struct subscriber *
notify_subscribe(struct notify *notify, notify_fn *fn, void *arg)
{
	struct subscriber *subscriber = calloc(1, sizeof(*subscriber));

	if (!subscriber)
		abort();
	subscriber->fn = fn;
	subscriber->arg = arg;
	LIST_INSERT_HEAD(&notify->subscribers, subscriber, link);
	return subscriber;
}

void
notify_unsubscribe(struct subscriber *subscriber)
{
	if (!subscriber)
		return;
	LIST_REMOVE(subscriber, link);
	free(subscriber);
}
