/*
 * QMP's texts without json-c: messages cut out of a client's bytes as QEMU's own parser would, and
 * replies and requests taken apart in place, so that what is passed through stays as it was
 * written. Pure.
 */
#ifndef DAEMON_QMP_TEXT_H
#define DAEMON_QMP_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Deepest nesting of a request; the deepest command of QEMU needs some 20. */
#define QMP_REQUEST_DEPTH_MAX 128

/* Longest request; QEMU takes 64 MiB, its longest command in use is some KiB. */
#define QMP_REQUEST_MAX (256 * 1024)

/* A piece of somebody else's text; weak. */
struct span {
	const char *at;
	size_t len;
};

bool span_is(struct span span, const char *text);

/*
 * Collects messages: a value may stand on several lines, and several on one; strings may stand
 * between single quotes, as QEMU allows. Each comes out on one line, strings between double quotes.
 */
struct qmp_scan {
	char *text;
	size_t len, size;
	int depth; /* of open braces and brackets */
	char quote; /* of the string that is open; 0: none */
	bool escaped; /* behind a backslash */
	bool bare; /* in a word or number outside of all braces */
	bool skipping; /* behind an error, until the end of the line */
};

/* What qmp_scan_feed() found. */
enum qmp_found {
	QMP_MORE, /* all bytes are used up */
	QMP_MESSAGE, /* scan->text is one whole value of scan->len bytes */
	QMP_BROKEN, /* no JSON; what it belonged to is thrown away */
	QMP_TOO_LONG,
};

/* Takes from @data up to and with the end of a value; *@used tells how much that was. */
enum qmp_found qmp_scan_feed(struct qmp_scan *scan, const char *data, size_t len, size_t *used);
/* Done with scan->text: on to the next. */
void qmp_scan_next(struct qmp_scan *scan);
void qmp_scan_clear(struct qmp_scan *scan);

/* Whether the text is one JSON value, in the strictest reading. */
bool qmp_text_is_json(const char *text, size_t len);

/* A request's parts. Without arguments or id their length is 0. */
struct qmp_request {
	struct span name; /* of the command: plain characters */
	struct span arguments; /* an object's text */
	struct span id; /* any value's text */
	bool oob;
};

/*
 * Takes apart a message that qmp_scan_feed() gave. Returns 0; or -1 and QEMU's words for what is
 * wrong with it in @why (of @size bytes), with request->id set where it is known.
 */
int qmp_request_parse(
	struct qmp_request *request, const char *text, size_t len, char *why, size_t size);

enum qmp_line { QMP_LINE_RETURN, QMP_LINE_ERROR, QMP_LINE_EVENT, QMP_LINE_OTHER };

/* A line of QEMU's, without its end. */
struct qmp_reply {
	enum qmp_line kind;
	const char *text; /* weak */
	size_t len;
	struct span id; /* the id's own text; len 0: there is none */
	struct span member; /* the id with its name and a comma */
};

/* Takes a line that is JSON apart as far as passing it on needs. QMP_LINE_OTHER: it is no QMP. */
void qmp_reply_parse(struct qmp_reply *reply, const char *text, size_t len);

/* The id as a number; -1 for none or another. */
long qmp_reply_number(const struct qmp_reply *reply);

#endif
