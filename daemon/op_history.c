/* Operations on the record of who did what. */
#include "daemon/history.h"
#include "daemon/op.h"

/* Entries of one answer: a screenful unless told otherwise, at most all that are kept. */
#define ENTRIES 100
#define ENTRIES_MAX 5000

struct history_args {
	struct cij_list guests;
	int64_t limit;
};
static const struct cij_field history_fields[] = {
	{.name = "guests",
		.type = CIJ_T_STRS,
		.offset = offsetof(struct history_args, guests),
		.max = 1024,
		.doc = "globs; all entries when there is none"},
	{.name = "limit",
		.type = CIJ_T_INT,
		.offset = offsetof(struct history_args, limit),
		.min = 1,
		.max = ENTRIES_MAX,
		.doc = "entries, the newest (100)"},
};

static void
init_history_args(void *obj)
{
	struct history_args *args = obj;

	args->limit = ENTRIES;
}

static const struct cij_table history_table = CIJ_TABLE(
	history_fields, struct history_args, init_history_args);

static void
query_history(struct request *request)
{
	struct history_args *args = request->args;
	const struct services *sv = registry_services(request->registry);

	request_reply(request, history_read(sv->history, &args->guests, (size_t)args->limit));
}

const struct op op_query_history = {
	.name = "query-history",
	.access = ACCESS_VIEW,
	.table = &history_table,
	.run = query_history,
	.doc = "who changed what, with what result, oldest first",
};
