/* Clients of the human monitor: a prompt, a line, what QEMU says to it, and so on. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/monitor_impl.h"
#include "daemon/strv.h"
#include "proto/json.h"

/* As QEMU's own line editor has it. */
#define HMP_LINE_MAX 4095

static const char prompt[] = "(qemu) ";

static void
greet_hmp(struct client *client)
{
	size_t len;
	const char *line = qmp_greeting(client->monitor->qmp, &len);
	_cleanup_json_ struct json_object *msg = cij_json_parse(
		line, len, QMP_REQUEST_DEPTH_MAX, NULL);
	struct json_object *version = cij_json_get(
		cij_json_get(cij_json_get(msg, "QMP"), "version"), "qemu");
	_cleanup_free_ char *text = str_printf(
		"QEMU %d.%d.%d monitor - type 'help' for more information\r\n%s",
		(int)cij_json_int(version, "major", 0), (int)cij_json_int(version, "minor", 0),
		(int)cij_json_int(version, "micro", 0), prompt);

	client_write(client, text, strlen(text));
}

/* Text of ours in the place of QEMU's, and the next prompt. */
static void
say(struct client *client, const char *text)
{
	_cleanup_free_ char *all = str_printf("%s%s", text, prompt);

	client_answer(client, all, strlen(all));
}

static void
complain(struct client *client, const struct cij_error *err)
{
	_cleanup_free_ char *text = str_printf(
		"Error: %s%s%s\r\n", err->desc, *err->hint ? "; " : "", err->hint);

	say(client, text);
}

/* 'cpu N' chooses for the lines to come: over QMP each line is told. */
static int
chosen_cpu(const char *line)
{
	int cpu, n = 0;

	return sscanf(line, " cpu %d %n", &cpu, &n) == 1 && n > 0 && !line[n] && cpu >= 0 ? cpu
											  : -1;
}

static void
run_line(struct client *client, const char *line)
{
	_cleanup_json_ struct json_object *arguments = json_object_new_object();
	static const char command[] = "human-monitor-command";
	struct pending *pending;
	struct span text;

	client->next_cpu = chosen_cpu(line);
	cij_json_add_str(arguments, "command-line", line);
	if (client->cpu >= 0 && client->next_cpu < 0)
		cij_json_add_int(arguments, "cpu-index", client->cpu);
	text.at = json_object_to_json_string_length(arguments, JSON_C_TO_STRING_PLAIN, &text.len);
	if (!qmp_text_is_json(text.at, text.len)) {
		say(client, "Error: the line is not UTF-8\r\n");
		return;
	}
	pending = client_pending(client, NULL, 0);
	pending->what = qmp_policy_describe_hmp(line);
	client_send(pending, (struct span){command, sizeof(command) - 1}, text, false);
}

static void
refuse(struct client *client, const char *line, const struct cij_error *why)
{
	_cleanup_free_ char *what = qmp_policy_describe_hmp(line);

	client_deed(client, what ? what : "hmp", why, 0);
	complain(client, why);
}

static void
take_line(struct client *client, const char *data, size_t len)
{
	_cleanup_free_ char *line = NULL;
	struct cij_error err, lease;

	while (len > 0 && isspace((unsigned char)data[len - 1]))
		len--;
	if (len > HMP_LINE_MAX) {
		say(client, "Error: a line of over 4095 bytes\r\n");
		return;
	}
	line = strndup(data, len);
	if (!line)
		abort();
	if (strlen(line) < len)
		say(client, "Error: a line with a NUL in it\r\n");
	else if (line[strspn(line, " \t\r\v\f")] == '\0')
		say(client, "");
	else if (qmp_policy_check_hmp(client_rights(client, &lease), line, &err) < 0)
		refuse(client, line, lease.class != CIJ_E_NONE ? &lease : &err);
	else
		run_line(client, line);
}

static size_t
take_hmp(struct client *client, const char *data, size_t len, bool last)
{
	const char *newline = memchr(data, '\n', len);
	size_t n = newline ? (size_t)(newline - data) : len;

	if (!newline && !last && len <= HMP_LINE_MAX)
		return 0;
	if (!client->skipping)
		take_line(client, data, n);
	client->skipping = !newline;
	return newline ? n + 1 : len;
}

static void
answer_hmp(struct client *client, const struct pending *pending, const struct qmp_reply *reply,
	const struct cij_error *err)
{
	_cleanup_json_ struct json_object *msg = NULL;
	struct cij_error own;
	const char *text;

	if (!err && reply->kind == QMP_LINE_ERROR) {
		qmp_reply_to_error(reply, &own);
		err = &own;
	}
	if (err) {
		client_write(client, "Error: ", 7);
		client_write(client, err->desc, strlen(err->desc));
		client_write(client, "\r\n", 2);
	} else {
		msg = cij_json_parse(reply->text, reply->len, QMP_REQUEST_DEPTH_MAX, NULL);
		text = cij_json_str(msg, "return");
		if (client->next_cpu >= 0 && text && !*text)
			client->cpu = client->next_cpu;
		if (text)
			client_write(client, text, strlen(text));
	}
	client->next_cpu = -1;
	client_write(client, prompt, sizeof(prompt) - 1);
}

const struct client_kind client_hmp = {
	.pending_max = 1, /* a line begins when the one before it has been answered */
	.greet = greet_hmp,
	.take = take_hmp,
	.answer = answer_hmp,
};
