/*
 * A guest's known_hosts, which its owner or ssh may have written to: a key that was pinned is the
 * pinned one from then on, and one that is refused changes nothing.
 */
#include "tests/fuzz/files.h"

#include "daemon/guest_impl.h"
#include "daemon/guest_inside.h"

static enum guest_pin
pin(struct guest *guest, const char *key, bool replace, char **known)
{
	enum guest_pin what;
	struct cij_error err;

	if (guest_pin_host_key(guest, key, replace, &what, known, &err) < 0)
		abort();
	return what;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char ours[] = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5";
	struct guest guest = {.name = "g", .path = "/g", .uid = geteuid(), .gid = getegid()};
	_cleanup_free_ char *known = NULL, *before = NULL, *after = NULL, *text = NULL;
	struct cij_error err;
	enum guest_pin what;
	size_t len;

	if (size < 1)
		return 0;
	guest.dir_fd = files_folder();
	guest.run.number = data[0] >> 2;
	guest.files.boot = data[0] & 2 ? "boot.img" : NULL;
	files_put(guest.dir_fd, "boot.img", "", 0);
	files_put(guest.dir_fd, GUEST_KNOWN_HOSTS, data + 1, size - 1);
	what = pin(&guest, ours, data[0] & 1, &before);
	if (what == PIN_CHANGED) {
		/* It is shown to people: one line. */
		if (!before || strchr(before, '\n'))
			abort();
		text = file_read_at(guest.dir_fd, GUEST_KNOWN_HOSTS, 65536, &len, NULL);
		if (!text || len != size - 1 || memcmp(text, data + 1, len) != 0)
			abort();
	} else if (pin(&guest, ours, false, &known) != PIN_SAME || !known) {
		abort();
	}
	/* As a key that a guest has shown. */
	text = (free(text), strndup((const char *)data + 1, size - 1));
	if (guest_pin_host_key(&guest, text, true, &what, &after, &err) == 0) {
		free(after);
		if (pin(&guest, text, false, &after) != PIN_SAME)
			abort();
	}
	return 0;
}
