/*
 * Whether the host ran out of memory and its killer took a process: asked of the process's control
 * group, which counts such ends (cgroup v2 memory.events, v1 memory.oom_control: "oom_kill").
 */
#ifndef DAEMON_OOM_H
#define DAEMON_OOM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct oom_group {
	char *path; /* of the file that counts; NULL: there is none */
	int64_t before; /* its count when the watch began */
	int64_t limit_before; /* v2: and of how often the group's own limit was in the way */
	bool own; /* nobody else is in the group */
};

/*
 * Finds the group of @pid, to be called when it is in its place. @own: the last part of a path that
 * is this process's alone begins with this.
 */
void oom_watch(struct oom_group *group, pid_t pid, const char *own);
void oom_clear(struct oom_group *group);

enum oom_kill {
	OOM_NO,
	OOM_HOST, /* or a group above this one: who was short of memory is not known any closer */
	OOM_LIMIT, /* the group came to its own limit */
};

/* Whether the killer ran in the group since; to be asked at once when the process has ended. */
enum oom_kill oom_happened(const struct oom_group *group);

/* The two halves of oom_watch(), for tests. */
char *oom_events_path(const char *proc_cgroup, const char *root);
int64_t oom_read_count(const char *path, const char *what); /* "oom_kill"; -1: not known */

#endif
