#include "client/jobs.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "cijqemu/protocol.h"
#include "client/clock.h"
#include "client/out.h"
#include "client/stream.h"
#include "client/view.h"
#include "proto/message.h"

/* How often the elapsed time is drawn anew. */
#define TICK_MS 100

/* Lines of the console that are shown when a guest did not come up. */
#define LAST_LINES 5

/* What the daemon needs to tell us of a time-out of its own. */
#define ANSWER_SECONDS 5

struct jobs {
	struct call *call;
	const struct verb *verb;
	struct guests guests;
	struct job *items;
	size_t n, done;
	struct link link; /* requests and replies */
	struct link events; /* phases, for the line of progress; -1 = not wanted */
	int64_t began, deadline;
};

static void
jobs_clear(struct jobs *j)
{
	for (size_t i = 0; i < j->n; i++) {
		reply_clear(&j->items[i].reply);
		free(j->items[i].error);
	}
	free(j->items);
	guests_clear(&j->guests);
	link_close(&j->link);
	link_close(&j->events);
}

static double
elapsed(const struct jobs *j)
{
	return (double)(clock_ms() - j->began) / 1000;
}

/* Ends a job that failed, and says so at once. */
static void
fail(struct jobs *j, struct job *job, const struct cij_error *err)
{
	bool prefix = j->n > 1 && !strstr(err->desc, job->guest->name);

	job->id = 0;
	j->done++;
	job->error = malloc(sizeof(*job->error));
	if (!job->error)
		abort();
	*job->error = *err;
	out_error_of(prefix ? job->guest->name : NULL, err);
}

static void
succeed(struct jobs *j, struct job *job)
{
	job->id = 0;
	j->done++;
	if (!j->call->json)
		j->verb->tell(job->guest->name, job->reply.value, elapsed(j));
}

/* Seconds that a wait may still take: what the daemon is asked for. 0 = for ever. */
static double
seconds_left(const struct jobs *j)
{
	int left = clock_left(j->deadline);

	return left < 0 ? 0 : left < 1 ? 0.001 : left / 1000.0;
}

/* The operation went well: done, or on to the wait behind it. */
static void
answered(struct jobs *j, struct job *job, struct reply *r)
{
	struct json_object *args;
	struct cij_error err = CIJ_ERROR_INIT;

	reply_clear(&job->reply);
	job->reply = *r;
	*r = (struct reply){0};
	if (!j->verb->wait_for || job->waiting) {
		succeed(j, job);
		return;
	}
	if (cij_json_bool(job->reply.value, "already", false))
		out_note("%s: running already", job->guest->name);
	job->waiting = true;
	job->phase[0] = '\0';
	args = guest_arguments(job->guest->name);
	cij_json_add_str(args, "for", j->verb->wait_for);
	json_object_object_add(args, "timeout", json_object_new_double(seconds_left(j)));
	job->id = link_send(&j->link, "guest-wait", args, &err);
	if (job->id < 0)
		fail(j, job, &err);
}

/* Whether the console's last lines may tell why. */
static bool
console_helps(const struct jobs *j, const struct job *job, enum cij_error_class class)
{
	return j->n == 1 && (strcmp(j->verb->op, "guest-start") == 0 || job->waiting) &&
	       (class == CIJ_E_TIMEOUT || (class == CIJ_E_QEMU_FAILED && job->waiting));
}

static void
take_reply(struct jobs *j, struct reply *r)
{
	/* An error without an id is about a line that the daemon could not read: about them all. */
	bool all = r->kind == REPLY_ERROR && r->id == 0;

	for (size_t i = 0; r->kind != REPLY_EVENT && i < j->n; i++) {
		struct job *job = &j->items[i];
		struct cij_error err = CIJ_ERROR_INIT;

		if (job->id == 0 || (job->id != r->id && !all))
			continue;
		if (r->kind == REPLY_RETURN) {
			answered(j, job, r);
		} else {
			cij_message_to_error(r->msg, &err);
			fail(j, job, &err);
			if (console_helps(j, job, err.class))
				print_last_lines(j->call->socket, job->guest->name, LAST_LINES);
		}
		if (!all)
			return;
	}
}

/* Keeps the phase that an event tells of. */
static void
take_event(struct jobs *j, struct reply *r)
{
	const char *guest = cij_json_str(r->value, "guest"),
		   *phase = cij_json_str(r->value, "phase");
	const char *text = cij_json_str(r->value, "text");

	for (size_t i = 0; guest && phase && i < j->n; i++)
		if (strcmp(j->items[i].guest->name, guest) == 0)
			snprintf(j->items[i].phase, sizeof(j->items[i].phase), "%s%s%s", phase,
				text && *text ? ": " : "", text ? text : "");
}

static void
show_progress(const struct jobs *j)
{
	const struct job *job = &j->items[0];

	if (j->n > 1)
		out_progress(
			"%s: %zu of %zu done, %.1f s", j->verb->doing, j->done, j->n, elapsed(j));
	else if (job->waiting)
		out_progress("%s: running, waiting for %s%s%s, %.1f s", job->guest->name,
			j->verb->wait_for, *job->phase ? ", " : "", job->phase, elapsed(j));
	else
		out_progress("%s: %s%s%s, %.1f s", job->guest->name, j->verb->doing,
			*job->phase ? ", " : "", job->phase, elapsed(j));
}

/* The deadline has passed: fails what is not done, saying how far it came. */
static void
time_out(struct jobs *j)
{
	for (size_t i = 0; i < j->n; i++) {
		struct job *job = &j->items[i];
		struct cij_error err = CIJ_ERROR_INIT;

		if (job->id == 0)
			continue;
		cij_error_set(&err, CIJ_E_TIMEOUT, "%s: not done after %.1f s: %s%s%s%s",
			job->guest->name, elapsed(j),
			job->waiting ? "waiting for " : j->verb->doing,
			job->waiting ? j->verb->wait_for : "", *job->phase ? ", " : "", job->phase);
		fail(j, job, &err);
		if (console_helps(j, job, err.class))
			print_last_lines(j->call->socket, job->guest->name, LAST_LINES);
	}
}

/* Takes in all messages that are there. Returns 0, or -1 when the daemon is lost. */
static int
drain(struct jobs *j, struct cij_error *err)
{
	struct cij_error unheard = CIJ_ERROR_INIT; /* progress is no part of the work */
	int rc;

	for (;;) {
		_cleanup_reply_ struct reply r = {0};

		rc = j->events.fd >= 0 ? link_next(&j->events, clock_ms(), &r, &unheard) : 0;
		if (rc < 0)
			link_close(&j->events);
		if (rc <= 0)
			break;
		take_event(j, &r);
	}
	while (j->done < j->n) {
		_cleanup_reply_ struct reply r = {0};

		rc = link_next(&j->link, clock_ms(), &r, err);
		if (rc <= 0)
			return rc;
		take_reply(j, &r);
	}
	return 0;
}

/*
 * When to give up. The daemon has the same deadline for its waits, and its error says more than
 * ours: where all that is left are waits, it is given the time to tell.
 */
static int64_t
patience_ends(const struct jobs *j)
{
	for (size_t i = 0; i < j->n; i++)
		if (j->items[i].id != 0 && !j->items[i].waiting)
			return j->deadline;
	return j->deadline == CLOCK_NEVER ? CLOCK_NEVER : j->deadline + ANSWER_SECONDS * 1000;
}

/* Waits for all replies. */
static int
run(struct jobs *j, struct cij_error *err)
{
	bool progress = out_has_progress() && !j->call->json;

	while (drain(j, err) == 0) {
		struct pollfd fds[] = {{j->link.fd, POLLIN}, {j->events.fd, POLLIN}};
		int64_t deadline = patience_ends(j);
		int64_t until = progress ? clock_earlier(deadline, clock_ms() + TICK_MS) : deadline;

		if (j->done == j->n) {
			out_progress_end();
			return 0;
		}
		if (clock_left(deadline) == 0) {
			time_out(j);
			return 0;
		}
		if (progress)
			show_progress(j);
		(void)poll(fds, 2, clock_left(until));
	}
	out_progress_end();
	return -1;
}

/* Whether a guest that a glob or --all found is one that the verb is meant for. */
static bool
applies(const struct verb *verb, const struct guest_ref *ref)
{
	const char *at;
	size_t len;

	if (!ref->state || !verb->states)
		return true;
	len = strlen(ref->state);
	at = strstr(verb->states, ref->state);
	return at && (at[len] == ' ' || !at[len]);
}

/* Sends the requests of all guests. */
static int
send_all(struct jobs *j, struct cij_error *err)
{
	for (size_t i = 0; i < j->guests.n; i++) {
		struct job *job = &j->items[j->n];
		struct json_object *args;
		struct cij_error fault = CIJ_ERROR_INIT;

		if (!applies(j->verb, &j->guests.items[i]))
			continue;
		job->guest = &j->guests.items[i];
		j->n++;
		if (job->guest->missing) {
			guest_missing(job->guest, &fault);
			fail(j, job, &fault);
			continue;
		}
		args = guest_arguments(job->guest->name);
		if (j->verb->arguments)
			j->verb->arguments(j->verb, args);
		job->id = link_send(&j->link, j->verb->op, args, err);
		if (job->id < 0)
			return -1;
	}
	return 0;
}

/* Subscribes to the events of the guests; without them there is less to show, that is all. */
static void
subscribe(struct jobs *j)
{
	struct cij_error unheard = CIJ_ERROR_INIT;
	struct json_object *args = globs_arguments(
		(const char *const *)j->call->args, j->call->n_args);

	if (link_open(&j->events, j->call->socket, CLOCK_NEVER, &unheard) < 0)
		json_object_put(args);
	else if (link_send(&j->events, "events-subscribe", args, &unheard) < 0)
		link_close(&j->events);
}

static int
execute(struct jobs *j, struct cij_error *err)
{
	struct call *call = j->call;

	j->began = clock_ms();
	j->deadline = call_deadline(call, j->verb->patience);
	if (link_open(&j->link, call->socket, j->deadline, err) < 0 ||
		guests_expand(&j->link, call->args, call->n_args, &j->guests, err) < 0)
		return -1;
	j->items = calloc(j->guests.n + 1, sizeof(*j->items));
	if (!j->items)
		abort();
	if (out_has_progress() && !call->json)
		subscribe(j);
	if (send_all(j, err) < 0)
		return -1;
	if (j->n == 0)
		out_note("%s: there is no guest that it applies to", call->command->name);
	return run(j, err);
}

/* The views of those that went well: one object where one guest was named, else an array. */
static void
print_views(const struct jobs *j)
{
	bool one = j->call->n_args == 1 && j->guests.n == 1 && !j->guests.items[0].state,
	     first = true;

	if (!one)
		putchar('[');
	for (size_t i = 0; i < j->n; i++) {
		const char *text;
		size_t len;

		if (j->items[i].error || !j->items[i].reply.line)
			continue;
		text = reply_text(&j->items[i].reply, &len);
		if (one) {
			out_json(text, len, out_colours(stdout));
		} else {
			printf("%s%.*s", first ? "" : ",\n ", (int)len, text);
		}
		first = false;
	}
	if (!one)
		printf("]\n");
}

/* The exit code of the first that failed, in the order in which they were named. */
static int
first_failure(const struct jobs *j)
{
	for (size_t i = 0; i < j->n; i++)
		if (j->items[i].error)
			return cij_error_exit_code(j->items[i].error->class);
	return 0;
}

int
jobs_run(struct call *call, const struct verb *verb, struct json_object **view,
	struct cij_error *err)
{
	_cleanup_(jobs_clear)
	struct jobs j = {.call = call, .verb = verb, .link = LINK_INIT, .events = LINK_INIT};
	int rc = execute(&j, err), code = first_failure(&j);

	if (call->json && rc == 0)
		print_views(&j);
	if (rc == 0 && view && j.n == 1)
		*view = json_object_get(j.items[0].reply.value);
	if (rc < 0 && code)
		out_error(err);
	return code ? code : rc;
}
