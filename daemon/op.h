/*
 * Operations: a name, what it takes, who may, and the handler. Adding one is a struct op with its
 * field table and handler in an op_*.c and a line in the list in op.c.
 */
#ifndef DAEMON_OP_H
#define DAEMON_OP_H

#include "daemon/access.h"
#include "daemon/request.h"
#include "proto/field.h"

struct op {
	const char *name;
	const char *verb; /* in "you may not … 'emujoe'"; NULL where nobody is refused */
	enum access access; /* to the guest, where it takes one; else whoever may open the socket */
	bool takes_guest; /* the first member of its arguments is the guest's name, a char * */
	bool changes; /* something: it is logged */
	bool despite_lease; /* also while somebody else holds the guest */
	const struct cij_table *table;
	/* Answers the request now or later, exactly once. */
	void (*run)(struct request *request);
	const char *doc;
};

/*
 * Carries one line of a client out: parse, find, allow, decode, run. Whatever is wrong is answered
 * through @conn.
 */
void op_dispatch(struct conn *conn, struct registry *registry, const char *line, size_t len);

/* The operation of that name; NULL with BadRequest and the nearest one. */
const struct op *op_find(const char *name, struct cij_error *err);

/* All operations with their arguments, for 'query-operations'. */
struct json_object *op_describe_all(void);

/* The first member of every guest operation's arguments. */
#define OP_GUEST_FIELD(type_) \
	{ \
		.name = "guest", .type = CIJ_T_STR, .flags = CIJ_F_REQUIRED, \
		.offset = offsetof(struct type_, guest), .doc = "name of the guest" \
	}

struct op_guest_args {
	char *guest;
};
extern const struct cij_table op_guest_table; /* of operations that take a guest and nothing else */
extern const struct cij_table op_nothing_table;

/* op_guest.c */
extern const struct op op_query_guests, op_query_guest, op_guest_create, op_guest_set,
	op_guest_delete, op_guest_validate, op_guest_argv;
/* op_power.c */
extern const struct op op_guest_start, op_guest_stop, op_guest_kill, op_guest_restart,
	op_guest_reset, op_guest_pause, op_guest_resume, op_guest_wait;
/* op_console.c */
extern const struct op op_console_attach, op_console_times, op_console_who;
/* op_device.c */
extern const struct op op_device_plug, op_device_unplug, op_device_format, op_device_inject,
	op_query_devices;
/* op_doctor.c */
extern const struct op op_query_host;
/* op_qemu.c */
extern const struct op op_query_qemu;
/* op_inside.c */
extern const struct op op_kernel_install, op_ssh_pin;
/* op_qmp.c */
extern const struct op op_qmp_attach, op_qmp_execute, op_hmp;
/* op_host.c */
extern const struct op op_host_up, op_host_down;
/* op_lease.c */
extern const struct op op_lease_acquire, op_lease_release, op_query_leases;
/* op_share.c */
extern const struct op op_guest_share;
/* op_history.c */
extern const struct op op_query_history;
/* op_stats.c */
extern const struct op op_query_stats;
/* op_daemon.c */
extern const struct op op_query_daemon, op_query_operations, op_events_subscribe;

#endif
