/* Cleanup attributes: a local declared with one is released when it goes out of scope. */
#ifndef CIJQEMU_CLEANUP_H
#define CIJQEMU_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(fn) __attribute__((__cleanup__(fn)))

static inline void
cij_cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void
cij_cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void
cij_cleanup_fclose(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void
cij_cleanup_closedir(DIR **d)
{
	if (*d)
		closedir(*d);
}

#define _cleanup_free_ _cleanup_(cij_cleanup_free)
#define _cleanup_close_ _cleanup_(cij_cleanup_close)
#define _cleanup_fclose_ _cleanup_(cij_cleanup_fclose)
#define _cleanup_closedir_ _cleanup_(cij_cleanup_closedir)

/* Hands the pointer in @p over to the caller and leaves NULL behind. */
#define steal_ptr(p) \
	({ \
		__auto_type _steal_at = &(p); \
		__auto_type _steal_was = *_steal_at; \
		*_steal_at = NULL; \
		_steal_was; \
	})

/* Hands the descriptor in @fd over to the caller and leaves -1 behind. */
static inline int
steal_fd(int *fd)
{
	int was = *fd;

	*fd = -1;
	return was;
}

#define cij_array_size(a) (sizeof(a) / sizeof((a)[0]))

#endif
