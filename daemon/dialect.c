#include "daemon/dialect.h"

#include <string.h>

#include "proto/json.h"
#include "proto/text.h"

const char *const dialect_types[] = {
	"nvme", "nvme-ns", "ocssd", "ocssd-ns", "pvpanic", "pvpanic-pci", NULL};

static const char *const names[] = {
	[DIALECT_UPSTREAM] = "upstream",
	[DIALECT_LIGHTNVM] = "lightnvm",
	[DIALECT_OCSSD_NS] = "ocssd-ns",
	[DIALECT_OCSSD_DRIVE] = "ocssd",
};

const char *
dialect_name(enum dialect dialect)
{
	return names[dialect];
}

static bool
has_property(struct json_object *properties, const char *name)
{
	size_t n = json_object_array_length(properties);

	for (size_t i = 0; i < n; i++) {
		const char *word = cij_json_str(json_object_array_get_idx(properties, i), "name");

		if (word && strcmp(word, name) == 0)
			return true;
	}
	return false;
}

void
dialect_take(struct qemu_caps *caps, const char *type, struct json_object *properties)
{
	if (!json_object_is_type(properties, json_type_array))
		return;
	if (strcmp(type, "nvme") == 0) {
		caps->nvme = true;
		caps->nvme_drive = has_property(properties, "drive");
		caps->nvme_mdts = has_property(properties, "mdts");
		caps->nvme_dialect = has_property(properties, "dialect");
		if (has_property(properties, "lws_min"))
			caps->dialect = DIALECT_LIGHTNVM;
	} else if (strcmp(type, "nvme-ns") == 0) {
		caps->nvme_ns = has_property(properties, "drive");
		caps->nvme_ns_zoned = has_property(properties, "zoned");
		caps->nvme_ns_uuid = has_property(properties, "uuid");
	} else if (strcmp(type, "ocssd") == 0) {
		caps->ocssd_mdts = has_property(properties, "mdts");
		if (has_property(properties, "drive"))
			caps->dialect = DIALECT_OCSSD_DRIVE;
	} else if (strcmp(type, "ocssd-ns") == 0) {
		caps->dialect = DIALECT_OCSSD_NS;
	} else if (strcmp(type, "pvpanic") == 0) {
		caps->pvpanic = true;
	} else if (strcmp(type, "pvpanic-pci") == 0) {
		caps->pvpanic_pci = true;
	}
}

enum machine_bus
dialect_machine_bus(const char *machine)
{
	size_t n = strcspn(machine, ",");

	if ((n == 3 && strncmp(machine, "q35", n) == 0) || strncmp(machine, "pc-q35-", 7) == 0)
		return MACHINE_PCIE;
	if ((n == 2 && strncmp(machine, "pc", n) == 0) || strncmp(machine, "pc-i440fx-", 10) == 0)
		return MACHINE_PCI;
	return MACHINE_OTHER;
}

static int
lacks(const char *qemu, const struct qemu_caps *caps, const struct device_conf *device,
	const char *what, struct cij_error *err)
{
	return cij_error_set(err, CIJ_E_NOT_SUPPORTED, "drive '%s': %s (QEMU %s) has no %s",
		device->id, qemu, caps->version, what);
}

/*
 * The forks shift parts of an address as 32-bit numbers (3.1.50: lnvm_init_namespace(), masks;
 * 4.1.50: ocssd_ns_init_blk(), 1 << bits), so that larger drives overlap themselves or die.
 */
#define LIGHTNVM_ADDRESS_BITS 31
#define OCSSD_NS_ADDRESS_BITS 30

static int
check_ocssd(const struct qemu_caps *caps, const struct device_conf *d, const char *qemu,
	struct cij_error *err)
{
	int bits = geometry_address_bits(d);
	int most = caps->dialect == DIALECT_OCSSD_NS ? OCSSD_NS_ADDRESS_BITS
						     : LIGHTNVM_ADDRESS_BITS;

	if (bits > most)
		return cij_error_set(err, CIJ_E_NOT_SUPPORTED,
			"drive '%s': its geometry needs %d address bits, %s (QEMU %s) has %d",
			d->id, bits, qemu, caps->version, most);
	if (caps->dialect == DIALECT_LIGHTNVM)
		return 0;
	/* They write the namespace behind a header of 4096 bytes and look for it behind sec_size.
	 */
	if (d->sec_size != 4096)
		return cij_error_set(err, CIJ_E_NOT_SUPPORTED,
			"drive '%s': %s (QEMU %s) only works with a sec_size of 4096", d->id, qemu,
			caps->version);
	if (caps->dialect == DIALECT_OCSSD_NS && (d->md_size & (d->md_size - 1)))
		return cij_error_set(err, CIJ_E_NOT_SUPPORTED,
			"drive '%s': %s (QEMU %s) wants a md_size that is 0 or a power of two",
			d->id, qemu, caps->version);
	return 0;
}

/* Whether the controller of such a drive takes "mdts". */
static bool
takes_mdts(const struct qemu_caps *caps, const struct device_conf *d)
{
	if (d->type == DEVICE_OCSSD && caps->dialect != DIALECT_LIGHTNVM)
		return caps->ocssd_mdts;
	return caps->nvme_mdts;
}

static int
check_mdts(const struct qemu_caps *caps, const struct device_conf *d, const char *qemu,
	struct cij_error *err)
{
	/* 7 is guest.json's default and asks for nothing. */
	if (takes_mdts(caps, d) || d->mdts == 7)
		return 0;
	return cij_error_set(err, CIJ_E_NOT_SUPPORTED, "drive '%s': %s (QEMU %s) cannot set mdts",
		d->id, qemu, caps->version);
}

static int
no_ocssd(const struct qemu_caps *caps, const struct device_conf *d, const char *qemu,
	struct cij_error *err)
{
	lacks(qemu, caps, d, "Open-Channel SSD", err);
	return cij_error_hint(err,
		"build OpenChannelSSD/qemu-nvme, install it as /opt/qemu-nvme, or set QEMU_HOME or "
		"the guest's qemu_home to where it is");
}

int
dialect_check(const struct qemu_caps *caps, const struct device_conf *d, const char *qemu,
	enum image_format *format, struct cij_error *err)
{
	static const enum image_format formats[] = {
		[DIALECT_LIGHTNVM] = FORMAT_LIGHTNVM,
		[DIALECT_OCSSD_NS] = FORMAT_OCSSD_NS,
		[DIALECT_OCSSD_DRIVE] = FORMAT_OCSSD,
	};

	*format = FORMAT_RAW;
	switch ((enum device_type)d->type) {
	case DEVICE_OCSSD:
		if (caps->dialect == DIALECT_UPSTREAM)
			return no_ocssd(caps, d, qemu, err);
		*format = formats[caps->dialect];
		if (check_ocssd(caps, d, qemu, err) < 0)
			return -1;
		break;
	case DEVICE_NVME:
		if (!caps->nvme || (!caps->nvme_drive && !caps->nvme_ns))
			return lacks(qemu, caps, d, "NVMe drive", err);
		break;
	case DEVICE_ZNS:
		if (!caps->nvme_ns_zoned) {
			lacks(qemu, caps, d, "zoned NVMe namespaces", err);
			return cij_error_hint(err, "upstream QEMU has them from 6.0 on");
		}
		break;
	}
	return check_mdts(caps, d, qemu, err);
}

enum inject_words
dialect_inject_words(const struct qemu_caps *caps)
{
	switch (caps->dialect) {
	case DIALECT_OCSSD_NS:
		return WORDS_OCSSD;
	case DIALECT_OCSSD_DRIVE:
		return WORDS_OCSSD_NS1;
	case DIALECT_LIGHTNVM:
	case DIALECT_UPSTREAM:
		break;
	}
	return WORDS_LIGHTNVM;
}

char *
dialect_image_options(const struct device_conf *d)
{
	return str_printf("num_grp=%lld,num_pu=%lld,num_chk=%lld,num_sec=%lld,sec_size=%lld,"
			  "md_size=%lld,ws_min=%lld,ws_opt=%lld,mw_cunits=%lld",
		(long long)d->num_grp, (long long)d->num_pu, (long long)d->num_chk,
		(long long)d->num_sec, (long long)d->sec_size, (long long)d->md_size,
		(long long)d->ws_min, (long long)d->ws_opt, (long long)d->mw_cunits);
}
