#include "daemon/oom.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "daemon/fileio.h"
#include "daemon/strv.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

/* A line for each of a dozen v1 controllers, and the paths of deep groups. */
#define CGROUP_TEXT_MAX (64 * 1024)

/* A v1 line is "N:memory:PATH" (perhaps among other controllers), the v2 line "0::PATH". */
static char *
path_of_line(const char *line, size_t len, const char *root)
{
	_cleanup_free_ char *copy = strndup(line, len);
	char *controllers = copy ? strchr(copy, ':') : NULL;
	char *path = controllers ? strchr(controllers + 1, ':') : NULL;

	if (!path)
		return NULL;
	*path++ = '\0';
	controllers++;
	if (strcmp(path, "/") == 0)
		path++;
	if (!*controllers)
		return str_printf("%s%s/memory.events", root, path);
	for (char *rest = controllers, *name; (name = strsep(&rest, ","));)
		if (strcmp(name, "memory") == 0)
			return str_printf("%s/memory%s/memory.oom_control", root, path);
	return NULL;
}

char *
oom_events_path(const char *proc_cgroup, const char *root)
{
	for (const char *line = proc_cgroup; *line; line += strspn(line, "\n")) {
		size_t len = strcspn(line, "\n");
		char *path = path_of_line(line, len, root);

		if (path && access(path, R_OK) == 0)
			return path;
		free(path);
		line += len;
	}
	return NULL;
}

int64_t
oom_read_count(const char *path, const char *what)
{
	_cleanup_fclose_ FILE *file = path ? fopen(path, "re") : NULL;
	size_t len = strlen(what);
	char line[128];
	long long n;

	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, what, len) == 0 && sscanf(line + len, " %lld", &n) == 1)
			return n;
	return -1;
}

void
oom_watch(struct oom_group *group, pid_t pid, const char *own)
{
	_cleanup_free_ char *name = str_printf("/proc/%d/cgroup", (int)pid), *text = NULL;
	const char *leaf;
	size_t len;

	oom_clear(group);
	text = file_read_at(AT_FDCWD, name, CGROUP_TEXT_MAX, &len, NULL);
	group->path = text ? oom_events_path(text, CGROUP_ROOT) : NULL;
	group->before = oom_read_count(group->path, "oom_kill");
	group->limit_before = oom_read_count(group->path, "oom");
	if (!group->path)
		return;
	leaf = memrchr(group->path, '/', strrchr(group->path, '/') - group->path);
	group->own = leaf && strncmp(leaf + 1, own, strlen(own)) == 0;
}

void
oom_clear(struct oom_group *group)
{
	free(group->path);
	*group = (struct oom_group){.before = -1, .limit_before = -1};
}

enum oom_kill
oom_happened(const struct oom_group *group)
{
	if (group->before < 0 || oom_read_count(group->path, "oom_kill") <= group->before)
		return OOM_NO;
	/* cgroup-v2.rst: "oom" counts in the group whose limit was reached, "oom_kill" in that of
	 * who was killed for it. */
	return group->limit_before >= 0 && oom_read_count(group->path, "oom") > group->limit_before
		       ? OOM_LIMIT
		       : OOM_HOST;
}
