/* What the user's ssh_config says of a host, as ssh itself reads it. */
#ifndef CLIENT_SSH_CONFIG_H
#define CLIENT_SSH_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "cijqemu/error.h"

/* More key files than this for one host are more than servers let anybody try. */
#define SSH_CONFIG_KEYS_MAX 32
#define SSH_CONFIG_KNOWN_MAX 4

enum strict { STRICT_ASK, STRICT_YES, STRICT_ACCEPT_NEW };

/* All strings are on the heap; NULL: not said. */
struct ssh_config {
	char *host, *user; /* where and as whom */
	int port;
	char *alias; /* what known_hosts calls it */
	char *proxy; /* the command that leads there, for a shell */
	enum strict strict;
	bool keys_only, batch;
	char *agent; /* its socket; "" = none */
	char *keys[SSH_CONFIG_KEYS_MAX]; /* files of private keys, in the order to be tried */
	size_t n_keys;
	char *known[SSH_CONFIG_KNOWN_MAX]; /* known_hosts: the first is written to */
	size_t n_known;
	char *known_global;
	char *kex, *host_keys, *ciphers, *macs;
	char *unheeded; /* a setting that cannot be followed */
};

/*
 * Asks 'ssh -G' about @host; @user NULL and @port 0: as the configuration says. Where there is no
 * ssh, its defaults. Returns 0, or -1 with ssh's own words. @batch: nobody can be asked.
 */
int ssh_config_read(struct ssh_config *config, const char *host, const char *user, int port,
	bool batch, struct cij_error *err);
void ssh_config_clear(struct ssh_config *config);

#endif
