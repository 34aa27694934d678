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

/* Losses that are known of and not reached yet. */
#define STREAM_GAPS_MAX 16

enum stream_mode { STREAM_AUTO, STREAM_READ_ONLY, STREAM_FORCE, STREAM_JOIN };

struct stream {
	const char *socket; /* weak */
	const char *guest; /* weak */
	struct link link;
	enum stream_mode mode; /* what to ask for, now and when attaching again */
	/*
	 * Asks for the events of this guest on a connection of their own. The stream itself uses
	 * those that tell of lost bytes; the others go to @on_event, where it is set.
	 */
	bool want_events;
	void (*on_event)(void *arg, struct json_object *data);
	void *arg; /* weak */
	struct link events;
	int64_t run;
	int64_t viewer; /* our number among all viewers; -1 = not known */
	int64_t gone; /* bytes that the log had lost at its head when it was attached */
	char incomplete[64]; /* since when bytes are missing, "" for none */
	bool incomplete_now; /* and still do */
	struct {
		int64_t at, bytes;
	} gaps[STREAM_GAPS_MAX]; /* to come: behind offset at, so many bytes were lost */
	size_t n_gaps;
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
		.link = LINK_INIT, .events = LINK_INIT, .broke_at = -1, .viewer = -1 \
	}

/*
 * Attaches to run @run (as in 'console-attach'; NULL = the current or last one), from @from
 * ("start", "end", or a number; taken over). Any attachment before is dropped. @deadline: of this
 * call.
 */
int stream_attach(struct stream *stream, struct json_object *from, struct json_object *run,
	int64_t deadline, struct cij_error *err);

/* Tells on stderr what is missing in the log: because the disk was full; or also at its head. */
void stream_tell_incomplete(const struct stream *stream);
void stream_tell_missing(const struct stream *stream);
/* Tells how many bytes are gone between byte @from, which was asked for, and where it began. */
void stream_tell_skipped(const struct stream *stream, int64_t from);

/* Takes in what events there are; stream_read() and stream_wait() do it too. */
void stream_take_events(struct stream *stream);

/*
 * As recv(): 0 = the stream broke off or ended, -1 with errno (EAGAIN: nothing now). Bytes that the
 * log has lost are told of on stderr where they are missing.
 */
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

/*
 * As stream_again(), waiting for the daemon and telling of it. Gives STREAM_AWAY only when
 * @deadline has passed.
 */
enum stream_next stream_again_wait(struct stream *stream, int64_t deadline, struct cij_error *err);

/*
 * Waits until bytes may be there. Returns 1, 0 when @deadline has passed, or -1 when nobody reads
 * @out_fd any more (-1: it does not matter).
 */
int stream_wait(struct stream *stream, int out_fd, int64_t deadline);

/* Tells on stderr how the run ended: "emujoe stopped: guest-shutdown". */
void stream_tell_end(const struct stream *stream);

void stream_close(struct stream *stream);
#define _cleanup_stream_ _cleanup_(stream_close)

/* Prints the last @lines lines of the console of @guest's last run on stderr; never fails. */
void print_last_lines(const char *socket, const char *guest, int lines);

#endif
