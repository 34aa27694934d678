/*
 * What one QEMU binary can do, and its words for an emulated drive. The forks that have
 * Open-Channel SSDs each spell them differently; they are told apart by the properties that they
 * offer over QMP
 * ('device-list-properties'), never by a version.
 */
#ifndef DAEMON_DIALECT_H
#define DAEMON_DIALECT_H

#include <json-c/json.h>
#include <stdbool.h>

#include "cijqemu/error.h"
#include "daemon/guest_conf.h"
#include "daemon/strv.h"

enum dialect {
	DIALECT_UPSTREAM, /* no OCSSD; nvme, nvme-ns, perhaps zoned */
	DIALECT_LIGHTNVM, /* qemu-nvme 3.1.50: nvme with l* properties on an 'ocssd' image */
	DIALECT_OCSSD_NS, /* qemu-nvme 4.1.50: ocssd + ocssd-ns on a raw image */
	DIALECT_OCSSD_DRIVE, /* refenv's fork: ocssd,drive= on an 'ocssd' image */
};

/* A binary's abilities, by value: copied into each run. */
struct qemu_caps {
	char version[32]; /* "7.2.22" */
	enum dialect dialect;
	bool nvme, nvme_drive, nvme_mdts; /* -device nvme, its drive=, its mdts= */
	bool nvme_dialect; /* nvme takes dialect=0: a plain NVMe drive */
	bool nvme_ns, nvme_ns_zoned;
	bool ocssd_mdts;
	bool pvpanic, pvpanic_pci;
	bool sandbox; /* takes -sandbox with every deny */
	bool kvm; /* starts with KVM on this host, for this user */
	char kvm_why[256]; /* why not */
};

/* The device types whose properties tell; NULL ends. */
extern const char *const dialect_types[];

/*
 * Takes what the binary answered to 'device-list-properties' of @type: @properties is the array of
 * {"name", …}, or NULL when it has no such device. The dialect is settled when all were taken.
 */
void dialect_take(struct qemu_caps *caps, const char *type, struct json_object *properties);

const char *dialect_name(enum dialect dialect);

/* How the drive's backing file is made. */
enum image_kind {
	IMAGE_RAW, /* a sparse file of the drive's size */
	IMAGE_EMPTY, /* an empty file, which QEMU grows */
	IMAGE_OCSSD, /* qemu-img create -f ocssd */
};

/*
 * Whether the binary at @qemu (for the error's text) can emulate @device, and on what kind of
 * image. Returns 0, or -1 with NotSupported naming what is missing and how to get it.
 */
int dialect_image_kind(const struct qemu_caps *caps, const struct device_conf *device,
	const char *qemu, enum image_kind *kind, struct cij_error *err);

/* The options of "qemu-img create -f ocssd -o …" for the drive. */
char *dialect_image_options(const struct device_conf *device);

/* Appends the drive's options ("-drive", "…", "-device", "…"); @file is relative to the guest. */
void dialect_device_args(const struct qemu_caps *caps, const struct device_conf *device,
	const char *file, struct strv *args);

/* @text with its commas doubled, as QEMU's option parser wants them. Heap string. */
char *qemu_escape(const char *text);

#endif
