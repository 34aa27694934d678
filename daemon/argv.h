/* A guest's definition, its paths and its descriptors -> QEMU's argument vector. Pure. */
#ifndef DAEMON_ARGV_H
#define DAEMON_ARGV_H

#include "daemon/dialect.h"
#include "daemon/guest_conf.h"
#include "daemon/strv.h"

/* The ids of the chardevs that the daemon owns. */
#define ARGV_CHARDEV_QMP "qmp0"
#define ARGV_CHARDEV_CONSOLE "con0"

struct argv_input {
	const char *qemu; /* path of the binary */
	const char *name; /* of the guest */
	const char *uuid;
	const struct guest_conf *conf;
	const struct qemu_caps *caps;
	bool kvm; /* accelerate by KVM, else TCG */
	const char *accel_why; /* for --explain */
	unsigned run; /* number of the run: its console is logs/NNNN.{in,out} */
	int qmp_fd; /* listening socket, as QEMU will see it */
	/* relative to the guest's folder, or absolute; NULL: none */
	const char *boot, *boot_format, *kernel, *initrd;
};

/* items and why are of one length: which key, default or dialect made each word. */
struct argv {
	struct strv items;
	struct strv why;
};

/* Builds the vector. Returns 0, or -1 with NotSupported, BadConfig. Clear in both cases. */
int argv_build(const struct argv_input *in, struct argv *out, struct cij_error *err);
void argv_clear(struct argv *argv);

/*
 * Root ports behind which nothing stands when a guest starts: so many drives can be plugged into
 * it. Each costs the guest a bus to look at when it boots.
 */
#define ARGV_SPARE_PORTS 4

/* The backing file of drive @id, relative to the guest's folder. Heap string. */
char *argv_device_file(const char *id);

/* The UUID of drive @id's namespace, the same in every run: in the name space of its guest's. */
#define ARGV_UUID_SIZE 37
void argv_namespace_uuid(const char *guest_uuid, const char *id, char *text);

/* Names the place of the guest's drive number @i in @bus and @addr ("" = QEMU's choice). */
struct argv_place {
	char bus[16], addr[16];
};
struct argv_place argv_drive_place(enum machine_bus machine, size_t i);

#endif
