/*
 * What the console benchmark needs to be fast: producers as QEMU is one, and viewers that only
 * count.
 *
 *   console_load append FILE CHUNK TOTAL   write TOTAL bytes at the end of FILE, CHUNK at a time
 *   console_load serve SOCKET CHUNK TOTAL  accept one client; at each line on stdin send TOTAL
 * bytes console_load echo SOCKET               accept one client; send back what comes console_load
 * sink TOTAL SECONDS FD...  read until each FD gave TOTAL bytes, or SECONDS passed without a byte
 *   console_load ping FD COUNT             send a byte, wait for it to come back, COUNT times
 *
 * Each prints one line of JSON a result; times are of CLOCK_MONOTONIC, in seconds.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BLOCK (256 * 1024)

static char block[BLOCK];

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "console_load: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Lines, so that those who lose some can be found out. */
static void
fill(void)
{
	for (size_t i = 0; i < BLOCK; i += 64) {
		char line[80];

		snprintf(line, sizeof(line),
			"%09zu the quick brown fox jumps over the lazy dog, %s", i / 64,
			"again.....");
		memcpy(block + i, line, 63);
		block[i + 63] = '\n';
	}
}

static void
produce(int fd, size_t chunk, size_t total)
{
	double begin = now();

	for (size_t at = 0; at < total;) {
		size_t want = chunk < total - at ? chunk : total - at;
		ssize_t n = write(fd, block + at % (BLOCK / 2), want);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			die("write");
		if (n > 0)
			at += (size_t)n;
	}
	printf("{\"begin\": %.6f, \"end\": %.6f}\n", begin, now());
	fflush(stdout);
}

static int
listen_and_accept(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), client;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 8) < 0)
		die(path);
	puts("{}");
	fflush(stdout);
	client = accept(fd, NULL, NULL);
	if (client < 0)
		die("accept");
	return client;
}

static void
serve(const char *path, size_t chunk, size_t total)
{
	int fd = listen_and_accept(path);
	char line[16];

	while (fgets(line, sizeof(line), stdin))
		produce(fd, chunk, total);
}

static void
echo(const char *path)
{
	int fd = listen_and_accept(path);
	ssize_t n;

	while ((n = read(fd, block, BLOCK)) > 0)
		if (write(fd, block, (size_t)n) < 0)
			break;
}

static void
sink(size_t total, double seconds, char **fds, int n)
{
	struct pollfd *polls = calloc((size_t)n, sizeof(*polls));
	size_t *got = calloc((size_t)n, sizeof(*got));
	double *done = calloc((size_t)n, sizeof(*done)), last = now();
	int open = n;

	if (!polls || !got || !done)
		abort();
	for (int i = 0; i < n; i++)
		polls[i] = (struct pollfd){atoi(fds[i]), POLLIN};
	puts("{}");
	fflush(stdout);
	while (open > 0) {
		int ready = poll(polls, (nfds_t)n, (int)(seconds * 1000));

		if (ready == 0)
			break;
		last = now();
		for (int i = 0; i < n; i++) {
			ssize_t len;

			if (!polls[i].revents)
				continue;
			len = recv(polls[i].fd, block, BLOCK, MSG_DONTWAIT);
			if (len < 0 && errno == EAGAIN)
				continue;
			if (len > 0)
				got[i] += (size_t)len;
			if (len <= 0 || got[i] >= total) {
				done[i] = now();
				polls[i].fd = -1;
				open--;
			}
		}
	}
	printf("{\"end\": %.6f, \"viewers\": [", last);
	for (int i = 0; i < n; i++)
		printf("%s[%zu, %.6f]", i ? ", " : "", got[i], done[i]);
	puts("]}");
}

static void
ping(int fd, int count)
{
	printf("[");
	for (int i = 0; i < count; i++) {
		char key = (char)('a' + i % 26), back = 0;
		double begin = now();
		struct pollfd wait = {fd, POLLIN};

		if (write(fd, &key, 1) != 1)
			die("write");
		while (back != key && poll(&wait, 1, 10000) > 0)
			if (read(fd, &back, 1) <= 0)
				die("read");
		printf("%s%.7f", i ? ", " : "", now() - begin);
		/* Keys are apart: each meets everything idle. */
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
	puts("]");
}

int
main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	fill();
	if (strcmp(what, "append") == 0 && argc == 5) {
		int fd = open(argv[2], O_RDWR | O_CLOEXEC); /* no O_APPEND, as QEMU */

		if (fd < 0 || lseek(fd, 0, SEEK_END) < 0)
			die(argv[2]);
		produce(fd, strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10));
	} else if (strcmp(what, "serve") == 0 && argc == 5) {
		serve(argv[2], strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10));
	} else if (strcmp(what, "echo") == 0 && argc == 3) {
		echo(argv[2]);
	} else if (strcmp(what, "sink") == 0 && argc > 4) {
		sink(strtoul(argv[2], NULL, 10), atof(argv[3]), argv + 4, argc - 4);
	} else if (strcmp(what, "ping") == 0 && argc == 4) {
		ping(atoi(argv[2]), atoi(argv[3]));
	} else {
		fprintf(stderr, "console_load: see the head of its source\n");
		return 64;
	}
	return 0;
}
