#include "cijqemu/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cijqemu/cleanup.h"
#include "proto/text.h"

static const struct {
	const char *name;
	int exit_code; /* sysexits.h where it has a word for it */
} classes[] = {
	[CIJ_E_NONE] = {"None", 0},
	[CIJ_E_GUEST_NOT_FOUND] = {"GuestNotFound", 66},
	[CIJ_E_GUEST_EXISTS] = {"GuestExists", 65},
	[CIJ_E_BAD_REQUEST] = {"BadRequest", 65},
	[CIJ_E_BAD_CONFIG] = {"BadConfig", 78},
	[CIJ_E_BUSY] = {"Busy", 75},
	[CIJ_E_DENIED] = {"Denied", 77},
	[CIJ_E_LEASED] = {"Leased", 75},
	[CIJ_E_NO_RESOURCES] = {"NoResources", 75},
	[CIJ_E_QEMU_FAILED] = {"QemuFailed", 1},
	[CIJ_E_TIMEOUT] = {"Timeout", 124},
	[CIJ_E_NOT_SUPPORTED] = {"NotSupported", 1},
	[CIJ_E_INTERNAL] = {"Internal", 70},
	[CIJ_E_USAGE] = {"Usage", 64},
	[CIJ_E_UNREACHABLE] = {"Unreachable", 69},
	[CIJ_E_PROTOCOL] = {"Protocol", 76},
	[CIJ_E_FAILED] = {"Failed", 1},
};

/*
 * Paths and words of users' go into a text: it is one line of UTF-8 all the same, and ends with a
 * whole character where it was cut. Else the reply that has it would be no JSON.
 */
static void
tidy(char *text, size_t size)
{
	char was[CIJ_ERROR_DESC_MAX];

	memcpy(was, text, strlen(text) + 1);
	cij_text_clean(was, text, size);
}

int
cij_error_set(struct cij_error *err, enum cij_error_class class, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -1;
	err->class = class;
	err->hint[0] = '\0';
	va_start(ap, fmt);
	vsnprintf(err->desc, sizeof(err->desc), fmt, ap);
	va_end(ap);
	tidy(err->desc, sizeof(err->desc));
	return -1;
}

int
cij_error_errno(struct cij_error *err, enum cij_error_class class, int errnum, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	if (!err)
		return -1;
	err->class = class;
	err->hint[0] = '\0';
	va_start(ap, fmt);
	vsnprintf(err->desc, sizeof(err->desc), fmt, ap);
	va_end(ap);
	n = strlen(err->desc);
	snprintf(err->desc + n, sizeof(err->desc) - n, ": %s", strerror(errnum));
	tidy(err->desc, sizeof(err->desc));
	return -1;
}

int
cij_error_prefix(struct cij_error *err, const char *fmt, ...)
{
	char was[CIJ_ERROR_DESC_MAX];
	va_list ap;
	size_t n;

	if (!err)
		return -1;
	memcpy(was, err->desc, sizeof(was));
	va_start(ap, fmt);
	vsnprintf(err->desc, sizeof(err->desc), fmt, ap);
	va_end(ap);
	n = strlen(err->desc);
	snprintf(err->desc + n, sizeof(err->desc) - n, ": %s", was);
	tidy(err->desc, sizeof(err->desc));
	return -1;
}

int
cij_error_hint(struct cij_error *err, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	vsnprintf(err->hint, sizeof(err->hint), fmt, ap);
	va_end(ap);
	tidy(err->hint, sizeof(err->hint));
	return -1;
}

const char *cij_error_class_name(enum cij_error_class class)
{
	return classes[class].name;
}

enum cij_error_class
cij_error_class_from_name(const char *name)
{
	for (size_t i = 0; name && i < cij_array_size(classes); i++)
		if (strcmp(classes[i].name, name) == 0)
			return i;
	return CIJ_E_FAILED;
}

int cij_error_exit_code(enum cij_error_class class)
{
	return classes[class].exit_code;
}
