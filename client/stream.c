#include "client/stream.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "client/clock.h"
#include "client/lease.h"
#include "client/ctlfilter.h"
#include "client/out.h"
#include "client/view.h"

/* A daemon that is there answers an attach at once. */
#define ATTACH_SECONDS 10

/* Last words are a help, not worth waiting for; nor are more of them than a screen's. */
#define LAST_LINES_SECONDS 2
#define LAST_LINES_BYTES (16 * 1024)

void
stream_close(struct stream *s)
{
	link_close(&s->link);
	link_close(&s->events);
	json_object_put(s->view);
	s->view = NULL;
}

static const char *
mode_name(enum stream_mode mode)
{
	switch (mode) {
	case STREAM_AUTO:
		return "auto";
	case STREAM_READ_ONLY:
		return "read-only";
	case STREAM_FORCE:
		return "force";
	case STREAM_JOIN:
		return "join";
	}
	return "auto";
}

/* Asks for events; without them the stream goes on, it only cannot tell what it lost. */
static void
subscribe(struct stream *s, int64_t deadline)
{
	struct json_object *args = globs_arguments(&s->guest, 1);
	struct cij_error err = CIJ_ERROR_INIT;

	if (link_open(&s->events, s->socket, deadline, &err) < 0)
		json_object_put(args);
	else if (link_send(&s->events, "events-subscribe", args, &err) < 0)
		link_close(&s->events);
}

/* Bytes are lost behind those that are still on their way to us. */
static void
add_gap(struct stream *s, int64_t at, int64_t bytes)
{
	if (bytes <= 0)
		return;
	if (s->n_gaps == STREAM_GAPS_MAX) { /* nothing was read between so many: as one */
		s->gaps[s->n_gaps - 1].bytes += bytes;
		return;
	}
	s->gaps[s->n_gaps].at = at;
	s->gaps[s->n_gaps++].bytes = bytes;
}

static void
take_event(struct stream *s, struct reply *r)
{
	const char *event = cij_json_str(r->msg, "event"), *what = cij_json_str(r->value, "what");

	if (event && what && strcmp(event, "LEASE") == 0)
		lease_tell_event(s->guest, r->value);
	if (!event || strcmp(event, "CONSOLE") != 0 || !what)
		return;
	if (strcmp(what, "lost") == 0) {
		if (cij_json_int(r->value, "viewer", -2) == s->viewer)
			add_gap(s, cij_json_int(r->value, "offset", 0),
				cij_json_int(r->value, "bytes", 0));
	} else if (strcmp(what, "incomplete") == 0) {
		out_note("[%s: the disk is full: what it prints from now on is lost]", s->guest);
	} else if (strcmp(what, "recording") == 0) {
		out_note("[%s: the disk has room again]", s->guest);
	} else if (s->on_event) {
		s->on_event(s->arg, r->value);
	}
}

void
stream_take_events(struct stream *s)
{
	struct cij_error err = CIJ_ERROR_INIT;

	while (s->events.fd >= 0) {
		_cleanup_reply_ struct reply r = {0};
		int rc = link_next(&s->events, clock_ms(), &r, &err);

		if (rc == 0)
			return;
		if (rc < 0)
			link_close(&s->events);
		else if (r.kind == REPLY_EVENT)
			take_event(s, &r);
	}
}

int
stream_attach(struct stream *s, struct json_object *from, struct json_object *run, int64_t deadline,
	struct cij_error *err)
{
	struct json_object *args = guest_arguments(s->guest);
	_cleanup_reply_ struct reply r = {0};
	const char *mode, *writer, *incomplete;

	cij_json_add_str(args, "mode", mode_name(s->mode));
	if (from)
		json_object_object_add(args, "from", from);
	if (run)
		json_object_object_add(args, "run", run);
	link_close(&s->link);
	/* Before attaching, so that nothing is lost unheard. */
	if (s->want_events && s->events.fd < 0)
		subscribe(s, deadline);
	if (link_open(&s->link, s->socket, deadline, err) < 0) {
		json_object_put(args);
		return -1;
	}
	if (link_call(&s->link, "console-attach", args, &r, err) < 0)
		return -1;
	mode = cij_json_str(r.value, "mode");
	writer = cij_json_str(r.value, "writer");
	incomplete = cij_json_str(r.value, "incomplete_since");
	s->run = cij_json_int(r.value, "run", 0);
	s->viewer = cij_json_int(r.value, "viewer", -1);
	s->gone = cij_json_int(r.value, "head", 0) + cij_json_int(r.value, "cut", 0);
	s->incomplete_now = incomplete && !cij_json_str(r.value, "incomplete_until");
	snprintf(s->incomplete, sizeof(s->incomplete), "%s", incomplete ? incomplete : "");
	s->n_gaps = 0;
	s->offset = cij_json_int(r.value, "offset", -1);
	s->end = cij_json_int(r.value, "end", s->offset);
	s->live = cij_json_bool(r.value, "live", true);
	s->writes = mode && strcmp(mode, "read-only") != 0;
	snprintf(s->writer, sizeof(s->writer), "%s", writer ? writer : "");
	s->away_since = 0;
	if (s->offset < 0)
		return cij_error_set(err, CIJ_E_PROTOCOL, "the daemon's console has no offset");
	/* The pen was taken once; from here on it is kept or lost as anybody's. */
	if (s->mode == STREAM_FORCE)
		s->mode = STREAM_AUTO;
	return 0;
}

void
stream_tell_missing(const struct stream *s)
{
	if (s->gone > 0)
		out_note("the first %lld bytes are gone from the log (log.limit)",
			(long long)s->gone);
	stream_tell_incomplete(s);
}

void
stream_tell_incomplete(const struct stream *s)
{
	if (*s->incomplete)
		out_note("the log is incomplete since %s: the disk %s full", s->incomplete,
			s->incomplete_now ? "is" : "was");
}

/* Steps over the losses that have been reached. */
static void
pass_gaps(struct stream *s)
{
	while (s->n_gaps > 0 && s->gaps[0].at <= s->offset) {
		out_note("[%s: %lld bytes are lost here: the log lost its head (log.limit) before "
			 "they were read]",
			s->guest, (long long)s->gaps[0].bytes);
		s->offset += s->gaps[0].bytes;
		memmove(s->gaps, s->gaps + 1, --s->n_gaps * sizeof(s->gaps[0]));
	}
}

ssize_t
stream_read(struct stream *s, void *buf, size_t size)
{
	ssize_t n;

	stream_take_events(s);
	pass_gaps(s);
	if (s->n_gaps > 0 && (int64_t)size > s->gaps[0].at - s->offset)
		size = (size_t)(s->gaps[0].at - s->offset);
	n = link_read_raw(&s->link, buf, size);
	if (n > 0)
		s->offset += n;
	return n < 0 && errno == ECONNRESET ? 0 : n;
}

int
stream_wait(struct stream *s, int out_fd, int64_t deadline)
{
	struct pollfd wait[] = {{s->link.fd, POLLIN}, {s->events.fd, POLLIN}, {out_fd, 0}};
	int n;

	if (link_has_raw(&s->link))
		return 1;
	do
		n = poll(wait, 3, clock_left(deadline));
	while (n < 0 && errno == EINTR);
	if (n > 0 && wait[1].revents)
		stream_take_events(s);
	return n > 0 && wait[2].revents & POLLERR ? -1 : n != 0;
}

void
stream_tell_skipped(const struct stream *s, int64_t from)
{
	if (s->offset > from)
		out_note("%lld bytes are gone from the log (log.limit)",
			(long long)(s->offset - from));
}

static int
attach_here(struct stream *s, struct cij_error *err)
{
	int64_t run = s->run, was = s->offset;

	if (stream_attach(s, json_object_new_int64(was), json_object_new_int64(run),
		    clock_deadline(ATTACH_SECONDS), err) < 0)
		return -1;
	stream_tell_skipped(s, was);
	return 0;
}

int
stream_change_mode(struct stream *s, enum stream_mode mode, struct cij_error *err)
{
	s->mode = mode;
	return attach_here(s, err);
}

/* Whether the guest still runs the stream's run; keeps its view. */
static int
ask_guest(struct stream *s, bool *live, struct cij_error *err)
{
	_cleanup_link_ struct link l = LINK_INIT;
	_cleanup_reply_ struct reply r = {0};

	if (link_open(&l, s->socket, clock_deadline(ATTACH_SECONDS), err) < 0 ||
		link_call(&l, "query-guest", guest_arguments(s->guest), &r, err) < 0)
		return -1;
	json_object_put(s->view);
	s->view = json_object_get(r.value);
	*live = view_is_live(s->view) && cij_json_int(s->view, "run", -1) == s->run;
	return 0;
}

/* The daemon is not there: wait for it, or enough of it. */
static enum stream_next
away(struct stream *s, struct cij_error *err)
{
	link_close(&s->link);
	if (err->class != CIJ_E_UNREACHABLE && err->class != CIJ_E_TIMEOUT)
		return STREAM_FAILED;
	if (s->away_since == 0)
		s->away_since = clock_ms();
	if (clock_ms() - s->away_since < STREAM_AWAY_SECONDS * 1000)
		return STREAM_AWAY;
	cij_error_prefix(err, "the daemon did not come back within %d s", STREAM_AWAY_SECONDS);
	return STREAM_FAILED;
}

enum stream_next
stream_again(struct stream *s, struct cij_error *err)
{
	enum stream_mode mode = s->mode;
	bool live;

	/* All of a run that was over when we attached has come. */
	if (!s->live && s->offset >= s->end && s->away_since == 0 && s->view)
		return STREAM_ENDED;
	/* A daemon that attaches and closes again must not be asked in a tight loop. */
	if (s->offset == s->broke_at && s->away_since == 0)
		(void)poll(NULL, 0, STREAM_RETRY_MS);
	s->broke_at = s->offset;
	if (ask_guest(s, &live, err) < 0)
		return away(s, err);
	/* Who only read does not take the pen from who wrote by being back first. */
	if (s->mode == STREAM_AUTO && !s->writes)
		s->mode = mode = STREAM_READ_ONLY;
	if (!live)
		s->mode = STREAM_READ_ONLY; /* nobody is there to write to: fetch the rest */
	if (attach_here(s, err) < 0) {
		s->mode = mode;
		return away(s, err);
	}
	if (live && s->live)
		return STREAM_GOES_ON;
	return s->offset >= s->end ? STREAM_ENDED : STREAM_GOES_ON;
}

enum stream_next
stream_again_wait(struct stream *s, int64_t deadline, struct cij_error *err)
{
	enum stream_next next = stream_again(s, err);
	bool told = next == STREAM_AWAY;

	if (told)
		out_note("the daemon went away; waiting for it to come back");
	while (next == STREAM_AWAY && clock_left(deadline) != 0) {
		(void)poll(NULL, 0, STREAM_RETRY_MS);
		next = stream_again(s, err);
	}
	if (told && next == STREAM_GOES_ON)
		out_note("the daemon is back; nothing was lost");
	return next;
}

void
stream_tell_end(const struct stream *s)
{
	char text[1024];

	if (s->view && cij_json_int(s->view, "run", -1) == s->run && !view_is_live(s->view))
		out_note("%s stopped: %s", s->guest, view_end_text(s->view, text, sizeof(text)));
	else
		out_note("%s: run %lld has ended", s->guest, (long long)s->run);
}

/* Reads up to @size bytes until the end that the log had when it was attached. */
static size_t
read_to_end(struct stream *s, char *buf, size_t size)
{
	int64_t deadline = clock_deadline(LAST_LINES_SECONDS);
	size_t len = 0;

	while (s->offset < s->end && len < size) {
		ssize_t n = stream_read(s, buf + len, size - len);

		if (n > 0)
			len += n;
		else if (n == 0 || errno != EAGAIN || !stream_wait(s, -1, deadline))
			break;
	}
	return len;
}

void
print_last_lines(const char *socket, const char *guest, int lines)
{
	_cleanup_stream_ struct stream s = STREAM_INIT;
	char raw[LAST_LINES_BYTES], text[LAST_LINES_BYTES + CTL_FILTER_HELD + 1];
	struct cij_error err = CIJ_ERROR_INIT; /* who asks has an error of their own to tell */
	struct ctl_filter filter = {0};
	char *line, *rest = text;
	size_t len;

	s.socket = socket;
	s.guest = guest;
	s.mode = STREAM_READ_ONLY;
	if (stream_attach(&s, json_object_new_int64(-lines), NULL,
		    clock_deadline(LAST_LINES_SECONDS), &err) < 0)
		return;
	len = read_to_end(&s, raw, sizeof(raw));
	text[ctl_filter_run(&filter, raw, len, text)] = '\0';
	while ((line = strsep(&rest, "\r\n")))
		if (*line)
			out_note("  | %s", line);
}
