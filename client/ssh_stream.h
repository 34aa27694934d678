/* One command in the guest that is fed, or read, as a copy goes on. */
#ifndef CLIENT_SSH_STREAM_H
#define CLIENT_SSH_STREAM_H

#include "client/ssh_copy.h"

struct ssh_stream {
	struct copy *copy; /* weak */
	ssh_channel channel;
	char said[1024]; /* its last words on stderr (and stdout, while it is fed) */
	size_t said_len;
};

/* Runs @line. */
int ssh_stream_open(
	struct ssh_stream *stream, struct copy *copy, const char *line, struct cij_error *err);
void ssh_stream_close(struct ssh_stream *stream);

/* Sends all of @data; what the command says meanwhile is kept as its words. */
int ssh_stream_write(
	struct ssh_stream *stream, const char *data, size_t len, struct cij_error *err);

/* The next bytes of its stdout; 0 = its end. */
ssize_t ssh_stream_read(struct ssh_stream *stream, char *buf, size_t size, struct cij_error *err);

/* What it said last, clean, without the newline behind it. Returns @buf. */
const char *ssh_stream_words(const struct ssh_stream *stream, char *buf, size_t size);

/* Did it end, or the connection? */
bool ssh_stream_is_over(const struct ssh_stream *stream);

/* No more is sent; waits for its end. Returns the exit code, or -1. */
int ssh_stream_finish(struct ssh_stream *stream, struct cij_error *err);

#endif
