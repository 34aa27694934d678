/* daemon/monitor: many clients on one QMP connection, with a scripted peer in QEMU's place. */
#include "tests/unit/loop.h"

#include <errno.h>
#include <signal.h>

#include "daemon/monitor.h"

#define GREETING \
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 3, \"minor\": 2, \"major\": 7}, " \
	"\"package\": \"\"}, \"capabilities\": [\"oob\"]}}\r\n"
#define GREETED \
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 3, \"minor\": 2, \"major\": 7}, " \
	"\"package\": \"\"}, \"capabilities\": []}}"
#define NEGOTIATE "{\"execute\": \"qmp_capabilities\"}\n"

static struct qmp *qmp;
static struct monitor *monitor;
static int qemu = -1;
static bool ready, closed;

static void
end_monitor(const char *why)
{
	struct cij_error err;

	cij_error_set(&err, CIJ_E_QEMU_FAILED, "%s", why);
	monitor_free(steal_ptr(monitor), &err);
}

static void
on_ready(void *arg, struct json_object *greeting)
{
	monitor = monitor_new(loop, qmp, "g");
	ready = true;
}

static void
on_event(void *arg, const char *name, struct json_object *data)
{
}

static void
on_closed(void *arg, const struct cij_error *why)
{
	end_monitor(why->desc);
	qmp_free(steal_ptr(qmp));
	closed = true;
}

static const struct qmp_ops ops = {on_ready, on_event, on_closed};

/* The next line at @fd, without its end; "" when the other side has closed. Waits for it. */
static const char *
line_of(int fd)
{
	static char line[512 * 1024];
	size_t n = 0;

	for (;;) {
		ssize_t got = read(fd, line + n, 1);

		assert_true(n < sizeof(line) - 1);
		if (got < 0 && errno == EAGAIN) {
			loop_settle(1);
			continue;
		}
		if (got <= 0)
			break;
		if (line[n++] == '\n')
			break;
	}
	while (n > 0 && strchr("\r\n", line[n - 1]))
		n--;
	line[n] = '\0';
	return line;
}

static void
hear(int fd, const char *want)
{
	assert_string_equal(line_of(fd), want);
}

static bool
is_silent(int fd)
{
	char c;

	loop_settle(5);
	return recv(fd, &c, 1, MSG_PEEK) < 0 && errno == EAGAIN;
}

static int
enter(enum monitor_kind kind, enum access access)
{
	struct peer peer = {.uid = 1000, .pid = 1};
	struct qmp_rights rights = {.access = access};
	int fds[2];

	socket_pair(fds);
	monitor_add(monitor, kind, fds[0], &peer, &rights, NULL, 0);
	return fds[1];
}

/* A client that has negotiated. */
static int
client(void)
{
	int fd = enter(MONITOR_QMP, ACCESS_OWN);

	hear(fd, GREETED);
	say(fd, NEGOTIATE);
	hear(fd, "{\"return\": {}}");
	return fd;
}

static int
begin(void **state)
{
	int fds[2];

	signal(SIGPIPE, SIG_IGN);
	loop = event_base_new();
	socket_pair(fds);
	qemu = fds[1];
	ready = closed = false;
	qmp = qmp_new(loop, fds[0], &ops, NULL);
	say(qemu, GREETING);
	hear(qemu, "{\"execute\":\"qmp_capabilities\",\"id\":1}");
	say(qemu, "{\"return\": {}, \"id\": 1}\r\n");
	loop_until(ready);
	return 0;
}

static int
end(void **state)
{
	end_monitor("the test is over");
	monitor_forget_all();
	qmp_free(steal_ptr(qmp));
	close(qemu);
	event_base_free(loop);
	return 0;
}

static void
ids_are_given_back(void **state)
{
	int a = client(), b = client();

	say(a, "{\"execute\": \"query-x\", \"id\": [1,  2]}\n");
	hear(qemu, "{\"execute\":\"query-x\"}"); /* alone: without */
	say(b, "{\"execute\": \"query-y\", \"id\": [1,  2], \"arguments\": {\"n\": 1.0}}\n");
	hear(qemu, "{\"execute\":\"query-y\",\"arguments\":{\"n\": 1.0},\"id\":1}");
	say(b, "{\"execute\": \"query-z\"}\n");
	hear(qemu, "{\"execute\":\"query-z\",\"id\":2}");
	say(qemu,
		"{\"return\": 1}\r\n{\"return\": 2, \"id\": 1}\r\n{\"return\": 3, \"id\": 2}\r\n");
	hear(a, "{\"return\": 1, \"id\": [1,  2]}");
	hear(b, "{\"return\": 2, \"id\": [1,  2]}");
	hear(b, "{\"return\": 3}");
	close(a);
	close(b);
}

static void
without_ids_the_order_tells(void **state)
{
	int a = client(), b = client();

	say(a, "{\"execute\": \"query-1\"}{\"execute\": \"query-2\"}");
	hear(qemu, "{\"execute\":\"query-1\"}");
	hear(qemu, "{\"execute\":\"query-2\"}");
	say(b, "{\"execute\": \"query-3\"}");
	hear(qemu, "{\"execute\":\"query-3\",\"id\":1}"); /* never two at a time */
	say(qemu, "{\"return\": 1}\r\n{\"error\": {\"desc\": \"2\"}}\r\n{\"return\": 3, \"id\": "
		  "1}\r\n");
	hear(a, "{\"return\": 1}");
	hear(a, "{\"error\": {\"desc\": \"2\"}}");
	hear(b, "{\"return\": 3}");
	/* A dead client's answers without id are nobody's. */
	say(a, "{\"execute\": \"query-4\"}");
	hear(qemu, "{\"execute\":\"query-4\"}");
	close(a);
	loop_settle(5);
	say(b, "{\"execute\": \"query-5\"}");
	hear(qemu, "{\"execute\":\"query-5\",\"id\":1}");
	say(qemu, "{\"return\": 4}\r\n{\"return\": 5, \"id\": 1}\r\n");
	hear(b, "{\"return\": 5}");
	close(b);
}

/* A bare word is ended by what begins behind it, in a piece of its own. */
static void
a_bare_word_does_not_hold_up(void **state)
{
	int a = client();

	say(a, "foo");
	loop_settle(5);
	say(a, "{\"execute\": \"query-1\"}");
	hear(qemu, "{\"execute\":\"query-1\"}");
	hear(a, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}");
	close(a);
}

/* QEMU is given a few; the daemon's own come before the rest, and clients take turns. */
static void
turns_are_taken(void **state)
{
	int a = client(), b = client();
	char seen[200] = "";

	for (int i = 0; i < 40; i++)
		say(a, "{\"execute\": \"query-a\"}\n");
	loop_settle(5);
	say(b, "{\"execute\": \"query-b\"}\n");
	loop_settle(5);
	qmp_send(qmp, "own", NULL, 0, NULL, NULL);
	for (int i = 0; i < 42; i++) {
		const char *line = line_of(qemu), *id = strstr(line, "\"id\":");
		char text[100];

		seen[i] = strstr(line, "own") ? 'o' : strstr(line, "query-a") ? 'a' : 'b';
		snprintf(text, sizeof(text),
			id ? "{\"return\": {}, %s\r\n" : "{\"return\": {}}\r\n", id);
		say(qemu, text);
	}
	assert_true(strchr(seen, 'o') && strchr(seen, 'o') - seen <= 4);
	assert_true(strchr(seen, 'b') && strchr(seen, 'b') - seen <= 18);
	for (int i = 0; i < 40; i++)
		hear(a, "{\"return\": {}}");
	hear(b, "{\"return\": {}}");
	close(a);
	close(b);
}

static void
an_answer_that_never_comes(void **state)
{
	int a = client(), b = client();

	for (int i = 0; i < 10; i++) {
		const char *line;
		char text[64];

		say(a, "{\"execute\": \"query-lost\", \"id\": 1}\n");
		line_of(qemu);
		say(b, "{\"execute\": \"query-b\", \"id\": 1}\n");
		line = strstr(line_of(qemu), "\"id\":");
		assert_non_null(line);
		snprintf(text, sizeof(text), "{\"return\": {}, %s\r\n", line);
		say(qemu, text);
		hear(b, "{\"return\": {}, \"id\":1}");
	}
	assert_true(is_silent(a));
	close(a);
	close(b);
}

static void
events_go_to_those_who_may(void **state)
{
	static const char event[] = "{\"timestamp\": {\"seconds\": 1}, \"event\": \"STOP\"}";
	int a = client(), stranger = enter(MONITOR_QMP, ACCESS_VIEW),
	    early = enter(MONITOR_QMP, ACCESS_OWN), human = enter(MONITOR_HMP, ACCESS_OWN);
	char text[200];

	hear(stranger, GREETED);
	say(stranger, NEGOTIATE);
	hear(stranger, "{\"return\": {}}");
	hear(early, GREETED);
	hear(human, "QEMU 7.2.3 monitor - type 'help' for more information");
	assert_int_equal(read(human, text, 100), 7);
	snprintf(text, sizeof(text), "%s\r\n", event);
	say(qemu, text);
	hear(a, event);
	assert_true(is_silent(stranger) && is_silent(early) && is_silent(human));
	close(a);
	close(stranger);
	close(early);
	close(human);
}

static void
the_end_fails_each_once(void **state)
{
	int a = client(), b = client();

	for (int i = 0; i < 20; i++)
		say(a, "{\"execute\": \"query-a\", \"id\": \"x\"}\n");
	say(b, "{\"execute\": \"query-b\"}{\"execute\": \"migrate\"}");
	line_of(qemu);
	close(qemu);
	qemu = -1;
	loop_until(closed);
	for (int i = 0; i < 20; i++)
		hear(a, "{\"id\": \"x\", \"error\": {\"class\": \"GenericError\", \"desc\": \"QEMU "
			"closed its monitor\"}}");
	hear(a, "");
	hear(b, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"QEMU closed its "
		"monitor\"}}");
	assert_has(line_of(b), "not passed on");
	hear(b, "");
	close(a);
	close(b);
}

/* One that has not read all when QEMU goes gets the rest all the same. */
static void
last_words_are_waited_for(void **state)
{
	size_t len = 300 * 1024;
	char *big = malloc(len + 64);
	int a = client();
	const char *line;

	say(a, "{\"execute\": \"query-big\"}{\"execute\": \"query-more\"}");
	line_of(qemu);
	strcpy(big, "{\"return\": \"");
	memset(big + 12, 'x', len);
	strcpy(big + 12 + len, "\"}\r\n");
	for (size_t at = 0; at < strlen(big);) {
		ssize_t n = write(qemu, big + at, strlen(big) - at);

		if (n > 0)
			at += n;
		loop_settle(1);
	}
	close(qemu);
	qemu = -1;
	loop_until(closed);
	line = line_of(a);
	assert_int_equal(strlen(line), len + 14);
	assert_has(line_of(a), "QEMU closed its monitor");
	hear(a, "");
	close(a);
	free(big);
}

static void
a_half_closed_client_gets_all(void **state)
{
	int a = client(), h = enter(MONITOR_HMP, ACCESS_OWN);
	char text[16];

	say(a, "{\"execute\": \"query-1\"}{\"execute\": \"query-2\"}");
	shutdown(a, SHUT_WR);
	hear(qemu, "{\"execute\":\"query-1\"}");
	hear(qemu, "{\"execute\":\"query-2\"}");
	loop_settle(5);
	say(qemu, "{\"return\": 1}\r\n{\"return\": 2}\r\n");
	hear(a, "{\"return\": 1}");
	hear(a, "{\"return\": 2}");
	hear(a, "");

	hear(h, "QEMU 7.2.3 monitor - type 'help' for more information");
	say(h, "one\r\ntwo");
	shutdown(h, SHUT_WR);
	hear(qemu,
		"{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"one\"}}");
	assert_true(is_silent(qemu)); /* a line at a time */
	say(qemu, "{\"return\": \"1\\r\\n\"}\r\n");
	hear(qemu,
		"{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"two\"}}");
	say(qemu, "{\"error\": {\"desc\": \"no\"}}\r\n");
	hear(h, "(qemu) 1");
	hear(h, "(qemu) Error: no");
	hear(h, "(qemu) ");
	assert_int_equal(read(h, text, sizeof(text)), 0);
	close(a);
	close(h);
}

/* A client that writes and never reads: what it can make us keep is bounded. */
static void
output_is_bounded(void **state)
{
	int a = client(), b = client();
	char *big = malloc(20000);
	int given = 0;

	strcpy(big, "{\"return\": \"");
	memset(big + 12, 'x', 16000);
	strcpy(big + 16012, "\"}\r\n");
	for (int i = 0; i < 200; i++)
		if (write(a, "{\"execute\": \"query-a\"}\n", 23) < 0)
			break;
	for (;;) {
		char buf[4096];
		ssize_t n;

		loop_settle(2);
		n = read(qemu, buf, sizeof(buf));
		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			if (buf[i] == '\n') {
				given++;
				say(qemu, big);
				loop_settle(1);
			}
	}
	/* Its socket's buffer, ours of 256 KiB, and what QEMU was working on. */
	assert_in_range(given, 10, 60);
	say(b, "{\"execute\": \"query-b\", \"id\": 1}\n");
	assert_has(line_of(qemu), "query-b");
	say(qemu, "{\"return\": 1}\r\n");
	hear(b, "{\"return\": 1, \"id\": 1}");
	close(a);
	close(b);
	free(big);
}

int
main(void)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, begin, end)
	const struct CMUnitTest tests[] = {
		T(ids_are_given_back),
		T(without_ids_the_order_tells),
		T(a_bare_word_does_not_hold_up),
		T(turns_are_taken),
		T(an_answer_that_never_comes),
		T(events_go_to_those_who_may),
		T(the_end_fails_each_once),
		T(last_words_are_waited_for),
		T(a_half_closed_client_gets_all),
		T(output_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
