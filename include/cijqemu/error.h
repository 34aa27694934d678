/*
 * Errors as values: a function that can fail takes a struct cij_error last and returns -1 (or NULL)
 * after filling it. The text is written where the fault is known and is what the user reads;
 * callers may put a prefix before it, nobody logs it a second time.
 */
#ifndef CIJQEMU_ERROR_H
#define CIJQEMU_ERROR_H

#define CIJ_ERROR_DESC_MAX 1024
#define CIJ_ERROR_HINT_MAX 512

/* The classes of the wire protocol, then those that only a client can meet. */
enum cij_error_class {
	CIJ_E_NONE,
	CIJ_E_GUEST_NOT_FOUND,
	CIJ_E_GUEST_EXISTS,
	CIJ_E_BAD_REQUEST,
	CIJ_E_BAD_CONFIG,
	CIJ_E_BUSY,
	CIJ_E_DENIED,
	CIJ_E_LEASED,
	CIJ_E_NO_RESOURCES,
	CIJ_E_QEMU_FAILED,
	CIJ_E_TIMEOUT,
	CIJ_E_NOT_SUPPORTED,
	CIJ_E_INTERNAL,
	CIJ_E_USAGE, /* client: the command line makes no sense */
	CIJ_E_UNREACHABLE, /* client: no daemon at the socket */
	CIJ_E_PROTOCOL, /* client: what answers does not speak our protocol */
	CIJ_E_FAILED, /* client: everything else */
};

struct cij_error {
	enum cij_error_class class;
	char desc[CIJ_ERROR_DESC_MAX]; /* what is wrong, naming the thing; UTF-8, one line */
	char hint[CIJ_ERROR_HINT_MAX]; /* the way out, or "" */
};

#define CIJ_ERROR_INIT \
	{ \
		.class = CIJ_E_NONE \
	}

/* Fills @err (may be NULL) and clears its hint. Always returns -1. */
int cij_error_set(struct cij_error *err, enum cij_error_class class, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* As cij_error_set(), with ": " and strerror(@errnum) appended. Always returns -1. */
int cij_error_errno(struct cij_error *err, enum cij_error_class class, int errnum, const char *fmt,
	...) __attribute__((format(printf, 4, 5)));

/* Puts text and ": " before the description of @err. Always returns -1. */
int cij_error_prefix(struct cij_error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Sets the way out. Always returns -1. */
int cij_error_hint(struct cij_error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* The class's name on the wire ("GuestNotFound"); never NULL. */
const char *cij_error_class_name(enum cij_error_class class);

/* The class with that wire name; CIJ_E_FAILED for one that we do not know. */
enum cij_error_class cij_error_class_from_name(const char *name);

/* The exit code of cijqemuctl for an error of @class. */
int cij_error_exit_code(enum cij_error_class class);

#endif
