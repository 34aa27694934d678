/*
 * The file of leases of an earlier daemon: what is taken over is the same when it has been written
 * and read again, ends some day, and can be told.
 */
#include "tests/fuzz/files.h"

#include "daemon/lease_impl.h"
#include "proto/json.h"

#define NOW 1800000000

static const char *
name(uid_t uid)
{
	return uid == 7 ? "anna" : NULL;
}

/* All that is asked of a page. */
static void
use(struct lease_page *page)
{
	struct lease_terms terms = {.uid = 7, .seconds = 60};
	struct cij_error err;
	struct lease_place *place;

	json_object_put(lease_page_view(page, name));
	lease_page_refuse(page, 7, true, name, &err);
	(void)lease_page_ask(page, &terms, NOW);
	lease_page_prune(page, NOW);
	if (page->held && lease_page_next_change(page, NOW) < 0 && !page->holder.process.pid)
		abort(); /* for ever */
	place = lease_page_join(page, &terms);
	if (lease_page_next(page) && (page->held || page->resetting))
		abort();
	lease_page_leave(page, place);
	lease_page_drop_left(page, 7);
	if (page->held)
		lease_page_end(page);
	lease_page_prune(page, INT32_MAX);
	if (!TAILQ_EMPTY(&page->queue))
		abort(); /* nobody comes back after so long */
}

static void
take_page(struct json_object *json, struct json_object *taken)
{
	struct lease_page page, again;

	if (lease_page_from_json(&page, json, NOW)) {
		_cleanup_json_ struct json_object *was = lease_page_to_json(&page), *is = NULL;

		if (!lease_page_from_json(&again, was, NOW))
			abort();
		is = lease_page_to_json(&again);
		if (!json_object_equal(was, is))
			abort();
		lease_page_clear(&again);
		json_object_array_add(taken, json_object_get(was));
		use(&page);
	}
	lease_page_clear(&page);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int folder = files_folder();
	struct json_object *taken = json_object_new_array();
	_cleanup_json_ struct json_object *pages = NULL, *again = NULL;
	int64_t ahead = 0;
	bool same_boot;

	files_put_of_this_boot(folder, LEASE_FILE, data, size);
	pages = lease_file_read(folder, &same_boot, &ahead);
	for (size_t i = 0; i < cij_json_length(pages); i++)
		take_page(json_object_array_get_idx(pages, i), taken);
	lease_file_write(folder, json_object_get(taken), ahead);
	again = lease_file_read(folder, &same_boot, &ahead);
	if (!same_boot || !json_object_equal(taken, again))
		abort();
	json_object_put(taken);
	return 0;
}
