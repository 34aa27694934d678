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
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "proto/json.h"

#define PORTS_MAX 32
#define DEVICES_MAX 32
#define WORDS_MAX 64

struct fake {
	const char *words[WORDS_MAX];
	int n_words;
	const char *name, *uuid, *pidfile, *pipe;
	int listen_fd; /* QMP; -1: on stdio */
	int in_fd, out_fd; /* QMP now; -1: nobody */
	int keys_fd, console_fd; /* -1: none */
	bool stdio, prelaunch, running, negotiated, mute;
	char line[65536];
	size_t len;
	struct {
		int fd, host, guest;
	} ports[PORTS_MAX];
	int n_ports, taken;
	bool elsewhere;
	struct {
		char *id, *bus;
		bool seen; /* the guest has given it an address */
	} devices[DEVICES_MAX];
	int n_devices, kept;
	struct json_object *transcript; /* command text -> reply text */
	char *greeting;
};

static volatile sig_atomic_t got_term;

static void
on_term(int sig)
{
	got_term = 1;
}

/* The value of a word ("exit=3" -> "3"), "" for one without; NULL when it was not given. */
static const char *
told(const struct fake *f, const char *word)
{
	size_t n = strlen(word);

	for (int i = 0; i < f->n_words; i++)
		if (strncmp(f->words[i], word, n) == 0 &&
			(!f->words[i][n] || f->words[i][n] == '='))
			return f->words[i][n] ? f->words[i] + n + 1 : "";
	return NULL;
}

static void
tell(struct fake *f, const char *text, const char *separators)
{
	char *copy = strdup(text), *rest = copy, *word;

	while ((word = strsep(&rest, separators)))
		if (*word && *word != '#' && f->n_words < WORDS_MAX)
			f->words[f->n_words++] = strdup(word);
	free(copy);
}

static void __attribute__((format(printf, 2, 3))) say_qmp(struct fake *f, const char *fmt, ...)
{
	va_list ap;

	if (f->out_fd < 0 || f->mute)
		return;
	va_start(ap, fmt);
	vdprintf(f->out_fd, fmt, ap);
	va_end(ap);
	(void)!write(f->out_fd, "\r\n", 2);
}

static void
say_event(struct fake *f, const char *name, const char *data)
{
	struct timeval now;

	if (!f->negotiated)
		return;
	gettimeofday(&now, NULL);
	say_qmp(f,
		"{\"timestamp\": {\"seconds\": %ld, \"microseconds\": %ld}, \"event\": \"%s\"%s%s}",
		(long)now.tv_sec, (long)now.tv_usec, name, data ? ", \"data\": " : "",
		data ? data : "");
}

static void __attribute__((noreturn)) leave(struct fake *f, int code)
{
	if (f->pidfile)
		unlink(f->pidfile);
	exit(code);
}

static void
drop_client(struct fake *f)
{
	if (!f->stdio && f->in_fd >= 0)
		close(f->in_fd);
	f->in_fd = f->out_fd = -1;
	f->negotiated = false;
	f->len = 0;
}

/* Does what was told for this point. Returns false when its own work is not to be done. */
static bool
reach(struct fake *f, const char *point)
{
	size_t n = strlen(point);

	for (int i = 0; i < f->n_words; i++) {
		const char *deed = f->words[i] + 3 + n + 1;

		if (strncmp(f->words[i], "at=", 3) != 0 ||
			strncmp(f->words[i] + 3, point, n) != 0 || f->words[i][3 + n] != ':')
			continue;
		if (strcmp(deed, "exit") == 0) {
			fprintf(stderr, "fake_qemu: told to exit at %s\n", point);
			leave(f, 1);
		} else if (strcmp(deed, "crash") == 0) {
			fprintf(stderr, "fake_qemu: told to crash at %s\n", point);
			signal(SIGSEGV, SIG_DFL);
			raise(SIGSEGV);
		} else if (strcmp(deed, "garbage") == 0) {
			say_qmp(f, "\001\002 this is no JSON {{{");
		} else if (strcmp(deed, "close") == 0) {
			drop_client(f);
		} else if (strcmp(deed, "sleep") == 0) {
			f->words[i] = "slept"; /* once */
			fprintf(stderr, "fake_qemu: sleeps at %s\n", point);
			sleep(2);
			return true;
		} else if (strcmp(deed, "mute") == 0) {
			f->mute = true;
		}
		return false;
	}
	return true;
}

/* The recorded session: lines of "> command" and "< reply". */
static void
read_transcript(struct fake *f, const char *path)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	_cleanup_free_ char *line = NULL;
	struct json_object *command = NULL; /* without spaces its text is the key */
	size_t size = 0;
	ssize_t n;

	f->transcript = json_object_new_object();
	while (file && (n = getline(&line, &size, file)) > 0) {
		line[strcspn(line, "\r\n")] = '\0';
		if (strncmp(line, "> ", 2) == 0) {
			json_object_put(command);
			command = json_tokener_parse(line + 2);
		} else if (strncmp(line, "< {\"QMP\"", 8) == 0) {
			free(f->greeting);
			f->greeting = strdup(line + 2);
		} else if (strncmp(line, "< ", 2) == 0 && command) {
			cij_json_add_str(f->transcript,
				json_object_to_json_string_ext(command, JSON_C_TO_STRING_PLAIN),
				line + 2);
			json_object_put(command);
			command = NULL;
		}
	}
	json_object_put(command);
}

/* The recorded answer to the command, with the id of this one; NULL when there is none. */
static char *
recorded(struct fake *f, struct json_object *msg)
{
	_cleanup_json_ struct json_object *bare = json_object_new_object();
	struct json_object *args = cij_json_get(msg, "arguments");
	const char *reply;

	if (!f->transcript)
		return NULL;
	json_object_object_add(bare, "execute", json_object_get(cij_json_get(msg, "execute")));
	if (args)
		json_object_object_add(bare, "arguments", json_object_get(args));
	reply = cij_json_str(
		f->transcript, json_object_to_json_string_ext(bare, JSON_C_TO_STRING_PLAIN));
	return reply ? strdup(reply) : NULL;
}

static const char *
properties_of(const char *type)
{
	if (strcmp(type, "nvme") == 0)
		return "[{\"name\": \"drive\"}, {\"name\": \"serial\"}, {\"name\": \"mdts\"}]";
	if (strcmp(type, "nvme-ns") == 0)
		return "[{\"name\": \"drive\"}, {\"name\": \"nsid\"}, {\"name\": \"zoned\"}, "
		       "{\"name\": \"zoned.zone_size\"}]";
	if (strcmp(type, "pvpanic-pci") == 0 || strcmp(type, "pcie-root-port") == 0)
		return "[{\"name\": \"addr\"}]";
	return NULL;
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

/* "hostfwd_add n0 tcp:127.0.0.1:HOST-:GUEST": "" when it worked, as QEMU has it. */
static const char *
forward(struct fake *f, const char *line)
{
	static const char failed[] = "Could not set up host forwarding rule\\r\\n";
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int host, guest, fd;

	if (sscanf(line, "hostfwd_add n0 tcp:127.0.0.1:%d-:%d", &host, &guest) != 2)
		return "invalid format\\r\\n";
	if (f->taken > 0) {
		f->taken--;
		return failed;
	}
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	addr.sin_port = htons((uint16_t)host);
	if (f->elsewhere) { /* as if it listened */
		close(fd);
		fd = -1;
	} else if (fd < 0 || f->n_ports == PORTS_MAX ||
		   bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 8) < 0) {
		close(fd);
		return failed;
	}
	f->ports[f->n_ports].fd = fd;
	f->ports[f->n_ports].host = host;
	f->ports[f->n_ports++].guest = guest;
	return "";
}

static void
answer_hmp(struct fake *f, const char *line, const char *id)
{
	char word[64] = "", text[4096] = "";
	size_t n = 0;

	sscanf(line, "%63s", word);
	for (char *c = word; *c; c++)
		if (strchr("\"\\", *c) || (unsigned char)*c < ' ' || *c == 0x7f || *c & 0x80)
			*c = '?'; /* it is told in JSON */
	if (!reach(f, word))
		return;
	if (strcmp(word, "hostfwd_add") == 0) {
		snprintf(text, sizeof(text), "%s", forward(f, line));
	} else if (strcmp(line, "info usernet") == 0) {
		n = snprintf(text, sizeof(text), "Hub -1 (n0):\\r\\n");
		for (int i = 0; i < f->n_ports && n < sizeof(text); i++)
			n += snprintf(text + n, sizeof(text) - n,
				"  TCP[HOST_FORWARD]  %d       127.0.0.1 %5d       10.0.2.15 %5d   "
				"  0     "
				"0\\r\\n",
				f->ports[i].fd, f->ports[i].host, f->ports[i].guest);
	} else if (strcmp(line, "info status") == 0) {
		snprintf(text, sizeof(text), "VM status: %s\\r\\n",
			f->running ? "running" : "paused");
	} else {
		snprintf(text, sizeof(text), "unknown command: '%s'\\r\\n", word);
	}
	say_qmp(f, "{\"return\": \"%s\"%s}", text, id);
}

static void
add_device(struct fake *f, const char *id, const char *bus, bool seen)
{
	if (f->n_devices == DEVICES_MAX)
		return;
	f->devices[f->n_devices].id = strdup(id);
	f->devices[f->n_devices].bus = strdup(bus ? bus : "");
	f->devices[f->n_devices++].seen = seen;
}

/* '-device DRIVER,id=ID,bus=BUS,…' */
static void
read_device(struct fake *f, const char *value)
{
	_cleanup_free_ char *copy = strdup(value);
	char *rest = copy, *word, *id = NULL, *bus = NULL;

	while ((word = strsep(&rest, ",")))
		if (strncmp(word, "id=", 3) == 0)
			id = word + 3;
		else if (strncmp(word, "bus=", 4) == 0)
			bus = word + 4;
	if (id)
		add_device(f, id, bus, true);
}

/* QMP 'query-pci': what has no bus stands on the first one, the rest behind its port. */
static struct json_object *
pci_devices(const struct fake *f, const char *bus, bool root)
{
	struct json_object *list = json_object_new_array();

	for (int i = 0; i < f->n_devices; i++) {
		struct json_object *device, *region, *regions, *bridge;
		const char *on = f->devices[i].bus;

		if (root ? *on && strcmp(on, "pci.0") != 0 : strcmp(on, bus) != 0)
			continue;
		device = json_object_new_object();
		cij_json_add_str(device, "qdev_id", f->devices[i].id);
		regions = json_object_new_array();
		region = json_object_new_object();
		cij_json_add_str(region, "type", "memory");
		cij_json_add_int(region, "address", f->devices[i].seen ? 0xfdc00000LL : -1LL);
		json_object_array_add(regions, region);
		json_object_object_add(device, "regions", regions);
		if (strncmp(f->devices[i].id, "port", 4) == 0) {
			bridge = json_object_new_object();
			json_object_object_add(
				bridge, "devices", pci_devices(f, f->devices[i].id, false));
			json_object_object_add(device, "pci_bridge", bridge);
		}
		json_object_array_add(list, device);
	}
	return list;
}

static void
answer_pci(struct fake *f, const char *id)
{
	_cleanup_json_ struct json_object *list = json_object_new_array();
	struct json_object *bus = json_object_new_object();

	cij_json_add_int(bus, "bus", 0);
	json_object_object_add(bus, "devices", pci_devices(f, "", true));
	json_object_array_add(list, bus);
	say_qmp(f, "{\"return\": %s%s}", json_object_to_json_string(list), id);
}

/* Whether it was told to refuse the command. */
static bool
refuses(struct fake *f, const char *command, struct json_object *args, const char *id)
{
	const char *driver = cij_json_str(args, "driver"), *refused = told(f, "refuse");
	size_t n = strlen(command);

	if (!refused || strncmp(refused, command, n) != 0)
		return false;
	if (refused[n] && (refused[n] != ':' || !driver || strcmp(refused + n + 1, driver) != 0))
		return false;
	say_qmp(f, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"told to refuse\"}%s}",
		id);
	return true;
}

static void
log_command(struct fake *f, struct json_object *msg)
{
	const char *path = told(f, "qmp-log");
	_cleanup_fclose_ FILE *file = path && !f->stdio ? fopen(path, "ae") : NULL;

	if (file)
		fprintf(file, "%s\n", json_object_to_json_string_ext(msg, JSON_C_TO_STRING_PLAIN));
}

static void
delete_device(struct fake *f, const char *device, const char *id)
{
	char data[256];

	const char *keep = told(f, "keep-devices");

	for (int i = 0; i < f->n_devices; i++)
		if (strcmp(f->devices[i].id, device) == 0) {
			say_qmp(f, "{\"return\": {}%s}", id);
			if (keep && (!*keep || f->kept < atoi(keep))) {
				f->kept++;
				return;
			}
			free(f->devices[i].id);
			free(f->devices[i].bus);
			f->devices[i] = f->devices[--f->n_devices];
			snprintf(data, sizeof(data),
				"{\"device\": \"%s\", \"path\": \"/machine/peripheral/%s\"}",
				device, device);
			say_event(f, "DEVICE_DELETED", data);
			return;
		}
	say_qmp(f,
		"{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"Device '%s' not "
		"found\"}%s}",
		device, id);
}

/* What runs, stops or ends the machine. Returns whether the command was one of those. */
static bool
answer_machine(struct fake *f, const char *command, const char *id)
{
	if (strcmp(command, "cont") == 0 || strcmp(command, "stop") == 0) {
		f->running = *command == 'c';
		f->prelaunch = false;
		say_event(f, f->running ? "RESUME" : "STOP", NULL);
		say_qmp(f, "{\"return\": {}%s}", id);
	} else if (strcmp(command, "system_reset") == 0) {
		say_qmp(f, "{\"return\": {}%s}", id);
		say_event(f, "RESET", "{\"guest\": false, \"reason\": \"host-qmp-system-reset\"}");
	} else if (strcmp(command, "system_powerdown") == 0) {
		say_qmp(f, "{\"return\": {}%s}", id);
		if (told(f, "ignore-powerdown"))
			return true;
		say_event(f, "POWERDOWN", NULL);
		say_event(f, "SHUTDOWN", "{\"guest\": true, \"reason\": \"guest-shutdown\"}");
		leave(f, 0);
	} else if (strcmp(command, "quit") == 0) {
		say_qmp(f, "{\"return\": {}%s}", id);
		say_event(f, "SHUTDOWN", "{\"guest\": false, \"reason\": \"host-qmp-quit\"}");
		leave(f, 0);
	} else {
		return false;
	}
	return true;
}

static void
answer(struct fake *f, struct json_object *msg, const char *id)
{
	const char *command = cij_json_str(msg, "execute");
	struct json_object *args = cij_json_get(msg, "arguments");
	_cleanup_free_ char *reply = NULL;

	log_command(f, msg);
	if (!command || !reach(f, command) || refuses(f, command, args, id))
		return;
	reply = recorded(f, msg);
	if (strcmp(command, "qmp_capabilities") == 0) {
		if (!reach(f, "capabilities"))
			return;
		f->negotiated = true;
		say_qmp(f, "{\"return\": {}%s}", id);
	} else if (strcmp(command, "query-name") == 0) {
		say_qmp(f, "{\"return\": {\"name\": \"%s\"}%s}", f->name ? f->name : "", id);
	} else if (strcmp(command, "query-uuid") == 0) {
		say_qmp(f, "{\"return\": {\"UUID\": \"%s\"}%s}", f->uuid ? f->uuid : "", id);
	} else if (strcmp(command, "query-status") == 0) {
		say_qmp(f,
			"{\"return\": {\"status\": \"%s\", \"singlestep\": false, \"running\": "
			"%s}%s}",
			f->running     ? "running"
			: f->prelaunch ? "prelaunch"
				       : "paused",
			f->running ? "true" : "false", id);
	} else if (answer_machine(f, command, id)) {
		return;
	} else if (strcmp(command, "human-monitor-command") == 0) {
		const char *line = cij_json_str(args, "command-line");

		answer_hmp(f, line ? line : "", id);
	} else if (strcmp(command, "device_add") == 0) {
		const char *device = cij_json_str(args, "id");

		if (device)
			add_device(f, device, cij_json_str(args, "bus"), !told(f, "unseen"));
		say_qmp(f, "{\"return\": {}%s}", id);
	} else if (strcmp(command, "query-pci") == 0) {
		answer_pci(f, id);
	} else if (strcmp(command, "qom-set") == 0 || strcmp(command, "blockdev-add") == 0 ||
		   strcmp(command, "blockdev-del") == 0) {
		say_qmp(f, "{\"return\": {}%s}", id);
	} else if (strcmp(command, "device_del") == 0) {
		const char *device = cij_json_str(args, "id");

		delete_device(f, device ? device : "", id);
	} else if (reply) {
		/* Recorded without an id: it goes before the last brace. */
		reply[strlen(reply) - 1] = '\0';
		say_qmp(f, "%s%s}", reply, id);
	} else if (strcmp(command, "device-list-properties") == 0) {
		const char *type = cij_json_str(args, "typename");
		const char *properties = type && !f->transcript ? properties_of(type) : NULL;

		if (properties)
			say_qmp(f, "{\"return\": %s%s}", properties, id);
		else
			say_qmp(f,
				"{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"Device "
				"'%s' not "
				"found\"}%s}",
				type ? type : "", id);
	} else if (strcmp(command, "query-kvm") == 0) {
		say_qmp(f, "{\"return\": {\"enabled\": false, \"present\": true}%s}", id);
	} else if (strncmp(command, "query-", 6) == 0 || strncmp(command, "blockdev-", 9) == 0) {
		say_qmp(f, "{\"return\": []%s}", id);
	} else {
		say_qmp(f,
			"{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command %s "
			"has not "
			"been found\"}%s}",
			command, id);
	}
}

static void
take_line(struct fake *f, const char *line, size_t len)
{
	_cleanup_json_ struct json_object *msg = cij_json_parse(line, len, 64, NULL);
	char id[4096] = "";
	const char *at;
	size_t n;

	if (!msg) {
		say_qmp(f, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse "
			   "error\"}}");
		return;
	}
	if (cij_json_raw_member(line, len, "id", &at, &n) && n < sizeof(id) - 16)
		snprintf(id, sizeof(id), ", \"id\": %.*s", (int)n, at);
	answer(f, msg, id);
}

static void
greet(struct fake *f)
{
	f->len = 0;
	if (!reach(f, "greeting"))
		return;
	say_qmp(f, "%s",
		f->greeting
			? f->greeting
			: "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, "
			  "\"major\": 7}, \"package\": \"fake\"}, \"capabilities\": [\"oob\"]}}");
}

static void
read_qmp(struct fake *f)
{
	ssize_t n = read(f->in_fd, f->line + f->len, sizeof(f->line) - f->len);
	char *newline;

	if (n <= 0) {
		if (f->stdio)
			leave(f, 0);
		drop_client(f);
		return;
	}
	f->len += n;
	while (f->in_fd >= 0 && (newline = memchr(f->line, '\n', f->len))) {
		size_t len = newline - f->line;

		take_line(f, f->line, len);
		if (f->in_fd < 0)
			break;
		f->len -= len + 1;
		memmove(f->line, newline + 1, f->len);
	}
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
			say_event(f, "SHUTDOWN", "{\"guest\": false, \"reason\": \"host-signal\"}");
			leave(f, 0);
		}
		if (fds[0].revents) {
			f->in_fd = f->out_fd = accept4(f->listen_fd, NULL, NULL, SOCK_CLOEXEC);
			greet(f);
		}
		if (fds[1].revents)
			read_qmp(f);
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
			read_device(f, value);
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
		read_transcript(&f, told(&f, "transcript"));
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
		greet(&f);
	}
	serve(&f);
}
