/* The stand-in's QMP: its own answers, and those of a recorded session. */
#include "tests/fake/fake.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

void __attribute__((format(printf, 2, 3))) fake_say(struct fake *f, const char *fmt, ...)
{
	va_list ap;

	if (f->out_fd < 0 || f->mute)
		return;
	va_start(ap, fmt);
	vdprintf(f->out_fd, fmt, ap);
	va_end(ap);
	(void)!write(f->out_fd, "\r\n", 2);
}

void
fake_say_event(struct fake *f, const char *name, const char *data)
{
	struct timeval now;

	if (!f->negotiated)
		return;
	gettimeofday(&now, NULL);
	fake_say(f,
		"{\"timestamp\": {\"seconds\": %ld, \"microseconds\": %ld}, \"event\": \"%s\"%s%s}",
		(long)now.tv_sec, (long)now.tv_usec, name, data ? ", \"data\": " : "",
		data ? data : "");
}

void
fake_drop_client(struct fake *f)
{
	if (!f->stdio && f->in_fd >= 0)
		close(f->in_fd);
	f->in_fd = f->out_fd = -1;
	f->negotiated = false;
	f->len = 0;
}

/* The recorded session: lines of "> command" and "< reply". */
void
fake_read_transcript(struct fake *f, const char *path)
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
	fake_say(f, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"told to refuse\"}%s}",
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

/* What runs, stops or ends the machine. Returns whether the command was one of those. */
static bool
answer_machine(struct fake *f, const char *command, const char *id)
{
	if (strcmp(command, "cont") == 0 || strcmp(command, "stop") == 0) {
		f->running = *command == 'c';
		f->prelaunch = false;
		fake_say_event(f, f->running ? "RESUME" : "STOP", NULL);
		fake_say(f, "{\"return\": {}%s}", id);
	} else if (strcmp(command, "system_reset") == 0) {
		fake_say(f, "{\"return\": {}%s}", id);
		fake_say_event(
			f, "RESET", "{\"guest\": false, \"reason\": \"host-qmp-system-reset\"}");
	} else if (strcmp(command, "system_powerdown") == 0) {
		fake_say(f, "{\"return\": {}%s}", id);
		if (told(f, "ignore-powerdown"))
			return true;
		fake_say_event(f, "POWERDOWN", NULL);
		fake_say_event(f, "SHUTDOWN", "{\"guest\": true, \"reason\": \"guest-shutdown\"}");
		leave(f, 0);
	} else if (strcmp(command, "quit") == 0) {
		fake_say(f, "{\"return\": {}%s}", id);
		fake_say_event(f, "SHUTDOWN", "{\"guest\": false, \"reason\": \"host-qmp-quit\"}");
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
		fake_say(f, "{\"return\": {}%s}", id);
	} else if (strcmp(command, "query-name") == 0) {
		fake_say(f, "{\"return\": {\"name\": \"%s\"}%s}", f->name ? f->name : "", id);
	} else if (strcmp(command, "query-uuid") == 0) {
		fake_say(f, "{\"return\": {\"UUID\": \"%s\"}%s}", f->uuid ? f->uuid : "", id);
	} else if (strcmp(command, "query-status") == 0) {
		fake_say(f,
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

		fake_answer_hmp(f, line ? line : "", id);
	} else if (strcmp(command, "device_add") == 0) {
		const char *device = cij_json_str(args, "id");

		if (device)
			fake_add_device(f, device, cij_json_str(args, "bus"), !told(f, "unseen"));
		fake_say(f, "{\"return\": {}%s}", id);
	} else if (strcmp(command, "query-pci") == 0) {
		fake_answer_pci(f, id);
	} else if (strcmp(command, "qom-set") == 0 || strcmp(command, "blockdev-add") == 0 ||
		   strcmp(command, "blockdev-del") == 0) {
		fake_say(f, "{\"return\": {}%s}", id);
	} else if (strcmp(command, "device_del") == 0) {
		const char *device = cij_json_str(args, "id");

		fake_delete_device(f, device ? device : "", id);
	} else if (reply) {
		/* Recorded without an id: it goes before the last brace. */
		reply[strlen(reply) - 1] = '\0';
		fake_say(f, "%s%s}", reply, id);
	} else if (strcmp(command, "device-list-properties") == 0) {
		const char *type = cij_json_str(args, "typename");
		const char *properties = type && !f->transcript ? properties_of(type) : NULL;

		if (properties)
			fake_say(f, "{\"return\": %s%s}", properties, id);
		else
			fake_say(f,
				"{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"Device "
				"'%s' not "
				"found\"}%s}",
				type ? type : "", id);
	} else if (strcmp(command, "query-kvm") == 0) {
		fake_say(f, "{\"return\": {\"enabled\": false, \"present\": true}%s}", id);
	} else if (strncmp(command, "query-", 6) == 0 || strncmp(command, "blockdev-", 9) == 0) {
		fake_say(f, "{\"return\": []%s}", id);
	} else {
		fake_say(f,
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
		fake_say(f, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse "
			    "error\"}}");
		return;
	}
	if (cij_json_raw_member(line, len, "id", &at, &n) && n < sizeof(id) - 16)
		snprintf(id, sizeof(id), ", \"id\": %.*s", (int)n, at);
	answer(f, msg, id);
}

void
fake_greet(struct fake *f)
{
	f->len = 0;
	if (!reach(f, "greeting"))
		return;
	fake_say(f, "%s",
		f->greeting
			? f->greeting
			: "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, "
			  "\"major\": 7}, \"package\": \"fake\"}, \"capabilities\": [\"oob\"]}}");
}

void
fake_read_qmp(struct fake *f)
{
	ssize_t n = read(f->in_fd, f->line + f->len, sizeof(f->line) - f->len);
	char *newline;

	if (n <= 0) {
		if (f->stdio)
			leave(f, 0);
		fake_drop_client(f);
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
