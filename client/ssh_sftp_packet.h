/*
 * SFTP's packets: written into a buffer, read out of one. Pure: nothing here sends or waits. What
 * is read comes from a guest, which may send anything.
 */
#ifndef CLIENT_SSH_SFTP_PACKET_H
#define CLIENT_SSH_SFTP_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* draft-ietf-secsh-filexfer-02, section 3 */
enum sftp_packet {
	FXP_INIT = 1,
	FXP_VERSION = 2,
	FXP_OPEN = 3,
	FXP_CLOSE = 4,
	FXP_READ = 5,
	FXP_WRITE = 6,
	FXP_LSTAT = 7,
	FXP_SETSTAT = 9,
	FXP_FSETSTAT = 10,
	FXP_OPENDIR = 11,
	FXP_READDIR = 12,
	FXP_REMOVE = 13,
	FXP_MKDIR = 14,
	FXP_STAT = 17,
	FXP_RENAME = 18,
	FXP_READLINK = 19,
	FXP_SYMLINK = 20,
	FXP_STATUS = 101,
	FXP_HANDLE = 102,
	FXP_DATA = 103,
	FXP_NAME = 104,
	FXP_ATTRS = 105,
	FXP_EXTENDED = 200,
	FXP_EXTENDED_REPLY = 201,
};

enum sftp_status {
	SFTP_OK = 0,
	SFTP_EOF = 1,
	SFTP_NO_SUCH_FILE = 2,
	SFTP_PERMISSION_DENIED = 3,
	SFTP_FAILURE = 4,
	SFTP_UNSUPPORTED = 8,
};

/* What a file is; of replies only those marked in "has". */
struct sftp_attrs {
	enum { SFTP_HAS_SIZE = 1, SFTP_HAS_MODE = 2, SFTP_HAS_TIMES = 4 } has;
	uint64_t size;
	mode_t mode; /* with the type */
	uint32_t atime, mtime;
};

/* An answer; all of it weak, good until the function returns. */
struct sftp_answer {
	uint32_t status; /* enum sftp_status; SFTP_OK where it is none */
	const char *message; /* of a status; not terminated: message_len bytes */
	size_t message_len;
	const char *data; /* of a handle or of data read */
	size_t len;
	struct sftp_attrs attrs; /* of stat */
	uint32_t names; /* of a folder: how many follow at data */
};

struct sftp_handle {
	size_t len;
	char bytes[256]; /* the most that there may be */
};

/* Bytes that wait: @len of them from @at on. The owner frees @data. */
struct sftp_bytes {
	char *data;
	size_t at, len, size;
};

/* Room for @len bytes more: weak, good until the next call. */
char *sftp_bytes_add(struct sftp_bytes *b, size_t len);

void sftp_put_u32(struct sftp_bytes *out, uint32_t n);
void sftp_put_u64(struct sftp_bytes *out, uint64_t n);
void sftp_put_bytes(struct sftp_bytes *out, const char *data, size_t len);
void sftp_put_str(struct sftp_bytes *out, const char *text);
void sftp_put_attrs(struct sftp_bytes *out, const struct sftp_attrs *a);
/* How many bytes the last one writes. */
size_t sftp_attrs_size(const struct sftp_attrs *a);

/*
 * Takes the next whole packet (its type and what follows, one byte at least) out of @in: weak, good
 * until something is added. Returns 1, 0 when it has not all come, or -1 when it is no packet.
 */
int sftp_packet_next(struct sftp_bytes *in, const char **packet, size_t *len);
enum sftp_packet sftp_packet_type(const char *packet);

/* Which of the extensions that we use the server has; what makes no sense is left out. */
struct sftp_greeting {
	bool posix_rename, limits;
};
void sftp_greeting_read(const char *packet, size_t len, struct sftp_greeting *greeting);

/* Which request a packet answers; 0, which none has: it does not say. */
uint32_t sftp_answer_id(const char *packet, size_t len);
/* Reads an answer, which points into the packet. False: it makes no sense. */
bool sftp_answer_read(const char *packet, size_t len, struct sftp_answer *a);

/* The answer to limits@openssh.com (max-packet, max-read, max-write, max-handles): the largest read
 * and write that the server takes, in bytes; 0: it does not say. */
uint64_t sftp_limits_read(const struct sftp_answer *a);

/* Takes the next name out of a folder's (or link's) answer. Returns false when it makes no sense.
 */
bool sftp_next_name(
	struct sftp_answer *answer, const char **name, size_t *len, struct sftp_attrs *attrs);

/* Keeps an answer's handle; false for one that is none. */
bool sftp_keep_handle(struct sftp_handle *h, const struct sftp_answer *answer);

/* The status in words: "No such file". @buf: where the server's own words are put. */
const char *sftp_status_text(const struct sftp_answer *answer, char *buf, size_t size);

#endif
