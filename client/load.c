#include "client/load.h"

#include <stdio.h>
#include <string.h>

#include "client/view.h"
#include "proto/text.h"

const struct load_column_info load_columns[LOAD_COLUMNS] = {
	[LOAD_NAME] = {"NAME", 'N', 13, .left = true, .text = true, .json = "guest"},
	[LOAD_STATE] = {"STATE", 'S', 8, .left = true, .text = true, .json = "state"},
	[LOAD_OWNER] = {"OWNER", 'O', 10, .left = true, .text = true, .json = "owner"},
	[LOAD_CPU] = {"CPU%", 'P', 5, .json = "cpu_percent"},
	[LOAD_MEMORY] = {"MEM", 'M', 5, .json = "resident_bytes"},
	[LOAD_DISK] = {"DISK/s", 'D', 6, .json = "disk_bytes_s"},
	[LOAD_NVME_READ] = {"NVMe-R", 'R', 6, .json = "nvme_read_bytes_s"},
	[LOAD_NVME_WRITE] = {"NVMe-W", 'W', 6, .json = "nvme_written_bytes_s"},
	[LOAD_NVME_IOPS] = {"IOPS", 'I', 6, .json = "nvme_ios_s"},
	[LOAD_CONSOLE] = {"CONS/s", 'B', 6, .json = "console_bytes_s"},
	[LOAD_BOOT] = {"BOOT", 'T', 5, .json = "boot_s"},
	[LOAD_UPTIME] = {"UPTIME", 'U', 7, .json = "uptime_s"},
	[LOAD_VIEWERS] = {"VW", 'V', 2, .json = "viewers"},
	[LOAD_LEASE] = {"LEASE", 'L', 8, .left = true, .text = true, .json = "lease"},
};

static void
clear_rows(struct load_row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(rows[i].name);
		free(rows[i].state);
		free(rows[i].owner);
		free(rows[i].lease);
	}
	free(rows);
}

void
load_clear(struct load *load)
{
	clear_rows(load->rows, load->n_all);
	load->rows = NULL;
	load->n = load->n_all = 0;
}

enum load_column
load_column_find(const char *title)
{
	int c = 0;

	while (c < LOAD_COLUMNS && strcasecmp(load_columns[c].title, title) != 0)
		c++;
	return c;
}

static char *
clean_copy(const char *text)
{
	char clean[256], *copy = strdup(cij_text_clean(text ? text : "", clean, sizeof(clean)));

	if (!copy)
		abort();
	return copy;
}

/* The member named @name of the array's object about @guest; the two lists are in one order. */
static struct json_object *
find_stats(struct json_object *stats, const char *guest, size_t *at)
{
	size_t n = cij_json_length(stats);

	for (size_t i = 0; i < n; i++, *at = (*at + 1) % n) {
		struct json_object *item = json_object_array_get_idx(stats, *at % n);
		const char *name = cij_json_str(item, "guest");

		if (name && strcmp(name, guest) == 0)
			return item;
	}
	return NULL;
}

/* Whether guest.json lists the drive: the others are the boot image and what extra_args brings. */
static bool
is_device(struct json_object *view, const char *id)
{
	struct json_object *devices = cij_json_get(view, "devices");
	size_t n = cij_json_length(devices);

	for (size_t i = 0; i < n && id; i++) {
		const char *name = cij_json_str(json_object_array_get_idx(devices, i), "id");

		if (name && strcmp(name, id) == 0)
			return true;
	}
	return false;
}

static void
read_drives(struct load_counters *c, struct json_object *view, struct json_object *drives)
{
	size_t n;

	if (!json_object_is_type(drives, json_type_array))
		return;
	c->drives = true;
	n = json_object_array_length(drives);
	for (size_t i = 0; i < n; i++) {
		struct json_object *drive = json_object_array_get_idx(drives, i);
		int64_t read = cij_json_int(drive, "read_bytes", 0);
		int64_t written = cij_json_int(drive, "written_bytes", 0);

		if (!is_device(view, cij_json_str(drive, "id"))) {
			c->disk += read + written;
			continue;
		}
		c->nvme_read += read;
		c->nvme_write += written;
		c->nvme_ios += cij_json_int(drive, "reads", 0) + cij_json_int(drive, "writes", 0);
	}
}

static void
read_counters(struct load_counters *c, struct json_object *view, struct json_object *stats)
{
	*c = (struct load_counters){
		.run = cij_json_int(stats, "run", -1),
		.at_ms = cij_json_int(stats, "at_ms", -1),
		.cpu_ms = cij_json_int(stats, "cpu_ms", -1),
		.console = cij_json_int(stats, "console_bytes", -1),
	};
	read_drives(c, view, cij_json_get(stats, "drives"));
}

/* What @now is above @was, a second; unknown where either is, and where the counter began anew. */
static double
rate(int64_t was, int64_t now, double seconds)
{
	return was < 0 || now < was ? LOAD_UNKNOWN : (double)(now - was) / seconds;
}

static void
set_rates(double *values, const struct load_counters *was, const struct load_counters *now)
{
	double seconds = (double)(now->at_ms - was->at_ms) / 1000, cpu;

	if (was->at_ms < 0 || now->at_ms < 0 || was->run != now->run || seconds <= 0)
		return;
	cpu = rate(was->cpu_ms, now->cpu_ms, seconds);
	values[LOAD_CPU] = cpu < 0 ? LOAD_UNKNOWN : cpu / 10; /* ms a second to per cent */
	values[LOAD_CONSOLE] = rate(was->console, now->console, seconds);
	if (!was->drives || !now->drives)
		return;
	values[LOAD_DISK] = rate(was->disk, now->disk, seconds);
	values[LOAD_NVME_READ] = rate(was->nvme_read, now->nvme_read, seconds);
	values[LOAD_NVME_WRITE] = rate(was->nvme_write, now->nvme_write, seconds);
	values[LOAD_NVME_IOPS] = rate(was->nvme_ios, now->nvme_ios, seconds);
}

/* Who holds the guest's lease: a name, else a uid that is looked up here; "" for nobody. */
static char *
lease_holder(struct json_object *view)
{
	struct json_object *lease = cij_json_get(view, "lease");
	const char *name = cij_json_str(lease, "user");
	int64_t uid = cij_json_int(lease, "uid", -1);

	return clean_copy(name ? name : uid >= 0 ? user_name(uid) : "");
}

static void
fill_row(struct load_row *row, struct json_object *view, struct json_object *stats)
{
	struct json_object *console = cij_json_get(view, "console");
	int64_t boot = cij_json_int(view, "boot_ms", -1);

	*row = (struct load_row){
		.name = clean_copy(cij_json_str(view, "guest")),
		.state = clean_copy(cij_json_bool(view, "hung", false) ? "hung" : view_state(view)),
		.owner = clean_copy(view_owner(view)),
		.lease = lease_holder(view),
	};
	for (int c = 0; c < LOAD_COLUMNS; c++)
		row->values[c] = LOAD_UNKNOWN;
	read_counters(&row->counters, view, stats);
	row->values[LOAD_MEMORY] = (double)cij_json_int(stats, "resident_bytes", -1);
	row->values[LOAD_BOOT] = boot < 0 ? LOAD_UNKNOWN : (double)boot / 1000;
	row->values[LOAD_UPTIME] = (double)cij_json_int(view, "uptime_s", -1);
	row->values[LOAD_VIEWERS] = (double)cij_json_int(console, "viewers", -1);
}

static bool
is_wanted(const struct load *load, const char *name)
{
	if (!*load->filter)
		return true;
	return cij_is_glob(load->filter) ? cij_glob_match(load->filter, name)
					 : strcasestr(name, load->filter) != NULL;
}

static const struct load_row *
find_row(const struct load_row *rows, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(rows[i].name, name) == 0)
			return &rows[i];
	return NULL;
}

void
load_update(struct load *load, struct json_object *guests, struct json_object *stats)
{
	size_t n = cij_json_length(guests);
	struct load_row *was = load->rows;
	size_t n_was = load->n_all, at = 0;

	load->rows = calloc(n + 1, sizeof(*load->rows));
	if (!load->rows)
		abort();
	load->n_all = load->n_running = 0;
	for (size_t i = 0; i < n; i++) {
		struct json_object *view = json_object_array_get_idx(guests, i);
		const char *name = cij_json_str(view, "guest");
		const struct load_row *before;
		struct load_row *row;

		if (!name)
			continue;
		row = &load->rows[load->n_all++];
		fill_row(row, view, find_stats(stats, name, &at));
		load->n_running += strcmp(view_state(view), "running") == 0;
		before = find_row(was, n_was, row->name);
		if (before)
			set_rates(row->values, &before->counters, &row->counters);
	}
	clear_rows(was, n_was);
	load_sort(load);
}

static const char *
text_of(const struct load_row *row, enum load_column column)
{
	switch (column) {
	case LOAD_STATE:
		return row->state;
	case LOAD_OWNER:
		return row->owner;
	case LOAD_LEASE:
		return row->lease;
	default: /* numbers have no text */
		return row->name;
	}
}

/* What is known before what is not; else the column's own order: text up, numbers down. */
static int
compare(const void *a, const void *b, void *arg)
{
	const struct load_row *x = a, *y = b;
	const struct load *load = arg;
	bool text = load_columns[load->sort].text;
	int order;

	if (x->hidden != y->hidden)
		return x->hidden ? 1 : -1;
	if (text) {
		const char *s = text_of(x, load->sort), *t = text_of(y, load->sort);

		if (!*s != !*t)
			return *s ? -1 : 1;
		order = strcmp(s, t);
	} else {
		double s = x->values[load->sort], t = y->values[load->sort];

		if ((s < 0) != (t < 0))
			return s < 0 ? 1 : -1;
		order = (s < t) - (s > t);
	}
	if (order == 0)
		return strcmp(x->name, y->name);
	return load->reverse ? -order : order;
}

void
load_sort(struct load *load)
{
	load->n = 0;
	for (size_t i = 0; i < load->n_all; i++) {
		load->rows[i].hidden = !is_wanted(load, load->rows[i].name);
		load->n += !load->rows[i].hidden;
	}
	if (load->n_all > 1)
		qsort_r(load->rows, load->n_all, sizeof(*load->rows), compare, load);
}

const char *
load_text(const struct load_row *row, enum load_column column, char *buf, size_t size)
{
	double value = row->values[column];

	if (load_columns[column].text) {
		const char *text = text_of(row, column);

		snprintf(buf, size, "%s", *text ? text : "-");
	} else if (value < 0) {
		snprintf(buf, size, "-");
	} else {
		switch (column) {
		case LOAD_CPU:
			snprintf(buf, size, value < 1000 ? "%.1f" : "%.0f", value);
			break;
		case LOAD_BOOT:
			snprintf(buf, size, value < 100 ? "%.1fs" : "%.0fs", value);
			break;
		case LOAD_UPTIME:
			duration_text((int64_t)value, buf, size);
			break;
		case LOAD_VIEWERS:
		case LOAD_NVME_IOPS:
			snprintf(buf, size, "%.0f", value);
			break;
		default: /* bytes, or bytes a second */
			cij_size_human((int64_t)(value + 0.5), buf, size);
			if (strcmp(buf, "0B") == 0)
				buf[1] = '\0';
			break;
		}
	}
	return buf;
}

struct json_object *
load_to_json(const struct load *load)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < load->n; i++) {
		const struct load_row *row = &load->rows[i];
		struct json_object *obj = json_object_new_object();

		for (int c = 0; c < LOAD_COLUMNS; c++) {
			const char *name = load_columns[c].json, *text = text_of(row, c);
			char number[32];

			snprintf(number, sizeof(number),
				row->values[c] == (double)(int64_t)row->values[c] ? "%.0f" : "%.3f",
				row->values[c]);
			if (load_columns[c].text)
				cij_json_add_str(obj, name, *text ? text : NULL);
			else
				json_object_object_add(obj, name,
					row->values[c] < 0 ? NULL
							   : cij_json_raw(number, strlen(number)));
		}
		json_object_array_add(list, obj);
	}
	return list;
}
