/* The file of leases, in the daemon's state folder: it outlives the daemon. */
#include <errno.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/fileio.h"
#include "daemon/lease_impl.h"
#include "daemon/log.h"
#include "proto/json.h"

#define FILE_MAX (4 * 1024 * 1024)
#define FILE_DEPTH_MAX 8

void
lease_file_write(int state_fd, struct json_object *pages, int64_t wall_ahead)
{
	_cleanup_json_ struct json_object *all = json_object_new_object();
	const char *text;
	size_t len;

	cij_json_add_str(all, "boot", clock_boot_id());
	cij_json_add_int(all, "wall_ahead", wall_ahead);
	json_object_object_add(all, "leases", pages);
	text = json_object_to_json_string_length(
		all, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
	if (file_write_at(state_fd, LEASE_FILE, text, len, 0600) < 0)
		log_warn("cannot write '%s': %s: leases are not kept across a restart", LEASE_FILE,
			strerror(errno));
}

struct json_object *
lease_file_read(int state_fd, bool *same_boot, int64_t *wall_ahead)
{
	size_t len;
	_cleanup_free_ char *text = file_read_at(state_fd, LEASE_FILE, FILE_MAX, &len, NULL);
	_cleanup_json_ struct json_object *all = text ? cij_json_parse(
								text, len, FILE_DEPTH_MAX, NULL)
						      : NULL;
	struct json_object *pages = cij_json_get(all, "leases");
	const char *was = cij_json_str(all, "boot");

	*same_boot = was && strcmp(was, clock_boot_id()) == 0;
	/* Set while no daemon ran? Across a boot nothing but the wall clock tells. */
	if (*same_boot)
		*wall_ahead = cij_json_int(all, "wall_ahead", *wall_ahead);
	if (!text)
		return NULL;
	if (!json_object_is_type(pages, json_type_array)) {
		log_warn("'%s' cannot be read: what was leased is not known any more", LEASE_FILE);
		return NULL;
	}
	return json_object_get(pages);
}
