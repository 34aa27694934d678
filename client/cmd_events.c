/* events: what happens, as it happens. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/args.h"
#include "client/clock.h"
#include "client/history.h"
#include "client/link.h"
#include "client/out.h"
#include "client/view.h"
#include "proto/message.h"
#include "proto/text.h"

#define SUBSCRIBE_SECONDS 30

/* How long a daemon that went away is waited for, and how often it is looked for. */
#define AWAY_SECONDS 15
#define RETRY_MS 200

/* "2026-11-22T10:40:05.123Z" */
static void
print_time(struct json_object *msg)
{
	struct json_object *stamp = cij_json_get(msg, "timestamp");
	time_t seconds = cij_json_int(stamp, "seconds", 0);
	int64_t micros = cij_json_int(stamp, "microseconds", 0);
	struct tm tm;
	char text[32];

	if (gmtime_r(&seconds, &tm) && strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm))
		printf("%s.%03dZ", text, (int)(micros / 1000 % 1000));
}

/* "guest=emujoe" is said already; all other members follow as KEY=VALUE. */
static void
print_data(struct json_object *data)
{
	char clean[1024];

	if (!json_object_is_type(data, json_type_object))
		return;
	json_object_object_foreach (data, key, value) {
		if (strcmp(key, "guest") == 0 || !value)
			continue;
		if (strcmp(key, "uid") == 0 && json_object_is_type(value, json_type_int)) {
			printf(" user=%s", user_name(json_object_get_int64(value)));
			continue;
		}
		printf(" %s=%s", key,
			cij_text_clean(json_object_is_type(value, json_type_string)
					       ? json_object_get_string(value)
					       : json_object_to_json_string_ext(value,
							 JSON_C_TO_STRING_PLAIN |
								 JSON_C_TO_STRING_NOSLASHESCAPE),
				clean, sizeof(clean)));
	}
}

static void
print_event(struct call *call, const struct reply *r)
{
	const char *guest = cij_json_str(r->value, "guest");
	char clean[128];

	if (call->json) {
		out_json(r->line, r->len, false);
		return;
	}
	print_time(r->msg);
	printf(" %s", cij_text_clean(cij_json_str(r->msg, "event"), clean, sizeof(clean)));
	if (guest)
		printf(" %s", cij_text_clean(guest, clean, sizeof(clean)));
	print_data(r->value);
	putchar('\n');
}

/* Who names a guest means one that is there; what a glob stands for may still come. */
static int
check_named(struct call *call, struct cij_error *err)
{
	_cleanup_link_ struct link l = LINK_INIT;

	if (link_open(&l, call->socket, clock_deadline(SUBSCRIBE_SECONDS), err) < 0)
		return -1;
	for (size_t i = 0; i < call->n_args; i++) {
		_cleanup_reply_ struct reply r = {0};

		if (!cij_is_glob(call->args[i]) &&
			link_call(&l, "query-guest", guest_arguments(call->args[i]), &r, err) < 0)
			return -1;
	}
	return 0;
}

static int
subscribe(struct call *call, struct link *l, struct cij_error *err)
{
	_cleanup_reply_ struct reply r = {0};

	if (link_open(l, call->socket, clock_deadline(SUBSCRIBE_SECONDS), err) < 0)
		return -1;
	return link_call(l, "events-subscribe",
		globs_arguments((const char *const *)call->args, call->n_args), &r, err);
}

/* Prints events until the daemon goes away (-1), @deadline has passed or nobody reads (0). */
static int
print_events(struct call *call, struct link *l, int64_t deadline, struct cij_error *err)
{
	for (;;) {
		_cleanup_reply_ struct reply r = {0};
		struct pollfd fds[] = {{l->fd, POLLIN}, {STDOUT_FILENO, 0}};
		int rc = link_next(l, clock_ms(), &r, err);

		if (rc < 0)
			return -1;
		if (rc > 0 && r.kind == REPLY_EVENT)
			print_event(call, &r);
		if (rc > 0)
			continue;
		/* All that was there is shown at once; nobody reading is seen without an event too.
		 */
		if (fflush(stdout) != 0 || clock_left(deadline) == 0)
			return 0;
		(void)poll(fds, 2, clock_left(deadline));
		if (fds[1].revents & POLLERR)
			return 0;
	}
}

/* The daemon went away: subscribes again when it is back. */
static int
subscribe_again(struct call *call, struct link *l, struct cij_error *err)
{
	int64_t since = clock_ms();

	out_note("the daemon went away; waiting for it to come back");
	do {
		link_close(l);
		if (subscribe(call, l, err) == 0) {
			out_note("the daemon is back; what happened meanwhile is not shown");
			return 0;
		}
		(void)poll(NULL, 0, RETRY_MS);
	} while (err->class == CIJ_E_UNREACHABLE && clock_ms() - since < AWAY_SECONDS * 1000);
	return -1;
}

int
cmd_events(struct call *call, struct cij_error *err)
{
	/* A span of time to look at, not a failure when it ends. */
	int64_t deadline = call_deadline(call, 0);
	_cleanup_link_ struct link l = LINK_INIT;

	if (call_has(call, "history"))
		return history_print(
			call, globs_arguments((const char *const *)call->args, call->n_args), err);
	if (call_has(call, "lines"))
		return call_usage(call, err, "--lines goes with --history");
	if (check_named(call, err) < 0 || subscribe(call, &l, err) < 0)
		return -1;
	while (print_events(call, &l, deadline, err) < 0)
		if (err->class != CIJ_E_UNREACHABLE || subscribe_again(call, &l, err) < 0)
			return -1;
	return 0;
}
