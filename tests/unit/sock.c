/* daemon/sock: listening without a race, modes whatever the umask, who is at the other end. */
#include "tests/unit/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/sock.h"

static void
a_socket_has_exactly_its_mode(void **state)
{
	static const mode_t modes[] = {0600, 0660, 0666}, umasks[] = {0, 022, 077, 0777};
	struct cij_error err;
	struct stat st;

	for (size_t m = 0; m < cij_array_size(modes); m++)
		for (size_t u = 0; u < cij_array_size(umasks); u++) {
			mode_t was = umask(umasks[u]);
			_cleanup_close_ int fd = sock_listen_at(dir, "s", modes[m], &err);

			umask(was);
			assert_true(fd >= 0);
			assert_int_equal(fstatat(dir, "s", &st, AT_SYMLINK_NOFOLLOW), 0);
			assert_int_equal(st.st_mode, S_IFSOCK | modes[m]);
			assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
			assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		}
}

static void
connects_and_knows_its_peer(void **state)
{
	struct cij_error err;
	_cleanup_close_ int listener = sock_listen_at(dir, "s", 0600, &err), client = -1,
			    server = -1;
	struct peer peer;

	assert_int_equal(sock_accept(listener), -1); /* nobody yet: does not wait */
	assert_int_equal(errno, EAGAIN);
	client = sock_connect_at(dir, "s");
	assert_true(client >= 0);
	server = sock_accept(listener);
	assert_true(server >= 0);
	assert_true(fcntl(server, F_GETFL) & O_NONBLOCK);
	assert_int_equal(sock_peer(server, &peer), 0);
	assert_int_equal(peer.uid, getuid());
	assert_int_equal(peer.gid, getgid());
	assert_int_equal(peer.pid, getpid());
	assert_true(peer_in_group(&peer, getgid()));
	gid_t groups[PEER_GROUPS_MAX];
	int n = getgroups(PEER_GROUPS_MAX, groups);
	for (int i = 0; i < n; i++)
		assert_true(peer_in_group(&peer, groups[i]));
	assert_int_equal(sock_peer(dir, &peer), -1); /* no socket */
}

/* Whatever handle somebody has on a name: who listens under it, the kernel says. */
static void
tells_who_listens_under_a_name(void **state)
{
	struct cij_error err;
	_cleanup_close_ int one = sock_listen_at(dir, "one", 0600, &err),
			    other = sock_listen_at(dir, "other", 0600, &err),
			    client = sock_connect_at(dir, "one");
	struct stat name, st;

	assert_int_equal(fstatat(dir, "one", &name, 0), 0);
	assert_int_equal(fstat(one, &st), 0);
	assert_true(sock_listens_on(st.st_ino, &name));
	assert_int_equal(fstat(other, &st), 0);
	assert_false(sock_listens_on(st.st_ino, &name));
	assert_int_equal(fstat(client, &st), 0);
	assert_false(sock_listens_on(st.st_ino, &name));
	assert_false(sock_listens_on(name.st_ino, &name)); /* no socket's */
	name.st_dev++;
	assert_int_equal(fstat(one, &st), 0);
	assert_false(sock_listens_on(st.st_ino, &name));
}

static void
what_a_dead_daemon_left_is_replaced(void **state)
{
	struct cij_error err;
	_cleanup_close_ int first = sock_listen_at(dir, "s", 0600, &err), second = -1, client = -1;

	close(steal_fd(&first));
	assert_int_equal(sock_connect_at(dir, "s"), -1);
	assert_int_equal(errno, ECONNREFUSED);
	/* Half way: bound under its other name, and killed. */
	assert_int_equal(linkat(dir, "s", dir, ".s", 0), 0);
	second = sock_listen_at(dir, "s", 0600, &err);
	assert_true(second >= 0);
	client = sock_connect_at(dir, "s");
	assert_true(client >= 0);
	assert_int_equal(faccessat(dir, ".s", F_OK, AT_SYMLINK_NOFOLLOW), -1);
}

static void
failures_name_the_socket(void **state)
{
	struct cij_error err;
	char name[120];

	assert_int_equal(mkdirat(dir, "folder", 0700), 0);
	assert_int_equal(sock_listen_at(dir, "folder", 0600, &err), -1);
	assert_int_equal(err.class, CIJ_E_INTERNAL);
	assert_string_equal(err.desc, "cannot listen on socket 'folder': Is a directory");
	assert_int_equal(faccessat(dir, ".folder", F_OK, AT_SYMLINK_NOFOLLOW), -1);
	assert_int_equal(sock_connect_at(dir, "none"), -1);
	assert_int_equal(errno, ENOENT);
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(sock_connect_at(dir, name), -1);
	assert_int_equal(errno, ENAMETOOLONG);
}

int
main(void)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, begin, end)
	const struct CMUnitTest tests[] = {
		T(a_socket_has_exactly_its_mode),
		T(connects_and_knows_its_peer),
		T(tells_who_listens_under_a_name),
		T(what_a_dead_daemon_left_is_replaced),
		T(failures_name_the_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
