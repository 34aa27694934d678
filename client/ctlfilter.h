/* Takes out of a guest's console what would play with the reader's terminal; colours may stay. */
#ifndef CLIENT_CTLFILTER_H
#define CLIENT_CTLFILTER_H

#include <stdbool.h>
#include <stddef.h>

/* Longest sequence that is looked at as a whole: the colour changes in use are under 30 bytes. */
#define CTL_FILTER_HELD 64

/* Zeroed = at the start of a text. */
struct ctl_filter {
	enum {
		CTL_TEXT,
		CTL_ESCAPE, /* ESC was seen */
		CTL_ESCAPE_MORE, /* ESC and intermediate bytes, as in ESC ( B */
		CTL_CSI, /* ESC [ …, until its final byte */
		CTL_STRING, /* OSC, DCS, SOS, PM, APC: until ST or BEL */
		CTL_STRING_ESCAPE, /* an ESC in there: is it ST? */
		CTL_UTF8, /* within a character of several bytes */
	} state;
	bool plain; /* colours go, too */
	size_t held; /* bytes of a sequence not judged yet */
	size_t want; /* CTL_UTF8: bytes of the whole character */
	char hold[CTL_FILTER_HELD];
};

/*
 * Filters @len bytes at @in into @out, which takes up to @len + CTL_FILTER_HELD. Kept: text
 * (UTF-8), newline, tab, carriage return, and changes of colour. A sequence may be cut anywhere
 * between two calls. Returns the number of bytes written.
 */
size_t ctl_filter_run(struct ctl_filter *filter, const char *in, size_t len, char *out);

#endif
