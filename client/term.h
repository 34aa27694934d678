/* The user's terminal: made raw for a while, and given back whatever happens to us. */
#ifndef CLIENT_TERM_H
#define CLIENT_TERM_H

#include <signal.h>
#include <stdbool.h>

#include "cijqemu/error.h"

/*
 * Ends the program with 128 + signal, the terminal restored, on INT, TERM, HUP and QUIT (unless the
 * parent had us ignore them); ignores PIPE. Called once, before all else.
 */
void term_init(void);

/*
 * Makes the terminal at @fd raw until term_restore(); stopping (TSTP) gives it back until we go on.
 * It is restored on exit() and by every deadly signal too.
 */
int term_raw(int fd, struct cij_error *err);
void term_restore(void);

/* As it is now, so shall it be when a deadly signal or exit() ends us: others will change it. */
void term_keep(int fd);

/* As term_raw(), but only what is typed is not shown: a password. */
int term_hide(int fd, struct cij_error *err);

/*
 * From here on INT, TERM, HUP and QUIT are noted once, so that work can be left in order; the next
 * one ends the program. term_caught() gives the one noted, or 0.
 */
void term_catch(void);
int term_caught(void);

/*
 * As term_catch(), but they come only where a ppoll() with @let_in (as it was before; NULL: not
 * wanted) lets them in: none is missed between a look at term_caught() and the wait.
 */
void term_hold(sigset_t *let_in);

/* Notes changes of the window's size; term_resized() tells once whether there was one. */
void term_watch_size(void);
bool term_resized(void);

#endif
