#include "client/ssh_arrival.h"

static int
on_data(ssh_session session, ssh_channel channel, void *data, uint32_t len, int is_stderr,
	void *arg)
{
	((struct ssh_arrival *)arg)->any = true;
	return 0; /* it stays with libssh until there is room */
}

static void
on_end(ssh_session session, ssh_channel channel, void *arg)
{
	((struct ssh_arrival *)arg)->any = true;
}

void
ssh_arrival_watch(struct ssh_arrival *arrival, ssh_channel channel)
{
	arrival->callbacks = (struct ssh_channel_callbacks_struct){.userdata = arrival,
		.channel_data_function = on_data,
		.channel_eof_function = on_end,
		.channel_close_function = on_end};
	ssh_callbacks_init(&arrival->callbacks);
	ssh_add_channel_callbacks(channel, &arrival->callbacks);
}

void
ssh_arrival_forget(struct ssh_arrival *arrival, ssh_channel channel)
{
	ssh_remove_channel_callbacks(channel, &arrival->callbacks);
}
