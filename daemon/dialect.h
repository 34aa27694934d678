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
#include "daemon/geometry.h"
#include "daemon/inject.h"
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
	bool nvme_ns, nvme_ns_zoned; /* -device nvme-ns, its zoned= */
	bool nvme_ns_uuid; /* else drawn anew at each start, if at all */
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

/* Where a machine takes its drives. */
enum machine_bus {
	MACHINE_PCIE, /* q35: behind root ports */
	MACHINE_PCI, /* pc: on its only bus */
	MACHINE_OTHER, /* wherever QEMU puts them */
};

/* By the machine's name, as guest.json has it ("q35,hpet=off", "pc-q35-7.2"). */
enum machine_bus dialect_machine_bus(const char *machine);

/*
 * Whether the binary at @qemu (for the error's text) can emulate @device with all that is asked of
 * it, and in what kind of image. Returns 0, or -1 with NotSupported naming what is missing and how
 * to get it.
 */
int dialect_check(const struct qemu_caps *caps, const struct device_conf *device, const char *qemu,
	enum image_format *format, struct cij_error *err);

/* Whose words the binary's files of errors and chunk states are written in. */
enum inject_words dialect_inject_words(const struct qemu_caps *caps);

/* The options of "qemu-img create -f ocssd -o …" for the drive. */
char *dialect_image_options(const struct device_conf *device);

/* Where one drive goes. All weak. */
struct drive_place {
	const char *file; /* its image, relative to the guest's folder */
	const char *bus, *addr; /* NULL: QEMU chooses */
	const char *uuid; /* of its namespace; NULL: none */
	bool live; /* over QMP, into a QEMU that runs */
};

/*
 * What QEMU is told about the drive: an array of ["blockdev", {…}], ["drive", {…}], ["device",
 * {…}], in the order in which QEMU needs them. The members are the words of both QMP and the
 * command line. Live there is no "drive", and perhaps a ["qom", {…}], for 'qom-set': no build
 * lets a namespace be plugged into a running controller, because its bus has nobody who handles
 * that; naming the machine, which has nothing to do for a namespace, is enough.
 */
struct json_object *dialect_drive(const struct qemu_caps *caps, const struct device_conf *device,
	const struct drive_place *place);

/* The name by which QEMU knows the image of drive @id. Heap string. */
char *dialect_node_name(const char *id);

/* Appends what dialect_drive() made as words of a command line: "-device", "nvme,id=…". */
void dialect_drive_argv(struct json_object *parts, struct strv *args);

/* @text with its commas doubled, as QEMU's option parser wants them. Heap string. */
char *qemu_escape(const char *text);

#endif
