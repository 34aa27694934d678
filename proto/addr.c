#include "proto/addr.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "cijqemu/cleanup.h"
#include "cijqemu/protocol.h"

int
cij_unix_connect(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -1, dir = -1;

	if (strlen(path) < sizeof(addr.sun_path)) {
		strcpy(addr.sun_path, path);
	} else {
		/* Too long for an address: go through a descriptor of its folder. */
		_cleanup_free_ char *copy = strdup(path), *copy2 = strdup(path);

		if (!copy || !copy2)
			abort();
		dir = open(dirname(copy), O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (dir < 0)
			return -1;
		if ((size_t)snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/%s",
			    dir, basename(copy2)) >= sizeof(addr.sun_path)) {
			errno = ENAMETOOLONG;
			return -1;
		}
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -1;
	return steal_fd(&fd);
}

char *
cij_run_dir_default(unsigned uid)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	char *dir;
	int n;

	if (uid == 0)
		n = asprintf(&dir, "%s", CIJ_SYSTEM_RUN_DIR);
	else if (xdg && *xdg == '/')
		n = asprintf(&dir, "%s/cijqemu", xdg);
	else
		n = asprintf(&dir, "/tmp/cijqemu-%u", uid);
	if (n < 0)
		abort();
	return dir;
}

static int
unreachable(struct cij_error *err, const char *path, int errnum)
{
	if (errnum == EACCES || errnum == EPERM) {
		cij_error_set(
			err, CIJ_E_UNREACHABLE, "may not open the daemon's socket '%s'", path);
		return cij_error_hint(err,
			"ask an admin to add you to group cijqemu, or run your own 'cijqemud'");
	}
	cij_error_errno(err, CIJ_E_UNREACHABLE, errnum, "no daemon at '%s'", path);
	return cij_error_hint(err,
		"'systemctl start cijqemud' starts the machine's, 'cijqemud' your "
		"own; --socket names another");
}

/* Connects to the daemon of the user who runs us; -1 when there is none that can be trusted. */
static int
connect_own(void)
{
	_cleanup_free_ char *dir = cij_run_dir_default(getuid());
	_cleanup_free_ char *path = NULL;
	struct stat st;

	if (asprintf(&path, "%s/%s", dir, CIJ_SOCKET_NAME) < 0)
		abort();
	if (lstat(dir, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != getuid())
		return -1;
	return cij_unix_connect(path);
}

/* The socket beside it that is for everybody, to look only; -1 with EACCES where there is none. */
static int
connect_read_only(const char *path)
{
	size_t len = strlen(path), name = strlen(CIJ_SOCKET_NAME);
	_cleanup_free_ char *beside = NULL;
	int fd = -1;

	if (len >= name && strcmp(path + len - name, CIJ_SOCKET_NAME) == 0) {
		if (asprintf(&beside, "%.*s%s", (int)(len - name), path, CIJ_SOCKET_RO_NAME) < 0)
			abort();
		fd = cij_unix_connect(beside);
	}
	if (fd < 0)
		errno = EACCES;
	return fd;
}

int
cij_daemon_connect(const char *path, struct cij_error *err)
{
	const char *env = getenv("CIJQEMU_SOCKET");
	int fd;

	if (!path && env && *env)
		path = env;
	if (!path && getuid() != 0 && (fd = connect_own()) >= 0)
		return fd;
	if (!path)
		path = CIJ_SYSTEM_RUN_DIR "/" CIJ_SOCKET_NAME;
	fd = cij_unix_connect(path);
	if (fd < 0 && errno == EACCES)
		fd = connect_read_only(path);
	if (fd < 0)
		unreachable(err, path, errno);
	return fd;
}
