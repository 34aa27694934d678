#include "daemon/geometry.h"

#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/strv.h"
#include "proto/text.h"

/* NVMe 1.3, Identify Controller, MDTS: in units of CAP.MPSMIN, which all builds leave at 4 KiB. */
#define NVME_PAGE 4096LL

/* The builds compute 4096 << MDTS in 32 bits: beyond this no transfer passes. */
#define MDTS_MAX 19

/* NVMe 1.3, Identify Namespace, LBADS: at least 9; QEMU's namespaces have blocks of 512 bytes. */
#define NVME_BLOCK 512

/* OCSSD 2.0 section 2.2: the logical block address is 64 bits wide. */
#define ADDRESS_BITS_MAX 64

static void __attribute__((format(printf, 4, 5)))
add(struct cij_problems *problems, const char *path, const char *name, const char *fmt, ...)
{
	_cleanup_free_ char *full = str_printf("%s.%s", path, name), *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	cij_problems_add(problems, full, "%s", text);
}

/* Whether nothing is said against a number by itself: else what it is compared with is not judged.
 */
static bool
sound(const struct cij_problems *problems, const char *path, const char *name)
{
	_cleanup_free_ char *full = str_printf("%s.%s", path, name);

	return !cij_problems_below(problems, full);
}

/* Bits to count to @n - 1. */
static int
bits_for(int64_t n)
{
	return n <= 1 ? 0 : 64 - __builtin_clzll((unsigned long long)n - 1);
}

int
geometry_address_bits(const struct device_conf *d)
{
	return bits_for(d->num_grp) + bits_for(d->num_pu) + bits_for(d->num_chk) +
	       bits_for(d->num_sec);
}

static void
check_mdts(const struct device_conf *d, const char *path, struct cij_problems *problems)
{
	if (d->mdts > MDTS_MAX)
		add(problems, path, "mdts", "is %lld: QEMU takes at most %d (2 GiB a transfer)",
			(long long)d->mdts, MDTS_MAX);
}

/* Products that the drive's bytes are made of. Returns false on overflow. */
static bool
total_bytes(const struct device_conf *d, int64_t *bytes)
{
	int64_t blocks;

	return !__builtin_mul_overflow(d->num_grp * d->num_pu, d->num_chk, &blocks) &&
	       !__builtin_mul_overflow(blocks, d->num_sec, &blocks) &&
	       !__builtin_mul_overflow(blocks, d->sec_size + d->md_size, bytes);
}

static void
check_ocssd(const struct device_conf *d, const char *path, struct cij_problems *problems)
{
	bool ws_min = sound(problems, path, "ws_min"), ws_opt = sound(problems, path, "ws_opt"),
	     num_sec = sound(problems, path, "num_sec"),
	     sec_size = sound(problems, path, "sec_size"), mdts = sound(problems, path, "mdts"),
	     all = !cij_problems_below(problems, path);
	int64_t bytes, least;
	int bits = geometry_address_bits(d);

	/* NVMe 1.3, LBADS: a block's size is given as a power of two */
	if (sec_size && (d->sec_size & (d->sec_size - 1)))
		add(problems, path, "sec_size", "is %lld: not a power of two",
			(long long)d->sec_size);
	/* OCSSD 2.0 section 2.1, write data requirements: WS_OPT is a multiple of WS_MIN */
	if (ws_opt && ws_min && d->ws_opt % d->ws_min)
		add(problems, path, "ws_opt", "is %lld: not a multiple of ws_min, %lld",
			(long long)d->ws_opt, (long long)d->ws_min);
	/* A write does not leave its chunk (section 3, write): larger units could never be met. */
	if (ws_min && num_sec && d->ws_min > d->num_sec)
		add(problems, path, "ws_min", "is %lld: more than the %lld blocks of a chunk",
			(long long)d->ws_min, (long long)d->num_sec);
	else if (ws_opt && num_sec && d->ws_opt > d->num_sec)
		add(problems, path, "ws_opt", "is %lld: more than the %lld blocks of a chunk",
			(long long)d->ws_opt, (long long)d->num_sec);
	if (num_sec && sound(problems, path, "mw_cunits") && d->mw_cunits > d->num_sec)
		add(problems, path, "mw_cunits", "is %lld: more than the %lld blocks of a chunk",
			(long long)d->mw_cunits, (long long)d->num_sec);
	/* One write of ws_min must fit a transfer, or nothing could be written at all. */
	if (ws_min && sec_size && mdts && d->mdts > 0 && d->mdts <= MDTS_MAX &&
		!__builtin_mul_overflow(d->ws_min, d->sec_size, &least) &&
		least > (NVME_PAGE << d->mdts))
		add(problems, path, "ws_min",
			"is %lld blocks: more than mdts %lld lets through in one transfer, %lld",
			(long long)d->ws_min, (long long)d->mdts,
			(long long)((NVME_PAGE << d->mdts) / d->sec_size));
	if (!all)
		return;
	if (bits > ADDRESS_BITS_MAX)
		cij_problems_add(problems, path,
			"has a geometry that needs %d address bits: "
			"OCSSD 2.0 has %d",
			bits, ADDRESS_BITS_MAX);
	else if (!total_bytes(d, &bytes))
		cij_problems_add(problems, path, "has a geometry of more than 8 EiB");
}

static void
check_whole_blocks(int64_t bytes, const char *name, const char *path, struct cij_problems *problems)
{
	if (bytes % NVME_BLOCK)
		add(problems, path, name, "is %lld bytes: not a multiple of a block's %d",
			(long long)bytes, NVME_BLOCK);
}

static void
check_zone_limit(int64_t limit, int64_t zones, const char *name, const char *path,
	struct cij_problems *problems)
{
	if (limit > zones)
		add(problems, path, name, "is %lld: the drive has %lld zones", (long long)limit,
			(long long)zones);
}

/* NVMe ZNS 1.0: section 2.1, zone size and capacity; section 2.1.1, MOR and MAR */
static void
check_zns(const struct device_conf *d, const char *path, struct cij_problems *problems)
{
	bool zone_size = sound(problems, path, "zone_size");
	int64_t zones = d->size / d->zone_size;

	check_whole_blocks(d->zone_size, "zone_size", path, problems);
	if (d->zone_capacity != d->zone_size)
		check_whole_blocks(d->zone_capacity, "zone_capacity", path, problems);
	if (zone_size && d->zone_capacity > d->zone_size)
		add(problems, path, "zone_capacity", "is over zone_size");
	if (d->max_open && d->max_active && d->max_open > d->max_active)
		add(problems, path, "max_open", "is over max_active");
	if (!zone_size || !sound(problems, path, "size"))
		return;
	if (zones == 0 || d->size % d->zone_size) {
		add(problems, path, "size", "is not a multiple of zone_size");
		return;
	}
	check_zone_limit(d->max_open, zones, "max_open", path, problems);
	check_zone_limit(d->max_active, zones, "max_active", path, problems);
}

void
geometry_check(const struct device_conf *d, const char *path, struct cij_problems *problems)
{
	check_mdts(d, path, problems);
	switch ((enum device_type)d->type) {
	case DEVICE_OCSSD:
		check_ocssd(d, path, problems);
		break;
	case DEVICE_NVME:
		check_whole_blocks(d->size, "size", path, problems);
		break;
	case DEVICE_ZNS:
		check_zns(d, path, problems);
		break;
	}
}

static const char *const format_words[] = {
	[FORMAT_RAW] = "raw",
	[FORMAT_LIGHTNVM] = "lightnvm",
	[FORMAT_OCSSD] = "ocssd",
	[FORMAT_OCSSD_NS] = "ocssd-ns",
};

/* The numbers of a geometry, in the order in which they are told. */
static const struct {
	const char *name;
	size_t offset;
	bool bytes;
} numbers[] = {
#define G(member_) #member_, offsetof(struct geometry, member_)
	{G(num_grp), false},
	{G(num_pu), false},
	{G(num_chk), false},
	{G(num_sec), false},
	{G(sec_size), false},
	{G(md_size), false},
	{G(ws_min), false},
	{G(ws_opt), false},
	{G(mw_cunits), false},
	{G(size), true},
	{G(zone_size), true},
	{G(zone_capacity), true},
#undef G
};

static int64_t *
number_of(const struct geometry *geo, size_t i)
{
	return (int64_t *)((char *)geo + numbers[i].offset);
}

static void
clear(struct geometry *geo)
{
	*geo = (struct geometry){.type = -1};
	for (size_t i = 0; i < cij_array_size(numbers); i++)
		*number_of(geo, i) = CIJ_UNSET;
}

void
geometry_of(const struct device_conf *d, enum image_format format, struct geometry *geo)
{
	clear(geo);
	geo->format = format;
	geo->type = d->type;
	if (d->type != DEVICE_OCSSD) {
		geo->size = d->size;
		if (d->type == DEVICE_ZNS) {
			geo->zone_size = d->zone_size;
			geo->zone_capacity = d->zone_capacity;
		}
		return;
	}
	geo->num_grp = d->num_grp;
	geo->num_pu = d->num_pu;
	geo->num_chk = d->num_chk;
	geo->num_sec = d->num_sec;
	geo->sec_size = d->sec_size;
	geo->md_size = d->md_size;
	/*
	 * 3.1.50 takes these from the image, whatever its device is told. refenv's fork prefers
	 * the device's, but for a zero, which it takes as "not given". 4.1.50 always takes the
	 * device's: they are no part of its image.
	 */
	if (format == FORMAT_LIGHTNVM) {
		geo->ws_min = d->ws_min;
		geo->ws_opt = d->ws_opt;
	}
	if (format == FORMAT_LIGHTNVM || (format == FORMAT_OCSSD && d->mw_cunits == 0))
		geo->mw_cunits = d->mw_cunits;
}

/* Little-endian numbers of the image. */
static uint64_t
get(const unsigned char *at, size_t bytes)
{
	uint64_t n = 0;

	memcpy(&n, at, bytes);
	return le64toh(n);
}

/* The magic words as the builds write them, read as little-endian numbers. */
#define LIGHTNVM_MAGIC ('L' << 24 | 'N' << 16 | 'V' << 8 | 'M')
#define OCSSD_MAGIC ('O' << 24 | 'C' << 16 | '2' << 8 | '0')

/* The header of refenv's and 4.1.50's images; the namespace's geometry stands behind it. */
#define OCSSD_HEADER_BYTES 4096

bool
geometry_from_header(const unsigned char *bytes, size_t len, struct geometry *geo)
{
	const unsigned char *id;
	uint64_t magic, sec_size, at;

	if (len < OCSSD_HEADER_BYTES)
		return false;
	magic = get(bytes, 4);
	if (magic != LIGHTNVM_MAGIC && magic != OCSSD_MAGIC)
		return false;
	sec_size = get(bytes + 16, 8);
	at = magic == LIGHTNVM_MAGIC ? sec_size : OCSSD_HEADER_BYTES;
	clear(geo);
	geo->type = DEVICE_OCSSD;
	geo->format = magic == LIGHTNVM_MAGIC ? FORMAT_LIGHTNVM : FORMAT_OCSSD;
	geo->sec_size = (int64_t)sec_size;
	geo->md_size = (int64_t)get(bytes + (magic == LIGHTNVM_MAGIC ? 24 : 12), 4);
	geo->num_grp = geo->num_pu = geo->num_chk = geo->num_sec = 0; /* cut short */
	if (at > len || len - at < OCSSD_HEADER_BYTES)
		return true;
	/* OCSSD 2.0 section 2.1, the answer to the Geometry command */
	id = bytes + at;
	geo->num_grp = (int64_t)get(id + 64, 2);
	geo->num_pu = (int64_t)get(id + 66, 2);
	geo->num_chk = (int64_t)get(id + 68, 4);
	geo->num_sec = (int64_t)get(id + 72, 4);
	geo->ws_min = (int64_t)get(id + 128, 4);
	geo->ws_opt = (int64_t)get(id + 132, 4);
	geo->mw_cunits = (int64_t)get(id + 136, 4);
	return true;
}

struct json_object *
geometry_to_json(const struct geometry *geo)
{
	struct json_object *obj = json_object_new_object();

	cij_json_add_str(obj, "type", geo->type < 0 ? NULL : device_type_name(geo->type));
	cij_json_add_str(obj, "format", format_words[geo->format]);
	for (size_t i = 0; i < cij_array_size(numbers); i++)
		if (*number_of(geo, i) != CIJ_UNSET)
			cij_json_add_int(obj, numbers[i].name, *number_of(geo, i));
	return obj;
}

int
geometry_from_json(struct json_object *json, struct geometry *geo)
{
	const char *type = cij_json_str(json, "type"), *format = cij_json_str(json, "format");
	bool known = false;

	clear(geo);
	for (int i = 0; type && i < DEVICE_TYPES; i++)
		if (strcmp(type, device_type_name(i)) == 0)
			geo->type = i;
	for (size_t i = 0; format && i < cij_array_size(format_words); i++)
		if (strcmp(format, format_words[i]) == 0) {
			geo->format = (enum image_format)i;
			known = true;
		}
	for (size_t i = 0; i < cij_array_size(numbers); i++)
		*number_of(geo, i) = cij_json_int(json, numbers[i].name, CIJ_UNSET);
	return known && geo->type >= 0 ? 0 : -1;
}

static void __attribute__((format(printf, 3, 4)))
append(char *text, size_t size, const char *fmt, ...)
{
	size_t at = strlen(text);
	va_list ap;

	if (at > 0 && at + 2 < size) {
		strcpy(text + at, ", ");
		at += 2;
	}
	va_start(ap, fmt);
	vsnprintf(text + at, size - at, fmt, ap);
	va_end(ap);
}

static void
append_number(char *text, size_t size, size_t i, int64_t n)
{
	char exact[24];

	if (numbers[i].bytes)
		append(text, size, "%s %s", numbers[i].name,
			cij_size_exact(n, exact, sizeof(exact)));
	else
		append(text, size, "%s %lld", numbers[i].name, (long long)n);
}

/* refenv's and 4.1.50's images have one magic word: only a record tells them apart. */
static bool
same_format(const struct geometry *is, const struct geometry *want)
{
	return is->format == want->format ||
	       (is->format == FORMAT_OCSSD && want->format == FORMAT_OCSSD_NS);
}

/* The whole of @geo in words, but for what the other does not know either. */
static void
tell(const struct geometry *geo, const struct geometry *other, char *text, size_t size)
{
	text[0] = '\0';
	if (geo->type >= 0)
		append(text, size, "type %s", device_type_name(geo->type));
	if (!same_format(geo, other) && !same_format(other, geo))
		append(text, size, "format %s", format_words[geo->format]);
	for (size_t i = 0; i < cij_array_size(numbers); i++)
		if (*number_of(geo, i) != CIJ_UNSET && *number_of(other, i) != CIJ_UNSET)
			append_number(text, size, i, *number_of(geo, i));
}

bool
geometry_matches(const struct geometry *is, const struct geometry *want, char *is_text,
	char *want_text, size_t text_size)
{
	bool same = same_format(is, want) && (is->type < 0 || is->type == want->type);

	for (size_t i = 0; i < cij_array_size(numbers); i++) {
		int64_t a = *number_of(is, i), b = *number_of(want, i);

		same = same && (a == b || a == CIJ_UNSET || b == CIJ_UNSET);
	}
	tell(is, want, is_text, text_size);
	tell(want, is, want_text, text_size);
	return same;
}

int64_t
geometry_bytes_to_make(const struct geometry *geo)
{
	int64_t chunks;

	if (geo->format == FORMAT_RAW)
		return 0;
	chunks = geo->num_grp * geo->num_pu * geo->num_chk;
	/* Header and geometry; 32 bytes of chunk report a chunk (OCSSD 2.0 section 2.3), and with
	 * refenv's and 4.1.50's builds 4 bytes of wear: each region rounded up. */
	return 2 * OCSSD_HEADER_BYTES + (chunks * 36) + 2 * 65536;
}
