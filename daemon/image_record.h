/*
 * What is known of a drive's image: ID.geometry.json beside it says what it was made as, and an
 * OCSSD image says so itself. A file beside the image rather than extended attributes: it is seen,
 * copied and backed up with the folder, on every file system.
 */
#ifndef DAEMON_IMAGE_RECORD_H
#define DAEMON_IMAGE_RECORD_H

#include <sys/stat.h>

#include "daemon/geometry.h"

/*
 * The shape of the image @file of drive @id in the folder @dir_fd, whose state is @st. As the
 * owner. 1; 0 when neither the record nor the image tells; -1 with BadConfig.
 */
int image_record_read(int dir_fd, const char *id, const char *file, const struct stat *st,
	struct geometry *geo, struct cij_error *err);

/* As the owner. 0, or -1 with errno. */
int image_record_write(int dir_fd, const char *id, const struct geometry *geo);
void image_record_remove(int dir_fd, const char *id);

#endif
