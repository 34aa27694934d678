#include "daemon/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "cijqemu/protocol.h"
#include "proto/text.h"

/* Longer lines are cut: QEMU's last words are, at most, one such line. */
#define LOG_LINE_MAX 2048

#define FIELDS_MAX 8

static bool verbose_on;
static bool to_journal;

/* JOURNAL_STREAM is inherited: it is about our stderr only where that is the file it names. */
static bool
stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void
log_init(bool verbose)
{
	verbose_on = verbose;
	to_journal = stderr_is_journal();
}

/* The name in "guest 'NAME': …"; empty for a line about none. */
static void
guest_of(const char *text, char *buf, size_t size)
{
	static const char before[] = "guest '";
	const char *end;

	*buf = '\0';
	if (strncmp(text, before, sizeof(before) - 1) != 0)
		return;
	text += sizeof(before) - 1;
	end = strchr(text, '\'');
	if (end && end[1] == ':' && (size_t)(end - text) < size)
		snprintf(buf, size, "%.*s", (int)(end - text), text);
}

struct fields {
	struct iovec items[FIELDS_MAX];
	char text[FIELDS_MAX][LOG_LINE_MAX + 32];
	int n;
};

static void __attribute__((format(printf, 2, 3)))
add_field(struct fields *fields, const char *fmt, ...)
{
	char *text = fields->text[fields->n];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(fields->text[0]), fmt, ap);
	va_end(ap);
	fields->items[fields->n++] = (struct iovec){text, strlen(text)};
}

static void
send_to_journal(const char *id, int level, const char *line)
{
	static struct fields fields;
	char guest[CIJ_GUEST_NAME_MAX + 1];

	fields.n = 0;
	guest_of(line, guest, sizeof(guest));
	add_field(&fields, "MESSAGE=%s", line);
	add_field(&fields, "PRIORITY=%d", level);
	add_field(&fields, "SYSLOG_IDENTIFIER=cijqemud");
	if (id)
		add_field(&fields, "MESSAGE_ID=%s", id);
	if (*guest)
		add_field(&fields, "CIJQEMU_GUEST=%s", guest);
	sd_journal_sendv(fields.items, fields.n);
}

static void __attribute__((format(printf, 3, 0)))
write_line(const char *id, int level, const char *fmt, va_list ap)
{
	char text[LOG_LINE_MAX], clean[LOG_LINE_MAX];

	vsnprintf(text, sizeof(text), fmt, ap);
	cij_text_clean(text, clean, sizeof(clean));
	if (to_journal)
		send_to_journal(id, level, clean);
	else /* one write a line, so that lines of several processes do not mix */
		dprintf(STDERR_FILENO, "%s\n", clean);
}

void
log_id(const char *id, int level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	write_line(id, level, fmt, ap);
	va_end(ap);
}

#define LOG_FUNCTION(name, level, condition) \
	void name(const char *fmt, ...) \
	{ \
		va_list ap; \
\
		if (!(condition)) \
			return; \
		va_start(ap, fmt); \
		write_line(NULL, level, fmt, ap); \
		va_end(ap); \
	}

LOG_FUNCTION(log_error, LOG_ERR, true)
LOG_FUNCTION(log_warn, LOG_WARNING, true)
LOG_FUNCTION(log_notice, LOG_NOTICE, true)
LOG_FUNCTION(log_info, LOG_INFO, true)
LOG_FUNCTION(log_debug, LOG_DEBUG, verbose_on)
