/*
 * Who may give QEMU which command, over QMP or the human monitor: one rule for the operations, the
 * shared sockets, and lines of the human monitor inside QMP. Pure.
 */
#ifndef DAEMON_QMP_POLICY_H
#define DAEMON_QMP_POLICY_H

#include <stdbool.h>

#include "cijqemu/error.h"
#include "daemon/access.h"
#include "daemon/qmp_text.h"

/* On whose behalf a command comes. */
struct qmp_rights {
	enum access access; /* to the guest */
	bool read_only; /* by their own wish: nothing but queries */
};

/*
 * Whether QMP's command @name with @arguments (an object's text, or empty) may be passed on. 0, or
 * -1 with Denied, or NotSupported for what would take the guest out of the daemon's hands.
 */
int qmp_policy_check(const struct qmp_rights *rights, struct span name, struct span arguments,
	struct cij_error *err);

/* The same for a line of the human monitor. */
int qmp_policy_check_hmp(const struct qmp_rights *rights, const char *line, struct cij_error *err);

/* What the journal tells of a command, on the heap: NULL for one that changes nothing. */
char *qmp_policy_describe(struct span name, struct span arguments);
char *qmp_policy_describe_hmp(const char *line);

#endif
