/* logs: what a run has printed, and goes on to print. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/args.h"
#include "client/clock.h"
#include "client/ctlfilter.h"
#include "client/out.h"
#include "client/stream.h"

#define ATTACH_SECONDS 30

/* The log is moved in blocks of this size: a big one costs few calls. */
#define LOG_BLOCK (256 * 1024)

struct log {
	struct stream s;
	bool follow;
	bool filtered;
	struct ctl_filter filter;
	char block[LOG_BLOCK];
	char clean[LOG_BLOCK + CTL_FILTER_HELD];
};

static int
print_block(struct log *log, size_t n, struct cij_error *err)
{
	const char *data = log->block;

	/* Without -f the log ends where it ended when we came, whatever was added since. */
	if (!log->follow && log->s.offset > log->s.end) {
		int64_t over = log->s.offset - log->s.end;

		n = over < (int64_t)n ? n - (size_t)over : 0;
	}
	if (log->filtered) {
		n = ctl_filter_run(&log->filter, log->block, n, log->clean);
		data = log->clean;
	}
	if (out_write(STDOUT_FILENO, data, n) < 0)
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
			(void)stream_wait(&log->s, CLOCK_NEVER);
			continue;
		}
		int64_t end = log->s.end;
		enum stream_next next = stream_again_wait(&log->s, err);

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
	free(*log);
}

int
cmd_logs(struct call *call, struct cij_error *err)
{
	int64_t deadline = call_deadline(call, ATTACH_SECONDS), lines, run;
	struct json_object *from;

	if (call_number(call, "lines", 0, &lines, err) < 0 ||
		call_number(call, "boot", 0, &run, err) < 0)
		return -1;
	if (lines < 0)
		lines = -lines; /* as 'tail -n -5' has it */
	_cleanup_(log_free)
	struct log *log = calloc(1, sizeof(*log));
	if (!log)
		abort();
	log->s = (struct stream)STREAM_INIT;
	log->s.socket = call->socket;
	log->s.guest = call->guest;
	log->s.mode = STREAM_READ_ONLY;
	log->follow = call_has(call, "follow");
	log->filtered = isatty(STDOUT_FILENO) && !call_has(call, "raw");
	if (lines > 0)
		from = json_object_new_int64(-lines);
	else
		from = json_object_new_string(call_has(call, "lines") ? "end" : "start");
	if (stream_attach(&log->s, from, call_has(call, "boot") ? json_object_new_int64(run) : NULL,
		    deadline, err) < 0)
		return -1;
	if (!call_has(call, "lines") && log->s.offset > 0)
		out_note("the first %lld bytes are gone from the log (log.limit)",
			(long long)log->s.offset);
	if (print_log(log, err) < 0)
		return errno == EPIPE ? 0 : -1;
	return 0;
}
