/* 'cijqemud --launch': the last thing before QEMU, in a process of its own that may block. */
#ifndef DAEMON_LAUNCH_H
#define DAEMON_LAUNCH_H

/* Exit status when QEMU could not be executed; why is the last line on stderr. */
#define LAUNCH_EXIT_FAILED 126

/*
 * @argv: UID:GID [WORD…] -- BINARY ARGUMENT…, the words being those of scope_add_words(). Joins the
 * scope, becomes that user (when we are root) in a session of its own with a fixed environment, and
 * executes the binary. Returns only on failure, with the exit status.
 */
int launch_main(int argc, char **argv);

#endif
