/* Operations on a guest's console. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/as_owner.h"
#include "daemon/conn.h"
#include "daemon/op.h"
#include "daemon/view.h"

static const char *const mode_words[] = {"auto", "read-only", "force", "join", NULL};
static const enum viewer_mode modes[] = {VIEWER_AUTO, VIEWER_READ_ONLY, VIEWER_FORCE, VIEWER_JOIN};

struct attach_args {
	char *guest;
	int mode; /* index of mode_words */
	struct json_object *from; /* "start", "end", a number; NULL: "end" */
	int64_t run;
};
static const struct cij_field attach_fields[] = {
	OP_GUEST_FIELD(attach_args),
	{.name = "mode",
		.type = CIJ_T_ENUM,
		.offset = offsetof(struct attach_args, mode),
		.names = mode_words,
		.doc = "auto writes when nobody else does"},
	{.name = "from",
		.type = CIJ_T_JSON,
		.offset = offsetof(struct attach_args, from),
		.doc = "\"start\", \"end\" (the default), a byte offset, or negative: lines back"},
	{.name = "run",
		.type = CIJ_T_INT,
		.offset = offsetof(struct attach_args, run),
		.min = -RUN_NUMBER_MAX,
		.max = RUN_NUMBER_MAX,
		.doc = "a run's number; 0 (the default): the last one; -1: the one before"},
};

static void
init_attach_args(void *obj)
{
	struct attach_args *args = obj;

	args->run = 0;
}

static const struct cij_table attach_table = CIJ_TABLE(
	attach_fields, struct attach_args, init_attach_args);

/* The number of the run that is asked for; 0 and an error when there is none. */
static unsigned
choose_run(const struct request *request, int64_t wish, struct cij_error *err)
{
	struct guest_status status;
	int64_t run;

	guest_status(request->guest, &status);
	run = wish > 0 ? wish : (int64_t)status.run + wish;
	if (status.run == 0)
		cij_error_set(err, CIJ_E_BAD_REQUEST, "guest '%s' never ran: it has no console yet",
			request->guest_name);
	else if (run < 1 || run > status.run)
		cij_error_set(err, CIJ_E_BAD_REQUEST, "guest '%s' has no run %lld: the last is %u",
			request->guest_name, (long long)wish, status.run);
	else
		return (unsigned)run;
	return 0;
}

/* A console of a run that has ended, from its log; it goes when its viewers have gone. */
static struct console *
open_ended(const struct request *request, unsigned run, struct cij_error *err)
{
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(
		guest_uid(request->guest), guest_gid(request->guest));
	struct run_files files = RUN_FILES_INIT;
	struct console *console;

	if (guest_dir(request->guest) >= 0)
		run_files_open(guest_dir(request->guest), run, true, &files);
	if (files.log_fd < 0) {
		cij_error_set(err, CIJ_E_BAD_REQUEST,
			"the console log of run %u of guest '%s' is gone", run,
			request->guest_name);
		return NULL;
	}
	console = console_new(registry_services(request->registry)->consoles,
		&(struct console_files){files.log_fd, -1, files.index_fd}, 0, NULL, NULL);
	files.log_fd = files.index_fd = -1;
	run_files_close(&files);
	return console;
}

/* The console of run @run. *@ended: of one that is over, to be released by the caller. */
static struct console *
find_console(const struct request *request, unsigned run, bool *ended, struct cij_error *err)
{
	struct guest_status status;

	guest_status(request->guest, &status);
	*ended = !(run == status.run && status.console);
	return *ended ? open_ended(request, run, err) : status.console;
}

/* The offset to begin at. -1 and BadRequest where "from" makes no sense. */
static int
choose_offset(struct console *console, struct json_object *from, uint64_t *offset, uint64_t *end,
	struct cij_error *err)
{
	const char *word = json_object_is_type(from, json_type_string)
				   ? json_object_get_string(from)
				   : "";

	if (!from || strcmp(word, "end") == 0)
		*offset = *end = console_bytes(console);
	else if (strcmp(word, "start") == 0)
		*offset = console_offset(console, 0, end);
	else if (json_object_is_type(from, json_type_int))
		*offset = console_offset(console, json_object_get_int64(from), end);
	else
		return cij_error_set(err, CIJ_E_BAD_REQUEST,
			"'from' must be \"start\", \"end\", a byte offset or negative lines");
	return 0;
}

static void
on_upgraded(void *arg, int fd, struct evbuffer *input)
{
	struct viewer *viewer = arg;

	if (fd < 0)
		viewer_free(viewer);
	else
		viewer_start(viewer, fd, input);
}

static void
reply_attached(struct request *request, unsigned run, struct console *console, uint64_t offset,
	uint64_t end, const struct viewer *viewer)
{
	struct json_object *reply = json_object_new_object();
	const struct viewer *writer = console_writer(console);

	cij_json_add_str(reply, "guest", request->guest_name);
	cij_json_add_int(reply, "run", run);
	cij_json_add_int(reply, "viewer", (int64_t)viewer_number(viewer));
	cij_json_add_str(reply, "mode", viewer_mode_name(viewer_mode(viewer)));
	json_object_object_add(reply, "writer", writer ? view_who(viewer_peer(writer)) : NULL);
	cij_json_add_int(reply, "offset", (int64_t)offset);
	cij_json_add_int(reply, "end", (int64_t)end);
	cij_json_add_int(reply, "head", (int64_t)console_head(console));
	cij_json_add_int(reply, "cut", (int64_t)console_index(console)->cut);
	view_add_gap(reply, console_index(console));
	cij_json_add_bool(reply, "live", !console_ended(console));
	request_reply(request, reply);
}

static void
console_attach(struct request *request)
{
	struct attach_args *args = request->args;
	enum viewer_mode mode = modes[args->mode];
	struct conn *conn = request->conn;
	struct console *console = NULL;
	struct viewer *viewer;
	bool ended = false;
	struct cij_error err;
	uint64_t offset = 0, end = 0;
	unsigned run = choose_run(request, args->run, &err);

	if (run)
		console = find_console(request, run, &ended, &err);
	/* Those who may only look are not asked: 'auto' is theirs too. */
	if (request->access < ACCESS_OPERATE && mode == VIEWER_AUTO)
		mode = VIEWER_READ_ONLY;
	if (console && request->access < ACCESS_OPERATE && mode != VIEWER_READ_ONLY)
		guest_allow(request->guest, &request->peer, ACCESS_OPERATE,
			"type on the console of", &err);
	else if (console && console_admit(console, &request->peer, &err) == 0 &&
		 choose_offset(console, args->from, &offset, &end, &err) == 0) {
		viewer = viewer_new(console, mode, offset, &request->peer);
		if (conn_upgrade(conn, on_upgraded, viewer, &err) == 0) {
			reply_attached(request, run, console, offset, end, viewer);
			if (ended)
				console_release(console);
			return;
		}
		viewer_free(viewer);
	}
	if (ended)
		console_release(console);
	request_fail(request, &err);
}

const struct op op_console_attach = {
	.name = "console-attach",
	.access = ACCESS_VIEW,
	.takes_guest = true,
	.table = &attach_table,
	.run = console_attach,
	.doc = "answers once; then the connection is the console, raw, both ways",
};

/* Times of so many stretches of the log are told in one answer, which is some 20 KiB then. */
#define TIMES_MAX 512

struct times_args {
	char *guest;
	int64_t run, offset, since, ago;
};
static const struct cij_field times_fields[] = {
	OP_GUEST_FIELD(times_args),
	{.name = "run",
		.type = CIJ_T_INT,
		.offset = offsetof(struct times_args, run),
		.min = -RUN_NUMBER_MAX,
		.max = RUN_NUMBER_MAX,
		.doc = "as in 'console-attach'"},
	{.name = "offset",
		.type = CIJ_T_INT,
		.offset = offsetof(struct times_args, offset),
		.doc = "the first byte whose time is asked for; 0 is the default"},
	{.name = "since",
		.type = CIJ_T_INT,
		.offset = offsetof(struct times_args, since),
		.doc = "instead of an offset: the first byte of this time or later, in "
		       "microseconds since 1970"},
	{.name = "ago",
		.type = CIJ_T_INT,
		.offset = offsetof(struct times_args, ago),
		.doc = "as 'since', in microseconds back from now"},
};

static void
init_times_args(void *obj)
{
	struct times_args *args = obj;

	args->run = args->offset = 0;
}

static const struct cij_table times_table = CIJ_TABLE(
	times_fields, struct times_args, init_times_args);

/* [[offset, time], …]: the bytes from each offset on came at that time. */
static struct json_object *
times_to_json(const struct logindex *index, size_t at, struct logtime now)
{
	struct json_object *list = json_object_new_array();

	for (size_t n = 0; at < index->n && n < TIMES_MAX; at++) {
		struct logindex_record record = logindex_read(index, at);
		struct json_object *pair;

		if (record.kind != LOGINDEX_TIME && record.kind != LOGINDEX_AWAY)
			continue;
		pair = json_object_new_array_ext(2);
		json_object_array_add(pair, json_object_new_int64((int64_t)record.offset));
		json_object_array_add(
			pair, json_object_new_int64(logindex_wall(index, &record, now)));
		json_object_array_add(list, pair);
		n++;
	}
	return list;
}

static void
reply_times(struct request *request, unsigned run, struct console *console)
{
	struct json_object *reply = json_object_new_object(), *times;
	const struct logindex *index = console_index(console);
	struct times_args *args = request->args;
	struct logtime now = logtime_now();
	uint64_t end = console_bytes(console), offset = (uint64_t)args->offset;
	size_t at, n;

	if (args->ago != CIJ_UNSET)
		args->since = now.wall - args->ago;
	if (args->since != CIJ_UNSET) {
		at = logindex_find_since(index, args->since, now);
		offset = at < index->n ? logindex_read(index, at).offset : end;
	} else {
		at = logindex_find(index, offset);
	}
	if (offset < console_head(console))
		offset = console_head(console);
	times = times_to_json(index, at, now);
	n = json_object_array_length(times);
	cij_json_add_str(reply, "guest", request->guest_name);
	cij_json_add_int(reply, "run", run);
	cij_json_add_int(reply, "offset", (int64_t)(offset < end ? offset : end));
	json_object_object_add(reply, "times", times);
	/* What lies behind is to be asked for again: it may have come meanwhile. */
	cij_json_add_bool(reply, "more", n == TIMES_MAX);
	cij_json_add_int(reply, "end", (int64_t)end);
	cij_json_add_bool(reply, "known", index->fd >= 0);
	request_reply(request, reply);
}

static void
console_times(struct request *request)
{
	struct times_args *args = request->args;
	struct console *console;
	struct cij_error err;
	unsigned run = choose_run(request, args->run, &err);
	bool ended;

	console = run ? find_console(request, run, &ended, &err) : NULL;
	if (!console) {
		request_fail(request, &err);
		return;
	}
	reply_times(request, run, console);
	if (ended)
		console_release(console);
}

const struct op op_console_times = {
	.name = "console-times",
	.access = ACCESS_VIEW,
	.takes_guest = true,
	.table = &times_table,
	.run = console_times,
	.doc = "when the bytes of a console's log came: [offset, microseconds since 1970]",
};

static void
console_who(struct request *request)
{
	struct json_object *reply = json_object_new_object();
	const struct viewer *writer;
	struct guest_status status;

	guest_status(request->guest, &status);
	writer = status.console ? console_writer(status.console) : NULL;
	cij_json_add_str(reply, "guest", request->guest_name);
	json_object_object_add(reply, "writer", writer ? view_who(viewer_peer(writer)) : NULL);
	json_object_object_add(reply, "lease", guest_lease_view(request->guest));
	json_object_object_add(reply, "monitors", guest_monitor_clients(request->guest));
	json_object_object_add(reply, "viewers",
		status.console ? console_viewers_to_json(status.console) : json_object_new_array());
	request_reply(request, reply);
}

const struct op op_console_who = {
	.name = "console-who",
	.access = ACCESS_VIEW,
	.takes_guest = true,
	.table = &op_guest_table,
	.run = console_who,
	.doc = "who is attached to the console",
};
