#include "client/logtimes.h"

#include "client/clock.h"

/* The daemon answers at once. */
#define ASK_SECONDS 10

void
log_times_close(struct log_times *t)
{
	link_close(&t->link);
}

/* Asks the daemon, which may have been restarted since the last time. */
static int
ask(struct log_times *t, const char *what, int64_t value, struct reply *r, struct cij_error *err)
{
	for (int tries = 0;; tries++) {
		struct json_object *args = guest_arguments(t->guest);
		bool fresh = t->link.fd < 0;

		cij_json_add_int(args, "run", t->run);
		cij_json_add_int(args, what, value);
		if (fresh && link_open(&t->link, t->socket, clock_deadline(ASK_SECONDS), err) < 0) {
			json_object_put(args);
			return -1;
		}
		t->link.deadline = clock_deadline(ASK_SECONDS);
		if (link_call(&t->link, "console-times", args, r, err) == 0)
			return 0;
		link_close(&t->link);
		if (fresh || err->class != CIJ_E_UNREACHABLE || tries > 0)
			return -1;
	}
}

static void
keep(struct log_times *t, struct json_object *value)
{
	struct json_object *list = cij_json_get(value, "times");
	size_t n = cij_json_length(list);

	t->n = t->at = 0;
	for (size_t i = 0; i < n && i < LOG_TIMES_MAX; i++) {
		struct json_object *pair = json_object_array_get_idx(list, i);

		if (!json_object_is_type(pair, json_type_array) ||
			json_object_array_length(pair) != 2)
			continue;
		t->times[t->n].offset = json_object_get_int64(json_object_array_get_idx(pair, 0));
		t->times[t->n++].usec = json_object_get_int64(json_object_array_get_idx(pair, 1));
	}
	t->end = cij_json_int(value, "end", 0);
	/* The last one ends where the first of the next answer begins. */
	if (t->n > 1 && (cij_json_bool(value, "more", false) || n > LOG_TIMES_MAX))
		t->end = t->times[--t->n].offset;
}

int64_t
log_times_since(struct log_times *t, const struct when *when, struct cij_error *err)
{
	_cleanup_reply_ struct reply r = {0};

	if (ask(t, when->ago ? "ago" : "since", when->usec, &r, err) < 0)
		return -1;
	t->run = cij_json_int(r.value, "run", t->run);
	return cij_json_int(r.value, "offset", 0);
}

int64_t
log_times_of(struct log_times *t, int64_t offset)
{
	if (offset >= t->end) {
		_cleanup_reply_ struct reply r = {0};
		struct cij_error err = CIJ_ERROR_INIT;

		/* A time that cannot be had is shown as unknown: the log itself is what counts. */
		if (ask(t, "offset", offset, &r, &err) < 0)
			return 0;
		keep(t, r.value);
	}
	if (t->n > 0 && offset < t->times[t->at].offset)
		t->at = 0;
	while (t->at + 1 < t->n && t->times[t->at + 1].offset <= offset)
		t->at++;
	return t->n > 0 && t->times[t->at].offset <= offset ? t->times[t->at].usec : 0;
}
