/* KEY=VALUE and TYPE,KEY=VALUE,… of the command line, as JSON. */
#ifndef CLIENT_KEYVALUE_H
#define CLIENT_KEYVALUE_H

#include "client/args.h"
#include "proto/json.h"

/* @text's value where it parses as JSON, else @text as a string. Owned by the caller. */
struct json_object *value_of(const char *text, size_t len);

/* Adds "KEY=VALUE" to @obj; Usage where it is none. */
int keyvalue_add(
	const struct call *call, struct json_object *obj, const char *text, struct cij_error *err);

/*
 * "ocssd,num_grp=2,num_pu=4" as an object, its "id" null unless it is given; owned by the caller.
 * Usage where it is none.
 */
int device_of(const struct call *call, const char *text, struct json_object **device,
	struct cij_error *err);

/* "grp=0,pu=1-3,chk=*" as an object; owned by the caller. Usage where it is none. */
int members_of(const struct call *call, const char *text, struct json_object **members,
	struct cij_error *err);

/*
 * All --device options as guest.json's array "devices"; NULL and no error when there are none.
 * A device without an id gets the first of nvme0, nvme1, … that no other has.
 */
int devices_of(const struct call *call, struct json_object **devices, struct cij_error *err);

#endif
