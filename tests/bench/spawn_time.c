/*
 * Times whole processes: 'spawn_time COUNT INPUT COMMAND…' runs COMMAND with the text INPUT on its
 * stdin (a pipe) and its output thrown away. Prints the median and the 90th percentile in µs, and
 * the largest of them in KiB of memory (this program's own few are the least that can be seen).
 */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e6 + ts.tv_nsec / 1e3;
}

static double
run(const char *input, char **command)
{
	posix_spawn_file_actions_t actions;
	double began = now_us();
	int pipe_fds[2], status;
	pid_t pid;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		exit(1);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, pipe_fds[0], 0);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	if (posix_spawnp(&pid, command[0], &actions, NULL, command, environ) != 0 ||
		write(pipe_fds[1], input, strlen(input)) != (ssize_t)strlen(input)) {
		perror(command[0]);
		exit(1);
	}
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	posix_spawn_file_actions_destroy(&actions);
	if (waitpid(pid, &status, 0) < 0 || status != 0) {
		fprintf(stderr, "spawn_time: %s failed\n", command[0]);
		exit(1);
	}
	return now_us() - began;
}

static int
by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

int
main(int argc, char **argv)
{
	int n = argc > 3 ? atoi(argv[1]) : 0;
	double *times = calloc(n > 0 ? n : 1, sizeof(*times));
	struct rusage usage;

	if (n < 1 || !times) {
		fprintf(stderr, "usage: spawn_time COUNT INPUT COMMAND…\n");
		return 64;
	}
	for (int i = 0; i < n; i++)
		times[i] = run(argv[2], argv + 3);
	qsort(times, n, sizeof(*times), by_size);
	getrusage(RUSAGE_CHILDREN, &usage);
	printf("%.0f %.0f %ld\n", times[n / 2], times[n * 9 / 10], usage.ru_maxrss);
	return 0;
}
