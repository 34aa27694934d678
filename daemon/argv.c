#include "daemon/argv.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <uuid/uuid.h>

#include "proto/json.h"
#include "proto/text.h"

#define SANDBOX "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

/* The daemon's own network device and its user-mode backend, by these ids. */
#define NETDEV "n0"

static void
add(struct argv *out, const char *why, const char *option, const char *value)
{
	strv_add(&out->items, option);
	strv_add(&out->why, why);
	if (value) {
		strv_add(&out->items, value);
		strv_add(&out->why, why);
	}
}

static void __attribute__((format(printf, 4, 5)))
addf(struct argv *out, const char *why, const char *option, const char *fmt, ...)
{
	_cleanup_free_ char *value = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&value, fmt, ap) < 0)
		abort();
	va_end(ap);
	add(out, why, option, value);
}

char *
argv_device_file(const char *id)
{
	return str_printf("%s.img", id);
}

/* Slots from here on are ours: the machines put their own devices and QEMU its choices below. */
#define FIRST_SLOT 0x10

/* Root ports share a slot as its eight functions. */
#define PORTS_A_SLOT 8

struct argv_place
argv_drive_place(enum machine_bus machine, size_t i)
{
	struct argv_place place = {"", ""};

	switch (machine) {
	case MACHINE_PCIE:
		snprintf(place.bus, sizeof(place.bus), "port%u", (unsigned)i);
		break;
	case MACHINE_PCI:
		snprintf(place.bus, sizeof(place.bus), "pci.0");
		snprintf(place.addr, sizeof(place.addr), "0x%x", FIRST_SLOT + (unsigned)i);
		break;
	case MACHINE_OTHER:
		break;
	}
	return place;
}

static void
add_identity(const struct argv_input *in, struct argv *out)
{
	add(out, "the daemon: nothing that is not asked for", "-nodefaults", NULL);
	add(out, "the daemon: nothing that is not asked for", "-no-user-config", NULL);
	add(out, "the daemon: nothing that is not asked for", "-display", "none");
	addf(out, "the guest's folder", "-name", "guest=%s", in->name);
	add(out, "the guest's folder", "-uuid", in->uuid);
	if (in->caps->sandbox)
		add(out, "the daemon: this QEMU takes it", "-sandbox", SANDBOX);
}

/* The key that made an option, or its default. @buf: for the latter. */
static const char *
key_or_default(const struct argv_input *in, const char *key, char buf[64])
{
	if (cij_json_get(in->conf->json, key))
		return key;
	snprintf(buf, 64, "default of %s", key);
	return buf;
}

static void
add_machine(const struct argv_input *in, struct argv *out)
{
	const struct guest_conf *conf = in->conf;
	char size[24], why[64];

	add(out, key_or_default(in, "machine", why), "-machine", conf->machine);
	addf(out, in->accel_why, "-accel", "%s", in->kvm ? "kvm" : "tcg");
	add(out, key_or_default(in, "cpu", why), "-cpu", conf->cpu);
	/* Without a unit QEMU takes MiB: sizes are rounded up to whole KiB, which always have one.
	 */
	cij_size_exact((conf->memory + 1023) / 1024 * 1024, size, sizeof(size));
	add(out, key_or_default(in, "memory", why), "-m", size);
	addf(out, key_or_default(in, "cpus", why), "-smp", "%lld", (long long)conf->cpus);
}

/* QMP on a socket that listens before QEMU runs, the console as the run's log, the locked pid file.
 */
static void
add_supervision(const struct argv_input *in, struct argv *out)
{
	addf(out, "the daemon: QMP", "-chardev",
		"socket,id=" ARGV_CHARDEV_QMP ",fd=%d,server=on,wait=off", in->qmp_fd);
	add(out, "the daemon: QMP", "-mon", "chardev=" ARGV_CHARDEV_QMP ",mode=control");
	addf(out, "the daemon: console into the run's log", "-chardev",
		"pipe,id=" ARGV_CHARDEV_CONSOLE ",path=logs/%04u", in->run);
	add(out, "the daemon: console into the run's log", "-serial",
		"chardev:" ARGV_CHARDEV_CONSOLE);
	add(out, "the daemon: its lock tells that QEMU lives", "-pidfile", "guest.pid");
	add(out, "the daemon: runs when its SSH port is set", "-S", NULL);
	if (in->caps->pvpanic_pci)
		add(out, "the daemon: sees the guest panic", "-device", "pvpanic-pci");
	else if (in->caps->pvpanic)
		add(out, "the daemon: sees the guest panic", "-device", "pvpanic");
}

static void
add_boot(const struct argv_input *in, struct argv *out)
{
	const struct guest_conf *conf = in->conf;

	if (in->boot) {
		_cleanup_free_ char *file = qemu_escape(in->boot);

		addf(out, conf->boot.image ? "boot.image" : "found in the guest's folder", "-drive",
			"file=%s,if=virtio,id=boot0,format=%s", file, in->boot_format);
	}
	if (!in->kernel)
		return;
	add(out, conf->kernel.image ? "kernel.image" : "found in the guest's folder", "-kernel",
		in->kernel);
	if (in->initrd)
		add(out, conf->kernel.initrd ? "kernel.initrd" : "found in the guest's folder",
			"-initrd", in->initrd);
	if (conf->kernel.append)
		add(out, "kernel.append", "-append", conf->kernel.append);
	else
		add(out, "default of kernel.append", "-append",
			in->boot ? "root=/dev/vda1 console=ttyS0" : "console=ttyS0");
}

/* A port a drive, at the same address in every run, and some to plug more into. */
static void
add_ports(const struct argv_input *in, struct argv *out)
{
	if (dialect_machine_bus(in->conf->machine) != MACHINE_PCIE)
		return;
	for (unsigned i = 0; i < in->conf->devices.n + ARGV_SPARE_PORTS; i++)
		addf(out,
			i < in->conf->devices.n ? "the daemon: a port a drive"
						: "the daemon: a port to plug a drive into",
			"-device", "pcie-root-port,id=port%u,chassis=%u,addr=0x%x.%u%s", i, i + 1,
			FIRST_SLOT + i / PORTS_A_SLOT, i % PORTS_A_SLOT,
			i % PORTS_A_SLOT == 0 ? ",multifunction=on" : "");
}

void
argv_namespace_uuid(const char *guest_uuid, const char *id, char *text)
{
	uuid_t space, uuid;

	if (uuid_parse(guest_uuid, space) < 0)
		uuid_clear(space);
	uuid_generate_sha1(uuid, space, id, strlen(id));
	uuid_unparse_lower(uuid, text);
}

/* Which of the drive's keys made it, and in whose words. Heap string. */
static char *
why_drive(const struct argv_input *in, size_t i)
{
	const struct device_conf *devices = in->conf->devices.items;
	struct json_object *json = json_object_array_get_idx(
		cij_json_get(in->conf->json, "devices"), i);
	char keys[256] = "";

	json_object_object_foreach (json, key, value) {
		size_t at = strlen(keys);

		if (value && strcmp(key, "id") != 0 && strcmp(key, "type") != 0)
			snprintf(keys + at, sizeof(keys) - at, "%s%s", at ? ", " : "", key);
	}
	return str_printf("devices.%s (%s%s), dialect %s", devices[i].id, keys,
		*keys ? "; the rest by default" : "by default", dialect_name(in->caps->dialect));
}

static int
add_devices(const struct argv_input *in, struct argv *out, struct cij_error *err)
{
	const struct device_conf *devices = in->conf->devices.items;
	enum machine_bus machine = dialect_machine_bus(in->conf->machine);

	for (size_t i = 0; i < in->conf->devices.n; i++) {
		_cleanup_free_ char *file = argv_device_file(devices[i].id);
		_cleanup_free_ char *why = why_drive(in, i);
		_cleanup_json_ struct json_object *parts = NULL;
		struct argv_place at = argv_drive_place(machine, i);
		char uuid[ARGV_UUID_SIZE];
		struct drive_place place = {.file = file,
			.bus = *at.bus ? at.bus : NULL,
			.addr = *at.addr ? at.addr : NULL,
			.uuid = uuid};
		enum image_format format;

		if (dialect_check(in->caps, &devices[i], in->qemu, &format, err) < 0)
			return -1;
		argv_namespace_uuid(in->uuid, devices[i].id, uuid);
		parts = dialect_drive(in->caps, &devices[i], &place);
		dialect_drive_argv(parts, &out->items);
		while (out->why.n < out->items.n)
			strv_add(&out->why, why);
	}
	return 0;
}

int
argv_build(const struct argv_input *in, struct argv *out, struct cij_error *err)
{
	*out = (struct argv){0};
	add(out, "qemu_home, QEMU_HOME, /opt/qemu-nvme or PATH", in->qemu, NULL);
	add_identity(in, out);
	add_machine(in, out);
	add_supervision(in, out);
	add(out, "the daemon: SSH and forwards come over QMP", "-netdev", "user,id=" NETDEV);
	/* No boot ROM: the guest never boots from the net, and SeaBIOS need not wait for it. */
	add(out, "the daemon: SSH and forwards come over QMP", "-device",
		"virtio-net-pci,netdev=" NETDEV ",romfile=");
	add_boot(in, out);
	add_ports(in, out);
	if (add_devices(in, out, err) < 0)
		return -1;
	for (size_t i = 0; i < in->conf->extra_args.n; i++)
		add(out, "extra_args", ((char **)in->conf->extra_args.items)[i], NULL);
	return 0;
}

void
argv_clear(struct argv *argv)
{
	strv_clear(&argv->items);
	strv_clear(&argv->why);
}
