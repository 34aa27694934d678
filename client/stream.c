#include "client/stream.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "client/clock.h"
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

int
stream_attach(struct stream *s, struct json_object *from, struct json_object *run, int64_t deadline,
	struct cij_error *err)
{
	struct json_object *args = guest_arguments(s->guest);
	_cleanup_reply_ struct reply r = {0};
	const char *mode, *writer;

	cij_json_add_str(args, "mode", mode_name(s->mode));
	if (from)
		json_object_object_add(args, "from", from);
	if (run)
		json_object_object_add(args, "run", run);
	link_close(&s->link);
	if (link_open(&s->link, s->socket, deadline, err) < 0) {
		json_object_put(args);
		return -1;
	}
	if (link_call(&s->link, "console-attach", args, &r, err) < 0)
		return -1;
	mode = cij_json_str(r.value, "mode");
	writer = cij_json_str(r.value, "writer");
	s->run = cij_json_int(r.value, "run", 0);
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

ssize_t
stream_read(struct stream *s, void *buf, size_t size)
{
	ssize_t n = link_read_raw(&s->link, buf, size);

	if (n > 0)
		s->offset += n;
	return n < 0 && errno == ECONNRESET ? 0 : n;
}

int
stream_wait(struct stream *s, int64_t deadline)
{
	struct pollfd wait = {.fd = s->link.fd, .events = POLLIN};
	int n;

	if (link_has_raw(&s->link))
		return 1;
	do
		n = poll(&wait, 1, clock_left(deadline));
	while (n < 0 && errno == EINTR);
	return n != 0;
}

static int
attach_here(struct stream *s, struct cij_error *err)
{
	int64_t run = s->run, was = s->offset;

	if (stream_attach(s, json_object_new_int64(was), json_object_new_int64(run),
		    clock_deadline(ATTACH_SECONDS), err) < 0)
		return -1;
	if (s->offset > was)
		out_note("%lld bytes are gone from the log (log.limit)",
			(long long)(s->offset - was));
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
stream_again_wait(struct stream *s, struct cij_error *err)
{
	enum stream_next next = stream_again(s, err);
	bool told = next == STREAM_AWAY;

	if (told)
		out_note("the daemon went away; waiting for it to come back");
	while (next == STREAM_AWAY) {
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
		else if (n == 0 || errno != EAGAIN || !stream_wait(s, deadline))
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
