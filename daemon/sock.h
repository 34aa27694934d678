/* UNIX stream sockets: listening without a race or a umask, and who is at the other end. */
#ifndef DAEMON_SOCK_H
#define DAEMON_SOCK_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "cijqemu/error.h"

/* More groups than this are not looked at: Linux allows 65536, lab users have some ten. */
#define PEER_GROUPS_MAX 256

/* Who connected, as the kernel says. */
struct peer {
	uid_t uid;
	gid_t gid;
	pid_t pid; /* at connect time; only good for telling people */
	gid_t groups[PEER_GROUPS_MAX];
	int n_groups;
	bool view_only; /* came by a socket that is for looking: may do no more */
};

/*
 * Listens on the socket @name in the folder @dir_fd with exactly @mode, replacing what a dead
 * daemon left there: it is bound under another name and renamed once it listens, so nobody meets a
 * socket that refuses. Returns the descriptor (non-blocking), or -1 with Internal.
 */
int sock_listen_at(int dir_fd, const char *name, mode_t mode, struct cij_error *err);

/* Accepts a connection, non-blocking. -1 with errno. */
int sock_accept(int listen_fd);

/* Starts to connect to @name in the folder @dir_fd, without waiting. -1 with errno. */
int sock_connect_at(int dir_fd, const char *name);

/* The same, by a handle (O_PATH) on the socket's name. */
int sock_connect_to(int handle);

/* Whether the other side of a connection is gone altogether, not just its sending half. */
bool sock_is_gone(int fd);

/*
 * Whether the socket of inode @socket (fstat() of a descriptor tells it) listens under the name
 * that has @file's inode: as the kernel says, which nobody can feign. Not, where the kernel does
 * not tell.
 */
bool sock_listens_on(ino_t socket, const struct stat *file);

/* Reads the peer's credentials. Returns 0, or -1 with errno. */
int sock_peer(int fd, struct peer *peer);

bool peer_in_group(const struct peer *peer, gid_t gid);

#endif
