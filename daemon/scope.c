#include "daemon/scope.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>

#include "daemon/clock.h"

/* systemd answers in a millisecond; one that is busy with a boot of hundreds of units in seconds.
 */
#define ANSWER_SECONDS 10

#define SERVICE "org.freedesktop.systemd1"
#define MANAGER_PATH "/org/freedesktop/systemd1"
#define MANAGER SERVICE ".Manager"

static void
bus_free(sd_bus **bus)
{
	sd_bus_close_unref(*bus);
}
#define _cleanup_bus_ _cleanup_(bus_free)

static void
message_free(sd_bus_message **message)
{
	sd_bus_message_unref(*message);
}
#define _cleanup_message_ _cleanup_(message_free)

void
scope_add_words(const struct scope_spec *spec, struct strv *words)
{
	strv_addf(words, "scope=%s", spec->guest);
	strv_addf(words, "run=%u", spec->run);
	strv_addf(words, "memory_max=%lld", (long long)spec->memory_max);
	strv_addf(words, "cpu_usec=%lld", (long long)spec->cpu_usec);
	strv_addf(words, "tasks_max=%lld", (long long)spec->tasks_max);
}

int
scope_read_word(struct scope_spec *spec, const char *word)
{
	long long n;

	if (strncmp(word, "scope=", 6) == 0)
		spec->guest = word + 6;
	else if (sscanf(word, "run=%u", &spec->run) == 1)
		;
	else if (sscanf(word, "memory_max=%lld", &n) == 1)
		spec->memory_max = n;
	else if (sscanf(word, "cpu_usec=%lld", &n) == 1)
		spec->cpu_usec = n;
	else if (sscanf(word, "tasks_max=%lld", &n) == 1)
		spec->tasks_max = n;
	else
		return -1;
	return 0;
}

/* systemd's own socket, as systemctl uses it: one hop less than the bus, and there before it. */
static int
open_manager(sd_bus **bus)
{
	char address[96];
	int ret;

	if (geteuid() == 0)
		snprintf(address, sizeof(address), "unix:path=/run/systemd/private");
	else
		snprintf(address, sizeof(address), "unix:path=/run/user/%u/systemd/private",
			(unsigned)geteuid());
	ret = sd_bus_new(bus);
	if (ret < 0)
		return ret;
	ret = sd_bus_set_address(*bus, address);
	if (ret >= 0)
		ret = sd_bus_start(*bus);
	return ret;
}

/* What became of the one job that is waited for. */
struct wait {
	const char *job; /* weak; NULL until its path is known */
	char early[128]; /* the path of a job that ended before that */
	char result[32]; /* "" = not yet */
};

static int
on_job_removed(sd_bus_message *message, void *arg, sd_bus_error *error)
{
	struct wait *wait = arg;
	const char *path, *unit, *result;
	uint32_t id;

	if (sd_bus_message_read(message, "uoss", &id, &path, &unit, &result) < 0)
		return 0;
	if (!wait->job)
		snprintf(wait->early, sizeof(wait->early), "%s", path);
	else if (strcmp(path, wait->job) != 0)
		return 0;
	snprintf(wait->result, sizeof(wait->result), "%s", result);
	return 0;
}

static int
append(sd_bus_message *m, const char *name, const char *type, uint64_t value)
{
	return value ? sd_bus_message_append(m, "(sv)", name, type, value) : 0;
}

/* The call StartTransientUnit(name, mode, properties, aux), as org.freedesktop.systemd1(5) has it.
 */
static int
build_call(sd_bus *bus, const struct scope_spec *spec, const char *unit, sd_bus_message **out)
{
	_cleanup_free_ char *text = str_printf("QEMU guest %s, run %u", spec->guest, spec->run);
	_cleanup_message_ sd_bus_message *m = NULL;
	int ret;

	ret = sd_bus_message_new_method_call(
		bus, &m, SERVICE, MANAGER_PATH, MANAGER, "StartTransientUnit");
	if (ret < 0 || (ret = sd_bus_message_append(m, "ss", unit, "fail")) < 0 ||
		(ret = sd_bus_message_open_container(m, 'a', "(sv)")) < 0 ||
		(ret = sd_bus_message_append(m, "(sv)", "Description", "s", text)) < 0 ||
		(ret = sd_bus_message_append(m, "(sv)", "Slice", "s", "cijqemu.slice")) < 0 ||
		/* A run that failed leaves nothing behind in systemd: we know how it ended. */
		(ret = sd_bus_message_append(m, "(sv)", "CollectMode", "s", "inactive-or-failed")) <
			0 ||
		/* At shutdown the guests' service powers it off before systemd ends it. */
		(ret = sd_bus_message_append(
			 m, "(sv)", "Before", "as", 1, "cijqemu-guests.service")) < 0 ||
		(ret = sd_bus_message_append(m, "(sv)", "PIDs", "au", 1, (uint32_t)getpid())) < 0 ||
		(ret = append(m, "MemoryMax", "t", spec->memory_max)) < 0 ||
		(ret = append(m, "CPUQuotaPerSecUSec", "t", spec->cpu_usec)) < 0 ||
		(ret = append(m, "TasksMax", "t", spec->tasks_max)) < 0 ||
		(ret = sd_bus_message_close_container(m)) < 0 ||
		(ret = sd_bus_message_append(m, "a(sa(sv))", 0)) < 0)
		return ret;
	*out = steal_ptr(m);
	return 0;
}

/* Waits until the job has ended: only then are we in the scope. */
static int
await(sd_bus *bus, struct wait *wait, struct cij_error *err)
{
	double end = clock_mono() + ANSWER_SECONDS;
	int ret;

	if (*wait->early && strcmp(wait->early, wait->job) != 0)
		*wait->result = '\0';
	while (!*wait->result) {
		double left = end - clock_mono();

		ret = sd_bus_process(bus, NULL);
		if (ret == 0 && left > 0)
			ret = sd_bus_wait(bus, (uint64_t)(left * 1e6));
		if (ret < 0)
			return cij_error_errno(err, CIJ_E_NO_RESOURCES, -ret, "systemd");
		if (left <= 0)
			return cij_error_set(err, CIJ_E_NO_RESOURCES,
				"systemd made no scope within %d s", ANSWER_SECONDS);
	}
	if (strcmp(wait->result, "done") == 0)
		return 1;
	return cij_error_set(err, CIJ_E_NO_RESOURCES, "systemd made no scope: '%s'", wait->result);
}

/* 1, or -1 with an error; *@exists: there is a unit of that name. */
static int
start_scope(sd_bus *bus, const struct scope_spec *spec, const char *unit, bool *exists,
	struct cij_error *err)
{
	_cleanup_message_ sd_bus_message *call = NULL, *reply = NULL;
	__attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
	struct wait wait = {0};
	const char *job;
	int ret;

	*exists = false;
	ret = sd_bus_match_signal_async(
		bus, NULL, NULL, MANAGER_PATH, MANAGER, "JobRemoved", on_job_removed, NULL, &wait);
	if (ret >= 0)
		ret = build_call(bus, spec, unit, &call);
	if (ret >= 0)
		ret = sd_bus_call(bus, call, ANSWER_SECONDS * 1000000ULL, &error, &reply);
	*exists = sd_bus_error_has_name(&error, SERVICE ".UnitExists");
	if (ret < 0)
		return cij_error_set(err, CIJ_E_NO_RESOURCES, "systemd made no scope '%s': %s",
			unit, error.message ? error.message : strerror(-ret));
	if (sd_bus_message_read(reply, "o", &job) < 0)
		return cij_error_set(err, CIJ_E_NO_RESOURCES, "systemd: an answer without a job");
	wait.job = job;
	return await(bus, &wait, err);
}

int
scope_join(const struct scope_spec *spec, struct cij_error *err)
{
	_cleanup_free_ char *unit = str_printf("cijqemu-%s-%u.scope", spec->guest, spec->run);
	_cleanup_bus_ sd_bus *bus = NULL;
	bool exists;
	int ret;

	if (sd_booted() <= 0)
		return 0;
	ret = open_manager(&bus);
	if (ret == -ENOENT && geteuid() != 0)
		return 0; /* no systemd of this user's own */
	if (ret < 0)
		return cij_error_errno(err, CIJ_E_NO_RESOURCES, -ret, "cannot reach systemd");
	ret = start_scope(bus, spec, unit, &exists, err);
	if (ret >= 0 || !exists)
		return ret;
	/* Another daemon's guest of that name and run, or one whose end systemd has not seen yet.
	 */
	free(unit);
	unit = str_printf("cijqemu-%s-%u-%d.scope", spec->guest, spec->run, (int)getpid());
	return start_scope(bus, spec, unit, &exists, err);
}
