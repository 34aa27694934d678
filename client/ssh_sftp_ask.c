/* SFTP's requests. */
#include <string.h>

#include "client/ssh_sftp_impl.h"

/* What may wait here to be sent: more would only be late. */
#define OUT_MAX (2 * 1024 * 1024)

void
sftp_begin(struct sftp *s, enum sftp_packet type, size_t len, sftp_fn *fn, void *arg)
{
	struct sftp_pending *p = s->pending;
	char kind = (char)type;

	while (p->fn)
		p++;
	*p = (struct sftp_pending){++s->last_id, fn, arg};
	s->n_pending++;
	sftp_put_u32(&s->out, (uint32_t)(1 + 4 + len));
	*sftp_bytes_add(&s->out, 1) = kind;
	sftp_put_u32(&s->out, p->id);
}

bool
sftp_has_room(const struct sftp *s)
{
	/* A few places stay free for what must be said behind each file. */
	return s->n_pending < SFTP_REQUESTS_MAX - 8 && s->out.len < OUT_MAX;
}

void
sftp_stat_async(struct sftp *s, const char *path, bool follow, sftp_fn *fn, void *arg)
{
	sftp_begin(s, follow ? FXP_STAT : FXP_LSTAT, 4 + strlen(path), fn, arg);
	sftp_put_str(&s->out, path);
}

void
sftp_open_async(struct sftp *s, const char *path, unsigned how, sftp_fn *fn, void *arg)
{
	struct sftp_attrs attrs = {.has = how & SFTP_CREATE ? SFTP_HAS_MODE : 0, .mode = 0600};

	sftp_begin(s, FXP_OPEN, 4 + strlen(path) + 4 + sftp_attrs_size(&attrs), fn, arg);
	sftp_put_str(&s->out, path);
	sftp_put_u32(&s->out, how);
	sftp_put_attrs(&s->out, &attrs);
}

void
sftp_close_async(struct sftp *s, const struct sftp_handle *h, sftp_fn *fn, void *arg)
{
	sftp_begin(s, FXP_CLOSE, 4 + h->len, fn, arg);
	sftp_put_bytes(&s->out, h->bytes, h->len);
}

void
sftp_read_async(struct sftp *s, const struct sftp_handle *h, uint64_t at, uint32_t len, sftp_fn *fn,
	void *arg)
{
	sftp_begin(s, FXP_READ, 4 + h->len + 8 + 4, fn, arg);
	sftp_put_bytes(&s->out, h->bytes, h->len);
	sftp_put_u64(&s->out, at);
	sftp_put_u32(&s->out, len);
}

char *
sftp_write_async(struct sftp *s, const struct sftp_handle *h, uint64_t at, uint32_t len,
	sftp_fn *fn, void *arg)
{
	sftp_begin(s, FXP_WRITE, 4 + h->len + 8 + 4 + len, fn, arg);
	sftp_put_bytes(&s->out, h->bytes, h->len);
	sftp_put_u64(&s->out, at);
	sftp_put_u32(&s->out, len);
	return sftp_bytes_add(&s->out, len);
}

void
sftp_fsetstat_async(struct sftp *s, const struct sftp_handle *h, const struct sftp_attrs *attrs,
	sftp_fn *fn, void *arg)
{
	sftp_begin(s, FXP_FSETSTAT, 4 + h->len + sftp_attrs_size(attrs), fn, arg);
	sftp_put_bytes(&s->out, h->bytes, h->len);
	sftp_put_attrs(&s->out, attrs);
}

void
sftp_setstat_async(
	struct sftp *s, const char *path, const struct sftp_attrs *attrs, sftp_fn *fn, void *arg)
{
	sftp_begin(s, FXP_SETSTAT, 4 + strlen(path) + sftp_attrs_size(attrs), fn, arg);
	sftp_put_str(&s->out, path);
	sftp_put_attrs(&s->out, attrs);
}

void
sftp_mkdir_async(struct sftp *s, const char *path, mode_t mode, sftp_fn *fn, void *arg)
{
	struct sftp_attrs attrs = {.has = SFTP_HAS_MODE, .mode = mode};

	sftp_begin(s, FXP_MKDIR, 4 + strlen(path) + sftp_attrs_size(&attrs), fn, arg);
	sftp_put_str(&s->out, path);
	sftp_put_attrs(&s->out, &attrs);
}

void
sftp_remove_async(struct sftp *s, const char *path, sftp_fn *fn, void *arg)
{
	sftp_begin(s, FXP_REMOVE, 4 + strlen(path), fn, arg);
	sftp_put_str(&s->out, path);
}

bool
sftp_renames_over(const struct sftp *s)
{
	return s->has.posix_rename;
}

void
sftp_rename_async(struct sftp *s, const char *from, const char *to, sftp_fn *fn, void *arg)
{
	static const char extension[] = "posix-rename@openssh.com";

	if (s->has.posix_rename) {
		sftp_begin(s, FXP_EXTENDED, 4 + strlen(extension) + 8 + strlen(from) + strlen(to),
			fn, arg);
		sftp_put_str(&s->out, extension);
	} else {
		sftp_begin(s, FXP_RENAME, 8 + strlen(from) + strlen(to), fn, arg);
	}
	sftp_put_str(&s->out, from);
	sftp_put_str(&s->out, to);
}

void
sftp_symlink_async(struct sftp *s, const char *target, const char *path, sftp_fn *fn, void *arg)
{
	/* OpenSSH, and all who follow it, take the two in this order, against the draft. */
	sftp_begin(s, FXP_SYMLINK, 8 + strlen(target) + strlen(path), fn, arg);
	sftp_put_str(&s->out, target);
	sftp_put_str(&s->out, path);
}

void
sftp_readlink_async(struct sftp *s, const char *path, sftp_fn *fn, void *arg)
{
	sftp_begin(s, FXP_READLINK, 4 + strlen(path), fn, arg);
	sftp_put_str(&s->out, path);
}

void
sftp_opendir_async(struct sftp *s, const char *path, sftp_fn *fn, void *arg)
{
	sftp_begin(s, FXP_OPENDIR, 4 + strlen(path), fn, arg);
	sftp_put_str(&s->out, path);
}

void
sftp_readdir_async(struct sftp *s, const struct sftp_handle *h, sftp_fn *fn, void *arg)
{
	sftp_begin(s, FXP_READDIR, 4 + h->len, fn, arg);
	sftp_put_bytes(&s->out, h->bytes, h->len);
}
