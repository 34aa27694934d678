/* What a running guest has used and moved, read only while somebody asks. */
#ifndef DAEMON_GUEST_STATS_H
#define DAEMON_GUEST_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct guest;

/* QMP's query-blockstats, BlockDeviceStats: since QEMU started. */
struct drive_stats {
	char *id; /* the drive's as in guest.json; QEMU's name for the others ("boot0") */
	int64_t read_bytes, written_bytes; /* by the guest */
	int64_t reads, writes, flushes; /* completed */
	int64_t read_ns, write_ns; /* spent on them, in all */
};

struct guest_stats {
	double at; /* monotonic: when it was read; 0 = nothing is known */
	double cpu_seconds; /* of QEMU; -1 = not known */
	int64_t resident_bytes; /* -1 = not known */
	bool drives_known;
	struct drive_stats *drives;
	size_t n_drives;
};

typedef void guest_stats_fn(void *arg);

/*
 * Reads the numbers anew; a monitor that is silent is waited for a second. @done is called once,
 * perhaps before this returns, also when nothing could be learnt.
 */
void guest_stats_ask(struct guest *guest, guest_stats_fn *done, void *arg);

/* The last numbers of this run; weak, until the loop goes on. */
const struct guest_stats *guest_stats(const struct guest *guest);

#endif
