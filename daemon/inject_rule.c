#include "daemon/inject_rule.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/strv.h"
#include "proto/text.h"

/*
 * Lines of one rendered file. 3.1.50 has no wildcards: a rule for many blocks becomes as many
 * lines, and QEMU reads them while it starts.
 */
#define LINES_MAX 262144

void
rules_add(struct rules *rules, const struct rule *rule)
{
	rules->items = realloc(rules->items, (rules->n + 1) * sizeof(*rules->items));
	if (!rules->items)
		abort();
	rules->items[rules->n++] = *rule;
}

void
rules_clear(struct rules *rules)
{
	free(rules->items);
	*rules = (struct rules){0};
}

/* A whole number, decimal or 0x…; its end goes to *@end. -1 when there is none. */
static int64_t
parse_number(const char *text, char **end)
{
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	long long n;

	*end = (char *)text;
	if (text[0] < '0' || text[0] > '9')
		return -1;
	errno = 0;
	n = strtoll(text, end, hex ? 16 : 10);
	return errno || n < 0 ? -1 : n;
}

int
range_parse(const char *text, int64_t limit, struct range *range)
{
	char *end;

	if (strcmp(text, "*") == 0) {
		*range = (struct range){0, limit - 1};
		return 0;
	}
	range->first = range->last = parse_number(text, &end);
	if (range->first < 0)
		return -1;
	if (*end == '-') {
		text = end + 1;
		range->last = parse_number(text, &end);
	}
	return *end || range->last < range->first ? -1 : 0;
}

int
rule_check(const struct rule *rule, const struct device_conf *d, struct cij_error *err)
{
	int64_t blocks = rule->cnlb >= 0 ? rule->cnlb : d->num_sec;

	if (rule->cnlb > d->num_sec)
		return cij_error_set(err, CIJ_E_BAD_CONFIG,
			"has a cnlb of %lld: a chunk has %lld blocks", (long long)rule->cnlb,
			(long long)d->num_sec);
	if (rule->wi > 255)
		return cij_error_set(err, CIJ_E_BAD_CONFIG, "has a wi over 255");
	/* OCSSD 2.0 section 2.3: an offline chunk and one of random writes have no write pointer */
	if (rule->wp >= 0 && rule->state == CHUNK_OFFLINE)
		return cij_error_set(err, CIJ_E_BAD_CONFIG, "is offline: that has no wp");
	if (rule->wp >= 0 && rule->type == CHUNK_RANDOM)
		return cij_error_set(err, CIJ_E_BAD_CONFIG, "is of random writes: that has no wp");
	if (rule->wp > 0 && rule->state == CHUNK_FREE)
		return cij_error_set(err, CIJ_E_BAD_CONFIG, "is free: its wp is 0");
	if (rule->wp > blocks)
		return cij_error_set(err, CIJ_E_BAD_CONFIG,
			"has a wp of %lld: the chunk has %lld blocks", (long long)rule->wp,
			(long long)blocks);
	if (rule->state == CHUNK_OPEN && rule->type != CHUNK_RANDOM &&
		(rule->wp < 0 || rule->wp >= blocks))
		return cij_error_set(err, CIJ_E_BAD_CONFIG, "is open: it needs a wp from 0 to %lld",
			(long long)blocks - 1);
	return 0;
}

static const char *const state_words[] = {"FREE", "OPEN", "CLOSED", "OFFLINE"};

/* Either fork's words for a chunk's type. */
static const struct {
	const char *word;
	enum chunk_type type;
} type_words[] = {
	{"SEQ", CHUNK_SEQ},
	{"SEQUENTIAL", CHUNK_SEQ},
	{"W_SEQ", CHUNK_SEQ},
	{"RAN", CHUNK_RANDOM},
	{"RANDOM", CHUNK_RANDOM},
	{"W_RAN", CHUNK_RANDOM},
};

/* Either fork's words for a part of a line, by the kinds of file that have it. */
enum part { P_NS, P_GRP, P_PU, P_CHK, P_SEC, P_PERCENT, P_STATE, P_TYPE, P_WP, P_WI, P_PE, P_CNLB };
#define IN(kind) (1 << (kind))
#define IN_ALL (IN(INJECT_WRITE) | IN(INJECT_RESET) | IN(INJECT_CHUNK))
static const struct {
	const char *word;
	enum part part;
	unsigned kinds;
} part_words[] = {
	{"ns", P_NS, IN_ALL},
	{"grp", P_GRP, IN_ALL},
	{"group", P_GRP, IN_ALL},
	{"pu", P_PU, IN_ALL},
	{"punit", P_PU, IN_ALL},
	{"chk", P_CHK, IN_ALL},
	{"chunk", P_CHK, IN_ALL},
	{"sec", P_SEC, IN(INJECT_WRITE)},
	{"sectr", P_SEC, IN(INJECT_WRITE)},
	{"writefail_prob", P_PERCENT, IN(INJECT_WRITE)},
	{"resetfail_prob", P_PERCENT, IN(INJECT_RESET)},
	{"prob", P_PERCENT, IN(INJECT_WRITE) | IN(INJECT_RESET)},
	{"state", P_STATE, IN(INJECT_CHUNK)},
	{"type", P_TYPE, IN(INJECT_CHUNK)},
	{"wp", P_WP, IN(INJECT_CHUNK)},
	{"wi", P_WI, IN(INJECT_CHUNK)},
	{"pe_cycles", P_PE, IN(INJECT_CHUNK)},
	{"cnlb", P_CNLB, IN(INJECT_CHUNK)},
};

static int
bad_line(struct cij_error *err, const char *word, const char *what)
{
	char clean[64];

	return cij_error_set(
		err, CIJ_E_BAD_CONFIG, "'%s' %s", cij_text_clean(word, clean, sizeof(clean)), what);
}

static int
take_number(const char *word, const char *text, int64_t max, int64_t *out, struct cij_error *err)
{
	char *end, what[64];

	*out = parse_number(text, &end);
	if (*out >= 0 && !*end && *out <= max)
		return 0;
	snprintf(what, sizeof(what), "must be a number from 0 to %lld", (long long)max);
	return bad_line(err, word, what);
}

static int
take_range(
	const char *word, const char *text, int64_t limit, struct range *out, struct cij_error *err)
{
	char what[64];

	if (strchr(text, '-') || range_parse(text, limit, out) < 0)
		return bad_line(err, word, "must be a number or '*'");
	if (out->last < limit)
		return 0;
	snprintf(what, sizeof(what), "is too large: the drive has 0 to %lld", (long long)limit - 1);
	return bad_line(err, word, what);
}

static int
take_state(struct rule *rule, const char *word, const char *text, struct cij_error *err)
{
	for (size_t i = 0; i < cij_array_size(state_words); i++)
		if (strcmp(state_words[i], text) == 0) {
			rule->state = (int)i;
			return 0;
		}
	return bad_line(err, word, "must be FREE, OPEN, CLOSED or OFFLINE");
}

static int
take_type(struct rule *rule, const char *word, const char *text, struct cij_error *err)
{
	for (size_t i = 0; i < cij_array_size(type_words); i++)
		if (strcmp(type_words[i].word, text) == 0) {
			rule->type = type_words[i].type;
			return 0;
		}
	return bad_line(err, word, "must be W_SEQ, W_RAN, SEQ or RANDOM");
}

static int
take_part(struct rule *rule, enum part part, const char *word, const char *text,
	const struct device_conf *d, struct cij_error *err)
{
	int64_t ns;

	switch (part) {
	case P_NS:
		if (take_number(word, text, 1, &ns, err) < 0)
			return -1;
		return ns == 1 ? 0 : bad_line(err, word, "must be ns=1: the drive has one");
	case P_GRP:
		return take_range(word, text, d->num_grp, &rule->grp, err);
	case P_PU:
		return take_range(word, text, d->num_pu, &rule->pu, err);
	case P_CHK:
		return take_range(word, text, d->num_chk, &rule->chk, err);
	case P_SEC:
		return take_range(word, text, d->num_sec, &rule->sec, err);
	case P_PERCENT:
		return take_number(word, text, 100, &rule->percent, err);
	case P_STATE:
		return take_state(rule, word, text, err);
	case P_TYPE:
		return take_type(rule, word, text, err);
	case P_WP:
		return take_number(word, text, INT64_MAX, &rule->wp, err);
	case P_WI:
		return take_number(word, text, 255, &rule->wi, err);
	case P_PE:
		return take_number(word, text, UINT32_MAX, &rule->pe_cycles, err);
	case P_CNLB:
		return take_number(word, text, INT64_MAX, &rule->cnlb, err);
	}
	return -1;
}

static int
take_word(struct rule *rule, char *word, const struct device_conf *d, unsigned *seen,
	struct cij_error *err)
{
	char *equals = strchr(word, '=');
	_cleanup_free_ char *whole = str_copy(word);

	if (!equals)
		return bad_line(err, whole, "is not KEY=VALUE");
	*equals = '\0';
	for (size_t i = 0; i < cij_array_size(part_words); i++) {
		if (strcmp(part_words[i].word, word) != 0 ||
			!(part_words[i].kinds & IN(rule->kind)))
			continue;
		if (*seen & IN(part_words[i].part))
			return bad_line(err, whole, "is there twice");
		*seen |= IN(part_words[i].part);
		return take_part(rule, part_words[i].part, whole, equals + 1, d, err);
	}
	return bad_line(err, whole, "is not known here");
}

/* 3.1.50 marks "no write pointer" by this. */
#define LIGHTNVM_NO_WP 65535

int
rule_parse_line(
	struct rule *rule, const char *line, const struct device_conf *d, struct cij_error *err)
{
	static const struct {
		enum part part;
		unsigned kinds;
		const char *missing;
	} needed[] = {
		{P_GRP, IN_ALL, "grp= (or group=) is missing"},
		{P_PU, IN_ALL, "pu= (or punit=) is missing"},
		{P_CHK, IN_ALL, "chk= (or chunk=) is missing"},
		{P_SEC, IN(INJECT_WRITE), "sec= (or sectr=) is missing"},
		{P_PERCENT, IN(INJECT_WRITE), "writefail_prob= (or prob=) is missing"},
		{P_PERCENT, IN(INJECT_RESET), "resetfail_prob= (or prob=) is missing"},
	};
	_cleanup_free_ char *copy = str_copy(line);
	char *rest = copy, *word;
	unsigned seen = 0;

	if (*line == '#')
		return 0;
	while ((word = strsep(&rest, " \t\r")))
		if (*word && take_word(rule, word, d, &seen, err) < 0)
			return -1;
	if (!seen)
		return 0;
	for (size_t i = 0; i < cij_array_size(needed); i++)
		if ((needed[i].kinds & IN(rule->kind)) && !(seen & IN(needed[i].part)))
			return cij_error_set(err, CIJ_E_BAD_CONFIG, "%s", needed[i].missing);
	if (rule->kind != INJECT_CHUNK)
		return 1;
	if (!(seen & ~(IN(P_NS) | IN(P_GRP) | IN(P_PU) | IN(P_CHK))))
		return cij_error_set(err, CIJ_E_BAD_CONFIG, "state= is missing");
	if (rule->wp == LIGHTNVM_NO_WP &&
		(rule->state == CHUNK_OFFLINE || rule->type == CHUNK_RANDOM))
		rule->wp = -1;
	return rule_check(rule, d, err) < 0 ? -1 : 1;
}

struct render {
	FILE *out;
	enum inject_words words;
	const struct device_conf *device; /* weak */
	size_t lines;
};

static void
print_percent(const struct render *r, const struct rule *rule)
{
	static const char *const lightnvm[] = {
		[INJECT_WRITE] = "writefail_prob", [INJECT_RESET] = "resetfail_prob"};

	fprintf(r->out, " %s=%lld\n", r->words == WORDS_LIGHTNVM ? lightnvm[rule->kind] : "prob",
		(long long)rule->percent);
}

/* 3.1.50 needs all of them. */
static void
print_lightnvm_chunk(const struct render *r, const struct rule *rule)
{
	int64_t wp = rule->wp;

	if (rule->state == CHUNK_OFFLINE || rule->type == CHUNK_RANDOM)
		wp = LIGHTNVM_NO_WP;
	else if (rule->state == CHUNK_FREE)
		wp = 0;
	else if (wp < 0) /* closed */
		wp = r->device->num_sec;
	fprintf(r->out, " state=%s wp=%lld type=%s wi=%lld\n", state_words[rule->state],
		(long long)wp, rule->type == CHUNK_RANDOM ? "W_RAN" : "W_SEQ",
		(long long)(rule->wi < 0 ? 0 : rule->wi));
}

static void
print_ocssd_chunk(const struct render *r, const struct rule *rule)
{
	int64_t wp = rule->wp;

	if (rule->state != CHUNK_ANY_STATE)
		fprintf(r->out, " state=%s", state_words[rule->state]);
	if (rule->type != CHUNK_ANY_TYPE)
		fprintf(r->out, " type=%s", rule->type == CHUNK_RANDOM ? "RANDOM" : "SEQ");
	if (rule->cnlb >= 0)
		fprintf(r->out, " cnlb=%lld", (long long)rule->cnlb);
	if (rule->state == CHUNK_CLOSED && wp < 0 && rule->type != CHUNK_RANDOM)
		wp = rule->cnlb >= 0 ? rule->cnlb : r->device->num_sec;
	if (wp >= 0 && rule->state != CHUNK_FREE)
		fprintf(r->out, " wp=%lld", (long long)wp);
	fputc('\n', r->out);
}

/* A part of the address: "*" where the words have that and all is meant. */
static void
print_part(const struct render *r, const char *name, const struct range *range, int64_t at,
	int64_t limit)
{
	if (r->words != WORDS_LIGHTNVM && range->first == 0 && range->last == limit - 1 &&
		limit > 1)
		fprintf(r->out, "%s=*", name);
	else
		fprintf(r->out, "%s=%lld", name, (long long)at);
}

/* How many lines a part makes. */
static int64_t
span(const struct render *r, const struct range *range, int64_t limit)
{
	bool all = range->first == 0 && range->last == limit - 1;

	return r->words != WORDS_LIGHTNVM && all ? 1 : range->last - range->first + 1;
}

static void
print_line(struct render *r, const struct rule *rule, int64_t g, int64_t p, int64_t c, int64_t s)
{
	const struct device_conf *d = r->device;
	bool old = r->words == WORDS_LIGHTNVM;

	if (r->words == WORDS_OCSSD_NS1)
		fputs("ns=1 ", r->out);
	print_part(r, old ? "grp" : "group", &rule->grp, g, d->num_grp);
	print_part(r, old ? " pu" : " punit", &rule->pu, p, d->num_pu);
	print_part(r, old ? " chk" : " chunk", &rule->chk, c, d->num_chk);
	if (rule->kind == INJECT_WRITE)
		print_part(r, old ? " sec" : " sectr", &rule->sec, s, d->num_sec);
	if (rule->kind != INJECT_CHUNK)
		print_percent(r, rule);
	else if (old)
		print_lightnvm_chunk(r, rule);
	else
		print_ocssd_chunk(r, rule);
}

/* What the fork's words cannot say. */
static int
check_words(const struct render *r, const struct rule *rule, struct cij_error *err)
{
	if (rule->kind != INJECT_CHUNK)
		return 0;
	if (r->words == WORDS_LIGHTNVM) {
		if (rule->state == CHUNK_ANY_STATE)
			return cij_error_set(err, CIJ_E_NOT_SUPPORTED,
				"this QEMU needs a state for each chunk in 'chunks' and chunkinfo");
		if (rule->pe_cycles >= 0 || rule->cnlb >= 0)
			return cij_error_set(err, CIJ_E_NOT_SUPPORTED,
				"this QEMU knows no pe_cycles and no cnlb of a chunk");
	} else if (rule->wi > 0 || rule->pe_cycles >= 0) {
		/* It reads pe_cycles and then forgets that it did. */
		return cij_error_set(err, CIJ_E_NOT_SUPPORTED,
			"this QEMU cannot set the wear of a chunk (wi, pe_cycles)");
	}
	return 0;
}

/* "wi=0" alone is how each chunk begins, and the later forks have no word for it. */
static bool
says_nothing(const struct render *r, const struct rule *rule)
{
	return rule->kind == INJECT_CHUNK && r->words != WORDS_LIGHTNVM &&
	       rule->state == CHUNK_ANY_STATE && rule->type == CHUNK_ANY_TYPE && rule->wp < 0 &&
	       rule->cnlb < 0;
}

static int
render_rule(struct render *r, const struct rule *rule, struct cij_error *err)
{
	const struct device_conf *d = r->device;
	int64_t grps = span(r, &rule->grp, d->num_grp), pus = span(r, &rule->pu, d->num_pu);
	int64_t chks = span(r, &rule->chk, d->num_chk), secs = 1, lines;

	if (rule->kind == INJECT_WRITE)
		secs = span(r, &rule->sec, d->num_sec);
	if (check_words(r, rule, err) < 0)
		return -1;
	if (says_nothing(r, rule))
		return 0;
	if (__builtin_mul_overflow(grps * pus, chks, &lines) ||
		__builtin_mul_overflow(lines, secs, &lines) || (r->lines += lines) > LINES_MAX ||
		lines > LINES_MAX)
		return cij_error_set(err, CIJ_E_BAD_CONFIG,
			"its %s would be more than %d lines for this QEMU, which has no wildcards: "
			"choose smaller ranges",
			inject_file_key(rule->kind), LINES_MAX);
	for (int64_t g = 0; g < grps; g++)
		for (int64_t p = 0; p < pus; p++)
			for (int64_t c = 0; c < chks; c++)
				for (int64_t s = 0; s < secs; s++)
					print_line(r, rule, rule->grp.first + g, rule->pu.first + p,
						rule->chk.first + c, rule->sec.first + s);
	return 0;
}

char *
rules_render(const struct rules *rules, enum inject_kind kind, enum inject_words words,
	const struct device_conf *d, struct cij_error *err)
{
	struct render r = {.words = words, .device = d};
	char *text = NULL;
	size_t size;
	int ret = 0;

	r.out = open_memstream(&text, &size);
	if (!r.out)
		abort();
	for (size_t i = 0; i < rules->n && ret == 0; i++)
		if (rules->items[i].kind == kind)
			ret = render_rule(&r, &rules->items[i], err);
	fclose(r.out);
	if (ret == 0)
		return text;
	free(text);
	return NULL;
}
