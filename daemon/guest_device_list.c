/* The drives of a guest: what guest.json has, what its QEMU has, and where the two differ. */
#include <string.h>

#include "daemon/guest_device_impl.h"
#include "proto/json.h"

/* What both say about drive @id; either may be NULL. */
static struct json_object *
list_item(struct json_object *configured, const struct guest_drive *drive, const char *id,
	struct json_object *buses, bool live)
{
	_cleanup_problems_ struct cij_problems problems = {0};
	struct json_object *item = json_object_new_object();
	struct device_conf conf = {0};
	struct pci_spot spot = {0};
	bool there = live && (buses ? pci_find(buses, id, &spot)
				    : drive && drive->presence == DRIVE_PRESENT);
	const char *type = cij_json_str(drive ? drive->json : configured, "type");

	cij_json_add_str(item, "id", id);
	cij_json_add_str(item, "type", type);
	if (drive)
		cij_json_add_int(item, "bytes", device_conf_bytes(&drive->conf));
	else if (device_conf_decode(&conf, configured, "", &problems) == 0)
		cij_json_add_int(item, "bytes", device_conf_bytes(&conf));
	else
		json_object_object_add(item, "bytes", NULL);
	device_conf_clear(&conf);
	cij_json_add_bool(item, "configured", configured != NULL);
	cij_json_add_bool(item, "present", there);
	cij_json_add_bool(item, "unplugging", drive && drive->unplugging);
	/* Not known while another job has the monitor's ear. */
	json_object_object_add(item, "seen",
		there && !buses ? NULL : json_object_new_boolean(there && spot.mapped));
	cij_json_add_bool(
		item, "changed", there && drive && !json_object_equal(drive->json, configured));
	cij_json_add_str(item, "port", there ? spot.bridge : NULL);
	return item;
}

struct json_object *
device_list(struct guest *guest, struct json_object *buses, bool live)
{
	struct json_object *list = json_object_new_array(), *devices;
	_cleanup_json_ struct json_object *config = NULL;
	struct guest_drive *drive;
	struct cij_error err;
	size_t n;

	config = guest_config_read(guest, &err);
	devices = cij_json_get(config, "devices");
	n = cij_json_length(devices);
	for (size_t i = 0; i < n; i++) {
		struct json_object *json = json_object_array_get_idx(devices, i);
		const char *id = cij_json_str(json, "id");

		if (id)
			json_object_array_add(
				list, list_item(json, live ? guest_drive_find(guest, id) : NULL, id,
					      buses, live));
	}
	if (!live)
		return list;
	TAILQ_FOREACH (drive, &guest->drives, link) {
		bool told = false;

		for (size_t i = 0; i < n && !told; i++) {
			const char *id = cij_json_str(json_object_array_get_idx(devices, i), "id");

			told = id && strcmp(id, drive->conf.id) == 0;
		}
		if (!told)
			json_object_array_add(
				list, list_item(NULL, drive, drive->conf.id, buses, live));
	}
	return list;
}

static void
take_list(struct device_job *job)
{
	guest_drives_take_pci(job->guest, job->value);
	json_object_object_add(job->result, "devices", device_list(job->guest, job->value, true));
	device_step_over(job);
}

void
device_step_list(struct device_job *job)
{
	if (guest_is_live(job->guest)) {
		device_ask(job, "query-pci", NULL, take_list);
		return;
	}
	json_object_object_add(job->result, "devices", device_list(job->guest, NULL, false));
	device_step_over(job);
}
