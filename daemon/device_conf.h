/* An emulated drive as guest.json defines it. Pure: JSON in, struct and problems out. */
#ifndef DAEMON_DEVICE_CONF_H
#define DAEMON_DEVICE_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/field.h"

enum device_type { DEVICE_OCSSD, DEVICE_NVME, DEVICE_ZNS };
#define DEVICE_TYPES 3

/* Numbers that do not belong to the drive's type are CIJ_UNSET. */
struct device_conf {
	char *id;
	int type; /* enum device_type */

	/* OCSSD 2.0 section 2.1: the geometry */
	int64_t num_grp; /* groups */
	int64_t num_pu; /* parallel units a group */
	int64_t num_chk; /* chunks a parallel unit */
	int64_t num_sec; /* logical blocks a chunk (CLBA) */
	int64_t sec_size; /* bytes of a logical block */
	int64_t md_size; /* bytes of metadata a logical block */
	int64_t ws_min; /* logical blocks of the smallest write */
	int64_t ws_opt; /* logical blocks of the best write */
	int64_t mw_cunits; /* logical blocks between write and safe read */
	bool early_reset; /* a chunk may be reset before it is full */

	/* NVMe 1.3, Identify Controller: MDTS, largest transfer as a power of two of the page size
	 */
	int64_t mdts;

	/* plain NVMe and zoned namespaces */
	int64_t size; /* bytes */

	/* NVMe ZNS 1.0: Identify Namespace, zoned */
	int64_t zone_size; /* bytes */
	int64_t zone_capacity; /* bytes */
	int64_t max_open; /* zones; 0 = no limit */
	int64_t max_active; /* zones; 0 = no limit */

	/* OCSSD: errors to inject and the states of chunks, see inject.h */
	struct json_object *inject, *chunks; /* arrays; NULL: none */
	char *writefail, *resetfail, *chunkinfo; /* files of the same, by hand; NULL: none */
};

extern const struct cij_table device_conf_table;

/*
 * Fills in the defaults of the drive's type and reports what the table cannot say. @json: what
 * @device was decoded from; @path: of the drive.
 */
void device_conf_check(struct device_conf *device, struct json_object *json, const char *path,
	struct cij_problems *problems);

/* Decodes and checks one drive. 0, or -1 with problems; clear with device_conf_clear(). */
int device_conf_decode(struct device_conf *device, struct json_object *json, const char *path,
	struct cij_problems *problems);
void device_conf_clear(struct device_conf *device);

/* The drive's bytes of user data as its guest sees them. */
int64_t device_conf_bytes(const struct device_conf *device);
const char *device_type_name(int type);

#endif
