/*
 * daemon/proc, launch, image and probe_trial: processes started, watched, adopted and let go;
 * backing files made; a QEMU asked. This program stands in for cijqemud, which executes itself with
 * --launch.
 */
#include "tests/unit/loop.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "daemon/image.h"
#include "daemon/launch.h"
#include "daemon/probe_trial.h"
#include "daemon/proc.h"

static char *top;
static int dir = -1;
static int n_exits;
static struct proc_exit how;
static struct proc *proc;
static bool free_in_exit;

static int
begin(void **state)
{
	top = folder_make();
	dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	loop = event_base_new();
	n_exits = 0;
	free_in_exit = false;
	return dir < 0;
}

/* The same on a kernel that has no pidfd. */
static int
begin_on_old_kernel(void **state)
{
	proc_init();
	proc_pretend_old_kernel(true);
	return begin(state);
}

static int
end(void **state)
{
	proc_free(proc);
	proc = NULL;
	proc_forget_all();
	proc_pretend_old_kernel(false);
	event_base_free(loop);
	close(dir);
	folder_remove(top);
	return 0;
}

static void
on_exit_(void *arg, const struct proc_exit *exit)
{
	assert_ptr_equal(arg, &n_exits);
	n_exits++;
	how = *exit;
	if (free_in_exit) {
		proc_free(proc);
		proc = NULL;
	}
}

/* Runs @script in a shell; what it prints goes into the file "out" of the folder. */
static void
spawn_binary(const char *binary, const char *script)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	_cleanup_close_ int out = openat(
		dir, "out", O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
	char *argv[] = {(char *)binary, (char *)"-c", (char *)script, NULL};
	struct proc_spec spec = {.argv = argv,
		.fds = {null, out, out},
		.n_fds = 3,
		.cwd_fd = dir,
		.uid = getuid(),
		.gid = getgid()};
	struct cij_error err;

	proc = proc_spawn(loop, &spec, on_exit_, &n_exits, &err);
	assert_non_null(proc);
	assert_true(proc_pid(proc) > 0);
}

static void
spawn(const char *script)
{
	spawn_binary("/bin/sh", script);
}

static const char *
printed(void)
{
	static char text[4096];
	_cleanup_close_ int fd = openat(dir, "out", O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	assert_true(n >= 0);
	text[n] = '\0';
	return text;
}

static void
exit_codes(void **state)
{
	spawn("exit 3");
	loop_until(n_exits);
	assert_true(how.known && !how.signaled);
	assert_int_equal(how.code, 3);
	loop_settle(5);
	assert_int_equal(n_exits, 1);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* reaped */
}

static void
signals(void **state)
{
	spawn("kill -SEGV $$");
	loop_until(n_exits);
	assert_true(how.known && how.signaled);
	assert_int_equal(how.code, SIGSEGV);
	proc_free(proc);
	n_exits = 0;
	spawn("exec sleep 1000");
	assert_int_equal(proc_signal(proc, 0), 0);
	assert_int_equal(proc_signal(proc, SIGKILL), 0);
	loop_until(n_exits);
	assert_int_equal(how.code, SIGKILL);
	assert_int_equal(proc_signal(proc, SIGKILL), -1);
	assert_int_equal(errno, ESRCH);
}

static void
count_signal(evutil_socket_t sig, short what, void *arg)
{
	++*(int *)arg;
}

static void
a_signal_before_exec_is_none_to_us(void **state)
{
	int n_told = 0;
	struct event *term = evsignal_new(loop, SIGTERM, count_signal, &n_told);

	assert_int_equal(event_add(term, NULL), 0);
	for (int i = 0; i < 50; i++) {
		n_exits = 0;
		spawn("exec sleep 1000");
		assert_int_equal(proc_signal(proc, SIGTERM), 0);
		loop_until(n_exits);
		assert_true(how.signaled && how.code == SIGTERM);
		proc_free(proc);
		proc = NULL;
	}
	loop_settle(2);
	assert_int_equal(n_told, 0);
	event_free(term);
}

/* The test's pipe, and the word behind -c. */
struct mark {
	char script[64];
	struct stat pipe;
};

/* As a daemon tells its guest's process from others. */
static bool
has_mark(pid_t pid, void *arg)
{
	const struct mark *mark = arg;
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd/1", (int)pid);
	return (proc_has_option(pid, "-c", mark->script) || proc_is_wordless(pid)) &&
	       stat(path, &st) == 0 && st.st_ino == mark->pipe.st_ino &&
	       st.st_dev == mark->pipe.st_dev;
}

static void
found_by_its_words_or_gone_when_we_die(void **state)
{
	struct mark mark;

	snprintf(mark.script, sizeof(mark.script), "kill -STOP $$ # %d", (int)getpid());
	for (int i = 0; i < 100; i++) {
		struct pollfd lives;
		int pipes[2];
		pid_t child, found;

		assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
		child = fork();
		if (child == 0) {
			char *argv[] = {(char *)"/bin/sh", (char *)"-c", mark.script, NULL};
			struct proc_spec spec = {.argv = argv,
				.fds = {pipes[1], pipes[1], pipes[1]},
				.n_fds = 3,
				.cwd_fd = dir,
				.uid = getuid(),
				.gid = getgid()};
			struct cij_error err;

			(void)proc_spawn(loop, &spec, on_exit_, NULL, &err);
			usleep((useconds_t)i * 20);
			(void)raise(SIGKILL);
		}
		assert_int_equal(fstat(pipes[1], &mark.pipe), 0);
		close(pipes[1]);
		assert_int_equal(waitpid(child, NULL, 0), child);
		found = proc_find(has_mark, &mark);
		if (found)
			kill(found, SIGKILL);
		/* Its end closes the pipe: there is nothing more. */
		lives = (struct pollfd){pipes[0], POLLIN};
		assert_int_equal(poll(&lives, 1, LOOP_HANG_SECONDS * 1000), 1);
		close(pipes[0]);
	}
}

static void
freed_inside_its_callback(void **state)
{
	free_in_exit = true;
	spawn("exit 0");
	loop_until(n_exits);
	assert_null(proc);
}

static void
what_a_child_starts_with(void **state)
{
	/* Blocked signals and open files of ours are not for it. */
	_cleanup_close_ int leak = open("/dev/null", O_RDONLY);
	sigset_t set, was;
	char want[512];

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, &was);
	setenv("SECRET", "x", 1);
	spawn("cd -P . && pwd; echo /proc/self/fd/*; grep SigBlk /proc/self/status; ulimit -c; "
	      "umask; "
	      "echo \"$SECRET$HOME $LANG\"; test $(cut -d' ' -f6 /proc/$$/stat) = $$ && echo "
	      "leader");
	sigprocmask(SIG_SETMASK, &was, NULL);
	unsetenv("SECRET");
	loop_until(n_exits);
	snprintf(want, sizeof(want),
		"%s\n/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3\n"
		"SigBlk:\t0000000000000000\n0\n0077\n/ C.UTF-8\nleader\n",
		top);
	assert_string_equal(printed(), want);
}

static void
a_binary_that_is_not_there(void **state)
{
	spawn_binary("/nowhere/qemu", "");
	loop_until(n_exits);
	assert_int_equal(how.code, LAUNCH_EXIT_FAILED);
	assert_string_equal(
		printed(), "cannot execute '/nowhere/qemu': No such file or directory\n");
}

static void
let_go_it_lives_on_and_is_reaped(void **state)
{
	pid_t pid;

	spawn("read x < pipe; exit 0"); /* until it is told */
	assert_int_equal(mkfifoat(dir, "pipe", 0600), 0);
	kill(proc_pid(proc), SIGKILL);
	loop_until(n_exits);
	proc_free(proc);
	spawn("read x < pipe; exit 0");
	pid = proc_pid(proc);
	proc_free(proc);
	proc = NULL;
	assert_int_equal(kill(pid, 0), 0);
	_cleanup_close_ int pipe_fd = openat(dir, "pipe", O_RDWR | O_CLOEXEC);
	say(pipe_fd, "go\n");
	loop_until(kill(pid, 0) < 0 && errno == ESRCH);
	assert_int_equal(n_exits, 1); /* nobody is told */
}

static void
an_adopted_process_ends_without_a_code(void **state)
{
	int pipes[2];
	struct cij_error err;
	pid_t child, grandchild = 0;

	/* One that is not our child: its parent ends at once. */
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		pid_t pid = fork();

		if (pid == 0) {
			execl("/bin/sleep", "sleep", "1000", NULL);
			_exit(127);
		}
		_exit(write(pipes[1], &pid, sizeof(pid)) != sizeof(pid));
	}
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(read(pipes[0], &grandchild, sizeof(grandchild)), sizeof(grandchild));
	close(pipes[0]);
	close(pipes[1]);
	proc = proc_adopt(loop, grandchild, on_exit_, &n_exits, &err);
	assert_non_null(proc);
	assert_int_equal(proc_pid(proc), grandchild);
	assert_int_equal(proc_signal(proc, SIGKILL), 0);
	loop_until(n_exits);
	assert_false(how.known);
	child = fork(); /* one that is gone for sure */
	if (child == 0)
		_exit(0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_null(proc_adopt(loop, child, on_exit_, &n_exits, &err));
	assert_int_equal(err.class, CIJ_E_INTERNAL);
}

static void
a_zombie_has_ended_for_its_pidfd(void **state)
{
	_cleanup_close_ int fd = -1;
	siginfo_t info;
	pid_t child = fork();

	if (child == 0) {
		alarm(60); /* should the test fail before it is ended */
		pause();
		_exit(0);
	}
	fd = proc_pidfd(child);
	assert_true(fd >= 0);
	assert_false(proc_pidfd_ended(fd));
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	assert_true(proc_pidfd_ended(fd));
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_true(proc_pidfd_ended(fd));
	assert_false(proc_pidfd_ended(-1));
}

static void
words_for_an_exit(void **state)
{
	const struct proc_exit code = {true, false, 1}, segv = {true, true, SIGSEGV},
			       odd = {true, true, 99}, unknown = {0};
	char buf[64];

	assert_string_equal(proc_exit_text(&code, buf, sizeof(buf)), "exit code 1");
	assert_string_equal(proc_exit_text(&segv, buf, sizeof(buf)), "signal 11 (SEGV)");
	assert_string_equal(proc_exit_text(&odd, buf, sizeof(buf)), "signal 99 (?)");
	assert_string_equal(proc_exit_text(&unknown, buf, sizeof(buf)), "exit code unknown");
}

static void
launch_is_for_the_daemon_alone(void **state)
{
	char binary[] = "/bin/true", bad[] = "root";
	char *none[] = {NULL}, *wrong[] = {bad, binary, NULL};
	int was = dup(2), null = open("/dev/null", O_WRONLY);

	dup2(null, 2); /* its words are for a log */
	assert_int_equal(launch_main(0, none), LAUNCH_EXIT_FAILED);
	assert_int_equal(launch_main(2, wrong), LAUNCH_EXIT_FAILED);
	dup2(was, 2);
	close(was);
	close(null);
}

static int n_done;
static struct cij_error image_err;

static void
on_image_done(void *arg, const struct cij_error *err)
{
	n_done++;
	image_err = err ? *err : (struct cij_error)CIJ_ERROR_INIT;
}

static void
on_image_progress(void *arg, const char *text)
{
}

static const struct image_ops image_ops = {on_image_progress, on_image_done};

/* Sees to the files of @devices for a QEMU with @caps. */
static void
make_images(const struct device_conf *devices, size_t n, struct qemu_caps caps, const char *qemu)
{
	struct image_spec spec = {.devices = devices,
		.n_devices = n,
		.caps = caps,
		.qemu = qemu,
		.dir_fd = dir,
		.uid = getuid(),
		.gid = getgid(),
		.guest = "g"};
	struct image_job *job;

	n_done = 0;
	job = image_job_new(loop, &spec, &image_ops, NULL);
	loop_until(n_done);
	loop_settle(2);
	assert_int_equal(n_done, 1);
	image_job_free(job);
}

/* How many names are in the folder. */
static int
count_files(void)
{
	_cleanup_closedir_ DIR *d = opendir(top);
	int n = 0;

	while (readdir(d))
		n++;
	return n - 2;
}

#define NVME_CAPS ((struct qemu_caps){.version = "7.2", .nvme = true, .nvme_ns = true})

static void
images_are_sparse_and_of_their_size(void **state)
{
	struct device_conf devices[] = {
		{.id = (char *)"a", .type = DEVICE_NVME, .mdts = 7, .size = 8LL << 30},
		{.id = (char *)"b", .type = DEVICE_NVME, .mdts = 7, .size = 1 << 20}};
	struct stat st;

	make_images(devices, 2, NVME_CAPS, "/q/qemu");
	assert_int_equal(image_err.class, CIJ_E_NONE);
	assert_int_equal(fstatat(dir, "a.img", &st, 0), 0);
	assert_true(st.st_size == 8LL << 30);
	assert_true(st.st_blocks * 512 < 1 << 20);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(count_files(), 4); /* with a record each; nothing left over */
	make_images(devices, 2, NVME_CAPS, "/q/qemu"); /* what is there and fits stays */
	assert_int_equal(image_err.class, CIJ_E_NONE);
	make_images(NULL, 0, NVME_CAPS, "/q/qemu");
	assert_int_equal(image_err.class, CIJ_E_NONE);
}

static void
an_image_of_another_size_is_not_touched(void **state)
{
	struct device_conf d = {
		.id = (char *)"a", .type = DEVICE_NVME, .mdts = 7, .size = 8LL << 30};
	struct stat st;

	make_images(&d, 1, NVME_CAPS, "/q/qemu");
	d.size = 4LL << 30;
	make_images(&d, 1, NVME_CAPS, "/q/qemu");
	assert_int_equal(image_err.class, CIJ_E_BAD_CONFIG);
	assert_string_equal(image_err.desc,
		"drive 'a': 'a.img' was made as type nvme, size 8G; guest.json wants type nvme, "
		"size 4G");
	assert_has(image_err.hint, "device format g a");
	assert_int_equal(fstatat(dir, "a.img", &st, 0), 0);
	assert_true(st.st_size == 8LL << 30);
}

static void
an_image_that_is_no_file(void **state)
{
	struct device_conf d = {.id = (char *)"a", .type = DEVICE_NVME, .mdts = 7, .size = 1 << 20};

	assert_int_equal(mkfifoat(dir, "a.img", 0600), 0);
	make_images(&d, 1, NVME_CAPS, "/q/qemu");
	assert_int_equal(image_err.class, CIJ_E_BAD_CONFIG);
	assert_has(image_err.desc, "'a.img' is no regular file");
}

static void
a_failed_qemu_img_leaves_nothing(void **state)
{
	struct qemu_caps caps = {.version = "3.1.50", .dialect = DIALECT_LIGHTNVM};
	struct device_conf d = {.id = (char *)"a", .type = DEVICE_OCSSD, .mdts = 7};
	char qemu[128];
	_cleanup_close_ int fd = -1;
	int before;

	make_images(&d, 1, caps, "/nowhere/qemu");
	assert_int_equal(image_err.class, CIJ_E_QEMU_FAILED);
	assert_has(image_err.desc, "drive 'a'");
	assert_has(image_err.desc, "/nowhere/qemu-img");
	assert_int_equal(count_files(), 0);
	/* One that makes half a file, then dies with words. */
	fd = openat(dir, "qemu-img", O_WRONLY | O_CREAT, 0755);
	say(fd, "#!/bin/sh\nfor last; do :; done\necho half > \"$last\"\necho 'disk on fire' >&2\n"
		"exit 1\n");
	close(steal_fd(&fd));
	snprintf(qemu, sizeof(qemu), "%s/qemu", top);
	before = count_files();
	make_images(&d, 1, caps, qemu);
	assert_int_equal(image_err.class, CIJ_E_QEMU_FAILED);
	assert_has(image_err.desc, "disk on fire");
	assert_int_equal(count_files(), before);
}

static void
a_job_that_is_cancelled_is_quiet(void **state)
{
	struct device_conf d = {.id = (char *)"a", .type = DEVICE_NVME, .mdts = 7, .size = 1 << 20};
	struct image_spec spec = {.devices = &d,
		.n_devices = 1,
		.caps = NVME_CAPS,
		.qemu = "/q/qemu",
		.dir_fd = dir,
		.uid = getuid(),
		.gid = getgid()};

	n_done = 0;
	image_job_free(image_job_new(loop, &spec, &image_ops, NULL));
	loop_settle(5);
	assert_int_equal(n_done, 0);
	image_job_free(NULL);
}

/* daemon/probe_trial */

static struct qemu_caps said;
static struct cij_error trouble;

static void
on_trials_done(void *arg, const struct qemu_caps *caps, const struct cij_error *err)
{
	n_done++;
	said = caps ? *caps : (struct qemu_caps){0};
	trouble = *err;
}

/* Something that greets and has an empty answer to each command. */
static char *
make_mute_qemu(void)
{
	static const char script[] = "#!/bin/sh\n"
				     "echo '{\"QMP\": {\"version\": {\"qemu\": {\"major\": 7}}, "
				     "\"capabilities\": []}}'\n"
				     "while read -r line; do\n"
				     "\tid=${line##*\\\"id\\\":}\n"
				     "\techo \"{\\\"return\\\": [], \\\"id\\\": ${id%%[,\\}]*}}\"\n"
				     "done\n";
	_cleanup_close_ int fd = openat(dir, "qemu", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);

	assert_int_equal(write(fd, script, strlen(script)), strlen(script));
	return str_printf("%s/qemu", top);
}

/* With ever more room for descriptors: for no run of it, for the one without KVM, for both. */
static void
no_room_to_ask_qemu_is_not_qemus_fault(void **state)
{
	_cleanup_free_ char *qemu = make_mute_qemu();
	struct rlimit before, low;
	int failures = 0;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	low = before;
	for (low.rlim_cur = (rlim_t)dir + 2; low.rlim_cur < (rlim_t)dir + 64; low.rlim_cur++) {
		struct trials *trials;

		n_done = 0;
		setrlimit(RLIMIT_NOFILE, &low);
		trials = trials_new(loop, qemu, getuid(), getgid(), dir, on_trials_done, NULL);
		setrlimit(RLIMIT_NOFILE, &before);
		loop_until(n_done);
		trials_free(trials);
		if (*said.version)
			break;
		assert_int_equal(trouble.class, CIJ_E_NO_RESOURCES);
		failures++;
	}
	assert_true(failures > 0);
	assert_string_equal(said.version, "7.0.0");
	assert_null(strstr(said.kvm_why, "cannot"));
}

int
main(int argc, char **argv)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, begin, end)
#define OLD(name_) \
	{ \
#name_ "_on_an_old_kernel", name_, begin_on_old_kernel, end, NULL \
	}
	const struct CMUnitTest tests[] = {
		T(exit_codes),
		T(signals),
		T(a_signal_before_exec_is_none_to_us),
		T(found_by_its_words_or_gone_when_we_die),
		T(freed_inside_its_callback),
		T(what_a_child_starts_with),
		T(a_binary_that_is_not_there),
		T(let_go_it_lives_on_and_is_reaped),
		T(an_adopted_process_ends_without_a_code),
		T(a_zombie_has_ended_for_its_pidfd),
		T(words_for_an_exit),
		OLD(exit_codes),
		OLD(signals),
		OLD(a_signal_before_exec_is_none_to_us),
		OLD(freed_inside_its_callback),
		OLD(what_a_child_starts_with),
		OLD(a_binary_that_is_not_there),
		OLD(let_go_it_lives_on_and_is_reaped),
		OLD(an_adopted_process_ends_without_a_code),
		T(launch_is_for_the_daemon_alone),
		T(images_are_sparse_and_of_their_size),
		T(an_image_of_another_size_is_not_touched),
		T(an_image_that_is_no_file),
		T(a_failed_qemu_img_leaves_nothing),
		T(a_job_that_is_cancelled_is_quiet),
		T(no_room_to_ask_qemu_is_not_qemus_fault),
	};

	if (argc > 2 && strcmp(argv[1], "--launch") == 0)
		return launch_main(argc - 2, argv + 2);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
