/* UNIX socket addresses of any length, and where the daemon's socket is. */
#ifndef PROTO_ADDR_H
#define PROTO_ADDR_H

#include <stddef.h>

#include "cijqemu/error.h"

/*
 * Connects to the UNIX stream socket at @path, however long the path is. Returns the descriptor
 * (close-on-exec, blocking), or -1 with errno set.
 */
int cij_unix_connect(const char *path);

/*
 * The folder that a daemon of user @uid keeps its sockets in: /run/cijqemu for root, else
 * $XDG_RUNTIME_DIR/cijqemu or /tmp/cijqemu-UID. Heap string.
 */
char *cij_run_dir_default(unsigned uid);

/*
 * Connects to the daemon: @path where not NULL, else $CIJQEMU_SOCKET, else the user's own daemon if
 * it answers, else /run/cijqemu. A socket in /tmp is only trusted when its folder is the user's.
 * Returns the descriptor, or -1 with Unreachable and how to start one.
 */
int cij_daemon_connect(const char *path, struct cij_error *err);

#endif
