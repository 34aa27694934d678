/* A guest's console: its events go to whoever has subscribed, its troubles to the log too. */
#include <string.h>

#include "daemon/clock.h"
#include "daemon/fileio.h"
#include "daemon/guest_impl.h"
#include "daemon/log.h"
#include "proto/json.h"
#include "proto/text.h"

static struct json_object *
new_event(const struct guest *guest, const char *what)
{
	struct json_object *data = json_object_new_object();

	cij_json_add_str(data, "guest", guest->name);
	cij_json_add_str(data, "what", what);
	return data;
}

static struct json_object *
viewer_event(const struct guest *guest, const char *what, const struct viewer *viewer)
{
	struct json_object *data = new_event(guest, what);
	const struct peer *peer = viewer_peer(viewer);

	cij_json_add_int(data, "uid", peer->uid);
	cij_json_add_int(data, "pid", peer->pid);
	cij_json_add_int(data, "viewer", (int64_t)viewer_number(viewer));
	cij_json_add_str(data, "mode", viewer_mode_name(viewer_mode(viewer)));
	return data;
}

static void
on_changed(void *arg, const char *what, const struct viewer *viewer)
{
	struct guest *guest = arg;

	notify_send(guest->sv->notify, "CONSOLE", guest->name, viewer_event(guest, what, viewer));
}

static void
on_lost(void *arg, const struct viewer *viewer, uint64_t at, uint64_t bytes)
{
	struct guest *guest = arg;
	struct json_object *data = viewer_event(guest, "lost", viewer);

	cij_json_add_int(data, "offset", (int64_t)at);
	cij_json_add_int(data, "bytes", (int64_t)bytes);
	notify_send(guest->sv->notify, "CONSOLE", guest->name, data);
}

static void
add_time(struct json_object *data, const char *name, int64_t usec)
{
	char text[32];

	cij_json_add_str(data, name,
		usec ? clock_rfc3339((time_t)(usec / 1000000), text, sizeof(text)) : NULL);
}

static void
tell_gap(struct guest *guest, const char *what, const struct logindex *index)
{
	struct json_object *data = new_event(guest, what);

	cij_json_add_int(data, "offset", (int64_t)index->gap_at);
	add_time(data, "since", index->gap_since);
	add_time(data, "until", index->gap_until);
	notify_send(guest->sv->notify, "CONSOLE", guest->name, data);
}

static void
on_log(void *arg, unsigned news, const struct console_log *log)
{
	struct guest *guest = arg;
	char limit[32];

	if (news & CONSOLE_LOG_NO_PUNCH)
		log_warn("guest '%s': its console log cannot be kept under log.limit (%s) while it "
			 "runs: %s; it is cut at the next start",
			guest->name, cij_size_human((int64_t)log->limit, limit, sizeof(limit)),
			strerror(log->no_punch));
	if (news & CONSOLE_LOG_FULL) {
		log_warn("guest '%s': the disk is full: what it prints from now on is lost",
			guest->name);
		tell_gap(guest, "incomplete", &log->index);
	}
	if (news & CONSOLE_LOG_ROOM) {
		log_notice("guest '%s': the disk has room again: its console is recorded",
			guest->name);
		tell_gap(guest, "recording", &log->index);
	}
}

static const struct console_ops console_ops = {on_changed, on_lost, on_log};

void
guest_open_console(struct guest *guest)
{
	struct run_files *files = &guest->run_files;

	guest->console = console_new(guest->sv->consoles,
		&(struct console_files){files->log_fd, files->fifo_fd, files->index_fd},
		(uint64_t)guest->conf.log.limit, &console_ops, guest);
	files->log_fd = files->fifo_fd = files->index_fd = -1;
}

void
guest_cut_logs(struct guest *guest)
{
	_cleanup_close_ int logs = dir_open_at(guest->dir_fd, "logs");
	unsigned keep = (unsigned)guest->conf.log.keep, last = guest->run.number;

	for (unsigned n = last - 1; logs >= 0 && n > 0 && last - n < keep; n--)
		logcut_start(guest->sv->logcuts, logs, n, (uint64_t)guest->conf.log.limit,
			guest->uid, guest->gid);
}
