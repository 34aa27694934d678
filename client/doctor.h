/*
 * 'doctor' is made of checks, each a function that adds findings of its own; one more is a function
 * and a line in the list in cmd_doctor.c.
 */
#ifndef CLIENT_DOCTOR_H
#define CLIENT_DOCTOR_H

#include <stdbool.h>

#include "client/args.h"
#include "client/link.h"
#include "proto/json.h"

/* Each QEMU binary is started twice; a loaded machine takes seconds for that. */
#define DOCTOR_SECONDS 60

enum level { LEVEL_OK, LEVEL_NOTE, LEVEL_FAIL };

struct doctor {
	struct call *call; /* weak */
	struct json_object *findings;
	enum level worst;
	bool no_daemon; /* what needs it cannot be found out */
	bool is_unit; /* the daemon is the one that systemd runs */
	struct json_object *daemon; /* weak; what query-daemon says, NULL: nothing */
	struct json_object *host; /* weak; what query-host says, NULL: nothing */
};

/* Adds a finding of the check @check about @thing (NULL: what the check is about). */
void doctor_find(struct doctor *doctor, enum level level, const char *check, const char *thing,
	const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* The command that mends the last finding, or the way out in words where no command can. */
void doctor_fix(struct doctor *doctor, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The command that gives the daemon's unit the line @setting ("ProtectHome=no") by a drop-in, which
 * comes behind all others. */
void doctor_fix_unit(struct doctor *doctor, const char *setting);

/* A word of a command that doctor_fix() tells, in quotes where a shell needs them; heap. */
char *doctor_word(const char *text);

/* "sudo ", or "" for root: in front of a command that only root may run. */
const char *doctor_sudo(void);

/* The pid that query-daemon tells; 0: none answers. */
int64_t doctor_daemon_pid(const struct doctor *doctor);

/* doctor_here.c: what the client sees by itself */
void doctor_check_groups(struct doctor *doctor);
void doctor_check_environment(struct doctor *doctor);
void doctor_check_local_qemu(struct doctor *doctor);
void doctor_check_local_kvm(struct doctor *doctor);
void doctor_check_keys(struct doctor *doctor);
/* doctor_folders.c: who may do what, as the daemon meets it */
void doctor_check_caller(struct doctor *doctor);
void doctor_check_sockets(struct doctor *doctor);
void doctor_check_guests_dir(struct doctor *doctor);
void doctor_check_folders(struct doctor *doctor);
/* doctor_room.c: how much there is */
void doctor_check_kvm(struct doctor *doctor);
void doctor_check_memory(struct doctor *doctor);
void doctor_check_disk(struct doctor *doctor);
void doctor_check_descriptors(struct doctor *doctor);
void doctor_check_inotify(struct doctor *doctor);
/* doctor_qemu.c */
void doctor_check_qemu(struct doctor *doctor);
/* doctor_unit.c: what systemd knows of the daemon */
void doctor_check_unit(struct doctor *doctor);

#endif
