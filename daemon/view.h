/* A guest as clients see it: one JSON object, the same in every answer. */
#ifndef DAEMON_VIEW_H
#define DAEMON_VIEW_H

#include "daemon/guest.h"

struct json_object *view_guest(struct guest *guest);

/* The user's name, or "uid N". */
struct json_object *view_who(const struct peer *peer);

#endif
