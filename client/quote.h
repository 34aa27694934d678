/* Words made safe for a shell. */
#ifndef CLIENT_QUOTE_H
#define CLIENT_QUOTE_H

#include <stdbool.h>

/*
 * @word so that a POSIX shell reads it back as it is, with quotes only where it needs them. @first:
 * it stands where a command's name does. Heap string.
 */
char *shell_quote(const char *word, bool first);

/* The same for a file's name, with "./" before a relative one: none is taken for an option. */
char *shell_quote_path(const char *path);

#endif
