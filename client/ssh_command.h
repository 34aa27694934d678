/* Command lines for the guest's shell. */
#ifndef CLIENT_SSH_COMMAND_H
#define CLIENT_SSH_COMMAND_H

#include <stddef.h>

#include "client/command.h"

/* One word as it is, several each quoted. Heap string. */
char *ssh_command_line(char **words, size_t n);

/*
 * @line with the environment that --env asks for, whatever the user's login shell is; heap string.
 * NULL and Usage for a bad name.
 */
char *ssh_command_with_env(const struct call *call, const char *line, struct cij_error *err);

#endif
