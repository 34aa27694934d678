#include "daemon/names.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <unistd.h>

#include "cijqemu/cleanup.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/proc.h"
#include "daemon/strv.h"
#include "daemon/users.h"

/* A directory server that says nothing for so long is away; what depends on it is refused then. */
#define ASK_SECONDS 20

/* How long an answer is good: accounts seldom change, new ones are waited for. */
#define KNOWN_SECONDS 60
#define NONE_SECONDS 10

/* Names that are kept, and asked for in one go. */
#define NAMES_MAX 1024
#define BATCH_MAX 64

/* What the process prints: a line a name. */
#define OUTPUT_MAX (BATCH_MAX * 512)

struct name {
	TAILQ_ENTRY(name) link;
	char *name;
	bool wanted; /* to be asked with the next batch */
	bool asking; /* with this one */
	bool answered, is;
	unsigned id;
	double until; /* monotonic: the answer is old from then on */
};

struct waiter {
	TAILQ_ENTRY(waiter) link;
	void (*fn)(void *arg);
	void *arg; /* weak */
};

struct names {
	struct event_base *base; /* weak */
	const char *program; /* weak */
	TAILQ_HEAD(name_list, name) all; /* newest first */
	size_t n;
	TAILQ_HEAD(, waiter) waiters;
	struct proc *proc;
	int out_fd; /* what the process prints */
	bool closed; /* answers nothing any more */
	struct event *start, *deadline;
};

static void on_start(evutil_socket_t fd, short what, void *arg);
static void on_deadline(evutil_socket_t fd, short what, void *arg);

struct names *
names_new(struct event_base *base, const char *program)
{
	struct names *names = calloc(1, sizeof(*names));

	if (!names)
		abort();
	names->base = base;
	names->program = program;
	names->out_fd = -1;
	TAILQ_INIT(&names->all);
	TAILQ_INIT(&names->waiters);
	names->start = event_new(base, -1, 0, on_start, names);
	names->deadline = evtimer_new(base, on_deadline, names);
	if (!names->start || !names->deadline)
		abort();
	return names;
}

static void
drop(struct names *names, struct name *name)
{
	TAILQ_REMOVE(&names->all, name, link);
	names->n--;
	free(name->name);
	free(name);
}

static void
stop(struct names *names)
{
	if (names->proc)
		proc_signal(names->proc, SIGKILL);
	proc_free(steal_ptr(names->proc));
	if (names->out_fd >= 0)
		close(steal_fd(&names->out_fd));
	event_del(names->deadline);
}

void
names_free(struct names *names)
{
	struct waiter *waiter;

	if (!names)
		return;
	stop(names);
	names->closed = true;
	while (!TAILQ_EMPTY(&names->all))
		drop(names, TAILQ_FIRST(&names->all));
	while ((waiter = TAILQ_FIRST(&names->waiters))) {
		struct waiter one = *waiter;

		TAILQ_REMOVE(&names->waiters, waiter, link);
		free(waiter);
		one.fn(one.arg);
	}
	event_free(names->start);
	event_free(names->deadline);
	free(names);
}

static bool
is_asking(const struct names *names)
{
	const struct name *name;

	TAILQ_FOREACH (name, &names->all, link)
		if (name->wanted || name->asking)
			return true;
	return false;
}

/* All is answered: tells those who wait, who may ask again. */
static void
tell(struct names *names)
{
	struct waiter *waiter;

	while (!is_asking(names) && (waiter = TAILQ_FIRST(&names->waiters))) {
		struct waiter one = *waiter;

		TAILQ_REMOVE(&names->waiters, waiter, link);
		free(waiter);
		one.fn(one.arg);
	}
}

/* The line "NAME ID" of what the process printed; false where there is none. */
static bool
find_answer(const char *text, const char *name, unsigned *id)
{
	size_t len = strlen(name);

	for (const char *line = text; line && *line;) {
		const char *end = strchrnul(line, '\n');
		char number[16] = "";

		if (strncmp(line, name, len) == 0 && line[len] == ' ' &&
			(size_t)(end - line) - len - 1 < sizeof(number)) {
			memcpy(number, line + len + 1, end - line - len - 1);
			if (id_parse(number, id))
				return true;
		}
		line = *end ? end + 1 : NULL;
	}
	return false;
}

/* Takes over what the process has said about what it was asked. */
static void
settle(struct names *names, const char *text)
{
	struct name *name;

	TAILQ_FOREACH (name, &names->all, link) {
		if (!name->asking)
			continue;
		name->asking = false;
		name->answered = true;
		name->is = find_answer(text, name->name, &name->id);
		name->until = clock_mono() + (name->is ? KNOWN_SECONDS : NONE_SECONDS);
	}
	event_active(names->start, EV_TIMEOUT, 0);
}

static void
on_exit_of_process(void *arg, const struct proc_exit *how)
{
	struct names *names = arg;
	_cleanup_free_ char *text = calloc(1, OUTPUT_MAX + 1);

	if (!text)
		abort();
	if (names->out_fd >= 0 && pread(names->out_fd, text, OUTPUT_MAX, 0) < 0)
		text[0] = '\0';
	stop(names);
	settle(names, text);
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct names *names = arg;

	log_warn("users and groups: the name service did not answer within %d s", ASK_SECONDS);
	stop(names);
	settle(names, "");
}

/* Asks what is wanted, as much as goes into one command line. */
static int
ask(struct names *names)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	_cleanup_close_ int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_strv_ struct strv argv = {0};
	struct cij_error err;
	struct name *name;

	names->out_fd = memfd_create("names", MFD_CLOEXEC);
	if (null < 0 || root < 0 || names->out_fd < 0)
		return -1;
	strv_add(&argv, names->program);
	strv_add(&argv, "--resolve");
	TAILQ_FOREACH (name, &names->all, link)
		if (name->asking)
			strv_add(&argv, name->name);
	struct proc_spec spec = {.argv = argv.items,
		.fds = {null, names->out_fd, null},
		.n_fds = 3,
		.cwd_fd = root,
		.uid = geteuid(),
		.gid = getegid()};
	names->proc = proc_spawn(names->base, &spec, on_exit_of_process, names, &err);
	return names->proc ? 0 : -1;
}

static void
on_start(evutil_socket_t fd, short what, void *arg)
{
	struct names *names = arg;
	struct timeval tv = {ASK_SECONDS, 0};
	struct name *name;
	int n = 0;

	if (names->proc)
		return;
	TAILQ_FOREACH (name, &names->all, link)
		if (name->wanted && n < BATCH_MAX) {
			name->wanted = false;
			name->asking = true;
			n++;
		}
	if (n == 0) {
		tell(names);
		return;
	}
	event_add(names->deadline, &tv);
	if (ask(names) < 0) {
		stop(names);
		settle(names, "");
	}
}

static struct name *
find(const struct names *names, const char *text)
{
	struct name *name;

	TAILQ_FOREACH (name, &names->all, link)
		if (strcmp(name->name, text) == 0)
			return name;
	return NULL;
}

static struct name *
enter(struct names *names, const char *text)
{
	struct name *name = calloc(1, sizeof(*name)), *last;

	if (!name)
		abort();
	last = TAILQ_LAST(&names->all, name_list);
	if (names->n >= NAMES_MAX && !last->wanted && !last->asking)
		drop(names, last);
	name->name = str_copy(text);
	TAILQ_INSERT_HEAD(&names->all, name, link);
	names->n++;
	return name;
}

/* What no account is called is not asked for: a line of the answer could not tell it apart. */
static bool
can_be(const char *name)
{
	return *name && strlen(name) < 256 && !strpbrk(name, " \n\r\t:/");
}

enum name_answer
names_lookup(struct names *names, const char *text, unsigned *id)
{
	struct name *name = find(names, text);

	if (names->closed || !can_be(text[0] == '@' ? text + 1 : text))
		return NAME_IS_NONE;
	if (!name)
		name = enter(names, text);
	if ((!name->answered || clock_mono() >= name->until) && !name->asking && !name->wanted) {
		name->wanted = true;
		event_active(names->start, EV_TIMEOUT, 0);
	}
	/* An old id is good while it is asked for again; that there is nobody is not. */
	if (name->answered && name->is) {
		*id = name->id;
		return NAME_IS;
	}
	return name->wanted || name->asking ? NAME_ASKED : NAME_IS_NONE;
}

void
names_wait(struct names *names, void (*fn)(void *arg), void *arg)
{
	struct waiter *waiter = calloc(1, sizeof(*waiter));

	if (!waiter)
		abort();
	waiter->fn = fn;
	waiter->arg = arg;
	TAILQ_INSERT_TAIL(&names->waiters, waiter, link);
	event_active(names->start, EV_TIMEOUT, 0);
}

int
names_resolve_main(int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		if (argv[i][0] == '@') {
			struct group *group = getgrnam(argv[i] + 1);

			if (group)
				printf("%s %u\n", argv[i], (unsigned)group->gr_gid);
		} else {
			struct passwd *user = getpwnam(argv[i]);

			if (user)
				printf("%s %u\n", argv[i], (unsigned)user->pw_uid);
		}
	}
	return fflush(stdout) == 0 ? 0 : 1;
}
