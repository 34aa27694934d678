/* cijqemud: options, folders, the loop, signals. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cijqemu/cleanup.h"
#include "cijqemu/protocol.h"
#include "daemon/as_owner.h"
#include "daemon/check.h"
#include "daemon/conf.h"
#include "daemon/fileio.h"
#include "daemon/guest_inside.h"
#include "daemon/host.h"
#include "daemon/launch.h"
#include "daemon/lease_reset.h"
#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/monitor.h"
#include "daemon/proc.h"
#include "daemon/registry.h"
#include "daemon/removal.h"
#include "daemon/server.h"
#include "daemon/service.h"
#include "daemon/users.h"

/* For a dead daemon's child to let go of what it inherited: 3 s in all. */
#define LOCK_TRIES 300
#define LOCK_PAUSE_USEC 10000

struct daemon {
	struct daemon_conf conf;
	struct services sv;
	struct registry *registry;
	struct server *server;
	struct metrics *metrics; /* NULL where its socket cannot be made */
	struct service *service;
	int run_fd; /* RUNDIR */
	int state_fd; /* STATEDIR */
	struct event *term, *intr, *hup;
	bool failed;
};

static const char *
env(const char *name)
{
	return getenv(name);
}

/* A folder of our own in /tmp may have been made by somebody else first: then it is not used. */
static int
open_own_dir(const char *path, mode_t mode, struct cij_error *err)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (dir_make_path(path, mode) < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot make '%s'", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot open '%s'", path);
	if (st.st_uid != geteuid())
		return cij_error_set(err, CIJ_E_FAILED, "'%s' belongs to uid %u: not used", path,
			(unsigned)st.st_uid);
	return steal_fd(&fd);
}

/* The pid of whoever took a flock on the file, from /proc/locks; 0 when that cannot be seen. */
static pid_t
lock_holder(int fd)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/locks", "re");
	unsigned long long inode;
	struct stat st;
	char line[256];
	int pid;

	if (!file || fstat(fd, &st) < 0)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%*s FLOCK %*s %*s %d %*x:%*x:%llu", &pid, &inode) == 2 &&
			inode == st.st_ino)
			return pid;
	return 0;
}

/* Not ended, nor a zombie that nobody has reaped. */
static bool
is_alive(pid_t pid)
{
	_cleanup_close_ int fd = proc_pidfd(pid);

	if (fd < 0)
		return kill(pid, 0) == 0 || errno == EPERM;
	return !proc_pidfd_ended(fd);
}

/*
 * Takes the lock. One whose taker is dead is held by a child that it forked in its last moment and
 * that has not come to close what it inherited: that is waited for. -1 with whose it is.
 */
static int
take_lock(int fd, pid_t *pid)
{
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		/* The number of a dead one is still told while its child is of its session. */
		*pid = lock_holder(fd);
		if (*pid > 0 && is_alive(*pid))
			return -1;
		*pid = 0;
		usleep(LOCK_PAUSE_USEC);
	}
	return -1;
}

/* The guests' folder, and the lock on it: one daemon for a folder. */
static int
open_guests_dir(struct daemon *daemon, struct cij_error *err)
{
	const char *path = daemon->conf.guests_dir;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	pid_t pid = 0;

	daemon->sv.guests_fd = fd;
	if (fd < 0) {
		cij_error_errno(
			err, CIJ_E_FAILED, errno, "cannot open the guests' folder '%s'", path);
		return cij_error_hint(
			err, "make it ('mkdir -p %s'), or name another with --guests", path);
	}
	if (take_lock(fd, &pid) < 0) {
		cij_error_set(err, CIJ_E_FAILED, "another cijqemud serves '%s'", path);
		if (pid > 0)
			cij_error_set(err, CIJ_E_FAILED, "another cijqemud (pid %d) serves '%s'",
				(int)pid, path);
		return -1;
	}
	return 0;
}

/* Two daemons would take each other's sockets away. */
static int
lock_run_dir(struct daemon *daemon, struct cij_error *err)
{
	pid_t pid = 0;

	if (take_lock(daemon->run_fd, &pid) == 0)
		return 0;
	cij_error_set(err, CIJ_E_FAILED, "another cijqemud has its sockets in '%s'",
		daemon->conf.run_dir);
	return cij_error_hint(err, "--run-dir names another folder");
}

static int
open_folders(struct daemon *daemon, struct cij_error *err)
{
	if (open_guests_dir(daemon, err) < 0)
		return -1;
	daemon->run_fd = open_own_dir(daemon->conf.run_dir, geteuid() == 0 ? 0755 : 0700, err);
	if (daemon->run_fd < 0 || lock_run_dir(daemon, err) < 0)
		return -1;
	daemon->state_fd = open_own_dir(daemon->conf.state_dir, 0700, err);
	if (daemon->state_fd < 0)
		return cij_error_hint(err, "--state-dir names another folder");
	daemon->sv.run_fd = dir_make_at(daemon->run_fd, "guests", 0755);
	if (daemon->sv.run_fd < 0)
		return cij_error_errno(
			err, CIJ_E_FAILED, errno, "cannot make '%s/guests'", daemon->conf.run_dir);
	return 0;
}

static void
on_term(evutil_socket_t sig, short what, void *arg)
{
	struct daemon *daemon = arg;

	event_base_loopbreak(daemon->sv.base);
}

static void
on_hup(evutil_socket_t sig, short what, void *arg)
{
	struct daemon *daemon = arg;

	registry_scan(daemon->registry);
}

/* The gid of a group by its name or number, (gid_t)-1 where the machine has none. */
static gid_t
group_of(const char *name)
{
	gid_t gid;

	return id_parse(name, &gid) || group_id(name, &gid) ? gid : (gid_t)-1;
}

/* Every guest's state is known: from here on what we say is true. */
static void
on_adopted(void *arg)
{
	struct daemon *daemon = arg;
	struct registry_counts counts = registry_count(daemon->registry);
	struct cij_error err;

	daemon->server = server_new(
		daemon->run_fd, group_of(daemon->conf.group), daemon->registry, &err);
	if (!daemon->server) {
		log_error("%s", err.desc);
		daemon->failed = true;
		event_base_loopbreak(daemon->sv.base);
		return;
	}
	lease_reset_begin(daemon->registry);
	daemon->metrics = metrics_new(daemon->sv.base, daemon->run_fd,
		geteuid() == 0 && !daemon->conf.user_only, daemon->registry, &err);
	if (!daemon->metrics)
		log_warn("no metrics: %s", err.desc);
	log_id(LOG_ID_READY, LOG_NOTICE, "ready: %zu guests under %s, %zu running; socket %s/%s",
		counts.total, daemon->conf.guests_dir, counts.running, daemon->conf.run_dir,
		CIJ_SOCKET_NAME);
	service_ready(daemon->service);
}

/* A guest takes ten descriptors, a viewer one: as many as the machine allows. */
static void
raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static struct event *
watch_signal(struct daemon *daemon, int sig, event_callback_fn fn)
{
	struct event *event = evsignal_new(daemon->sv.base, sig, fn, daemon);

	if (!event || event_add(event, NULL) < 0)
		abort();
	return event;
}

static void
set_up(struct daemon *daemon)
{
	struct services *sv = &daemon->sv;

	signal(SIGPIPE, SIG_IGN);
	umask(0077);
	raise_limits();
	as_owner_init();
	proc_init();
	sv->base = event_base_new();
	if (!sv->base)
		abort();
	sv->conf = &daemon->conf;
	sv->rule = (struct access_rule){geteuid(), group_of(daemon->conf.admin_group)};
	sv->notify = notify_new();
	sv->history = history_new(daemon->state_fd);
	sv->names = names_new(sv->base, "/proc/self/exe");
	sv->leases = leases_new(sv->base, daemon->state_fd, sv->notify);
	sv->ports = ports_new(daemon->conf.port_first, daemon->conf.port_last);
	sv->admission = admission_new(&daemon->conf, NULL);
	sv->probes = probes_new(sv->base);
	sv->consoles = console_hub_new(sv->base);
	sv->logcuts = logcuts_new(sv->base);
	sv->removals = removals_new(sv->base, sv->guests_fd);
	daemon->registry = registry_new(sv);
	daemon->service = service_new(daemon->registry);
	daemon->term = watch_signal(daemon, SIGTERM, on_term);
	daemon->intr = watch_signal(daemon, SIGINT, on_term);
	daemon->hup = watch_signal(daemon, SIGHUP, on_hup);
}

static void
tear_down(struct daemon *daemon)
{
	struct services *sv = &daemon->sv;

	leases_close(sv->leases);
	server_free(daemon->server);
	names_free(sv->names);
	metrics_free(daemon->metrics);
	service_free(daemon->service);
	kernel_forget_all();
	removals_free(sv->removals);
	registry_close(daemon->registry);
	host_forget_all();
	lease_reset_forget_all();
	console_hub_free(sv->consoles);
	logcuts_free(sv->logcuts);
	probes_free(sv->probes); /* requests that wait for them end, and may look for guests */
	registry_free(daemon->registry);
	proc_forget_all();
	monitor_forget_all();
	ports_free(sv->ports);
	admission_free(sv->admission);
	notify_free(sv->notify);
	history_free(sv->history);
	leases_free(sv->leases);
	event_free(daemon->term);
	event_free(daemon->intr);
	event_free(daemon->hup);
	event_base_free(sv->base);
	libevent_global_shutdown();
}

static int
run(struct daemon *daemon)
{
	struct registry_counts counts;

	set_up(daemon);
	registry_scan(daemon->registry);
	registry_adopt(daemon->registry, on_adopted, daemon);
	if (!daemon->failed)
		event_base_dispatch(daemon->sv.base);
	service_stopping(daemon->service);
	counts = registry_count(daemon->registry);
	if (!daemon->failed)
		log_notice("stopping; %zu guests go on", counts.running);
	unlinkat(daemon->run_fd, METRICS_SOCKET_NAME, 0);
	tear_down(daemon);
	return daemon->failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int
complain(const struct cij_error *err)
{
	fprintf(stderr, "cijqemud: %s%s%s\n", err->desc, *err->hint ? "; " : "", err->hint);
	return cij_error_exit_code(err->class);
}

int
main(int argc, char **argv)
{
	struct daemon daemon = {
		.run_fd = -1, .state_fd = -1, .sv = {.guests_fd = -1, .run_fd = -1}};
	struct cij_error err;
	int ret;

	if (argc > 1 && strcmp(argv[1], "--launch") == 0)
		return launch_main(argc - 2, argv + 2);
	if (argc > 1 && strcmp(argv[1], "--resolve") == 0)
		return names_resolve_main(argc - 2, argv + 2);
	if (argc > 1 && strcmp(argv[1], "--remove") == 0)
		return removal_main();
	if (daemon_conf_parse(&daemon.conf, argc, argv, geteuid(), env, &err) < 0) {
		ret = complain(&err);
	} else if (daemon.conf.help) {
		fputs(daemon_conf_usage, stdout);
		ret = EXIT_SUCCESS;
	} else if (daemon.conf.version) {
		printf("cijqemud %s\n", CIJ_VERSION);
		ret = EXIT_SUCCESS;
	} else if (daemon.conf.check) {
		ret = check_run(&daemon.conf);
	} else if (log_init(daemon.conf.verbose), open_folders(&daemon, &err) < 0) {
		ret = complain(&err);
	} else {
		ret = run(&daemon);
	}
	if (daemon.sv.guests_fd >= 0)
		close(daemon.sv.guests_fd);
	if (daemon.sv.run_fd >= 0)
		close(daemon.sv.run_fd);
	if (daemon.run_fd >= 0)
		close(daemon.run_fd);
	if (daemon.state_fd >= 0)
		close(daemon.state_fd);
	daemon_conf_clear(&daemon.conf);
	return ret;
}
