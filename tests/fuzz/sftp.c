/* What a guest's SFTP server sends: greetings, answers, folders' names, within the bytes that came.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cijqemu/cleanup.h"
#include "client/ssh_sftp_packet.h"
#include "proto/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
look_within(const char *part, size_t len, const char *packet, size_t packet_len)
{
	if (part && (part < packet || len > packet_len || part + len > packet + packet_len))
		abort();
}

/* Fit for a terminal. */
static bool
is_clean(const char *text)
{
	size_t len = strlen(text), n = 0;

	for (size_t i = 0; i < len; i += n) {
		n = cij_utf8_len(text + i, len - i);
		if (n == 0 || (unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return false;
	}
	return true;
}

/* One packet, in a block of its own: what reads beyond it is seen. */
static void
take(const char *from, size_t len)
{
	_cleanup_free_ char *packet = malloc(len);
	struct sftp_greeting greeting;
	struct sftp_handle handle;
	struct sftp_answer a;
	struct sftp_attrs attrs;
	const char *name;
	char buf[256];
	size_t n;

	memcpy(packet, from, len);
	if (sftp_packet_type(packet) == FXP_VERSION) {
		sftp_greeting_read(packet, len, &greeting);
		return;
	}
	(void)sftp_answer_id(packet, len);
	if (!sftp_answer_read(packet, len, &a))
		return;
	look_within(a.message, a.message_len, packet, len);
	look_within(a.data, a.len, packet, len);
	name = sftp_status_text(&a, buf, sizeof(buf));
	if (!*name || !is_clean(name))
		abort();
	(void)sftp_limits_read(&a);
	if (sftp_keep_handle(&handle, &a) && memcmp(handle.bytes, a.data, handle.len) != 0)
		abort();
	while (sftp_next_name(&a, &name, &n, &attrs))
		look_within(name, n, packet, len);
}

/* The stream comes in two parts: a packet that is cut waits for the rest. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sftp_bytes in = {0};
	const char *packet;
	size_t len, first;
	int rc = 0;

	if (size < 1)
		return 0;
	first = data[0] < size - 1 ? data[0] : size - 1;
	memcpy(sftp_bytes_add(&in, first), data + 1, first);
	while ((rc = sftp_packet_next(&in, &packet, &len)) > 0)
		take(packet, len);
	if (rc == 0) {
		memcpy(sftp_bytes_add(&in, size - 1 - first), data + 1 + first, size - 1 - first);
		while (sftp_packet_next(&in, &packet, &len) > 0)
			take(packet, len);
	}
	free(in.data);
	return 0;
}
