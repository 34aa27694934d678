/* One rule of inject.h: its numbers, its line in a file, its lines for a QEMU. Pure. */
#ifndef DAEMON_INJECT_RULE_H
#define DAEMON_INJECT_RULE_H

#include "daemon/inject.h"

/* Both ends belong to it. */
struct range {
	int64_t first, last;
};

/* In the order of OCSSD 2.0 section 2.3, chunk descriptor, CS. */
enum chunk_state { CHUNK_FREE, CHUNK_OPEN, CHUNK_CLOSED, CHUNK_OFFLINE, CHUNK_ANY_STATE };
enum chunk_type { CHUNK_SEQ, CHUNK_RANDOM, CHUNK_ANY_TYPE };

struct rule {
	enum inject_kind kind;
	struct range grp, pu, chk, sec;
	int64_t percent; /* of writes or resets that fail */
	/* INJECT_CHUNK */
	int state; /* enum chunk_state; ANY: as it is */
	int type; /* enum chunk_type; ANY: as it is */
	/* -1: as it is */
	int64_t wp; /* blocks written */
	int64_t wi; /* wear index, 0 to 255 */
	int64_t pe_cycles; /* program and erase cycles so far */
	int64_t cnlb; /* blocks of a shrunk chunk */
};
#define RULE_INIT \
	{ \
		.state = CHUNK_ANY_STATE, .type = CHUNK_ANY_TYPE, .wp = -1, .wi = -1, \
		.pe_cycles = -1, .cnlb = -1 \
	}

struct rules {
	struct rule *items;
	size_t n;
};

void rules_add(struct rules *rules, const struct rule *rule);
void rules_clear(struct rules *rules);
#define _cleanup_rules_ _cleanup_(rules_clear)

/* Reads "5", "0x5", "2-7" or "*" (0 to @limit - 1). Bounds are not checked. 0 or -1. */
int range_parse(const char *text, int64_t limit, struct range *range);

/* Whether the state's numbers go together, and with the geometry. 0, or -1 with BadConfig. */
int rule_check(const struct rule *rule, const struct device_conf *device, struct cij_error *err);

/*
 * Takes a file's line of kind rule->kind, in either fork's words. Returns 1, 0 for a blank line or
 * a comment, -1 with BadConfig (without the line's number).
 */
int rule_parse_line(struct rule *rule, const char *line, const struct device_conf *device,
	struct cij_error *err);

/* All rules of @kind as a file in @words. Heap string; NULL with BadConfig, NotSupported. */
char *rules_render(const struct rules *rules, enum inject_kind kind, enum inject_words words,
	const struct device_conf *device, struct cij_error *err);

#endif
