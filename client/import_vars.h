/* The variables that CIJOE's qemu module knew, and what 'import' makes of each. */
#ifndef CLIENT_IMPORT_VARS_H
#define CLIENT_IMPORT_VARS_H

/* What becomes of a variable. */
enum import_use {
	USE_TEXT, /* its value, as @key */
	USE_NUMBER,
	USE_BOOL,
	USE_MEMORY, /* as QEMU's -m: a number without a unit is MiB */
	USE_FILE, /* a path, relative to the guest's folder where it is there */
	USE_KERNEL, /* a path; 1 = bzImage in the folder; 0 = none */
	USE_WORDS, /* a command line's words, appended to @key */
	USE_CDROM, /* an image for QEMU's -cdrom */
	USE_BINARY, /* QEMU's file */
	USE_NAME, /* names the guest or its folder */
	USE_DRIVE_ID,
	USE_OCSSD, /* set: the drive is an Open-Channel SSD */
	USE_NOT, /* @key says why */
};

/* Which generation of names a drive's variable belongs to. */
enum import_era { ERA_NONE, ERA_2018, ERA_2019 };

struct import_variable {
	const char *name;
	enum import_use use;
	const char *key; /* dotted; of the drive where @era is not NONE */
	enum import_era era;
};

/* NULL: there never was one of that name. */
const struct import_variable *import_variable_find(const char *name);

/* The name that may have been meant; NULL: none is like it. */
const char *import_variable_nearest(const char *name);

#endif
