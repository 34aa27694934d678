/* 'cijqemud --check': whether a daemon with these options would find what it needs. */
#ifndef DAEMON_CHECK_H
#define DAEMON_CHECK_H

#include "daemon/conf.h"

/* Prints a line for each thing looked at, and changes nothing. Returns the exit code. */
int check_run(const struct daemon_conf *conf);

#endif
