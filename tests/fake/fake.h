/* The inside of the stand-in QEMU, see main.c. */
#ifndef TESTS_FAKE_H
#define TESTS_FAKE_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/json.h"

#define PORTS_MAX 32
#define DEVICES_MAX 32
#define WORDS_MAX 64

struct fake {
	const char *words[WORDS_MAX];
	int n_words;
	const char *name, *uuid, *pidfile, *pipe;
	int listen_fd; /* QMP; -1: on stdio */
	int in_fd, out_fd; /* QMP now; -1: nobody */
	int keys_fd, console_fd; /* -1: none */
	bool stdio, prelaunch, running, negotiated, mute;
	char line[65536];
	size_t len;
	struct {
		int fd, host, guest;
	} ports[PORTS_MAX];
	int n_ports, taken;
	bool elsewhere;
	struct {
		char *id, *bus;
		bool seen; /* the guest has given it an address */
	} devices[DEVICES_MAX];
	int n_devices, kept;
	struct json_object *transcript; /* command text -> reply text */
	char *greeting;
};

/* told.c */

/* Adds the words in @text, split at @separators. */
void tell(struct fake *f, const char *text, const char *separators);
/* The value of a word ("exit=3" -> "3"), "" for one without; NULL when it was not given. */
const char *told(const struct fake *f, const char *word);
/* Does what was told for this point. Returns false when its own work is not to be done. */
bool reach(struct fake *f, const char *point);
/* Ends as QEMU does. */
void __attribute__((noreturn)) leave(struct fake *f, int code);

/* devices.c */

void fake_add_device(struct fake *f, const char *id, const char *bus, bool seen);
/* '-device DRIVER,id=ID,bus=BUS,…' */
void fake_read_device(struct fake *f, const char *value);
/* QMP's 'device_del' and 'query-pci'; @id: what stands behind the answer. */
void fake_delete_device(struct fake *f, const char *device, const char *id);
void fake_answer_pci(struct fake *f, const char *id);

/* hmp.c */

void fake_answer_hmp(struct fake *f, const char *line, const char *id);

/* qmp.c */

void __attribute__((format(printf, 2, 3))) fake_say(struct fake *f, const char *fmt, ...);
/* @data: JSON, or NULL. */
void fake_say_event(struct fake *f, const char *name, const char *data);
void fake_greet(struct fake *f);
/* Reads what the client says, and answers. */
void fake_read_qmp(struct fake *f);
void fake_drop_client(struct fake *f);
/* The recorded session: lines of "> command" and "< reply". */
void fake_read_transcript(struct fake *f, const char *path);

#endif
