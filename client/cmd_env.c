/* env, ssh-config: a guest's address for other programs. */
#include <stdio.h>
#include <string.h>

#include "client/args.h"
#include "client/link.h"
#include "client/out.h"
#include "client/quote.h"
#include "client/view.h"

/* A question is answered at once; a daemon that takes longer than this is stuck. */
#define ASK_SECONDS 30

/* The variables of one guest, in the order in which they are printed. */
static void
add(struct json_object *vars, const char *name, const char *value)
{
	if (value && *value)
		cij_json_add_str(vars, name, value);
}

static void
add_number(struct json_object *vars, const char *name, int64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "%lld", (long long)n);
	if (n > 0)
		add(vars, name, text);
}

/* OCSSD drives come first in the guest's view too: the nth drive is nvmeNn1. */
static void
add_drives(struct json_object *vars, struct json_object *view)
{
	struct json_object *devices = cij_json_get(view, "devices");

	if (!json_object_is_type(devices, json_type_array) ||
		json_object_array_length(devices) == 0)
		return;
	add(vars, "QEMU_DEV_ID", cij_json_str(json_object_array_get_idx(devices, 0), "id"));
	add(vars, "NVME_DEV_NAME", "nvme0n1");
	add(vars, "NVME_DEV_PATH", "/dev/nvme0n1");
}

/* "/opt/qemu-nvme" of "/opt/qemu-nvme/bin/qemu-system-x86_64"; NULL for another layout. Heap. */
static char *
home_of(const char *qemu)
{
	static const char tail[] = "/bin/";
	const char *slash = qemu ? strrchr(qemu, '/') : NULL;

	if (!slash || slash - qemu < 4 || strncmp(slash - 4, tail, 5) != 0)
		return NULL;
	return strndup(qemu, slash - 4 - qemu);
}

static struct json_object *
variables(struct call *call, struct json_object *view)
{
	struct json_object *vars = json_object_new_object();
	struct json_object *ssh = cij_json_get(view, "ssh"), *qemu = cij_json_get(view, "qemu");
	const char *path = cij_json_str(view, "path"), *slash = path ? strrchr(path, '/') : NULL;
	_cleanup_free_ char *guests = slash ? strndup(path, slash - path) : NULL;
	_cleanup_free_ char *home = home_of(cij_json_str(qemu, "path"));
	struct json_object *config = cij_json_get(view, "config");
	const char *user = cij_json_str(cij_json_get(config, "ssh"), "user");
	int64_t memory = cij_json_int(view, "memory_bytes", 0) >> 20;

	add(vars, "QEMU_GUESTS", guests);
	add(vars, "QEMU_GUEST_NAME", call->guest);
	add(vars, "QEMU_GUEST_PATH", path);
	add(vars, "QEMU_HOME", home);
	add(vars, "QEMU_BIN", cij_json_str(qemu, "path"));
	add_number(vars, "QEMU_GUEST_MEM", memory);
	add_number(vars, "QEMU_GUEST_SMP", cij_json_int(view, "cpus", 0));
	add_number(vars, "QEMU_GUEST_SSH_FWD_PORT", view_ssh_port(view));
	add(vars, "SSH_HOST", ssh ? cij_json_str(ssh, "host") : "127.0.0.1");
	add_number(vars, "SSH_PORT", view_ssh_port(view));
	add(vars, "SSH_USER", ssh ? cij_json_str(ssh, "user") : user ? user : "root");
	add(vars, "SSH_KEY", cij_json_str(ssh, "key"));
	add_drives(vars, view);
	return vars;
}

/* "[USER@]HOST[:PORT]" as CIJOE's three variables. */
static void
add_host(struct json_object *vars, const char *spec)
{
	const char *at = strrchr(spec, '@'), *host = at ? at + 1 : spec,
		   *bracket = host[0] == '[' ? strrchr(host, ']') : NULL,
		   *colon = strrchr(bracket ? bracket : host, ':');
	_cleanup_free_ char *user = at ? strndup(spec, at - spec) : NULL;
	_cleanup_free_ char *name = NULL;

	if (colon && (strchr(host, ':') != colon) && host[0] != '[')
		colon = NULL;
	name = strndup(host, colon ? (size_t)(colon - host) : strlen(host));
	add(vars, "QEMU_HOST", name);
	add(vars, "QEMU_HOST_USER", user);
	add(vars, "QEMU_HOST_PORT", colon ? colon + 1 : NULL);
}

int
cmd_env(struct call *call, struct cij_error *err)
{
	_cleanup_json_ struct json_object *vars = NULL;
	_cleanup_reply_ struct reply r = {0};
	const char *text;

	if (call_daemon(call, ASK_SECONDS, "query-guest", guest_arguments(call->guest), &r, err) <
		0)
		return -1;
	vars = variables(call, r.value);
	if (call->host)
		add_host(vars, call->host);
	if (call->json) {
		text = json_object_to_json_string_ext(vars, JSON_C_TO_STRING_NOSLASHESCAPE);
		out_json(text, strlen(text), out_colours(stdout));
		return 0;
	}
	json_object_object_foreach (vars, name, value) {
		_cleanup_free_ char *quoted = shell_quote(json_object_get_string(value), false);

		printf("export %s=%s\n", name, quoted);
	}
	if (view_ssh_port(r.value) == 0)
		out_note("%s is %s: it has no SSH port now", call->guest, view_state(r.value));
	return 0;
}

/* A value of ssh_config: in quotes where it has blanks. */
static void
print_option(const char *name, const char *value)
{
	bool blank = strpbrk(value, " \t#") != NULL;

	printf("%s%s %s%s%s\n", strcmp(name, "Host") == 0 ? "" : "  ", name, blank ? "\"" : "",
		value, blank ? "\"" : "");
}

/* The block, in the order in which it is printed. */
static struct json_object *
ssh_options(struct call *call, struct json_object *view)
{
	struct json_object *options = json_object_new_object(), *ssh = cij_json_get(view, "ssh");
	const char *path = cij_json_str(view, "path");
	_cleanup_free_ char *known = NULL;

	if (asprintf(&known, "%s/known_hosts", path ? path : "") < 0)
		abort();
	add(options, "Host", call->guest);
	add(options, "HostName",
		cij_json_str(ssh, "host") ? cij_json_str(ssh, "host") : "127.0.0.1");
	add_number(options, "Port", view_ssh_port(view));
	add(options, "User", cij_json_str(ssh, "user") ? cij_json_str(ssh, "user") : "root");
	add(options, "HostKeyAlias", call->guest);
	/* Over there they would be files of another machine. */
	if (!call->host)
		add(options, "IdentityFile", cij_json_str(ssh, "key"));
	add(options, call->host ? "ProxyJump" : "UserKnownHostsFile",
		call->host ? call->host : known);
	add(options, "StrictHostKeyChecking", "accept-new");
	return options;
}

int
cmd_ssh_config(struct call *call, struct cij_error *err)
{
	_cleanup_json_ struct json_object *options = NULL;
	_cleanup_reply_ struct reply r = {0};
	const char *text;

	if (call_daemon(call, ASK_SECONDS, "query-guest", guest_arguments(call->guest), &r, err) <
		0)
		return -1;
	if (view_ssh_port(r.value) == 0) {
		cij_error_set(err, CIJ_E_FAILED, "%s is %s: it has no SSH port", call->guest,
			view_state(r.value));
		return cij_error_hint(err, "'cijqemuctl start %s --wait' starts it", call->guest);
	}
	options = ssh_options(call, r.value);
	if (call->json) {
		text = json_object_to_json_string_ext(options, JSON_C_TO_STRING_NOSLASHESCAPE);
		out_json(text, strlen(text), out_colours(stdout));
		return 0;
	}
	json_object_object_foreach (options, name, value)
		print_option(name, json_object_get_string(value));
	return 0;
}
