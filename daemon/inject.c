#include "daemon/inject.h"

#include <string.h>

#include "daemon/inject_rule.h"
#include "daemon/strv.h"
#include "proto/text.h"

/* Rules of one kind in guest.json, which has at most 64 KiB. */
#define RULES_MAX 4096

static const char *const file_keys[] = {
	[INJECT_WRITE] = "writefail",
	[INJECT_RESET] = "resetfail",
	[INJECT_CHUNK] = "chunkinfo",
};

const char *
inject_file_key(enum inject_kind kind)
{
	return file_keys[kind];
}

const char *
inject_file(const struct device_conf *d, enum inject_kind kind)
{
	const char *const files[] = {d->writefail, d->resetfail, d->chunkinfo};

	return files[kind];
}

char *
inject_rendered_name(const struct device_conf *d, enum inject_kind kind)
{
	return str_printf(".%s.%s", d->id, file_keys[kind]);
}

/* An address of guest.json; what was given of it. */
struct address {
	struct json_object *grp, *pu, *chk, *sec;
};
#define A(type_, member_, ...) \
	{ \
		.name = #member_, .type = CIJ_T_JSON, .offset = offsetof(struct type_, member_), \
		__VA_ARGS__ \
	}
static const struct cij_field write_fields[] = {
	A(address, grp, .flags = CIJ_F_REQUIRED),
	A(address, pu, .flags = CIJ_F_REQUIRED),
	A(address, chk, .flags = CIJ_F_REQUIRED),
	A(address, sec),
};
static const struct cij_field reset_fields[] = {
	A(address, grp, .flags = CIJ_F_REQUIRED),
	A(address, pu, .flags = CIJ_F_REQUIRED),
	A(address, chk, .flags = CIJ_F_REQUIRED),
};
static const struct cij_table write_table = CIJ_TABLE(write_fields, struct address, NULL);
static const struct cij_table reset_table = CIJ_TABLE(reset_fields, struct address, NULL);

struct injection {
	struct json_object *write, *reset;
	int64_t percent;
};
static const struct cij_field injection_fields[] = {
	A(injection, write, .flags = CIJ_F_OBJECT),
	A(injection, reset, .flags = CIJ_F_OBJECT),
	{.name = "percent",
		.type = CIJ_T_INT,
		.offset = offsetof(struct injection, percent),
		.min = 0,
		.max = 100},
};
static void
init_injection(void *obj)
{
	struct injection *injection = obj;

	injection->percent = 100;
}
static const struct cij_table injection_table = CIJ_TABLE(
	injection_fields, struct injection, init_injection);

static const char *const state_words[] = {"free", "open", "closed", "offline", NULL};
static const char *const type_words[] = {"seq", "random", NULL};

struct chunk {
	struct json_object *grp, *pu, *chk;
	int state, type;
	int64_t wp, wi, pe_cycles;
};
static const struct cij_field chunk_fields[] = {
	A(chunk, grp, .flags = CIJ_F_REQUIRED),
	A(chunk, pu, .flags = CIJ_F_REQUIRED),
	A(chunk, chk, .flags = CIJ_F_REQUIRED),
	{.name = "state",
		.type = CIJ_T_ENUM,
		.flags = CIJ_F_REQUIRED,
		.offset = offsetof(struct chunk, state),
		.names = state_words},
	{.name = "type",
		.type = CIJ_T_ENUM,
		.offset = offsetof(struct chunk, type),
		.names = type_words},
	/* OCSSD 2.0 section 2.3, chunk descriptor: WP is 64 bits, WI one byte */
	{.name = "wp",
		.type = CIJ_T_INT,
		.offset = offsetof(struct chunk, wp),
		.min = 0,
		.max = INT64_MAX},
	{.name = "wi",
		.type = CIJ_T_INT,
		.offset = offsetof(struct chunk, wi),
		.min = 0,
		.max = 255},
	{.name = "pe_cycles",
		.type = CIJ_T_INT,
		.offset = offsetof(struct chunk, pe_cycles),
		.min = 0,
		.max = UINT32_MAX},
};
static const struct cij_table chunk_table = CIJ_TABLE(chunk_fields, struct chunk, NULL);

/* 5, "2-7" or "*" of @limit things; NULL: all of them. */
static bool
take_range(struct json_object *value, int64_t limit, const char *path, const char *name,
	struct range *range, struct cij_problems *problems)
{
	_cleanup_free_ char *full = str_printf("%s.%s", path, name);
	const char *text;
	char clean[64];

	*range = (struct range){0, limit - 1};
	if (!value)
		return true;
	if (json_object_is_type(value, json_type_int)) {
		range->first = range->last = json_object_get_int64(value);
	} else if (!json_object_is_type(value, json_type_string)) {
		cij_problems_add(problems, full,
			"must be a number, a range like \"2-7\" or \"*\", "
			"not %s",
			cij_json_type_word(value));
		return false;
	} else {
		text = json_object_get_string(value);
		if (range_parse(text, limit, range) < 0) {
			cij_problems_add(problems, full,
				"must be a number, a range like \"2-7\" or \"*\", not '%s'",
				cij_text_clean(text, clean, sizeof(clean)));
			return false;
		}
	}
	if (range->first >= 0 && range->last < limit)
		return true;
	cij_problems_add(problems, full, "is %lld: the drive has 0 to %lld",
		(long long)(range->first < 0 ? range->first : range->last), (long long)limit - 1);
	return false;
}

static bool
take_address(const struct device_conf *d, const struct address *address, const char *path,
	struct rule *rule, struct cij_problems *problems)
{
	bool ok = take_range(address->grp, d->num_grp, path, "grp", &rule->grp, problems);

	ok &= take_range(address->pu, d->num_pu, path, "pu", &rule->pu, problems);
	ok &= take_range(address->chk, d->num_chk, path, "chk", &rule->chk, problems);
	ok &= take_range(address->sec, d->num_sec, path, "sec", &rule->sec, problems);
	return ok;
}

static void
take_injection(const struct device_conf *d, struct json_object *json, const char *path,
	struct rules *rules, struct cij_problems *problems)
{
	struct injection injection;
	struct address address;

	if (cij_table_decode(&injection_table, json, &injection, path, problems) == 0) {
		bool write = injection.write != NULL;

		if (write == (injection.reset != NULL)) {
			cij_problems_add(problems, path, "must have one of 'write' and 'reset'");
		} else {
			_cleanup_free_ char *full = str_printf(
				"%s.%s", path, write ? "write" : "reset");
			const struct cij_table *table = write ? &write_table : &reset_table;
			struct rule rule = RULE_INIT;

			rule.kind = write ? INJECT_WRITE : INJECT_RESET;
			rule.percent = injection.percent;
			if (cij_table_decode(table, write ? injection.write : injection.reset,
				    &address, full, problems) == 0 &&
				take_address(d, &address, full, &rule, problems))
				rules_add(rules, &rule);
			cij_table_clear(table, &address);
		}
	}
	cij_table_clear(&injection_table, &injection);
}

static void
take_chunk(const struct device_conf *d, struct json_object *json, const char *path,
	struct rules *rules, struct cij_problems *problems)
{
	struct rule rule = RULE_INIT;
	struct address address = {0};
	struct chunk chunk;
	struct cij_error err;

	if (cij_table_decode(&chunk_table, json, &chunk, path, problems) == 0) {
		rule.kind = INJECT_CHUNK;
		rule.state = chunk.state;
		rule.type = cij_json_get(json, "type") ? chunk.type : CHUNK_ANY_TYPE;
		rule.wp = chunk.wp == CIJ_UNSET ? -1 : chunk.wp;
		rule.wi = chunk.wi == CIJ_UNSET ? -1 : chunk.wi;
		rule.pe_cycles = chunk.pe_cycles == CIJ_UNSET ? -1 : chunk.pe_cycles;
		address.grp = chunk.grp;
		address.pu = chunk.pu;
		address.chk = chunk.chk;
		if (take_address(d, &address, path, &rule, problems)) {
			if (rule_check(&rule, d, &err) < 0)
				cij_problems_add(problems, path, "%s", err.desc);
			else
				rules_add(rules, &rule);
		}
	}
	cij_table_clear(&chunk_table, &chunk);
}

/* All rules of the array @json, guest.json's key @name. */
static void
take_all(const struct device_conf *d, struct json_object *json, const char *name, const char *path,
	struct rules *rules, struct cij_problems *problems)
{
	_cleanup_free_ char *full = str_printf("%s.%s", path, name);
	size_t n;

	if (!json)
		return;
	if (!json_object_is_type(json, json_type_array)) {
		cij_problems_add(
			problems, full, "must be an array, not %s", cij_json_type_word(json));
		return;
	}
	n = json_object_array_length(json);
	if (n > RULES_MAX) {
		cij_problems_add(problems, full, "may have at most %d items", RULES_MAX);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *item = str_printf("%s[%zu]", full, i);

		if (json == d->inject)
			take_injection(
				d, json_object_array_get_idx(json, i), item, rules, problems);
		else
			take_chunk(d, json_object_array_get_idx(json, i), item, rules, problems);
	}
}

void
inject_check(const struct device_conf *d, const char *path, struct cij_problems *problems)
{
	_cleanup_rules_ struct rules rules = {0};

	take_all(d, d->inject, "inject", path, &rules, problems);
	take_all(d, d->chunks, "chunks", path, &rules, problems);
}

bool
inject_has(const struct device_conf *d, enum inject_kind kind)
{
	size_t n = cij_json_length(d->inject);

	if (inject_file(d, kind))
		return true;
	if (kind == INJECT_CHUNK)
		return json_object_is_type(d->chunks, json_type_array) &&
		       json_object_array_length(d->chunks) > 0;
	for (size_t i = 0; i < n; i++)
		if (cij_json_get(json_object_array_get_idx(d->inject, i),
			    kind == INJECT_WRITE ? "write" : "reset"))
			return true;
	return false;
}

/* The file's lines into rules; an error names the first line that makes no sense. */
static int
take_lines(const struct device_conf *d, enum inject_kind kind, const char *text,
	struct rules *rules, struct cij_error *err)
{
	_cleanup_free_ char *copy = str_copy(text);
	char *rest = copy, *line;
	size_t number = 0;

	while ((line = strsep(&rest, "\n"))) {
		struct rule rule = RULE_INIT;
		int got;

		number++;
		rule.kind = kind;
		got = rule_parse_line(&rule, line, d, err);
		if (got < 0) {
			char clean[64];

			return cij_error_prefix(err, "drive '%s': its %s '%s' line %zu", d->id,
				file_keys[kind],
				cij_text_clean(inject_file(d, kind), clean, sizeof(clean)), number);
		}
		if (got > 0)
			rules_add(rules, &rule);
	}
	return 0;
}

int
inject_check_text(
	const struct device_conf *d, enum inject_kind kind, const char *text, struct cij_error *err)
{
	_cleanup_rules_ struct rules rules = {0};

	return take_lines(d, kind, text, &rules, err);
}

char *
inject_render(const struct device_conf *d, enum inject_kind kind, enum inject_words words,
	const char *text, struct cij_error *err)
{
	_cleanup_rules_ struct rules rules = {0};
	_cleanup_problems_ struct cij_problems problems = {0};
	_cleanup_free_ char *out = NULL;

	if (text && take_lines(d, kind, text, &rules, err) < 0)
		return NULL;
	if (kind == INJECT_CHUNK)
		take_all(d, d->chunks, "chunks", d->id, &rules, &problems);
	else
		take_all(d, d->inject, "inject", d->id, &rules, &problems);
	if (problems.n > 0) {
		cij_problems_to_error(&problems, CIJ_E_BAD_CONFIG, err);
		return NULL;
	}
	out = rules_render(&rules, kind, words, d, err);
	if (!out)
		cij_error_prefix(err, "drive '%s'", d->id);
	return steal_ptr(out);
}
