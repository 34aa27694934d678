#include "client/variables.h"

#include <string.h>

#include "cijqemu/cleanup.h"
#include "proto/text.h"

#define CLIENT_OWN "cijqemuctl itself uses it, as --host"
#define OWN_CONSOLE "the daemon has it: 'cijqemuctl console', 'logs' and 'monitor'"
#define OWN_IMG "the qemu-img beside QEMU is taken"

/* CIJOE's 2018 and 2019 names, and SSH_*, which went with them. */
static const struct variable variables[] = {
	{"QEMU_ARGS_EXTRA", USE_WORDS, "extra_args"},
	{"QEMU_BIN", USE_BINARY, "qemu_home"},
	{"QEMU_DEV_ID", USE_DRIVE_ID, "id", ERA_2019},
	{"QEMU_DEV_IMAGE_FPATH", USE_NOT, "a drive's image is ID.img in the guest's folder",
		ERA_2019},
	{"QEMU_DEV_MDTS", USE_NUMBER, "mdts", ERA_2019},
	{"QEMU_GUESTS", USE_NOT, "the daemon has its own --guests"},
	{"QEMU_GUEST_APPEND", USE_TEXT, "kernel.append"},
	{"QEMU_GUEST_BOOT_IMG", USE_FILE, "boot.image"},
	{"QEMU_GUEST_BOOT_IMG_FMT", USE_TEXT, "boot.format"},
	{"QEMU_GUEST_BOOT_ISO", USE_CDROM, "extra_args"},
	{"QEMU_GUEST_CONSOLE", USE_NOT, OWN_CONSOLE},
	{"QEMU_GUEST_CPU", USE_TEXT, "cpu"},
	{"QEMU_GUEST_HOST_SHARE", USE_NOT, "guests share no folder: 'cijqemuctl push' and 'pull'"},
	{"QEMU_GUEST_IOMMU", USE_NOT, "put '-device intel-iommu' into extra_args where needed"},
	{"QEMU_GUEST_KERNEL", USE_KERNEL, "kernel.image"},
	{"QEMU_GUEST_MACHINE_TYPE", USE_TEXT, "machine"},
	{"QEMU_GUEST_MEM", USE_MEMORY, "memory"},
	{"QEMU_GUEST_MONITOR", USE_NOT, OWN_CONSOLE},
	{"QEMU_GUEST_NAME", USE_NAME, "the guest's name"},
	{"QEMU_GUEST_PATH", USE_NAME, "where its files are"},
	{"QEMU_GUEST_PIDFILE", USE_NOT, "it is guest.pid in the guest's folder"},
	{"QEMU_GUEST_SERIAL", USE_NOT, OWN_CONSOLE},
	{"QEMU_GUEST_SMP", USE_NUMBER, "cpus"},
	{"QEMU_GUEST_SSH_FWD_PORT", USE_PORT, "ssh.port"},
	{"QEMU_HOME", USE_TEXT, "qemu_home"},
	{"QEMU_HOST", USE_NOT, CLIENT_OWN},
	{"QEMU_HOST_IMG_BIN", USE_NOT, OWN_IMG},
	{"QEMU_HOST_PORT", USE_NOT, CLIENT_OWN},
	{"QEMU_HOST_SYSTEM_BIN", USE_BINARY, "qemu_home"},
	{"QEMU_HOST_USER", USE_NOT, CLIENT_OWN},
	{"QEMU_IMG_BIN", USE_NOT, OWN_IMG},
	{"QEMU_NVME_CHUNKTABLE", USE_FILE, "chunkinfo", ERA_2018},
	{"QEMU_NVME_DEBUG", USE_NOT, "no QEMU build needs it", ERA_2018},
	{"QEMU_NVME_ID", USE_DRIVE_ID, "id", ERA_2018},
	{"QEMU_NVME_IMAGE_SIZE", USE_NOT, "an OCSSD's size follows from its geometry", ERA_2018},
	{"QEMU_NVME_LINES", USE_NUMBER, "num_chk", ERA_2018},
	{"QEMU_NVME_MDTS", USE_NUMBER, "mdts", ERA_2018},
	{"QEMU_NVME_META_SZ", USE_NUMBER, "md_size", ERA_2018},
	{"QEMU_NVME_MS", USE_NUMBER, "md_size", ERA_2018},
	{"QEMU_NVME_MW_CUNITS", USE_NUMBER, "mw_cunits", ERA_2018},
	{"QEMU_NVME_NLBAF", USE_NOT, "an OCSSD has one format of its blocks", ERA_2018},
	{"QEMU_NVME_NUM_GRP", USE_NUMBER, "num_grp", ERA_2018},
	{"QEMU_NVME_NUM_PU", USE_NUMBER, "num_pu", ERA_2018},
	{"QEMU_NVME_NUM_SEC", USE_NUMBER, "num_sec", ERA_2018},
	{"QEMU_NVME_RESETFAIL", USE_FILE, "resetfail", ERA_2018},
	{"QEMU_NVME_SECS_PER_CHK", USE_NUMBER, "num_sec", ERA_2018},
	{"QEMU_NVME_SEC_SIZE", USE_NUMBER, "sec_size", ERA_2018},
	{"QEMU_NVME_WRITEFAIL", USE_FILE, "writefail", ERA_2018},
	{"QEMU_NVME_WS_MIN", USE_NUMBER, "ws_min", ERA_2018},
	{"QEMU_NVME_WS_OPT", USE_NUMBER, "ws_opt", ERA_2018},
	{"QEMU_OCSSD", USE_OCSSD, "type", ERA_2019},
	{"QEMU_OCSSD_CHUNKINFO", USE_FILE, "chunkinfo", ERA_2019},
	{"QEMU_OCSSD_EARLY_RESET", USE_BOOL, "early_reset", ERA_2019},
	{"QEMU_OCSSD_LBADS", USE_NUMBER, "sec_size", ERA_2019},
	{"QEMU_OCSSD_MS", USE_NUMBER, "md_size", ERA_2019},
	{"QEMU_OCSSD_MW_CUNITS", USE_NUMBER, "mw_cunits", ERA_2019},
	{"QEMU_OCSSD_NUM_CHK", USE_NUMBER, "num_chk", ERA_2019},
	{"QEMU_OCSSD_NUM_GRP", USE_NUMBER, "num_grp", ERA_2019},
	{"QEMU_OCSSD_NUM_PU", USE_NUMBER, "num_pu", ERA_2019},
	{"QEMU_OCSSD_NUM_SEC", USE_NUMBER, "num_sec", ERA_2019},
	{"QEMU_OCSSD_RESETFAIL", USE_FILE, "resetfail", ERA_2019},
	{"QEMU_OCSSD_WRITEFAIL", USE_FILE, "writefail", ERA_2019},
	{"QEMU_OCSSD_WS_MIN", USE_NUMBER, "ws_min", ERA_2019},
	{"QEMU_OCSSD_WS_OPT", USE_NUMBER, "ws_opt", ERA_2019},
	{"SSH_PORT", USE_PORT, "ssh.port"},
	{"SSH_USER", USE_TEXT, "ssh.user"},
};

const struct variable *
variable_find(const char *name)
{
	for (size_t i = 0; i < cij_array_size(variables); i++)
		if (strcmp(variables[i].name, name) == 0)
			return &variables[i];
	return NULL;
}

const char *
variable_nearest(const char *name)
{
	const char *names[cij_array_size(variables)];

	for (size_t i = 0; i < cij_array_size(variables); i++)
		names[i] = variables[i].name;
	return cij_nearest_of(name, names, cij_array_size(variables));
}
