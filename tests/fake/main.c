/* clang-format off */
/*
 * A stand-in for qemu-system-x86_64, for faults and scale: it talks QMP, holds its pid file's lock,
 * echoes its console's keys, really listens on the ports that it is told to forward, and misbehaves
 * as it is told. What a real QEMU can show is tested with a real one.
 *
 * Told by '-fake WORD[,WORD…]' on its command line (a guest's extra_args) and by the file
 * ../fake.conf beside its own folder, of the same words, one a line:
 *
 *   transcript=FILE    answer as the recorded QMP session does, where that has the command
 *   no-sandbox         refuse -sandbox, as the forks do
 *   say=TEXT           print TEXT on stderr first
 *   exit=N             exit with N at once
 *   at=POINT:DEED      at POINT (start, pidfile, greeting, capabilities, or a QMP command or the
 *                      first word of a human monitor's line) do DEED: exit, crash, mute, garbage,
 *                      close, or sleep (for 2 s and once, then go on)
 *   flood=N            print N numbered lines on the console, as fast as it goes
 *   ignore-powerdown   live on at the power button
 *   ignore-term        live on at SIGTERM
 *   ssh                greet with an SSH banner on forwarded ports
 *   taken=N            the first N ports are "taken"
 *   keep-devices       never confirm a device_del; with =N not the first N
 *   unseen             give no address to devices that are plugged in
 *   refuse=COMMAND     answer that QMP command with an error; with :DRIVER only for that driver
 *   qmp-log=FILE       append each QMP command that comes
 *   probe-exit=N       exit with N when asked what it can do (QMP on stdio)
 *   elsewhere          do not listen on forwarded ports: somebody else does (an sshd of a test)
 */
/* clang-format on */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fake/fake.h"

static volatile sig_atomic_t got_term;

static void
on_term(int sig)
{
	got_term = 1;
}

static void
greet_ssh(int listen_fd)
{
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	(void)!write(fd, "SSH-2.0-fake\r\n", 14);
	shutdown(fd, SHUT_WR);
	close(fd);
}

/* Echoes keys, as a guest's tty does. */
static void
read_keys(struct fake *f)
{
	char buf[4096];
	ssize_t n = read(f->keys_fd, buf, sizeof(buf));

	if (n > 0 && f->console_fd >= 0)
		(void)!write(f->console_fd, buf, n);
}

static void
flood(struct fake *f)
{
	const char *count = told(f, "flood");
	char line[64];

	for (long i = 0; count && f->console_fd >= 0 && i < atol(count); i++) {
		int n = snprintf(line, sizeof(line), "line %09ld of the flood\n", i);

		if (write(f->console_fd, line, n) < 0)
			return;
	}
}

static void
serve(struct fake *f)
{
	struct pollfd fds[3 + PORTS_MAX];
	bool flooded = false;

	for (;;) {
		int n_ports = f->n_ports; /* what follows may add some */

		fds[0] = (struct pollfd){f->in_fd < 0 ? f->listen_fd : -1, POLLIN};
		fds[1] = (struct pollfd){f->mute ? -1 : f->in_fd, POLLIN};
		fds[2] = (struct pollfd){f->keys_fd, POLLIN};
		for (int i = 0; i < n_ports; i++)
			fds[3 + i] = (struct pollfd){told(f, "ssh") ? f->ports[i].fd : -1, POLLIN};
		if (f->running && !flooded) {
			flood(f);
			flooded = true;
		}
		if (poll(fds, 3 + n_ports, -1) < 0 && errno != EINTR)
			leave(f, 1);
		if (got_term && !told(f, "ignore-term")) {
			fake_say_event(
				f, "SHUTDOWN", "{\"guest\": false, \"reason\": \"host-signal\"}");
			leave(f, 0);
		}
		if (fds[0].revents) {
			f->in_fd = f->out_fd = accept4(f->listen_fd, NULL, NULL, SOCK_CLOEXEC);
			fake_greet(f);
		}
		if (fds[1].revents)
			fake_read_qmp(f);
		if (fds[2].revents)
			read_keys(f);
		for (int i = 0; i < n_ports; i++)
			if (fds[3 + i].revents)
				greet_ssh(f->ports[i].fd);
	}
}

static void
write_pidfile(struct fake *f)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = open(f->pidfile, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || fcntl(fd, F_SETLK, &lock) < 0) {
		fprintf(stderr, "fake_qemu: cannot create PID file: %s\n", strerror(errno));
		f->pidfile = NULL;
		leave(f, 1);
	}
	(void)!ftruncate(fd, 0);
	dprintf(fd, "%d\n", (int)getpid()); /* held open: the lock lives as long as we do */
}

static void
open_console(struct fake *f)
{
	char path[512];

	snprintf(path, sizeof(path), "%s.in", f->pipe);
	f->keys_fd = open(path, O_RDWR | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s.out", f->pipe);
	f->console_fd = open(path, O_RDWR | O_CLOEXEC); /* no O_APPEND, as QEMU */
}

static void
read_conf(struct fake *f, const char *self)
{
	_cleanup_free_ char *copy = strdup(self);
	_cleanup_fclose_ FILE *file = NULL;
	char path[4096], line[4096];

	snprintf(path, sizeof(path), "%s/../fake.conf", dirname(copy));
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		tell(f, line, "\n");
}

static void
read_options(struct fake *f, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";
		const char *at;

		if (strcmp(argv[i], "-fake") == 0)
			tell(f, value, ",");
		else if (strcmp(argv[i], "-name") == 0)
			f->name = strncmp(value, "guest=", 6) == 0 ? value + 6 : value;
		else if (strcmp(argv[i], "-device") == 0)
			fake_read_device(f, value);
		else if (strcmp(argv[i], "-uuid") == 0)
			f->uuid = value;
		else if (strcmp(argv[i], "-pidfile") == 0)
			f->pidfile = value;
		else if (strcmp(argv[i], "-S") == 0)
			f->prelaunch = true;
		else if (strcmp(argv[i], "-qmp") == 0)
			f->stdio = strcmp(value, "stdio") == 0;
		else if (strcmp(argv[i], "-chardev") == 0 && (at = strstr(value, ",fd=")))
			f->listen_fd = atoi(at + 4);
		else if (strcmp(argv[i], "-chardev") == 0 && (at = strstr(value, ",path=")))
			f->pipe = at + 6;
		else if (strcmp(argv[i], "-sandbox") == 0 && told(f, "no-sandbox")) {
			fprintf(stderr, "qemu-system-x86_64: -sandbox: invalid option\n");
			exit(1);
		}
	}
}

int
main(int argc, char **argv)
{
	static struct fake f = {
		.listen_fd = -1, .in_fd = -1, .out_fd = -1, .keys_fd = -1, .console_fd = -1};
	struct sigaction term = {.sa_handler = on_term};

	read_conf(&f, argv[0]);
	read_options(&f, argc, argv);
	sigaction(SIGTERM, &term, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (told(&f, "say"))
		fprintf(stderr, "%s\n", told(&f, "say"));
	if (f.stdio && told(&f, "probe-exit"))
		exit(atoi(told(&f, "probe-exit")));
	if (!f.stdio && told(&f, "exit"))
		exit(atoi(told(&f, "exit")));
	if (told(&f, "transcript"))
		fake_read_transcript(&f, told(&f, "transcript"));
	f.elsewhere = told(&f, "elsewhere");
	if (told(&f, "taken"))
		f.taken = atoi(told(&f, "taken"));
	if (!f.stdio)
		reach(&f, "start");
	if (f.pidfile)
		write_pidfile(&f);
	if (!f.stdio)
		reach(&f, "pidfile");
	if (f.pipe)
		open_console(&f);
	f.running = !f.prelaunch;
	if (f.stdio) {
		f.in_fd = STDIN_FILENO;
		f.out_fd = STDOUT_FILENO;
		fake_greet(&f);
	}
	serve(&f);
}
