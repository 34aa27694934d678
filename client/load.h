/* What guests do per second, from two looks at their counters: the rows of 'top'. */
#ifndef CLIENT_LOAD_H
#define CLIENT_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/json.h"

/* A number that is not known, or not yet: rates need two looks. Unknown ones are sorted last. */
#define LOAD_UNKNOWN (-1.0)

enum load_column {
	LOAD_NAME,
	LOAD_STATE,
	LOAD_OWNER,
	LOAD_CPU, /* per cent of one processor */
	LOAD_MEMORY, /* bytes of the host's */
	LOAD_DISK, /* bytes/s read and written, of drives that are not in "devices": the boot image
		    */
	LOAD_NVME_READ, /* bytes/s */
	LOAD_NVME_WRITE, /* bytes/s */
	LOAD_NVME_IOPS, /* reads and writes/s */
	LOAD_CONSOLE, /* bytes/s */
	LOAD_BOOT, /* seconds */
	LOAD_UPTIME, /* seconds */
	LOAD_VIEWERS,
	LOAD_LEASE,
	LOAD_COLUMNS,
};

struct load_column_info {
	const char *title; /* also its name on the command line, in lower case */
	char key; /* that sorts by it */
	int width;
	bool left; /* aligned */
	bool text; /* compared as text, lowest first */
	const char *json; /* its member in 'top --json' */
};
extern const struct load_column_info load_columns[LOAD_COLUMNS];

/* The counters of one look. */
struct load_counters {
	int64_t run, at_ms, cpu_ms, console; /* -1: not known */
	bool drives;
	int64_t disk, nvme_read, nvme_write, nvme_ios;
};

struct load_row {
	char *name, *state, *owner, *lease; /* lease: who has it, "" for nobody */
	double values[LOAD_COLUMNS]; /* of those that are no text */
	struct load_counters counters;
	bool hidden; /* filtered out */
};

struct load {
	struct load_row *rows; /* in the order of the sorting, those that are filtered out last */
	size_t n; /* shown */
	size_t n_all;
	size_t n_running; /* of all */
	enum load_column sort;
	bool reverse; /* against the column's own order */
	char filter[64]; /* names with this in them, or that match it as a glob; "" = all */
};

/* Takes a look: the answers of query-guests and query-stats; @stats may be NULL. */
void load_update(struct load *load, struct json_object *guests, struct json_object *stats);

/* Filters and sorts again, by what load->filter, sort and reverse say now. */
void load_sort(struct load *load);

/* The column of that title, in any case; LOAD_COLUMNS for none. */
enum load_column load_column_find(const char *title);

/* Writes a cell's text, "-" for what is not known. Returns @buf. */
const char *load_text(const struct load_row *row, enum load_column column, char *buf, size_t size);

/* An array with an object a row. */
struct json_object *load_to_json(const struct load *load);

void load_clear(struct load *load);

#endif
