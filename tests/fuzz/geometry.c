/* The first bytes of a drive's image, and the record beside it. */
#include <stdint.h>

#include "daemon/geometry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct geometry geo = {.type = -1}, again = {.type = -1};
	char is[256], want[256];

	if (size > GEOMETRY_HEADER_BYTES)
		return 0;
	geometry_from_header(data, size, &geo);
	_cleanup_json_ struct json_object *json = cij_json_parse(
		(const char *)data, size, 16, NULL);
	if (geometry_from_json(json, &geo) == 0) {
		_cleanup_json_ struct json_object *record = geometry_to_json(&geo);

		if (geometry_from_json(record, &again) < 0 ||
			!geometry_matches(&geo, &again, is, want, sizeof(is)))
			abort();
	}
	return 0;
}
