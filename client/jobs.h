/* One request to each of many guests, all under way at once on one connection. */
#ifndef CLIENT_JOBS_H
#define CLIENT_JOBS_H

#include "client/args.h"
#include "client/guests.h"

/* What is done to each guest. */
struct verb {
	const char *op;
	const char *doing; /* for the line of progress: "starting" */
	const char *states; /* those that a glob or --all picks, as "running paused"; NULL = all */
	double patience; /* seconds, unless --timeout says otherwise; 0 = for ever */
	/* Adds the operation's arguments; may be NULL. */
	void (*arguments)(const struct verb *verb, struct json_object *args);
	/* Tells on stderr how it went, @seconds after it began. */
	void (*tell)(const char *guest, struct json_object *view, double seconds);
	const char *wait_for; /* then waits for this ("ssh"), or NULL */
	double force_after; /* for arguments() */
	bool paused; /* for arguments() */
};

struct job {
	const struct guest_ref *guest; /* weak */
	int64_t id; /* of the request under way; 0 = none, it is done */
	bool waiting; /* for verb->wait_for: the operation itself went well */
	char phase[96]; /* last heard of from the daemon's events, or "" */
	struct reply reply; /* how it went */
	struct cij_error *error; /* heap; NULL = went well */
};

/*
 * Does @verb to the guests of the command line. Returns the exit code, or -1 and an error. Where
 * that was one guest, its view is put into @view (may be NULL; owned by the caller).
 */
int jobs_run(struct call *call, const struct verb *verb, struct json_object **view,
	struct cij_error *err);

#endif
