/* start, stop, kill, restart, reset, pause, resume: one verb each, done to one or many guests. */
#include <stdio.h>
#include <string.h>

#include "cijqemu/protocol.h"
#include "client/console.h"
#include "client/jobs.h"
#include "client/out.h"
#include "client/view.h"
#include "proto/text.h"

/* QEMU does these within milliseconds, unless it is stuck. */
#define POWER_SECONDS 60

/* What goes to the daemon and back beside --force-after. */
#define STOP_GRACE_SECONDS 60

static void
tell_state(const char *guest, struct json_object *view, double seconds)
{
	char text[256];

	out_note("%s: %s", guest, view_summary(view, text, sizeof(text)));
}

static void
tell_started(const char *guest, struct json_object *view, double seconds)
{
	char text[256];

	view_summary(view, text, sizeof(text));
	if (cij_json_bool(view, "already", false))
		out_note("%s: running already (%s)", guest, text);
	else
		out_note("%s: %s (%.1f s)", guest, text, seconds);
}

static void
tell_stopped(const char *guest, struct json_object *view, double seconds)
{
	const char *how = cij_json_str(view, "how");

	if (how && strcmp(how, "already-stopped") == 0)
		out_note("%s: was stopped already", guest);
	else if (how && strcmp(how, "killed") == 0)
		out_note("%s: killed after %.1f s", guest, seconds);
	else
		out_note("%s: powered off (%.1f s)", guest, seconds);
}

static void
tell_killed(const char *guest, struct json_object *view, double seconds)
{
	const char *how = cij_json_str(view, "how");
	bool already = how && strcmp(how, "already-stopped") == 0;

	out_note("%s: %s", guest, already ? "was stopped already" : "killed");
}

static void
tell_reset(const char *guest, struct json_object *view, double seconds)
{
	out_note("%s: reset", guest);
}

static void
force_argument(const struct verb *verb, struct json_object *args)
{
	json_object_object_add(args, "force_after", json_object_new_double(verb->force_after));
}

static void
paused_argument(const struct verb *verb, struct json_object *args)
{
	if (verb->paused)
		cij_json_add_bool(args, "paused", true);
}

/* What --wait names; NULL without it. */
static int
wait_option(const struct call *call, const char **wait_for, struct cij_error *err)
{
	const char *value = call_value(call, "wait");

	*wait_for = NULL;
	if (!call_has(call, "wait"))
		return 0;
	if (!value)
		value = "ssh";
	if (strcmp(value, "ssh") != 0 && strcmp(value, "running") != 0)
		return call_usage(call, err, "--wait takes 'ssh' or 'running', not '%s'", value);
	*wait_for = value;
	return 0;
}

static int
force_option(const struct call *call, struct verb *verb, struct cij_error *err)
{
	if (call_seconds(call, "force-after", CIJ_FORCE_AFTER_SECONDS, &verb->force_after, err) < 0)
		return -1;
	verb->patience = verb->force_after + STOP_GRACE_SECONDS;
	return 0;
}

int
cmd_start(struct call *call, struct cij_error *err)
{
	struct verb verb = {"guest-start", "starting", "stopped broken", CIJ_WAIT_SECONDS,
		paused_argument, tell_started, .paused = call_has(call, "paused")};
	_cleanup_json_ struct json_object *view = NULL;
	int code;

	if (wait_option(call, &verb.wait_for, err) < 0)
		return -1;
	if (verb.wait_for && verb.paused)
		return call_usage(call, err, "a guest that starts --paused does not get to --wait");
	if (!call_has(call, "console"))
		return jobs_run(call, &verb, NULL, err);
	if (call->n_args != 1 || cij_is_glob(call->args[0]))
		return call_usage(call, err, "--console needs exactly one guest");
	if (call->json)
		return call_usage(call, err, "--console and --json do not go together");
	code = jobs_run(call, &verb, &view, err);
	if (code)
		return code;
	return console_run_started(call, call->args[0], cij_json_int(view, "run", 0), err);
}

int
cmd_stop(struct call *call, struct cij_error *err)
{
	struct verb verb = {"guest-stop", "powering off", "running paused starting stopping", 0,
		force_argument, tell_stopped};

	if (force_option(call, &verb, err) < 0)
		return -1;
	return jobs_run(call, &verb, NULL, err);
}

int
cmd_kill(struct call *call, struct cij_error *err)
{
	static const struct verb verb = {"guest-kill", "killing",
		"running paused starting stopping", POWER_SECONDS, NULL, tell_killed};

	return jobs_run(call, &verb, NULL, err);
}

int
cmd_restart(struct call *call, struct cij_error *err)
{
	struct verb verb = {"guest-restart", "restarting", "running paused starting stopping", 0,
		force_argument, tell_started};

	if (force_option(call, &verb, err) < 0 || wait_option(call, &verb.wait_for, err) < 0)
		return -1;
	verb.patience += CIJ_WAIT_SECONDS;
	return jobs_run(call, &verb, NULL, err);
}

int
cmd_reset(struct call *call, struct cij_error *err)
{
	static const struct verb verb = {
		"guest-reset", "resetting", "running paused", POWER_SECONDS, NULL, tell_reset};

	return jobs_run(call, &verb, NULL, err);
}

int
cmd_pause(struct call *call, struct cij_error *err)
{
	static const struct verb verb = {
		"guest-pause", "pausing", "running", POWER_SECONDS, NULL, tell_state};

	return jobs_run(call, &verb, NULL, err);
}

int
cmd_resume(struct call *call, struct cij_error *err)
{
	static const struct verb verb = {
		"guest-resume", "resuming", "paused", POWER_SECONDS, NULL, tell_state};

	return jobs_run(call, &verb, NULL, err);
}
