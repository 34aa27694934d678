/* edit: guest.json in the user's editor. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "cijqemu/protocol.h"
#include "client/args.h"
#include "client/ask.h"
#include "client/link.h"
#include "client/out.h"
#include "client/view.h"

#define EDIT_SECONDS 60

static int
write_text(int fd, struct json_object *config, struct cij_error *err)
{
	const char *text = json_object_to_json_string_ext(config,
		JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE);

	if (out_write(fd, text, strlen(text)) < 0 || out_write(fd, "\n", 1) < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot write the text to edit");
	return 0;
}

/* Runs the user's editor on @path and waits for it. */
static int
run_editor(const char *path, struct cij_error *err)
{
	const char *editor = getenv("VISUAL");
	struct sigaction ignore = {.sa_handler = SIG_IGN}, was_int, was_quit;
	int status = 0;
	pid_t pid, got;

	if (!editor || !*editor)
		editor = getenv("EDITOR");
	if (!editor || !*editor)
		editor = "vi";
	pid = fork();
	if (pid < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot run '%s'", editor);
	if (pid == 0) {
		/* By the shell, since $EDITOR may hold options; the path is no part of that text.
		 */
		static const char script[] = "exec $CIJQEMU_EDIT \"$1\"";

		signal(SIGPIPE, SIG_DFL);
		signal(SIGINT, SIG_DFL);
		signal(SIGQUIT, SIG_DFL);
		setenv("CIJQEMU_EDIT", editor, 1);
		execl("/bin/sh", "sh", "-c", script, "sh", path, (char *)NULL);
		_exit(127);
	}
	/* ^C in an editor is for the editor. */
	sigaction(SIGINT, &ignore, &was_int);
	sigaction(SIGQUIT, &ignore, &was_quit);
	do
		got = waitpid(pid, &status, 0);
	while (got < 0 && errno == EINTR);
	sigaction(SIGINT, &was_int, NULL);
	sigaction(SIGQUIT, &was_quit, NULL);
	if (got < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return cij_error_set(err, CIJ_E_FAILED, "the editor '%s' failed", editor);
	return 0;
}

/* Reads what the user wrote: an object, or an error that says where it is none. */
static struct json_object *
read_text(const char *path, struct cij_error *err)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	_cleanup_json_ struct json_object *config = NULL;
	_cleanup_free_ char *text = malloc(CIJ_REQUEST_LINE_MAX);
	size_t len;

	if (!text)
		abort();
	if (!f) {
		cij_error_errno(err, CIJ_E_FAILED, errno, "cannot read '%s'", path);
		return NULL;
	}
	len = fread(text, 1, CIJ_REQUEST_LINE_MAX, f);
	if (len == CIJ_REQUEST_LINE_MAX) {
		cij_error_set(err, CIJ_E_BAD_REQUEST, "a definition may have up to %d KiB",
			CIJ_REQUEST_LINE_MAX / 1024);
		return NULL;
	}
	config = cij_json_parse(text, len, CIJ_REQUEST_DEPTH_MAX, err);
	if (!json_object_is_type(config, json_type_object)) {
		if (config || err->class == CIJ_E_NONE)
			cij_error_set(err, CIJ_E_BAD_REQUEST, "a definition is an object: { … }");
		return NULL;
	}
	return steal_ptr(config);
}

/* What turns @was into @now: changed and new keys, and null for those that went. */
static struct json_object *
differences(const char *guest, struct json_object *was, struct json_object *now)
{
	struct json_object *args = guest_arguments(guest);

	json_object_object_foreach (now, key, value) {
		struct json_object *old;

		if (!json_object_object_get_ex(was, key, &old) || !json_object_equal(old, value))
			json_object_object_add(args, key, json_object_get(value));
	}
	json_object_object_foreach (was, gone, unused) {
		(void)unused;
		if (!json_object_object_get_ex(now, gone, NULL))
			json_object_object_add(args, gone, NULL);
	}
	return args;
}

/* One round: edit, read, send. Returns 1 when it was sent, 0 when nothing was changed, or -1. */
static int
edit_once(struct call *call, const char *path, struct json_object *was, struct reply *r,
	struct cij_error *err)
{
	_cleanup_json_ struct json_object *now = NULL, *args = NULL;

	if (run_editor(path, err) < 0)
		return -1;
	now = read_text(path, err);
	if (!now)
		return -1;
	args = differences(call->guest, was, now);
	if (json_object_object_length(args) == 1)
		return 0;
	return call_daemon(call, EDIT_SECONDS, "guest-set", steal_ptr(args), r, err) < 0 ? -1 : 1;
}

int
cmd_edit(struct call *call, struct cij_error *err)
{
	const char *dir = getenv("TMPDIR");
	_cleanup_json_ struct json_object *was = NULL;
	_cleanup_reply_ struct reply asked = {0}, r = {0};
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -1;
	int rc;

	if (call_daemon(call, EDIT_SECONDS, "query-guest", guest_arguments(call->guest), &asked,
		    err) < 0)
		return -1;
	was = json_object_get(cij_json_get(asked.value, "config"));
	if (!json_object_is_type(was, json_type_object)) {
		json_object_put(was);
		was = json_object_new_object();
	}
	if (asprintf(&path, "%s/%s-XXXXXX.json", dir && *dir ? dir : "/tmp", call->guest) < 0)
		abort();
	fd = mkostemps(path, strlen(".json"), O_CLOEXEC);
	if (fd < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot make '%s'", path);
	if (write_text(fd, was, err) < 0) {
		unlink(path);
		return -1;
	}
	while ((rc = edit_once(call, path, was, &r, err)) < 0) {
		if (ask_possible()) {
			out_error(err);
			if (ask_yes(true, "Edit again?"))
				continue;
			cij_error_set(err, err->class, "%s: not changed", call->guest);
		}
		return cij_error_hint(err, "your text is kept in %s", path);
	}
	unlink(path);
	if (rc == 0)
		out_note("%s: nothing changed", call->guest);
	else
		out_note("%s: changed%s", call->guest,
			view_is_live(r.value) ? "; takes effect at the next start" : "");
	return 0;
}
