/* Which TCP ports of 127.0.0.1 our guests hold. QEMU's own word decides whether one is free. */
#ifndef DAEMON_PORTS_H
#define DAEMON_PORTS_H

/* Guests without a port of their own are given one from here up. */
#define PORTS_FIRST 2022

/* How many are tried for one guest before the start fails. */
#define PORTS_TRIES 4096

struct ports;
struct ports *ports_new(void);
void ports_free(struct ports *ports);

/* Takes the first port from @from up that none of our guests holds. 0 when there is none. */
int ports_take(struct ports *ports, int from);

/* Takes this very port. 0, or -1 when another guest holds it. */
int ports_take_this(struct ports *ports, int port);

/* 0 is fine. */
void ports_give_back(struct ports *ports, int port);

#endif
