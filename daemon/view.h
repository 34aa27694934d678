/* A guest as clients see it: one JSON object, the same in every answer. */
#ifndef DAEMON_VIEW_H
#define DAEMON_VIEW_H

#include <stdint.h>

#include "daemon/guest.h"
#include "proto/field.h"

/* Which members of the view are wanted, a bit each. */
typedef uint32_t view_members;
#define VIEW_ALL UINT32_MAX

/* The members of these names and "guest"; no name: all. 0, or -1 with BadRequest. */
int view_members_parse(const struct cij_list *names, view_members *wanted, struct cij_error *err);

struct json_object *view_guest(struct guest *guest);
struct json_object *view_guest_members(struct guest *guest, view_members wanted);

/* Adds "incomplete_since" and "incomplete_until": when the disk was too full for the log, or null.
 */
void view_add_gap(struct json_object *obj, const struct logindex *index);

/* The user's name, or "uid N". */
struct json_object *view_who(const struct peer *peer);

#endif
