/*
 * One attachment to a guest's console: bytes of one run from one offset on. The daemon may go away
 * and come back meanwhile: the stream is attached again at the byte where it broke off.
 */
#ifndef CLIENT_STREAM_H
#define CLIENT_STREAM_H

#include "client/link.h"

/* How long a daemon that went away is waited for: a restart takes well under a second. */
#define STREAM_AWAY_SECONDS 15

/* How often it is tried in that time. */
#define STREAM_RETRY_MS 100

enum stream_mode { STREAM_AUTO, STREAM_READ_ONLY, STREAM_FORCE, STREAM_JOIN };

struct stream {
	const char *socket; /* weak */
	const char *guest; /* weak */
	struct link link;
	enum stream_mode mode; /* what to ask for, now and when attaching again */
	int64_t run;
	int64_t offset; /* of the next byte to come */
	int64_t end; /* bytes in the log when it was attached */
	bool live; /* the guest runs this run, as of attaching */
	bool writes; /* what is sent reaches the guest */
	char writer[64]; /* who writes, "" for nobody */
	int64_t broke_at; /* the offset at which it last broke off; -1 = never */
	int64_t away_since; /* when the daemon was lost; 0 = it is there */
	struct json_object *view; /* of the guest, when the stream ended; NULL before */
};

#define STREAM_INIT \
	{ \
		.link = LINK_INIT, .broke_at = -1 \
	}

/*
 * Attaches to run @run (as in 'console-attach'; NULL = the current or last one), from @from
 * ("start", "end", or a number; taken over). Any attachment before is dropped. @deadline: of this
 * call.
 */
int stream_attach(struct stream *stream, struct json_object *from, struct json_object *run,
	int64_t deadline, struct cij_error *err);

/* As recv(): 0 = the stream broke off or ended, -1 with errno (EAGAIN: nothing now). */
ssize_t stream_read(struct stream *stream, void *buf, size_t size);

/* Gives up the attachment and attaches to the same run at the byte reached, in another mode. */
int stream_change_mode(struct stream *stream, enum stream_mode mode, struct cij_error *err);

enum stream_next {
	STREAM_GOES_ON, /* attached again: read on */
	STREAM_AWAY, /* no daemon there (yet): ask again in STREAM_RETRY_MS */
	STREAM_ENDED, /* the run is over and all of it was read; stream->view says why */
	STREAM_FAILED, /* for good, with an error */
};

/* What to do behind a stream that broke off. */
enum stream_next stream_again(struct stream *stream, struct cij_error *err);

/* As stream_again(), waiting for the daemon and telling of it. Never gives STREAM_AWAY. */
enum stream_next stream_again_wait(struct stream *stream, struct cij_error *err);

/* Waits until bytes are there. Returns 1, or 0 when @deadline has passed. */
int stream_wait(struct stream *stream, int64_t deadline);

/* Tells on stderr how the run ended: "emujoe stopped: guest-shutdown". */
void stream_tell_end(const struct stream *stream);

void stream_close(struct stream *stream);
#define _cleanup_stream_ _cleanup_(stream_close)

/* Prints the last @lines lines of the console of @guest's last run on stderr; never fails. */
void print_last_lines(const char *socket, const char *guest, int lines);

#endif
