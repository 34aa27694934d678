/*
 * Leases on paper: who holds a guest until when, who waits behind, in structs, words and JSON.
 * Pure: the time is an argument, whether a process lives is not looked at.
 */
#ifndef DAEMON_LEASE_BOOK_H
#define DAEMON_LEASE_BOOK_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <time.h>

#include "cijqemu/error.h"

/* A lease has an end: what is meant to be for ever is an entry of "share". */
#define LEASE_SECONDS_MAX (30 * 86400)

/* Its reason, in bytes: a line of a table. */
#define LEASE_WHY_MAX 200

/* The process whose end ends the lease; by its start too, so that a pid used again is not it. */
struct lease_process {
	pid_t pid; /* 0: none */
	uint64_t start; /* /proc/PID/stat, field 22: clock ticks since the machine started */
};

/* What somebody wants to have, or has. */
struct lease_terms {
	uid_t uid;
	pid_t by; /* of the client that asked; only good for telling people */
	int64_t seconds; /* 0: until the process ends */
	struct lease_process process;
	char *why; /* NULL: not said */
	bool reset; /* at its end the guest is stopped and its drives formatted */
};
void lease_terms_clear(struct lease_terms *terms);

struct lease_place {
	TAILQ_ENTRY(lease_place) link;
	struct lease_terms terms;
	time_t gone; /* its client is away since then, 0: it waits */
	void *waiter; /* the driver's */
};
TAILQ_HEAD(lease_queue, lease_place);

/* Everything about one guest's lease. */
struct lease_page {
	char *guest;
	bool held;
	struct lease_terms holder; /* while held */
	time_t since, until; /* until 0: until the process ends */
	bool resetting; /* the last holder's traces are being removed: nobody's yet */
	struct lease_queue queue;
	struct {
		bool known;
		uid_t uid, by; /* who lost it to whom */
		time_t when;
		char *why;
	} lost;
};

void lease_page_init(struct lease_page *page, const char *guest);
/* The wall clock was set @seconds ahead: all times move with it, so that what is left stays. */
void lease_page_shift(struct lease_page *page, int64_t seconds);
void lease_page_clear(struct lease_page *page);

/* Whether there is nothing to remember. */
bool lease_page_is_blank(const struct lease_page *page);

/* Writes the terms in; the page is held from @now on. Takes @terms over. */
void lease_page_grant(struct lease_page *page, struct lease_terms *terms, time_t now);
/* Nobody holds it from here on. */
void lease_page_end(struct lease_page *page);

struct lease_place *lease_page_join(struct lease_page *page, struct lease_terms *terms);
void lease_page_leave(struct lease_page *page, struct lease_place *place);

/*
 * The place whose turn it is; NULL while the page is held or being reset, nobody waits, or the
 * first one's client may still come back.
 */
struct lease_place *lease_page_next(const struct lease_page *page);

/* Strikes out what is too old to matter: places left behind, and who lost a lease last week. */
void lease_page_prune(struct lease_page *page, time_t now);

/* Seconds from @now until something on the page changes by itself; -1: nothing does. */
int64_t lease_page_next_change(const struct lease_page *page, time_t now);

/* Strikes out the place that @uid left behind when the daemon before ended. */
void lease_page_drop_left(struct lease_page *page, uid_t uid);

/* What asking for @terms comes to. */
enum lease_answer {
	LEASE_YES, /* it is free */
	LEASE_EXTEND, /* the asker's own: with new terms from here on */
	LEASE_ALREADY, /* the asker's own, and longer than this: it stays as it is */
	LEASE_NO, /* somebody else's, or others are before */
};
enum lease_answer lease_page_ask(
	const struct lease_page *page, const struct lease_terms *terms, time_t now);

/* Whether @uid may operate the guest as far as leases go. */
bool lease_page_lets(const struct lease_page *page, uid_t uid);

/*
 * Fills @err with Leased: who has it, until when, why, how many wait, what @uid lost and to whom,
 * and how to ask. @name: of a user, NULL where it is not known. Always returns -1.
 */
int lease_page_refuse(const struct lease_page *page, uid_t uid, bool admin,
	const char *(*name)(uid_t uid), struct cij_error *err);

/* {"uid", "user", "since", "until", "pid", "why", "reset", "resetting", "queue": […]}, or NULL. */
struct json_object *lease_page_view(const struct lease_page *page, const char *(*name)(uid_t uid));

/* To and from the file. Reading returns false for what is no page; clear it in both cases. */
struct json_object *lease_page_to_json(const struct lease_page *page);
bool lease_page_from_json(struct lease_page *page, struct json_object *json, time_t now);

#endif
