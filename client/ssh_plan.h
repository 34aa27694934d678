/* What is to be copied: every folder, file and link, where from and where to, folders first. */
#ifndef CLIENT_SSH_PLAN_H
#define CLIENT_SSH_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cijqemu/error.h"

enum item_kind { ITEM_FILE, ITEM_FOLDER, ITEM_LINK, ITEM_NONE /* given up */ };

struct item {
	enum item_kind kind;
	bool in_place; /* the target is a device or a FIFO: written to where it is */
	bool made; /* a folder that was not there before */
	char *from, *to;
	char *target; /* of a link */
	mode_t mode; /* the permissions */
	int64_t size; /* bytes of a file; -1 = as much as comes */
	uint32_t atime, mtime;
};

struct plan {
	struct item *items;
	size_t n;
	int64_t bytes; /* of all files whose size is known */
	size_t files; /* files and links */
};

/* Adds an item; the strings are taken over. Weak until the next is added. */
struct item *plan_add(struct plan *plan, enum item_kind kind, char *from, char *to);
/* Counts an item whose kind and size are set. */
void plan_count(struct plan *plan, const struct item *item);
/* The plan's next file from item *@next on, which moves behind it; weak. NULL: there is none. */
struct item *plan_next_file(struct plan *plan, size_t *next);
/* Gives up all that was to go below the folder @to, from item @first on. */
void plan_give_up(struct plan *plan, size_t first, const char *to);
void plan_clear(struct plan *plan);

/* "FOLDER/NAME" on the heap. */
char *path_join(const char *folder, const char *name, size_t name_len);

/* The last part of @path without slashes behind it: "b" of "a/b/". Heap; "." and ".." stay so. */
char *path_base(const char *path);

/* A name beside @path for what is not whole yet, on the heap: ".cijqemu-….part". */
char *path_part(const char *path);

/* Whether a name that the guest gave may stand in a path of ours. */
bool path_name_is_safe(const char *name, size_t len);

/* Adds what is at @from here, to be copied to @to. @skip is told of what cannot be copied. */
int plan_local(struct plan *plan, const char *from, const char *to, bool recursive,
	void (*skip)(void *arg, const char *path, const char *why), void *arg,
	struct cij_error *err);

#endif
