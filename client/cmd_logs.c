/* logs: what a run has printed, and goes on to print. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/args.h"
#include "client/clock.h"
#include "client/ctlfilter.h"
#include "client/logtimes.h"
#include "client/out.h"
#include "client/stream.h"

#define ATTACH_SECONDS 30

/* The log is moved in blocks of this size: a big one costs few calls. */
#define LOG_BLOCK (256 * 1024)

/* "2026-11-22T11:40:05.123+01:00", and as much room where the time is not known. */
#define STAMP_BYTES 40
#define STAMP_UNKNOWN "?                            "

/* As JSON a longer line is given in pieces. */
#define JSON_LINE_BYTES (16 * 1024)

struct log {
	struct stream s;
	bool follow;
	bool filtered;
	bool stamped; /* --timestamps */
	bool in_line; /* the line that comes has its time already */
	bool json; /* each line an object */
	int64_t line_offset; /* json: of the line that comes, once in_line */
	size_t line_len;
	char line[JSON_LINE_BYTES + 1];
	struct log_times times;
	struct ctl_filter filter;
	char block[LOG_BLOCK];
	char clean[LOG_BLOCK + CTL_FILTER_HELD];
};

static int
print_bytes(struct log *log, const char *data, size_t n)
{
	if (log->filtered) {
		n = ctl_filter_run(&log->filter, data, n, log->clean);
		data = log->clean;
	}
	return fwrite(data, 1, n, stdout) == n ? 0 : -1;
}

/* Each line with the time at which its first byte came; @offset: of the first byte. */
static int
print_stamped(struct log *log, const char *data, size_t n, int64_t offset)
{
	char stamp[STAMP_BYTES];

	while (n > 0) {
		const char *newline = memchr(data, '\n', n);
		size_t len = newline ? (size_t)(newline - data) + 1 : n;
		int64_t when = log->in_line ? 0 : log_times_of(&log->times, offset);

		if (!log->in_line && printf("%s ", when ? when_text(when, stamp, sizeof(stamp))
							: STAMP_UNKNOWN) < 0)
			return -1;
		log->in_line = !newline;
		if (print_bytes(log, data, len) < 0)
			return -1;
		data += len;
		offset += (int64_t)len;
		n -= len;
	}
	return 0;
}

/* The line that has come, without what is for terminals: {"time": …, "offset": …, "line": …}. */
static int
print_json_line(struct log *log)
{
	struct ctl_filter filter = {.plain = true};
	size_t len = ctl_filter_run(&filter, log->line, log->line_len, log->clean);
	_cleanup_json_ struct json_object *obj = json_object_new_object();
	int64_t when = log_times_of(&log->times, log->line_offset);
	char stamp[STAMP_BYTES];

	while (len > 0 && log->clean[len - 1] == '\r')
		len--;
	cij_json_add_str(obj, "time", when ? when_text(when, stamp, sizeof(stamp)) : NULL);
	cij_json_add_int(obj, "offset", log->line_offset);
	json_object_object_add(obj, "line", json_object_new_string_len(log->clean, (int)len));
	log->line_len = 0;
	log->in_line = false;
	return puts(json_object_to_json_string_ext(obj, JSON_C_TO_STRING_NOSLASHESCAPE)) < 0 ? -1
											     : 0;
}

static int
print_json(struct log *log, const char *data, size_t n, int64_t offset)
{
	for (size_t i = 0; i < n; i++) {
		if (!log->in_line) {
			log->in_line = true;
			log->line_offset = offset + (int64_t)i;
		}
		if (data[i] != '\n')
			log->line[log->line_len++] = data[i];
		if ((data[i] == '\n' || log->line_len == JSON_LINE_BYTES) &&
			print_json_line(log) < 0)
			return -1;
	}
	return 0;
}

static int
print_block(struct log *log, size_t n, struct cij_error *err)
{
	int64_t begin = log->s.offset - (int64_t)n;
	int rc;

	/* Without -f the log ends where it ended when we came, whatever was added since. */
	if (!log->follow && log->s.offset > log->s.end) {
		int64_t over = log->s.offset - log->s.end;

		n = over < (int64_t)n ? n - (size_t)over : 0;
	}
	if (log->json)
		rc = print_json(log, log->block, n, begin);
	else if (log->stamped)
		rc = print_stamped(log, log->block, n, begin);
	else if (log->filtered)
		rc = print_bytes(log, log->block, n);
	else
		rc = out_write(STDOUT_FILENO, log->block, n);
	if (rc < 0 || fflush(stdout) != 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot write the output");
	return 0;
}

/* Prints until the end. Returns 0, or -1; errno is EPIPE when nobody reads any more. */
static int
print_log(struct log *log, struct cij_error *err)
{
	while (log->follow || log->s.offset < log->s.end) {
		ssize_t n = stream_read(&log->s, log->block, sizeof(log->block));

		if (n > 0) {
			if (print_block(log, n, err) < 0)
				return -1;
			continue;
		}
		if (n < 0 && errno == EAGAIN) {
			/* Nobody reads: there may be nothing to print for hours that would tell. */
			if (stream_wait(&log->s, STDOUT_FILENO, CLOCK_NEVER) < 0) {
				errno = EPIPE;
				return -1;
			}
			continue;
		}
		int64_t end = log->s.end;
		enum stream_next next = stream_again_wait(&log->s, CLOCK_NEVER, err);

		if (!log->follow)
			log->s.end = end;
		errno = 0;
		if (next == STREAM_FAILED)
			return -1;
		if (next == STREAM_ENDED) {
			if (log->follow)
				stream_tell_end(&log->s);
			return 0;
		}
	}
	return 0;
}

static void
log_free(struct log **log)
{
	stream_close(&(*log)->s);
	log_times_close(&(*log)->times);
	free(*log);
}

static struct log *
log_new(const struct call *call, int64_t run)
{
	struct log *log = calloc(1, sizeof(*log));

	if (!log)
		abort();
	log->s = (struct stream)STREAM_INIT;
	log->s.socket = log->times.socket = call->socket;
	log->s.guest = log->times.guest = call->guest;
	log->s.mode = STREAM_READ_ONLY;
	log->s.want_events = true;
	log->times.run = run;
	log->times.link = (struct link)LINK_INIT;
	log->follow = call_has(call, "follow");
	log->stamped = call_has(call, "timestamps");
	log->json = call->json;
	log->filtered = isatty(STDOUT_FILENO) && !call_has(call, "raw");
	return log;
}

/* Attaches where --lines and --since say: at the later of the two. */
static int
attach(struct log *log, const struct call *call, int64_t lines, const struct when *since,
	struct cij_error *err)
{
	int64_t deadline = call_deadline(call, ATTACH_SECONDS), run = log->times.run, offset = -1;
	struct json_object *from;

	if (since && (offset = log_times_since(&log->times, since, err)) < 0)
		return -1;
	if (lines > 0)
		from = json_object_new_int64(-lines);
	else if (call_has(call, "lines"))
		from = json_object_new_string("end");
	else if (since)
		from = json_object_new_int64(offset);
	else
		from = json_object_new_string("start");
	if (stream_attach(&log->s, from, json_object_new_int64(run), deadline, err) < 0)
		return -1;
	if (log->s.offset >= offset)
		return 0;
	return stream_attach(&log->s, json_object_new_int64(offset),
		json_object_new_int64(log->s.run), deadline, err);
}

int
cmd_logs(struct call *call, struct cij_error *err)
{
	const char *since_text = call_value(call, "since");
	struct when since;
	int64_t lines, run;

	if (call_number(call, "lines", 0, &lines, err) < 0 ||
		call_number(call, "boot", 0, &run, err) < 0)
		return -1;
	if (since_text && when_parse(since_text, time(NULL), &since, err) < 0)
		return -1;
	if (lines < 0)
		lines = -lines; /* as 'tail -n -5' has it */
	_cleanup_(log_free)
	struct log *log = log_new(call, run);
	if (attach(log, call, lines, since_text ? &since : NULL, err) < 0)
		return -1;
	log->times.run = log->s.run;
	if (!call_has(call, "lines") && !since_text)
		stream_tell_missing(&log->s);
	else if (*log->s.incomplete)
		stream_tell_incomplete(&log->s);
	if (print_log(log, err) < 0)
		return errno == EPIPE ? 0 : -1;
	/* A last line without its end. */
	if (log->json && log->in_line && print_json_line(log) < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot write the output");
	return 0;
}
