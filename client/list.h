/* The table of guests: one machine's, or several machines'. */
#ifndef CLIENT_LIST_H
#define CLIENT_LIST_H

#include "client/link.h"

struct listing {
	const char *host; /* weak; NULL: this machine, without a column for it */
	struct json_object *guests; /* weak: an array of views, or NULL */
};

void list_print(const struct listing *lists, size_t n);

/* Asks the daemon for what 'list' is to show: an array. */
int list_ask(struct call *call, struct reply *reply, struct cij_error *err);

#endif
