#include "client/ssh_tty.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cijqemu/cleanup.h"
#include "client/out.h"
#include "client/term.h"

/* Hangs up at "~." at the start of a line; "~~" sends one "~". As ssh does it. */
static ssize_t
filter_input(void *arg, char *data, size_t len)
{
	struct ssh_tty *e = arg;
	char *copy = malloc(len * 2);
	size_t n = 0;

	if (!copy)
		abort();
	for (size_t i = 0; i < len; i++) {
		char c = data[i];

		if (e->state == ESC_LINE_START && c == '~') {
			e->state = ESC_TILDE;
			continue;
		}
		if (e->state == ESC_TILDE && c == '.') {
			free(copy);
			return -1;
		}
		if (e->state == ESC_TILDE && c != '~')
			copy[n++] = '~';
		copy[n++] = c;
		e->state = c == '\r' || c == '\n' ? ESC_LINE_START : ESC_WITHIN;
	}
	memcpy(data, copy, n);
	free(copy);
	return (ssize_t)n;
}

static void
window_size(int *columns, int *rows)
{
	struct winsize size;

	*columns = 80;
	*rows = 24;
	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0 || size.ws_row == 0)
		return;
	*columns = size.ws_col;
	*rows = size.ws_row;
}

static void
on_resize(struct ssh_link *l)
{
	int columns, rows;

	window_size(&columns, &rows);
	(void)ssh_channel_change_pty_size(l->channel, columns, rows);
}

int
ssh_tty_request(struct ssh_tty *tty, struct ssh_link *l, struct pump *p, struct cij_error *err)
{
	const char *term = getenv("TERM");
	int columns, rows, rc;

	*tty = (struct ssh_tty){ESC_LINE_START};
	if (isatty(STDIN_FILENO)) {
		pump_set_filter(p, filter_input, tty);
		term_watch_size();
		pump_set_resize(p, on_resize);
	}
	window_size(&columns, &rows);
	while ((rc = ssh_channel_request_pty_size(
			l->channel, term && *term ? term : "vt100", columns, rows)) == SSH_AGAIN)
		if (ssh_link_wait(l, "asking for a terminal", err) < 0)
			return -1;
	return rc == SSH_OK ? 0 : ssh_link_failed(l, "asking for a terminal", err);
}

int
ssh_tty_run(struct pump *p, struct cij_error *err)
{
	int rc;

	if (isatty(STDIN_FILENO)) {
		if (term_raw(STDIN_FILENO, err) < 0)
			return -1;
		out_set_raw(true);
	}
	rc = pump_run(p, err);
	term_restore();
	out_set_raw(false);
	return rc;
}
