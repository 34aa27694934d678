#include "daemon/qmp_policy.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "daemon/argv.h"
#include "daemon/strv.h"
#include "proto/json.h"
#include "proto/text.h"

/* The power switch, in QMP's words and in the human monitor's. */
static const char *const power[] = {
	"system_powerdown", "system_reset", "system_wakeup", "stop", "cont", "quit", NULL};
static const char *const hmp_power[] = {"system_powerdown", "system_reset", "system_wakeup", "stop",
	"s", "cont", "c", "quit", "q", NULL};

/* What only tells. */
static const char *const hmp_tells[] = {"info", "help", "?", NULL};

/*
 * What would take the guest out of the daemon's hands: it would live on in another process, be
 * reached by others, or stay behind when it has ended.
 */
static const char *const breaking[] = {
	"migrate", "migrate-incoming", "migrate_incoming", "set-action", "add_client", NULL};

/* What does so where it names a chardev of the daemon's own. */
static const char *const chardev_changes[] = {"chardev-remove", "chardev-change", NULL};
static const char *const own_chardevs[] = {ARGV_CHARDEV_QMP, ARGV_CHARDEV_CONSOLE, NULL};

static bool
is_one_of(struct span word, const char *const *words)
{
	for (; *words; words++)
		if (span_is(word, *words))
			return true;
	return false;
}

static int
breaks_supervision(struct span name, struct cij_error *err)
{
	return cij_error_set(err, CIJ_E_NOT_SUPPORTED,
		"'%.*s' is not passed on: it would take the guest out of the daemon's hands",
		(int)name.len, name.at);
}

static int
is_own_chardev(struct span name, const char *chardev, struct cij_error *err)
{
	return cij_error_set(err, CIJ_E_NOT_SUPPORTED,
		"'%.*s' is not passed on: chardev '%s' is the daemon's own", (int)name.len, name.at,
		chardev);
}

static int
denied(const struct qmp_rights *rights, struct span name, struct cij_error *err)
{
	char clean[64], word[64];

	snprintf(word, sizeof(word), "%.*s", (int)name.len, name.at);
	cij_text_clean(word, clean, sizeof(clean));
	if (rights->access < ACCESS_OPERATE) {
		cij_error_set(err, CIJ_E_DENIED,
			"you may not use this guest's monitor: its owner, those it is shared with "
			"and admins may");
		return cij_error_hint(err, "its owner can share it with you");
	}
	if (rights->read_only)
		return cij_error_set(err, CIJ_E_DENIED,
			"'%s' is not passed on: this monitor is read-only, for query-*", clean);
	cij_error_set(err, CIJ_E_DENIED, "'%s' is for the guest's owner and admins", clean);
	return cij_error_hint(err, "you may use QMP's query-* and the power commands");
}

/* The line and the chardev that a command's arguments hold. */
static struct json_object *
decode(struct span arguments)
{
	return arguments.len
		       ? cij_json_parse(arguments.at, arguments.len, QMP_REQUEST_DEPTH_MAX, NULL)
		       : NULL;
}

static int
check_inner(const struct qmp_rights *rights, struct span arguments, struct cij_error *err)
{
	_cleanup_json_ struct json_object *obj = decode(arguments);
	struct json_object *value = cij_json_get(obj, "command-line");
	const char *line = cij_json_str(obj, "command-line");

	if (!line)
		return 0; /* QEMU says what is missing */
	if (strlen(line) != (size_t)json_object_get_string_len(value))
		return cij_error_set(err, CIJ_E_BAD_REQUEST, "a command line with a NUL in it");
	return qmp_policy_check_hmp(rights, line, err);
}

static int
check_chardev(struct span name, struct span arguments, struct cij_error *err)
{
	_cleanup_json_ struct json_object *obj = decode(arguments);
	const char *id = cij_json_str(obj, "id");

	if (id && is_one_of((struct span){id, strlen(id)}, own_chardevs))
		return is_own_chardev(name, id, err);
	return 0;
}

static bool
is_query(struct span name)
{
	return name.len >= 6 && memcmp(name.at, "query-", 6) == 0;
}

int
qmp_policy_check(const struct qmp_rights *rights, struct span name, struct span arguments,
	struct cij_error *err)
{
	if (rights->access < ACCESS_OPERATE)
		return denied(rights, name, err);
	if (is_query(name))
		return 0;
	if (is_one_of(name, breaking))
		return breaks_supervision(name, err);
	if (span_is(name, "human-monitor-command"))
		return check_inner(rights, arguments, err);
	if (rights->read_only || (rights->access < ACCESS_OWN && !is_one_of(name, power)))
		return denied(rights, name, err);
	if (is_one_of(name, chardev_changes))
		return check_chardev(name, arguments, err);
	return 0;
}

/* The command's name as QEMU cuts it: up to a space or a slash. */
static struct span
hmp_name(const char *line)
{
	struct span name;

	while (isspace((unsigned char)*line))
		line++;
	name.at = line;
	while (*line && *line != '/' && !isspace((unsigned char)*line))
		line++;
	name.len = line - name.at;
	return name;
}

/* The first word behind the name, without the quotes and backslashes that QEMU takes away. */
static void
hmp_argument(struct span name, char *word, size_t size)
{
	const char *p = name.at + name.len;
	size_t n = 0;

	while (isspace((unsigned char)*p))
		p++;
	for (bool quoted = false; *p && (quoted || !isspace((unsigned char)*p)); p++) {
		if (*p == '"')
			quoted = !quoted;
		else if (*p != '\\' && n + 1 < size)
			word[n++] = *p;
	}
	word[n] = '\0';
}

char *
qmp_policy_describe_hmp(const char *line)
{
	struct span name = hmp_name(line);
	char clean[256];

	if (name.len == 0 || is_one_of(name, hmp_tells))
		return NULL;
	return str_printf("hmp '%s'", cij_text_clean(line, clean, sizeof(clean)));
}

char *
qmp_policy_describe(struct span name, struct span arguments)
{
	if (is_query(name))
		return NULL;
	if (span_is(name, "human-monitor-command")) {
		_cleanup_json_ struct json_object *obj = decode(arguments);
		const char *line = cij_json_str(obj, "command-line");

		return line ? qmp_policy_describe_hmp(line) : NULL;
	}
	return str_printf("qmp '%.*s'", (int)(name.len < 64 ? name.len : 64), name.at);
}

int
qmp_policy_check_hmp(const struct qmp_rights *rights, const char *line, struct cij_error *err)
{
	struct span name = hmp_name(line);
	char word[64];

	if (rights->access < ACCESS_OPERATE)
		return denied(rights, name, err);
	if (name.len == 0)
		return 0;
	if (is_one_of(name, breaking))
		return breaks_supervision(name, err);
	if (rights->read_only || (rights->access < ACCESS_OWN && !is_one_of(name, hmp_power)))
		return denied(rights, name, err);
	hmp_argument(name, word, sizeof(word));
	if (is_one_of(name, chardev_changes) &&
		is_one_of((struct span){word, strlen(word)}, own_chardevs))
		return is_own_chardev(name, word, err);
	return 0;
}
