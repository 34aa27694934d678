/* What a process has used, from /proc. */
#ifndef DAEMON_USAGE_H
#define DAEMON_USAGE_H

#include <stdint.h>
#include <sys/types.h>

struct usage {
	double cpu_seconds; /* of all its threads, in user and kernel mode */
	int64_t resident_bytes;
};

/* 0, or -1 with errno; @pid 0 = ourselves. */
int usage_read(pid_t pid, struct usage *usage);

#endif
