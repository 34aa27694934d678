/* wait: until a guest runs, has stopped, lets in by SSH, or has printed a line. */
#include <errno.h>
#include <poll.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>

#include "cijqemu/protocol.h"
#include "client/args.h"
#include "client/clock.h"
#include "client/ctlfilter.h"
#include "client/out.h"
#include "client/stream.h"
#include "client/view.h"
#include "proto/text.h"

/* What the daemon needs to tell us of a time-out of its own. */
#define ANSWER_SECONDS 5

/* A question is answered at once; a daemon that takes longer than this is stuck. */
#define ASK_SECONDS 30

/* How long a daemon that went away while we wait is waited for. */
#define AWAY_SECONDS 15
#define RETRY_MS 200

/* Lines of the console that are shown when it did not come to what was waited for. */
#define LAST_LINES 5

/* How often the line of progress is drawn anew. */
#define TICK_MS 100

/* The longest line that a pattern is matched against; a longer one is looked at in pieces. */
#define LINE_BYTES 4096

/* What the daemon tells of the guest meanwhile, for the line of progress. */
struct watch {
	struct link events; /* fd -1: not wanted, or lost */
	const char *guest; /* weak */
	char phase[96];
	int64_t began;
};

static void
watch_open(struct watch *w, struct call *call)
{
	struct json_object *args = globs_arguments(&call->guest, 1);
	struct cij_error unheard = CIJ_ERROR_INIT;

	*w = (struct watch){.events = LINK_INIT, .guest = call->guest, .began = clock_ms()};
	if (!out_has_progress() || call->json ||
		link_open(&w->events, call->socket, CLOCK_NEVER, &unheard) < 0)
		json_object_put(args);
	else if (link_send(&w->events, "events-subscribe", args, &unheard) < 0)
		link_close(&w->events);
}

/* Takes in what was told, and shows it. */
static void
watch_show(struct watch *w, const char *what)
{
	struct cij_error unheard = CIJ_ERROR_INIT;
	int rc = 0;

	do {
		_cleanup_reply_ struct reply r = {0};
		const char *text;

		rc = w->events.fd >= 0 ? link_next(&w->events, clock_ms(), &r, &unheard) : 0;
		text = rc > 0 ? cij_json_str(r.value, "text") : NULL;
		if (text)
			snprintf(w->phase, sizeof(w->phase), ", %s", text);
	} while (rc > 0);
	if (rc < 0)
		link_close(&w->events);
	out_progress("%s: waiting for %s%s, %.1f s", w->guest, what, w->phase,
		(double)(clock_ms() - w->began) / 1000);
}

/* The reply to the wait, with a line of progress until it comes. */
static int
receive(struct call *call, struct link *l, int64_t id, const char *what, struct reply *r,
	struct cij_error *err)
{
	struct watch w;

	if (!out_has_progress() || call->json)
		return link_receive(l, id, r, err);
	watch_open(&w, call);
	for (;;) {
		struct pollfd wait = {.fd = l->fd, .events = POLLIN};

		watch_show(&w, what);
		if (poll(&wait, 1, TICK_MS) > 0 || clock_left(l->deadline) == 0)
			break;
	}
	out_progress_end();
	link_close(&w.events);
	return link_receive(l, id, r, err);
}

/* One 'guest-wait', until @deadline. */
static int
wait_once(struct call *call, const char *what, int64_t deadline, struct reply *r,
	struct cij_error *err)
{
	_cleanup_link_ struct link l = LINK_INIT;
	struct json_object *args = guest_arguments(call->guest);
	int left = clock_left(deadline);
	int64_t id;

	cij_json_add_str(args, "for", what);
	json_object_object_add(args, "timeout",
		json_object_new_double(left < 0   ? 0
				       : left < 1 ? 0.001
						  : left / 1000.0));
	if (link_open(&l, call->socket,
		    deadline == CLOCK_NEVER ? CLOCK_NEVER : deadline + ANSWER_SECONDS * 1000,
		    err) < 0) {
		json_object_put(args);
		return -1;
	}
	id = link_send(&l, "guest-wait", args, err);
	return id < 0 ? -1 : receive(call, &l, id, what, r, err);
}

/* As wait_once(), through a restart of the daemon, which the guests live through too. */
static int
wait_through(struct call *call, const char *what, int64_t deadline, struct reply *r,
	struct cij_error *err)
{
	bool reached = false, told = false;
	int64_t away = 0;

	for (;;) {
		int64_t began = clock_ms();

		if (wait_once(call, what, deadline, r, err) == 0)
			return 0;
		if (err->class != CIJ_E_UNREACHABLE)
			return -1;
		/* Only a connection that has lived is worth waiting for. */
		if (clock_ms() - began >= RETRY_MS)
			reached = true, away = 0;
		if (away == 0)
			away = clock_ms();
		if (!reached || clock_ms() - away > AWAY_SECONDS * 1000)
			return -1;
		if (clock_left(deadline) == 0)
			return cij_error_set(err, CIJ_E_TIMEOUT,
				"guest '%s': '%s' was not seen in time: the daemon is away",
				call->guest, what);
		if (!told)
			out_note("the daemon went away; waiting for it to come back");
		told = true;
		struct timespec pause = {.tv_nsec = RETRY_MS * 1000000L};
		nanosleep(&pause, NULL);
	}
}

/* After a time-out: what there is to see now. */
static void
tell_last_seen(struct call *call)
{
	_cleanup_link_ struct link l = LINK_INIT;
	_cleanup_reply_ struct reply r = {0};
	struct cij_error err = CIJ_ERROR_INIT;

	if (link_open(&l, call->socket, clock_deadline(ANSWER_SECONDS), &err) == 0 &&
		link_call(&l, "query-guest", guest_arguments(call->guest), &r, &err) == 0)
		out_note("%s is %s%s; the last lines of its console:", call->guest,
			view_state(r.value), cij_json_bool(r.value, "hung", false) ? ", hung" : "");
	print_last_lines(call->socket, call->guest, LAST_LINES);
}

static int
wait_state(struct call *call, const char *what, struct cij_error *err)
{
	_cleanup_reply_ struct reply r = {0};
	char text[256];
	size_t len;

	if (wait_through(call, what, call_deadline(call, CIJ_WAIT_SECONDS), &r, err) < 0) {
		if (err->class != CIJ_E_TIMEOUT)
			return -1;
		out_error(err);
		tell_last_seen(call);
		return cij_error_exit_code(err->class);
	}
	if (call->json) {
		const char *at = reply_text(&r, &len);

		out_json(at, len, out_colours(stdout));
	} else {
		out_note("%s: %s", call->guest, view_summary(r.value, text, sizeof(text)));
	}
	return 0;
}

/* The console, line by line. */
struct lines {
	regex_t regex;
	struct ctl_filter filter;
	char line[LINE_BYTES];
	size_t len;
};

/* Whether the line so far matches; prints it then. */
static bool
matches(struct lines *l)
{
	size_t len = l->len;
	bool found;
	char saved;

	while (len > 0 && l->line[len - 1] == '\r') /* the one before a newline means nothing */
		len--;
	saved = l->line[len];
	l->line[len] = '\0';
	found = regexec(&l->regex, l->line, 0, NULL, 0) == 0;
	if (found) {
		out_text(l->line, len);
		putchar('\n');
	}
	l->line[len] = saved;
	return found;
}

/* Takes in console bytes. Returns whether a line, or what there is of the last, matches. */
static bool
feed(struct lines *l, const char *data, size_t len)
{
	char text[LINE_BYTES + CTL_FILTER_HELD];

	for (size_t at = 0; at < len; at += LINE_BYTES) {
		size_t n = len - at < LINE_BYTES ? len - at : LINE_BYTES;

		n = ctl_filter_run(&l->filter, data + at, n, text);
		for (size_t i = 0; i < n; i++) {
			if (text[i] == '\n' || l->len == sizeof(l->line) - 1) {
				if (matches(l))
					return true;
				l->len = 0;
			}
			if (text[i] != '\n')
				l->line[l->len++] = text[i];
		}
	}
	return l->len > 0 && matches(l);
}

static int
timed_out(struct call *call, const char *pattern, struct cij_error *err)
{
	char clean[256];

	cij_error_set(err, CIJ_E_TIMEOUT, "%s: nothing on the console matched '%s' in time",
		call->guest, cij_text_clean(pattern, clean, sizeof(clean)));
	out_error(err);
	tell_last_seen(call);
	return cij_error_exit_code(err->class);
}

/* Reads the run from its first byte until a line matches. Returns the exit code, or -1. */
static int
follow(struct call *call, const char *pattern, struct lines *l, int64_t deadline,
	struct cij_error *err)
{
	_cleanup_stream_ struct stream s = STREAM_INIT;
	char buf[16 * 1024], text[512];

	s.socket = call->socket;
	s.guest = call->guest;
	s.mode = STREAM_READ_ONLY;
	if (stream_attach(&s, json_object_new_string("start"), NULL, deadline, err) < 0)
		return -1;
	for (;;) {
		ssize_t n = stream_read(&s, buf, sizeof(buf));

		if (n > 0 && feed(l, buf, n))
			return 0;
		if (n > 0 && clock_left(deadline) != 0)
			continue;
		if (n > 0) /* a guest that never falls silent is waited for no longer */
			return timed_out(call, pattern, err);
		if (n < 0 && errno == EAGAIN) {
			if (!stream_wait(&s, -1, deadline))
				return timed_out(call, pattern, err);
			continue;
		}
		switch (stream_again_wait(&s, deadline, err)) {
		case STREAM_GOES_ON:
			continue;
		case STREAM_AWAY:
			return timed_out(call, pattern, err);
		case STREAM_ENDED:
			return cij_error_set(err, CIJ_E_QEMU_FAILED,
				"%s stopped before a line matched: %s", call->guest,
				view_end_text(s.view, text, sizeof(text)));
		case STREAM_FAILED:
			return -1;
		}
	}
}

/* As follow(), behind a guest that runs. */
static int
wait_running_line(
	struct call *call, const char *pattern, struct lines *lines, struct cij_error *err)
{
	int64_t deadline = call_deadline(call, CIJ_WAIT_SECONDS);
	_cleanup_reply_ struct reply r = {0};

	if (call_daemon(call, ASK_SECONDS, "query-guest", guest_arguments(call->guest), &r, err) <
		0)
		return -1;
	/* What a stopped guest printed in its last run is not what is waited for. */
	if (!view_is_live(r.value)) {
		reply_clear(&r);
		if (wait_through(call, "running", deadline, &r, err) < 0)
			return err->class == CIJ_E_TIMEOUT ? timed_out(call, pattern, err) : -1;
	}
	return follow(call, pattern, lines, deadline, err);
}

static int
wait_console(struct call *call, const char *pattern, struct cij_error *err)
{
	struct lines lines = {.filter = {.plain = true}};
	char why[256];
	int rc = regcomp(&lines.regex, pattern, REG_EXTENDED | REG_NOSUB);

	if (rc != 0) {
		regerror(rc, &lines.regex, why, sizeof(why));
		return call_usage(call, err, "bad pattern '%s': %s", pattern, why);
	}
	rc = wait_running_line(call, pattern, &lines, err);
	regfree(&lines.regex);
	return rc;
}

int
cmd_wait(struct call *call, struct cij_error *err)
{
	static const char *const states[] = {"running", "stopped", "ssh"};
	const char *what = call_value(call, "for");

	if (!what)
		return call_usage(call, err, "--for what? running, stopped, ssh or console=REGEX");
	for (size_t i = 0; i < cij_array_size(states); i++)
		if (strcmp(what, states[i]) == 0)
			return wait_state(call, what, err);
	if (strncmp(what, "console=", strlen("console=")) == 0)
		return wait_console(call, what + strlen("console="), err);
	return call_usage(
		call, err, "--for takes running, stopped, ssh or console=REGEX, not '%s'", what);
}
