/* guest.json and the struct that it decodes to. Pure: text in, struct and problems out. */
#ifndef DAEMON_GUEST_CONF_H
#define DAEMON_GUEST_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/device_conf.h"
#include "proto/field.h"

enum accel_mode { ACCEL_AUTO, ACCEL_KVM, ACCEL_TCG };
enum restart_policy { RESTART_NO, RESTART_ON_FAILURE, RESTART_ALWAYS };

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
	struct json_object *json; /* what it was decoded from: tells what was left to defaults */
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

/* limits.cpu_quota as microseconds of CPU a second; 0: none. */
int64_t guest_conf_cpu_usec(const struct guest_conf *conf);

#endif
