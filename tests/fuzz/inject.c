/* A file of errors to inject, written by hand: what is taken is written in each fork's words. */
#include <stdint.h>
#include <string.h>

#include "cijqemu/cleanup.h"
#include "daemon/inject.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct device_conf device = {.id = (char *)"d",
		.type = DEVICE_OCSSD,
		.writefail = (char *)"w",
		.resetfail = (char *)"r",
		.chunkinfo = (char *)"c",
		.num_grp = 2,
		.num_pu = 3,
		.num_chk = 5,
		.num_sec = 16,
		.sec_size = 4096,
		.ws_min = 4,
		.ws_opt = 8};
	struct cij_error err;

	if (size < 1)
		return 0;
	enum inject_kind kind = data[0] % INJECT_KINDS;
	_cleanup_free_ char *text = strndup((const char *)data + 1, size - 1);
	bool good = inject_check_text(&device, kind, text, &err) == 0;

	for (enum inject_words words = WORDS_LIGHTNVM; words <= WORDS_OCSSD_NS1; words++) {
		_cleanup_free_ char *file = inject_render(&device, kind, words, text, &err);

		/* What is written is right by the same rules. */
		if (file && (!good || inject_check_text(&device, kind, file, &err) < 0))
			abort();
	}
	return 0;
}
