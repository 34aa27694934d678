/* What clients ask of leases: to have a guest, to wait for it, to give it back. */
#include <stdlib.h>
#include <unistd.h>

#include "cijqemu/cleanup.h"
#include "daemon/lease_impl.h"
#include "daemon/log.h"
#include "daemon/strv.h"
#include "daemon/users.h"

/* Clients that wait for one guest: more than a lab has people. */
#define QUEUE_MAX 64

static size_t
queue_length(const struct lease_entry *entry)
{
	const struct lease_place *place;
	size_t n = 0;

	TAILQ_FOREACH (place, &entry->page.queue, link)
		n++;
	return n;
}

/* Takes @terms and @pidfd over. */
static int
queue_up(struct lease_entry *entry, struct lease_terms *terms, int *pidfd, lease_done_fn *done,
	void *arg, struct cij_error *err)
{
	struct lease_waiter *waiter;
	struct lease_place *place;

	if (queue_length(entry) >= QUEUE_MAX)
		return cij_error_set(err, CIJ_E_NO_RESOURCES, "%d wait for guest '%s' already",
			QUEUE_MAX, entry->page.guest);
	waiter = calloc(1, sizeof(*waiter));
	if (!waiter)
		abort();
	*waiter = (struct lease_waiter){done, arg, steal_fd(pidfd)};
	place = lease_page_join(&entry->page, terms);
	place->waiter = waiter;
	lease_tell(entry, "queued", &place->terms, place->terms.uid, place->terms.why);
	return LEASE_WAITS;
}

/* Before somebody's lease is taken: they are told at their next try, and by an event. */
static void
note_loss(struct lease_entry *entry, const struct lease_terms *taker)
{
	struct lease_page *page = &entry->page;

	log_notice("guest '%s': uid %u took the lease of uid %u: %s", page->guest,
		(unsigned)taker->uid, (unsigned)page->holder.uid, taker->why);
	page->lost.known = true;
	page->lost.uid = page->holder.uid;
	page->lost.by = taker->uid;
	page->lost.when = lease_now(entry->leases);
	str_replace(&page->lost.why, taker->why);
	lease_tell(entry, "stolen", &page->holder, taker->uid, taker->why);
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
take_or_wait(struct lease_entry *entry, const struct lease_wish *wish, struct lease_terms *terms,
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
		lease_grant(entry, terms, steal_fd(pidfd), "acquired");
		return LEASE_GOT;
	}
	if (wish->wait)
		return queue_up(entry, terms, pidfd, done, arg, err);
	return lease_page_refuse(page, terms->uid, wish->admin, user_name, err);
}

static int
ask(struct lease_entry *entry, const struct lease_wish *wish, struct lease_terms *terms, int *pidfd,
	lease_done_fn *done, void *arg, struct cij_error *err)
{
	switch (lease_page_ask(&entry->page, terms, lease_now(entry->leases))) {
	case LEASE_ALREADY:
		return LEASE_KEPT;
	case LEASE_YES:
		lease_page_drop_left(&entry->page, terms->uid);
		lease_grant(entry, terms, steal_fd(pidfd), "acquired");
		return LEASE_GOT;
	case LEASE_EXTEND:
		lease_grant(entry, terms, steal_fd(pidfd), "extended");
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
	struct lease_entry *entry;
	int ret;

	if (check_wish(wish, err) < 0)
		return -1;
	if (wish->pid &&
		(pidfd = lease_process_open(wish->pid, terms.uid, &terms.process, err)) < 0)
		return -1;
	if (wish->why && *wish->why)
		terms.why = str_copy(wish->why);
	entry = lease_entry_of(leases, guest);
	lease_look(entry);
	lease_page_prune(&entry->page, lease_now(entry->leases));
	ret = ask(entry, wish, &terms, &pidfd, done, arg, err);
	lease_terms_clear(&terms);
	lease_settle(entry);
	lease_tidy(entry);
	return ret;
}

void
lease_cancel(struct leases *leases, void *arg)
{
	struct lease_place *place;
	struct lease_entry *entry;

	if (leases->closed)
		return;
	LIST_FOREACH (entry, &leases->entries, link)
		TAILQ_FOREACH (place, &entry->page.queue, link) {
			struct lease_waiter *waiter = place->waiter;

			if (!waiter || waiter->arg != arg)
				continue;
			lease_tell(entry, "left", &place->terms, place->terms.uid, NULL);
			lease_page_leave(&entry->page, place);
			lease_waiter_free(waiter);
			lease_settle(entry);
			lease_tidy(entry);
			return;
		}
}

int
lease_release(struct leases *leases, const char *guest, const struct lease_wish *wish,
	struct cij_error *err)
{
	struct lease_entry *entry = lease_find(leases, guest);
	uid_t uid = wish->by->uid;
	bool own;

	if (check_wish(wish, err) < 0)
		return -1;
	if (entry)
		lease_look(entry);
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
	lease_end(entry, "released", uid, wish->why);
	lease_tidy(entry);
	return 1;
}
