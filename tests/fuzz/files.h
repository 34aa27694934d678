/* For fuzzers of what the daemon reads back from files: a folder for them that is in memory. */
#ifndef TESTS_FUZZ_FILES_H
#define TESTS_FUZZ_FILES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/fileio.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int files_fd = -1;
static char files_path[64];

static inline void
files_remove(void)
{
	dir_clear(files_fd, NULL, NULL);
	rmdir(files_path);
}

/* The folder, empty at first; it is gone when the fuzzer is. */
static inline int
files_folder(void)
{
	if (files_fd >= 0)
		return files_fd;
	snprintf(files_path, sizeof(files_path), "%s/cijfuzz-XXXXXX",
		access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(files_path))
		abort();
	files_fd = dir_open_at(-1, files_path);
	if (files_fd < 0)
		abort();
	atexit(files_remove);
	return files_fd;
}

/* Makes the file @name in @dir_fd. */
static inline void
files_put(int dir_fd, const char *name, const void *data, size_t len)
{
	if (file_write_at(dir_fd, name, data, len, 0644) < 0)
		abort();
}

/* As above; the word "BOOT" in quotes stands for this boot of the host, so that seeds last. */
static inline void
files_put_of_this_boot(int dir_fd, const char *name, const void *data, size_t len)
{
	static const char mark[] = "\"BOOT\"";
	const char *at = memmem(data, len, mark, strlen(mark));
	size_t before = at ? (size_t)(at - (const char *)data) : 0;
	char *text = NULL;
	int n;

	if (!at) {
		files_put(dir_fd, name, data, len);
		return;
	}
	n = asprintf(&text, "%.*s\"%s\"%.*s", (int)before, (const char *)data, clock_boot_id(),
		(int)(len - before - strlen(mark)), at + strlen(mark));
	if (n < 0)
		abort();
	files_put(dir_fd, name, text, (size_t)n);
	free(text);
}

#endif
