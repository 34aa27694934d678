/* The daemon's own options: the command line over the environment over the defaults. */
#ifndef DAEMON_CONF_H
#define DAEMON_CONF_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cijqemu/error.h"

/* A share of something, in percent, or so many bytes. */
struct quantity {
	bool percent;
	int64_t n;
};

struct daemon_conf {
	char *guests_dir; /* absolute */
	char *qemu_home; /* absolute, or NULL */
	char *run_dir; /* sockets; gone after a reboot */
	char *state_dir; /* what outlives a reboot */
	char *group, *admin_group; /* names, or gids in digits */
	int port_first, port_last; /* of SSH ports that the daemon chooses */
	struct quantity memory_limit; /* for all running guests together */
	struct quantity disk_reserve; /* that a start must leave free */
	int64_t user_guests, user_memory; /* of one owner, running; 0: no limit */
	bool user_only; /* serve nobody but the user who runs us */
	bool check; /* look at the options and folders, then exit */
	bool verbose;
	bool help, version;
};

/*
 * Reads argv and what @env says of QEMU_GUESTS, QEMU_HOME, XDG_RUNTIME_DIR, XDG_STATE_HOME and
 * HOME. Returns 0, or -1 with Usage. Clear in both cases.
 */
int daemon_conf_parse(struct daemon_conf *conf, int argc, char **argv, uid_t uid,
	const char *(*env)(const char *name), struct cij_error *err);
void daemon_conf_clear(struct daemon_conf *conf);

extern const char daemon_conf_usage[];

#endif
