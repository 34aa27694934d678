#include "daemon/dialect.h"

#include <string.h>

#include "proto/json.h"

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

static int
lacks(const char *qemu, const struct qemu_caps *caps, const struct device_conf *device,
	const char *what, struct cij_error *err)
{
	return cij_error_set(err, CIJ_E_NOT_SUPPORTED, "drive '%s': %s (QEMU %s) has no %s",
		device->id, qemu, caps->version, what);
}

int
dialect_image_kind(const struct qemu_caps *caps, const struct device_conf *device, const char *qemu,
	enum image_kind *kind, struct cij_error *err)
{
	switch ((enum device_type)device->type) {
	case DEVICE_OCSSD:
		switch (caps->dialect) {
		case DIALECT_LIGHTNVM:
		case DIALECT_OCSSD_DRIVE:
			*kind = IMAGE_OCSSD;
			return 0;
		case DIALECT_OCSSD_NS:
			*kind = IMAGE_EMPTY;
			return 0;
		case DIALECT_UPSTREAM:
			break;
		}
		lacks(qemu, caps, device, "Open-Channel SSD", err);
		return cij_error_hint(err,
			"build OpenChannelSSD/qemu-nvme, install it as "
			"/opt/qemu-nvme, or set QEMU_HOME or the guest's qemu_home "
			"to where it is");
	case DEVICE_NVME:
		if (!caps->nvme || (!caps->nvme_drive && !caps->nvme_ns))
			return lacks(qemu, caps, device, "NVMe drive", err);
		*kind = IMAGE_RAW;
		return 0;
	case DEVICE_ZNS:
		if (!caps->nvme_ns_zoned) {
			lacks(qemu, caps, device, "zoned NVMe namespaces", err);
			return cij_error_hint(err, "upstream QEMU has them from 6.0 on");
		}
		*kind = IMAGE_RAW;
		return 0;
	}
	return cij_error_set(err, CIJ_E_INTERNAL, "a drive of an unknown type");
}

char *
dialect_image_options(const struct device_conf *d)
{
	return str_printf(
		"num_grp=%lld,num_pu=%lld,num_chk=%lld,num_sec=%lld,sec_size=%lld,md_size=%lld",
		(long long)d->num_grp, (long long)d->num_pu, (long long)d->num_chk,
		(long long)d->num_sec, (long long)d->sec_size, (long long)d->md_size);
}

char *
qemu_escape(const char *text)
{
	char *out = malloc(2 * strlen(text) + 1), *p = out;

	if (!out)
		abort();
	for (; *text; text++) {
		if (*text == ',')
			*p++ = ',';
		*p++ = *text;
	}
	*p = '\0';
	return out;
}

/* A raw file that a device refers to as "drive-ID". */
static void
add_raw_drive(const struct device_conf *d, const char *file, struct strv *args)
{
	_cleanup_free_ char *escaped = qemu_escape(file);

	strv_add(args, "-drive");
	strv_addf(args, "file=%s,if=none,id=drive-%s,format=raw,discard=unmap", escaped, d->id);
}

static void
add_ocssd_image(const struct device_conf *d, const char *file, struct strv *args)
{
	_cleanup_free_ char *escaped = qemu_escape(file);

	strv_add(args, "-blockdev");
	strv_addf(args,
		"ocssd,node-name=drive-%s,discard=unmap,detect-zeroes=unmap,"
		"file.driver=file,file.filename=%s",
		d->id, escaped);
	strv_add(args, "-device");
}

/* The binary logarithm of a power of two. */
static int
log2_of(int64_t n)
{
	return __builtin_ctzll((unsigned long long)n);
}

static void
add_ocssd(const struct qemu_caps *caps, const struct device_conf *d, const char *file,
	struct strv *args)
{
	switch (caps->dialect) {
	case DIALECT_LIGHTNVM:
		add_ocssd_image(d, file, args);
		strv_addf(args,
			"nvme,drive=drive-%s,serial=%s,id=%s,mdts=%lld,lws_min=%lld,"
			"lws_opt=%lld,lmw_cunits=%lld,learly_reset=%d",
			d->id, d->id, d->id, (long long)d->mdts, (long long)d->ws_min,
			(long long)d->ws_opt, (long long)d->mw_cunits, d->early_reset);
		break;
	case DIALECT_OCSSD_DRIVE:
		add_ocssd_image(d, file, args);
		strv_addf(args,
			"ocssd,drive=drive-%s,serial=%s,id=%s,mdts=%lld,ws_min=%lld,"
			"ws_opt=%lld,mw_cunits=%lld,early_reset=%s",
			d->id, d->id, d->id, (long long)d->mdts, (long long)d->ws_min,
			(long long)d->ws_opt, (long long)d->mw_cunits,
			d->early_reset ? "on" : "off");
		break;
	case DIALECT_OCSSD_NS:
		add_raw_drive(d, file, args);
		strv_add(args, "-device");
		strv_addf(
			args, "ocssd,serial=%s,id=%s,mdts=%lld", d->id, d->id, (long long)d->mdts);
		strv_add(args, "-device");
		/* OCSSD 2.0 section 2.1.2, MCCAP: bit 0 vector copy, bit 2 early reset */
		strv_addf(args,
			"ocssd-ns,id=%s-ns1,drive=drive-%s,bus=%s,nsid=1,num_grp=%lld,"
			"num_pu=%lld,num_chk=%lld,clba=%lld,lbads=%d,ms=%lld,ws_min=%lld,"
			"ws_opt=%lld,mw_cunits=%lld,mccap=%d",
			d->id, d->id, d->id, (long long)d->num_grp, (long long)d->num_pu,
			(long long)d->num_chk, (long long)d->num_sec, log2_of(d->sec_size),
			(long long)d->md_size, (long long)d->ws_min, (long long)d->ws_opt,
			(long long)d->mw_cunits, d->early_reset ? 5 : 1);
		break;
	case DIALECT_UPSTREAM:
		break; /* refused by dialect_image_kind() */
	}
}

/* A controller with one namespace behind it: upstream since 6.0, and qemu-nvme 4.1.50. */
static void
add_controller(const struct qemu_caps *caps, const struct device_conf *d, struct strv *args)
{
	strv_add(args, "-device");
	if (caps->nvme_mdts)
		strv_addf(args, "nvme,serial=%s,id=%s,mdts=%lld", d->id, d->id, (long long)d->mdts);
	else
		strv_addf(args, "nvme,serial=%s,id=%s", d->id, d->id);
	strv_add(args, "-device");
}

static void
add_nvme(const struct qemu_caps *caps, const struct device_conf *d, const char *file,
	struct strv *args)
{
	add_raw_drive(d, file, args);
	if (caps->nvme_ns) {
		add_controller(caps, d, args);
		strv_addf(args, "nvme-ns,id=%s-ns1,drive=drive-%s,bus=%s,nsid=1", d->id, d->id,
			d->id);
		return;
	}
	char mdts[32] = "";
	if (caps->nvme_mdts)
		snprintf(mdts, sizeof(mdts), ",mdts=%lld", (long long)d->mdts);
	strv_add(args, "-device");
	strv_addf(args, "nvme,drive=drive-%s,serial=%s,id=%s%s%s", d->id, d->id, d->id, mdts,
		caps->nvme_dialect ? ",dialect=0" : "");
}

static void
add_zns(const struct qemu_caps *caps, const struct device_conf *d, const char *file,
	struct strv *args)
{
	add_raw_drive(d, file, args);
	add_controller(caps, d, args);
	strv_addf(args,
		"nvme-ns,id=%s-ns1,drive=drive-%s,bus=%s,nsid=1,zoned=on,zoned.zone_size=%lld,"
		"zoned.zone_capacity=%lld,zoned.max_open=%lld,zoned.max_active=%lld",
		d->id, d->id, d->id, (long long)d->zone_size, (long long)d->zone_capacity,
		(long long)d->max_open, (long long)d->max_active);
}

void
dialect_device_args(const struct qemu_caps *caps, const struct device_conf *device,
	const char *file, struct strv *args)
{
	switch ((enum device_type)device->type) {
	case DEVICE_OCSSD:
		add_ocssd(caps, device, file, args);
		break;
	case DEVICE_NVME:
		add_nvme(caps, device, file, args);
		break;
	case DEVICE_ZNS:
		add_zns(caps, device, file, args);
		break;
	}
}
