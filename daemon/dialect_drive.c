/* The words for one drive in each dialect, as JSON for QMP and as a command line. */
#include <stdio.h>
#include <string.h>

#include "daemon/dialect.h"
#include "proto/json.h"

char *
dialect_node_name(const char *id)
{
	return str_printf("drive-%s", id);
}

static char *
namespace_name(const char *id)
{
	return str_printf("%s-ns1", id);
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

/* One drive in the making. */
struct drive {
	const struct qemu_caps *caps; /* weak */
	const struct device_conf *conf; /* weak */
	const struct drive_place *place; /* weak */
	struct json_object *parts;
	char *node;
};

/* A new ["@option", {…}]; the object is weak. */
static struct json_object *
add_part(struct drive *drive, const char *option)
{
	struct json_object *pair = json_object_new_array(), *args = json_object_new_object();

	json_object_array_add(pair, json_object_new_string(option));
	json_object_array_add(pair, args);
	json_object_array_add(drive->parts, pair);
	return args;
}

static struct json_object *
add_device(struct drive *drive, const char *driver)
{
	struct json_object *args = add_part(drive, "device");

	cij_json_add_str(args, "driver", driver);
	return args;
}

/* The image as the block layer sees it, by the node's name. */
static void
add_image(struct drive *drive, const char *driver)
{
	struct json_object *args, *file;

	/* 4.1.50 grows an empty image, and is known to do so behind -drive. */
	if (drive->caps->dialect == DIALECT_OCSSD_NS && !drive->place->live) {
		args = add_part(drive, "drive");
		cij_json_add_str(args, "file", drive->place->file);
		cij_json_add_str(args, "if", "none");
		cij_json_add_str(args, "id", drive->node);
		cij_json_add_str(args, "format", "raw");
		cij_json_add_str(args, "discard", "unmap");
		return;
	}
	args = add_part(drive, "blockdev");
	cij_json_add_str(args, "driver", driver);
	cij_json_add_str(args, "node-name", drive->node);
	cij_json_add_str(args, "discard", "unmap");
	if (strcmp(driver, "ocssd") == 0)
		cij_json_add_str(args, "detect-zeroes", "unmap");
	file = json_object_new_object();
	cij_json_add_str(file, "driver", "file");
	cij_json_add_str(file, "filename", drive->place->file);
	json_object_object_add(args, "file", file);
}

static void
add_place(struct drive *drive, struct json_object *args)
{
	if (drive->place->bus)
		cij_json_add_str(args, "bus", drive->place->bus);
	if (drive->place->addr)
		cij_json_add_str(args, "addr", drive->place->addr);
}

/* Files of errors to inject, by the dialect's three words for them. */
static void
add_inject(struct drive *drive, struct json_object *args, const char *const words[])
{
	for (int kind = 0; kind < INJECT_KINDS; kind++) {
		_cleanup_free_ char *file = inject_rendered_name(drive->conf, kind);

		if (inject_has(drive->conf, kind))
			cij_json_add_str(args, words[kind], file);
	}
}

static void
add_numbers(struct drive *drive, struct json_object *args, const char *prefix)
{
	_cleanup_free_ char *ws_min = str_printf("%sws_min", prefix);
	_cleanup_free_ char *ws_opt = str_printf("%sws_opt", prefix);
	_cleanup_free_ char *mw_cunits = str_printf("%smw_cunits", prefix);

	cij_json_add_int(args, ws_min, drive->conf->ws_min);
	cij_json_add_int(args, ws_opt, drive->conf->ws_opt);
	cij_json_add_int(args, mw_cunits, drive->conf->mw_cunits);
}

/* A controller: with its image behind it (@node) or with a bus for namespaces. */
static struct json_object *
add_controller(struct drive *drive, const char *driver, const char *node, bool mdts)
{
	const struct device_conf *d = drive->conf;
	struct json_object *args = add_device(drive, driver);

	if (node)
		cij_json_add_str(args, "drive", node);
	cij_json_add_str(args, "serial", d->id);
	cij_json_add_str(args, "id", d->id);
	if (mdts)
		cij_json_add_int(args, "mdts", d->mdts);
	return args;
}

static struct json_object *
add_namespace(struct drive *drive, const char *driver)
{
	_cleanup_free_ char *name = namespace_name(drive->conf->id);
	struct json_object *args;

	if (drive->place->live) {
		/* The controller's bus has its name, too. */
		_cleanup_free_ char *bus = str_printf(
			"/machine/peripheral/%s/%s", drive->conf->id, drive->conf->id);

		args = add_part(drive, "qom");
		cij_json_add_str(args, "path", bus);
		cij_json_add_str(args, "property", "hotplug-handler");
		cij_json_add_str(args, "value", "/machine");
	}
	args = add_device(drive, driver);
	cij_json_add_str(args, "id", name);
	cij_json_add_str(args, "drive", drive->node);
	cij_json_add_str(args, "bus", drive->conf->id);
	cij_json_add_int(args, "nsid", 1);
	return args;
}

static const char *const plain_words[] = {
	[INJECT_WRITE] = "writefail",
	[INJECT_RESET] = "resetfail",
	[INJECT_CHUNK] = "chunkinfo",
};
static const char *const lightnvm_words[] = {
	[INJECT_WRITE] = "lwritefail",
	[INJECT_RESET] = "lresetfail",
	[INJECT_CHUNK] = "lchunkstate",
};

static void
add_ocssd_ns(struct drive *drive)
{
	const struct device_conf *d = drive->conf;
	struct json_object *args;

	add_place(drive, add_controller(drive, "ocssd", NULL, drive->caps->ocssd_mdts));
	args = add_namespace(drive, "ocssd-ns");
	cij_json_add_int(args, "num_grp", d->num_grp);
	cij_json_add_int(args, "num_pu", d->num_pu);
	cij_json_add_int(args, "num_chk", d->num_chk);
	cij_json_add_int(args, "clba", d->num_sec);
	/* NVMe 1.3, LBADS: the block's size as a power of two */
	cij_json_add_int(args, "lbads", __builtin_ctzll((unsigned long long)d->sec_size));
	cij_json_add_int(args, "ms", d->md_size);
	add_numbers(drive, args, "");
	/* OCSSD 2.0 section 2.1, MCCAP: bit 0 vector copy; bit 2, by custom, early reset */
	cij_json_add_int(args, "mccap", d->early_reset ? 5 : 1);
	add_inject(drive, args, plain_words);
}

static void
add_ocssd(struct drive *drive)
{
	struct json_object *args;

	add_image(drive, drive->caps->dialect == DIALECT_OCSSD_NS ? "raw" : "ocssd");
	switch (drive->caps->dialect) {
	case DIALECT_LIGHTNVM:
		args = add_controller(drive, "nvme", drive->node, drive->caps->nvme_mdts);
		add_numbers(drive, args, "l");
		cij_json_add_int(args, "learly_reset", drive->conf->early_reset);
		add_inject(drive, args, lightnvm_words);
		add_place(drive, args);
		break;
	case DIALECT_OCSSD_DRIVE:
		args = add_controller(drive, "ocssd", drive->node, drive->caps->ocssd_mdts);
		add_numbers(drive, args, "");
		cij_json_add_bool(args, "early_reset", drive->conf->early_reset);
		add_inject(drive, args, plain_words);
		add_place(drive, args);
		break;
	case DIALECT_OCSSD_NS:
		add_ocssd_ns(drive);
		break;
	case DIALECT_UPSTREAM:
		break; /* refused by dialect_check() */
	}
}

/* One device where there is such: it can be plugged into a running guest. */
static void
add_nvme(struct drive *drive)
{
	const struct qemu_caps *caps = drive->caps;
	struct json_object *args;

	add_image(drive, "raw");
	args = add_controller(
		drive, "nvme", caps->nvme_drive ? drive->node : NULL, caps->nvme_mdts);
	if (caps->nvme_dialect)
		cij_json_add_int(args, "dialect", 0); /* else it is an OCSSD */
	add_place(drive, args);
	if (!caps->nvme_drive)
		add_namespace(drive, "nvme-ns");
}

static void
add_zns(struct drive *drive)
{
	const struct device_conf *d = drive->conf;
	struct json_object *args;

	/* Not behind an nvme-subsys: Linux hides a zoned drive's limits behind multipath. */
	add_image(drive, "raw");
	add_place(drive, add_controller(drive, "nvme", NULL, drive->caps->nvme_mdts));
	args = add_namespace(drive, "nvme-ns");
	if (drive->caps->nvme_ns_uuid && drive->place->uuid)
		cij_json_add_str(args, "uuid", drive->place->uuid);
	cij_json_add_bool(args, "zoned", true);
	cij_json_add_int(args, "zoned.zone_size", d->zone_size);
	cij_json_add_int(args, "zoned.zone_capacity", d->zone_capacity);
	cij_json_add_int(args, "zoned.max_open", d->max_open);
	cij_json_add_int(args, "zoned.max_active", d->max_active);
}

struct json_object *
dialect_drive(const struct qemu_caps *caps, const struct device_conf *device,
	const struct drive_place *place)
{
	_cleanup_free_ char *node = dialect_node_name(device->id);
	struct drive drive = {caps, device, place, json_object_new_array(), node};

	switch ((enum device_type)device->type) {
	case DEVICE_OCSSD:
		add_ocssd(&drive);
		break;
	case DEVICE_NVME:
		add_nvme(&drive);
		break;
	case DEVICE_ZNS:
		add_zns(&drive);
		break;
	}
	return drive.parts;
}

/* "key=value,…", nested ones dotted; a driver's name stands alone at the front. */
static void
print_members(FILE *out, struct json_object *obj, const char *prefix)
{
	json_object_object_foreach (obj, key, value) {
		if (json_object_is_type(value, json_type_object)) {
			_cleanup_free_ char *below = str_printf("%s%s.", prefix, key);

			print_members(out, value, below);
			continue;
		}
		if (ftell(out) > 0)
			fputc(',', out);
		if (*prefix || strcmp(key, "driver") != 0)
			fprintf(out, "%s%s=", prefix, key);
		if (json_object_is_type(value, json_type_boolean)) {
			fputs(json_object_get_boolean(value) ? "on" : "off", out);
		} else {
			_cleanup_free_ char *escaped = qemu_escape(json_object_get_string(value));

			fputs(escaped, out);
		}
	}
}

void
dialect_drive_argv(struct json_object *parts, struct strv *args)
{
	for (size_t i = 0; i < json_object_array_length(parts); i++) {
		struct json_object *pair = json_object_array_get_idx(parts, i);
		char *text = NULL;
		size_t size;
		FILE *out = open_memstream(&text, &size);

		if (!out)
			abort();
		print_members(out, json_object_array_get_idx(pair, 1), "");
		fclose(out);
		strv_addf(args, "-%s", json_object_get_string(json_object_array_get_idx(pair, 0)));
		strv_add(args, text);
		free(text);
	}
}
