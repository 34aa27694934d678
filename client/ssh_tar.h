/* tar archives as a stream (POSIX ustar; GNU's and pax's long names): written, and taken apart. */
#ifndef CLIENT_SSH_TAR_H
#define CLIENT_SSH_TAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cijqemu/error.h"

#define TAR_BLOCK 512

/* Bytes that follow @size bytes of data to fill the last block. */
#define TAR_PADDING(size) ((TAR_BLOCK - (size) % TAR_BLOCK) % TAR_BLOCK)

enum tar_kind { TAR_FILE, TAR_HARD_LINK, TAR_LINK, TAR_FOLDER, TAR_OTHER };

struct tar_entry {
	enum tar_kind kind;
	const char *path, *target; /* target: of links */
	mode_t mode;
	int64_t size;
	uint32_t mtime;
};

/* The blocks that stand in front of an entry's data: on the heap, *@len bytes. */
char *tar_header(const struct tar_entry *entry, size_t *len);

/* Takes an archive apart as its bytes come in. */
struct tar_reader;

struct tar_events {
	/* An entry begins. Returns 0, or -1 with an error to stop. */
	int (*begin)(void *arg, const struct tar_entry *entry, struct cij_error *err);
	/* Its data, in order. */
	int (*data)(void *arg, const char *data, size_t len, struct cij_error *err);
	/* All of its data has come. */
	int (*end)(void *arg, struct cij_error *err);
};

struct tar_reader *tar_reader_new(const struct tar_events *events, void *arg);
void tar_reader_free(struct tar_reader *reader);

/* Takes in bytes. Returns 0, or -1 with an error: of an event, or for what is no archive. */
int tar_reader_feed(struct tar_reader *reader, const char *data, size_t len, struct cij_error *err);

/* Whether the archive's end has come, so that it is whole. */
bool tar_reader_at_end(const struct tar_reader *reader);

#endif
