#include "daemon/image_record.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "daemon/fileio.h"
#include "daemon/strv.h"

/* A dozen numbers. */
#define RECORD_MAX 4096
#define RECORD_DEPTH_MAX 4

static char *
record_name(const char *id)
{
	return str_printf("%s.geometry.json", id);
}

/* 1, 0 when there is none, -1 when it cannot be read. */
static int
read_record(int dir_fd, const char *id, struct geometry *geo, struct cij_error *err)
{
	_cleanup_free_ char *name = record_name(id), *text = NULL;
	_cleanup_json_ struct json_object *json = NULL;
	size_t len;

	text = file_read_at(dir_fd, name, RECORD_MAX, &len, NULL);
	if (!text && errno == ENOENT)
		return 0;
	if (!text)
		return cij_error_errno(
			err, CIJ_E_BAD_CONFIG, errno, "drive '%s': its record '%s'", id, name);
	json = cij_json_parse(text, len, RECORD_DEPTH_MAX, NULL);
	if (json && geometry_from_json(json, geo) == 0)
		return 1;
	cij_error_set(err, CIJ_E_BAD_CONFIG, "drive '%s': its record '%s' cannot be understood", id,
		name);
	return cij_error_hint(err,
		"'device format' makes the drive anew; where the record is known to be wrong, "
		"remove it");
}

/* Whether the image itself tells. */
static bool
read_header(int dir_fd, const char *file, struct geometry *geo)
{
	_cleanup_close_ int fd = openat(dir_fd, file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	_cleanup_free_ unsigned char *bytes = malloc(GEOMETRY_HEADER_BYTES);
	ssize_t n;

	if (!bytes)
		abort();
	n = fd < 0 ? -1 : pread(fd, bytes, GEOMETRY_HEADER_BYTES, 0);
	return n > 0 && geometry_from_header(bytes, (size_t)n, geo);
}

int
image_record_read(int dir_fd, const char *id, const char *file, const struct stat *st,
	struct geometry *geo, struct cij_error *err)
{
	struct geometry header;
	int recorded = read_record(dir_fd, id, geo, err);

	if (recorded < 0)
		return -1;
	if (recorded && geo->format == FORMAT_RAW) {
		geo->size = st->st_size; /* it may have been cut or grown since */
		return 1;
	}
	if (!read_header(dir_fd, file, &header))
		return recorded;
	/* The image is right; only the record tells apart two formats of one magic word. */
	if (recorded && header.format == FORMAT_OCSSD && geo->format == FORMAT_OCSSD_NS)
		header.format = FORMAT_OCSSD_NS;
	*geo = header;
	return 1;
}

int
image_record_write(int dir_fd, const char *id, const struct geometry *geo)
{
	_cleanup_free_ char *name = record_name(id), *text = NULL;
	_cleanup_json_ struct json_object *json = geometry_to_json(geo);

	text = str_printf("%s\n", json_object_to_json_string_ext(
					  json, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED));
	return file_write_at(dir_fd, name, text, strlen(text), 0644);
}

void
image_record_remove(int dir_fd, const char *id)
{
	_cleanup_free_ char *name = record_name(id);

	unlinkat(dir_fd, name, 0);
}
