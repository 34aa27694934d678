/*
 * The least that libssh needs to run 'true' in a guest: what 'cijqemuctl exec' is measured against.
 * ssh_true PORT KEYFILE
 */
#include <libssh/libssh.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

int
main(int argc, char **argv)
{
	ssh_session session = ssh_new();
	ssh_channel channel;
	ssh_key key;
	int port = argc == 3 ? atoi(argv[1]) : 0, status;

	if (port <= 0 || ssh_pki_import_privkey_file(argv[2], NULL, NULL, NULL, &key) != SSH_OK)
		return 2;
	ssh_options_set(session, SSH_OPTIONS_PROCESS_CONFIG, &(bool){false});
	ssh_options_set(session, SSH_OPTIONS_HOST, "127.0.0.1");
	ssh_options_set(session, SSH_OPTIONS_PORT, &port);
	ssh_options_set(session, SSH_OPTIONS_USER, "root");
	ssh_options_set(session, SSH_OPTIONS_NODELAY, &(int){1});
	if (ssh_connect(session) != SSH_OK ||
		ssh_userauth_publickey(session, NULL, key) != SSH_AUTH_SUCCESS)
		return 3;
	channel = ssh_channel_new(session);
	if (ssh_channel_open_session(channel) != SSH_OK ||
		ssh_channel_request_exec(channel, "true") != SSH_OK)
		return 4;
	while (!ssh_channel_is_eof(channel)) {
		char buf[1024];

		if (ssh_channel_read(channel, buf, sizeof(buf), 0) < 0)
			break;
	}
	status = ssh_channel_get_exit_status(channel);
	ssh_channel_free(channel);
	ssh_disconnect(session);
	ssh_free(session);
	ssh_key_free(key);
	return status;
}
