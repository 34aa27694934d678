#include "daemon/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "proto/text.h"

/* Longer lines are cut: QEMU's last words are, at most, one such line. */
#define LOG_LINE_MAX 2048

static bool verbose_on;
static bool to_journal;

void
log_init(bool verbose)
{
	verbose_on = verbose;
	to_journal = getenv("JOURNAL_STREAM") != NULL;
}

static void __attribute__((format(printf, 2, 0)))
write_line(const char *prefix, const char *fmt, va_list ap)
{
	char text[LOG_LINE_MAX], clean[LOG_LINE_MAX];

	vsnprintf(text, sizeof(text), fmt, ap);
	cij_text_clean(text, clean, sizeof(clean));
	/* One write a line, so that lines of several processes do not mix. */
	dprintf(STDERR_FILENO, "%s%s\n", to_journal ? prefix : "", clean);
}

#define LOG_FUNCTION(name, prefix, condition) \
	void name(const char *fmt, ...) \
	{ \
		va_list ap; \
\
		if (!(condition)) \
			return; \
		va_start(ap, fmt); \
		write_line(prefix, fmt, ap); \
		va_end(ap); \
	}

LOG_FUNCTION(log_error, SD_ERR, true)
LOG_FUNCTION(log_warn, SD_WARNING, true)
LOG_FUNCTION(log_notice, SD_NOTICE, true)
LOG_FUNCTION(log_info, SD_INFO, true)
LOG_FUNCTION(log_debug, SD_DEBUG, verbose_on)
