/*
 * Errors that an emulated Open-Channel SSD makes on purpose, and the states that its chunks begin
 * with: from guest.json ("inject", "chunks") or from files in either fork's words, checked against
 * the drive's geometry, written in the words of the fork at hand. QEMU reads those files when the
 * drive is realized, never later. Pure.
 */
#ifndef DAEMON_INJECT_H
#define DAEMON_INJECT_H

#include <stdbool.h>

#include "daemon/device_conf.h"

enum inject_kind {
	INJECT_WRITE, /* writes of a block that fail */
	INJECT_RESET, /* resets of a chunk that fail */
	INJECT_CHUNK, /* states of chunks */
};
#define INJECT_KINDS 3

/* The largest file taken: 80,000 lines. */
#define INJECT_FILE_MAX (4 * 1024 * 1024)

/* Whose words a file is written in. */
enum inject_words {
	WORDS_LIGHTNVM, /* qemu-nvme 3.1.50: grp= pu= chk= sec= writefail_prob= */
	WORDS_OCSSD, /* qemu-nvme 4.1.50: group= punit= chunk= sectr= prob=, and '*' */
	WORDS_OCSSD_NS1, /* refenv's fork: the same, behind ns=1 */
};

/* Adds what is wrong with the drive's "inject" and "chunks". */
void inject_check(
	const struct device_conf *device, const char *path, struct cij_problems *problems);

/* Whether the drive's definition has anything of @kind. */
bool inject_has(const struct device_conf *device, enum inject_kind kind);

/* The key of guest.json that names a file of @kind by hand, and that file; NULL: none. */
const char *inject_file_key(enum inject_kind kind);
const char *inject_file(const struct device_conf *device, enum inject_kind kind);

/* The name of the file that QEMU reads, in the guest's folder. Heap string. */
char *inject_rendered_name(const struct device_conf *device, enum inject_kind kind);

/* Whether all lines of the file by hand make sense. 0, or -1 with BadConfig naming the first not.
 */
int inject_check_text(const struct device_conf *device, enum inject_kind kind, const char *text,
	struct cij_error *err);

/*
 * Writes all of the drive's rules of @kind in @words: first those of the file by hand, whose text
 * is @text (NULL: there is none), then guest.json's. Returns a heap string; NULL with BadConfig
 * naming the key or the file's line, or NotSupported for what those words cannot say.
 */
char *inject_render(const struct device_conf *device, enum inject_kind kind,
	enum inject_words words, const char *text, struct cij_error *err);

#endif
