#include "daemon/service.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

/* Many guests that come and go at once make one line. */
#define STATUS_DELAY_USEC 200000

struct service {
	struct registry *registry; /* weak */
	struct subscriber *subscriber;
	struct event *status, *watchdog;
};

static void
on_status(evutil_socket_t fd, short what, void *arg)
{
	struct service *service = arg;
	struct registry_counts counts = registry_count(service->registry);

	sd_notifyf(0, "STATUS=%zu guests, %zu running", counts.total, counts.running);
}

static void
on_event(void *arg, const char *guest, struct json_object *event)
{
	struct service *service = arg;

	if (!event_pending(service->status, EV_TIMEOUT, NULL))
		event_add(service->status, &(struct timeval){0, STATUS_DELAY_USEC});
}

static void
on_watchdog(evutil_socket_t fd, short what, void *arg)
{
	sd_notify(0, "WATCHDOG=1");
}

/* Twice in the time that the service manager grants: sd_watchdog_enabled(3). */
static void
feed_watchdog(struct service *service, struct event_base *base)
{
	struct timeval tv;
	uint64_t usec;

	if (sd_watchdog_enabled(0, &usec) <= 0)
		return;
	usec /= 2;
	tv = (struct timeval){(time_t)(usec / 1000000), (long)(usec % 1000000)};
	service->watchdog = event_new(base, -1, EV_PERSIST, on_watchdog, service);
	if (!service->watchdog)
		abort();
	event_add(service->watchdog, &tv);
}

struct service *
service_new(struct registry *registry)
{
	struct service *service = calloc(1, sizeof(*service));
	const struct services *sv = registry_services(registry);

	if (!service)
		abort();
	service->registry = registry;
	service->status = evtimer_new(sv->base, on_status, service);
	if (!service->status)
		abort();
	feed_watchdog(service, sv->base);
	return service;
}

void
service_free(struct service *service)
{
	if (!service)
		return;
	notify_unsubscribe(service->subscriber);
	event_free(service->status);
	if (service->watchdog)
		event_free(service->watchdog);
	free(service);
}

void
service_ready(struct service *service)
{
	struct registry_counts counts = registry_count(service->registry);

	sd_notifyf(0, "READY=1\nSTATUS=%zu guests, %zu running", counts.total, counts.running);
	if (getenv("NOTIFY_SOCKET"))
		service->subscriber = notify_subscribe(
			registry_services(service->registry)->notify, on_event, service);
}

void
service_stopping(struct service *service)
{
	struct registry_counts counts = registry_count(service->registry);

	sd_notifyf(0, "STOPPING=1\nSTATUS=%zu guests go on", counts.running);
}

/* The last part of the path that the socket is bound to; "" for what has none. */
static const char *
bound_name(int fd, struct sockaddr_un *addr)
{
	socklen_t len = sizeof(*addr);
	const char *slash;

	*addr = (struct sockaddr_un){0};
	if (getsockname(fd, (struct sockaddr *)addr, &len) < 0 || addr->sun_family != AF_UNIX)
		return "";
	addr->sun_path[sizeof(addr->sun_path) - 1] = '\0';
	slash = strrchr(addr->sun_path, '/');
	return slash ? slash + 1 : addr->sun_path;
}

int
service_socket(const char *name)
{
	int n = sd_listen_fds(0);
	struct sockaddr_un addr;

	/* By its path, so that a socket unit without FileDescriptorName= does as well. */
	for (int fd = SD_LISTEN_FDS_START; fd < SD_LISTEN_FDS_START + n; fd++)
		if (sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) > 0 &&
			strcmp(bound_name(fd, &addr), name) == 0 &&
			fcntl(fd, F_SETFL, O_NONBLOCK) == 0)
			return fd;
	return -1;
}
