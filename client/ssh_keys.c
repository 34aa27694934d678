#include "client/ssh_keys.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cijqemu/cleanup.h"

/* Tried in this order, as ssh does. */
static const char *const default_keys[] = {"id_ed25519", "id_ecdsa", "id_rsa"};

/* What was tried, and what came of it: the user's way to the cause. */
struct tried {
	char text[CIJ_ERROR_DESC_MAX / 2];
	size_t len;
};

__attribute__((format(printf, 2, 3))) static void
note(struct tried *tried, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (tried->len > 0 && tried->len + 2 < sizeof(tried->text))
		tried->len += snprintf(
			tried->text + tried->len, sizeof(tried->text) - tried->len, "; ");
	va_start(ap, fmt);
	n = vsnprintf(tried->text + tried->len, sizeof(tried->text) - tried->len, fmt, ap);
	va_end(ap);
	tried->len += n;
	if (tried->len >= sizeof(tried->text))
		tried->len = sizeof(tried->text) - 1;
}

/* A key with a passphrase is the agent's business: nobody is asked for it here. */
static int
refuse_passphrase(const char *prompt, char *buf, size_t len, int echo, int verify, void *arg)
{
	*(bool *)arg = true;
	return -1;
}

static void
cleanup_key(ssh_key *key)
{
	ssh_key_free(*key); /* NULL is fine */
}

/* Reads a private key; NULL after noting why not. @must: its absence is worth a note. */
static ssh_key
read_key(const char *path, bool must, struct tried *tried)
{
	bool locked = false;
	ssh_key key = NULL;

	if (access(path, R_OK) < 0) {
		if (must || errno != ENOENT)
			note(tried, "key %s: %s", path, strerror(errno));
		return NULL;
	}
	if (ssh_pki_import_privkey_file(path, NULL, refuse_passphrase, &locked, &key) == SSH_OK)
		return key;
	if (locked)
		note(tried, "key %s has a passphrase (ssh-add it)", path);
	else
		note(tried, "%s is no private key that libssh reads", path);
	return NULL;
}

/* Waits out one way of logging in. Returns SSH_AUTH_*; -1 with an error when time is up. */
#define TRY(link, call, err) \
	({ \
		int _rc; \
		while ((_rc = (call)) == SSH_AUTH_AGAIN) \
			if (ssh_link_wait((link), "logging in", (err)) < 0) { \
				_rc = SSH_AUTH_ERROR; \
				break; \
			} \
		_rc; \
	})

/* Tries one key file. Returns 1 when in, 0 when not, -1 when nothing else need be tried. */
static int
try_key(struct ssh_link *l, const char *path, bool must, struct tried *tried, struct cij_error *err)
{
	_cleanup_(cleanup_key)
	ssh_key key = read_key(path, must, tried);
	int rc;

	if (!key)
		return 0;
	rc = TRY(l, ssh_userauth_publickey(l->session, NULL, key), err);
	if (rc == SSH_AUTH_SUCCESS)
		return 1;
	if (rc == SSH_AUTH_ERROR && !ssh_is_connected(l->session))
		return err->class != CIJ_E_NONE ? -1 : ssh_link_failed(l, "logging in", err);
	if (err->class == CIJ_E_TIMEOUT)
		return -1;
	note(tried, "the guest refused key %s", path);
	return 0;
}

/* Tries the keys that ssh-agent has; as try_key(). */
static int
try_agent(struct ssh_link *l, struct tried *tried, struct cij_error *err)
{
	const char *agent = getenv("SSH_AUTH_SOCK");
	int rc;

	if (!agent || !*agent)
		return 0;
	rc = TRY(l, ssh_userauth_agent(l->session, NULL), err);
	if (rc == SSH_AUTH_SUCCESS)
		return 1;
	if (err->class == CIJ_E_TIMEOUT)
		return -1;
	note(tried, "none of ssh-agent's keys");
	return 0;
}

static int
try_default_keys(struct ssh_link *l, struct tried *tried, struct cij_error *err)
{
	const char *home = getenv("HOME");

	for (size_t i = 0; home && i < cij_array_size(default_keys); i++) {
		_cleanup_free_ char *path = NULL;
		int rc;

		if (asprintf(&path, "%s/.ssh/%s", home, default_keys[i]) < 0)
			abort();
		rc = try_key(l, path, false, tried, err);
		if (rc)
			return rc;
	}
	return 0;
}

int
ssh_keys_login(struct ssh_link *l, const char *user, const char *own, struct cij_error *err)
{
	struct tried tried = {{0}, 0};
	int rc = 0;

	err->class = CIJ_E_NONE;
	if (own)
		rc = try_key(l, own, true, &tried, err);
	if (rc == 0)
		rc = try_agent(l, &tried, err);
	if (rc == 0)
		rc = try_default_keys(l, &tried, err);
	if (rc == 0 && TRY(l, ssh_userauth_none(l->session, NULL), err) == SSH_AUTH_SUCCESS)
		rc = 1;
	if (rc > 0)
		return 0;
	if (rc < 0 || err->class == CIJ_E_TIMEOUT)
		return -1;
	cij_error_set(err, CIJ_E_DENIED, "%s: %s lets '%s' in with no key that we have%s%s",
		l->guest, l->where, user, tried.len ? ": " : "", tried.text);
	return cij_error_hint(err,
		"'cijqemuctl set %s ssh.key=FILE ssh.user=NAME' tells which key and user to take",
		l->guest);
}
