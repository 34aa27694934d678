#include "daemon/lease_book.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/strv.h"
#include "proto/json.h"

/* A client whose daemon was restarted is given so long to take its place in the queue again. */
#define PLACE_SECONDS 30

/* Whoever lost a lease is told at the next try; a week later it is of no use any more. */
#define LOST_SECONDS (7 * 86400)

void
lease_terms_clear(struct lease_terms *terms)
{
	free(terms->why);
	*terms = (struct lease_terms){0};
}

void
lease_page_init(struct lease_page *page, const char *guest)
{
	*page = (struct lease_page){.guest = str_copy(guest)};
	TAILQ_INIT(&page->queue);
}

void
lease_page_clear(struct lease_page *page)
{
	struct lease_place *place;

	while ((place = TAILQ_FIRST(&page->queue)))
		lease_page_leave(page, place);
	lease_terms_clear(&page->holder);
	free(page->lost.why);
	free(page->guest);
	*page = (struct lease_page){0};
}

static void
shift(time_t *when, int64_t seconds)
{
	if (*when)
		*when += seconds;
}

void
lease_page_shift(struct lease_page *page, int64_t seconds)
{
	struct lease_place *place;

	shift(&page->since, seconds);
	shift(&page->until, seconds);
	if (page->lost.known)
		shift(&page->lost.when, seconds);
	TAILQ_FOREACH (place, &page->queue, link)
		shift(&place->gone, seconds);
}

bool
lease_page_is_blank(const struct lease_page *page)
{
	return !page->held && !page->resetting && !page->lost.known && TAILQ_EMPTY(&page->queue);
}

void
lease_page_grant(struct lease_page *page, struct lease_terms *terms, time_t now)
{
	lease_terms_clear(&page->holder);
	page->holder = *terms;
	*terms = (struct lease_terms){0};
	page->held = true;
	page->since = now;
	page->until = page->holder.seconds ? now + page->holder.seconds : 0;
	if (page->lost.known && page->lost.uid == page->holder.uid)
		page->lost.known = false; /* it is over: who lost it has it back */
}

void
lease_page_end(struct lease_page *page)
{
	lease_terms_clear(&page->holder);
	page->held = false;
	page->since = page->until = 0;
}

/* The first place of @uid whose client went away with the daemon before. */
static struct lease_place *
left_place(struct lease_page *page, uid_t uid)
{
	struct lease_place *place;

	TAILQ_FOREACH (place, &page->queue, link)
		if (place->gone && place->terms.uid == uid)
			return place;
	return NULL;
}

void
lease_page_drop_left(struct lease_page *page, uid_t uid)
{
	struct lease_place *place = left_place(page, uid);

	if (place)
		lease_page_leave(page, place);
}

struct lease_place *
lease_page_join(struct lease_page *page, struct lease_terms *terms)
{
	struct lease_place *place = left_place(page, terms->uid);

	if (!place) {
		place = calloc(1, sizeof(*place));
		if (!place)
			abort();
		TAILQ_INSERT_TAIL(&page->queue, place, link);
	}
	lease_terms_clear(&place->terms);
	place->terms = *terms;
	place->gone = 0;
	*terms = (struct lease_terms){0};
	return place;
}

void
lease_page_leave(struct lease_page *page, struct lease_place *place)
{
	TAILQ_REMOVE(&page->queue, place, link);
	lease_terms_clear(&place->terms);
	free(place);
}

struct lease_place *
lease_page_next(const struct lease_page *page)
{
	struct lease_place *first = TAILQ_FIRST(&page->queue);

	return page->held || page->resetting || !first || first->gone ? NULL : first;
}

void
lease_page_prune(struct lease_page *page, time_t now)
{
	struct lease_place *place, *next;

	for (place = TAILQ_FIRST(&page->queue); place; place = next) {
		next = TAILQ_NEXT(place, link);
		if (place->gone && now - place->gone >= PLACE_SECONDS)
			lease_page_leave(page, place);
	}
	if (page->lost.known && now - page->lost.when > LOST_SECONDS)
		page->lost.known = false;
}

int64_t
lease_page_next_change(const struct lease_page *page, time_t now)
{
	const struct lease_place *place;
	int64_t next = -1;

	if (page->held && page->until)
		next = page->until - now;
	TAILQ_FOREACH (place, &page->queue, link) {
		int64_t left = place->gone + PLACE_SECONDS - now;

		if (place->gone && (next < 0 || left < next))
			next = left < 0 ? 0 : left;
	}
	return page->held && page->until && next < 0 ? 0 : next;
}

static bool
same_process(const struct lease_process *a, const struct lease_process *b)
{
	return a->pid == b->pid && a->start == b->start;
}

/* Whether somebody waits who comes before @uid; who is away keeps a place for a while. */
static bool
others_wait(const struct lease_page *page, uid_t uid, time_t now)
{
	const struct lease_place *place;

	TAILQ_FOREACH (place, &page->queue, link) {
		if (place->gone && now - place->gone >= PLACE_SECONDS)
			continue;
		return !(place->gone && place->terms.uid == uid);
	}
	return false;
}

enum lease_answer
lease_page_ask(const struct lease_page *page, const struct lease_terms *terms, time_t now)
{
	const struct lease_process *has = &page->holder.process, *wants = &terms->process;

	if (page->resetting)
		return LEASE_NO;
	if (!page->held)
		return others_wait(page, terms->uid, now) ? LEASE_NO : LEASE_YES;
	if (page->holder.uid != terms->uid)
		return LEASE_NO;
	if (has->pid && wants->pid && !same_process(has, wants))
		return LEASE_NO; /* two jobs of one user are two */
	return !has->pid && wants->pid ? LEASE_ALREADY : LEASE_EXTEND;
}

bool
lease_page_lets(const struct lease_page *page, uid_t uid)
{
	return !page->resetting && (!page->held || page->holder.uid == uid);
}

static const char *
who(uid_t uid, const char *(*name)(uid_t uid), char *buf, size_t size)
{
	const char *known = name(uid);

	if (known)
		snprintf(buf, size, "%s", known);
	else
		snprintf(buf, size, "uid %u", (unsigned)uid);
	return buf;
}

static size_t
waiting(const struct lease_page *page)
{
	const struct lease_place *place;
	size_t n = 0;

	TAILQ_FOREACH (place, &page->queue, link)
		n++;
	return n;
}

/* "until 2026-11-22T12:40:05Z", "until process 4711 ends" or both. */
static void
end_words(const struct lease_page *page, char *buf, size_t size)
{
	char when[32] = "", process[48] = "";

	if (page->until)
		clock_rfc3339(page->until, when, sizeof(when));
	if (page->holder.process.pid)
		snprintf(
			process, sizeof(process), "process %d ends", (int)page->holder.process.pid);
	snprintf(buf, size, "until %s%s%s", when, *when && *process ? " or " : "", process);
}

static void
refuse_words(const struct lease_page *page, uid_t uid, const char *(*name)(uid_t uid),
	struct cij_error *err)
{
	char holder[80], end[96];

	if (page->resetting) {
		cij_error_set(err, CIJ_E_LEASED,
			"guest '%s' is being reset: its last lease has just ended", page->guest);
	} else if (!page->held) {
		cij_error_set(err, CIJ_E_LEASED, "guest '%s' is free, but %zu wait for it",
			page->guest, waiting(page));
	} else {
		size_t n = waiting(page);
		char queue[48] = "";

		end_words(page, end, sizeof(end));
		if (n)
			snprintf(queue, sizeof(queue), "; %zu wait%s for it", n, n == 1 ? "s" : "");
		cij_error_set(err, CIJ_E_LEASED, "guest '%s' is leased by %s %s%s%s%s%s",
			page->guest,
			page->holder.uid == uid
				? "yourself"
				: who(page->holder.uid, name, holder, sizeof(holder)),
			end, page->holder.why ? " (" : "", page->holder.why ? page->holder.why : "",
			page->holder.why ? ")" : "", queue);
	}
}

int
lease_page_refuse(const struct lease_page *page, uid_t uid, bool admin,
	const char *(*name)(uid_t uid), struct cij_error *err)
{
	char text[2 * CIJ_ERROR_DESC_MAX], by[80], when[32];

	if (!err)
		return -1;
	refuse_words(page, uid, name, err);
	if (page->lost.known && page->lost.uid == uid) {
		snprintf(text, sizeof(text), "%s; your lease was taken by %s at %s: %s", err->desc,
			who(page->lost.by, name, by, sizeof(by)),
			clock_rfc3339(page->lost.when, when, sizeof(when)), page->lost.why);
		cij_error_set(err, CIJ_E_LEASED, "%s", text);
	}
	return cij_error_hint(err, "'cijqemuctl lease %s --wait' queues for it%s%s%s", page->guest,
		admin ? ", 'cijqemuctl lease " : "", admin ? page->guest : "",
		admin ? " --steal -m REASON' takes it" : "");
}

static void
add_terms(struct json_object *obj, const struct lease_terms *terms)
{
	cij_json_add_int(obj, "uid", terms->uid);
	cij_json_add_int(obj, "by_pid", terms->by);
	json_object_object_add(
		obj, "pid", terms->process.pid ? json_object_new_int64(terms->process.pid) : NULL);
	cij_json_add_str(obj, "why", terms->why);
	cij_json_add_bool(obj, "reset", terms->reset);
}

static void
add_time(struct json_object *obj, const char *name, time_t when)
{
	char buf[32];

	cij_json_add_str(obj, name, when ? clock_rfc3339(when, buf, sizeof(buf)) : NULL);
}

struct json_object *
lease_page_view(const struct lease_page *page, const char *(*name)(uid_t uid))
{
	struct json_object *view, *queue;
	const struct lease_place *place;
	int64_t n = 0;

	if (!page->held && !page->resetting && TAILQ_EMPTY(&page->queue))
		return NULL;
	view = json_object_new_object();
	queue = json_object_new_array();
	if (page->held) {
		add_terms(view, &page->holder);
		cij_json_add_str(view, "user", name(page->holder.uid));
	}
	add_time(view, "since", page->since);
	add_time(view, "until", page->until);
	cij_json_add_bool(view, "resetting", page->resetting);
	TAILQ_FOREACH (place, &page->queue, link) {
		struct json_object *item = json_object_new_object();

		cij_json_add_int(item, "place", ++n);
		add_terms(item, &place->terms);
		cij_json_add_str(item, "user", name(place->terms.uid));
		cij_json_add_int(item, "seconds", place->terms.seconds);
		json_object_array_add(queue, item);
	}
	json_object_object_add(view, "queue", queue);
	return view;
}

/* The file */

static struct json_object *
terms_to_json(const struct lease_terms *terms)
{
	struct json_object *obj = json_object_new_object();

	add_terms(obj, terms);
	cij_json_add_int(obj, "seconds", terms->seconds);
	cij_json_add_int(obj, "pid_start", (int64_t)terms->process.start);
	return obj;
}

static bool
terms_from_json(struct lease_terms *terms, struct json_object *obj)
{
	int64_t uid = cij_json_int(obj, "uid", -1), pid = cij_json_int(obj, "pid", 0);
	int64_t seconds = cij_json_int(obj, "seconds", 0);

	*terms = (struct lease_terms){.uid = (uid_t)uid,
		.by = (pid_t)cij_json_int(obj, "by_pid", 0),
		.seconds = seconds,
		.process = {(pid_t)pid, (uint64_t)cij_json_int(obj, "pid_start", 0)},
		.why = str_copy(cij_json_str(obj, "why")),
		.reset = cij_json_bool(obj, "reset", false)};
	return uid >= 0 && uid < (int64_t)(uid_t)-1 && pid >= 0 && pid <= INT32_MAX &&
	       seconds >= 0 && seconds <= LEASE_SECONDS_MAX && (seconds || pid);
}

struct json_object *
lease_page_to_json(const struct lease_page *page)
{
	struct json_object *obj = json_object_new_object(), *queue = json_object_new_array();
	const struct lease_place *place;

	cij_json_add_str(obj, "guest", page->guest);
	if (page->held)
		json_object_object_add(obj, "holder", terms_to_json(&page->holder));
	add_time(obj, "since", page->since);
	add_time(obj, "until", page->until);
	cij_json_add_bool(obj, "resetting", page->resetting);
	TAILQ_FOREACH (place, &page->queue, link)
		json_object_array_add(queue, terms_to_json(&place->terms));
	json_object_object_add(obj, "queue", queue);
	if (page->lost.known) {
		struct json_object *lost = json_object_new_object();

		cij_json_add_int(lost, "uid", page->lost.uid);
		cij_json_add_int(lost, "by", page->lost.by);
		add_time(lost, "when", page->lost.when);
		cij_json_add_str(lost, "why", page->lost.why);
		json_object_object_add(obj, "lost", lost);
	}
	return obj;
}

static void
read_queue(struct lease_page *page, struct json_object *queue, time_t now)
{
	size_t n = cij_json_length(queue);

	for (size_t i = 0; i < n; i++) {
		struct lease_place *place = calloc(1, sizeof(*place));

		if (!place)
			abort();
		TAILQ_INSERT_TAIL(&page->queue, place, link);
		place->gone = now;
		if (!terms_from_json(&place->terms, json_object_array_get_idx(queue, i)))
			lease_page_leave(page, place);
	}
}

bool
lease_page_from_json(struct lease_page *page, struct json_object *json, time_t now)
{
	struct json_object *holder = cij_json_get(json, "holder"), *lost;
	const char *guest = cij_json_str(json, "guest");

	lease_page_init(page, guest ? guest : "");
	if (!guest)
		return false;
	page->since = clock_parse(cij_json_str(json, "since"));
	page->until = clock_parse(cij_json_str(json, "until"));
	page->resetting = cij_json_bool(json, "resetting", false);
	if (holder)
		page->held = terms_from_json(&page->holder, holder);
	if (holder && (!page->held || (!page->until && !page->holder.process.pid)))
		return false; /* it would never end */
	read_queue(page, cij_json_get(json, "queue"), now);
	lost = cij_json_get(json, "lost");
	if (cij_json_str(lost, "why")) {
		page->lost.known = true;
		page->lost.uid = (uid_t)cij_json_int(lost, "uid", -1);
		page->lost.by = (uid_t)cij_json_int(lost, "by", -1);
		page->lost.when = clock_parse(cij_json_str(lost, "when"));
		page->lost.why = str_copy(cij_json_str(lost, "why"));
	}
	return true;
}
