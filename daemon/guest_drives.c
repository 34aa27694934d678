/* The drives of a running guest: what QEMU has of what was asked for. */
#include <string.h>

#include "daemon/guest_impl.h"
#include "daemon/log.h"
#include "proto/json.h"

struct guest_drive *
guest_drive_find(const struct guest *guest, const char *id)
{
	struct guest_drive *drive;

	TAILQ_FOREACH (drive, &guest->drives, link)
		if (strcmp(drive->conf.id, id) == 0)
			return drive;
	return NULL;
}

static void
drive_free(struct guest *guest, struct guest_drive *drive)
{
	TAILQ_REMOVE(&guest->drives, drive, link);
	device_conf_clear(&drive->conf);
	json_object_put(drive->json);
	free(drive);
}

void
guest_drives_clear(struct guest *guest)
{
	struct guest_drive *drive;

	while ((drive = TAILQ_FIRST(&guest->drives)))
		drive_free(guest, drive);
}

/* The definitions in force go into the run's record, for the next daemon. */
static void
record(struct guest *guest)
{
	struct json_object *devices = json_object_new_array();
	struct guest_drive *drive;

	TAILQ_FOREACH (drive, &guest->drives, link)
		json_object_array_add(devices, json_object_get(drive->json));
	json_object_put(guest->run.devices);
	guest->run.devices = devices;
}

/* Decodes what was valid when it was written; NULL when it is not any more. */
static struct guest_drive *
drive_new(struct json_object *json)
{
	_cleanup_problems_ struct cij_problems problems = {0};
	struct guest_drive *drive = calloc(1, sizeof(*drive));

	if (!drive)
		abort();
	if (device_conf_decode(&drive->conf, json, "", &problems) < 0 || !drive->conf.id) {
		device_conf_clear(&drive->conf);
		free(drive);
		return NULL;
	}
	drive->json = json_object_get(json);
	return drive;
}

void
guest_drives_set(struct guest *guest, struct json_object *devices, enum presence presence)
{
	size_t n = cij_json_length(devices);

	guest_drives_clear(guest);
	for (size_t i = 0; i < n; i++) {
		struct guest_drive *drive = drive_new(json_object_array_get_idx(devices, i));

		if (!drive)
			continue;
		drive->presence = presence;
		TAILQ_INSERT_TAIL(&guest->drives, drive, link);
	}
	record(guest);
}

struct guest_drive *
guest_drive_put(struct guest *guest, struct json_object *json, const struct device_conf *conf)
{
	struct guest_drive *old = guest_drive_find(guest, conf->id), *drive = drive_new(json);

	if (!drive)
		return old;
	if (old) {
		drive->presence = old->presence;
		TAILQ_INSERT_BEFORE(old, drive, link);
		drive_free(guest, old);
	} else {
		TAILQ_INSERT_TAIL(&guest->drives, drive, link);
	}
	record(guest);
	return drive;
}

void
guest_drive_tell(struct guest *guest, const char *id, const char *what, bool present)
{
	struct json_object *data = json_object_new_object();

	cij_json_add_str(data, "guest", guest->name);
	cij_json_add_str(data, "device", id);
	cij_json_add_str(data, "what", what);
	cij_json_add_bool(data, "present", present);
	notify_send(guest->sv->notify, "GUEST_DEVICE", guest->name, data);
}

void
guest_drive_now(struct guest *guest, struct guest_drive *drive, enum presence presence)
{
	enum presence before = drive->presence;
	const char *what = presence == DRIVE_PRESENT ? "plugged" : "unplugged";

	if (presence == DRIVE_ABSENT)
		drive->unplugging = false;
	if (presence == before)
		return;
	drive->presence = presence;
	guest_save_run(guest);
	if (before == DRIVE_UNKNOWN)
		return; /* found out, not changed */
	log_notice("guest '%s': drive '%s' %s", guest->name, drive->conf.id, what);
	guest_drive_tell(guest, drive->conf.id, what, presence == DRIVE_PRESENT);
}

/* A guest's bus nests as deep as its bridges do; QEMU's machines and our ports make 2. */
#define BUS_DEPTH_MAX 8

/* QMP 'query-pci': an unmapped region's address is all ones. */
static bool
has_address(struct json_object *device)
{
	struct json_object *regions = cij_json_get(device, "regions");
	size_t n = cij_json_length(regions);

	for (size_t i = 0; i < n; i++)
		if (cij_json_int(json_object_array_get_idx(regions, i), "address", -1) > 0)
			return true;
	return false;
}

static struct json_object *
behind(struct json_object *bridge)
{
	return cij_json_get(cij_json_get(bridge, "pci_bridge"), "devices");
}

/* The device called @id among @devices and behind them; NULL when it is not there. Weak. */
static struct json_object *
find_below(struct json_object *devices, const char *id, const char *bridge,
	const char **found_behind, int depth)
{
	size_t n = cij_json_length(devices);

	for (size_t i = 0; i < n; i++) {
		struct json_object *device = json_object_array_get_idx(devices, i), *below;
		const char *name = cij_json_str(device, "qdev_id");

		if (name && strcmp(name, id) == 0) {
			*found_behind = bridge;
			return device;
		}
		below = depth < BUS_DEPTH_MAX
				? find_below(behind(device), id, name, found_behind, depth + 1)
				: NULL;
		if (below)
			return below;
	}
	return NULL;
}

static struct json_object *
find_device(struct json_object *buses, const char *id, const char **found_behind)
{
	size_t n = cij_json_length(buses);

	for (size_t i = 0; i < n; i++) {
		struct json_object *device = find_below(
			cij_json_get(json_object_array_get_idx(buses, i), "devices"), id, NULL,
			found_behind, 0);

		if (device)
			return device;
	}
	return NULL;
}

bool
pci_find(struct json_object *buses, const char *id, struct pci_spot *spot)
{
	struct json_object *device;

	*spot = (struct pci_spot){0};
	device = find_device(buses, id, &spot->bridge);
	spot->mapped = device && has_address(device);
	return device != NULL;
}

bool
pci_port_is_free(struct json_object *buses, const char *port)
{
	const char *bridge;
	struct json_object *device = find_device(buses, port, &bridge), *devices;

	if (!device)
		return false;
	devices = behind(device);
	return cij_json_length(devices) == 0;
}

void
guest_drives_take_pci(struct guest *guest, struct json_object *buses)
{
	struct guest_drive *drive;
	struct pci_spot spot;

	TAILQ_FOREACH (drive, &guest->drives, link)
		guest_drive_now(guest, drive,
			pci_find(buses, drive->conf.id, &spot) ? DRIVE_PRESENT : DRIVE_ABSENT);
}

bool
guest_drive_status(const struct guest *guest, size_t i, struct guest_drive_status *status)
{
	struct guest_drive *drive;

	if (!guest_is_up(guest)) { /* while QEMU is coming up it has none yet */
		const struct device_conf *devices = guest->conf.devices.items;

		if (i >= guest->conf.devices.n)
			return false;
		*status = (struct guest_drive_status){.conf = &devices[i], .known = true};
		return true;
	}
	TAILQ_FOREACH (drive, &guest->drives, link)
		if (i-- == 0) {
			*status = (struct guest_drive_status){.conf = &drive->conf,
				.known = drive->presence != DRIVE_UNKNOWN,
				.present = drive->presence == DRIVE_PRESENT,
				.unplugging = drive->unplugging};
			return true;
		}
	return false;
}
