/* All guests: the folders under $QEMU_GUESTS, one guest each. */
#ifndef DAEMON_REGISTRY_H
#define DAEMON_REGISTRY_H

#include "daemon/guest.h"

struct registry;

struct registry *registry_new(const struct services *services);
/* Frees the guests: from here on there are none, for whoever still asks. NULL is fine. */
void registry_close(struct registry *registry);
void registry_free(struct registry *registry);

const struct services *registry_services(const struct registry *registry);

/* Looks through the folders: new guests appear, those whose folder is gone and that do not run go.
 */
void registry_scan(struct registry *registry);

/* Takes back what runs. @done is called once, when every guest's state is known. */
void registry_adopt(struct registry *registry, void (*done)(void *arg), void *arg);

/* The guest @name, read afresh. NULL with BadRequest or GuestNotFound and the nearest name. Weak.
 */
struct guest *registry_find(struct registry *registry, const char *name, struct cij_error *err);

/* Calls @fn for each guest, by name. */
void registry_each(
	struct registry *registry, void (*fn)(void *arg, struct guest *guest), void *arg);

struct registry_counts {
	size_t total, running;
};
struct registry_counts registry_count(const struct registry *registry);

/*
 * Makes the folder of a new guest for @owner with @config as its guest.json: under another name
 * first, then renamed. The guest, weak; NULL with GuestExists, BadConfig.
 */
struct guest *registry_create(struct registry *registry, const char *name, const struct peer *owner,
	struct json_object *config, struct cij_error *err);

/* Called once, from the loop. NULL: the folder is gone, too; else what is left of it, and why. */
typedef void registry_deleted_fn(void *arg, const struct cij_error *err);

/*
 * Makes the guest one no more, at once; its folder with all files is removed off the loop, then
 * @done is called. 0, or -1 with Busy where it is not stopped: @done is not called then.
 */
int registry_delete(struct registry *registry, struct guest *guest, registry_deleted_fn *done,
	void *arg, struct cij_error *err);

#endif
