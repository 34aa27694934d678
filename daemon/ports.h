/* Which TCP ports of 127.0.0.1 our guests hold. QEMU's own word decides whether one is free. */
#ifndef DAEMON_PORTS_H
#define DAEMON_PORTS_H

#include <stdbool.h>
#include <sys/types.h>

struct ports;

/* Guests without a port of their own are given one from @first to @last. */
struct ports *ports_new(int first, int last);
void ports_free(struct ports *ports);

int ports_first(const struct ports *ports);
int ports_last(const struct ports *ports);

/*
 * Takes the first port of the range from @from up that none of our guests holds, for @guest (a
 * pointer that means it) of @name. 0 when there is none.
 */
int ports_take(struct ports *ports, int from, const void *guest, const char *name);

/* Takes this very port, also outside of the range. 0, or -1 when a guest holds it. */
int ports_take_this(struct ports *ports, int port, const void *guest, const char *name);

/* What is not held is fine. */
void ports_give_back(struct ports *ports, int port);
/* All that @guest holds. */
void ports_give_back_all(struct ports *ports, const void *guest);

/* Writes who has @port: "guest 'emujoe'", "sshd (pid 812)", "a process of uid 1003", "somebody".
 * Returns @buf. */
const char *ports_holder(const struct ports *ports, int port, char *buf, size_t size);

/* The first port that needs no rights of root's to be opened (ip_unprivileged_port_start). */
int ports_first_unprivileged(void);

/*
 * Whose guest holds @port, as ports_take() was told; NULL: nobody's. And whose process listens
 * there, as the kernel says: false when none does.
 */
const void *ports_guest(const struct ports *ports, int port);
bool ports_listener(int port, uid_t *uid);

#endif
