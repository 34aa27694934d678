#include "daemon/usage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cijqemu/cleanup.h"

/*
 * proc(5), /proc/PID/stat: behind the name in parentheses, which may hold anything, utime is the
 * 12th field, stime the 13th and rss, in pages, the 22nd. (smaps_rollup would count shared pages
 * better, but walks all of a guest's memory with its lock held: the guest would feel it.)
 */
int
usage_read(pid_t pid, struct usage *usage)
{
	_cleanup_close_ int fd = -1;
	unsigned long long utime, stime;
	char path[64], text[1024], *behind;
	long long pages;
	ssize_t n;

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	else
		snprintf(path, sizeof(path), "/proc/self/stat");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -1;
	text[n] = '\0';
	behind = strrchr(text, ')');
	if (!behind ||
		sscanf(behind,
			") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d "
			"%*d %*d %*d %*u %*u %lld",
			&utime, &stime, &pages) != 3) {
		errno = EIO;
		return -1;
	}
	usage->cpu_seconds = (double)(utime + stime) / (double)sysconf(_SC_CLK_TCK);
	usage->resident_bytes = pages * sysconf(_SC_PAGESIZE);
	return 0;
}
