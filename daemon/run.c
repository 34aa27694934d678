#include "daemon/run.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "daemon/clock.h"
#include "daemon/fileio.h"
#include "proto/json.h"

/* A record holds an argument vector of a few KiB. */
#define RECORD_MAX (256 * 1024)
#define RECORD_DEPTH_MAX 24

/* Runs removed at one start: more are a planted folder's, and would hold up the other guests. */
#define PRUNE_MAX 1000

/* Of "NNNN.run.json", with room. */
#define FILE_NAME_SIZE 64

static const char *const suffixes[] = {"out", "in", "index", "qemu", "run.json"};

void
run_clear(struct run *run)
{
	free(run->qemu);
	free(run->version);
	free(run->dialect);
	free(run->accel_why);
	free(run->error);
	json_object_put(run->argv);
	json_object_put(run->config);
	json_object_put(run->devices);
	*run = (struct run){0};
}

static void
file_name(char *buf, size_t size, unsigned number, const char *suffix)
{
	snprintf(buf, size, "%04u.%s", number, suffix);
}

/*
 * The run's number in "NNNN.out" or "NNNN.qemu", spelled as we do; 0 for other names. The first and
 * the last file that a run is given: one whose log was deleted is a run all the same.
 */
static unsigned
number_of(const char *name)
{
	static const char *const counted[] = {"out", "qemu"};
	char own[FILE_NAME_SIZE];
	unsigned long n;

	if (!isdigit((unsigned char)name[0]))
		return 0;
	n = strtoul(name, NULL, 10);
	if (n > RUN_NUMBER_MAX)
		return 0;
	for (size_t i = 0; i < cij_array_size(counted); i++) {
		file_name(own, sizeof(own), (unsigned)n, counted[i]);
		if (strcmp(own, name) == 0)
			return (unsigned)n;
	}
	return 0;
}

/* Every run's number in @logs, some of them twice. Heap array; its length goes to *@n. */
static unsigned *
all_numbers(int logs, size_t *n)
{
	_cleanup_closedir_ DIR *dir = NULL;
	struct dirent *entry;
	unsigned *numbers = NULL;
	size_t room = 0;
	int fd = openat(logs, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	*n = 0;
	if (fd < 0)
		return NULL;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return NULL;
	}
	while ((entry = readdir(dir))) {
		unsigned number = number_of(entry->d_name);

		if (!number)
			continue;
		if (*n == room) {
			room = room ? 2 * room : 32;
			numbers = realloc(numbers, room * sizeof(*numbers));
			if (!numbers)
				abort();
		}
		numbers[(*n)++] = number;
	}
	return numbers;
}

unsigned
run_newest(int dir_fd)
{
	_cleanup_close_ int logs = dir_open_at(dir_fd, "logs");
	_cleanup_free_ unsigned *numbers = NULL;
	unsigned newest = 0;
	size_t n = 0;

	if (logs >= 0)
		numbers = all_numbers(logs, &n);
	for (size_t i = 0; i < n; i++)
		if (numbers[i] > newest)
			newest = numbers[i];
	return newest;
}

static void
remove_run(int logs, unsigned number)
{
	char name[FILE_NAME_SIZE];

	for (size_t i = 0; i < cij_array_size(suffixes); i++) {
		file_name(name, sizeof(name), number, suffixes[i]);
		unlinkat(logs, name, 0);
		/* what a daemon that was ended in the middle of cutting it has left */
		snprintf(name, sizeof(name), ".%04u.%s.cut", number, suffixes[i]);
		unlinkat(logs, name, 0);
	}
}

static int
by_number(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return (x > y) - (x < y);
}

/* What a start that was cut short left without its .out; the record has been written anew. */
static void
remove_leftovers(int logs, unsigned number)
{
	char name[FILE_NAME_SIZE];

	for (size_t i = 0; i < cij_array_size(suffixes); i++)
		if (strcmp(suffixes[i], "run.json") != 0) {
			file_name(name, sizeof(name), number, suffixes[i]);
			unlinkat(logs, name, 0);
		}
}

/*
 * Leaves @keep runs, the newest. Looks once: what cannot be removed (an owner may put anything
 * here) stays.
 */
static void
prune(int logs, unsigned keep)
{
	size_t all, n = 0;
	_cleanup_free_ unsigned *numbers = all_numbers(logs, &all);

	if (!numbers)
		return;
	qsort(numbers, all, sizeof(*numbers), by_number);
	for (size_t i = 0; i < all; i++)
		if (n == 0 || numbers[n - 1] != numbers[i])
			numbers[n++] = numbers[i];
	if (n <= keep)
		return;
	for (size_t i = 0; i < n - keep && i < PRUNE_MAX; i++)
		remove_run(logs, numbers[i]);
}

/* Points the link @name to @target, unless a file of the owner's own has that name. */
static void
point_link(int dir_fd, const char *name, const char *target)
{
	char temporary[64];
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISLNK(st.st_mode))
		return;
	snprintf(temporary, sizeof(temporary), ".%s.new", name);
	unlinkat(dir_fd, temporary, 0);
	if (symlinkat(target, dir_fd, temporary) == 0)
		renameat(dir_fd, temporary, dir_fd, name);
}

/* A new file of the run, which gets @mode whatever the umask is. Its name goes to @name. */
static int
make_file(int logs, unsigned number, const char *suffix, int flags, mode_t mode,
	char name[FILE_NAME_SIZE])
{
	_cleanup_close_ int fd = -1;

	file_name(name, FILE_NAME_SIZE, number, suffix);
	fd = openat(logs, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | flags, mode);
	return fd < 0 || fchmod(fd, mode) < 0 ? -1 : steal_fd(&fd);
}

/* For both ways: opening never waits for QEMU, and writing never meets a FIFO without a reader. */
static int
make_fifo(int logs, unsigned number, char name[FILE_NAME_SIZE])
{
	file_name(name, FILE_NAME_SIZE, number, "in");
	if (mkfifoat(logs, name, 0600) < 0)
		return -1;
	return openat(logs, name, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
}

int
run_files_make(
	int dir_fd, unsigned number, unsigned keep, struct run_files *files, struct cij_error *err)
{
	_cleanup_close_ int logs = dir_make_at(dir_fd, "logs", 0755);
	char name[FILE_NAME_SIZE], link[80];

	if (logs < 0)
		return cij_error_errno(
			err, CIJ_E_NO_RESOURCES, errno, "cannot make the folder 'logs'");
	prune(logs, keep > 1 ? keep - 1 : 1);
	remove_leftovers(logs, number);
	if ((files->log_fd = make_file(logs, number, "out", 0, 0644, name)) < 0 ||
		(files->fifo_fd = make_fifo(logs, number, name)) < 0 ||
		(files->index_fd = make_file(logs, number, "index", 0, 0644, name)) < 0 ||
		(files->qemu_fd = make_file(logs, number, "qemu", O_APPEND, 0600, name)) < 0) {
		cij_error_errno(err, CIJ_E_NO_RESOURCES, errno, "cannot make 'logs/%s'", name);
		run_files_close(files);
		remove_run(logs, number);
		return -1;
	}
	/* Held by all who inherit it: run_lives(). Where locks are not to be had it tells nothing.
	 */
	flock(files->qemu_fd, LOCK_EX | LOCK_NB);
	snprintf(link, sizeof(link), "logs/%04u.out", number);
	point_link(dir_fd, "console.log", link);
	point_link(dir_fd, "console.out", "console.log");
	return 0;
}

/* For writing too, where the file lets its owner: else it can be read, but not kept in bounds. */
static int
open_rdwr_at(int dir_fd, const char *name)
{
	_cleanup_close_ int fd = openat(
		dir_fd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return file_open_read_at(dir_fd, name);
	return steal_fd(&fd);
}

void
run_files_open(int dir_fd, unsigned number, bool ended, struct run_files *files)
{
	_cleanup_close_ int logs = dir_open_at(dir_fd, "logs");
	char name[FILE_NAME_SIZE];
	struct stat st;

	if (logs < 0)
		return;
	file_name(name, sizeof(name), number, "out");
	files->log_fd = ended ? file_open_read_at(logs, name) : open_rdwr_at(logs, name);
	file_name(name, sizeof(name), number, "index");
	files->index_fd = ended ? file_open_read_at(logs, name) : open_rdwr_at(logs, name);
	file_name(name, sizeof(name), number, "qemu");
	files->qemu_fd = file_open_read_at(logs, name);
	if (ended)
		return;
	file_name(name, sizeof(name), number, "in");
	files->fifo_fd = openat(logs, name, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	if (files->fifo_fd >= 0 && (fstat(files->fifo_fd, &st) < 0 || !S_ISFIFO(st.st_mode))) {
		close(files->fifo_fd);
		files->fifo_fd = -1;
	}
}

static int
open_qemu_file(int dir_fd, unsigned number)
{
	_cleanup_close_ int logs = dir_open_at(dir_fd, "logs");
	char name[FILE_NAME_SIZE];

	file_name(name, sizeof(name), number, "qemu");
	return logs < 0 ? -1 : file_open_read_at(logs, name);
}

bool
run_lives(int dir_fd, unsigned number)
{
	_cleanup_close_ int fd = open_qemu_file(dir_fd, number);

	return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

bool
run_is_qemu_file(int dir_fd, unsigned number, const struct stat *st)
{
	_cleanup_close_ int fd = open_qemu_file(dir_fd, number);
	struct stat own;

	return fd >= 0 && fstat(fd, &own) == 0 && own.st_ino == st->st_ino &&
	       own.st_dev == st->st_dev;
}

void
run_files_close(struct run_files *files)
{
	int *all[] = {&files->log_fd, &files->fifo_fd, &files->index_fd, &files->qemu_fd};

	for (size_t i = 0; i < cij_array_size(all); i++) {
		if (*all[i] >= 0)
			close(*all[i]);
		*all[i] = -1;
	}
}

struct json_object *
run_exit_to_json(bool has_exit, const struct proc_exit *how)
{
	struct json_object *obj;

	if (!has_exit || !how->known)
		return NULL;
	obj = json_object_new_object();
	if (!how->signaled) {
		cij_json_add_int(obj, "code", how->code);
	} else {
		const char *abbrev = sigabbrev_np(how->code);
		_cleanup_free_ char *name = abbrev ? str_printf("SIG%s", abbrev) : NULL;

		cij_json_add_int(obj, "signal", how->code);
		cij_json_add_str(obj, "name", name);
	}
	return obj;
}

static const char *const asked_names[] = {
	[RUN_ASKED_NOTHING] = NULL,
	[RUN_ASKED_STOP] = "stop",
	[RUN_ASKED_KILL] = "kill",
	[RUN_ASKED_HOST_SHUTDOWN] = "host-shutdown",
};

static void
add_mono(struct json_object *obj, const char *name, double when)
{
	json_object_object_add(obj, name, when > 0 ? json_object_new_double(when) : NULL);
}

static struct json_object *
backoff_to_json(const struct backoff *backoff)
{
	struct json_object *obj = json_object_new_object();
	struct json_object *failures = json_object_new_array();

	cij_json_add_int(obj, "streak", backoff->streak);
	cij_json_add_bool(obj, "gave_up", backoff->gave_up);
	for (size_t i = 0; i < BACKOFF_FAILURES && backoff->failures[i] > 0; i++)
		json_object_array_add(failures, json_object_new_double(backoff->failures[i]));
	json_object_object_add(obj, "failures", failures);
	return obj;
}

/* A monotonic time; 0 for what is none. */
static double
mono_of(struct json_object *value)
{
	double when = 0;

	if (json_object_is_type(value, json_type_double) ||
		json_object_is_type(value, json_type_int))
		when = json_object_get_double(value);
	return when > 0 && when < 1e12 ? when : 0;
}

static double
load_mono(struct json_object *obj, const char *name)
{
	return mono_of(cij_json_get(obj, name));
}

static void
load_backoff(struct backoff *backoff, struct json_object *obj)
{
	struct json_object *failures = cij_json_get(obj, "failures");
	int64_t streak = cij_json_int(obj, "streak", 0);

	backoff->streak = streak > 0 && streak < 1000 ? (unsigned)streak : 0;
	backoff->gave_up = cij_json_bool(obj, "gave_up", false);
	if (!json_object_is_type(failures, json_type_array))
		return;
	for (size_t i = 0, n = 0; n < BACKOFF_FAILURES && i < json_object_array_length(failures);
		i++) {
		backoff->failures[n] = mono_of(json_object_array_get_idx(failures, i));
		n += backoff->failures[n] > 0;
	}
}

/* The life of the run on this boot of the host: what the next daemon goes on with. */
static void
load_times(struct run *run, struct json_object *obj)
{
	const char *asked = cij_json_str(obj, "asked"), *boot = cij_json_str(obj, "boot_id");
	int64_t restarts = cij_json_int(obj, "restarts", 0);

	run->this_boot = boot && strcmp(boot, clock_boot_id()) == 0;
	run->backoff.restarts = restarts > 0 && restarts < INT32_MAX ? (unsigned)restarts : 0;
	for (size_t i = 1; asked && i < cij_array_size(asked_names); i++)
		if (strcmp(asked, asked_names[i]) == 0)
			run->asked = i;
	if (!run->this_boot)
		return;
	run->up_at = load_mono(obj, "up_at");
	run->kill_at = load_mono(obj, "kill_at");
	run->restart_at = load_mono(obj, "restart_at");
	load_backoff(&run->backoff, cij_json_get(obj, "backoff"));
}

static void
add_time(struct json_object *obj, const char *name, time_t when)
{
	char buf[32];

	cij_json_add_str(obj, name, when ? clock_rfc3339(when, buf, sizeof(buf)) : NULL);
}

int
run_save(int dir_fd, const struct run *run, struct cij_error *err)
{
	_cleanup_json_ struct json_object *obj = json_object_new_object();
	_cleanup_close_ int logs = dir_open_at(dir_fd, "logs");
	struct json_object *by = json_object_new_object();
	const char *text;
	char name[FILE_NAME_SIZE];
	size_t len;

	cij_json_add_int(obj, "run", run->number);
	cij_json_add_str(obj, "qemu", run->qemu);
	cij_json_add_str(obj, "version", run->version);
	cij_json_add_str(obj, "dialect", run->dialect);
	cij_json_add_bool(obj, "kvm", run->kvm);
	cij_json_add_str(obj, "accel_why", run->accel_why);
	cij_json_add_int(obj, "port", run->port);
	cij_json_add_int(by, "uid", run->by_uid);
	cij_json_add_int(by, "pid", run->by_pid);
	json_object_object_add(obj, "by", by);
	add_time(obj, "started", run->started);
	add_time(obj, "ended", run->ended);
	cij_json_add_bool(obj, "automatic", run->automatic);
	cij_json_add_bool(obj, "paused", run->paused);
	cij_json_add_bool(obj, "up", run->up);
	cij_json_add_bool(obj, "cpus_run", run->cpus_run);
	add_time(obj, "cpus_since", run->cpus_since);
	cij_json_add_str(obj, "boot_id", clock_boot_id());
	add_mono(obj, "up_at", run->up_at);
	add_mono(obj, "kill_at", run->kill_at);
	add_mono(obj, "restart_at", run->restart_at);
	cij_json_add_str(obj, "asked", asked_names[run->asked]);
	cij_json_add_int(obj, "restarts", run->backoff.restarts);
	json_object_object_add(obj, "backoff", backoff_to_json(&run->backoff));
	cij_json_add_int(obj, "boot_ms", run->boot_ms);
	cij_json_add_str(obj, "reason", greason_name(run->reason));
	json_object_object_add(obj, "exit", run_exit_to_json(run->has_exit, &run->exit));
	cij_json_add_str(obj, "error", run->error);
	json_object_object_add(obj, "argv", json_object_get(run->argv));
	json_object_object_add(obj, "config", json_object_get(run->config));
	json_object_object_add(obj, "devices", json_object_get(run->devices));
	if (run->frozen)
		cij_json_add_bool(obj, "frozen", true);
	text = json_object_to_json_string_length(
		obj, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
	file_name(name, sizeof(name), run->number, "run.json");
	if (logs < 0 || file_write_at(logs, name, text, len, 0644) < 0)
		return cij_error_errno(
			err, CIJ_E_NO_RESOURCES, errno, "cannot write 'logs/%s'", name);
	return 0;
}

int
run_begin(int dir_fd, const struct run *run, struct cij_error *err)
{
	_cleanup_close_ int logs = dir_make_at(dir_fd, "logs", 0755);

	if (logs < 0)
		return cij_error_errno(
			err, CIJ_E_NO_RESOURCES, errno, "cannot make the folder 'logs'");
	return run_save(dir_fd, run, err);
}

static void
load_exit(struct run *run, struct json_object *exit)
{
	int64_t sig = cij_json_int(exit, "signal", -1), code = cij_json_int(exit, "code", -1);

	/* As wait(2) can tell them: another is not what happened. */
	bool signaled = sig > 0 && sig < NSIG;

	run->has_exit = signaled || (code >= 0 && code <= 255);
	run->exit = (struct proc_exit){
		run->has_exit, signaled, run->has_exit ? (int)(signaled ? sig : code) : 0};
}

int
run_load(int dir_fd, unsigned number, struct run *run)
{
	_cleanup_close_ int logs = dir_open_at(dir_fd, "logs");
	_cleanup_json_ struct json_object *obj = NULL;
	_cleanup_free_ char *text = NULL;
	struct json_object *by;
	char name[FILE_NAME_SIZE];
	size_t len;

	*run = (struct run){.number = number};
	file_name(name, sizeof(name), number, "run.json");
	text = logs < 0 ? NULL : file_read_at(logs, name, RECORD_MAX, &len, NULL);
	obj = text ? cij_json_parse(text, len, RECORD_DEPTH_MAX, NULL) : NULL;
	if (!json_object_is_type(obj, json_type_object))
		return -1;
	run->qemu = str_copy(cij_json_str(obj, "qemu"));
	run->version = str_copy(cij_json_str(obj, "version"));
	run->dialect = str_copy(cij_json_str(obj, "dialect"));
	run->kvm = cij_json_bool(obj, "kvm", false);
	run->accel_why = str_copy(cij_json_str(obj, "accel_why"));
	run->port = (int)cij_json_int(obj, "port", 0);
	if (run->port < 0 || run->port > 65535)
		run->port = 0;
	by = cij_json_get(obj, "by");
	run->by_uid = (uid_t)cij_json_int(by, "uid", -1);
	run->by_pid = (pid_t)cij_json_int(by, "pid", 0);
	run->started = clock_parse(cij_json_str(obj, "started"));
	run->ended = clock_parse(cij_json_str(obj, "ended"));
	run->automatic = cij_json_bool(obj, "automatic", false);
	run->paused = cij_json_bool(obj, "paused", false);
	run->up = cij_json_bool(obj, "up", false);
	run->cpus_run = cij_json_bool(obj, "cpus_run", false);
	run->cpus_since = clock_parse(cij_json_str(obj, "cpus_since"));
	load_times(run, obj);
	run->boot_ms = cij_json_int(obj, "boot_ms", -1);
	run->reason = greason_from_name(cij_json_str(obj, "reason"));
	load_exit(run, cij_json_get(obj, "exit"));
	run->error = str_copy(cij_json_str(obj, "error"));
	run->argv = json_object_get(cij_json_get(obj, "argv"));
	if (!json_object_is_type(run->argv, json_type_array)) {
		json_object_put(run->argv);
		run->argv = NULL;
	}
	run->config = json_object_get(cij_json_get(obj, "config"));
	run->devices = json_object_get(cij_json_get(obj, "devices"));
	run->frozen = cij_json_bool(obj, "frozen", false);
	return 0;
}
