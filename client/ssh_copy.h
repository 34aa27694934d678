/* push and pull: what both, and both ways of doing them, share. */
#ifndef CLIENT_SSH_COPY_H
#define CLIENT_SSH_COPY_H

#include "client/ssh_link.h"
#include "client/ssh_plan.h"
#include "client/ssh_sftp.h"

/* Without a single byte for this long, whoever has them is taken for dead. */
#define COPY_STALL_SECONDS 120

/* Files under way at a time by SFTP: servers have a limit of open files, some as low as 100. */
#define COPY_FILES_MAX 48

struct copy {
	struct call *call; /* weak */
	struct ssh_link link;
	struct plan plan;
	bool push;
	bool counted; /* the plan's sums are known */
	/* how far it is */
	int64_t bytes_done;
	size_t files_done, failures;
	const char *current; /* weak: the file under way, or NULL */
	int64_t began, last_shown, last_moved, last_bytes;
	enum cij_error_class class; /* of the first failure */
	void *work; /* what requests under way point to: freed when SFTP is over */
};

/* One item could not be copied: tells why; the others go on. */
void copy_fail(struct copy *copy, const char *path, const char *why);
void copy_skip(void *copy, const char *path, const char *why);

/* Shows how far it is, now and then; checks that something moves and that nobody interrupts. */
int copy_tick(struct copy *copy, struct cij_error *err);

/* The same, then waits a little for the server's answers and takes them. */
int copy_step(struct copy *copy, struct sftp *sftp, struct cij_error *err);

/* The last word on it. */
void copy_done(const struct copy *copy);

/* What stands at the place that a copy is to go to. */
enum place { PLACE_NONE, PLACE_FOLDER, PLACE_FILE, PLACE_OTHER /* a device, a FIFO */ };

/*
 * Where @source goes, by cp's rules: into @path if that is a folder, else it becomes it. The full
 * name is on the heap; NULL with an error for what cannot be.
 */
char *copy_target(const struct copy *copy, const char *source, size_t n_sources, const char *path,
	enum place place, struct cij_error *err);

/* @path in the guest without the "~": relative ones start at the user's home anyway. Weak. */
const char *copy_guest_path(const char *path);

/* By SFTP: what the plan says. */
int sftp_push(struct copy *copy, struct sftp *sftp, struct cij_error *err);
int sftp_pull(struct copy *copy, struct sftp *sftp, struct cij_error *err);
/* Adds what is at @from in the guest, to be copied to @to here. */
int sftp_plan(struct copy *copy, struct sftp *sftp, const char *from, const char *to,
	struct cij_error *err);

/* Through a shell and tar in the guest, all of it. @place: what stands at @path here. */
int tar_push(struct copy *copy, char **sources, size_t n, const char *path, struct cij_error *err);
int tar_pull(struct copy *copy, char **sources, size_t n, const char *path, enum place place,
	struct cij_error *err);

#endif
