/*
 * The shape of an emulated drive: whether it makes sense, and how it is told from another. Each
 * image's geometry is recorded beside it (ID.geometry.json) and, for an OCSSD, read from the image
 * itself, so that a drive is never started as another one than it was made as. Pure.
 */
#ifndef DAEMON_GEOMETRY_H
#define DAEMON_GEOMETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/device_conf.h"

/* Adds what makes no sense about the drive's numbers; the limits' sources stand beside each. */
void geometry_check(
	const struct device_conf *device, const char *path, struct cij_problems *problems);

/* Bits of an OCSSD's logical block address: OCSSD 2.0 section 2.2, each part rounded up. */
int geometry_address_bits(const struct device_conf *device);

/* What kind of bytes an image holds. */
enum image_format {
	FORMAT_RAW, /* the blocks alone */
	FORMAT_LIGHTNVM, /* qemu-nvme 3.1.50's 'ocssd' image format */
	FORMAT_OCSSD, /* refenv's 'ocssd' image format */
	FORMAT_OCSSD_NS, /* what qemu-nvme 4.1.50 makes of an empty file */
};

/* An image's shape; numbers that are not known or do not apply are CIJ_UNSET. */
struct geometry {
	enum image_format format;
	int type; /* enum device_type; -1: not known */
	int64_t num_grp, num_pu, num_chk, num_sec, sec_size, md_size;
	int64_t ws_min, ws_opt, mw_cunits;
	int64_t size, zone_size, zone_capacity;
};

/* The shape that @device wants of its image. */
void geometry_of(const struct device_conf *device, enum image_format format, struct geometry *geo);

/* How many bytes at the image's beginning geometry_from_header() looks at. */
#define GEOMETRY_HEADER_BYTES (64 * 1024 + 4096)

/*
 * Reads the shape from the first @len bytes of an image. Returns false when they are no OCSSD's;
 * *@geo is unchanged then.
 */
bool geometry_from_header(const unsigned char *bytes, size_t len, struct geometry *geo);

struct json_object *geometry_to_json(const struct geometry *geo);
/* 0, or -1 when @json is no such record. */
int geometry_from_json(struct json_object *json, struct geometry *geo);

/*
 * Whether an image of shape @is serves a drive that wants @want; unknown numbers match. Returns
 * true, or false; both are told in words for an error ("type ocssd, num_grp 2, num_pu 4, …").
 */
bool geometry_matches(const struct geometry *is, const struct geometry *want, char *is_text,
	char *want_text, size_t text_size);

/*
 * Bytes that making the image takes on the disk: what QEMU or qemu-img writes into it. All else
 * is a hole.
 */
int64_t geometry_bytes_to_make(const struct geometry *geo);

#endif
