/* daemon/inject: errors and chunk states, from guest.json and from files, in each fork's words. */
#include "tests/unit/drive.h"

#include "daemon/inject.h"

/* Two groups of four units of 60 chunks of 4096 blocks, with more members. */
#define DRIVE(more) "{'id':'nvme0','type':'ocssd'" more "}"

/* The drive has just one problem. */
static void
bad(const char *text, const char *path, const char *desc)
{
	assert_int_equal(drive_bad(text, path, desc), 1);
}

static void
renders(const char *drive, const char *file, enum inject_kind kind, enum inject_words words,
	const char *want)
{
	_cleanup_free_ char *text = NULL;
	struct device_conf d;
	struct cij_error err;

	drive_of(drive, &d);
	text = inject_render(&d, kind, words, file, &err);
	if (!text)
		fail_msg("%s", err.desc);
	assert_string_equal(text, want);
	device_conf_clear(&d);
}

static void
refused(const char *drive, const char *file, enum inject_kind kind, enum inject_words words,
	enum cij_error_class class, const char *desc)
{
	struct device_conf d;
	struct cij_error err;
	char *text;

	drive_of(drive, &d);
	text = inject_render(&d, kind, words, file, &err);
	if (text)
		fail_msg("rendered: %s", text);
	assert_string_equal(err.desc, desc);
	assert_int_equal(err.class, class);
	device_conf_clear(&d);
}

#define ISSUE_DRIVE \
	DRIVE(",'inject':[{'write':{'grp':0,'pu':3,'chk':0,'sec':53},'percent':100}," \
	      "{'reset':{'grp':0,'pu':3,'chk':'5-6'},'percent':20}]," \
	      "'chunks':[{'grp':0,'pu':0,'chk':1,'state':'offline'}," \
	      "{'grp':0,'pu':0,'chk':0,'state':'open','wp':8}," \
	      "{'grp':1,'pu':'*','chk':2,'state':'closed'}," \
	      "{'grp':0,'pu':1,'chk':3,'state':'free','type':'random'}]")

static void
each_fork_in_its_own_words(void **state)
{
	renders(ISSUE_DRIVE, NULL, INJECT_WRITE, WORDS_LIGHTNVM,
		"grp=0 pu=3 chk=0 sec=53 writefail_prob=100\n");
	renders(ISSUE_DRIVE, NULL, INJECT_RESET, WORDS_LIGHTNVM,
		"grp=0 pu=3 chk=5 resetfail_prob=20\ngrp=0 pu=3 chk=6 resetfail_prob=20\n");
	renders(ISSUE_DRIVE, NULL, INJECT_CHUNK, WORDS_LIGHTNVM,
		"grp=0 pu=0 chk=1 state=OFFLINE wp=65535 type=W_SEQ wi=0\n"
		"grp=0 pu=0 chk=0 state=OPEN wp=8 type=W_SEQ wi=0\n"
		"grp=1 pu=0 chk=2 state=CLOSED wp=4096 type=W_SEQ wi=0\n"
		"grp=1 pu=1 chk=2 state=CLOSED wp=4096 type=W_SEQ wi=0\n"
		"grp=1 pu=2 chk=2 state=CLOSED wp=4096 type=W_SEQ wi=0\n"
		"grp=1 pu=3 chk=2 state=CLOSED wp=4096 type=W_SEQ wi=0\n"
		"grp=0 pu=1 chk=3 state=FREE wp=65535 type=W_RAN wi=0\n");
	renders(ISSUE_DRIVE, NULL, INJECT_WRITE, WORDS_OCSSD,
		"group=0 punit=3 chunk=0 sectr=53 prob=100\n");
	renders(ISSUE_DRIVE, NULL, INJECT_RESET, WORDS_OCSSD,
		"group=0 punit=3 chunk=5 prob=20\ngroup=0 punit=3 chunk=6 prob=20\n");
	renders(ISSUE_DRIVE, NULL, INJECT_CHUNK, WORDS_OCSSD,
		"group=0 punit=0 chunk=1 state=OFFLINE\n"
		"group=0 punit=0 chunk=0 state=OPEN wp=8\n"
		"group=1 punit=* chunk=2 state=CLOSED wp=4096\n"
		"group=0 punit=1 chunk=3 state=FREE type=RANDOM\n");
	/* No line that the fork, and we, would find empty. */
	renders(DRIVE(",'chunkinfo':'f'"),
		"grp=0 pu=0 chk=1 wi=0\ngrp=0 pu=0 chk=2 wi=0 state=OFFLINE\n", INJECT_CHUNK,
		WORDS_OCSSD, "group=0 punit=0 chunk=2 state=OFFLINE\n");
	renders(ISSUE_DRIVE, NULL, INJECT_WRITE, WORDS_OCSSD_NS1,
		"ns=1 group=0 punit=3 chunk=0 sectr=53 prob=100\n");
}

static void
wildcards_where_the_fork_has_them(void **state)
{
	renders(DRIVE(",'inject':[{'write':{'grp':'*','pu':0,'chk':0},'percent':1}]"), NULL,
		INJECT_WRITE, WORDS_OCSSD, "group=* punit=0 chunk=0 sectr=* prob=1\n");
	renders(DRIVE(",'num_grp':1,'num_sec':32,'ws_opt':4,'inject':"
		      "[{'write':{'grp':'*','pu':0,'chk':0,'sec':'30-31'}}]"),
		NULL, INJECT_WRITE, WORDS_LIGHTNVM,
		"grp=0 pu=0 chk=0 sec=30 writefail_prob=100\n"
		"grp=0 pu=0 chk=0 sec=31 writefail_prob=100\n");
	refused(DRIVE(",'inject':[{'write':{'grp':'*','pu':'*','chk':'*'}}]"), NULL, INJECT_WRITE,
		WORDS_LIGHTNVM, CIJ_E_BAD_CONFIG,
		"drive 'nvme0': its writefail would be more than 262144 lines for this QEMU, which "
		"has no wildcards: choose smaller ranges");
}

static void
rules_are_checked_against_the_geometry(void **state)
{
	bad(DRIVE(",'inject':[{'write':{'grp':2,'pu':0,'chk':0,'sec':0}}]"),
		"d.inject[0].write.grp", "is 2: the drive has 0 to 1");
	bad(DRIVE(",'inject':[{'write':{'grp':0,'pu':'2-4','chk':0,'sec':0}}]"),
		"d.inject[0].write.pu", "is 4: the drive has 0 to 3");
	bad(DRIVE(",'inject':[{'reset':{'grp':0,'pu':0,'chk':60}}]"), "d.inject[0].reset.chk",
		"is 60: the drive has 0 to 59");
	bad(DRIVE(",'inject':[{'write':{'grp':0,'pu':0,'chk':0,'sec':-1}}]"),
		"d.inject[0].write.sec", "is -1: the drive has 0 to 4095");
	bad(DRIVE(",'inject':[{'reset':{'grp':0,'pu':0,'chk':0,'sec':0}}]"),
		"d.inject[0].reset.sec", "is not known here");
	bad(DRIVE(",'inject':[{'write':{'pu':0,'chk':0}}]"), "d.inject[0].write.grp", "is missing");
	bad(DRIVE(",'inject':[{'percent':3}]"), "d.inject[0]",
		"must have one of 'write' and 'reset'");
	bad(DRIVE(",'inject':[{'reset':{'grp':0,'pu':0,'chk':0},'percent':101}]"),
		"d.inject[0].percent", "must be from 0 to 100");
	bad(DRIVE(",'inject':{}"), "d.inject", "must be an array, not an object");
	bad(DRIVE(",'inject':[{'write':{'grp':'3-1','pu':0,'chk':0}}]"), "d.inject[0].write.grp",
		"must be a number, a range like \"2-7\" or \"*\", not '3-1'");
	bad(DRIVE(",'inject':[{'write':{'grp':true,'pu':0,'chk':0}}]"), "d.inject[0].write.grp",
		"must be a number, a range like \"2-7\" or \"*\", not a boolean");
	bad(DRIVE(",'chunks':[{'grp':0,'pu':0,'chk':0,'state':'broken'}]"), "d.chunks[0].state",
		"is 'broken', but must be one of: free, open, closed, offline");
	bad(DRIVE(",'chunks':[{'grp':0,'pu':0,'chk':0,'state':'open'}]"), "d.chunks[0]",
		"is open: it needs a wp from 0 to 4095");
	bad(DRIVE(",'chunks':[{'grp':0,'pu':0,'chk':0,'state':'closed','wp':4097}]"), "d.chunks[0]",
		"has a wp of 4097: the chunk has 4096 blocks");
	bad(DRIVE(",'chunks':[{'grp':0,'pu':0,'chk':0,'state':'offline','wp':1}]"), "d.chunks[0]",
		"is offline: that has no wp");
	bad("{'id':'n','type':'nvme','inject':[]}", "d.inject",
		"does not belong to a drive of type 'nvme'");
}

/* A file by hand goes first, in whichever fork's words it is written. */
static void
files_are_translated(void **state)
{
	const char *drive = DRIVE(",'writefail':'w.txt','resetfail':'r.txt','chunkinfo':'c.txt',"
				  "'inject':[{'reset':{'grp':1,'pu':1,'chk':1}}]");

	renders(drive, "# a comment\n\ngroup=0 punit=3 chunk=0 sectr=0x35 prob=100\r\n",
		INJECT_WRITE, WORDS_LIGHTNVM, "grp=0 pu=3 chk=0 sec=53 writefail_prob=100\n");
	renders(drive, "grp=0 pu=3 chk=5 resetfail_prob=100", INJECT_RESET, WORDS_OCSSD,
		"group=0 punit=3 chunk=5 prob=100\ngroup=1 punit=1 chunk=1 prob=100\n");
	renders(drive,
		"grp=0 pu=0 chk=0 state=OPEN wp=8 type=W_SEQ wi=0\n"
		"grp=0 pu=0 chk=1 state=OFFLINE wp=65535 type=W_SEQ wi=0\n",
		INJECT_CHUNK, WORDS_OCSSD,
		"group=0 punit=0 chunk=0 state=OPEN type=SEQ wp=8\n"
		"group=0 punit=0 chunk=1 state=OFFLINE type=SEQ\n");
	renders(drive, "ns=1 group=* punit=* chunk=0 type=RANDOM\n", INJECT_CHUNK, WORDS_OCSSD_NS1,
		"ns=1 group=* punit=* chunk=0 type=RANDOM\n");
	renders(drive, "", INJECT_CHUNK, WORDS_LIGHTNVM, "");
}

static void
bad_lines_are_named(void **state)
{
	static const struct {
		enum inject_kind kind;
		const char *text, *desc;
	} cases[] = {
		{INJECT_WRITE, "grp=0 pu=3 chk=0 sec=53 writefail_prob=100\ngarbage\n",
			"writefail 'w' line 2: 'garbage' is not KEY=VALUE"},
		{INJECT_WRITE, "\n\ngrp=0 pu=3 chk=0 writefail_prob=100\n",
			"writefail 'w' line 3: sec= (or sectr=) is missing"},
		{INJECT_WRITE, "grp=0 pu=3 chk=0 sec=4096 prob=1\n",
			"writefail 'w' line 1: 'sec=4096' is too large: the drive has 0 to 4095"},
		{INJECT_WRITE, "grp=0 pu=9 chk=0 sec=0 prob=1\n",
			"writefail 'w' line 1: 'pu=9' is too large: the drive has 0 to 3"},
		{INJECT_WRITE, "grp=x pu=0 chk=0 sec=0 prob=1\n",
			"writefail 'w' line 1: 'grp=x' must be a number or '*'"},
		{INJECT_WRITE, "grp=0 grp=1 pu=0 chk=0 sec=0 prob=1\n",
			"writefail 'w' line 1: 'grp=1' is there twice"},
		{INJECT_RESET, "grp=0 pu=0 chk=0 resetfail_prob=101\n",
			"resetfail 'r' line 1: 'resetfail_prob=101' must be a number from 0 to "
			"100"},
		{INJECT_RESET, "grp=0 pu=0 chk=0 writefail_prob=1\n",
			"resetfail 'r' line 1: 'writefail_prob=1' is not known here"},
		{INJECT_CHUNK, "grp=0 pu=0 chk=0 state=BROKEN\n",
			"chunkinfo 'c' line 1: 'state=BROKEN' must be FREE, OPEN, CLOSED or "
			"OFFLINE"},
		{INJECT_CHUNK, "grp=0 pu=0 chk=0\n", "chunkinfo 'c' line 1: state= is missing"},
		{INJECT_CHUNK, "ns=2 grp=0 pu=0 chk=0 state=FREE\n",
			"chunkinfo 'c' line 1: 'ns=2' must be a number from 0 to 1"},
		{INJECT_CHUNK, "grp=0 pu=0 chk=0 state=OPEN wp=5000\n",
			"chunkinfo 'c' line 1: has a wp of 5000: the chunk has 4096 blocks"},
	};

	for (size_t i = 0; i < cij_array_size(cases); i++) {
		_cleanup_free_ char *want = NULL;

		assert_true(asprintf(&want, "drive 'nvme0': its %s", cases[i].desc) > 0);
		refused(DRIVE(",'writefail':'w','resetfail':'r','chunkinfo':'c'"), cases[i].text,
			cases[i].kind, WORDS_OCSSD, CIJ_E_BAD_CONFIG, want);
	}
}

static void
what_a_fork_cannot_say_is_refused(void **state)
{
	const char *wear = DRIVE(",'chunks':[{'grp':0,'pu':0,'chk':0,'state':'free','wi':9}]");

	renders(wear, NULL, INJECT_CHUNK, WORDS_LIGHTNVM,
		"grp=0 pu=0 chk=0 state=FREE wp=0 type=W_SEQ wi=9\n");
	refused(wear, NULL, INJECT_CHUNK, WORDS_OCSSD, CIJ_E_NOT_SUPPORTED,
		"drive 'nvme0': this QEMU cannot set the wear of a chunk (wi, pe_cycles)");
	refused(DRIVE(",'chunkinfo':'c'"), "group=0 punit=0 chunk=0 type=RANDOM\n", INJECT_CHUNK,
		WORDS_LIGHTNVM, CIJ_E_NOT_SUPPORTED,
		"drive 'nvme0': this QEMU needs a state for each chunk in 'chunks' and chunkinfo");
	refused(DRIVE(",'chunkinfo':'c'"), "group=0 punit=0 chunk=0 state=FREE cnlb=8\n",
		INJECT_CHUNK, WORDS_LIGHTNVM, CIJ_E_NOT_SUPPORTED,
		"drive 'nvme0': this QEMU knows no pe_cycles and no cnlb of a chunk");
}

static void
what_a_drive_has(void **state)
{
	struct device_conf d;

	drive_of(ISSUE_DRIVE, &d);
	assert_true(inject_has(&d, INJECT_WRITE) && inject_has(&d, INJECT_RESET) &&
		    inject_has(&d, INJECT_CHUNK));
	device_conf_clear(&d);
	drive_of(DRIVE(",'inject':[],'chunks':[],'resetfail':'r'"), &d);
	assert_false(inject_has(&d, INJECT_WRITE) || inject_has(&d, INJECT_CHUNK));
	assert_true(inject_has(&d, INJECT_RESET));
	device_conf_clear(&d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_fork_in_its_own_words),
		cmocka_unit_test(wildcards_where_the_fork_has_them),
		cmocka_unit_test(rules_are_checked_against_the_geometry),
		cmocka_unit_test(files_are_translated),
		cmocka_unit_test(bad_lines_are_named),
		cmocka_unit_test(what_a_fork_cannot_say_is_refused),
		cmocka_unit_test(what_a_drive_has),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
