/* What every guest is given by the daemon; owned by main, alive as long as any guest. */
#ifndef DAEMON_SERVICES_H
#define DAEMON_SERVICES_H

#include <event2/event.h>

#include "daemon/access.h"
#include "daemon/admission.h"
#include "daemon/conf.h"
#include "daemon/console.h"
#include "daemon/history.h"
#include "daemon/lease.h"
#include "daemon/logcut.h"
#include "daemon/names.h"
#include "daemon/notify.h"
#include "daemon/ports.h"
#include "daemon/probe.h"
#include "daemon/removal.h"

struct services {
	struct event_base *base;
	const struct daemon_conf *conf;
	struct access_rule rule; /* who is an admin */
	struct probes *probes;
	struct console_hub *consoles;
	struct logcuts *logcuts;
	struct ports *ports;
	struct admission *admission;
	struct notify *notify;
	struct history *history;
	struct leases *leases;
	struct names *names;
	struct removals *removals;
	int guests_fd; /* the folder of all guests' folders */
	int run_fd; /* RUNDIR/guests: a folder of sockets for each guest */
};

#endif
