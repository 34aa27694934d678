/* What a monitor may send: greeting, replies, events, garbage, in one piece or two; then EOF. */
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/qmp.h"
#include "proto/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct watch {
	struct qmp *qmp;
	int sent, answered, closed;
	bool free_in_event;
};

static void
on_reply(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct watch *watch = arg;

	watch->answered++;
	if (err && value)
		abort();
}

static void
on_ready(void *arg, struct json_object *greeting)
{
	struct watch *watch = arg;

	watch->sent += 2;
	qmp_send(watch->qmp, "query-status", NULL, 60, on_reply, watch);
	qmp_send_hmp(watch->qmp, "info", 0, on_reply, watch);
}

static void
on_event(void *arg, const char *name, struct json_object *data)
{
	struct watch *watch = arg;

	if (!watch->free_in_event)
		return;
	qmp_free(watch->qmp);
	watch->qmp = NULL;
}

static void
on_closed(void *arg, const struct cij_error *why)
{
	if (((struct watch *)arg)->closed++)
		abort();
}

static const struct qmp_ops ops = {on_ready, on_event, on_closed};

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct event_base *base;
	struct watch watch = {0};
	int fds[2];

	if (!base) {
		base = event_base_new();
		signal(SIGPIPE, SIG_IGN);
	}
	if (size < 2 || size > 60000 ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) < 0)
		return 0;
	/* Two bytes say where it is cut and what is freed when. */
	size_t cut = data[0] * size / 256;
	watch.free_in_event = data[1] & 1;
	data += 2, size -= 2;
	if (cut > size)
		cut = size;
	watch.qmp = qmp_new(base, fds[0], &ops, &watch);
	if (write(fds[1], data, cut) < 0)
		abort();
	for (int i = 0; i < 3; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	if (write(fds[1], data + cut, size - cut) < 0 && watch.qmp && !watch.closed)
		abort();
	close(fds[1]);
	for (int i = 0; i < 20 && watch.qmp && !watch.closed; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	qmp_free(watch.qmp);
	if (watch.answered != watch.sent) /* each exactly once, whatever came */
		abort();
	event_base_loop(base, EVLOOP_NONBLOCK);
	return 0;
}
