#include "daemon/guest_conf.h"

#include <ctype.h>
#include <string.h>

#include "daemon/strv.h"
#include "proto/text.h"

#define KiB 1024LL
#define MiB (1024 * KiB)
#define GiB (1024 * MiB)
#define TiB (1024 * GiB)

/* A PCIe root bus has 32 slots, some taken; drives behind it are few in any real test. */
#define DEVICES_MAX 16
#define FORWARDS_MAX 64
#define EXTRA_ARGS_MAX 256
#define SHARES_MAX 256
/* A thousand CPUs: more than QEMU gives a guest. */
#define CPU_PERCENT_MAX 100000

static const char *const accel_words[] = {"auto", "kvm", "tcg", NULL};
static const char *const restart_words[] = {"no", "on-failure", "always", NULL};
static const char *const format_words[] = {"raw", "qcow2"};

#define F(type_, member_, kind_, ...) \
	{ \
		.name = #member_, .type = kind_, .offset = offsetof(struct type_, member_), \
		__VA_ARGS__ \
	}

static const struct cij_field forward_fields[] = {
	F(forward_conf, host, CIJ_T_INT, .flags = CIJ_F_REQUIRED, .min = 1, .max = 65535),
	F(forward_conf, guest, CIJ_T_INT, .flags = CIJ_F_REQUIRED, .min = 1, .max = 65535),
};
static const struct cij_table forward_table = CIJ_TABLE(forward_fields, struct forward_conf, NULL);

/* The nested objects of guest.json, by the type of their member. */
#define NESTED(member_) typeof(((struct guest_conf *)0)->member_)
#define N(parent_, member_, kind_, ...) \
	{ \
		.name = #member_, .type = kind_, .offset = offsetof(NESTED(parent_), member_), \
		__VA_ARGS__ \
	}

static const struct cij_field boot_fields[] = {
	N(boot, image, CIJ_T_STR, .flags = CIJ_F_NOT_EMPTY, .doc = "boot image"),
	N(boot, format, CIJ_T_STR, .doc = "raw or qcow2; else by the file's name"),
};
static const struct cij_table boot_table = CIJ_TABLE(boot_fields, NESTED(boot), NULL);

static const struct cij_field kernel_fields[] = {
	N(kernel, image, CIJ_T_STR, .flags = CIJ_F_NOT_EMPTY),
	N(kernel, initrd, CIJ_T_STR, .flags = CIJ_F_NOT_EMPTY),
	N(kernel, append, CIJ_T_STR, .doc = "kernel command line"),
};
static const struct cij_table kernel_table = CIJ_TABLE(kernel_fields, NESTED(kernel), NULL);

static const struct cij_field ssh_fields[] = {
	N(ssh, user, CIJ_T_STR, .flags = CIJ_F_NOT_EMPTY),
	N(ssh, port, CIJ_T_INT, .min = 0, .max = 65535, .doc = "on 127.0.0.1; 0: allocated"),
	N(ssh, key, CIJ_T_STR, .flags = CIJ_F_NOT_EMPTY, .doc = "private key for the guest"),
};
static const struct cij_table ssh_table = CIJ_TABLE(ssh_fields, NESTED(ssh), NULL);

static const struct cij_field log_fields[] = {
	N(log, limit, CIJ_T_SIZE, .min = 64 * KiB, .max = TiB,
		.doc = "bytes of console kept a run"),
	N(log, keep, CIJ_T_INT, .min = 1, .max = 1000, .doc = "runs whose logs are kept"),
};
static const struct cij_table log_table = CIJ_TABLE(log_fields, NESTED(log), NULL);

static const struct cij_field limits_fields[] = {
	N(limits, memory_max, CIJ_T_SIZE, .min = 16 * MiB),
	N(limits, cpu_quota, CIJ_T_STR, .doc = "like 200%"),
	N(limits, tasks_max, CIJ_T_INT, .min = 8, .max = 1000000),
};
static const struct cij_table limits_table = CIJ_TABLE(limits_fields, NESTED(limits), NULL);

static const struct cij_field lease_fields[] = {
	N(lease, reset, CIJ_T_BOOL, .doc = "stop and format the drives on release"),
};
static const struct cij_table lease_table = CIJ_TABLE(lease_fields, NESTED(lease), NULL);

static const struct cij_field guest_fields[] = {
	/* 1 MiB is the least that QEMU's PC machines start with. */
	F(guest_conf, memory, CIJ_T_SIZE, .min = MiB, .max = 16 * TiB, .doc = "RAM of the guest"),
	F(guest_conf, cpus, CIJ_T_INT, .min = 1, .max = 288),
	F(guest_conf, cpu, CIJ_T_STR, .flags = CIJ_F_NOT_EMPTY, .doc = "QEMU's CPU model"),
	F(guest_conf, machine, CIJ_T_STR, .flags = CIJ_F_NOT_EMPTY, .doc = "QEMU's machine type"),
	F(guest_conf, accel, CIJ_T_ENUM, .names = accel_words),
	F(guest_conf, boot, CIJ_T_OBJECT, .table = &boot_table),
	F(guest_conf, kernel, CIJ_T_OBJECT, .table = &kernel_table),
	F(guest_conf, ssh, CIJ_T_OBJECT, .table = &ssh_table),
	F(guest_conf, forward, CIJ_T_LIST, .table = &forward_table, .max = FORWARDS_MAX),
	F(guest_conf, devices, CIJ_T_LIST, .table = &device_conf_table, .max = DEVICES_MAX),
	F(guest_conf, qemu_home, CIJ_T_STR, .flags = CIJ_F_NOT_EMPTY),
	F(guest_conf, log, CIJ_T_OBJECT, .table = &log_table),
	F(guest_conf, limits, CIJ_T_OBJECT, .table = &limits_table),
	F(guest_conf, share, CIJ_T_STRS, .max = SHARES_MAX, .flags = CIJ_F_NOT_EMPTY),
	F(guest_conf, lease, CIJ_T_OBJECT, .table = &lease_table),
	F(guest_conf, autostart, CIJ_T_BOOL, .doc = "start with the host"),
	F(guest_conf, restart, CIJ_T_ENUM, .names = restart_words),
	F(guest_conf, extra_args, CIJ_T_STRS, .max = EXTRA_ARGS_MAX),
};

static void
init_guest(void *obj)
{
	struct guest_conf *conf = obj;

	conf->memory = 2 * GiB;
	conf->cpus = 2;
	conf->cpu = str_copy("max");
	conf->machine = str_copy("q35");
	conf->ssh.user = str_copy("root");
	conf->ssh.port = 0;
	conf->log.limit = 64 * MiB;
	conf->log.keep = 10;
}

const struct cij_table guest_conf_table = CIJ_TABLE(guest_fields, struct guest_conf, init_guest);

/* What the table cannot say, of each drive whose type is known. */
static void
check_devices(struct guest_conf *conf, struct json_object *json, struct cij_problems *problems)
{
	struct device_conf *devices = conf->devices.items;
	struct json_object *array = cij_json_get(json, "devices");

	for (size_t i = 0; i < conf->devices.n; i++) {
		struct json_object *device = json_object_array_get_idx(array, i);
		_cleanup_free_ char *path = str_printf("devices[%zu]", i),
				    *type = str_printf("%s.type", path);

		if (json_object_is_type(device, json_type_object) &&
			!cij_problems_below(problems, type))
			device_conf_check(&devices[i], device, path, problems);
		for (size_t k = 0; k < i; k++)
			if (devices[i].id && devices[k].id &&
				strcmp(devices[i].id, devices[k].id) == 0)
				cij_problems_add(problems, path, "has the id '%s' of devices[%zu]",
					devices[i].id, k);
	}
}

/* Options that the daemon gives itself, or that would take the guest out of its hands. */
static const char *const owned_options[] = {"accel", "append", "bios-chardev", "chroot", "cpu",
	"daemonize", "display", "enable-kvm", "incoming", "initrd", "kernel", "M", "m", "machine",
	"mon", "monitor", "name", "no-reboot", "no-shutdown", "nodefaults", "nographic", "pidfile",
	"preconfig", "qmp", "qmp-pretty", "readconfig", "run-with", "runas", "S", "sandbox",
	"serial", "smp", "uuid"};

static void
check_extra_args(const struct guest_conf *conf, struct cij_problems *problems)
{
	char **args = conf->extra_args.items;

	for (size_t i = 0; i < conf->extra_args.n; i++) {
		const char *name = args[i];

		if (!name || name[0] != '-')
			continue;
		name += name[1] == '-' ? 2 : 1;
		for (size_t k = 0; k < cij_array_size(owned_options); k++)
			if (strcmp(name, owned_options[k]) == 0) {
				_cleanup_free_ char *path = str_printf("extra_args[%zu]", i);

				cij_problems_add(problems, path,
					"is '%s', which the daemon sets itself", args[i]);
			}
	}
}

static void
check_files(const struct guest_conf *conf, struct cij_problems *problems)
{
	const char *format = conf->boot.format;

	if (format && strcmp(format, format_words[0]) != 0 && strcmp(format, format_words[1]) != 0)
		cij_problems_add(problems, "boot.format", "must be raw or qcow2");
	if (conf->qemu_home && conf->qemu_home[0] != '/')
		cij_problems_add(problems, "qemu_home", "must be an absolute path");
	for (size_t i = 0; i < conf->forward.n; i++) {
		const struct forward_conf *f = conf->forward.items;

		for (size_t k = 0; k < i; k++)
			if (f[i].host == f[k].host) {
				_cleanup_free_ char *path = str_printf("forward[%zu].host", i);

				cij_problems_add(problems, path, "is %lld, as in forward[%zu]",
					(long long)f[i].host, k);
			}
		if (conf->ssh.port && f[i].host == conf->ssh.port)
			cij_problems_add(problems, "ssh.port", "is %lld, as in forward[%zu]",
				(long long)conf->ssh.port, i);
	}
}

/* Microseconds of CPU a second that "200%" stands for; -1 for what is no such word. */
static int64_t
parse_quota(const char *text)
{
	unsigned long percent;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return -1;
	percent = strtoul(text, &end, 10);
	if (strcmp(end, "%") != 0 || percent == 0 || percent > CPU_PERCENT_MAX)
		return -1;
	return (int64_t)percent * 10000;
}

static void
check_limits(const struct guest_conf *conf, struct cij_problems *problems)
{
	if (conf->limits.cpu_quota && parse_quota(conf->limits.cpu_quota) < 0)
		cij_problems_add(problems, "limits.cpu_quota",
			"must be a percentage of one CPU such as 200%%, not '%s'",
			conf->limits.cpu_quota);
}

int64_t
guest_conf_cpu_usec(const struct guest_conf *conf)
{
	return conf->limits.cpu_quota ? parse_quota(conf->limits.cpu_quota) : 0;
}

int
guest_conf_decode(struct guest_conf *conf, struct json_object *json, struct cij_problems *problems)
{
	_cleanup_json_ struct json_object *nothing = json_object_new_object();

	/* What the table refuses does not hide what is wrong elsewhere. */
	cij_table_decode(&guest_conf_table, json ? json : nothing, conf, "", problems);
	conf->json = json_object_get(json);
	check_devices(conf, json, problems);
	check_extra_args(conf, problems);
	check_files(conf, problems);
	check_limits(conf, problems);
	return problems->n ? -1 : 0;
}

void
guest_conf_clear(struct guest_conf *conf)
{
	json_object_put(conf->json);
	cij_table_clear(&guest_conf_table, conf);
}
