/* guest.json and the struct that it decodes to. Pure: text in, struct and problems out. */
#ifndef DAEMON_GUEST_CONF_H
#define DAEMON_GUEST_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/field.h"

enum accel_mode { ACCEL_AUTO, ACCEL_KVM, ACCEL_TCG };
enum restart_policy { RESTART_NO, RESTART_ON_FAILURE, RESTART_ALWAYS };
enum device_type { DEVICE_OCSSD, DEVICE_NVME, DEVICE_ZNS };

/* An emulated drive. Numbers that do not belong to its type are CIJ_UNSET. */
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
};

struct forward_conf {
	int64_t host, guest; /* TCP ports */
};

struct guest_conf {
	int64_t memory; /* bytes */
	int64_t cpus;
	char *cpu, *machine;
	int accel; /* enum accel_mode */
	struct {
		char *image, *format; /* NULL: found by name */
	} boot;
	struct {
		char *image, *initrd, *append; /* NULL: found by name, default */
	} kernel;
	struct {
		char *user;
		int64_t port; /* 0: allocated */
		char *key;
	} ssh;
	struct cij_list forward; /* struct forward_conf */
	struct cij_list devices; /* struct device_conf */
	char *qemu_home;
	struct {
		int64_t limit, keep;
	} log;
	struct {
		int64_t memory_max; /* bytes; CIJ_UNSET: none */
		char *cpu_quota;
		int64_t tasks_max;
	} limits;
	struct cij_list share; /* char * */
	struct {
		bool reset;
	} lease;
	bool autostart;
	int restart; /* enum restart_policy */
	struct cij_list extra_args; /* char * */
};

extern const struct cij_table guest_conf_table;

/*
 * Decodes @json (NULL = no guest.json: defaults only) and checks what the table cannot say. Returns
 * 0, or -1 with all @problems. Clear in both cases.
 */
int guest_conf_decode(
	struct guest_conf *conf, struct json_object *json, struct cij_problems *problems);
void guest_conf_clear(struct guest_conf *conf);

/*
 * Applies @changes, an object of dotted keys ("memory", "devices.nvme0.mdts", "forward.0.host"), to
 * the guest.json object @json in place; null removes. A device that is not there is added by its
 * id, an array element by the index behind the last. Returns 0, or -1 with BadRequest naming the
 * key.
 */
int guest_conf_apply(struct json_object *json, struct json_object *changes, struct cij_error *err);

/* The device's bytes of user data as its guest sees them. */
int64_t device_conf_bytes(const struct device_conf *device);
const char *device_type_name(int type);

/* limits.cpu_quota as microseconds of CPU a second; 0: none. */
int64_t guest_conf_cpu_usec(const struct guest_conf *conf);

#endif
