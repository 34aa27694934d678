/* Questions to the person at the terminal. */
#ifndef CLIENT_ASK_H
#define CLIENT_ASK_H

#include <stdbool.h>

/* Whether there is somebody to ask: stdin and stderr are a terminal. */
bool ask_possible(void);

/* Asks on stderr; Enter alone means @fallback, the end of stdin no. */
bool ask_yes(bool fallback, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
