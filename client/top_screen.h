/* The screen of 'top', by ncurses. */
#ifndef CLIENT_TOP_SCREEN_H
#define CLIENT_TOP_SCREEN_H

#include "client/load.h"

struct screen {
	struct load load;
	void *curses; /* ncurses' SCREEN */
	char *selected; /* the guest under the bar; NULL before there was one */
	size_t first; /* the row at the top */
	bool typing; /* the filter is being typed */
	bool help; /* the keys are shown instead of the guests */
	bool colours;
	char note[256]; /* what to know, "" for nothing: the daemon is away */
};

/* Takes the terminal over, and gives it back. */
void screen_begin(struct screen *screen);
void screen_end(struct screen *screen);

/* Shows all of it as it is now, in whatever size the terminal has. */
void screen_draw(struct screen *screen);

/* Moves the bar by @by rows, as far as there are some. */
void screen_move(struct screen *screen, long by);

/* Rows of guests that fit. */
long screen_page(void);

#endif
