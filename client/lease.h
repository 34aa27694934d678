/* Leases in the client: asked for, told of, and held while a command runs. */
#ifndef CLIENT_LEASE_H
#define CLIENT_LEASE_H

#include "client/link.h"

/* Asks for a lease as the command line has it, for process @command too where not 0. */
int lease_acquire(struct call *call, pid_t command, struct reply *r, struct cij_error *err);

/* Runs the command behind "--" with the guest leased; its exit code. */
int lease_run(struct call *call, struct cij_error *err);

/* The name of who holds it, "-" for nobody; weak. */
const char *lease_holder(struct json_object *lease);

/* Tells on stderr of a LEASE event that matters to who is at the guest: "[anna has leased …]". */
void lease_tell_event(const char *guest, struct json_object *data);

/* Writes "until 2026-11-22T12:40:05Z", "while process 4711 runs", "being reset". Returns @buf. */
const char *lease_end_text(struct json_object *lease, char *buf, size_t size);

#endif
