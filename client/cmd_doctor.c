/*
 * doctor: what works on this machine and what does not, each with the command that mends it. With
 * no daemon it tells what can be seen without one.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/doctor.h"
#include "client/out.h"
#include "client/quote.h"
#include "proto/text.h"

static const struct {
	const char *word, *colour;
} levels[] = {
	[LEVEL_OK] = {"ok", "32"},
	[LEVEL_NOTE] = {"note", "33"},
	[LEVEL_FAIL] = {"fail", "31"},
};

void
doctor_find(struct doctor *doctor, enum level level, const char *check, const char *thing,
	const char *fmt, ...)
{
	struct json_object *finding = json_object_new_object();
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	cij_json_add_str(finding, "check", check);
	cij_json_add_str(finding, "thing", thing);
	cij_json_add_str(finding, "level", levels[level].word);
	cij_json_add_str(finding, "text", text);
	cij_json_add_str(finding, "fix", NULL);
	json_object_array_add(doctor->findings, finding);
	if (level > doctor->worst)
		doctor->worst = level;
}

void
doctor_fix(struct doctor *doctor, const char *fmt, ...)
{
	size_t n = json_object_array_length(doctor->findings);
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	cij_json_add_str(json_object_array_get_idx(doctor->findings, n - 1), "fix", text);
}

void
doctor_fix_unit(struct doctor *doctor, const char *setting)
{
	static const char dir[] = "/etc/systemd/system/cijqemud.service.d";
	const char *sudo = doctor_sudo();
	_cleanup_free_ char *word = doctor_word(setting);

	doctor_fix(doctor,
		"%smkdir -p %s && printf '[Service]\\n%%s\\n' %s | %stee %s/zz-%.*s.conf && "
		"%ssystemctl daemon-reload && %ssystemctl restart cijqemud",
		sudo, dir, word, sudo, dir, (int)strcspn(setting, "="), setting, sudo, sudo);
}

char *
doctor_word(const char *text)
{
	return shell_quote(text, false);
}

const char *
doctor_sudo(void)
{
	return geteuid() == 0 ? "" : "sudo ";
}

int64_t
doctor_daemon_pid(const struct doctor *doctor)
{
	return cij_json_int(doctor->daemon, "pid", 0);
}

/* Asks the daemon for the facts that the checks judge. */
static void
ask_daemon(struct doctor *doctor, struct reply *daemon, struct reply *host)
{
	struct cij_error err = CIJ_ERROR_INIT;
	const char *version, *guests;

	if (call_daemon(doctor->call, DOCTOR_SECONDS, "query-daemon", NULL, daemon, &err) < 0) {
		doctor_find(doctor, LEVEL_FAIL, "daemon", NULL, "%s", err.desc);
		if (*err.hint)
			doctor_fix(doctor, "%s", err.hint);
		doctor_find(doctor, LEVEL_NOTE, "daemon", NULL,
			"no daemon answers: what only it can tell was not looked at");
		doctor->no_daemon = true;
		return;
	}
	doctor->daemon = daemon->value;
	version = cij_json_str(daemon->value, "version");
	guests = cij_json_str(daemon->value, "guests_dir");
	doctor_find(doctor, LEVEL_OK, "daemon", NULL, "version %s, pid %lld, guests in %s",
		version ? version : "?", (long long)doctor_daemon_pid(doctor),
		guests ? guests : "?");
	if (call_daemon(doctor->call, DOCTOR_SECONDS, "query-host", NULL, host, &err) == 0)
		doctor->host = host->value;
	else
		doctor_find(doctor, LEVEL_FAIL, "daemon", NULL, "does not tell of its machine: %s",
			err.desc);
}

/* How a check gets by. */
enum need {
	NEED_NOTHING,
	NEED_HERE, /* looks at this machine: not when the daemon's is another one */
	NEED_HOST, /* judges what query-host says */
};

static const struct {
	void (*run)(struct doctor *doctor);
	enum need need;
} checks[] = {
	{doctor_check_unit, NEED_HERE},
	{doctor_check_caller, NEED_HOST},
	{doctor_check_groups, NEED_HERE},
	{doctor_check_sockets, NEED_HOST},
	{doctor_check_guests_dir, NEED_HOST},
	{doctor_check_folders, NEED_HOST},
	{doctor_check_keys, NEED_HERE},
	{doctor_check_qemu, NEED_NOTHING},
	{doctor_check_local_qemu, NEED_HERE},
	{doctor_check_kvm, NEED_HOST},
	{doctor_check_local_kvm, NEED_HERE},
	{doctor_check_memory, NEED_HOST},
	{doctor_check_disk, NEED_HOST},
	{doctor_check_descriptors, NEED_HOST},
	{doctor_check_inotify, NEED_HOST},
	{doctor_check_environment, NEED_NOTHING},
};

static void
run_checks(struct doctor *doctor)
{
	for (size_t i = 0; i < cij_array_size(checks); i++) {
		if (checks[i].need == NEED_HERE && doctor->call->host)
			continue;
		if (checks[i].need == NEED_HOST && !doctor->host)
			continue;
		checks[i].run(doctor);
	}
	if (!doctor->call->host)
		return;
	doctor_find(doctor, LEVEL_NOTE, "host", NULL,
		"groups, keys and systemd's units over there were not looked at");
	doctor_fix(doctor, "run 'cijqemuctl doctor' on %s itself", doctor->call->host);
}

static void
print_finding(struct json_object *finding)
{
	const char *word = cij_json_str(finding, "level"), *fix = cij_json_str(finding, "fix");
	const char *thing = cij_json_str(finding, "thing");
	char subject[512], text[1024];

	cij_text_clean(cij_json_str(finding, "text"), text, sizeof(text));
	for (size_t i = 0; i < cij_array_size(levels); i++)
		if (strcmp(levels[i].word, word) == 0 && out_colours(stdout))
			printf("\033[%sm%-4s\033[0m", levels[i].colour, word);
	if (!out_colours(stdout))
		printf("%-4s", word);
	printf("  %s", cij_json_str(finding, "check"));
	if (thing)
		printf(" %s", cij_text_clean(thing, subject, sizeof(subject)));
	printf(": %s\n", text);
	if (fix)
		printf("      %s\n", cij_text_clean(fix, text, sizeof(text)));
}

int
cmd_doctor(struct call *call, struct cij_error *err)
{
	_cleanup_json_ struct json_object *findings = json_object_new_array();
	_cleanup_reply_ struct reply daemon = {0}, host = {0};
	struct doctor doctor = {.call = call, .findings = findings};

	ask_daemon(&doctor, &daemon, &host);
	run_checks(&doctor);
	if (call->json) {
		size_t len;
		const char *text = json_object_to_json_string_length(
			findings, JSON_C_TO_STRING_NOSLASHESCAPE, &len);

		out_json(text, len, out_colours(stdout));
	} else {
		for (size_t i = 0; i < json_object_array_length(findings); i++)
			print_finding(json_object_array_get_idx(findings, i));
	}
	return doctor.worst == LEVEL_FAIL ? 1 : 0;
}
