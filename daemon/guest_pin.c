/*
 * The SSH host key of a guest, pinned in its folder. The first key that a boot image shows is its
 * own; another one later is somebody else, or an image that was changed by hand: the user decides.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/fileio.h"
#include "daemon/guest_impl.h"
#include "daemon/guest_inside.h"

/* ssh itself may have added lines. */
#define KNOWN_HOSTS_MAX (64 * 1024)

#define HEADING "# pinned by cijqemud:"

/* What the pin was made for, from the file's heading. */
struct pinned {
	char image[96]; /* "" = not known: the line is somebody else's */
	unsigned run;
	bool same; /* one of the keys is the one asked about */
	char *key; /* the first; NULL = there is none */
};

/*
 * The boot image's name for life. A disk is written to by its guest, so only its inode tells; what
 * boots from a kernel alone is told apart by the file's time too. "" when it cannot be seen. As the
 * owner.
 */
static void
image_identity(const struct guest *guest, char *buf, size_t size)
{
	const char *name = guest->files.boot     ? guest->files.boot
			   : guest->files.initrd ? guest->files.initrd
						 : guest->files.kernel;
	struct stat st;

	buf[0] = '\0';
	if (!name || fstatat(guest->dir_fd, name, &st, 0) < 0)
		return;
	if (guest->files.boot)
		snprintf(buf, size, "disk:%llx:%llx", (unsigned long long)st.st_dev,
			(unsigned long long)st.st_ino);
	else
		snprintf(buf, size, "memory:%llx:%llx:%llx:%llx.%09ld",
			(unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
			(unsigned long long)st.st_size, (unsigned long long)st.st_mtim.tv_sec,
			(long)st.st_mtim.tv_nsec);
}

/* Takes one line of known_hosts: "NAME TYPE BASE64 [comment]". */
static void
take_line(struct pinned *p, char *line, const char *key)
{
	size_t len = strlen(key);
	char *at;

	if (strncmp(line, HEADING, strlen(HEADING)) == 0) {
		if (sscanf(line + strlen(HEADING), " run=%u image=%95s", &p->run, p->image) != 2)
			p->image[0] = '\0';
		return;
	}
	at = strchr(line, ' ');
	if (*line == '#' || !at)
		return;
	at++;
	if (strncmp(at, key, len) == 0 && (!at[len] || at[len] == ' '))
		p->same = true;
	if (!p->key)
		p->key = str_copy(at);
}

/* Reads the pin. Returns 0, or -1 with errno when there is a file that cannot be read. */
static int
read_pin(const struct guest *guest, const char *key, struct pinned *p)
{
	_cleanup_free_ char *text = NULL;
	char *line, *rest;
	size_t len;

	*p = (struct pinned){.key = NULL};
	rest = text = file_read_at(guest->dir_fd, GUEST_KNOWN_HOSTS, KNOWN_HOSTS_MAX, &len, NULL);
	if (!text)
		return errno == ENOENT ? 0 : -1;
	while ((line = strsep(&rest, "\n")))
		take_line(p, line, key);
	return 0;
}

static int
write_pin(const struct guest *guest, const char *image, const char *key, struct cij_error *err)
{
	_cleanup_free_ char *text = str_printf("%s run=%u image=%s\n%s %s\n", HEADING,
		guest->run.number, *image ? image : "-", guest->name, key);

	if (file_write_at(guest->dir_fd, GUEST_KNOWN_HOSTS, text, strlen(text), 0644) < 0)
		return cij_error_errno(err, CIJ_E_NO_RESOURCES, errno,
			"cannot pin the SSH host key of guest '%s': '%s/%s'", guest->name,
			guest->path, GUEST_KNOWN_HOSTS);
	return 0;
}

/* "TYPE BASE64" and nothing else: it becomes a line of a file. */
static int
check_key(const char *key, struct cij_error *err)
{
	static const char word[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
				   "+/=-@.";
	size_t type = strspn(key, word), rest;

	rest = key[type] == ' ' ? strspn(key + type + 1, word) : 0;
	if (type > 0 && rest > 0 && !key[type + 1 + rest] && strlen(key) <= GUEST_HOST_KEY_MAX)
		return 0;
	return cij_error_set(err, CIJ_E_BAD_REQUEST, "'key': no SSH public key (TYPE BASE64)");
}

/* Whether the pin speaks of this guest as it is now. */
static bool
is_current(const struct guest *guest, const struct pinned *p, const char *image)
{
	if (!*p->image)
		return true; /* put there by hand */
	/* Runs are counted up: a lower one is another guest's that had the folder's files. */
	if (strcmp(p->image, image) != 0 || p->run > guest->run.number)
		return false;
	/* A system that lives in memory may make itself a key at each boot. */
	return strncmp(image, "memory:", strlen("memory:")) != 0 || p->run == guest->run.number;
}

int
guest_pin_host_key(struct guest *guest, const char *key, bool replace, enum guest_pin *pin,
	char **known, struct cij_error *err)
{
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest->uid, guest->gid);
	char image[96];
	struct pinned p;

	*known = NULL;
	if (check_key(key, err) < 0)
		return -1;
	image_identity(guest, image, sizeof(image));
	if (read_pin(guest, key, &p) < 0)
		return cij_error_errno(err, CIJ_E_NO_RESOURCES, errno,
			"cannot read the pinned SSH host key of guest '%s': '%s/%s'", guest->name,
			guest->path, GUEST_KNOWN_HOSTS);
	*known = p.key;
	if (p.same)
		*pin = PIN_SAME;
	else if (!p.key)
		*pin = PIN_FIRST;
	else if (!is_current(guest, &p, image))
		*pin = PIN_NEW_IMAGE;
	else
		*pin = replace ? PIN_REPLACED : PIN_CHANGED;
	if (*pin == PIN_SAME || *pin == PIN_CHANGED)
		return 0;
	return write_pin(guest, image, key, err);
}
