/*
 * Users and groups that the machine's files do not have, from LDAP and the like: asked of NSS by a
 * process of its own, since it may block for a minute. What it said is kept for a while.
 */
#ifndef DAEMON_NAMES_H
#define DAEMON_NAMES_H

#include <event2/event.h>
#include <stdbool.h>

struct names;

/* @program answers "--resolve NAME…", see names_resolve_main(): "/proc/self/exe", which is what
 * proc_spawn() has executed by then; weak. */
struct names *names_new(struct event_base *base, const char *program);
/* Who waits is called first: nobody is known any more. NULL is fine. */
void names_free(struct names *names);

enum name_answer { NAME_IS, NAME_IS_NONE, NAME_ASKED };

/*
 * The id of user "anna" or group "@storage" in *@id. NAME_ASKED: it is not known yet; names_wait()
 * tells when it is.
 */
enum name_answer names_lookup(struct names *names, const char *name, unsigned *id);

/* Calls @fn once, from the loop, when all that is asked now is answered (or has taken too long). */
void names_wait(struct names *names, void (*fn)(void *arg), void *arg);

/* cijqemud --resolve NAME…: prints "NAME ID" for each that there is. */
int names_resolve_main(int argc, char **argv);

#endif
