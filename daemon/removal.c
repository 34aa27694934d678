#include "daemon/removal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cijqemu/cleanup.h"
#include "daemon/clock.h"
#include "daemon/fileio.h"
#include "daemon/proc.h"
#include "daemon/strv.h"

/* Processes of one owner at a time, whose folders may have no end: others do not wait for them. */
#define AT_A_TIME 4

#define PROGRESS_SECONDS 1

/* Where the process has the folder. */
#define FOLDER_FD 3

struct removal {
	TAILQ_ENTRY(removal) link;
	struct removals *all; /* weak */
	char *name;
	uid_t uid;
	gid_t gid;
	int fd; /* the folder; -1: it is none */
	struct proc *proc; /* NULL: its turn has not come */
	int said_fd; /* what the process prints */
	const struct removal_ops *ops; /* weak */
	void *arg; /* weak */
};

struct removals {
	struct event_base *base; /* weak */
	int parent_fd; /* weak */
	TAILQ_HEAD(, removal) list;
	struct event *next, *tick;
};

static void
end(struct removal *removal, const struct cij_error *why)
{
	const struct removal_ops *ops = removal->ops;
	void *arg = removal->arg;

	TAILQ_REMOVE(&removal->all->list, removal, link);
	event_active(removal->all->next, EV_TIMEOUT, 0);
	proc_free(removal->proc);
	if (removal->fd >= 0)
		close(removal->fd);
	if (removal->said_fd >= 0)
		close(removal->said_fd);
	free(removal->name);
	free(removal);
	ops->done(arg, why);
}

/* What was in it is gone: so is the folder, unless it was made to hold something again. */
static void
end_with_folder(struct removal *removal, int flags)
{
	struct cij_error err;

	if (unlinkat(removal->all->parent_fd, removal->name, flags) == 0 || errno == ENOENT) {
		end(removal, NULL);
		return;
	}
	cij_error_set(&err, CIJ_E_INTERNAL, "%s", strerror(errno));
	end(removal, &err);
}

static void
on_exit_of_process(void *arg, const struct proc_exit *how)
{
	struct removal *removal = arg;
	struct cij_error err;
	char said[256], text[64];

	if (how->known && !how->signaled && how->code == 0) {
		end_with_folder(removal, AT_REMOVEDIR);
		return;
	}
	file_last_line(removal->said_fd, said, sizeof(said));
	if (how->signaled || !*said)
		snprintf(said, sizeof(said), "its removal ended with %s",
			proc_exit_text(how, text, sizeof(text)));
	cij_error_set(&err, CIJ_E_INTERNAL, "%s", said);
	end(removal, &err);
}

static void
start(struct removal *removal)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	char program[] = "/proc/self/exe", word[] = "--remove";
	char *const argv[] = {program, word, NULL};
	struct cij_error err;

	removal->said_fd = memfd_create("removal", MFD_CLOEXEC);
	if (null < 0 || removal->said_fd < 0) {
		cij_error_set(&err, CIJ_E_NO_RESOURCES, "%s", strerror(errno));
		end(removal, &err);
		return;
	}
	struct proc_spec spec = {.argv = argv,
		.fds = {null, removal->said_fd, removal->said_fd, [FOLDER_FD] = removal->fd},
		.n_fds = FOLDER_FD + 1,
		.cwd_fd = removal->fd,
		.uid = removal->uid,
		.gid = removal->gid};
	removal->proc = proc_spawn(removal->all->base, &spec, on_exit_of_process, removal, &err);
	if (!removal->proc)
		end(removal, &err);
}

/* The first whose turn it is: there is room for one more of its owner's. */
static struct removal *
next_to_start(const struct removals *removals)
{
	struct removal *removal, *other;

	TAILQ_FOREACH (removal, &removals->list, link) {
		int running = 0;

		if (removal->proc)
			continue;
		TAILQ_FOREACH (other, &removals->list, link)
			running += other->proc && other->uid == removal->uid;
		if (running < AT_A_TIME)
			return removal;
	}
	return NULL;
}

static void
look_again(struct removals *removals)
{
	if (!TAILQ_EMPTY(&removals->list))
		event_add(removals->tick, &(struct timeval){PROGRESS_SECONDS, 0});
}

static void
on_next(evutil_socket_t fd, short what, void *arg)
{
	struct removals *removals = arg;
	struct removal *removal;

	while ((removal = next_to_start(removals))) {
		if (removal->fd >= 0)
			start(removal);
		else
			end_with_folder(removal, 0);
	}
	if (!evtimer_pending(removals->tick, NULL))
		look_again(removals);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct removals *removals = arg;
	struct removal *removal;
	char said[32];

	TAILQ_FOREACH (removal, &removals->list, link) {
		if (!removal->proc)
			continue;
		file_last_line(removal->said_fd, said, sizeof(said));
		if (*said && strspn(said, "0123456789") == strlen(said))
			removal->ops->progress(removal->arg, strtoll(said, NULL, 10));
	}
	look_again(removals);
}

struct removals *
removals_new(struct event_base *base, int parent_fd)
{
	struct removals *removals = calloc(1, sizeof(*removals));

	if (!removals)
		abort();
	removals->base = base;
	removals->parent_fd = parent_fd;
	TAILQ_INIT(&removals->list);
	removals->next = event_new(base, -1, 0, on_next, removals);
	removals->tick = event_new(base, -1, 0, on_tick, removals);
	if (!removals->next || !removals->tick)
		abort();
	return removals;
}

void
removals_free(struct removals *removals)
{
	struct removal *removal;
	struct cij_error why;

	if (!removals)
		return;
	cij_error_set(&why, CIJ_E_INTERNAL, "the daemon was stopped");
	while ((removal = TAILQ_FIRST(&removals->list)))
		end(removal, &why);
	event_free(removals->next);
	event_free(removals->tick);
	free(removals);
}

void
removals_add(struct removals *removals, const char *name, uid_t uid, gid_t gid,
	const struct removal_ops *ops, void *arg)
{
	struct removal *removal = calloc(1, sizeof(*removal));

	if (!removal)
		abort();
	removal->all = removals;
	removal->name = str_copy(name);
	removal->uid = uid;
	removal->gid = gid;
	removal->fd = dir_open_at(removals->parent_fd, name);
	removal->said_fd = -1;
	removal->ops = ops;
	removal->arg = arg;
	TAILQ_INSERT_TAIL(&removals->list, removal, link);
	event_active(removals->next, EV_TIMEOUT, 0);
}

/* Counts, and tells of it once a second. */
static void
on_removed(void *arg)
{
	static long long gone;
	static double told;
	double now = clock_mono();

	gone++;
	if (now - told < PROGRESS_SECONDS)
		return;
	told = now;
	printf("%lld\n", gone);
	fflush(stdout);
}

int
removal_main(void)
{
	/* What its owner has locked is the owner's to unlock. */
	fchmod(FOLDER_FD, 0700);
	if (dir_clear(FOLDER_FD, on_removed, NULL) == 0)
		return EXIT_SUCCESS;
	printf("%s\n", errno == ELOOP ? "folders are nested too deep" : strerror(errno));
	return EXIT_FAILURE;
}
