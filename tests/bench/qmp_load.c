/*
 * Loads a QMP socket: 'qmp_load SOCKET CLIENTS COUNT WINDOW [COMMAND]'. Each of CLIENTS connections
 * sends COUNT commands, WINDOW of them ahead of their answers (1 = round trips). Prints one line:
 * commands a second over all, then the median and the 99th percentile of a command's time in µs.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Longer than any time that an answer may take. */
#define HANG_MS 60000

struct client {
	int fd;
	long sent, got; /* commands, answers */
	double *since; /* when each of the window was sent */
	char head[16]; /* the first bytes of a line: events are no answers */
	size_t n_head;
};

static const char *command = "{\"execute\": \"query-status\"}\n";
static long count, window, n_times;
static double *times;

static double
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e6 + ts.tv_nsec / 1e3;
}

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "qmp_load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void
put(int fd, const char *text)
{
	size_t len = strlen(text);

	while (len > 0) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n < 0)
			die("send");
		text += n;
		len -= n;
	}
}

/* Reads lines until one begins with @what. */
static void
await(int fd, const char *what)
{
	char line[65536];
	size_t n = 0;

	for (;;) {
		if (n + 1 >= sizeof(line) || recv(fd, line + n, 1, 0) != 1)
			die("no QMP answers");
		if (line[n++] != '\n')
			continue;
		line[n] = '\0';
		if (strncmp(line, what, strlen(what)) == 0)
			return;
		n = 0;
	}
}

static void
enter(struct client *client, const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	client->since = calloc(window, sizeof(double));
	if (snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path) >=
			(int)sizeof(addr.sun_path) ||
		client->fd < 0 || !client->since ||
		connect(client->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		die(path);
	await(client->fd, "{\"QMP\"");
	put(client->fd, "{\"execute\": \"qmp_capabilities\"}\n");
	await(client->fd, "{\"return\"");
}

static void
feed(struct client *client)
{
	/* As a pipelining client does: all that may go, in one piece. */
	static char block[65536];
	size_t one = strlen(command), n = 0;

	while (client->sent < count && client->sent - client->got < window &&
		n + one <= sizeof(block)) {
		memcpy(block + n, command, one);
		n += one;
		client->since[client->sent++ % window] = now_us();
	}
	block[n < sizeof(block) ? n : sizeof(block) - 1] = '\0';
	if (n > 0)
		put(client->fd, block);
}

static void
take(struct client *client)
{
	static char buf[256 * 1024];
	ssize_t n = recv(client->fd, buf, sizeof(buf), 0);
	char *at = buf, *newline;

	if (n <= 0)
		die("the monitor went away");
	while (at < buf + n) {
		size_t rest = buf + n - at, room = sizeof(client->head) - client->n_head;
		size_t len;

		newline = memchr(at, '\n', rest);
		len = newline ? (size_t)(newline - at) + 1 : rest;
		memcpy(client->head + client->n_head, at, len < room ? len : room);
		client->n_head += len < room ? len : room;
		at += len;
		if (!newline)
			break;
		if (memmem(client->head, client->n_head, "\"error\"", 7))
			die("an error");
		if (!memmem(client->head, client->n_head, "\"timestamp\"", 11))
			times[n_times++] = now_us() - client->since[client->got++ % window];
		client->n_head = 0;
	}
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
	int n = argc > 4 ? atoi(argv[2]) : 0, busy = n;
	struct client *clients = calloc(n ? n : 1, sizeof(*clients));
	struct pollfd *fds = calloc(n ? n : 1, sizeof(*fds));
	double began;

	if (n < 1 || !clients || !fds) {
		fprintf(stderr, "usage: qmp_load SOCKET CLIENTS COUNT WINDOW [COMMAND]\n");
		return 64;
	}
	count = atol(argv[3]);
	window = atol(argv[4]);
	if (argc > 5 && asprintf((char **)&command, "%s\n", argv[5]) < 0)
		die("memory");
	times = calloc(n * count, sizeof(*times));
	if (!times || window < 1)
		die("memory");
	for (int i = 0; i < n; i++)
		enter(&clients[i], argv[1]);
	began = now_us();
	for (int i = 0; i < n; i++) {
		fds[i] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
		feed(&clients[i]);
	}
	while (busy > 0) {
		if (poll(fds, n, HANG_MS) <= 0)
			die("no answer within 60 s");
		for (int i = 0; i < n; i++) {
			if (!fds[i].revents)
				continue;
			take(&clients[i]);
			feed(&clients[i]);
			if (clients[i].got == count) {
				fds[i].fd = -1;
				busy--;
			}
		}
	}
	began = now_us() - began;
	qsort(times, n_times, sizeof(*times), by_size);
	printf("%.0f %.1f %.1f\n", n_times / (began / 1e6), times[n_times / 2],
		times[n_times * 99 / 100]);
	return 0;
}
