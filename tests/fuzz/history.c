/*
 * The record of who did what, as an earlier daemon left it, perhaps in the middle of a line: each
 * line is an entry or none, and what is done next is on record whatever stands before it.
 */
#include "tests/fuzz/files.h"

#include "daemon/history.h"
#include "proto/json.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct peer by = {.uid = 7, .pid = 8};
	static char *globs[] = {"e*", "[a-f]?"};
	struct cij_error err;
	const struct deed deed = {
		.by = &by, .operation = "guest-start", .guest = "emu\n", .err = &err};
	static const char *const done_files[] = {"history.1.jsonl", "history.jsonl"};
	static const char *const refused_files[] = {"refused.1.jsonl", "refused.jsonl"};
	const char *const *files, *const *others;
	bool refused;
	const struct cij_list some = {globs, 2}, all = {NULL, 0};
	int folder = files_folder();
	struct history *history;
	size_t limit, cut, before;

	if (size < 2)
		return 0;
	/* Two bytes say how many are asked for, and what is in the file before. */
	limit = data[0] % 64 + 1;
	cut = data[1] * (size - 2) / 256;
	/* What is done and what is refused is kept apart, each in its own order. */
	refused = data[1] % 2;
	files = refused ? refused_files : done_files;
	others = refused ? done_files : refused_files;
	files_put(folder, files[0], data + 2, cut);
	files_put(folder, files[1], data + 2 + cut, size - 2 - cut);
	files_put(folder, others[0], NULL, 0);
	files_put(folder, others[1], NULL, 0);
	cij_error_set(&err, refused ? CIJ_E_DENIED : CIJ_E_QEMU_FAILED, "no\n\xff");
	history = history_new(folder);
	_cleanup_json_ struct json_object *was = history_read(history, &all, 10000);
	_cleanup_json_ struct json_object *few = history_read(history, &all, limit);
	_cleanup_json_ struct json_object *theirs = history_read(history, &some, limit);
	before = cij_json_length(was);
	if (cij_json_length(few) != (before < limit ? before : limit) ||
		cij_json_length(theirs) > cij_json_length(few))
		abort();
	history_add(history, &deed);
	history_free(history);

	history = history_new(folder);
	_cleanup_json_ struct json_object *is = history_read(history, &all, 10000);
	/* The same as the last refusal is told with it. */
	if (cij_json_length(is) == before && before > 0 &&
		cij_json_int(json_object_array_get_idx(is, before - 1), "times", 1) > 1)
		before--;
	if (cij_json_length(is) != before + 1)
		abort();
	for (size_t i = 0; i < before; i++)
		if (!json_object_equal(
			    json_object_array_get_idx(was, i), json_object_array_get_idx(is, i)))
			abort();
	const char *done = cij_json_str(json_object_array_get_idx(is, before), "operation");
	if (!done || strcmp(done, "guest-start") != 0)
		abort();
	history_free(history);
	return 0;
}
