/*
 * The last steps of a start: the SSH port and the other forwards, then the CPUs. "hostfwd_add" over
 * HMP says nothing when it worked.
 */
#include "daemon/guest_impl.h"

/* One monitor command of a start. */
#define COMMAND_SECONDS 20

static void add_next_forward(struct guest *guest);

/* A port that guest.json insists on is not to be had: says why, or who has it. */
static void
port_taken(const struct guest *guest, const char *what, int port, struct cij_error *err)
{
	char who[128];

	if (guest->uid != 0 && port < ports_first_unprivileged()) {
		cij_error_set(err, CIJ_E_BAD_CONFIG,
			"%s %d of 127.0.0.1 is below %d: only root may open it", what, port,
			ports_first_unprivileged());
		return;
	}
	cij_error_set(err, CIJ_E_NO_RESOURCES, "%s %d of 127.0.0.1 is taken by %s", what, port,
		ports_holder(guest->sv->ports, port, who, sizeof(who)));
}

static void
forward_taken(const struct guest *guest, int port, struct cij_error *err)
{
	port_taken(guest, "forwarded port", port, err);
	cij_error_hint(err, "'cijqemuctl set %s forward.%d.host=…' chooses another", guest->name,
		guest->forwards_done);
}

static void
ssh_port_taken(const struct guest *guest, int port, struct cij_error *err)
{
	port_taken(guest, "SSH port", port, err);
	cij_error_hint(err, "'cijqemuctl set %s ssh.port=0' lets the daemon choose", guest->name);
}

/* QEMU has answered: whether the start goes on. */
static bool
goes_on(struct guest *guest, const struct cij_error *err)
{
	if (guest->state != GS_STARTING)
		return false;
	if (err)
		guest_start_fail(guest, err);
	return !err;
}

static void
on_forward(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;
	const struct forward_conf *forward = guest->conf.forward.items;
	const char *said = json_object_get_string(value);
	struct cij_error own;

	if (!goes_on(guest, err))
		return;
	if (said && *said) {
		int port = (int)forward[guest->forwards_done].host;

		ports_give_back(guest->sv->ports, port);
		forward_taken(guest, port, &own);
		guest_start_fail(guest, &own);
		return;
	}
	guest->forwards_done++;
	add_next_forward(guest);
}

static void
on_cont(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;

	if (goes_on(guest, err))
		guest_up(guest, false);
}

static void
add_next_forward(struct guest *guest)
{
	const struct forward_conf *forward = guest->conf.forward.items;
	_cleanup_free_ char *line = NULL;

	if ((size_t)guest->forwards_done < guest->conf.forward.n) {
		struct cij_error err;

		forward += guest->forwards_done;
		if (ports_take_this(guest->sv->ports, (int)forward->host, guest, guest->name) < 0) {
			forward_taken(guest, (int)forward->host, &err);
			guest_start_fail(guest, &err);
			return;
		}
		line = str_printf("hostfwd_add n0 tcp:127.0.0.1:%lld-:%lld",
			(long long)forward->host, (long long)forward->guest);
		qmp_send_hmp(guest->qmp, line, COMMAND_SECONDS, on_forward, guest);
	} else if (guest->paused_start) {
		guest_up(guest, true);
	} else {
		qmp_send(guest->qmp, "cont", NULL, COMMAND_SECONDS, on_cont, guest);
	}
}

static void try_port(struct guest *guest, int from);

static void
on_port(void *arg, struct json_object *value, const struct cij_error *err)
{
	struct guest *guest = arg;
	const char *said = json_object_get_string(value);
	int port = guest->run.port;
	struct cij_error own;

	if (!goes_on(guest, err))
		return;
	if (!said || !*said) {
		add_next_forward(guest);
		return;
	}
	ports_give_back(guest->sv->ports, port);
	guest->run.port = 0;
	if (guest->conf.ssh.port) {
		ssh_port_taken(guest, port, &own);
		guest_start_fail(guest, &own);
		return;
	}
	/* The port of the last run comes first, then all from the beginning. */
	try_port(guest, guest->port_tries == 1 && guest->last_port ? ports_first(guest->sv->ports)
								   : port + 1);
}

static void
try_port(struct guest *guest, int from)
{
	_cleanup_free_ char *line = NULL;
	struct cij_error err;
	int wish = (int)guest->conf.ssh.port;
	struct ports *ports = guest->sv->ports;

	if (wish)
		guest->run.port = ports_take_this(ports, wish, guest, guest->name) == 0 ? wish : 0;
	else {
		guest->port_tries++;
		guest->run.port = ports_take(ports, from, guest, guest->name);
	}
	if (guest->run.port == 0) {
		if (wish)
			ssh_port_taken(guest, wish, &err);
		else
			cij_error_set(&err, CIJ_E_NO_RESOURCES,
				"no SSH port from %d to %d is free (cijqemud --ports)",
				ports_first(ports), ports_last(ports));
		guest_start_fail(guest, &err);
		return;
	}
	line = str_printf("hostfwd_add n0 tcp:127.0.0.1:%d-:22", guest->run.port);
	qmp_send_hmp(guest->qmp, line, COMMAND_SECONDS, on_port, guest);
}

void
guest_start_go_on(struct guest *guest, int forwards)
{
	guest->paused_start = guest->run.paused;
	guest->port_tries = 0;
	guest->forwards_done = forwards;
	guest->last_port = 0;
	guest_arm(guest, GUEST_START_SECONDS);
	if (guest->run.port)
		add_next_forward(guest);
	else
		guest_start_monitor_ready(guest);
}

void
guest_start_monitor_ready(struct guest *guest)
{
	guest_tell_phase(guest, "network", "setting the SSH port");
	guest->forwards_done = guest->port_tries = 0;
	/* A port of before the range was another one is not asked for again. */
	if (guest->last_port < ports_first(guest->sv->ports) ||
		guest->last_port > ports_last(guest->sv->ports))
		guest->last_port = 0;
	try_port(guest, guest->last_port ? guest->last_port : ports_first(guest->sv->ports));
}
