#include "daemon/device_conf.h"

#include <ctype.h>
#include <string.h>

#include "daemon/geometry.h"
#include "daemon/inject.h"
#include "daemon/strv.h"

#define KiB 1024LL
#define MiB (1024 * KiB)
#define GiB (1024 * MiB)
#define TiB (1024 * GiB)

/* It is the drive's serial number too: NVMe 1.3, Identify Controller, SN: 20 bytes. */
#define DEVICE_ID_MAX 20

static const char *const device_words[] = {"ocssd", "nvme", "zns", NULL};

#define F(member_, kind_, ...) \
	{ \
		.name = #member_, .type = kind_, .offset = offsetof(struct device_conf, member_), \
		__VA_ARGS__ \
	}

static const struct cij_field device_fields[] = {
	F(id, CIJ_T_STR, .flags = CIJ_F_REQUIRED, .doc = "name of the drive and its file"),
	F(type, CIJ_T_ENUM, .flags = CIJ_F_REQUIRED, .names = device_words),
	/* OCSSD 2.0 section 2.1: groups and parallel units are 16-bit, chunks and blocks 32-bit */
	F(num_grp, CIJ_T_INT, .min = 1, .max = UINT16_MAX, .doc = "groups"),
	F(num_pu, CIJ_T_INT, .min = 1, .max = UINT16_MAX, .doc = "parallel units a group"),
	F(num_chk, CIJ_T_INT, .min = 1, .max = UINT32_MAX, .doc = "chunks a unit"),
	F(num_sec, CIJ_T_INT, .min = 1, .max = UINT32_MAX, .doc = "blocks a chunk"),
	F(sec_size, CIJ_T_SIZE, .min = 512, .max = 65536, .doc = "bytes of a block"),
	F(md_size, CIJ_T_SIZE, .min = 0, .max = 255, .doc = "bytes of its metadata"),
	F(ws_min, CIJ_T_INT, .min = 1, .max = UINT32_MAX, .doc = "blocks of a least write"),
	F(ws_opt, CIJ_T_INT, .min = 1, .max = UINT32_MAX, .doc = "blocks of a best write"),
	F(mw_cunits, CIJ_T_INT, .min = 0, .max = UINT32_MAX,
		.doc = "blocks between write and safe read"),
	F(early_reset, CIJ_T_BOOL, .doc = "chunks may be reset before they are full"),
	F(mdts, CIJ_T_INT, .min = 0, .max = 255, .doc = "largest transfer, 2^N pages; 0: any"),
	F(size, CIJ_T_SIZE, .min = MiB, .max = 256 * TiB, .doc = "bytes of the drive"),
	F(zone_size, CIJ_T_SIZE, .min = 4096, .max = 256 * TiB, .doc = "bytes of a zone"),
	F(zone_capacity, CIJ_T_SIZE, .min = 4096, .max = 256 * TiB,
		.doc = "writable bytes of a zone"),
	F(max_open, CIJ_T_INT, .min = 0, .max = UINT32_MAX, .doc = "open zones; 0: any"),
	F(max_active, CIJ_T_INT, .min = 0, .max = UINT32_MAX, .doc = "active zones; 0: any"),
	F(inject, CIJ_T_JSON,
		.doc = "errors: [{\"write\": {\"grp\": 0, \"pu\": \"1-3\", \"chk\": \"*\", "
		       "\"sec\": 53}, \"percent\": 100}, {\"reset\": {…}}]"),
	F(chunks, CIJ_T_JSON,
		.doc = "states: [{\"grp\": 0, \"pu\": 0, \"chk\": 1, \"state\": \"offline\"}]"),
	F(writefail, CIJ_T_STR, .flags = CIJ_F_NOT_EMPTY, .doc = "file of write errors"),
	F(resetfail, CIJ_T_STR, .flags = CIJ_F_NOT_EMPTY, .doc = "file of reset errors"),
	F(chunkinfo, CIJ_T_STR, .flags = CIJ_F_NOT_EMPTY, .doc = "file of chunk states"),
};
const struct cij_table device_conf_table = CIJ_TABLE(device_fields, struct device_conf, NULL);

/* What belongs to each type of drive, with the defaults that CIJOE's users have (see README.md). */
static const struct {
	const char *name;
	size_t offset;
	bool for_type[DEVICE_TYPES];
	int64_t fallback[DEVICE_TYPES]; /* CIJ_UNSET: QEMU's own */
} device_numbers[] = {
#define D(member_) #member_, offsetof(struct device_conf, member_)
	{D(num_grp), {true, false, false}, {2}},
	{D(num_pu), {true, false, false}, {4}},
	{D(num_chk), {true, false, false}, {60}},
	{D(num_sec), {true, false, false}, {4096}},
	{D(sec_size), {true, false, false}, {4096}},
	{D(md_size), {true, false, false}, {16}},
	{D(ws_min), {true, false, false}, {4}},
	{D(ws_opt), {true, false, false}, {8}},
	{D(mw_cunits), {true, false, false}, {24}},
	{D(mdts), {true, true, true}, {7, 7, 7}},
	{D(size), {false, true, true}, {CIJ_UNSET, 8 * GiB, 4 * GiB}},
	{D(zone_size), {false, false, true}, {CIJ_UNSET, CIJ_UNSET, 64 * MiB}},
	{D(zone_capacity), {false, false, true}, {CIJ_UNSET, CIJ_UNSET, CIJ_UNSET}},
	{D(max_open), {false, false, true}, {CIJ_UNSET, CIJ_UNSET, 0}},
	{D(max_active), {false, false, true}, {CIJ_UNSET, CIJ_UNSET, 0}},
#undef D
};

/* Other members that only an OCSSD has. */
static const char *const ocssd_only[] = {
	"early_reset", "inject", "chunks", "writefail", "resetfail", "chunkinfo"};

const char *
device_type_name(int type)
{
	return device_words[type];
}

int64_t
device_conf_bytes(const struct device_conf *d)
{
	if (d->type != DEVICE_OCSSD)
		return d->size;
	return d->num_grp * d->num_pu * d->num_chk * d->num_sec * d->sec_size;
}

static bool
has_end(const char *text, const char *end)
{
	size_t n = strlen(text), k = strlen(end);

	return n >= k && strcmp(text + n - k, end) == 0;
}

/* Images are "ID.img": these are the guest's own, which guest_folder finds by their names. */
static const char *const reserved_ids[] = {"boot", "initrd"};

/* Drive ids name files and QEMU objects: what both take without quoting, and nobody else has. */
static void
check_id(const char *id, const char *path, struct cij_problems *problems)
{
	_cleanup_free_ char *full = str_printf("%s.id", path);
	size_t n = strlen(id);
	bool ok = n > 0 && n <= DEVICE_ID_MAX && isalpha((unsigned char)id[0]);

	for (size_t i = 0; i < n && ok; i++)
		ok = isalnum((unsigned char)id[i]) || strchr("_-", id[i]);
	if (!ok) {
		cij_problems_add(problems, full,
			"must start with a letter and go on with at most 19 letters, digits, '_' "
			"and '-'");
		return;
	}
	for (size_t i = 0; i < cij_array_size(reserved_ids); i++)
		if (strcmp(id, reserved_ids[i]) == 0)
			cij_problems_add(problems, full,
				"may not be '%s': its file would be the guest's '%s.img'", id, id);
	/* The daemon's own: root ports, and what stands behind a controller. */
	if ((strncmp(id, "port", 4) == 0 && strspn(id + 4, "0123456789") == n - 4) ||
		has_end(id, "-ns1") || has_end(id, "-subsys"))
		cij_problems_add(problems, full, "is '%s', a name that the daemon uses itself", id);
}

static void
does_not_belong(const struct device_conf *d, const char *name, const char *path,
	struct cij_problems *problems)
{
	_cleanup_free_ char *full = str_printf("%s.%s", path, name);

	cij_problems_add(
		problems, full, "does not belong to a drive of type '%s'", device_words[d->type]);
}

/* Numbers and members that belong to another type; the defaults of this one. */
static void
fill(struct device_conf *d, struct json_object *json, const char *path,
	struct cij_problems *problems)
{
	for (size_t i = 0; i < cij_array_size(device_numbers); i++) {
		int64_t *value = (int64_t *)((char *)d + device_numbers[i].offset);

		if (*value == CIJ_UNSET && device_numbers[i].for_type[d->type])
			*value = device_numbers[i].fallback[d->type];
		else if (*value != CIJ_UNSET && !device_numbers[i].for_type[d->type])
			does_not_belong(d, device_numbers[i].name, path, problems);
	}
	if (d->type != DEVICE_OCSSD)
		for (size_t i = 0; i < cij_array_size(ocssd_only); i++)
			if (cij_json_get(json, ocssd_only[i]))
				does_not_belong(d, ocssd_only[i], path, problems);
	if (!cij_json_get(json, "early_reset"))
		d->early_reset = true;
	if (d->type == DEVICE_ZNS && d->zone_capacity == CIJ_UNSET)
		d->zone_capacity = d->zone_size;
}

void
device_conf_check(struct device_conf *d, struct json_object *json, const char *path,
	struct cij_problems *problems)
{
	bool sound = !cij_problems_below(problems, path);
	size_t before;

	if (d->id)
		check_id(d->id, path, problems);
	before = problems->n;
	fill(d, json, path, problems);
	geometry_check(d, path, problems);
	/* Addresses mean something within a geometry that does. */
	if (d->type == DEVICE_OCSSD && sound && problems->n == before)
		inject_check(d, path, problems);
}

int
device_conf_decode(struct device_conf *d, struct json_object *json, const char *path,
	struct cij_problems *problems)
{
	if (cij_table_decode(&device_conf_table, json, d, path, problems) < 0)
		return -1;
	device_conf_check(d, json, path, problems);
	return problems->n ? -1 : 0;
}

void
device_conf_clear(struct device_conf *d)
{
	cij_table_clear(&device_conf_table, d);
}
