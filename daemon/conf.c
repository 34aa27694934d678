#include "daemon/conf.h"

#include <ctype.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cijqemu/cleanup.h"
#include "cijqemu/protocol.h"
#include "daemon/strv.h"
#include "proto/text.h"

/* Where CIJOE's guests have their SSH; then as many as any host has guests. */
#define PORT_FIRST 2022
#define PORT_LAST 6117

/* The host itself needs some memory; a full disk breaks everybody's guests. */
#define MEMORY_PERCENT 90
#define DISK_PERCENT 5

const char daemon_conf_usage[] =
	"usage: cijqemud [OPTION...]\n"
	"\n"
	"Supervises the QEMU guests whose folders are in one directory; 'cijqemuctl' talks to it.\n"
	"\n"
	"  --guests DIR      folders of guests (QEMU_GUESTS, else /opt/qemu-guests)\n"
	"  --qemu-home DIR   where QEMU is installed (QEMU_HOME, else /opt/qemu-nvme if there,\n"
	"                    else qemu-system-x86_64 on the PATH)\n"
	"  --run-dir DIR     sockets (root: /run/cijqemu; others: $XDG_RUNTIME_DIR/cijqemu,\n"
	"                    else /tmp/cijqemu-UID)\n"
	"  --state-dir DIR   what is kept (root: /var/lib/cijqemu; others: "
	"$XDG_STATE_HOME/cijqemu,\n"
	"                    else ~/.local/state/cijqemu)\n"
	"  --group NAME      who may open the read-write socket (cijqemu)\n"
	"  --admin-group NAME\n"
	"                    who may do everything to every guest (cijqemu-admin)\n"
	"  --ports FIRST-LAST\n"
	"                    SSH ports of 127.0.0.1 for guests that name none (2022-6117)\n"
	"  --memory-limit PERCENT%|SIZE\n"
	"                    memory for all running guests together (90% of the host's)\n"
	"  --disk-reserve PERCENT%|SIZE\n"
	"                    free space of the guests' disk below which none is started (5%)\n"
	"  --user-guests N   running guests that one owner may have (0: any number)\n"
	"  --user-memory SIZE\n"
	"                    memory that one owner's running guests may have together (0: any)\n"
	"  --user-only       serve nobody but the user who runs it\n"
	"  --check           tell whether options, folders, QEMU and groups are as needed, and "
	"exit\n"
	"  -v, --verbose     log each request too\n"
	"  -h, --help        this text\n"
	"  -V, --version     the version\n"
	"\n"
	"It stays in the foreground and logs to stderr. TERM stops it and leaves the guests "
	"running;\n"
	"HUP looks through the guests' folders again.\n";

enum {
	OPT_GUESTS = 256,
	OPT_QEMU_HOME,
	OPT_RUN_DIR,
	OPT_STATE_DIR,
	OPT_GROUP,
	OPT_ADMIN_GROUP,
	OPT_PORTS,
	OPT_MEMORY_LIMIT,
	OPT_DISK_RESERVE,
	OPT_USER_GUESTS,
	OPT_USER_MEMORY,
	OPT_USER_ONLY,
	OPT_CHECK
};

static const struct option options[] = {
	{"guests", required_argument, NULL, OPT_GUESTS},
	{"qemu-home", required_argument, NULL, OPT_QEMU_HOME},
	{"run-dir", required_argument, NULL, OPT_RUN_DIR},
	{"state-dir", required_argument, NULL, OPT_STATE_DIR},
	{"group", required_argument, NULL, OPT_GROUP},
	{"admin-group", required_argument, NULL, OPT_ADMIN_GROUP},
	{"ports", required_argument, NULL, OPT_PORTS},
	{"memory-limit", required_argument, NULL, OPT_MEMORY_LIMIT},
	{"disk-reserve", required_argument, NULL, OPT_DISK_RESERVE},
	{"user-guests", required_argument, NULL, OPT_USER_GUESTS},
	{"user-memory", required_argument, NULL, OPT_USER_MEMORY},
	{"user-only", no_argument, NULL, OPT_USER_ONLY},
	{"check", no_argument, NULL, OPT_CHECK},
	{"verbose", no_argument, NULL, 'v'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL},
};

static const char *
not_empty(const char *text)
{
	return text && *text ? text : NULL;
}

/* An environment variable of the XDG kind: only absolute paths count. */
static const char *
xdg(const char *(*env)(const char *name), const char *name)
{
	const char *value = not_empty(env(name));

	return value && value[0] == '/' ? value : NULL;
}

static void
set_defaults(struct daemon_conf *conf, uid_t uid, const char *(*env)(const char *name))
{
	const char *dir, *home;

	if (!conf->guests_dir)
		conf->guests_dir = str_copy(
			(dir = not_empty(env("QEMU_GUESTS"))) ? dir : "/opt/qemu-guests");
	if (!conf->group)
		conf->group = str_copy("cijqemu");
	if (!conf->admin_group)
		conf->admin_group = str_copy("cijqemu-admin");
	if (!conf->qemu_home)
		conf->qemu_home = str_copy(not_empty(env("QEMU_HOME")));
	if (!conf->run_dir && uid == 0)
		conf->run_dir = str_copy(CIJ_SYSTEM_RUN_DIR);
	else if (!conf->run_dir && (dir = xdg(env, "XDG_RUNTIME_DIR")))
		conf->run_dir = str_printf("%s/cijqemu", dir);
	else if (!conf->run_dir)
		conf->run_dir = str_printf("/tmp/cijqemu-%u", (unsigned)uid);
	if (!conf->state_dir && uid == 0)
		conf->state_dir = str_copy("/var/lib/cijqemu");
	else if (!conf->state_dir && (dir = xdg(env, "XDG_STATE_HOME")))
		conf->state_dir = str_printf("%s/cijqemu", dir);
	else if (!conf->state_dir && (home = xdg(env, "HOME")))
		conf->state_dir = str_printf("%s/.local/state/cijqemu", home);
	else if (!conf->state_dir)
		conf->state_dir = str_printf("%s/state", conf->run_dir);
}

static int
check_absolute(const char *option, const char *path, struct cij_error *err)
{
	if (!path || path[0] == '/')
		return 0;
	return cij_error_set(
		err, CIJ_E_USAGE, "%s must be an absolute path, not '%s'", option, path);
}

/* "90%" or "16G" */
static int
parse_quantity(
	const char *option, const char *text, int most, struct quantity *q, struct cij_error *err)
{
	size_t n = strspn(text, "0123456789");

	q->percent = n > 0 && n <= 3 && strcmp(text + n, "%") == 0;
	if (q->percent) {
		q->n = strtol(text, NULL, 10);
		if (q->n <= most)
			return 0;
	} else if (cij_size_parse(text, &q->n) == 0) {
		return 0;
	}
	return cij_error_set(err, CIJ_E_USAGE,
		"%s takes a percentage up to %d%% or a size such as 16G, not '%s'", option, most,
		text);
}

static int
parse_ports(const char *text, struct daemon_conf *conf, struct cij_error *err)
{
	char rest;

	if (strspn(text, "0123456789-") == strlen(text) &&
		sscanf(text, "%5d-%5d%c", &conf->port_first, &conf->port_last, &rest) == 2 &&
		conf->port_first > 0 && conf->port_first <= conf->port_last &&
		conf->port_last <= 65535)
		return 0;
	return cij_error_set(err, CIJ_E_USAGE,
		"--ports takes a range within 1-65535, such as 2022-2999, not '%s'", text);
}

static int
parse_number(const char *option, const char *text, int64_t *n, struct cij_error *err)
{
	char *end;

	*n = strtoll(text, &end, 10);
	if (isdigit((unsigned char)*text) && !*end && *n <= INT32_MAX)
		return 0;
	return cij_error_set(err, CIJ_E_USAGE, "%s takes a number, not '%s'", option, text);
}

/* What a guest may have on this machine. */
static int
parse_limit(struct daemon_conf *conf, int option, const char *text, struct cij_error *err)
{
	switch (option) {
	case OPT_PORTS:
		return parse_ports(text, conf, err);
	case OPT_MEMORY_LIMIT:
		/* Over 100 %: guests seldom touch all that they have. */
		return parse_quantity("--memory-limit", text, 999, &conf->memory_limit, err);
	case OPT_DISK_RESERVE:
		return parse_quantity("--disk-reserve", text, 100, &conf->disk_reserve, err);
	case OPT_USER_GUESTS:
		return parse_number("--user-guests", text, &conf->user_guests, err);
	default:
		if (cij_size_parse(text, &conf->user_memory) == 0)
			return 0;
		return cij_error_set(
			err, CIJ_E_USAGE, "--user-memory takes a size such as 16G, not '%s'", text);
	}
}

/* What an option's text goes to; NULL for those that are no text. */
static char **
text_of(struct daemon_conf *conf, int c)
{
	switch (c) {
	case OPT_GUESTS:
		return &conf->guests_dir;
	case OPT_QEMU_HOME:
		return &conf->qemu_home;
	case OPT_RUN_DIR:
		return &conf->run_dir;
	case OPT_STATE_DIR:
		return &conf->state_dir;
	case OPT_GROUP:
		return &conf->group;
	case OPT_ADMIN_GROUP:
		return &conf->admin_group;
	default:
		return NULL;
	}
}

/* The same for those that take nothing. */
static bool *
flag_of(struct daemon_conf *conf, int c)
{
	switch (c) {
	case OPT_USER_ONLY:
		return &conf->user_only;
	case OPT_CHECK:
		return &conf->check;
	case 'v':
		return &conf->verbose;
	case 'h':
		return &conf->help;
	case 'V':
		return &conf->version;
	default:
		return NULL;
	}
}

/* Of getopt_long()'s answer @c to the option before. */
static int
bad_option(int c, char **argv, struct cij_error *err)
{
	const char *word = argv[optind - 1];

	if (c == ':')
		return cij_error_set(err, CIJ_E_USAGE, "option '%s' needs a value", word);
	if (optopt > 0 && optopt < OPT_GUESTS) /* a short one, perhaps in a cluster */
		return cij_error_set(err, CIJ_E_USAGE, "unknown option '-%c'", optopt);
	return cij_error_set(err, CIJ_E_USAGE, "unknown option '%s'", word);
}

static int
parse_options(struct daemon_conf *conf, int argc, char **argv, struct cij_error *err)
{
	int c;

	optind = 0; /* getopt starts afresh: tests parse many times */
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":vhV", options, NULL)) != -1) {
		char **text = text_of(conf, c);
		bool *flag = flag_of(conf, c);

		if (text)
			str_replace(text, optarg);
		else if (flag)
			*flag = true;
		else if (c == ':' || c == '?')
			return bad_option(c, argv, err);
		else if (parse_limit(conf, c, optarg, err) < 0)
			return -1;
	}
	if (optind < argc)
		return cij_error_set(err, CIJ_E_USAGE, "unexpected argument '%s'", argv[optind]);
	return 0;
}

int
daemon_conf_parse(struct daemon_conf *conf, int argc, char **argv, uid_t uid,
	const char *(*env)(const char *name), struct cij_error *err)
{
	*conf = (struct daemon_conf){.port_first = PORT_FIRST,
		.port_last = PORT_LAST,
		.memory_limit = {true, MEMORY_PERCENT},
		.disk_reserve = {true, DISK_PERCENT}};
	if (parse_options(conf, argc, argv, err) < 0)
		return cij_error_hint(err, "'cijqemud --help' lists the options");
	set_defaults(conf, uid, env);
	if (check_absolute("--guests (QEMU_GUESTS)", conf->guests_dir, err) < 0 ||
		check_absolute("--qemu-home (QEMU_HOME)", conf->qemu_home, err) < 0 ||
		check_absolute("--run-dir", conf->run_dir, err) < 0 ||
		check_absolute("--state-dir", conf->state_dir, err) < 0)
		return -1;
	return 0;
}

void
daemon_conf_clear(struct daemon_conf *conf)
{
	free(conf->guests_dir);
	free(conf->qemu_home);
	free(conf->run_dir);
	free(conf->state_dir);
	free(conf->group);
	free(conf->admin_group);
	*conf = (struct daemon_conf){0};
}
