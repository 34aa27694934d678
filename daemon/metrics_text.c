#include "daemon/metrics_text.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "cijqemu/protocol.h"
#include "daemon/guest_stats.h"
#include "daemon/usage.h"
#include "proto/json.h"

/* A value that is not known: no sample is printed. */
#define UNKNOWN NAN

struct sample {
	struct guest *guest; /* weak */
	struct guest_status status;
	const struct guest_stats *stats; /* weak */
};

struct scrape {
	struct evbuffer *out; /* weak */
	struct sample *samples;
	size_t n;
};

/* The text format, "Comments, help text, and type information": what a label's value escapes. */
static void
print_label(struct evbuffer *out, const char *name, const char *value)
{
	evbuffer_add_printf(out, "%s=\"", name);
	for (const char *c = value ? value : ""; *c; c++)
		if (*c == '\\' || *c == '"')
			evbuffer_add_printf(out, "\\%c", *c);
		else if (*c == '\n')
			evbuffer_add(out, "\\n", 2);
		else
			evbuffer_add(out, c, 1);
	evbuffer_add(out, "\"", 1);
}

static void
print_heading(struct evbuffer *out, const char *name, const char *type, const char *help)
{
	evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Whole numbers as they are, as far as a double holds them. */
static void
print_value(struct evbuffer *out, double value)
{
	if (value == floor(value) && fabs(value) < 9e15)
		evbuffer_add_printf(out, " %.0f\n", value);
	else
		evbuffer_add_printf(out, " %.12g\n", value);
}

/* Numbers of a guest, one sample each */

static double
value_up(const struct sample *s)
{
	return s->status.state == GS_RUNNING;
}

static double
value_ready(const struct sample *s)
{
	return s->status.ready;
}

static double
value_hung(const struct sample *s)
{
	return s->status.hung;
}

static double
value_cpus(const struct sample *s)
{
	return s->status.broken ? UNKNOWN : (double)guest_conf(s->guest)->cpus;
}

static double
value_memory(const struct sample *s)
{
	return s->status.broken ? UNKNOWN : (double)guest_conf(s->guest)->memory;
}

static double
value_cpu_seconds(const struct sample *s)
{
	return s->stats->cpu_seconds >= 0 ? s->stats->cpu_seconds : UNKNOWN;
}

static double
value_resident(const struct sample *s)
{
	return s->stats->resident_bytes >= 0 ? (double)s->stats->resident_bytes : UNKNOWN;
}

static double
value_boot(const struct sample *s)
{
	return s->status.boot_ms >= 0 ? (double)s->status.boot_ms / 1000 : UNKNOWN;
}

static double
value_uptime(const struct sample *s)
{
	return s->status.uptime >= 0 ? s->status.uptime : UNKNOWN;
}

static double
value_runs(const struct sample *s)
{
	return s->status.run;
}

static double
value_console(const struct sample *s)
{
	return s->status.console ? (double)console_bytes(s->status.console) : UNKNOWN;
}

static double
value_viewers(const struct sample *s)
{
	return s->status.console ? (double)console_viewers(s->status.console) : UNKNOWN;
}

static double
value_leased(const struct sample *s)
{
	_cleanup_json_ struct json_object *lease = guest_lease_view(s->guest);

	return cij_json_int(lease, "uid", -1) >= 0;
}

static const struct {
	const char *name, *type, *help;
	double (*value)(const struct sample *sample);
} guest_families[] = {
	{"cijqemu_guest_up", "gauge", "Whether the guest runs.", value_up},
	{"cijqemu_guest_ready", "gauge", "Whether the guest's SSH has answered in this run.",
		value_ready},
	{"cijqemu_guest_hung", "gauge", "Whether QEMU lives but its monitor does not answer.",
		value_hung},
	{"cijqemu_guest_cpus", "gauge", "Processors that the guest is given.", value_cpus},
	{"cijqemu_guest_memory_bytes", "gauge", "RAM that the guest is given.", value_memory},
	{"cijqemu_guest_cpu_seconds_total", "counter",
		"CPU time that the guest's QEMU has used in this run.", value_cpu_seconds},
	{"cijqemu_guest_resident_memory_bytes", "gauge",
		"Memory of the host that the guest's QEMU occupies.", value_resident},
	{"cijqemu_guest_boot_seconds", "gauge",
		"Time from the start of this run until SSH answered.", value_boot},
	{"cijqemu_guest_uptime_seconds", "gauge", "How long the guest has been running.",
		value_uptime},
	{"cijqemu_guest_runs_total", "counter", "Times that the guest was started.", value_runs},
	{"cijqemu_guest_console_bytes_total", "counter",
		"Bytes that the guest has written to its console in this run.", value_console},
	{"cijqemu_guest_console_viewers", "gauge", "Who is attached to the guest's console.",
		value_viewers},
	{"cijqemu_guest_leased", "gauge", "Whether somebody has the guest to themselves.",
		value_leased},
};

/* Numbers of a drive */

static double
drive_read_bytes(const struct drive_stats *d)
{
	return (double)d->read_bytes;
}

static double
drive_written_bytes(const struct drive_stats *d)
{
	return (double)d->written_bytes;
}

static double
drive_reads(const struct drive_stats *d)
{
	return (double)d->reads;
}

static double
drive_writes(const struct drive_stats *d)
{
	return (double)d->writes;
}

static double
drive_flushes(const struct drive_stats *d)
{
	return (double)d->flushes;
}

static double
drive_read_seconds(const struct drive_stats *d)
{
	return (double)d->read_ns / 1e9;
}

static double
drive_write_seconds(const struct drive_stats *d)
{
	return (double)d->write_ns / 1e9;
}

static const struct {
	const char *name, *help;
	double (*value)(const struct drive_stats *drive);
} drive_families[] = {
	{"cijqemu_guest_drive_read_bytes_total", "Bytes that the guest has read from the drive.",
		drive_read_bytes},
	{"cijqemu_guest_drive_written_bytes_total",
		"Bytes that the guest has written to the drive.", drive_written_bytes},
	{"cijqemu_guest_drive_reads_completed_total", "Reads of the drive that are done.",
		drive_reads},
	{"cijqemu_guest_drive_writes_completed_total", "Writes to the drive that are done.",
		drive_writes},
	{"cijqemu_guest_drive_flushes_completed_total", "Flushes of the drive that are done.",
		drive_flushes},
	{"cijqemu_guest_drive_read_time_seconds_total", "Time spent on all reads of the drive.",
		drive_read_seconds},
	{"cijqemu_guest_drive_write_time_seconds_total", "Time spent on all writes to the drive.",
		drive_write_seconds},
};

static void
print_guest_families(const struct scrape *scrape)
{
	for (size_t f = 0; f < cij_array_size(guest_families); f++) {
		print_heading(scrape->out, guest_families[f].name, guest_families[f].type,
			guest_families[f].help);
		for (size_t i = 0; i < scrape->n; i++) {
			const struct sample *s = &scrape->samples[i];
			double value = guest_families[f].value(s);

			if (isnan(value))
				continue;
			evbuffer_add_printf(scrape->out, "%s{", guest_families[f].name);
			print_label(scrape->out, "guest", guest_name(s->guest));
			evbuffer_add(scrape->out, "}", 1);
			print_value(scrape->out, value);
		}
	}
}

static void
print_drive_families(const struct scrape *scrape)
{
	for (size_t f = 0; f < cij_array_size(drive_families); f++) {
		print_heading(
			scrape->out, drive_families[f].name, "counter", drive_families[f].help);
		for (size_t i = 0; i < scrape->n; i++) {
			const struct sample *s = &scrape->samples[i];

			for (size_t d = 0; d < s->stats->n_drives; d++) {
				const struct drive_stats *drive = &s->stats->drives[d];

				evbuffer_add_printf(scrape->out, "%s{", drive_families[f].name);
				print_label(scrape->out, "guest", guest_name(s->guest));
				evbuffer_add(scrape->out, ",", 1);
				print_label(scrape->out, "drive", drive->id);
				evbuffer_add(scrape->out, "}", 1);
				print_value(scrape->out, drive_families[f].value(drive));
			}
		}
	}
}

/* What a guest is: labels only. */
static void
print_info(const struct scrape *scrape)
{
	static const char name[] = "cijqemu_guest_info";

	print_heading(scrape->out, name, "gauge", "What the guest is; always 1.");
	for (size_t i = 0; i < scrape->n; i++) {
		const struct sample *s = &scrape->samples[i];
		const char *accel = !s->status.active ? "" : s->status.kvm ? "kvm" : "tcg";
		char uid[16];

		snprintf(uid, sizeof(uid), "%u", (unsigned)guest_uid(s->guest));
		evbuffer_add_printf(scrape->out, "%s{", name);
		print_label(scrape->out, "guest", guest_name(s->guest));
		evbuffer_add(scrape->out, ",", 1);
		print_label(scrape->out, "owner_uid", uid);
		evbuffer_add(scrape->out, ",", 1);
		print_label(scrape->out, "accel", accel);
		evbuffer_add(scrape->out, ",", 1);
		print_label(scrape->out, "qemu_version", s->status.version);
		evbuffer_add(scrape->out, "}", 1);
		print_value(scrape->out, 1);
	}
}

static void
print_counts(const struct scrape *scrape)
{
	print_heading(scrape->out, "cijqemu_guests", "gauge", "Guests in each state.");
	for (int state = 0; state < GS_COUNT; state++) {
		size_t n = 0;

		for (size_t i = 0; i < scrape->n; i++)
			n += (int)scrape->samples[i].status.state == state;
		evbuffer_add(scrape->out, "cijqemu_guests{", 15);
		print_label(scrape->out, "state", gstate_name(state));
		evbuffer_add(scrape->out, "}", 1);
		print_value(scrape->out, (double)n);
	}
}

static void
print_one(struct evbuffer *out, const char *name, const char *type, const char *help, double value)
{
	print_heading(out, name, type, help);
	evbuffer_add_printf(out, "%s", name);
	print_value(out, value);
}

static size_t
count_descriptors(void)
{
	_cleanup_closedir_ DIR *dir = opendir("/proc/self/fd");
	size_t n = 0;

	while (dir && readdir(dir))
		n++;
	return n > 3 ? n - 3 : 0; /* ".", ".." and this one */
}

/* The daemon itself, by the names that every exporter has for that. */
static void
print_daemon(struct evbuffer *out)
{
	struct rlimit limit;
	struct usage usage;

	print_heading(out, "cijqemu_build_info", "gauge", "The daemon's version; always 1.");
	evbuffer_add(out, "cijqemu_build_info{", 19);
	print_label(out, "version", CIJ_VERSION);
	evbuffer_add(out, "}", 1);
	print_value(out, 1);
	if (usage_read(0, &usage) == 0) {
		print_one(out, "process_cpu_seconds_total", "counter",
			"CPU time that the daemon has used.", usage.cpu_seconds);
		print_one(out, "process_resident_memory_bytes", "gauge",
			"Memory that the daemon occupies.", (double)usage.resident_bytes);
	}
	print_one(out, "process_open_fds", "gauge", "Descriptors that the daemon has open.",
		(double)count_descriptors());
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		print_one(out, "process_max_fds", "gauge", "Descriptors that it may have open.",
			(double)limit.rlim_cur);
}

static void
take_sample(void *arg, struct guest *guest)
{
	struct scrape *scrape = arg;
	struct sample *s = &scrape->samples[scrape->n++];

	s->guest = guest;
	guest_status(guest, &s->status);
	s->stats = guest_stats(guest);
}

void
metrics_print(struct registry *registry, struct evbuffer *out)
{
	struct scrape scrape = {.out = out};

	scrape.samples = calloc(registry_count(registry).total + 1, sizeof(*scrape.samples));
	if (!scrape.samples)
		abort();
	registry_each(registry, take_sample, &scrape);
	print_daemon(out);
	print_counts(&scrape);
	print_info(&scrape);
	print_guest_families(&scrape);
	print_drive_families(&scrape);
	free(scrape.samples);
}
