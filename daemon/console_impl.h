/* The inside of a console, for the console*.c files alone. */
#ifndef DAEMON_CONSOLE_IMPL_H
#define DAEMON_CONSOLE_IMPL_H

#include <sys/queue.h>

#include "daemon/console.h"
#include "daemon/console_log.h"

/*
 * Blocks of logs that were read last, shared by all viewers: those of one console are seldom
 * further apart than what their sockets hold, some 200 KiB.
 */
#define BLOCK_SIZE (64 * 1024)
#define N_BLOCKS 8

/* A viewer that catches up yields to the others after so much. */
#define TURN_BYTES (1024 * 1024)

/* Keys that QEMU has not taken yet; the connection is not read while there are more. */
#define INPUT_MAX (64 * 1024)

/* Viewers of all consoles, and those of one user's, where the process may have files enough. */
#define VIEWERS_MAX 16384
#define VIEWERS_PER_USER_MAX 4096

struct block {
	const struct console *console; /* NULL: empty */
	uint64_t at; /* a multiple of BLOCK_SIZE */
	size_t len;
	uint64_t used; /* when, in reads */
	char data[BLOCK_SIZE];
};

struct console_hub {
	struct event_base *base; /* weak */
	int inotify_fd;
	struct event *news; /* inotify has something to say */
	struct event *delay; /* long enough since the last look */
	struct event *poll; /* for logs without a watch */
	struct event *retry; /* a disk was full */
	struct event *reaper; /* a released console has lost its last viewer */
	LIST_HEAD(, console) consoles;
	size_t n_polled;
	size_t n_viewers, viewers_max, viewers_per_user_max;
	uint64_t last_viewer; /* the number given last */
	uint64_t reads;
	struct block blocks[N_BLOCKS];
};

struct console {
	LIST_ENTRY(console) link;
	struct console_hub *hub; /* weak */
	struct console_log log;
	int fifo_fd;
	int watch; /* inotify's; -1: polled, or ended */
	bool polled, ended, released;
	bool dirty; /* news since the viewers were served */
	TAILQ_HEAD(, viewer) viewers;
	size_t n_viewers;
	struct viewer *writer; /* weak */
	struct evbuffer *keys; /* on their way to the FIFO */
	struct event *fifo_room; /* the FIFO takes more */
	const struct console_ops *ops;
	void *arg; /* weak */
};

struct viewer {
	TAILQ_ENTRY(viewer) link;
	struct console *console; /* weak */
	uint64_t number;
	enum viewer_mode mode;
	uint64_t offset;
	double last_key; /* monotonic; when it came, until it has typed */
	struct peer peer;
	int fd;
	struct event *readable, *writable;
	bool blocked; /* waits for room in its socket */
	bool held; /* its keys are not read: QEMU takes no more now */
	bool input_over; /* it will send no more */
	bool deaf; /* it is gone, but has sent keys that are not read yet */
};

/* console.c */
/* Moves keys into the FIFO, as many as it takes: QEMU reads it no faster than the guest does. */
void console_push_keys(struct console *console);
/* The bytes of the log at @offset; 0 at its end. Weak: valid until the next call. */
size_t console_read(struct console *console, uint64_t offset, const char **at);
/* The last viewer of a console may have gone. */
void console_reap(struct console *console);

/* console_viewer.c */
/* Sends what is new to one viewer, as much as its socket takes. May free it. */
void viewer_pump(struct viewer *viewer);
/* Lets its connection be read again, when there is room for its keys. */
void viewer_resume_input(struct viewer *viewer);

#endif
