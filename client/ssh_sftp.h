/*
 * SFTP, version 3 (draft-ietf-secsh-filexfer-02, with OpenSSH's extensions), over a channel of our
 * own. libssh's own client waits for each write before the next and blocks; here requests are
 * queued, and each answer goes to a function when it comes.
 */
#ifndef CLIENT_SSH_SFTP_H
#define CLIENT_SSH_SFTP_H

#include "client/ssh_link.h"
#include "client/ssh_sftp_packet.h"

/* Requests under way at a time: enough for any round trip at any rate that matters. */
#define SFTP_REQUESTS_MAX 256

typedef void sftp_fn(void *arg, const struct sftp_answer *answer);

struct sftp;

/*
 * Starts the server's SFTP. NULL and NotSupported where it has none, else NULL with the failure.
 */
struct sftp *sftp_new_on(struct ssh_link *link, struct cij_error *err);
void sftp_free_all(struct sftp *sftp);

/* The largest read and write that the server takes, in bytes. */
size_t sftp_block(const struct sftp *sftp);

/* Whether another request may be queued now. */
bool sftp_has_room(const struct sftp *sftp);

/* Sends what can be sent, waits up to @ms for something to come, calls the functions. 0, or -1. */
int sftp_step(struct sftp *sftp, int ms, struct cij_error *err);

/* Requests. @fn is called once, unless the connection is lost. */
void sftp_stat_async(struct sftp *s, const char *path, bool follow, sftp_fn *fn, void *arg);
enum sftp_open { SFTP_READ = 1, SFTP_WRITE = 2, SFTP_CREATE = 8, SFTP_TRUNC = 16, SFTP_EXCL = 32 };
void sftp_open_async(struct sftp *s, const char *path, unsigned how, sftp_fn *fn, void *arg);
void sftp_close_async(struct sftp *s, const struct sftp_handle *h, sftp_fn *fn, void *arg);
void sftp_read_async(struct sftp *s, const struct sftp_handle *h, uint64_t at, uint32_t len,
	sftp_fn *fn, void *arg);
/* Room for @len bytes of a write: fill it before the next request. */
char *sftp_write_async(struct sftp *s, const struct sftp_handle *h, uint64_t at, uint32_t len,
	sftp_fn *fn, void *arg);
void sftp_fsetstat_async(struct sftp *s, const struct sftp_handle *h,
	const struct sftp_attrs *attrs, sftp_fn *fn, void *arg);
void sftp_setstat_async(
	struct sftp *s, const char *path, const struct sftp_attrs *attrs, sftp_fn *fn, void *arg);
void sftp_mkdir_async(struct sftp *s, const char *path, mode_t mode, sftp_fn *fn, void *arg);
void sftp_remove_async(struct sftp *s, const char *path, sftp_fn *fn, void *arg);
/* Over what is there, where the server can; else it must not be there. */
void sftp_rename_async(struct sftp *s, const char *from, const char *to, sftp_fn *fn, void *arg);
bool sftp_renames_over(const struct sftp *s);
void sftp_symlink_async(
	struct sftp *s, const char *target, const char *path, sftp_fn *fn, void *arg);
void sftp_readlink_async(struct sftp *s, const char *path, sftp_fn *fn, void *arg);
void sftp_opendir_async(struct sftp *s, const char *path, sftp_fn *fn, void *arg);
void sftp_readdir_async(struct sftp *s, const struct sftp_handle *h, sftp_fn *fn, void *arg);

/* One stat, waited for. Returns 0, 1 when there is no such file, or -1. */
int sftp_stat_now(struct sftp *s, const char *path, bool follow, struct sftp_attrs *attrs,
	struct cij_error *err);

#endif
