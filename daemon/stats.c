#include "daemon/stats.h"

#include <stdlib.h>

#include "proto/text.h"

struct round {
	const struct cij_list *globs; /* weak; while asking only */
	size_t waiting; /* guests that have not answered, and one for the asking itself */
	guest_stats_fn *done;
	void *arg; /* weak */
};

bool
stats_wants(const struct cij_list *globs, const struct guest *guest)
{
	char **words = globs->items;

	for (size_t i = 0; i < globs->n; i++)
		if (cij_glob_match(words[i], guest_name(guest)))
			return true;
	return globs->n == 0;
}

static void
on_answer(void *arg)
{
	struct round *round = arg;

	if (--round->waiting > 0)
		return;
	round->done(round->arg);
	free(round);
}

static void
ask_guest(void *arg, struct guest *guest)
{
	struct round *round = arg;

	if (!stats_wants(round->globs, guest))
		return;
	round->waiting++;
	guest_stats_ask(guest, on_answer, round);
}

void
stats_refresh(
	struct registry *registry, const struct cij_list *globs, guest_stats_fn *done, void *arg)
{
	struct round *round = calloc(1, sizeof(*round));

	if (!round)
		abort();
	*round = (struct round){globs, 1, done, arg};
	registry_each(registry, ask_guest, round);
	on_answer(round);
}
