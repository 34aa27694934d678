/*
 * What a QEMU binary can do, asked of itself over QMP: version, devices and their properties,
 * whether it takes -sandbox, and whether it really starts with KVM. Asked once for each binary and
 * user, and kept until the file changes.
 */
#ifndef DAEMON_PROBE_H
#define DAEMON_PROBE_H

#include <event2/event.h>
#include <sys/types.h>

#include "daemon/dialect.h"

struct probes;

/* The answer: @caps is weak, or NULL with @err set. */
typedef void probe_done_fn(void *arg, const struct qemu_caps *caps, const struct cij_error *err);

struct probes *probes_new(struct event_base *base);
void probes_free(struct probes *probes);

/*
 * The full path of the QEMU to use: "bin/qemu-system-x86_64" (or the file itself) under @home, else
 * under @daemon_home, else /opt/qemu-nvme, else what the PATH has. Heap string; NULL with
 * QemuFailed naming what is missing.
 */
char *probe_find_qemu(const char *home, const char *daemon_home, struct cij_error *err);

/*
 * Asks @qemu, run as @uid and @gid in the folder @cwd_fd. @done is called exactly once, from the
 * loop or before this returns; never after probe_cancel() with the same @arg.
 */
void probe_ask(struct probes *probes, const char *qemu, uid_t uid, gid_t gid, int cwd_fd,
	probe_done_fn *done, void *arg);
void probe_cancel(struct probes *probes, void *arg);

#endif
