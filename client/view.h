/* A guest as 'query-guest' describes it, in a person's words. */
#ifndef CLIENT_VIEW_H
#define CLIENT_VIEW_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/json.h"

/* The view's "state", "unknown" without one; weak. */
const char *view_state(struct json_object *view);

/* Whether QEMU runs it: any state but stopped and broken. */
bool view_is_live(struct json_object *view);

/* What goes between ESC [ and m for a state, or NULL. */
const char *view_state_colour(const char *state);

/* The name of user @uid, or "uid 1003"; kept for the next time. Not to be freed. */
const char *user_name(int64_t uid);

/* The name of the view's owner, "-" without one. */
const char *view_owner(struct json_object *view);

/* The host's port that leads to the guest's SSH; 0 = none now. */
int64_t view_ssh_port(struct json_object *view);

/* Writes "1m31s", "2h05m" or "3d04h". Returns @buf. */
const char *duration_text(int64_t seconds, char *buf, size_t size);

/* Writes "guest-shutdown", "crashed: SIGSEGV", "start-failed: qemu: …". Returns @buf. */
const char *view_end_text(struct json_object *view, char *buf, size_t size);

/* Writes what to know beside the state, "" for nothing: why it is broken or ended badly. */
const char *view_note(struct json_object *view, char *buf, size_t size);

/* Writes "running, ssh port 2022". Returns @buf. */
const char *view_summary(struct json_object *view, char *buf, size_t size);

#endif
