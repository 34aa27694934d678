#include "client/ask.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "cijqemu/cleanup.h"

bool
ask_possible(void)
{
	return isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

bool
ask_yes(bool fallback, const char *fmt, ...)
{
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, " [%s] ", fallback ? "Y/n" : "y/N");
	if (getline(&line, &size, stdin) < 0)
		return false;
	if (*line == '\n')
		return fallback;
	return *line == 'y' || *line == 'Y';
}
