/* top: what the guests do, as they do it. */
#include <errno.h>
#include <locale.h>
#include <ncurses.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/args.h"
#include "client/clock.h"
#include "client/link.h"
#include "client/out.h"
#include "client/table.h"
#include "client/top_guard.h"
#include "client/top_screen.h"
#include "client/view.h"
#include "proto/message.h"
#include "proto/text.h"

#define INTERVAL_DEFAULT 1
#define INTERVAL_MIN 0.1

/* A daemon that has not answered by then is told of, and asked again. */
#define ANSWER_SECONDS 30

/* How often a daemon that went away is looked for. */
#define RETRY_MS 1000

enum {
	KEY_ESCAPE = 27,
	KEY_RETURN = '\r', /* nonl() */
};

struct top {
	struct call *call;
	double interval;
	int64_t count; /* looks to take, 0 = for ever */
	struct link link; /* fd -1: the daemon is away */
	int64_t guests_id, stats_id; /* of the requests under way, 0 = answered */
	struct reply guests, stats;
	int64_t next; /* when to look again */
	struct screen screen;
};

/* Sends the two questions of a look. */
static int
ask(struct top *t, struct cij_error *err)
{
	t->next = clock_deadline(t->interval);
	t->guests_id = link_send(&t->link, "query-guests",
		globs_arguments((const char *const *)t->call->args, t->call->n_args), err);
	if (t->guests_id < 0)
		return -1;
	t->stats_id = link_send(&t->link, "query-stats",
		globs_arguments((const char *const *)t->call->args, t->call->n_args), err);
	return t->stats_id < 0 ? -1 : 0;
}

static void
forget_look(struct top *t)
{
	t->guests_id = t->stats_id = 0;
	reply_clear(&t->guests);
	reply_clear(&t->stats);
}

/* Keeps an answer. Returns 1 when the look is complete, -1 for an error. */
static int
take(struct top *t, struct reply *r, struct cij_error *err)
{
	struct reply *to = r->id == t->guests_id  ? &t->guests
			   : r->id == t->stats_id ? &t->stats
						  : NULL;

	if (r->kind == REPLY_ERROR)
		return cij_message_to_error(r->msg, err);
	if (!to || r->kind != REPLY_RETURN) {
		reply_clear(r);
		return 0;
	}
	reply_clear(to);
	*to = *r;
	*r = (struct reply){0};
	if (!t->guests.msg || !t->stats.msg)
		return 0;
	load_update(&t->screen.load, t->guests.value, t->stats.value);
	forget_look(t);
	return 1;
}

/* Takes one look, waiting for it. */
static int
look(struct top *t, struct cij_error *err)
{
	int64_t deadline = call_deadline(t->call, ANSWER_SECONDS);
	int done = 0;

	if (ask(t, err) < 0)
		return -1;
	while (done == 0) {
		_cleanup_reply_ struct reply r = {0};
		int rc = link_next(&t->link, deadline, &r, err);

		if (rc == 0)
			return cij_error_set(
				err, CIJ_E_TIMEOUT, "the daemon did not answer in time");
		done = rc < 0 ? -1 : take(t, &r, err);
	}
	return done < 0 ? -1 : 0;
}

/* Without a screen */

static void
print_table(const struct load *load)
{
	_cleanup_table_ struct table table = {.n_columns = LOAD_COLUMNS};

	for (int c = 0; c < LOAD_COLUMNS; c++)
		table_add(&table, load_columns[c].title, NULL);
	for (size_t i = 0; i < load->n; i++)
		for (int c = 0; c < LOAD_COLUMNS; c++) {
			char text[256];

			table_add(&table, load_text(&load->rows[i], c, text, sizeof(text)),
				c == LOAD_STATE ? view_state_colour(load->rows[i].state) : NULL);
		}
	table_print(&table, out_colours(stdout));
}

static void
print_look(const struct top *t)
{
	_cleanup_json_ struct json_object *list = NULL;
	const char *text;
	size_t len;

	if (!t->call->json) {
		print_table(&t->screen.load);
		return;
	}
	list = load_to_json(&t->screen.load);
	text = json_object_to_json_string_length(list, JSON_C_TO_STRING_PLAIN, &len);
	out_json(text, len, false);
}

/* Rates need two looks: what is printed begins with the second. */
static int
run_batch(struct top *t, struct cij_error *err)
{
	if (look(t, err) < 0)
		return -1;
	for (int64_t i = 0; t->count == 0 || i < t->count; i++) {
		(void)poll(NULL, 0, clock_left(t->next));
		if (look(t, err) < 0)
			return -1;
		if (i > 0 && !t->call->json)
			putchar('\n');
		print_look(t);
		if (fflush(stdout) != 0)
			break; /* out_finish() tells why */
	}
	return 0;
}

/* The console, and back */

/* Our own command line for @guest's console, by the way that we went to the daemon ourselves. */
static void
exec_console(const struct top *t, const char *guest)
{
	const char *ways[] = {"socket", "host"};
	const char *argv[10] = {t->call->argv[0]};
	size_t n = 1;

	for (size_t i = 0; i < cij_array_size(ways); i++) {
		char option[16], *copy;

		if (!call_value(t->call, ways[i]))
			continue;
		snprintf(option, sizeof(option), "--%s", ways[i]);
		copy = strdup(option); /* until exec */
		argv[n++] = copy;
		argv[n++] = call_value(t->call, ways[i]);
	}
	argv[n++] = "console";
	argv[n++] = "--";
	argv[n++] = guest;
	argv[n] = NULL;
	execv("/proc/self/exe", (char *const *)argv);
	_exit(127);
}

/* Waits for a key where the console's words would else be gone at once. */
static void
wait_for_enter(void)
{
	char c;

	fprintf(stderr, "[Enter goes back to top]");
	while (read(STDIN_FILENO, &c, 1) == 1 && c != '\n' && c != '\r')
		;
}

static void
show_console(struct top *t)
{
	char *guest = t->screen.selected;
	sigset_t none;
	int status = 0;
	pid_t pid;

	if (!guest)
		return;
	def_prog_mode();
	endwin();
	pid = fork();
	if (pid == 0) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		exec_console(t, guest);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (pid < 0 || status != 0)
		wait_for_enter();
	reset_prog_mode();
	clearok(stdscr, TRUE);
}

/* Keys */

static void
sort_by(struct screen *s, enum load_column column)
{
	s->load.reverse = s->load.sort == column && !s->load.reverse;
	s->load.sort = column;
	load_sort(&s->load);
}

static void
sort_beside(struct screen *s, int step)
{
	s->load.sort = (s->load.sort + LOAD_COLUMNS + step) % LOAD_COLUMNS;
	s->load.reverse = false;
	load_sort(&s->load);
}

/* The key is a carriage return; programs that type send line feeds. */
static bool
is_enter(int key)
{
	return key == KEY_RETURN || key == KEY_ENTER || key == '\n';
}

/* A key of the filter's. */
static void
type_filter(struct top *t, int key)
{
	char *filter = t->screen.load.filter;
	size_t len = strlen(filter);

	if (key == KEY_ESCAPE)
		filter[0] = '\0';
	if (key == KEY_ESCAPE || is_enter(key))
		t->screen.typing = false;
	else if ((key == KEY_BACKSPACE || key == 127 || key == 8) && len > 0)
		filter[len - 1] = '\0';
	else if (key > ' ' && key < 127 && len + 1 < sizeof(t->screen.load.filter))
		filter[len] = (char)key, filter[len + 1] = '\0';
	load_sort(&t->screen.load);
}

static bool
move_key(struct screen *s, int key)
{
	switch (key) {
	case KEY_UP:
	case 'k':
		screen_move(s, -1);
		return true;
	case KEY_DOWN:
	case 'j':
		screen_move(s, 1);
		return true;
	case KEY_PPAGE:
		screen_move(s, -screen_page());
		return true;
	case KEY_NPAGE:
		screen_move(s, screen_page());
		return true;
	case KEY_HOME:
		screen_move(s, -(long)s->load.n);
		return true;
	case KEY_END:
		screen_move(s, (long)s->load.n);
		return true;
	default:
		return false;
	}
}

/* Returns false for the key that leaves. */
static bool
take_key(struct top *t, int key)
{
	struct screen *s = &t->screen;

	if (key == KEY_RESIZE)
		return true; /* ncurses has taken the new size in */
	if (s->typing) {
		type_filter(t, key);
		return true;
	}
	if (move_key(s, key))
		return true;
	for (int c = 0; c < LOAD_COLUMNS; c++)
		if (load_columns[c].key == key) {
			sort_by(s, c);
			return true;
		}
	switch (key) {
	case 'q':
		return false;
	case '?':
	case 'h':
		s->help = !s->help;
		break;
	case KEY_ESCAPE:
		s->help = false;
		s->load.filter[0] = '\0';
		load_sort(&s->load);
		break;
	case '/':
		s->typing = true;
		break;
	case '<':
		sort_beside(s, -1);
		break;
	case '>':
		sort_beside(s, 1);
		break;
	case 'r':
		s->load.reverse = !s->load.reverse;
		load_sort(&s->load);
		break;
	case 'c':
	case '\n':
	case KEY_RETURN:
	case KEY_ENTER:
		show_console(t);
		break;
	case ' ':
		t->next = clock_ms();
		break;
	default:
		break;
	}
	return true;
}

/* The loop of the screen */

static volatile sig_atomic_t ended_by;

static void
on_end(int signum)
{
	ended_by = signum;
}

/* The daemon is away, or says no: told on the screen, and asked again. */
static void
lose(struct top *t, const struct cij_error *err)
{
	char clean[sizeof(t->screen.note)];

	cij_text_clean(err->desc, clean, sizeof(clean));
	snprintf(t->screen.note, sizeof(t->screen.note), "%s", clean);
	link_close(&t->link);
	forget_look(t);
	t->next = clock_ms() + RETRY_MS;
}

/* Takes what has come in; asks when it is time. */
static void
go_on(struct top *t)
{
	struct cij_error err = CIJ_ERROR_INIT;
	int rc = 1;

	while (t->link.fd >= 0 && rc > 0) {
		_cleanup_reply_ struct reply r = {0};

		rc = link_next(&t->link, clock_ms(), &r, &err);
		if (rc > 0 && take(t, &r, &err) < 0)
			rc = -1;
		else if (rc > 0)
			t->screen.note[0] = '\0';
	}
	if (rc < 0) {
		lose(t, &err);
		return;
	}
	if (clock_ms() < t->next)
		return;
	if (t->link.fd >= 0 && t->guests_id != 0) {
		/* One look at a time; a daemon that is slow is not asked twice. */
		t->next = clock_deadline(t->interval);
		return;
	}
	if (t->link.fd < 0 &&
		link_open(&t->link, t->call->socket, clock_deadline(ANSWER_SECONDS), &err) < 0)
		lose(t, &err);
	else if (ask(t, &err) < 0)
		lose(t, &err);
}

/* Until a key, an answer, a signal or the time of the next look. False when the terminal is gone.
 */
static bool
wait_for_news(struct top *t, const sigset_t *unblocked)
{
	struct pollfd fds[] = {{STDIN_FILENO, POLLIN}, {t->link.fd, POLLIN}};
	int left = clock_left(t->next);
	struct timespec wait = {left / 1000, left % 1000 * 1000000L};

	if (ppoll(fds, 2, &wait, unblocked) < 0)
		return errno == EINTR;
	return !(fds[0].revents & (POLLHUP | POLLERR | POLLNVAL));
}

static int
run_screen(void *arg, struct cij_error *err)
{
	static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	struct top *t = arg;
	sigset_t blocked, unblocked;
	bool on = true;
	int key;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGWINCH);
	for (size_t i = 0; i < cij_array_size(ends); i++) {
		signal(ends[i], on_end);
		sigaddset(&blocked, ends[i]);
	}
	sigprocmask(SIG_BLOCK, &blocked, &unblocked);
	screen_begin(&t->screen);
	for (int64_t looks = 0; on && !ended_by;) {
		int64_t asked = t->guests_id;

		go_on(t);
		looks += asked != 0 && t->guests_id != asked && t->link.fd >= 0;
		screen_draw(&t->screen);
		if (t->count > 0 && looks >= t->count)
			break;
		on = wait_for_news(t, &unblocked);
		while (on && (key = getch()) != ERR)
			on = take_key(t, key);
	}
	screen_end(&t->screen);
	return ended_by ? 128 + ended_by : 0;
}

static int
read_options(struct top *t, struct cij_error *err)
{
	const char *sort = call_value(t->call, "sort");

	if (call_seconds(t->call, "interval", INTERVAL_DEFAULT, &t->interval, err) < 0 ||
		call_number(t->call, "count", 0, &t->count, err) < 0)
		return -1;
	if (t->interval < INTERVAL_MIN)
		return call_usage(t->call, err, "--interval takes %g seconds or more, not '%s'",
			INTERVAL_MIN, call_value(t->call, "interval"));
	if (t->count < 0 || (t->count == 0 && call_has(t->call, "count")))
		return call_usage(t->call, err, "--count takes 1 or more");
	t->screen.load.sort = sort ? load_column_find(sort) : LOAD_CPU;
	if (t->screen.load.sort == LOAD_COLUMNS) {
		call_usage(t->call, err, "--sort takes the heading of a column, not '%s'", sort);
		return cij_error_hint(err, "such as name, cpu%%, mem or nvme-r");
	}
	t->screen.load.reverse = call_has(t->call, "reverse");
	return 0;
}

int
cmd_top(struct call *call, struct cij_error *err)
{
	struct top t = {.call = call, .link = LINK_INIT};
	bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	bool batch = !terminal || call->json || call_has(call, "batch");
	int code;

	if (read_options(&t, err) < 0)
		return -1;
	if (!terminal && t.count == 0)
		t.count = 1;
	/* The first look is waited for: no screen is opened for a daemon that is not there. */
	if (link_open(&t.link, call->socket, call_deadline(call, ANSWER_SECONDS), err) < 0) {
		code = -1;
	} else if (batch) {
		code = run_batch(&t, err);
	} else {
		setlocale(LC_CTYPE, "");
		t.screen.colours = out_colours(stdout);
		code = look(&t, err) < 0 ? -1 : top_guarded(run_screen, &t, err);
	}
	link_close(&t.link);
	forget_look(&t);
	load_clear(&t.screen.load);
	return code;
}
