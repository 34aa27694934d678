/*
 * The life of a guest as a table: state x event -> next state and what to do. Pure: nothing here
 * touches the guest, and every pair of the table is tested.
 */
#ifndef DAEMON_GSTATE_H
#define DAEMON_GSTATE_H

enum gstate {
	GS_STOPPED,
	GS_STARTING,
	GS_RUNNING,
	GS_PAUSED,
	GS_STOPPING,
	GS_BROKEN, /* the folder is no guest */
};
#define GS_COUNT 6

enum gevent {
	/* asked for by users */
	GE_START,
	GE_STOP,
	GE_KILL,
	GE_RESET,
	GE_PAUSE,
	GE_RESUME,
	/* told by QEMU or seen by us */
	GE_UP, /* QMP answers, the port is set, the CPUs run */
	GE_UP_PAUSED, /* the same, left paused as asked */
	GE_VM_STOP, /* QMP event STOP */
	GE_VM_RESUME, /* QMP event RESUME */
	GE_FAILED, /* a start ended before there was a process */
	GE_EXIT, /* the process is gone */
	GE_ADOPT, /* a running process of an earlier daemon was found */
	GE_BREAK, /* the folder is no guest any more */
	GE_MEND, /* it is one again */
};
#define GE_COUNT 15

enum gaction {
	GA_NONE,
	GA_LAUNCH, /* begin a start */
	GA_POWERDOWN, /* press the power button */
	GA_KILL, /* end the process */
	GA_RESET,
	GA_VM_STOP,
	GA_VM_CONT,
	GA_ENDED, /* close the run */
	GA_ALREADY, /* nothing to do: it is so, or on the way there */
	GA_REFUSE, /* makes no sense in this state: an error to whoever asked */
	GA_IGNORE, /* cannot happen, or comes late: leave all as it is */
};

struct gstep {
	enum gstate next;
	enum gaction action;
};

enum greason {
	GR_NONE,
	GR_NEVER_STARTED,
	GR_GUEST_SHUTDOWN,
	GR_STOPPED,
	GR_KILLED,
	GR_CRASHED,
	GR_PANICKED,
	GR_HOST_SHUTDOWN,
	GR_START_FAILED,
	GR_LOST,
};

struct gstep gstate_step(enum gstate state, enum gevent event);

/* Words of the protocol; NULL for GR_NONE. */
const char *gstate_name(enum gstate state);
const char *greason_name(enum greason reason);
/* The reason with that name; GR_NONE for none of them. */
enum greason greason_from_name(const char *name);
/* The user's word for an event: "start", "stop"… (those asked for by users). */
const char *gevent_name(enum gevent event);

#endif
