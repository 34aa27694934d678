#include "daemon/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/fileio.h"
#include "daemon/log.h"
#include "daemon/strv.h"
#include "daemon/users.h"
#include "proto/json.h"

#define FILE_NAME "leases.json"
#define FILE_MAX (4 * 1024 * 1024)
#define FILE_DEPTH_MAX 8

/* Clients that wait for one guest: more than a lab has people. */
#define QUEUE_MAX 64

/* Ends are by the wall clock, which may be set and does not run in sleep: looked at so often. */
#define LOOK_SECONDS_MAX 30

struct waiter {
	lease_done_fn *done;
	void *arg; /* weak */
	int pidfd; /* -1: no process */
};

struct entry {
	LIST_ENTRY(entry) link;
	struct leases *leases; /* weak */
	struct lease_page page;
	struct event *timer;
	int pidfd; /* of the holder's process; -1: none */
	struct event *process;
	unsigned serving; /* its queue is being looked through: not to be freed */
};

struct leases {
	struct event_base *base; /* weak */
	int state_fd; /* weak */
	struct notify *notify; /* weak */
	const struct lease_ops *ops;
	void *arg; /* weak */
	LIST_HEAD(, entry) entries;
	bool closed;
};

static void on_timer(evutil_socket_t fd, short what, void *arg);
static void end(struct entry *entry, const char *what, uid_t by, const char *why);

static struct entry *
find(const struct leases *leases, const char *guest)
{
	struct entry *entry;

	LIST_FOREACH (entry, &leases->entries, link)
		if (strcmp(entry->page.guest, guest) == 0)
			return entry;
	return NULL;
}

static struct entry *
entry_new(struct leases *leases)
{
	struct entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		abort();
	entry->leases = leases;
	entry->pidfd = -1;
	entry->timer = evtimer_new(leases->base, on_timer, entry);
	if (!entry->timer)
		abort();
	LIST_INSERT_HEAD(&leases->entries, entry, link);
	return entry;
}

/* Processes */

static void
unwatch(struct entry *entry)
{
	if (entry->process)
		event_free(steal_ptr(entry->process));
	if (entry->pidfd >= 0)
		close(steal_fd(&entry->pidfd));
}

static bool
has_ended(int pidfd)
{
	struct pollfd ended = {.fd = pidfd, .events = POLLIN};

	return pidfd >= 0 && poll(&ended, 1, 0) > 0;
}

static void
on_process(evutil_socket_t fd, short what, void *arg)
{
	struct entry *entry = arg;

	end(entry, "process-ended", entry->page.holder.uid, NULL);
}

/* Takes @pidfd over. */
static void
watch(struct entry *entry, int pidfd)
{
	unwatch(entry);
	if (pidfd < 0)
		return;
	entry->pidfd = pidfd;
	entry->process = event_new(entry->leases->base, pidfd, EV_READ, on_process, entry);
	if (!entry->process)
		abort();
	event_add(entry->process, NULL);
}

/* Field 22 of /proc/PID/stat; the name before it may hold anything, ')' too. 0: not there. */
static uint64_t
start_of(pid_t pid)
{
	_cleanup_free_ char *path = str_printf("/proc/%d/stat", (int)pid);
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	unsigned long long start = 0;
	char text[1024];
	size_t n = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
	char *at;

	text[n] = '\0';
	at = strrchr(text, ')');
	if (!at || sscanf(at + 1,
			   " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
			   "%*s %*s %*s %*s %llu",
			   &start) != 1)
		return 0;
	return start;
}

static uid_t
uid_of(pid_t pid)
{
	_cleanup_free_ char *path = str_printf("/proc/%d/status", (int)pid);
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	char line[256];
	unsigned uid;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Uid: %u", &uid) == 1)
			return uid;
	return (uid_t)-1;
}

/* A pidfd of @pid, which is the process that @process names from then on; -1 with an error. */
static int
open_process(pid_t pid, uid_t uid, struct lease_process *process, struct cij_error *err)
{
	_cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	uid_t is = fd < 0 ? (uid_t)-1 : uid_of(pid);

	if (fd < 0 && errno == ENOSYS)
		return cij_error_set(err, CIJ_E_NOT_SUPPORTED,
			"a lease cannot end with a process here: that takes Linux 5.3");
	process->pid = pid;
	process->start = fd < 0 ? 0 : start_of(pid);
	/* What was read is about the process that the descriptor is of, while that one lives. */
	if (fd < 0 || !process->start || has_ended(fd))
		return cij_error_set(err, CIJ_E_BAD_REQUEST, "no process %d runs here", (int)pid);
	if (is != uid)
		return cij_error_set(err, CIJ_E_DENIED,
			"process %d is not yours: a lease may end with a process of your own",
			(int)pid);
	return steal_fd(&fd);
}

/* The file */

static char *
boot_id(void)
{
	size_t len;
	char *text = file_read_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &len, NULL);

	if (text)
		text[strcspn(text, "\n")] = '\0';
	return text;
}

static void
save(const struct leases *leases)
{
	_cleanup_json_ struct json_object *all = NULL;
	_cleanup_free_ char *boot = NULL;
	struct json_object *list;
	const struct entry *entry;
	const char *text;
	size_t len;

	if (leases->closed)
		return;
	all = json_object_new_object();
	list = json_object_new_array();
	boot = boot_id();
	LIST_FOREACH (entry, &leases->entries, link)
		if (!lease_page_is_blank(&entry->page))
			json_object_array_add(list, lease_page_to_json(&entry->page));
	cij_json_add_str(all, "boot", boot);
	json_object_object_add(all, "leases", list);
	text = json_object_to_json_string_length(
		all, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
	if (file_write_at(leases->state_fd, FILE_NAME, text, len, 0600) < 0)
		log_warn("cannot write '%s': %s: leases are not kept across a restart", FILE_NAME,
			strerror(errno));
}

/* The holder's process is looked up again; one that is not there any more has ended the lease. */
static void
find_process(struct entry *entry, bool same_boot)
{
	struct lease_process now, was = entry->page.holder.process;
	int fd;

	if (!entry->page.held || !was.pid)
		return;
	fd = same_boot ? open_process(was.pid, entry->page.holder.uid, &now, NULL) : -1;
	if (fd >= 0 && now.start != was.start)
		close(steal_fd(&fd));
	if (fd >= 0)
		watch(entry, fd);
	else
		entry->page.until = 1; /* long past */
}

static void
load(struct leases *leases)
{
	size_t len, n;
	_cleanup_free_ char *text = file_read_at(leases->state_fd, FILE_NAME, FILE_MAX, &len, NULL);
	_cleanup_json_ struct json_object *all = text ? cij_json_parse(
								text, len, FILE_DEPTH_MAX, NULL)
						      : NULL;
	struct json_object *list = cij_json_get(all, "leases");
	_cleanup_free_ char *boot = boot_id();
	const char *was = cij_json_str(all, "boot");
	bool same_boot = was && boot && strcmp(was, boot) == 0;

	if (text && !json_object_is_type(list, json_type_array)) {
		log_warn("'%s' cannot be read: what was leased is not known any more", FILE_NAME);
		return;
	}
	n = list ? json_object_array_length(list) : 0;
	for (size_t i = 0; i < n; i++) {
		struct entry *entry = entry_new(leases);

		if (lease_page_from_json(
			    &entry->page, json_object_array_get_idx(list, i), time(NULL))) {
			find_process(entry, same_boot);
			continue;
		}
		log_warn("a lease in '%s' makes no sense: forgotten", FILE_NAME);
		LIST_REMOVE(entry, link);
		lease_page_clear(&entry->page);
		event_free(entry->timer);
		free(entry);
	}
}

/* Turns */

static void
tell(const struct entry *entry, const char *what, const struct lease_terms *whose, uid_t by,
	const char *why)
{
	struct json_object *data = json_object_new_object();
	char until[32];

	cij_json_add_str(data, "guest", entry->page.guest);
	cij_json_add_str(data, "what", what);
	cij_json_add_int(data, "uid", whose->uid);
	if (by != whose->uid)
		cij_json_add_int(data, "by_uid", by);
	if (entry->page.until)
		cij_json_add_str(
			data, "until", clock_rfc3339(entry->page.until, until, sizeof(until)));
	if (why)
		cij_json_add_str(data, "why", why);
	notify_send(entry->leases->notify, "LEASE", entry->page.guest, data);
}

static void
arm(struct entry *entry)
{
	int64_t left = lease_page_next_change(&entry->page, time(NULL));
	struct timeval tv = {0};

	if (left < 0) {
		event_del(entry->timer);
		return;
	}
	tv.tv_sec = left < LOOK_SECONDS_MAX ? left : LOOK_SECONDS_MAX;
	event_add(entry->timer, &tv);
}

static void
waiter_free(struct waiter *waiter)
{
	if (waiter->pidfd >= 0)
		close(waiter->pidfd);
	free(waiter);
}

/* The page is @terms' from now on; takes them and @pidfd over. */
static void
grant(struct entry *entry, struct lease_terms *terms, int pidfd, const char *what)
{
	struct leases *leases = entry->leases;

	lease_page_grant(&entry->page, terms, time(NULL));
	watch(entry, pidfd);
	tell(entry, what, &entry->page.holder, entry->page.holder.uid, entry->page.holder.why);
	if (leases->ops)
		leases->ops->granted(leases->arg, entry->page.guest);
}

/* Gives a free guest to the first of those who wait. */
static void
serve(struct entry *entry)
{
	struct lease_place *place;

	entry->serving++;
	lease_page_prune(&entry->page, time(NULL));
	while ((place = lease_page_next(&entry->page))) {
		struct waiter *waiter = place->waiter, one = *waiter;
		struct lease_terms terms = place->terms;
		struct cij_error err;

		place->terms = (struct lease_terms){0};
		lease_page_leave(&entry->page, place);
		free(waiter);
		if (has_ended(one.pidfd)) {
			close(one.pidfd);
			cij_error_set(&err, CIJ_E_BAD_REQUEST,
				"process %d ended before its turn came", (int)terms.process.pid);
			lease_terms_clear(&terms);
			one.done(one.arg, &err);
			continue;
		}
		grant(entry, &terms, one.pidfd, "acquired");
		one.done(one.arg, NULL);
	}
	entry->serving--;
}

static void
settle(struct entry *entry)
{
	serve(entry);
	arm(entry);
	save(entry->leases);
}

static void
end(struct entry *entry, const char *what, uid_t by, const char *why)
{
	struct leases *leases = entry->leases;
	struct lease_terms *holder = &entry->page.holder;

	log_info("guest '%s': the lease of uid %u has ended: %s", entry->page.guest,
		(unsigned)holder->uid, what);
	entry->page.until = 0;
	tell(entry, what, holder, by, why);
	entry->page.resetting = holder->reset;
	unwatch(entry);
	lease_page_end(&entry->page);
	settle(entry);
	if (entry->page.resetting && leases->ops)
		leases->ops->reset(leases->arg, entry->page.guest);
}

/* What has ended by now is over, whether or not the loop has come to it yet. */
static void
look(struct entry *entry)
{
	if (entry->page.held && has_ended(entry->pidfd))
		end(entry, "process-ended", entry->page.holder.uid, NULL);
	else if (entry->page.held && entry->page.until && time(NULL) >= entry->page.until)
		end(entry, "expired", entry->page.holder.uid, NULL);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct entry *entry = arg;

	look(entry);
	serve(entry);
	arm(entry);
}

struct leases *
leases_new(struct event_base *base, int state_fd, struct notify *notify)
{
	struct leases *leases = calloc(1, sizeof(*leases));

	if (!leases)
		abort();
	leases->base = base;
	leases->state_fd = state_fd;
	leases->notify = notify;
	load(leases);
	return leases;
}

void
leases_begin(struct leases *leases, const struct lease_ops *ops, void *arg)
{
	struct entry *entry;

	leases->ops = ops;
	leases->arg = arg;
	LIST_FOREACH (entry, &leases->entries, link) {
		if (entry->page.resetting) /* the daemon before was ended in the middle of it */
			ops->reset(arg, entry->page.guest);
		look(entry);
		arm(entry);
	}
	save(leases);
}

void
leases_close(struct leases *leases)
{
	leases->closed = true;
}

static void
fail_waiters(struct entry *entry, const struct cij_error *err)
{
	struct lease_place *place;

	while ((place = TAILQ_FIRST(&entry->page.queue))) {
		struct waiter *waiter = steal_ptr(place->waiter);

		lease_page_leave(&entry->page, place);
		if (!waiter)
			continue;
		if (err)
			waiter->done(waiter->arg, err);
		waiter_free(waiter);
	}
}

static void
entry_free(struct entry *entry)
{
	LIST_REMOVE(entry, link);
	unwatch(entry);
	fail_waiters(entry, NULL);
	lease_page_clear(&entry->page);
	event_free(entry->timer);
	free(entry);
}

void
leases_free(struct leases *leases)
{
	struct entry *entry;

	if (!leases)
		return;
	while ((entry = LIST_FIRST(&leases->entries)))
		entry_free(entry);
	free(leases);
}

/* Frees what there is nothing to remember of. Not from inside the entry's own callbacks. */
static void
tidy(struct entry *entry)
{
	if (!entry->serving && lease_page_is_blank(&entry->page))
		entry_free(entry);
}

static struct entry *
page_of(struct leases *leases, const char *guest)
{
	struct entry *entry = find(leases, guest);

	if (!entry) {
		entry = entry_new(leases);
		lease_page_init(&entry->page, guest);
	}
	return entry;
}

static size_t
queue_length(const struct entry *entry)
{
	const struct lease_place *place;
	size_t n = 0;

	TAILQ_FOREACH (place, &entry->page.queue, link)
		n++;
	return n;
}

/* Takes @terms and @pidfd over. */
static int
queue_up(struct entry *entry, struct lease_terms *terms, int *pidfd, lease_done_fn *done, void *arg,
	struct cij_error *err)
{
	struct waiter *waiter;
	struct lease_place *place;

	if (queue_length(entry) >= QUEUE_MAX)
		return cij_error_set(err, CIJ_E_NO_RESOURCES, "%d wait for guest '%s' already",
			QUEUE_MAX, entry->page.guest);
	waiter = calloc(1, sizeof(*waiter));
	if (!waiter)
		abort();
	*waiter = (struct waiter){done, arg, steal_fd(pidfd)};
	place = lease_page_join(&entry->page, terms);
	place->waiter = waiter;
	tell(entry, "queued", &place->terms, place->terms.uid, place->terms.why);
	return LEASE_WAITS;
}

/* Before somebody's lease is taken: they are told at their next try, and by an event. */
static void
note_loss(struct entry *entry, const struct lease_terms *taker)
{
	struct lease_page *page = &entry->page;

	log_notice("guest '%s': uid %u took the lease of uid %u: %s", page->guest,
		(unsigned)taker->uid, (unsigned)page->holder.uid, taker->why);
	page->lost.known = true;
	page->lost.uid = page->holder.uid;
	page->lost.by = taker->uid;
	page->lost.when = time(NULL);
	str_replace(&page->lost.why, taker->why);
	tell(entry, "stolen", &page->holder, taker->uid, taker->why);
}

static int
check_wish(const struct lease_wish *wish, struct cij_error *err)
{
	if (wish->seconds > LEASE_SECONDS_MAX)
		return cij_error_set(err, CIJ_E_BAD_REQUEST,
			"a lease may last %d days at most: what is for longer is an entry of "
			"\"share\"",
			LEASE_SECONDS_MAX / 86400);
	if (wish->steal && !(wish->why && *wish->why))
		return cij_error_set(err, CIJ_E_BAD_REQUEST,
			"taking somebody's lease needs a reason, which they are shown");
	return 0;
}

/* What is not the asker's to have just like that; takes @terms and @pidfd over. */
static int
take_or_wait(struct entry *entry, const struct lease_wish *wish, struct lease_terms *terms,
	int *pidfd, lease_done_fn *done, void *arg, struct cij_error *err)
{
	const struct lease_page *page = &entry->page;
	bool own = page->held && page->holder.uid == terms->uid;

	if (wish->steal && !wish->admin && !own) {
		lease_page_refuse(page, terms->uid, false, user_name, err);
		err->class = CIJ_E_DENIED;
		return cij_error_hint(err, "only admins may take it");
	}
	if (wish->steal && !page->resetting) {
		if (page->held && !own)
			note_loss(entry, terms);
		grant(entry, terms, steal_fd(pidfd), "acquired");
		return LEASE_GOT;
	}
	if (wish->wait)
		return queue_up(entry, terms, pidfd, done, arg, err);
	return lease_page_refuse(page, terms->uid, wish->admin, user_name, err);
}

static int
ask(struct entry *entry, const struct lease_wish *wish, struct lease_terms *terms, int *pidfd,
	lease_done_fn *done, void *arg, struct cij_error *err)
{
	switch (lease_page_ask(&entry->page, terms, time(NULL))) {
	case LEASE_ALREADY:
		return LEASE_KEPT;
	case LEASE_YES:
		lease_page_drop_left(&entry->page, terms->uid);
		grant(entry, terms, steal_fd(pidfd), "acquired");
		return LEASE_GOT;
	case LEASE_EXTEND:
		grant(entry, terms, steal_fd(pidfd), "extended");
		return LEASE_GOT;
	case LEASE_NO:
		return take_or_wait(entry, wish, terms, pidfd, done, arg, err);
	}
	return -1;
}

int
lease_acquire(struct leases *leases, const char *guest, const struct lease_wish *wish,
	lease_done_fn *done, void *arg, struct cij_error *err)
{
	struct lease_terms terms = {.uid = wish->by->uid,
		.by = wish->by->pid,
		.seconds = wish->seconds,
		.reset = wish->reset};
	_cleanup_close_ int pidfd = -1;
	struct entry *entry;
	int ret;

	if (check_wish(wish, err) < 0)
		return -1;
	if (wish->pid && (pidfd = open_process(wish->pid, terms.uid, &terms.process, err)) < 0)
		return -1;
	if (wish->why && *wish->why)
		terms.why = str_copy(wish->why);
	entry = page_of(leases, guest);
	look(entry);
	lease_page_prune(&entry->page, time(NULL));
	ret = ask(entry, wish, &terms, &pidfd, done, arg, err);
	lease_terms_clear(&terms);
	settle(entry);
	tidy(entry);
	return ret;
}

void
lease_cancel(struct leases *leases, void *arg)
{
	struct lease_place *place;
	struct entry *entry;

	if (leases->closed)
		return;
	LIST_FOREACH (entry, &leases->entries, link)
		TAILQ_FOREACH (place, &entry->page.queue, link) {
			struct waiter *waiter = place->waiter;

			if (!waiter || waiter->arg != arg)
				continue;
			tell(entry, "left", &place->terms, place->terms.uid, NULL);
			lease_page_leave(&entry->page, place);
			waiter_free(waiter);
			settle(entry);
			tidy(entry);
			return;
		}
}

int
lease_release(struct leases *leases, const char *guest, const struct lease_wish *wish,
	struct cij_error *err)
{
	struct entry *entry = find(leases, guest);
	uid_t uid = wish->by->uid;
	bool own;

	if (check_wish(wish, err) < 0)
		return -1;
	if (entry)
		look(entry);
	if (!entry || !entry->page.held)
		return 0;
	own = entry->page.holder.uid == uid;
	if (!own && !(wish->steal && wish->admin)) {
		lease_page_refuse(&entry->page, uid, false, user_name, err);
		return cij_error_hint(err,
			wish->admin ? "'cijqemuctl release %s --steal -m "
				      "REASON' takes it from them"
				    : "only they and admins give '%s' back",
			guest);
	}
	if (!own) {
		struct lease_terms taker = {.uid = uid, .why = (char *)wish->why};

		note_loss(entry, &taker);
	}
	entry->page.holder.reset |= wish->reset;
	end(entry, "released", uid, wish->why);
	tidy(entry);
	return 1;
}

int
lease_check(struct leases *leases, const char *guest, const struct peer *peer, bool admin,
	struct cij_error *err)
{
	struct entry *entry = find(leases, guest);

	if (!entry)
		return 0;
	look(entry);
	if (lease_page_lets(&entry->page, peer->uid))
		return 0;
	return lease_page_refuse(&entry->page, peer->uid, admin, user_name, err);
}

struct json_object *
lease_view(struct leases *leases, const char *guest)
{
	struct entry *entry = find(leases, guest);

	struct json_object *view;

	if (!entry)
		return NULL;
	look(entry);
	view = lease_page_view(&entry->page, user_name);
	tidy(entry);
	return view;
}

void
lease_reset_done(struct leases *leases, const char *guest)
{
	struct entry *entry = find(leases, guest);

	if (!entry || !entry->page.resetting)
		return;
	entry->page.resetting = false;
	settle(entry);
	tidy(entry);
}

void
lease_forget(struct leases *leases, const char *guest)
{
	struct entry *entry = find(leases, guest);
	struct cij_error err;

	if (!entry)
		return;
	cij_error_set(&err, CIJ_E_GUEST_NOT_FOUND, "guest '%s' is gone", guest);
	fail_waiters(entry, &err);
	entry_free(entry);
	save(leases);
}

void
lease_rename(struct leases *leases, const char *was, const char *guest)
{
	struct entry *entry = find(leases, was);

	if (!entry)
		return;
	lease_forget(leases, guest);
	str_replace(&entry->page.guest, guest);
	save(leases);
}
