#include "daemon/ports.h"

#include <stdbool.h>
#include <stdlib.h>

struct ports {
	bool held[65536];
};

struct ports *
ports_new(void)
{
	struct ports *ports = calloc(1, sizeof(*ports));

	if (!ports)
		abort();
	return ports;
}

void
ports_free(struct ports *ports)
{
	free(ports);
}

int
ports_take(struct ports *ports, int from)
{
	for (int port = from; port > 0 && port <= 65535; port++)
		if (ports_take_this(ports, port) == 0)
			return port;
	return 0;
}

int
ports_take_this(struct ports *ports, int port)
{
	if (port < 1 || port > 65535 || ports->held[port])
		return -1;
	ports->held[port] = true;
	return 0;
}

void
ports_give_back(struct ports *ports, int port)
{
	if (port > 0 && port <= 65535)
		ports->held[port] = false;
}
