/*
 * One run's console. QEMU writes into a regular file, the run's log, and reads keys from a FIFO:
 * there is nothing of ours in the way, so no viewer and no stopped daemon can hold the guest up. A
 * viewer is an offset into the log; a slow one falls behind on disk and costs no memory.
 */
#ifndef DAEMON_CONSOLE_H
#define DAEMON_CONSOLE_H

#include <event2/buffer.h>
#include <event2/event.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/console_log.h"
#include "daemon/sock.h"

/* Watches all logs by one inotify descriptor. */
struct console_hub;
struct console_hub *console_hub_new(struct event_base *base);
/* Frees what consoles and viewers are left, too. */
void console_hub_free(struct console_hub *hub);

enum viewer_mode {
	VIEWER_AUTO, /* writes when nobody else does */
	VIEWER_READ_ONLY,
	VIEWER_FORCE, /* takes the pen */
	VIEWER_JOIN, /* types together with whoever writes */
};

struct console;
struct viewer;

struct console_ops {
	/* Somebody came, went, writes now or only reads: @what is "came", "went", "writes",
	 * "reads". */
	void (*changed)(void *arg, const char *what, const struct viewer *viewer);
	/* @bytes went at the head of the log that @viewer, standing at @at, had not had yet. */
	void (*lost)(void *arg, const struct viewer *viewer, uint64_t at, uint64_t bytes);
	/* What has happened to the log: CONSOLE_LOG_NO_PUNCH, _FULL, _ROOM. */
	void (*log)(void *arg, unsigned news, const struct console_log *log);
};

struct console_files {
	int log_fd; /* opened for reading; of a run that goes on also for writing, to bound it */
	int fifo_fd; /* the input FIFO, for writing, non-blocking; -1: the run has ended */
	int index_fd; /* for reading and writing; -1: none */
};

/*
 * Takes over @files; @limit: bytes of the log to keep while it grows, 0 = all. @ops may be NULL;
 * its log() may be called from in here.
 */
struct console *console_new(struct console_hub *hub, const struct console_files *files,
	uint64_t limit, const struct console_ops *ops, void *arg);

/*
 * QEMU has ended: nothing more comes. Viewers get the rest and are then closed. Only for what is
 * sure to have ended: the room that was allocated ahead is given back. NULL is fine.
 */
void console_end(struct console *console);

/*
 * Lets go of it, whether QEMU runs on or not: it goes away by itself when the last viewer has had
 * all. Its ops are not called any more. NULL is fine.
 */
void console_release(struct console *console);

uint64_t console_bytes(struct console *console);
/* Bytes before this offset are gone. */
uint64_t console_head(const struct console *console);
/* Whether its log stays under its limit: not, where the file system makes no holes. */
bool console_bounded(const struct console *console);
/* When which byte came; weak. */
const struct logindex *console_index(const struct console *console);
size_t console_viewers(const struct console *console);
/* Who writes: NULL for nobody. */
const struct viewer *console_writer(const struct console *console);
bool console_ended(const struct console *console);

/*
 * The offset where a view shall begin: -N lines back from the end for negative @from (an unfinished
 * last line counts as one), else @from itself, but not before the head nor behind the end. What was
 * the end then goes to *@end, unless that is NULL: the log grows all the time.
 */
uint64_t console_offset(struct console *console, int64_t from, uint64_t *end);

/*
 * Whether there is room for one more viewer of @peer's, who can have so many on all consoles
 * together. 0, or -1 with NoResources.
 */
int console_admit(const struct console *console, const struct peer *peer, struct cij_error *err);

/* Enters a viewer, which gets its role here; the bytes begin to flow with viewer_start(). */
struct viewer *viewer_new(
	struct console *console, enum viewer_mode mode, uint64_t offset, const struct peer *peer);

/* Gives the viewer its connection @fd (taken over) and what it sent already (drained). */
void viewer_start(struct viewer *viewer, int fd, struct evbuffer *input);

/* Leaves; for one whose connection broke before viewer_start(). */
void viewer_free(struct viewer *viewer);

/*
 * Whoever types and @may not any more only looks from here on, and is told by an event "reads". The
 * pen stays free until somebody takes it.
 */
void console_review(
	struct console *console, bool (*may)(void *arg, const struct peer *peer), void *arg);

/* VIEWER_AUTO stands for "writes" once the viewer has entered. */
enum viewer_mode viewer_mode(const struct viewer *viewer);
/* No two viewers of a daemon have the same number. */
uint64_t viewer_number(const struct viewer *viewer);
const char *viewer_mode_name(enum viewer_mode mode);
const struct peer *viewer_peer(const struct viewer *viewer);

/* An array of {"viewer", "uid", "user", "pid", "mode", "offset", "idle_s"}: since the last key. */
struct json_object *console_viewers_to_json(const struct console *console);

#endif
