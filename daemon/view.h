/* A guest as clients see it: one JSON object, the same in every answer. */
#ifndef DAEMON_VIEW_H
#define DAEMON_VIEW_H

#include "daemon/guest.h"

struct json_object *view_guest(struct guest *guest);

/* Adds "incomplete_since" and "incomplete_until": when the disk was too full for the log, or null.
 */
void view_add_gap(struct json_object *obj, const struct logindex *index);

/* The user's name, or "uid N". */
struct json_object *view_who(const struct peer *peer);

#endif
