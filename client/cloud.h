/* Guests from images that others made: a distribution's cloud image, a vagrant box. */
#ifndef CLIENT_CLOUD_H
#define CLIENT_CLOUD_H

#include "client/args.h"
#include "proto/json.h"

/* Whether the command line asks for one. */
bool cloud_wanted(const struct call *call);

/* Checks what can be known before anything is made, and adds guest.json's keys to @args. */
int cloud_arguments(struct call *call, struct json_object *args, struct cij_error *err);

/* Makes boot.qcow2 and the seed in the guest's new folder. */
int cloud_make(struct call *call, const char *folder, struct cij_error *err);

#endif
