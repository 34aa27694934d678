/*
 * A connected socket of one who talks much and in small pieces: what is written goes out at once
 * where the socket takes it, without a turn of the loop; only the rest is kept and sent later.
 */
#ifndef DAEMON_WIRE_H
#define DAEMON_WIRE_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>

struct wire_ops {
	/* @len bytes came; they are gone after the call. The wire may be closed inside. */
	void (*input)(void *arg, const char *data, size_t len);
	/* What was left of the output has been sent. */
	void (*drained)(void *arg);
	/* The other side sends no more. @gone: and reads no more either; the last call. */
	void (*ended)(void *arg, bool gone);
};

/* Embedded by its owner; fd -1 = closed, and all calls but wire_close() do nothing. */
struct wire {
	int fd;
	struct event *readable, *writable;
	const struct wire_ops *ops;
	void *arg; /* weak */
	bool paused, half; /* not read; the other side has ended its half */
	char *out; /* len bytes from start on have not been sent */
	size_t start, len, size;
};

/* Takes the non-blocking socket @fd over and begins to read. */
void wire_open(
	struct wire *wire, struct event_base *base, int fd, const struct wire_ops *ops, void *arg);
void wire_close(struct wire *wire);

/* Keeps @len bytes to be sent by wire_flush(). */
void wire_add(struct wire *wire, const char *data, size_t len);
/* Sends what the socket takes; the rest goes by itself. */
void wire_flush(struct wire *wire);
size_t wire_unsent(const struct wire *wire);

/* Leaves what comes in the socket, or goes on reading. */
void wire_pause(struct wire *wire, bool paused);

#endif
