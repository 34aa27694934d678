#include "daemon/gstate.h"

#include <stddef.h>
#include <string.h>

#include "cijqemu/cleanup.h"

#define IGNORE(s) \
	{ \
		s, GA_IGNORE \
	}
#define REFUSE(s) \
	{ \
		s, GA_REFUSE \
	}
#define ALREADY(s) \
	{ \
		s, GA_ALREADY \
	}

static const struct gstep table[GS_COUNT][GE_COUNT] =
	{
		[GS_STOPPED] =
			{
				[GE_START] = {GS_STARTING, GA_LAUNCH},
				[GE_STOP] = ALREADY(GS_STOPPED),
				[GE_KILL] = ALREADY(GS_STOPPED),
				[GE_RESET] = REFUSE(GS_STOPPED),
				[GE_PAUSE] = REFUSE(GS_STOPPED),
				[GE_RESUME] = REFUSE(GS_STOPPED),
				[GE_UP] = IGNORE(GS_STOPPED),
				[GE_UP_PAUSED] = IGNORE(GS_STOPPED),
				[GE_VM_STOP] = IGNORE(GS_STOPPED),
				[GE_VM_RESUME] = IGNORE(GS_STOPPED),
				[GE_FAILED] = IGNORE(GS_STOPPED),
				[GE_EXIT] = IGNORE(GS_STOPPED),
				[GE_ADOPT] = {GS_RUNNING, GA_NONE},
				[GE_BREAK] = {GS_BROKEN, GA_NONE},
				[GE_MEND] = IGNORE(GS_STOPPED),
			},
		[GS_STARTING] =
			{
				[GE_START] = ALREADY(GS_STARTING),
				/* Nobody listens to the power button yet. */
				[GE_STOP] = {GS_STOPPING, GA_KILL},
				[GE_KILL] = {GS_STOPPING, GA_KILL},
				[GE_RESET] = REFUSE(GS_STARTING),
				[GE_PAUSE] = REFUSE(GS_STARTING),
				[GE_RESUME] = REFUSE(GS_STARTING),
				[GE_UP] = {GS_RUNNING, GA_NONE},
				[GE_UP_PAUSED] = {GS_PAUSED, GA_NONE},
				[GE_VM_STOP] = IGNORE(GS_STARTING),
				[GE_VM_RESUME] = IGNORE(GS_STARTING),
				[GE_FAILED] = {GS_STOPPED, GA_ENDED},
				[GE_EXIT] = {GS_STOPPED, GA_ENDED},
				[GE_ADOPT] = IGNORE(GS_STARTING),
				[GE_BREAK] = IGNORE(GS_STARTING),
				[GE_MEND] = IGNORE(GS_STARTING),
			},
		[GS_RUNNING] =
			{
				[GE_START] = ALREADY(GS_RUNNING),
				[GE_STOP] = {GS_STOPPING, GA_POWERDOWN},
				[GE_KILL] = {GS_STOPPING, GA_KILL},
				[GE_RESET] = {GS_RUNNING, GA_RESET},
				/* The state follows QEMU's own word, the STOP and RESUME events. */
				[GE_PAUSE] = {GS_RUNNING, GA_VM_STOP},
				[GE_RESUME] = ALREADY(GS_RUNNING),
				[GE_UP] = IGNORE(GS_RUNNING),
				[GE_UP_PAUSED] = IGNORE(GS_RUNNING),
				[GE_VM_STOP] = {GS_PAUSED, GA_NONE},
				[GE_VM_RESUME] = IGNORE(GS_RUNNING),
				[GE_FAILED] = IGNORE(GS_RUNNING),
				[GE_EXIT] = {GS_STOPPED, GA_ENDED},
				[GE_ADOPT] = IGNORE(GS_RUNNING),
				[GE_BREAK] = IGNORE(GS_RUNNING),
				[GE_MEND] = IGNORE(GS_RUNNING),
			},
		[GS_PAUSED] =
			{
				[GE_START] = ALREADY(GS_PAUSED),
				[GE_STOP] = {GS_STOPPING, GA_POWERDOWN},
				[GE_KILL] = {GS_STOPPING, GA_KILL},
				[GE_RESET] = {GS_PAUSED, GA_RESET},
				[GE_PAUSE] = ALREADY(GS_PAUSED),
				[GE_RESUME] = {GS_PAUSED, GA_VM_CONT},
				[GE_UP] = IGNORE(GS_PAUSED),
				[GE_UP_PAUSED] = IGNORE(GS_PAUSED),
				[GE_VM_STOP] = IGNORE(GS_PAUSED),
				[GE_VM_RESUME] = {GS_RUNNING, GA_NONE},
				[GE_FAILED] = IGNORE(GS_PAUSED),
				[GE_EXIT] = {GS_STOPPED, GA_ENDED},
				[GE_ADOPT] = IGNORE(GS_PAUSED),
				[GE_BREAK] = IGNORE(GS_PAUSED),
				[GE_MEND] = IGNORE(GS_PAUSED),
			},
		[GS_STOPPING] =
			{
				[GE_START] = REFUSE(GS_STOPPING),
				[GE_STOP] = ALREADY(GS_STOPPING),
				[GE_KILL] = {GS_STOPPING, GA_KILL},
				[GE_RESET] = REFUSE(GS_STOPPING),
				[GE_PAUSE] = REFUSE(GS_STOPPING),
				[GE_RESUME] = REFUSE(GS_STOPPING),
				/* A start that was told to stop in its last step. */
				[GE_UP] = IGNORE(GS_STOPPING),
				[GE_UP_PAUSED] = IGNORE(GS_STOPPING),
				[GE_VM_STOP] = IGNORE(GS_STOPPING),
				[GE_VM_RESUME] = IGNORE(GS_STOPPING),
				[GE_FAILED] = {GS_STOPPED, GA_ENDED},
				[GE_EXIT] = {GS_STOPPED, GA_ENDED},
				[GE_ADOPT] = IGNORE(GS_STOPPING),
				[GE_BREAK] = IGNORE(GS_STOPPING),
				[GE_MEND] = IGNORE(GS_STOPPING),
			},
		[GS_BROKEN] =
			{
				[GE_START] = REFUSE(GS_BROKEN),
				[GE_STOP] = ALREADY(GS_BROKEN),
				[GE_KILL] = ALREADY(GS_BROKEN),
				[GE_RESET] = REFUSE(GS_BROKEN),
				[GE_PAUSE] = REFUSE(GS_BROKEN),
				[GE_RESUME] = REFUSE(GS_BROKEN),
				[GE_UP] = IGNORE(GS_BROKEN),
				[GE_UP_PAUSED] = IGNORE(GS_BROKEN),
				[GE_VM_STOP] = IGNORE(GS_BROKEN),
				[GE_VM_RESUME] = IGNORE(GS_BROKEN),
				[GE_FAILED] = IGNORE(GS_BROKEN),
				[GE_EXIT] = IGNORE(GS_BROKEN),
				[GE_ADOPT] = {GS_RUNNING, GA_NONE},
				[GE_BREAK] = IGNORE(GS_BROKEN),
				[GE_MEND] = {GS_STOPPED, GA_NONE},
			},
};

static const char *const state_names[] = {
	[GS_STOPPED] = "stopped",
	[GS_STARTING] = "starting",
	[GS_RUNNING] = "running",
	[GS_PAUSED] = "paused",
	[GS_STOPPING] = "stopping",
	[GS_BROKEN] = "broken",
};

static const char *const reason_names[] = {
	[GR_NONE] = NULL,
	[GR_NEVER_STARTED] = "never-started",
	[GR_GUEST_SHUTDOWN] = "guest-shutdown",
	[GR_STOPPED] = "stopped",
	[GR_KILLED] = "killed",
	[GR_CRASHED] = "crashed",
	[GR_PANICKED] = "panicked",
	[GR_HOST_SHUTDOWN] = "host-shutdown",
	[GR_START_FAILED] = "start-failed",
	[GR_LOST] = "lost",
};

static const char *const event_names[GE_COUNT] = {
	[GE_START] = "start",
	[GE_STOP] = "stop",
	[GE_KILL] = "kill",
	[GE_RESET] = "reset",
	[GE_PAUSE] = "pause",
	[GE_RESUME] = "resume",
};

struct gstep
gstate_step(enum gstate state, enum gevent event)
{
	return table[state][event];
}

const char *
gstate_name(enum gstate state)
{
	return state_names[state];
}

const char *
greason_name(enum greason reason)
{
	return reason_names[reason];
}

enum greason
greason_from_name(const char *name)
{
	for (size_t i = 1; name && i < cij_array_size(reason_names); i++)
		if (strcmp(reason_names[i], name) == 0)
			return i;
	return GR_NONE;
}

const char *
gevent_name(enum gevent event)
{
	return event_names[event] ? event_names[event] : "change";
}
