/* The stand-in's human monitor, and the ports that it forwards. */
#include "tests/fake/fake.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* "hostfwd_add n0 tcp:127.0.0.1:HOST-:GUEST": "" when it worked, as QEMU has it. */
static const char *
forward(struct fake *f, const char *line)
{
	static const char failed[] = "Could not set up host forwarding rule\\r\\n";
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int host, guest, fd;

	if (sscanf(line, "hostfwd_add n0 tcp:127.0.0.1:%d-:%d", &host, &guest) != 2)
		return "invalid format\\r\\n";
	if (f->taken > 0) {
		f->taken--;
		return failed;
	}
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	addr.sin_port = htons((uint16_t)host);
	if (f->elsewhere) { /* as if it listened */
		close(fd);
		fd = -1;
	} else if (fd < 0 || f->n_ports == PORTS_MAX ||
		   bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 8) < 0) {
		close(fd);
		return failed;
	}
	f->ports[f->n_ports].fd = fd;
	f->ports[f->n_ports].host = host;
	f->ports[f->n_ports++].guest = guest;
	return "";
}

void
fake_answer_hmp(struct fake *f, const char *line, const char *id)
{
	char word[64] = "", text[4096] = "";
	size_t n = 0;

	sscanf(line, "%63s", word);
	for (char *c = word; *c; c++)
		if (strchr("\"\\", *c) || (unsigned char)*c < ' ' || *c == 0x7f || *c & 0x80)
			*c = '?'; /* it is told in JSON */
	if (!reach(f, word))
		return;
	if (strcmp(word, "hostfwd_add") == 0) {
		snprintf(text, sizeof(text), "%s", forward(f, line));
	} else if (strcmp(line, "info usernet") == 0) {
		n = snprintf(text, sizeof(text), "Hub -1 (n0):\\r\\n");
		for (int i = 0; i < f->n_ports && n < sizeof(text); i++)
			n += snprintf(text + n, sizeof(text) - n,
				"  TCP[HOST_FORWARD]  %d       127.0.0.1 %5d       10.0.2.15 %5d   "
				"  0     "
				"0\\r\\n",
				f->ports[i].fd, f->ports[i].host, f->ports[i].guest);
	} else if (strcmp(line, "info status") == 0) {
		snprintf(text, sizeof(text), "VM status: %s\\r\\n",
			f->running ? "running" : "paused");
	} else {
		snprintf(text, sizeof(text), "unknown command: '%s'\\r\\n", word);
	}
	fake_say(f, "{\"return\": \"%s\"%s}", text, id);
}
