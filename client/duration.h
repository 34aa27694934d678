/* Spans of time as people write them. */
#ifndef CLIENT_DURATION_H
#define CLIENT_DURATION_H

#include <stdint.h>

/* Reads "90", "45s", "30m", "2h", "1h30m" or "1d" as seconds. Returns 0, or -1 for other text. */
int duration_parse(const char *text, int64_t *seconds);

#endif
