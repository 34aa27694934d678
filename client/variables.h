/* The variables that CIJOE's qemu module knew, and what becomes of each. */
#ifndef CLIENT_VARIABLES_H
#define CLIENT_VARIABLES_H

/* What becomes of a variable. */
enum use {
	USE_TEXT, /* its value, as @key */
	USE_NUMBER,
	USE_PORT, /* a number; CIJOE's own default, which all guests had, asks for none */
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
enum era { ERA_NONE, ERA_2018, ERA_2019 };

/* One of CIJOE's variables. */
struct variable {
	const char *name;
	enum use use;
	const char *key; /* dotted; of the drive where @era is not NONE */
	enum era era;
};

/* The variable @name; NULL where there was never one. */
const struct variable *variable_find(const char *name);

/* The known name that is nearest to @name; NULL: none is near. */
const char *variable_nearest(const char *name);

#endif
