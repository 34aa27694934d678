/*
 * Loaded before all else (LD_PRELOAD) by a client under test: before it looks for a command's
 * stderr there is time for all that the command has to say, as on a machine that is busy. libssh
 * has taken that in when the client waits for more.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <libssh/libssh.h>
#include <unistd.h>

#define LATE_USEC 400000

int
ssh_channel_read_nonblocking(ssh_channel channel, void *dest, uint32_t count, int is_stderr)
{
	int (*real)(ssh_channel, void *, uint32_t, int) = (int (*)(ssh_channel, void *, uint32_t,
		int))dlsym(RTLD_NEXT, "ssh_channel_read_nonblocking");

	if (is_stderr)
		usleep(LATE_USEC);
	return real(channel, dest, count, is_stderr);
}
