/*
 * push by SFTP. Many files are under way at a time, each with many writes: the round trips of one
 * are used by the others. A file is written under another name, closed, and only then renamed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cijqemu/cleanup.h"
#include "client/clock.h"
#include "client/ssh_copy.h"
#include "client/term.h"

/* How long the server may be silent while what is not whole is removed, when all has gone wrong. */
#define CLEAN_UP_MS 3000

enum put_state { PUT_OPENING, PUT_WRITING, PUT_SETTING, PUT_CLOSING, PUT_NAMING, PUT_OVER };

struct put {
	struct pushing *all; /* weak */
	struct item *item; /* weak */
	enum put_state state;
	bool asked; /* the request of this state is under way */
	bool failed;
	int fd;
	int64_t at, size, data_end; /* next byte; of the file; of the extent that we stand in */
	size_t writes; /* whose answers are to come */
	char *part; /* NULL: in place */
	bool has_handle;
	struct sftp_handle handle;
};

struct pushing {
	struct copy *copy; /* weak */
	struct sftp *sftp; /* weak */
	struct put puts[COPY_FILES_MAX];
	size_t n_puts, next; /* next: index into the plan */
	size_t waiting; /* answers of folders and links */
	bool abandoned;
};

/* The one thing asked of the server about a folder or a link. */
struct ask {
	struct pushing *all; /* weak */
	struct item *item; /* weak */
	char *part; /* of a link */
	int step;
};

static void
put_fail(struct put *p, const char *why)
{
	if (!p->failed && !p->all->abandoned)
		copy_fail(p->all->copy, p->item->to, why);
	p->failed = true;
}

static bool
put_check(struct put *p, const struct sftp_answer *a)
{
	char words[256];

	if (a->status == SFTP_OK)
		return true;
	put_fail(p, sftp_status_text(a, words, sizeof(words)));
	return false;
}

static void
on_opened(void *arg, const struct sftp_answer *a)
{
	struct put *p = arg;

	p->asked = false;
	p->state = PUT_OVER;
	if (!put_check(p, a))
		return;
	if (!sftp_keep_handle(&p->handle, a)) {
		put_fail(p, "the server gave no handle");
		return;
	}
	p->has_handle = true;
	p->state = PUT_WRITING;
}

static void
on_written(void *arg, const struct sftp_answer *a)
{
	struct put *p = arg;

	p->writes--;
	if (a->status == SFTP_FAILURE)
		put_fail(p, "it cannot be written: is the disk in the guest full?");
	else
		(void)put_check(p, a);
}

static void
on_set(void *arg, const struct sftp_answer *a)
{
	struct put *p = arg;

	p->asked = false;
	(void)put_check(p, a);
	p->state = PUT_CLOSING;
}

static void
on_closed(void *arg, const struct sftp_answer *a)
{
	struct put *p = arg;

	p->asked = false;
	p->has_handle = false;
	(void)put_check(p, a);
	p->state = p->part ? PUT_NAMING : PUT_OVER;
}

static void
on_named(void *arg, const struct sftp_answer *a)
{
	struct put *p = arg;

	p->asked = false;
	if (a->status == SFTP_FAILURE)
		put_fail(p, "it could not be put into place: is there a folder of that name?");
	else
		(void)put_check(p, a);
	if (!p->failed) {
		free(p->part);
		p->part = NULL;
	}
	p->state = p->failed ? PUT_NAMING : PUT_OVER;
}

/* The part of a failed file is removed; whether that went well changes nothing. */
static void
on_removed(void *arg, const struct sftp_answer *a)
{
	struct put *p = arg;

	p->asked = false;
	p->state = PUT_OVER;
}

/* An old one in the way of a server that cannot rename over it. */
static void
on_cleared(void *arg, const struct sftp_answer *a)
{
}

/* Where the next data is: holes are not sent. Returns false at the file's end. */
static bool
find_data(struct put *p)
{
	off_t at;

	if (p->size < 0 || p->at < p->data_end)
		return true;
	if (p->at >= p->size)
		return false;
	at = lseek(p->fd, p->at, SEEK_DATA);
	if (at < 0 && errno == ENXIO) { /* nothing but a hole to its end */
		p->all->copy->bytes_done += p->size - p->at;
		p->at = p->size;
		return false;
	}
	if (at > p->at) {
		p->all->copy->bytes_done += at - p->at;
		p->at = at;
	}
	at = at < 0 ? p->size : lseek(p->fd, p->at, SEEK_HOLE);
	p->data_end = at < 0 || at > p->size ? p->size : at;
	return p->at < p->size;
}

/* Queues one write. Returns false at the end of the file. */
static bool
write_block(struct put *p)
{
	size_t block = sftp_block(p->all->sftp);
	char *buf;
	ssize_t n;

	if (!find_data(p))
		return false;
	if (p->size >= 0 && p->data_end - p->at < (int64_t)block)
		block = p->data_end - p->at;
	if (p->size < 0) {
		/* A device's end is only seen by reading. */
		char *data = malloc(block);

		if (!data)
			abort();
		n = pread(p->fd, data, block, p->at);
		if (n > 0) {
			buf = sftp_write_async(
				p->all->sftp, &p->handle, p->at, (uint32_t)n, on_written, p);
			memcpy(buf, data, n);
		}
		free(data);
		if (n < 0)
			put_fail(p, strerror(errno));
		if (n <= 0)
			return false;
	} else {
		buf = sftp_write_async(
			p->all->sftp, &p->handle, p->at, (uint32_t)block, on_written, p);
		n = pread(p->fd, buf, block, p->at);
		if (n != (ssize_t)block) {
			/* The request is on its way with a length: fill it, and let the file fail.
			 */
			memset(buf + (n > 0 ? n : 0), 0, block - (n > 0 ? n : 0));
			put_fail(p, n < 0 ? strerror(errno) : "was changed while it was read");
			n = (ssize_t)block;
		}
	}
	p->writes++;
	p->at += n;
	p->all->copy->bytes_done += n;
	return !p->failed;
}

/* All is written: mode, times, and the size, which writes before a hole do not give. */
static void
ask_setting(struct put *p)
{
	struct sftp_attrs attrs = {.has = SFTP_HAS_SIZE | SFTP_HAS_MODE | SFTP_HAS_TIMES,
		.size = (uint64_t)p->at,
		.mode = p->item->mode,
		.atime = p->item->atime,
		.mtime = p->item->mtime};

	if (!p->part) {
		p->state = PUT_CLOSING; /* a device keeps its own */
		return;
	}
	p->asked = true;
	sftp_fsetstat_async(p->all->sftp, &p->handle, &attrs, on_set, p);
}

static void
ask_naming(struct put *p)
{
	p->asked = true;
	if (p->failed) {
		sftp_remove_async(p->all->sftp, p->part, on_removed, p);
		return;
	}
	if (!sftp_renames_over(p->all->sftp))
		sftp_remove_async(p->all->sftp, p->item->to, on_cleared, p);
	sftp_rename_async(p->all->sftp, p->part, p->item->to, on_named, p);
}

/* One file does what it can do now. */
static void
put_step(struct put *p)
{
	struct sftp *s = p->all->sftp;

	while (!p->asked && p->state != PUT_OVER && sftp_has_room(s)) {
		switch (p->state) {
		case PUT_OPENING:
			p->asked = true;
			sftp_open_async(s, p->part ? p->part : p->item->to,
				p->part ? SFTP_WRITE | SFTP_CREATE | SFTP_EXCL : SFTP_WRITE,
				on_opened, p);
			break;
		case PUT_WRITING:
			if (!p->failed && write_block(p))
				break;
			if (p->writes > 0)
				return;
			p->state = p->failed ? PUT_CLOSING : PUT_SETTING;
			break;
		case PUT_SETTING:
			ask_setting(p);
			break;
		case PUT_CLOSING:
			p->asked = true;
			sftp_close_async(s, &p->handle, on_closed, p);
			break;
		case PUT_NAMING:
			ask_naming(p);
			break;
		case PUT_OVER:
			break;
		}
	}
}

static void
put_end(struct put *p)
{
	if (p->fd >= 0)
		close(p->fd);
	free(p->part);
	if (!p->failed)
		p->all->copy->files_done++;
	p->all->n_puts--;
	*p = (struct put){.fd = -1, .state = PUT_OVER};
}

/* Begins the next file of the plan in the free place @p. */
static void
put_begin(struct pushing *all, struct put *p, struct item *item)
{
	struct stat st;

	*p = (struct put){.all = all, .item = item, .fd = open(item->from, O_RDONLY | O_CLOEXEC)};
	if (p->fd < 0 || fstat(p->fd, &st) < 0) {
		copy_fail(all->copy, item->from, strerror(errno));
		if (p->fd >= 0)
			close(p->fd);
		*p = (struct put){.fd = -1, .state = PUT_OVER};
		return;
	}
	p->size = S_ISREG(st.st_mode) ? st.st_size : -1;
	if (!item->in_place)
		p->part = path_part(item->to);
	all->copy->current = item->from;
	all->n_puts++;
}

/* Gives free places to the files that come next. */
static void
fill(struct pushing *all)
{
	struct item *item;

	for (size_t i = 0; i < COPY_FILES_MAX; i++)
		if (!all->puts[i].item && (item = plan_next_file(&all->copy->plan, &all->next)))
			put_begin(all, &all->puts[i], item);
}

/* All files under way do what they can do now; those that are over leave their places. */
static void
step_all(struct pushing *all)
{
	for (size_t i = 0; i < COPY_FILES_MAX; i++) {
		struct put *p = &all->puts[i];

		if (!p->item)
			continue;
		put_step(p);
		if (p->state == PUT_OVER && !p->asked && p->writes == 0)
			put_end(p);
	}
}

static int
push_files(struct pushing *all, struct cij_error *err)
{
	all->next = 0;
	do {
		fill(all);
		step_all(all);
		if (all->n_puts > 0 && copy_step(all->copy, all->sftp, err) < 0)
			return -1;
	} while (all->n_puts > 0 || all->next < all->copy->plan.n);
	return 0;
}

/* The answers that the files under way wait for. */
static size_t
awaited(const struct pushing *all)
{
	size_t n = 0;

	for (size_t i = 0; i < COPY_FILES_MAX; i++)
		if (all->puts[i].item)
			n += all->puts[i].writes + all->puts[i].asked;
	return n;
}

/* Something went wrong for all: as long as the server answers, nothing half done is left there. */
static void
clean_up(struct pushing *all)
{
	int64_t deadline = clock_ms() + CLEAN_UP_MS;
	struct cij_error unheard = CIJ_ERROR_INIT;
	size_t left;

	all->abandoned = true;
	for (size_t i = 0; i < COPY_FILES_MAX; i++)
		all->puts[i].failed = true;
	while (all->n_puts > 0 && clock_left(deadline) > 0) {
		step_all(all);
		left = awaited(all);
		if (all->n_puts > 0 && sftp_step(all->sftp, 100, &unheard) < 0)
			break;
		if (awaited(all) != left)
			deadline = clock_ms() + CLEAN_UP_MS;
	}
	for (size_t i = 0; i < COPY_FILES_MAX; i++) {
		if (!all->puts[i].item)
			continue;
		if (all->puts[i].fd >= 0)
			close(all->puts[i].fd);
		free(all->puts[i].part);
	}
}

/* Folders: made one after the other on the server, which keeps the order of requests. */

static void
ask_fail(struct ask *ask, const struct sftp_answer *a, const char *why)
{
	char words[256];

	copy_fail(ask->all->copy, ask->item->to,
		why ? why : sftp_status_text(a, words, sizeof(words)));
}

static void
on_folder_there(void *arg, const struct sftp_answer *a)
{
	struct ask *ask = arg;

	ask->all->waiting--;
	if (a->status != SFTP_OK)
		ask_fail(ask, a, NULL);
	else if (!S_ISDIR(a->attrs.mode))
		ask_fail(ask, a, "there is a file of that name");
	if (a->status != SFTP_OK || !S_ISDIR(a->attrs.mode))
		plan_give_up(&ask->all->copy->plan, 0, ask->item->to);
	free(ask);
}

static void
on_folder(void *arg, const struct sftp_answer *a)
{
	struct ask *ask = arg;

	if (a->status != SFTP_OK) {
		sftp_stat_async(ask->all->sftp, ask->item->to, true, on_folder_there, ask);
		return;
	}
	ask->item->made = true;
	ask->all->waiting--;
	free(ask);
}

static void
on_folder_set(void *arg, const struct sftp_answer *a)
{
	struct ask *ask = arg;

	ask->all->waiting--;
	if (a->status != SFTP_OK)
		ask_fail(ask, a, NULL);
	free(ask);
}

/* Links: made under another name, then renamed over what is there. */
static void
on_link_named(void *arg, const struct sftp_answer *a)
{
	struct ask *ask = arg;

	ask->all->waiting--;
	if (a->status == SFTP_OK) {
		ask->all->copy->files_done++;
	} else {
		ask_fail(ask, a, NULL);
		sftp_remove_async(ask->all->sftp, ask->part, on_cleared, NULL);
	}
	free(ask->part);
	free(ask);
}

static void
on_link(void *arg, const struct sftp_answer *a)
{
	struct ask *ask = arg;

	if (a->status == SFTP_OK) {
		sftp_rename_async(ask->all->sftp, ask->part, ask->item->to, on_link_named, ask);
		return;
	}
	ask->all->waiting--;
	ask_fail(ask, a, NULL);
	free(ask->part);
	free(ask);
}

enum phase { PHASE_FOLDERS, PHASE_LINKS, PHASE_SETTINGS };

static void
ask_one(struct pushing *all, struct item *item, enum phase phase)
{
	struct sftp_attrs attrs = {.has = SFTP_HAS_MODE | SFTP_HAS_TIMES,
		.mode = item->mode,
		.atime = item->atime,
		.mtime = item->mtime};
	struct ask *ask = calloc(1, sizeof(*ask));

	if (!ask)
		abort();
	*ask = (struct ask){.all = all, .item = item};
	all->waiting++;
	switch (phase) {
	case PHASE_FOLDERS:
		sftp_mkdir_async(all->sftp, item->to, item->mode | 0700, on_folder, ask);
		break;
	case PHASE_LINKS:
		ask->part = path_part(item->to);
		if (!sftp_renames_over(all->sftp))
			sftp_remove_async(all->sftp, item->to, on_cleared, NULL);
		sftp_symlink_async(all->sftp, item->target, ask->part, on_link, ask);
		break;
	case PHASE_SETTINGS:
		sftp_setstat_async(all->sftp, item->to, &attrs, on_folder_set, ask);
		break;
	}
}

/* Asks for all items of one kind, in the plan's order or (settings) the other way round. */
static int
push_phase(struct pushing *all, enum phase phase, struct cij_error *err)
{
	struct plan *plan = &all->copy->plan;

	for (size_t i = 0; i < plan->n; i++) {
		struct item *item = &plan->items[phase == PHASE_SETTINGS ? plan->n - 1 - i : i];

		if (item->kind != (phase == PHASE_LINKS ? ITEM_LINK : ITEM_FOLDER) ||
			(phase == PHASE_SETTINGS && !item->made))
			continue;
		while (!sftp_has_room(all->sftp))
			if (copy_step(all->copy, all->sftp, err) < 0)
				return -1;
		ask_one(all, item, phase);
	}
	while (all->waiting > 0)
		if (copy_step(all->copy, all->sftp, err) < 0)
			return -1;
	return 0;
}

int
sftp_push(struct copy *copy, struct sftp *sftp, struct cij_error *err)
{
	struct pushing *all = calloc(1, sizeof(*all));
	int rc;

	if (!all)
		abort();
	copy->work = all;
	all->copy = copy;
	all->sftp = sftp;
	rc = push_phase(all, PHASE_FOLDERS, err);
	if (rc == 0 && (rc = push_files(all, err)) < 0)
		clean_up(all);
	if (rc == 0)
		rc = push_phase(all, PHASE_LINKS, err);
	if (rc == 0)
		rc = push_phase(all, PHASE_SETTINGS, err);
	return rc;
}
