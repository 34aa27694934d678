#include "daemon/conf.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "cijqemu/cleanup.h"
#include "cijqemu/protocol.h"
#include "daemon/strv.h"

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
	"  --user-only       serve nobody but the user who runs it\n"
	"  --check           check options and folders, then exit\n"
	"  -v, --verbose     say more\n"
	"  -h, --help        this text\n"
	"  -V, --version     the version\n"
	"\n"
	"It stays in the foreground and logs to stderr. TERM stops it and leaves the guests "
	"running;\n"
	"HUP looks through the guests' folders again.\n";

enum { OPT_GUESTS = 256, OPT_QEMU_HOME, OPT_RUN_DIR, OPT_STATE_DIR, OPT_USER_ONLY, OPT_CHECK };

static const struct option options[] = {
	{"guests", required_argument, NULL, OPT_GUESTS},
	{"qemu-home", required_argument, NULL, OPT_QEMU_HOME},
	{"run-dir", required_argument, NULL, OPT_RUN_DIR},
	{"state-dir", required_argument, NULL, OPT_STATE_DIR},
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

static int
parse_options(struct daemon_conf *conf, int argc, char **argv, struct cij_error *err)
{
	int c;

	optind = 0; /* getopt starts afresh: tests parse many times */
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":vhV", options, NULL)) != -1)
		switch (c) {
		case OPT_GUESTS:
			str_replace(&conf->guests_dir, optarg);
			break;
		case OPT_QEMU_HOME:
			str_replace(&conf->qemu_home, optarg);
			break;
		case OPT_RUN_DIR:
			str_replace(&conf->run_dir, optarg);
			break;
		case OPT_STATE_DIR:
			str_replace(&conf->state_dir, optarg);
			break;
		case OPT_USER_ONLY:
			conf->user_only = true;
			break;
		case OPT_CHECK:
			conf->check = true;
			break;
		case 'v':
			conf->verbose = true;
			break;
		case 'h':
			conf->help = true;
			break;
		case 'V':
			conf->version = true;
			break;
		case ':':
			return cij_error_set(
				err, CIJ_E_USAGE, "option '%s' needs a value", argv[optind - 1]);
		default:
			if (optopt > 0 &&
				optopt < OPT_GUESTS) /* a short one, perhaps in a cluster */
				return cij_error_set(
					err, CIJ_E_USAGE, "unknown option '-%c'", optopt);
			return cij_error_set(
				err, CIJ_E_USAGE, "unknown option '%s'", argv[optind - 1]);
		}
	if (optind < argc)
		return cij_error_set(err, CIJ_E_USAGE, "unexpected argument '%s'", argv[optind]);
	return 0;
}

int
daemon_conf_parse(struct daemon_conf *conf, int argc, char **argv, uid_t uid,
	const char *(*env)(const char *name), struct cij_error *err)
{
	*conf = (struct daemon_conf){0};
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
	*conf = (struct daemon_conf){0};
}
