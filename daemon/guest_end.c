/* The end of a run: why it came, its last words, its record. */
#include "daemon/guest_impl.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/fileio.h"

void
guest_close_run(struct guest *guest)
{
	guest_device_cancel(guest);
	probe_cancel(guest->sv->probes, guest);
	image_job_free(steal_ptr(guest->images));
	banner_free(steal_ptr(guest->banner));
	console_release(steal_ptr(guest->console));
	guest_sockets_close(guest);
	guest_monitor_drop(guest, NULL);
	proc_free(steal_ptr(guest->proc));
	run_files_close(&guest->run_files);
	if (guest->ping)
		event_free(steal_ptr(guest->ping));
	event_del(guest->deadline);
	guest_stats_clear(guest);
}

void
guest_save_run(struct guest *guest)
{
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest->uid, guest->gid);
	bool was_unsaved = guest->unsaved; /* tried again at each look: told once */
	struct cij_error err;

	guest->unsaved = guest->dir_fd >= 0 && guest->run.started && guest->run.number > 0 &&
			 run_save(guest->dir_fd, &guest->run, &err) < 0;
	if (guest->unsaved && !was_unsaved)
		log_warn("guest '%s': %s", guest->name, err.desc);
}

/* Why a process that is gone ended. */
static enum greason
judge_end(const struct guest *guest)
{
	const struct proc_exit *how = &guest->run.exit;

	if (guest->state == GS_STARTING)
		return GR_START_FAILED;
	if (guest->saw_panic)
		return GR_PANICKED;
	if (guest->sent_kill)
		return guest->run.asked == RUN_ASKED_HOST_SHUTDOWN ? GR_HOST_SHUTDOWN : GR_KILLED;
	if ((how->known && (how->signaled || how->code != 0)) || guest->out_of_memory)
		return GR_CRASHED;
	if (guest->asked_stop)
		return guest->run.asked == RUN_ASKED_HOST_SHUTDOWN ? GR_HOST_SHUTDOWN : GR_STOPPED;
	if (guest->saw_guest_shutdown)
		return GR_GUEST_SHUTDOWN;
	/* It said that it ends, and that no guest asked for it: 'quit' on its monitor, or SIGTERM.
	 */
	if (guest->saw_shutdown || how->known)
		return GR_KILLED;
	return GR_LOST;
}

static void
read_last_words(const struct guest *guest, char *buf, size_t size)
{
	buf[0] = '\0';
	if (guest->run_files.qemu_fd >= 0)
		file_last_line(guest->run_files.qemu_fd, buf, size);
}

static void
fail_start(struct guest *guest)
{
	/* A QEMU that we ended had no last words: what it printed before is not why. */
	bool ended_by_us = guest->run.exit.signaled && guest->run.exit.code == SIGKILL &&
			   guest->start_err.class != CIJ_E_NONE;
	char last[512], how[64];

	read_last_words(guest, last, sizeof(last));
	if (guest->start_err.class == CIJ_E_NONE)
		cij_error_set(&guest->start_err, CIJ_E_QEMU_FAILED, "QEMU ended (%s)",
			proc_exit_text(&guest->run.exit, how, sizeof(how)));
	if (*last && !ended_by_us) {
		bool full = strstr(last, strerror(ENOSPC)) || strstr(last, strerror(EDQUOT));

		cij_error_set(&guest->start_err, full ? CIJ_E_NO_RESOURCES : CIJ_E_QEMU_FAILED,
			"%s", last);
		if (full)
			cij_error_hint(
				&guest->start_err, "the disk is full: make room, then try again");
	}
	str_replace(&guest->run.error, guest->start_err.desc);
	cij_error_prefix(&guest->start_err, "guest '%s' did not start", guest->name);
}

/* QEMU's last words, or ours where it had none. */
static void
keep_last_words(struct guest *guest)
{
	char last[512];

	read_last_words(guest, last, sizeof(last));
	if (guest->reason == GR_START_FAILED)
		fail_start(guest);
	else if (guest->out_of_memory == OOM_LIMIT && guest->oom.own)
		str_replace(&guest->run.error,
			"the out-of-memory killer ended it: it came to the memory limit of its "
			"scope (limits.memory_max)");
	else if (guest->out_of_memory && guest->oom.own)
		str_replace(&guest->run.error, "the host's out-of-memory killer ended it");
	else if (guest->out_of_memory)
		str_replace(&guest->run.error,
			"the host ran out of memory and killed processes: this one too, it seems");
	else if (guest->reason == GR_CRASHED || guest->reason == GR_PANICKED)
		str_replace(&guest->run.error, *last ? last : NULL);
	else if (guest->reason == GR_LOST)
		str_replace(&guest->run.error,
			"it ended, and how is not known: an earlier daemon had started it");
}

static void
log_end(const struct guest *guest)
{
	const char *error = guest->run.error;
	char how[64];

	if (guest->reason == GR_CRASHED || guest->reason == GR_PANICKED ||
		guest->reason == GR_START_FAILED)
		log_id(LOG_ID_FAILED, LOG_WARNING, "guest '%s': %s, %s%s%s", guest->name,
			greason_name(guest->reason),
			proc_exit_text(&guest->run.exit, how, sizeof(how)), error ? ": " : "",
			error ? error : "");
	else if (guest->reason == GR_LOST)
		log_id(LOG_ID_LOST, LOG_WARNING, "guest '%s': lost: %s", guest->name, error);
	else
		log_id(LOG_ID_STOPPED, LOG_NOTICE, "guest '%s': stopped (%s)", guest->name,
			greason_name(guest->reason));
}

/* What is the same for every end. @ran: seconds. */
static void
settle(struct guest *guest, double ran, enum gevent event)
{
	guest->run.ended = time(NULL);
	guest->run.reason = guest->reason;
	log_end(guest);
	guest_restart_plan(guest, ran);
	console_end(guest->console); /* first: it gives back room that the record may need */
	guest_save_run(guest);
	guest_close_run(guest);
	ports_give_back_all(guest->sv->ports, guest);
	guest_monitor_sockets_remove(guest);
	guest->ready = guest->hung = guest->exited = guest->qmp_over = guest->adopting = false;
	/* guest.json may have been changed while it ran. */
	guest->json_st.st_ino = (ino_t)-1;
	guest_step(guest, event);
	/* Its end was seen while it was being taken back: nothing is waited for any more. */
	guest_adopt_over(guest);
}

void
guest_ended(struct guest *guest, enum gevent event)
{
	double ran = guest->run.up ? clock_mono() - guest->up_at : 0;

	guest->reason = judge_end(guest);
	keep_last_words(guest);
	settle(guest, ran, event);
}

/* Why a run that was not seen to end did, from its record. */
static enum greason
judge_unseen(const struct guest *guest, const char **error)
{
	const struct run *run = &guest->run;

	*error = NULL;
	if (!run->this_boot) {
		*error = "the host went down while it ran";
		return GR_HOST_SHUTDOWN;
	}
	if (run->asked == RUN_ASKED_KILL)
		return GR_KILLED;
	if (run->asked == RUN_ASKED_STOP)
		return GR_STOPPED;
	if (run->asked == RUN_ASKED_HOST_SHUTDOWN)
		return GR_HOST_SHUTDOWN;
	if (!run->up) {
		*error = "it ended during its start, while no daemon watched";
		return GR_START_FAILED;
	}
	*error = "it ended while no daemon watched: when and how is not known";
	return GR_LOST;
}

void
guest_ended_unseen(struct guest *guest, const char *uuid)
{
	const char *error;

	guest->reason = judge_unseen(guest, &error);
	str_replace(&guest->run.error, error);
	guest->run.has_exit = false;
	guest->run.exit = (struct proc_exit){0};
	guest_set_since(guest);
	/* The record of a folder that was copied from a guest's that runs is not ours to go by; one
	 * without a uuid is of a run that had not come to QEMU's arguments. */
	if (uuid ? strcmp(uuid, guest->uuid) != 0 : guest->run.up) {
		guest->reason = GR_LOST;
		return;
	}
	guest->run.ended = time(NULL);
	guest->run.reason = guest->reason;
	log_end(guest);
	guest_restart_plan(guest, 0);
	guest_save_run(guest);
}
