/* push, pull: files into the guest and out of it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "client/args.h"
#include "client/clock.h"
#include "client/out.h"
#include "client/ssh_copy.h"
#include "client/term.h"
#include "proto/text.h"

/* A connection that was lost before anything was copied is made anew this often. */
#define TRIES 3

char *
copy_target(const struct copy *c, const char *source, size_t n_sources, const char *path,
	enum place place, struct cij_error *err)
{
	_cleanup_free_ char *base = path_base(source);
	bool slash = *path && path[strlen(path) - 1] == '/';
	const char *where = c->push ? "in the guest" : "here";
	char clean[256], *target;

	cij_text_clean(path, clean, sizeof(clean));
	if (place != PLACE_FOLDER && n_sources > 1) {
		cij_error_set(err, CIJ_E_BAD_REQUEST,
			"'%s' is no folder %s: several files need one", clean, where);
		return NULL;
	}
	if (place != PLACE_FOLDER && slash &&
		!(place == PLACE_NONE && call_has(c->call, "recursive"))) {
		cij_error_set(err, CIJ_E_BAD_REQUEST, "there is no folder '%s' %s", clean, where);
		return NULL;
	}
	if (place != PLACE_FOLDER) {
		target = strdup(path);
		/* mkdir() and rename() know no slash behind a name. */
		for (size_t n = strlen(target); n > 1 && target[n - 1] == '/'; n--)
			target[n - 1] = '\0';
		return target;
	}
	if (strcmp(base, "..") == 0) {
		cij_error_set(err, CIJ_E_BAD_REQUEST,
			"'%s' ends in '..': what is it to be called over there?",
			cij_text_clean(source, clean, sizeof(clean)));
		cij_error_hint(err, "name the folder itself");
		return NULL;
	}
	/* "." and "/": what is in them, as 'cp -r . FOLDER' does it. */
	if (strcmp(base, ".") == 0 || strcmp(base, "/") == 0)
		return strdup(path);
	return path_join(path, base, strlen(base));
}

const char *
copy_guest_path(const char *path)
{
	if (*path != '~' || (path[1] && path[1] != '/'))
		return path;
	path += 1 + strspn(path + 1, "/");
	return *path ? path : ".";
}

static enum place
place_of(mode_t mode)
{
	return S_ISDIR(mode) ? PLACE_FOLDER : S_ISREG(mode) ? PLACE_FILE : PLACE_OTHER;
}

static int
place_here(const char *path, enum place *place, struct cij_error *err)
{
	struct stat st;

	*place = PLACE_NONE;
	if (stat(path, &st) == 0)
		*place = place_of(st.st_mode);
	else if (errno != ENOENT)
		return cij_error_errno(err, CIJ_E_BAD_REQUEST, errno, "'%s'", path);
	return 0;
}

static int
place_there(struct sftp *sftp, const char *path, enum place *place, struct cij_error *err)
{
	struct sftp_attrs attrs;
	int rc = sftp_stat_now(sftp, path, true, &attrs, err);

	*place = rc == 0 ? place_of(attrs.mode) : PLACE_NONE;
	return rc < 0 ? -1 : 0;
}

/* What can be known to be wrong before anybody is asked. */
static int
check_sources(struct copy *c, char **sources, size_t n, struct cij_error *err)
{
	struct stat st;

	for (size_t i = 0; i < n; i++) {
		if (!*sources[i])
			return call_usage(c->call, err, "an empty name");
		if (!c->push)
			continue;
		if (stat(sources[i], &st) < 0)
			return cij_error_errno(err, CIJ_E_BAD_REQUEST, errno, "'%s'", sources[i]);
		if (S_ISDIR(st.st_mode) && !call_has(c->call, "recursive")) {
			cij_error_set(err, CIJ_E_BAD_REQUEST, "'%s' is a folder", sources[i]);
			return cij_error_hint(err, "-r copies folders");
		}
	}
	return 0;
}

/* Two sources of one name would end up as one. */
static int
check_twice(const struct copy *c, const char *to, size_t first, struct cij_error *err)
{
	char clean[256];

	for (size_t i = 0; i < first; i++)
		if (strcmp(c->plan.items[i].to, to) == 0 && c->plan.items[i].kind != ITEM_FOLDER)
			return cij_error_set(err, CIJ_E_BAD_REQUEST,
				"two of the files would become '%s'",
				cij_text_clean(to, clean, sizeof(clean)));
	return 0;
}

/* A device in the guest is written to, a folder is not replaced by a file. */
static int
look_at_target(struct copy *c, struct sftp *sftp, struct item *item, struct cij_error *err)
{
	char clean[256];
	enum place place;

	if (place_there(sftp, item->to, &place, err) < 0)
		return -1;
	cij_text_clean(item->to, clean, sizeof(clean));
	if (item->kind == ITEM_FILE && place == PLACE_FOLDER)
		return cij_error_set(
			err, CIJ_E_BAD_REQUEST, "'%s' is a folder in the guest", clean);
	if (item->kind == ITEM_FOLDER && place != PLACE_FOLDER && place != PLACE_NONE)
		return cij_error_set(
			err, CIJ_E_BAD_REQUEST, "'%s' is no folder in the guest", clean);
	item->in_place = place == PLACE_OTHER;
	return 0;
}

static int
push_by_sftp(struct copy *c, struct sftp *sftp, char **sources, size_t n, const char *path,
	struct cij_error *err)
{
	enum place place;

	if (place_there(sftp, path, &place, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *to = copy_target(c, sources[i], n, path, place, err);
		size_t first = c->plan.n;

		if (!to || check_twice(c, to, first, err) < 0 ||
			plan_local(&c->plan, sources[i], to, call_has(c->call, "recursive"),
				copy_skip, c, err) < 0 ||
			look_at_target(c, sftp, &c->plan.items[first], err) < 0)
			return -1;
	}
	c->counted = true;
	return sftp_push(c, sftp, err);
}

static int
pull_by_sftp(struct copy *c, struct sftp *sftp, char **sources, size_t n, const char *path,
	enum place place, struct cij_error *err)
{
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *to = copy_target(c, sources[i], n, path, place, err);

		if (!to || check_twice(c, to, c->plan.n, err) < 0 ||
			sftp_plan(c, sftp, copy_guest_path(sources[i]), to, err) < 0)
			return -1;
	}
	c->counted = true;
	return sftp_pull(c, sftp, err);
}

/* By SFTP where the guest has it, else through tar. */
static int
copy_by_what_there_is(struct copy *c, char **sources, size_t n, const char *path, enum place place,
	struct cij_error *err)
{
	struct sftp *sftp = sftp_new_on(&c->link, err);
	int rc;

	if (!sftp && err->class != CIJ_E_NOT_SUPPORTED)
		return -1;
	if (c->call->verbose)
		out_note("%s: %s", c->call->guest,
			sftp ? "by SFTP" : "it has no SFTP server: through tar in the guest");
	c->began = c->last_moved = clock_ms();
	if (!sftp) {
		err->class = CIJ_E_NONE;
		return c->push ? tar_push(c, sources, n, path, err)
			       : tar_pull(c, sources, n, path, place, err);
	}
	rc = c->push ? push_by_sftp(c, sftp, sources, n, path, err)
		     : pull_by_sftp(c, sftp, sources, n, path, place, err);
	sftp_free_all(sftp);
	free(c->work);
	c->work = NULL;
	return rc;
}

static int
copy_run(struct copy *c, struct cij_error *err)
{
	size_t n = c->call->n_args - 1;
	char **sources = c->call->args;
	const char *path = sources[n];
	_cleanup_free_ char *full = NULL;
	enum place place = PLACE_NONE;

	if (!*path)
		return call_usage(c->call, err, "an empty name");
	if (check_sources(c, sources, n, err) < 0)
		return -1;
	if (c->push)
		path = copy_guest_path(path);
	else if (place_here(path, &place, err) < 0)
		return -1;
	/* A link that leads to a folder is the user's word; below it none is followed. */
	if (!c->push && place == PLACE_FOLDER && (full = realpath(path, NULL)))
		path = full;
	if (ssh_link_login(&c->link, c->call, err) < 0)
		return -1;
	/* From here on there is something to be put in order when we are interrupted. */
	term_catch();
	for (int i = 1;; i++) {
		int rc = copy_by_what_there_is(c, sources, n, path, place, err);

		/* dropbear may hang up between two commands: nothing has been copied then. */
		if (rc == 0 || i == TRIES || term_caught() || c->bytes_done > 0 ||
			c->files_done > 0 || ssh_is_connected(c->link.session))
			return rc;
		plan_clear(&c->plan);
		ssh_link_close(&c->link);
		if (ssh_link_login(&c->link, c->call, err) < 0)
			return -1;
	}
}

static int
copy_command(struct call *call, bool push, struct cij_error *err)
{
	struct copy c = {.call = call, .push = push};
	int rc = copy_run(&c, err);

	if (rc == 0)
		copy_done(&c);
	if (rc == 0 && c.failures > 0)
		rc = 1;
	if (rc < 0 && term_caught()) {
		out_error(err);
		rc = 128 + term_caught();
	}
	plan_clear(&c.plan);
	ssh_link_close(&c.link);
	return rc;
}

int
cmd_push(struct call *call, struct cij_error *err)
{
	return copy_command(call, true, err);
}

int
cmd_pull(struct call *call, struct cij_error *err)
{
	return copy_command(call, false, err);
}
