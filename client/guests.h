/* The guests that a command line means: names, globs, all. */
#ifndef CLIENT_GUESTS_H
#define CLIENT_GUESTS_H

#include <stdbool.h>

#include "client/link.h"

struct guests {
	struct guest_ref {
		char *name; /* or the glob that matches none */
		char *state; /* where a glob or --all found it; NULL = named, not looked up */
		bool missing; /* a glob that matches none */
	} * items;
	size_t n;
};

/*
 * Expands @n words in their order, each guest once; no word = all guests. Only globs are asked
 * about. A glob without a match becomes an item of its own, so that the others go ahead.
 */
int guests_expand(
	struct link *link, char **words, size_t n, struct guests *guests, struct cij_error *err);

/* The error of a glob that matches none. Always returns -1. */
int guest_missing(const struct guest_ref *ref, struct cij_error *err);

void guests_clear(struct guests *guests);
#define _cleanup_guests_ _cleanup_(guests_clear)

#endif
