/*
 * daemon/gstate: every pair of state and event, against what a guest's users would say of it. Not
 * the table again: each line is a rule for an event, with the states in which it means something.
 */
#include "tests/unit/unit.h"

#include "daemon/gstate.h"

static const struct {
	const char *event;
	/* For each state: "next action", or a word alone where the state stays. */
	const char *stopped, *starting, *running, *paused, *stopping, *broken;
} expected[GE_COUNT] = {
	[GE_START] = {"start", "starting launch", "already", "already", "already", "refuse",
		"refuse"},
	[GE_STOP] = {"stop", "already", "stopping kill", "stopping powerdown", "stopping powerdown",
		"already", "already"},
	[GE_KILL] = {"kill", "already", "stopping kill", "stopping kill", "stopping kill",
		"stopping kill", "already"},
	[GE_RESET] = {"reset", "refuse", "refuse", "running reset", "paused reset", "refuse",
		"refuse"},
	[GE_PAUSE] = {"pause", "refuse", "refuse", "running vm-stop", "already", "refuse",
		"refuse"},
	[GE_RESUME] = {"resume", "refuse", "refuse", "already", "paused vm-cont", "refuse",
		"refuse"},
	[GE_UP] = {"up", "ignore", "running none", "ignore", "ignore", "ignore", "ignore"},
	[GE_UP_PAUSED] = {"up-paused", "ignore", "paused none", "ignore", "ignore", "ignore",
		"ignore"},
	[GE_VM_STOP] = {"vm-stop", "ignore", "ignore", "paused none", "ignore", "ignore", "ignore"},
	[GE_VM_RESUME] = {"vm-resume", "ignore", "ignore", "ignore", "running none", "ignore",
		"ignore"},
	[GE_FAILED] = {"failed", "ignore", "stopped ended", "ignore", "ignore", "stopped ended",
		"ignore"},
	[GE_EXIT] = {"exit", "ignore", "stopped ended", "stopped ended", "stopped ended",
		"stopped ended", "ignore"},
	[GE_ADOPT] = {"adopt", "running none", "ignore", "ignore", "ignore", "ignore",
		"running none"},
	[GE_BREAK] = {"break", "broken none", "ignore", "ignore", "ignore", "ignore", "ignore"},
	[GE_MEND] = {"mend", "ignore", "ignore", "ignore", "ignore", "ignore", "stopped none"},
};

static const char *const actions[] = {
	[GA_NONE] = "none",
	[GA_LAUNCH] = "launch",
	[GA_POWERDOWN] = "powerdown",
	[GA_KILL] = "kill",
	[GA_RESET] = "reset",
	[GA_VM_STOP] = "vm-stop",
	[GA_VM_CONT] = "vm-cont",
	[GA_ENDED] = "ended",
	[GA_ALREADY] = "already",
	[GA_REFUSE] = "refuse",
	[GA_IGNORE] = "ignore",
};

static void
every_pair(void **state)
{
	for (int event = 0; event < GE_COUNT; event++) {
		const char *const row[GS_COUNT] = {
			[GS_STOPPED] = expected[event].stopped,
			[GS_STARTING] = expected[event].starting,
			[GS_RUNNING] = expected[event].running,
			[GS_PAUSED] = expected[event].paused,
			[GS_STOPPING] = expected[event].stopping,
			[GS_BROKEN] = expected[event].broken,
		};

		for (int from = 0; from < GS_COUNT; from++) {
			struct gstep step = gstate_step(from, event);
			char is[64], want[64];

			snprintf(is, sizeof(is), "%s %s", gstate_name(step.next),
				actions[step.action]);
			snprintf(want, sizeof(want), "%s%s%s",
				strchr(row[from], ' ') ? "" : gstate_name(from),
				strchr(row[from], ' ') ? "" : " ", row[from]);
			if (strcmp(is, want) != 0)
				fail_msg("%s + %s: %s, but should be: %s", gstate_name(from),
					expected[event].event, is, want);
		}
	}
}

/* What must hold whatever the table says. */
static void
rules_that_no_pair_breaks(void **state)
{
	for (int from = 0; from < GS_COUNT; from++)
		for (int event = 0; event < GE_COUNT; event++) {
			struct gstep step = gstate_step(from, event);
			int stays = step.action == GA_ALREADY || step.action == GA_REFUSE ||
				    step.action == GA_IGNORE;

			assert_in_range(step.next, 0, GS_COUNT - 1);
			assert_in_range(step.action, 0, GA_IGNORE);
			if (stays)
				assert_int_equal(step.next, from);
			/* Users hear of everything they ask; QEMU's events are never refused. */
			if (event <= GE_RESUME)
				assert_int_not_equal(step.action, GA_IGNORE);
			else
				assert_true(step.action != GA_REFUSE && step.action != GA_ALREADY);
			/* A run ends once, where there was one. */
			if (step.action == GA_ENDED) {
				assert_int_equal(step.next, GS_STOPPED);
				assert_true(from != GS_STOPPED && from != GS_BROKEN);
			}
			/* Only an ended process makes a live guest a stopped one. */
			if (step.next == GS_STOPPED && from != GS_STOPPED && from != GS_BROKEN)
				assert_int_equal(step.action, GA_ENDED);
			if (step.next == GS_STARTING && from != GS_STARTING)
				assert_int_equal(step.action, GA_LAUNCH);
		}
}

static void
states_have_the_words_of_the_protocol(void **state)
{
	assert_string_equal(gstate_name(GS_STOPPED), "stopped");
	assert_string_equal(gstate_name(GS_STARTING), "starting");
	assert_string_equal(gstate_name(GS_RUNNING), "running");
	assert_string_equal(gstate_name(GS_PAUSED), "paused");
	assert_string_equal(gstate_name(GS_STOPPING), "stopping");
	assert_string_equal(gstate_name(GS_BROKEN), "broken");
}

static void
reasons_have_the_words_of_the_protocol(void **state)
{
	static const char *const words[] = {"never-started", "guest-shutdown", "stopped", "killed",
		"crashed", "panicked", "host-shutdown", "start-failed", "lost"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		enum greason reason = greason_from_name(words[i]);

		assert_int_equal(reason, GR_NEVER_STARTED + i);
		assert_string_equal(greason_name(reason), words[i]);
	}
	assert_null(greason_name(GR_NONE));
	assert_int_equal(greason_from_name(NULL), GR_NONE);
	assert_int_equal(greason_from_name(""), GR_NONE);
	assert_int_equal(greason_from_name("Stopped"), GR_NONE);
}

static void
events_have_the_users_words(void **state)
{
	assert_string_equal(gevent_name(GE_START), "start");
	assert_string_equal(gevent_name(GE_STOP), "stop");
	assert_string_equal(gevent_name(GE_KILL), "kill");
	assert_string_equal(gevent_name(GE_RESET), "reset");
	assert_string_equal(gevent_name(GE_PAUSE), "pause");
	assert_string_equal(gevent_name(GE_RESUME), "resume");
	assert_string_equal(gevent_name(GE_EXIT), "change");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_pair),
		cmocka_unit_test(rules_that_no_pair_breaks),
		cmocka_unit_test(states_have_the_words_of_the_protocol),
		cmocka_unit_test(reasons_have_the_words_of_the_protocol),
		cmocka_unit_test(events_have_the_users_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
