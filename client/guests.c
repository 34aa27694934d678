#include "client/guests.h"

#include <string.h>

#include "client/view.h"
#include "proto/text.h"

void
guests_clear(struct guests *g)
{
	for (size_t i = 0; i < g->n; i++) {
		free(g->items[i].name);
		free(g->items[i].state);
	}
	free(g->items);
	*g = (struct guests){0};
}

/* Adds a guest unless it is there already. @state may be NULL. Returns the item, or NULL. */
static struct guest_ref *
add(struct guests *g, const char *name, const char *state)
{
	struct guest_ref *item;

	for (size_t i = 0; i < g->n; i++)
		if (strcmp(g->items[i].name, name) == 0)
			return NULL;
	if ((g->n & (g->n - 1)) == 0) { /* grow at each power of two */
		g->items = realloc(g->items, (g->n ? g->n * 2 : 1) * sizeof(*g->items));
		if (!g->items)
			abort();
	}
	item = &g->items[g->n++];
	*item = (struct guest_ref){.name = strdup(name), .state = state ? strdup(state) : NULL};
	if (!item->name || (state && !item->state))
		abort();
	return item;
}

/* Adds those that match @glob; NULL = all. */
static int
add_matching(struct link *l, const char *glob, struct guests *g, struct cij_error *err)
{
	struct json_object *args = globs_arguments(&glob, glob ? 1 : 0);
	_cleanup_reply_ struct reply r = {0};

	if (link_call(l, "query-guests", args, &r, err) < 0)
		return -1;
	if (!json_object_is_type(r.value, json_type_array))
		return cij_error_set(
			err, CIJ_E_PROTOCOL, "the daemon's list of guests is no array");
	for (size_t i = 0; i < json_object_array_length(r.value); i++) {
		struct json_object *view = json_object_array_get_idx(r.value, i);
		const char *name = cij_json_str(view, "guest");

		if (name)
			add(g, name, view_state(view));
	}
	if (glob && json_object_array_length(r.value) == 0) {
		struct guest_ref *item = add(g, glob, NULL);

		if (item)
			item->missing = true;
	}
	return 0;
}

int
guests_expand(struct link *l, char **words, size_t n, struct guests *g, struct cij_error *err)
{
	if (n == 0)
		return add_matching(l, NULL, g, err);
	for (size_t i = 0; i < n; i++) {
		if (!cij_is_glob(words[i]))
			add(g, words[i], NULL);
		else if (add_matching(l, words[i], g, err) < 0)
			return -1;
	}
	return 0;
}

int
guest_missing(const struct guest_ref *ref, struct cij_error *err)
{
	char clean[256];

	return cij_error_set(err, CIJ_E_GUEST_NOT_FOUND, "no guest matches '%s'",
		cij_text_clean(ref->name, clean, sizeof(clean)));
}
