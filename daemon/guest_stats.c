#include "daemon/guest_stats.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/guest_impl.h"
#include "daemon/strv.h"
#include "daemon/usage.h"
#include "proto/json.h"

/* A monitor answers in a millisecond; whoever asks shall not wait long for one that does not. */
#define ANSWER_SECONDS 1

/* Numbers younger than this are given again: many who ask cost QEMU no more than one. */
#define FRESH_SECONDS 0.05

/* The names of our own block devices are the drives' ids behind this (dialect.c). */
#define DRIVE_PREFIX "drive-"

struct stats_waiter {
	TAILQ_ENTRY(stats_waiter) link;
	guest_stats_fn *done;
	void *arg; /* weak */
};

static void
clear_drives(struct guest_stats *stats)
{
	for (size_t i = 0; i < stats->n_drives; i++)
		free(stats->drives[i].id);
	free(stats->drives);
	stats->drives = NULL;
	stats->n_drives = 0;
	stats->drives_known = false;
}

void
guest_stats_clear(struct guest *guest)
{
	clear_drives(&guest->stats);
	guest->stats = (struct guest_stats){.cpu_seconds = -1, .resident_bytes = -1};
}

const struct guest_stats *
guest_stats(const struct guest *guest)
{
	return &guest->stats;
}

/* The process's own numbers; its pid is still its own if it can be signalled behind that. */
static void
read_usage(struct guest *guest)
{
	struct guest_stats *stats = &guest->stats;
	struct usage usage;

	stats->at = clock_mono();
	stats->cpu_seconds = -1;
	stats->resident_bytes = -1;
	if (!guest->proc || usage_read(proc_pid(guest->proc), &usage) < 0 ||
		proc_signal(guest->proc, 0) < 0)
		return;
	stats->cpu_seconds = usage.cpu_seconds;
	stats->resident_bytes = usage.resident_bytes;
}

/*
 * A block device is named by -drive's id, else by the node's name where that was given (QEMU's own
 * begin with '#'), else by what it is plugged into.
 */
static const char *
drive_name(struct json_object *entry)
{
	const char *name = cij_json_str(entry, "device");

	if (!name || !*name)
		name = cij_json_str(entry, "node-name");
	if (!name || !*name || *name == '#')
		name = cij_json_str(entry, "qdev");
	if (name && strncmp(name, DRIVE_PREFIX, strlen(DRIVE_PREFIX)) == 0)
		name += strlen(DRIVE_PREFIX);
	return name && *name ? name : NULL;
}

static void
take_drive(struct guest_stats *stats, struct json_object *entry)
{
	struct json_object *numbers = cij_json_get(entry, "stats");
	const char *name = drive_name(entry);

	if (!name || !numbers)
		return;
	stats->drives[stats->n_drives++] = (struct drive_stats){
		.id = str_copy(name),
		.read_bytes = cij_json_int(numbers, "rd_bytes", 0),
		.written_bytes = cij_json_int(numbers, "wr_bytes", 0),
		.reads = cij_json_int(numbers, "rd_operations", 0),
		.writes = cij_json_int(numbers, "wr_operations", 0),
		.flushes = cij_json_int(numbers, "flush_operations", 0),
		.read_ns = cij_json_int(numbers, "rd_total_time_ns", 0),
		.write_ns = cij_json_int(numbers, "wr_total_time_ns", 0),
	};
}

static void
take_drives(struct guest_stats *stats, struct json_object *list)
{
	size_t n;

	clear_drives(stats);
	if (!json_object_is_type(list, json_type_array))
		return;
	n = json_object_array_length(list);
	stats->drives = calloc(n ? n : 1, sizeof(*stats->drives));
	if (!stats->drives)
		abort();
	for (size_t i = 0; i < n; i++)
		take_drive(stats, json_object_array_get_idx(list, i));
	stats->drives_known = true;
}

/* Each waiter is unlinked before it is told: it may ask again. */
static void
tell_all(struct guest *guest)
{
	struct stats_waiter *waiter, *last = TAILQ_LAST(&guest->stats_waiters, stats_waiters);

	while ((waiter = TAILQ_FIRST(&guest->stats_waiters))) {
		bool end = waiter == last;

		TAILQ_REMOVE(&guest->stats_waiters, waiter, link);
		waiter->done(waiter->arg);
		free(waiter);
		if (end)
			return;
	}
}

static void
on_block_stats(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;

	guest->stats_asked = false;
	read_usage(guest);
	take_drives(&guest->stats, value);
	tell_all(guest);
}

void
guest_stats_ask(struct guest *guest, guest_stats_fn *done, void *arg)
{
	struct cij_error err;
	struct stats_waiter *waiter;
	struct qmp *qmp;

	if (guest->stats.at > 0 && clock_mono() - guest->stats.at < FRESH_SECONDS) {
		done(arg);
		return;
	}
	qmp = guest->hung ? NULL : guest_monitor(guest, &err);
	if (!qmp) {
		guest_stats_clear(guest);
		if (guest->proc)
			read_usage(guest);
		done(arg);
		return;
	}
	waiter = calloc(1, sizeof(*waiter));
	if (!waiter)
		abort();
	waiter->done = done;
	waiter->arg = arg;
	TAILQ_INSERT_TAIL(&guest->stats_waiters, waiter, link);
	if (guest->stats_asked)
		return;
	guest->stats_asked = true;
	qmp_send(qmp, "query-blockstats", NULL, ANSWER_SECONDS, on_block_stats, guest);
}
