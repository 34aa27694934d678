/* Leases while they last: their ends, turns, and the record of them. */
#include "daemon/lease_impl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/proc.h"
#include "daemon/strv.h"
#include "daemon/users.h"
#include "proto/json.h"

/* Timers do not run while the host sleeps, and the wall clock may be set: looked at so often. */
#define LOOK_SECONDS_MAX 30

#define USEC 1000000

static void on_timer(evutil_socket_t fd, short what, void *arg);

struct lease_entry *
lease_find(const struct leases *leases, const char *guest)
{
	struct lease_entry *entry;

	LIST_FOREACH (entry, &leases->entries, link)
		if (strcmp(entry->page.guest, guest) == 0)
			return entry;
	return NULL;
}

static struct lease_entry *
entry_new(struct leases *leases)
{
	struct lease_entry *entry = calloc(1, sizeof(*entry));

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

/*
 * Ends are told by the wall clock, and are so much time away as was asked for: a clock that is put
 * right ends nobody's lease (and formats nobody's drives), nor does it make one last for hours.
 */
time_t
lease_now(struct leases *leases)
{
	int64_t off = clock_wall_ahead() - leases->wall_ahead;
	struct lease_entry *entry;

	/* A clock that is corrected bit by bit comes to a second in the end, too. */
	if (off >= USEC || off <= -USEC) {
		int64_t by = (off + (off > 0 ? USEC / 2 : -USEC / 2)) / USEC;

		leases->wall_ahead += by * USEC;
		LIST_FOREACH (entry, &leases->entries, link)
			lease_page_shift(&entry->page, by);
		if (!LIST_EMPTY(&leases->entries))
			log_notice("the host's clock was set by %+lld s: leases end when as much "
				   "time is over as before",
				(long long)by);
	}
	return time(NULL);
}

/* Processes */

static void
unwatch(struct lease_entry *entry)
{
	if (entry->process)
		event_free(steal_ptr(entry->process));
	if (entry->pidfd >= 0)
		close(steal_fd(&entry->pidfd));
}

static void
on_process(evutil_socket_t fd, short what, void *arg)
{
	struct lease_entry *entry = arg;

	lease_end(entry, "process-ended", entry->page.holder.uid, NULL);
}

/* Takes @pidfd over. */
static void
watch(struct lease_entry *entry, int pidfd)
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

/* Turns */

static void
save(const struct leases *leases)
{
	struct json_object *pages;
	const struct lease_entry *entry;

	if (leases->closed)
		return;
	pages = json_object_new_array();
	LIST_FOREACH (entry, &leases->entries, link)
		if (!lease_page_is_blank(&entry->page))
			json_object_array_add(pages, lease_page_to_json(&entry->page));
	lease_file_write(leases->state_fd, pages, leases->wall_ahead);
}

void
lease_tell(const struct lease_entry *entry, const char *what, const struct lease_terms *whose,
	uid_t by, const char *why)
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
arm(struct lease_entry *entry)
{
	int64_t left = lease_page_next_change(&entry->page, lease_now(entry->leases));
	struct timeval tv = {0};

	if (left < 0) {
		event_del(entry->timer);
		return;
	}
	tv.tv_sec = left < LOOK_SECONDS_MAX ? left : LOOK_SECONDS_MAX;
	event_add(entry->timer, &tv);
}

void
lease_waiter_free(struct lease_waiter *waiter)
{
	if (waiter->pidfd >= 0)
		close(waiter->pidfd);
	free(waiter);
}

void
lease_grant(struct lease_entry *entry, struct lease_terms *terms, int pidfd, const char *what)
{
	struct leases *leases = entry->leases;

	lease_page_grant(&entry->page, terms, lease_now(leases));
	watch(entry, pidfd);
	lease_tell(
		entry, what, &entry->page.holder, entry->page.holder.uid, entry->page.holder.why);
	if (leases->ops)
		leases->ops->granted(leases->arg, entry->page.guest);
}

/* Gives a free guest to the first of those who wait. */
static void
serve(struct lease_entry *entry)
{
	struct lease_place *place;

	entry->serving++;
	lease_page_prune(&entry->page, lease_now(entry->leases));
	while ((place = lease_page_next(&entry->page))) {
		struct lease_waiter *waiter = place->waiter, one = *waiter;
		struct lease_terms terms = place->terms;
		struct cij_error err;

		place->terms = (struct lease_terms){0};
		lease_page_leave(&entry->page, place);
		free(waiter);
		if (proc_pidfd_ended(one.pidfd)) {
			close(one.pidfd);
			cij_error_set(&err, CIJ_E_BAD_REQUEST,
				"process %d ended before its turn came", (int)terms.process.pid);
			lease_terms_clear(&terms);
			one.done(one.arg, &err);
			continue;
		}
		lease_grant(entry, &terms, one.pidfd, "acquired");
		one.done(one.arg, NULL);
	}
	entry->serving--;
}

void
lease_settle(struct lease_entry *entry)
{
	serve(entry);
	arm(entry);
	save(entry->leases);
}

void
lease_end(struct lease_entry *entry, const char *what, uid_t by, const char *why)
{
	struct leases *leases = entry->leases;
	struct lease_terms *holder = &entry->page.holder;

	log_info("guest '%s': the lease of uid %u has ended: %s", entry->page.guest,
		(unsigned)holder->uid, what);
	entry->page.until = 0;
	lease_tell(entry, what, holder, by, why);
	entry->page.resetting = holder->reset;
	unwatch(entry);
	lease_page_end(&entry->page);
	lease_settle(entry);
	if (entry->page.resetting && leases->ops)
		leases->ops->reset(leases->arg, entry->page.guest);
}

void
lease_look(struct lease_entry *entry)
{
	if (entry->page.held && proc_pidfd_ended(entry->pidfd))
		lease_end(entry, "process-ended", entry->page.holder.uid, NULL);
	else if (entry->page.held && entry->page.until &&
		 lease_now(entry->leases) >= entry->page.until)
		lease_end(entry, "expired", entry->page.holder.uid, NULL);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct lease_entry *entry = arg;

	lease_look(entry);
	serve(entry);
	arm(entry);
}

static void
fail_waiters(struct lease_entry *entry, const struct cij_error *err)
{
	struct lease_place *place;

	while ((place = TAILQ_FIRST(&entry->page.queue))) {
		struct lease_waiter *waiter = steal_ptr(place->waiter);

		lease_page_leave(&entry->page, place);
		if (!waiter)
			continue;
		if (err)
			waiter->done(waiter->arg, err);
		lease_waiter_free(waiter);
	}
}

static void
entry_free(struct lease_entry *entry)
{
	LIST_REMOVE(entry, link);
	unwatch(entry);
	fail_waiters(entry, NULL);
	lease_page_clear(&entry->page);
	event_free(entry->timer);
	free(entry);
}

/* The holder's process is looked up again; one that is not there any more has ended the lease. */
static void
find_process(struct lease_entry *entry, bool same_boot)
{
	struct lease_process now, was = entry->page.holder.process;
	int fd;

	if (!entry->page.held || !was.pid)
		return;
	fd = same_boot ? lease_process_open(was.pid, entry->page.holder.uid, &now, NULL) : -1;
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
	_cleanup_json_ struct json_object *pages = NULL;
	bool same_boot;
	time_t now;
	size_t n;

	leases->wall_ahead = clock_wall_ahead();
	pages = lease_file_read(leases->state_fd, &same_boot, &leases->wall_ahead);
	now = time(NULL) - (clock_wall_ahead() - leases->wall_ahead) / USEC;
	n = pages ? json_object_array_length(pages) : 0;
	for (size_t i = 0; i < n; i++) {
		struct lease_entry *entry = entry_new(leases);

		if (lease_page_from_json(&entry->page, json_object_array_get_idx(pages, i), now)) {
			find_process(entry, same_boot);
			continue;
		}
		log_warn("a lease in '%s' makes no sense: forgotten", LEASE_FILE);
		entry_free(entry);
	}
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
	struct lease_entry *entry;

	leases->ops = ops;
	leases->arg = arg;
	LIST_FOREACH (entry, &leases->entries, link) {
		if (entry->page.resetting) /* the daemon before was ended in the middle of it */
			ops->reset(arg, entry->page.guest);
		lease_look(entry);
		arm(entry);
	}
	save(leases);
}

void
leases_close(struct leases *leases)
{
	leases->closed = true;
}

void
leases_free(struct leases *leases)
{
	struct lease_entry *entry;

	if (!leases)
		return;
	while ((entry = LIST_FIRST(&leases->entries)))
		entry_free(entry);
	free(leases);
}

void
lease_tidy(struct lease_entry *entry)
{
	if (!entry->serving && lease_page_is_blank(&entry->page))
		entry_free(entry);
}

struct lease_entry *
lease_entry_of(struct leases *leases, const char *guest)
{
	struct lease_entry *entry = lease_find(leases, guest);

	if (!entry) {
		entry = entry_new(leases);
		lease_page_init(&entry->page, guest);
	}
	return entry;
}

int
lease_check(struct leases *leases, const char *guest, const struct peer *peer, bool admin,
	struct cij_error *err)
{
	struct lease_entry *entry = lease_find(leases, guest);

	if (!entry)
		return 0;
	lease_look(entry);
	if (lease_page_lets(&entry->page, peer->uid))
		return 0;
	return lease_page_refuse(&entry->page, peer->uid, admin, user_name, err);
}

struct json_object *
lease_view(struct leases *leases, const char *guest)
{
	struct lease_entry *entry = lease_find(leases, guest);
	struct json_object *view;

	if (!entry)
		return NULL;
	lease_look(entry);
	view = lease_page_view(&entry->page, user_name);
	lease_tidy(entry);
	return view;
}

void
lease_reset_done(struct leases *leases, const char *guest)
{
	struct lease_entry *entry = lease_find(leases, guest);

	if (!entry || !entry->page.resetting)
		return;
	entry->page.resetting = false;
	lease_settle(entry);
	lease_tidy(entry);
}

void
lease_forget(struct leases *leases, const char *guest)
{
	struct lease_entry *entry = lease_find(leases, guest);
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
	struct lease_entry *entry = lease_find(leases, was);

	if (!entry)
		return;
	lease_forget(leases, guest);
	str_replace(&entry->page.guest, guest);
	save(leases);
}
