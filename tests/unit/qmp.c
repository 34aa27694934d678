/* daemon/qmp over a socketpair, against a scripted peer: every waiter hears exactly once. */
#include "tests/unit/loop.h"

#include <errno.h>
#include <signal.h>

#include "daemon/qmp.h"

#define GREETING "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 7}}, \"capabilities\": []}}\r\n"

static struct qmp *qmp;
static int peer = -1;
static int n_ready, n_closed, n_events;
static char event_name[32], closed_why[CIJ_ERROR_DESC_MAX];
static bool free_in_ready, free_in_event, free_in_closed;

struct waiter {
	int calls;
	enum cij_error_class class;
	char text[CIJ_ERROR_DESC_MAX]; /* the value, or the error's words */
	bool free_it; /* the connection, inside the callback */
	struct waiter *send_more; /* another command, inside the callback */
};

static void
drop(void)
{
	qmp_free(qmp);
	qmp = NULL;
}

static void
on_ready(void *arg, struct json_object *greeting)
{
	assert_ptr_equal(arg, &n_ready);
	assert_non_null(cij_json_get(greeting, "version"));
	n_ready++;
	if (free_in_ready)
		drop();
}

static void
on_event(void *arg, const char *name, struct json_object *data)
{
	n_events++;
	snprintf(event_name, sizeof(event_name), "%s", name);
	if (free_in_event)
		drop();
}

static void
on_closed(void *arg, const struct cij_error *why)
{
	n_closed++;
	snprintf(closed_why, sizeof(closed_why), "%s", why->desc);
	if (free_in_closed)
		drop();
}

static const struct qmp_ops ops = {on_ready, on_event, on_closed};

static void
on_reply(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct waiter *w = arg;

	w->calls++;
	w->class = err ? err->class : CIJ_E_NONE;
	snprintf(w->text, sizeof(w->text), "%s",
		err ? err->desc : json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
	if (err)
		assert_null(value);
	if (w->send_more)
		qmp_send(qmp, "more", NULL, 0, on_reply, w->send_more);
	if (w->free_it)
		drop();
}

/* What the peer got so far, one line; waits for it. */
static const char *
heard(void)
{
	static char line[65536];
	size_t n = 0;

	while (n == 0 || line[n - 1] != '\n') {
		ssize_t got;

		assert_true(n < sizeof(line) - 1);
		got = read(peer, line + n, 1);
		if (got < 0 && errno == EAGAIN)
			loop_settle(1);
		else
			assert_int_equal(got, 1), n++;
	}
	line[n - 1] = '\0';
	return line;
}

/* The id of the command in @line, which must be @name. */
static int
id_of(const char *line, const char *name)
{
	_cleanup_json_ struct json_object *msg = json(line);

	assert_string_equal(cij_json_str(msg, "execute"), name);
	return (int)cij_json_int(msg, "id", -1);
}

static void
answer(int id, const char *value)
{
	char text[256];

	snprintf(text, sizeof(text), "{\"return\": %s, \"id\": %d}\r\n", value, id);
	say(peer, text);
}

static int
begin(void **state)
{
	int fds[2];

	signal(SIGPIPE, SIG_IGN); /* as the daemon's main() does */
	loop = event_base_new();
	socket_pair(fds);
	peer = fds[1];
	n_ready = n_closed = n_events = 0;
	free_in_ready = free_in_event = free_in_closed = false;
	qmp = qmp_new(loop, fds[0], &ops, &n_ready);
	return 0;
}

static int
end(void **state)
{
	drop();
	close(peer);
	event_base_free(loop);
	return 0;
}

/* Greets and negotiates. */
static void
greet(void)
{
	say(peer, GREETING);
	answer(id_of(heard(), "qmp_capabilities"), "{}");
	loop_until(n_ready == 1);
}

static void
negotiates_and_answers(void **state)
{
	struct waiter a = {0}, b = {0};
	int id_a, id_b;

	greet();
	qmp_send(qmp, "query-status", NULL, 0, on_reply, &a);
	qmp_send(qmp, "device_add", json("{'driver':'x'}"), 0, on_reply, &b);
	id_a = id_of(heard(), "query-status");
	const char *second = heard();
	id_b = id_of(second, "device_add");
	assert_has(second, "\"arguments\":{\"driver\":\"x\"}");
	assert_int_not_equal(id_a, id_b);
	answer(id_b, "7"); /* in another order */
	answer(id_a, "{\"status\": \"running\"}");
	loop_until(a.calls && b.calls);
	assert_string_equal(a.text, "{\"status\":\"running\"}");
	assert_string_equal(b.text, "7");
	assert_int_equal(a.calls + b.calls, 2);
	assert_int_equal(n_closed, 0);
}

/* QEMU refuses commands before the negotiation: those that come early wait for it. */
static void
early_commands_wait(void **state)
{
	struct waiter a = {0};
	int id;

	qmp_send(qmp, "query-status", NULL, 0, on_reply, &a);
	say(peer, GREETING);
	id = id_of(heard(), "qmp_capabilities");
	loop_settle(5);
	assert_int_equal(recv(peer, (char[1]){0}, 1, MSG_PEEK), -1);
	answer(id, "{}");
	answer(id_of(heard(), "query-status"), "1");
	loop_until(a.calls);
	assert_string_equal(a.text, "1");
	assert_int_equal(n_ready, 1);
}

static void
the_human_monitor(void **state)
{
	struct waiter a = {0};

	greet();
	qmp_send_hmp(qmp, "info \"status\"", 0, on_reply, &a);
	const char *line = heard();
	assert_has(line, "\"command-line\":\"info \\\"status\\\"\"");
	answer(id_of(line, "human-monitor-command"), "\"VM status\\r\\n\"");
	loop_until(a.calls);
	assert_string_equal(a.text, "\"VM status\\r\\n\"");
}

static void
errors_are_qemus_words(void **state)
{
	struct waiter a = {0}, b = {0}, c = {0};

	greet();
	qmp_send(qmp, "x", NULL, 0, on_reply, &a);
	qmp_send(qmp, "y", NULL, 0, on_reply, &b);
	qmp_send(qmp, "z", NULL, 0, on_reply, &c);
	int id = id_of(heard(), "x");
	char text[256];
	snprintf(text, sizeof(text),
		"{\"id\": %d, \"error\": {\"class\": \"GenericError\", \"desc\": \"no such x\"}}\n"
		"{\"id\": %d, \"error\": {}}\n{\"id\": %d, \"return\": null}\n",
		id, id + 1, id + 2);
	say(peer, text);
	loop_until(a.calls && b.calls && c.calls);
	assert_int_equal(a.class, CIJ_E_QEMU_FAILED);
	assert_string_equal(a.text, "no such x");
	assert_string_equal(b.text, "QEMU gave no reason");
	assert_int_equal(c.class, CIJ_E_NONE);
}

static void
events_come_after_the_negotiation(void **state)
{
	say(peer, GREETING "{\"event\": \"TOO_EARLY\"}\r\n");
	int id = id_of(heard(), "qmp_capabilities");
	loop_settle(5);
	assert_int_equal(n_events, 0);
	answer(id, "{}");
	say(peer, "{\"event\": \"STOP\", \"data\": {}}\r\n{\"event\": \"RESUME\"}\r\n");
	loop_until(n_events == 2);
	assert_string_equal(event_name, "RESUME");
}

static void
junk_before_the_greeting_is_skipped(void **state)
{
	say(peer, "ocssd_ns_class_init\r\n\n[1,2]\n\xff\xfe\n{\"half\":\n");
	greet();
	assert_int_equal(n_closed, 0);
}

static void
endless_junk_is_no_qmp(void **state)
{
	for (int i = 0; i < 101; i++)
		say(peer, "junk \033[2J\n");
	loop_until(n_closed);
	assert_string_equal(closed_why, "QEMU's monitor talks no QMP: 'junk ?[2J'");
	assert_int_equal(n_ready, 0);
}

static void
garbage_after_the_greeting_ends_it(void **state)
{
	static const char *const garbage[] = {"garbage\n", "[]\n", "{\"x\": 1}\n", "null\n",
		"{\"QMP\": {}}\n", "{\"return\": NaN, \"id\": 2}\n"};

	for (size_t i = 0; i < cij_array_size(garbage); i++) {
		struct waiter a = {0}, b = {0};

		if (i > 0)
			end(NULL), begin(NULL);
		greet();
		qmp_send(qmp, "x", NULL, 0, on_reply, &a);
		qmp_send(qmp, "y", NULL, 30, on_reply, &b);
		say(peer, garbage[i]);
		loop_until(n_closed);
		assert_has(closed_why, "QEMU's monitor talks no QMP");
		assert_int_equal(a.calls, 1);
		assert_int_equal(b.calls, 1);
		assert_int_equal(a.class, CIJ_E_QEMU_FAILED);
		qmp_send(qmp, "z", NULL, 0, on_reply, &a); /* fails at once */
		assert_int_equal(a.calls, 2);
		assert_int_equal(n_closed, 1);
	}
}

static void
replies_to_nobody_are_dropped(void **state)
{
	struct waiter a = {0};

	greet();
	qmp_send(qmp, "x", NULL, 0, on_reply, &a);
	int id = id_of(heard(), "x");
	answer(id + 1000, "1");
	say(peer, "{\"return\": 2}\n{\"return\": 3, \"id\": \"text\"}\n"
		  "{\"error\": {\"desc\": \"JSON parse error\"}}\n");
	loop_settle(5);
	assert_int_equal(a.calls, 0);
	answer(id, "4");
	answer(id, "5"); /* twice */
	loop_until(a.calls);
	loop_settle(5);
	assert_int_equal(a.calls, 1);
	assert_string_equal(a.text, "4");
	assert_int_equal(n_closed, 0);
}

static void
a_late_answer_is_dropped(void **state)
{
	struct waiter a = {0}, b = {0};

	greet();
	qmp_send(qmp, "slow", NULL, 0.02, on_reply, &a);
	int id = id_of(heard(), "slow");
	loop_until(a.calls);
	assert_int_equal(a.class, CIJ_E_TIMEOUT);
	assert_string_equal(a.text, "QEMU's monitor did not answer in time");
	answer(id, "1");
	qmp_send(qmp, "next", NULL, 30, on_reply, &b); /* the connection is as good as before */
	answer(id_of(heard(), "next"), "2");
	loop_until(b.calls);
	assert_int_equal(a.calls, 1);
	assert_string_equal(b.text, "2");
	assert_int_equal(n_closed, 0);
}

static void
on_raw(void *arg, const struct qmp_reply *reply, const struct cij_error *err)
{
	struct waiter *w = arg;

	w->calls++;
}

static void
what_qemu_has_not_got_is_taken_back(void **state)
{
	static const struct span name = {"stop", 4}, no_arguments;
	struct waiter w[12] = {0}, other = {0};
	int got = 0;

	greet();
	for (int i = 0; i < 12; i++)
		qmp_send_raw(qmp, name, no_arguments, 0, on_raw, &w[i]);
	for (int i = 0; i < 12; i++)
		if (!qmp_withdraw(qmp, &w[i]))
			got++; /* these are QEMU's to answer */
	assert_in_range(got, 1, 11);
	assert_false(qmp_withdraw(qmp, &other));
	for (int i = 0; i < got; i++)
		answer(id_of(heard(), "stop"), "{}");
	qmp_send(qmp, "query-status", NULL, 0, on_reply, &other);
	answer(id_of(heard(), "query-status"), "{}"); /* nothing stood before it */
	loop_until(other.calls);
	for (int i = 0; i < 12; i++)
		assert_int_equal(w[i].calls, i < got);
}

static void
closed_in_mid_command(void **state)
{
	struct waiter w[20] = {0};

	greet();
	for (size_t i = 0; i < cij_array_size(w); i++)
		qmp_send(qmp, "x", NULL, i % 2 ? 30 : 0, on_reply, &w[i]);
	heard();
	say(peer, "{\"return\": 1, \"i"); /* half a line */
	close(peer);
	peer = -1;
	loop_until(n_closed);
	loop_settle(5);
	assert_int_equal(n_closed, 1);
	for (size_t i = 0; i < cij_array_size(w); i++) {
		assert_int_equal(w[i].calls, 1);
		assert_int_equal(w[i].class, CIJ_E_QEMU_FAILED);
		assert_string_equal(w[i].text, "QEMU closed its monitor");
	}
}

static void
closed_before_the_greeting(void **state)
{
	close(peer);
	peer = -1;
	loop_until(n_closed);
	assert_int_equal(n_ready, 0);
	assert_string_equal(closed_why, "QEMU closed its monitor");
}

static void
a_refused_negotiation_closes(void **state)
{
	say(peer, GREETING);
	int id = id_of(heard(), "qmp_capabilities");
	char text[128];
	snprintf(text, sizeof(text), "{\"error\": {\"desc\": \"no\"}, \"id\": %d}\n", id);
	say(peer, text);
	loop_until(n_closed);
	assert_int_equal(n_ready, 0);
	assert_string_equal(closed_why, "no");
}

static void
freed_with_commands_under_way(void **state)
{
	struct waiter a = {0}, b = {0};

	greet();
	qmp_send(qmp, "x", NULL, 30, on_reply, &a);
	qmp_send(qmp, "y", NULL, 0, on_reply, &b);
	qmp_send(qmp, "z", NULL, 0, NULL, NULL); /* nobody waits for it */
	drop();
	assert_int_equal(a.calls + b.calls, 2);
	assert_string_equal(a.text, "QEMU ended");
	loop_settle(5);
	assert_int_equal(a.calls + b.calls, 2);
	assert_int_equal(n_closed, 0); /* who frees it knows */
}

static void
freed_inside_each_callback(void **state)
{
	struct waiter a = {.free_it = true}, b = {0};

	greet();
	qmp_send(qmp, "x", NULL, 0, on_reply, &a);
	qmp_send(qmp, "y", NULL, 0, on_reply, &b);
	int id = id_of(heard(), "x");
	answer(id, "1");
	answer(id + 1, "2"); /* in the same read */
	loop_until(a.calls);
	assert_null(qmp);
	assert_int_equal(a.calls, 1);
	assert_int_equal(b.calls, 1);
	assert_string_equal(b.text, "QEMU ended");

	end(NULL), begin(NULL);
	free_in_ready = true;
	say(peer, GREETING);
	answer(id_of(heard(), "qmp_capabilities"), "{}");
	loop_until(!qmp);

	end(NULL), begin(NULL);
	greet();
	free_in_event = true;
	say(peer, "{\"event\": \"A\"}\n{\"event\": \"B\"}\n");
	loop_until(!qmp);
	assert_int_equal(n_events, 1);

	end(NULL), begin(NULL);
	greet();
	free_in_closed = true;
	close(peer);
	peer = -1;
	loop_until(!qmp);

	end(NULL), begin(NULL);
	struct waiter late = {.free_it = true};
	greet();
	qmp_send(qmp, "slow", NULL, 0.01, on_reply, &late);
	loop_until(!qmp);
	assert_int_equal(late.class, CIJ_E_TIMEOUT);

	end(NULL), begin(NULL);
	struct waiter cut = {.free_it = true}, other = {0};
	greet();
	qmp_send(qmp, "x", NULL, 0, on_reply, &cut);
	qmp_send(qmp, "y", NULL, 0, on_reply, &other);
	close(peer);
	peer = -1;
	loop_until(!qmp);
	assert_int_equal(cut.calls, 1);
	assert_int_equal(other.calls, 1);
	assert_int_equal(n_closed, 0);
}

static void
sent_inside_a_callback(void **state)
{
	struct waiter more = {0}, a = {.send_more = &more}, after = {0},
		      last = {.send_more = &after};

	greet();
	qmp_send(qmp, "x", NULL, 0, on_reply, &a);
	answer(id_of(heard(), "x"), "1");
	loop_until(a.calls);
	answer(id_of(heard(), "more"), "2");
	loop_until(more.calls);
	/* When the connection is gone it fails at once, instead of for ever. */
	qmp_send(qmp, "y", NULL, 0, on_reply, &last);
	close(peer);
	peer = -1;
	loop_until(n_closed);
	assert_int_equal(last.calls, 1);
	assert_int_equal(after.calls, 1);
	assert_string_equal(after.text, "QEMU closed its monitor");
}

static void
an_answer_in_many_pieces(void **state)
{
	struct waiter a = {0};
	char text[128];

	greet();
	qmp_send(qmp, "x", NULL, 0, on_reply, &a);
	snprintf(text, sizeof(text), "{\"return\": \"\xc3\xa4\", \"id\": %d}\r\n",
		id_of(heard(), "x"));
	for (size_t i = 0; text[i]; i++) {
		assert_int_equal(write(peer, text + i, 1), 1);
		loop_settle(1);
	}
	loop_until(a.calls);
	assert_string_equal(a.text, "\"\xc3\xa4\"");
}

int
main(void)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, begin, end)
	const struct CMUnitTest tests[] = {
		T(negotiates_and_answers),
		T(early_commands_wait),
		T(the_human_monitor),
		T(errors_are_qemus_words),
		T(events_come_after_the_negotiation),
		T(junk_before_the_greeting_is_skipped),
		T(endless_junk_is_no_qmp),
		T(garbage_after_the_greeting_ends_it),
		T(replies_to_nobody_are_dropped),
		T(a_late_answer_is_dropped),
		T(what_qemu_has_not_got_is_taken_back),
		T(closed_in_mid_command),
		T(closed_before_the_greeting),
		T(a_refused_negotiation_closes),
		T(freed_with_commands_under_way),
		T(freed_inside_each_callback),
		T(sent_inside_a_callback),
		T(an_answer_in_many_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
