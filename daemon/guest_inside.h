/* What clients need on their way into a guest, kept in its folder: its SSH host key, its kernel. */
#ifndef DAEMON_GUEST_INSIDE_H
#define DAEMON_GUEST_INSIDE_H

#include "daemon/guest.h"

/* The pinned host key, in ssh's own format: 'ssh -o UserKnownHostsFile=…' reads it too. */
#define GUEST_KNOWN_HOSTS "known_hosts"

/* A public key is "type base64": the longest in use, RSA of 16384 bits, has 2.8 KB. */
#define GUEST_HOST_KEY_MAX 4096

enum guest_pin {
	PIN_SAME, /* the key is the pinned one */
	PIN_FIRST, /* there was none: it is pinned now */
	PIN_NEW_IMAGE, /* the pinned one was another boot image's, or the guest was made anew */
	PIN_REPLACED, /* as asked for */
	PIN_CHANGED, /* it is another key: nothing was changed */
};

/*
 * Compares @key ("ssh-ed25519 AAAA…") with the one pinned for the guest's boot image, and pins it
 * where there is none or @replace. *@known (heap; may be NULL): the pinned one until now. Returns
 * 0, or -1 with BadRequest for what is no key and NoResources when it cannot be written.
 */
int guest_pin_host_key(struct guest *guest, const char *key, bool replace, enum guest_pin *pin,
	char **known, struct cij_error *err);

/*
 * Copies the kernel that @fd (kept open until then) stands for into the guest's folder as bzImage,
 * a block at a time from the loop, and renames it into place when it is whole. @done is called
 * once, from the loop.
 */
typedef void kernel_done_fn(void *arg, const struct cij_error *err);
void guest_install_kernel(struct guest *guest, int fd, kernel_done_fn *done, void *arg);

/* Before the loop ends: what is being copied is given up, and leaves nothing behind. */
void kernel_forget_all(void);

/* Checks that @fd holds a kernel for x86 (Linux boot protocol: "HdrS" at 0x202). */
int kernel_check(int fd, struct cij_error *err);

#endif
