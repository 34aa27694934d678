/* console: keys to the guest, its output back, and an escape key for ourselves. */
#include "client/console.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "client/args.h"
#include "client/clock.h"
#include "client/console_many.h"
#include "client/out.h"
#include "client/stream.h"
#include "client/term.h"
#include "client/view.h"
#include "proto/text.h"

/* Input that the daemon has not taken yet: a big paste. More is left with the terminal. */
#define INPUT_MAX (64 * 1024)

/* Output is moved in blocks of this size: a flood costs few calls. */
#define OUTPUT_BLOCK (256 * 1024)

/* Piped input has ended: this long without output means that the answer has been given. */
#define SILENCE_MS 1000

#define ATTACH_SECONDS 30

#define ESCAPE_DEFAULT 0x1d /* ^] */
#define ESCAPE_NONE (-1)

struct console {
	struct call *call;
	struct stream s;
	bool keys; /* stdin is a terminal: raw, with an escape key */
	int escape; /* the escape key's byte, or ESCAPE_NONE */
	bool escaped; /* it was the last key */
	bool reading; /* stdin has not ended, and is wanted */
	bool had_input; /* some came from it */
	bool taken; /* somebody took the pen from us */
	bool told_read_only;
	bool told_away;
	int64_t next_try; /* daemon away: when to look again */
	int64_t last_output;
	size_t n_input;
	char input[INPUT_MAX];
	char output[OUTPUT_BLOCK];
};

/* What a step of the console comes to. */
enum step { STEP_ON, STEP_DONE, STEP_FAILED };

/* "^]" for 0x1d. @buf: 3 bytes. */
static const char *
key_name(int key, char *buf)
{
	if (key >= 0x20 && key != 0x7f) {
		buf[0] = (char)key;
		buf[1] = '\0';
	} else {
		buf[0] = '^';
		buf[1] = (char)(key ^ 0x40);
		buf[2] = '\0';
	}
	return buf;
}

/* Tells our role, and the key that leads out. */
static void
tell_role(struct console *c)
{
	char key[3], role[128];

	if (c->s.writes)
		snprintf(role, sizeof(role), "%s",
			c->s.mode == STREAM_JOIN ? "joined, writing" : "writing");
	else if (!c->s.live)
		snprintf(role, sizeof(role), "this run has ended");
	else if (*c->s.writer)
		snprintf(role, sizeof(role), "%s writes; you read", c->s.writer);
	else
		snprintf(role, sizeof(role), "you read");
	if (!c->keys || c->escape == ESCAPE_NONE) {
		out_note("[%s: %s]", c->s.guest, role);
		return;
	}
	key_name(c->escape, key);
	if (c->s.writes || !c->s.live)
		out_note("[%s: %s; %s . detaches, %s ? helps]", c->s.guest, role, key, key);
	else
		out_note("[%s: %s; %s f takes over, %s . detaches]", c->s.guest, role, key, key);
}

static void
tell_help(const struct console *c)
{
	char key[3];

	key_name(c->escape, key);
	out_note("[%s then: . detach, f take the pen, r only read, w who is there, %s send %s]",
		key, key, key);
}

static void
tell_who(const struct console *c)
{
	struct cij_error err = CIJ_ERROR_INIT;
	_cleanup_link_ struct link l = LINK_INIT;
	_cleanup_reply_ struct reply r = {0};
	struct json_object *viewers;

	if (link_open(&l, c->s.socket, clock_deadline(ATTACH_SECONDS), &err) < 0 ||
		link_call(&l, "console-who", guest_arguments(c->s.guest), &r, &err) < 0) {
		out_error(&err);
		return;
	}
	viewers = cij_json_get(r.value, "viewers");
	for (size_t i = 0; i < cij_json_length(viewers); i++) {
		struct json_object *viewer = json_object_array_get_idx(viewers, i);
		const char *mode = cij_json_str(viewer, "mode");
		int64_t pid = cij_json_int(viewer, "pid", 0);

		out_note("[%s, pid %lld: %s%s]", user_name(cij_json_int(viewer, "uid", -1)),
			(long long)pid, mode ? mode : "?", pid == getpid() ? " (you)" : "");
	}
}

/* ^] f and ^] r: the same bytes go on in another role. */
static enum step
change_mode(struct console *c, enum stream_mode mode, struct cij_error *err)
{
	if (c->s.away_since) {
		out_note("[the daemon is away]");
		return STEP_ON;
	}
	if (stream_change_mode(&c->s, mode, err) < 0) {
		/* Refused: keep what we had, if it is still to be had. */
		if (err->class == CIJ_E_UNREACHABLE)
			return STEP_ON; /* console_step() sees that it is gone */
		out_error(err);
		c->s.mode = STREAM_READ_ONLY;
		if (stream_change_mode(&c->s, STREAM_READ_ONLY, err) < 0)
			return STEP_FAILED;
	}
	c->told_read_only = false;
	tell_role(c);
	return STEP_ON;
}

/* The key behind the escape key. */
static enum step
command_key(struct console *c, unsigned char key, struct cij_error *err)
{
	if (key == c->escape) {
		c->input[c->n_input++] = (char)key;
		return STEP_ON;
	}
	switch (key) {
	case '.':
		return STEP_DONE;
	case 'f':
		return change_mode(c, STREAM_FORCE, err);
	case 'r':
		return change_mode(c, STREAM_READ_ONLY, err);
	case 'w':
		tell_who(c);
		return STEP_ON;
	default:
		tell_help(c);
		return STEP_ON;
	}
}

/* Keys that reach nobody: said once, so that nobody types into the void. */
static void
drop_input(struct console *c)
{
	c->n_input = 0;
	if (!c->told_read_only && c->s.live)
		tell_role(c);
	c->told_read_only = true;
}

/* A script's input that reaches nobody is an error. */
static enum step
refuse_input(const struct console *c, struct cij_error *err)
{
	const char *who = *c->s.writer ? c->s.writer : "nobody";

	if (c->taken)
		cij_error_set(err, CIJ_E_BUSY,
			"%s: %s has taken over: not all of the input was sent", c->s.guest, who);
	else
		cij_error_set(err, CIJ_E_BUSY, "%s: %s writes on this console: nothing was sent",
			c->s.guest, who);
	cij_error_hint(err, "--force takes the pen, --join writes too");
	return STEP_FAILED;
}

/* Takes in what stdin has. */
static enum step
take_input(struct console *c, struct cij_error *err)
{
	char block[4096];
	size_t room = INPUT_MAX - c->n_input;
	ssize_t n = read(STDIN_FILENO, block, room < sizeof(block) ? room : sizeof(block));
	enum step step = STEP_ON;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return STEP_ON;
	if (n <= 0) { /* its end; a terminal's error is a hang-up */
		c->reading = false;
		c->last_output = clock_ms();
		return c->keys ? STEP_DONE : STEP_ON;
	}
	c->had_input = true;
	for (ssize_t i = 0; i < n && step == STEP_ON; i++) {
		unsigned char key = block[i];

		if (c->escaped) {
			c->escaped = false;
			step = command_key(c, key, err);
		} else if (c->keys && key == c->escape) {
			c->escaped = true;
		} else {
			c->input[c->n_input++] = (char)key;
		}
	}
	if (c->n_input > 0 && !c->s.writes && !c->s.away_since) {
		if (!c->keys)
			return refuse_input(c, err);
		drop_input(c);
	}
	return step;
}

/* Sends what the daemon takes. */
static void
send_input(struct console *c)
{
	ssize_t n = send(c->s.link.fd, c->input, c->n_input, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n <= 0)
		return; /* full, or broken: reading will tell */
	c->n_input -= n;
	memmove(c->input, c->input + n, c->n_input);
	c->last_output = clock_ms();
}

/* The stream broke off: where to go on. */
static enum step
broke_off(struct console *c, struct cij_error *err)
{
	bool wrote = c->s.writes;

	switch (stream_again(&c->s, err)) {
	case STREAM_GOES_ON:
		if (c->told_away)
			out_note("[the daemon is back; nothing was lost]");
		c->told_away = false;
		if (c->s.live && wrote != c->s.writes)
			tell_role(c);
		return STEP_ON;
	case STREAM_AWAY:
		if (!c->told_away)
			out_note("[the daemon went away; waiting for it to come back]");
		c->told_away = true;
		c->next_try = clock_ms() + STREAM_RETRY_MS;
		return STEP_ON;
	case STREAM_ENDED:
		stream_tell_end(&c->s);
		return STEP_DONE;
	case STREAM_FAILED:
		return STEP_FAILED;
	}
	return STEP_FAILED;
}

/* Moves a block from the guest to stdout. */
static enum step
take_output(struct console *c, struct cij_error *err)
{
	ssize_t n = stream_read(&c->s, c->output, sizeof(c->output));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		return broke_off(c, err);
	if (n < 0)
		return STEP_ON;
	c->last_output = clock_ms();
	if (out_write(STDOUT_FILENO, c->output, n) == 0)
		return STEP_ON;
	if (errno == EPIPE)
		return STEP_DONE;
	cij_error_errno(err, CIJ_E_FAILED, errno, "cannot write the console's output");
	return STEP_FAILED;
}

/* One event about this console, of somebody else's doing. */
static void
tell_event(void *arg, struct json_object *data)
{
	struct console *c = arg;
	const char *what = cij_json_str(data, "what"), *mode = cij_json_str(data, "mode"), *who;
	char key[3];

	if (strcmp(what, "reads") == 0) {
		/* Somebody else has the guest now, who is told of in an event of its own. */
		if (cij_json_int(data, "viewer", -2) == c->s.viewer) {
			c->taken = c->s.writes;
			c->s.writes = false;
		}
		return;
	}
	/* Our own: also of the attachment before this one, as ^] f makes one. */
	if (cij_json_int(data, "viewer", -2) == c->s.viewer ||
		(cij_json_int(data, "pid", 0) == getpid() &&
			cij_json_int(data, "uid", -1) == (int64_t)getuid()))
		return;
	who = user_name(cij_json_int(data, "uid", -1));
	if (strcmp(what, "writes") != 0) {
		if (c->keys)
			out_note("[%s %s]", who, what);
		if (strcmp(what, "went") == 0 && strcmp(c->s.writer, who) == 0)
			c->s.writer[0] = '\0';
		return;
	}
	/* The pen has gone over; who types together with others keeps typing. */
	if ((!mode || strcmp(mode, "join") != 0) && c->s.mode != STREAM_JOIN) {
		c->taken = c->s.writes;
		c->s.writes = false;
		snprintf(c->s.writer, sizeof(c->s.writer), "%s", who);
	}
	if (!c->keys)
		return;
	if (c->s.writes || c->escape == ESCAPE_NONE)
		out_note("[%s writes now]", who);
	else
		out_note("[%s writes now, you read; %s f takes over]", who,
			key_name(c->escape, key));
	c->told_read_only = true;
}

/* How long poll() may wait; -1 = for ever. */
static int
next_wait(const struct console *c)
{
	if (c->s.away_since)
		return clock_left(c->next_try);
	if (!c->reading && c->had_input && c->n_input == 0)
		return clock_left(c->last_output + SILENCE_MS);
	return -1;
}

/* Waits for something to happen and does what it calls for. */
static enum step
console_step(struct console *c, struct cij_error *err)
{
	struct pollfd fds[] = {
		{c->s.link.fd, POLLIN | (c->n_input > 0 ? POLLOUT : 0)},
		{c->reading && c->n_input < INPUT_MAX ? STDIN_FILENO : -1, POLLIN},
		{c->s.events.fd, POLLIN},
		/* Nobody reads our output any more: there may be none for hours that would tell. */
		{STDOUT_FILENO, 0},
	};
	enum step step = STEP_ON;

	if (c->s.link.fd < 0 && !c->s.away_since)
		return broke_off(c, err);
	if (poll(fds, cij_array_size(fds), link_has_raw(&c->s.link) ? 0 : next_wait(c)) < 0)
		return STEP_ON; /* a signal */
	if (fds[3].revents & POLLERR)
		return STEP_DONE;
	if (fds[1].revents)
		step = take_input(c, err);
	if (step == STEP_ON && c->n_input > 0 && c->s.link.fd >= 0)
		send_input(c);
	if (step == STEP_ON && fds[2].revents)
		stream_take_events(&c->s);
	if (step == STEP_ON && c->taken && !c->keys && (c->reading || c->n_input > 0))
		return refuse_input(c, err);
	if (step == STEP_ON && c->s.away_since && clock_left(c->next_try) == 0)
		return broke_off(c, err);
	if (step == STEP_ON && c->s.link.fd >= 0)
		step = take_output(c, err);
	if (step == STEP_ON && !c->reading && c->had_input && c->n_input == 0 && !c->s.away_since &&
		clock_ms() - c->last_output >= SILENCE_MS)
		return STEP_DONE;
	return step;
}

static void
console_close(struct console **c)
{
	if (!*c)
		return;
	term_restore();
	out_set_raw(false);
	stream_close(&(*c)->s);
	free(*c);
}

static struct console *
console_new(struct call *call, const char *guest, enum stream_mode mode, int escape)
{
	struct console *c = calloc(1, sizeof(*c));

	if (!c)
		abort();
	c->call = call;
	c->s = (struct stream)STREAM_INIT;
	c->s.socket = call->socket;
	c->s.guest = guest;
	c->s.mode = mode;
	c->s.want_events = true;
	c->s.on_event = tell_event;
	c->s.arg = c;
	c->escape = escape;
	c->keys = isatty(STDIN_FILENO);
	/* A script that only watches has no input, whatever its stdin is. */
	c->reading = c->keys || mode != STREAM_READ_ONLY;
	return c;
}

/* Attaches, then moves bytes until detached or the run ends. */
static int
console_run(
	struct console *c, struct json_object *from, struct json_object *run, struct cij_error *err)
{
	bool whole = json_object_is_type(from, json_type_string) &&
		     strcmp(json_object_get_string(from), "start") == 0;
	int64_t byte = json_object_is_type(from, json_type_int) ? json_object_get_int64(from) : -1;
	enum step step = STEP_ON;

	if (stream_attach(&c->s, from, run, call_deadline(c->call, ATTACH_SECONDS), err) < 0)
		return -1;
	if (byte >= 0)
		stream_tell_skipped(&c->s, byte);
	if (whole)
		stream_tell_missing(&c->s);
	else if (c->s.incomplete_now)
		stream_tell_incomplete(&c->s);
	if (c->keys && term_raw(STDIN_FILENO, err) < 0)
		return -1;
	out_set_raw(c->keys);
	if (c->keys)
		tell_role(c);
	while (step == STEP_ON)
		step = console_step(c, err);
	if (c->keys) {
		term_restore();
		out_set_raw(false);
		if (step == STEP_DONE && !c->s.view && out_has_progress()) {
			(void)out_write(
				STDERR_FILENO, "\n", 1); /* away from the guest's own line */
			out_note("[%s: detached]", c->s.guest);
		}
	}
	return step == STEP_DONE ? 0 : -1;
}

int
console_run_started(struct call *call, const char *guest, int64_t run, struct cij_error *err)
{
	_cleanup_(console_close)
	struct console *c = console_new(call, guest, STREAM_AUTO, ESCAPE_DEFAULT);

	return console_run(c, json_object_new_string("start"),
		run > 0 ? json_object_new_int64(run) : NULL, err);
}

static int
mode_option(const struct call *call, enum stream_mode *mode, struct cij_error *err)
{
	bool read_only = call_has(call, "read-only"), force = call_has(call, "force");
	bool join = call_has(call, "join");

	if (read_only + force + join > 1)
		return call_usage(call, err, "--read-only, --force and --join exclude each other");
	*mode = read_only ? STREAM_READ_ONLY
		: force   ? STREAM_FORCE
		: join    ? STREAM_JOIN
			  : STREAM_AUTO;
	return 0;
}

/* --from as the wire has it: "start", "end", bytes, or lines back as a negative number. */
static int
from_option(const struct call *call, struct json_object **from, struct cij_error *err)
{
	const char *text = call_value(call, "from");
	int64_t number;

	*from = NULL;
	if (!text)
		text = "end";
	if (strcmp(text, "start") == 0 || strcmp(text, "end") == 0) {
		*from = json_object_new_string(text);
		return 0;
	}
	if (call_number(call, "from", 0, &number, err) < 0)
		return call_usage(call, err,
			"--from takes start, end, a byte's offset or -LINES, not '%s'", text);
	*from = json_object_new_int64(number);
	return 0;
}

static int
escape_option(const struct call *call, int *escape, struct cij_error *err)
{
	const char *text = call_value(call, "escape");

	*escape = ESCAPE_DEFAULT;
	if (!text)
		return 0;
	if (strcmp(text, "none") == 0)
		*escape = ESCAPE_NONE;
	else if (strlen(text) == 1 && !(*text & 0x80))
		*escape = (unsigned char)*text;
	else if (strlen(text) == 2 && *text == '^' &&
		 ((text[1] >= '?' && text[1] <= '_') || (text[1] >= 'a' && text[1] <= 'z')))
		*escape = text[1] == '?' ? 0x7f : text[1] & 0x1f;
	else
		return call_usage(call, err,
			"-e takes one character, '^' and a letter, or none, not '%s'", text);
	return 0;
}

static int
console_one(struct call *call, struct cij_error *err)
{
	enum stream_mode mode = STREAM_AUTO;
	struct json_object *from;
	int escape;

	if (mode_option(call, &mode, err) < 0 || escape_option(call, &escape, err) < 0 ||
		from_option(call, &from, err) < 0)
		return -1;
	_cleanup_(console_close)
	struct console *c = console_new(call, call->guest, mode, escape);

	return console_run(c, from, NULL, err);
}

int
cmd_console(struct call *call, struct cij_error *err)
{
	bool read_only = call_has(call, "read-only");

	if (!cij_is_glob(call->guest))
		return console_one(call, err);
	if (!read_only && isatty(STDIN_FILENO))
		return cij_error_set(err, CIJ_E_USAGE,
			"a conversation is with one guest: name it, pipe the input in, or watch "
			"with "
			"--read-only");
	return console_many(call, !read_only, console_one, err);
}
