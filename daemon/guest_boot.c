/* The boot, watched until SSH answers. */
#include "daemon/clock.h"
#include "daemon/guest_impl.h"
#include "daemon/log.h"
#include "proto/json.h"

static void
on_banner(void *arg)
{
	struct guest *guest = arg;
	struct json_object *data = json_object_new_object();

	banner_free(steal_ptr(guest->banner));
	guest->ready = true;
	guest->quick_resets = 0;
	/* An adopted guest has booted long ago, and its record says how fast. */
	if (guest->boot_seen) {
		guest->run.boot_ms = (int64_t)((clock_mono() - guest->up_at) * 1000);
		guest_save_run(guest);
	}
	log_info("guest '%s': SSH answers on port %d", guest->name, guest->run.port);
	cij_json_add_str(data, "guest", guest->name);
	json_object_object_add(data, "boot_ms",
		guest->run.boot_ms >= 0 ? json_object_new_int64(guest->run.boot_ms) : NULL);
	cij_json_add_int(data, "port", guest->run.port);
	notify_send(guest->sv->notify, "GUEST_READY", guest->name, data);
	guest_waiters_check(guest, guest->state);
}

const char *
guest_boot_phase(const struct guest *guest)
{
	bool mute = guest->console && console_bytes(guest->console) == 0;

	if (!guest->banner)
		return mute ? "it has no SSH port; its console has been silent so far"
			    : "it has no SSH port";
	switch (banner_sight(guest->banner)) {
	case BANNER_NOTHING:
		break;
	case BANNER_SILENT:
		return mute ? "no SSH banner comes and its console has been silent so far"
			    : "no SSH banner comes: its network is not up, or its SSH server is "
			      "mute";
	case BANNER_CLOSED:
		return "its SSH port is refused: its network is up, no SSH server listens";
	case BANNER_OTHER:
		return "no SSH banner: what answers at its SSH port is no SSH server";
	}
	return mute ? "its console has been silent so far" : "it boots";
}

static void
on_sight(void *arg)
{
	struct guest *guest = arg;

	guest_tell_phase(guest, "boot", guest_boot_phase(guest));
}

void
guest_watch_boot(struct guest *guest)
{
	banner_free(steal_ptr(guest->banner));
	guest->ready = false;
	if (guest->run.port)
		guest->banner = banner_new(guest->sv->base, guest->run.port, on_banner, guest);
	if (guest->banner)
		banner_on_change(guest->banner, on_sight);
}

void
guest_watch_memory(struct guest *guest)
{
	_cleanup_free_ char *own = str_printf("cijqemu-%s-", guest->name);

	oom_watch(&guest->oom, proc_pid(guest->proc), own);
}
