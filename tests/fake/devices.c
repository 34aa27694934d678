/* The stand-in's PCI devices: those of its command line, plugged in, and let go of. */
#include "tests/fake/fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
fake_add_device(struct fake *f, const char *id, const char *bus, bool seen)
{
	if (f->n_devices == DEVICES_MAX)
		return;
	f->devices[f->n_devices].id = strdup(id);
	f->devices[f->n_devices].bus = strdup(bus ? bus : "");
	f->devices[f->n_devices++].seen = seen;
}

/* '-device DRIVER,id=ID,bus=BUS,…' */
void
fake_read_device(struct fake *f, const char *value)
{
	_cleanup_free_ char *copy = strdup(value);
	char *rest = copy, *word, *id = NULL, *bus = NULL;

	while ((word = strsep(&rest, ",")))
		if (strncmp(word, "id=", 3) == 0)
			id = word + 3;
		else if (strncmp(word, "bus=", 4) == 0)
			bus = word + 4;
	if (id)
		fake_add_device(f, id, bus, true);
}

/* QMP 'query-pci': what has no bus stands on the first one, the rest behind its port. */
static struct json_object *
pci_devices(const struct fake *f, const char *bus, bool root)
{
	struct json_object *list = json_object_new_array();

	for (int i = 0; i < f->n_devices; i++) {
		struct json_object *device, *region, *regions, *bridge;
		const char *on = f->devices[i].bus;

		if (root ? *on && strcmp(on, "pci.0") != 0 : strcmp(on, bus) != 0)
			continue;
		device = json_object_new_object();
		cij_json_add_str(device, "qdev_id", f->devices[i].id);
		regions = json_object_new_array();
		region = json_object_new_object();
		cij_json_add_str(region, "type", "memory");
		cij_json_add_int(region, "address", f->devices[i].seen ? 0xfdc00000LL : -1LL);
		json_object_array_add(regions, region);
		json_object_object_add(device, "regions", regions);
		if (strncmp(f->devices[i].id, "port", 4) == 0) {
			bridge = json_object_new_object();
			json_object_object_add(
				bridge, "devices", pci_devices(f, f->devices[i].id, false));
			json_object_object_add(device, "pci_bridge", bridge);
		}
		json_object_array_add(list, device);
	}
	return list;
}

void
fake_answer_pci(struct fake *f, const char *id)
{
	_cleanup_json_ struct json_object *list = json_object_new_array();
	struct json_object *bus = json_object_new_object();

	cij_json_add_int(bus, "bus", 0);
	json_object_object_add(bus, "devices", pci_devices(f, "", true));
	json_object_array_add(list, bus);
	fake_say(f, "{\"return\": %s%s}", json_object_to_json_string(list), id);
}

void
fake_delete_device(struct fake *f, const char *device, const char *id)
{
	char data[256];

	const char *keep = told(f, "keep-devices");

	for (int i = 0; i < f->n_devices; i++)
		if (strcmp(f->devices[i].id, device) == 0) {
			fake_say(f, "{\"return\": {}%s}", id);
			if (keep && (!*keep || f->kept < atoi(keep))) {
				f->kept++;
				return;
			}
			free(f->devices[i].id);
			free(f->devices[i].bus);
			f->devices[i] = f->devices[--f->n_devices];
			snprintf(data, sizeof(data),
				"{\"device\": \"%s\", \"path\": \"/machine/peripheral/%s\"}",
				device, device);
			fake_say_event(f, "DEVICE_DELETED", data);
			return;
		}
	fake_say(f,
		"{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"Device '%s' not "
		"found\"}%s}",
		device, id);
}
