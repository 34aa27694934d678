#include "client/ssh_keys.h"

#include <errno.h>
#include <libssh/callbacks.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cijqemu/cleanup.h"
#include "client/host.h"
#include "client/quote.h"
#include "client/ssh_ask.h"
#include "client/ssh_login.h"

/* A mistyped password is forgiven this often, as by ssh. */
#define PASSWORD_TRIES 3

/* Tried in this order, as ssh does. */
static const char *const default_keys[] = {"id_ed25519", "id_ecdsa", "id_rsa"};

/* libssh keeps the address. */
static struct ssh_callbacks_struct no_callbacks = {.size = sizeof(no_callbacks)};

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

/* As read_key(), of a file on the host where the guest runs: by the user's own rights there. */
static ssh_key
read_key_there(struct ssh_link *l, const char *path, struct tried *tried)
{
	_cleanup_free_ char *quoted = shell_quote(path, false), *command = NULL, *text = NULL;
	struct cij_error err = CIJ_ERROR_INIT;
	ssh_key key = NULL;
	size_t len;

	if (asprintf(&command, "cat < %s", quoted) < 0)
		abort();
	text = host_run(command, -1, &len, l->deadline, &err);
	if (!text)
		note(tried, "key %s there: %s", path, err.desc);
	else if (ssh_pki_import_privkey_base64(text, NULL, NULL, NULL, &key) != SSH_OK)
		note(tried, "%s there is no private key that libssh reads without a passphrase",
			path);
	if (text)
		explicit_bzero(text, len);
	return key;
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
			if (!ssh_is_connected((link)->session) || \
				ssh_link_wait((link), "logging in", (err)) < 0) { \
				_rc = SSH_AUTH_ERROR; \
				break; \
			} \
		_rc; \
	})

/* Tries one key, taken over. @name: of messages. As try_key(). */
static int
try_loaded(struct ssh_link *l, ssh_key loaded, const char *name, struct tried *tried,
	struct cij_error *err)
{
	_cleanup_(cleanup_key)
	ssh_key key = loaded;
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
	note(tried, rc == SSH_AUTH_PARTIAL ? "key %s is not enough" : "key %s is refused", name);
	return 0;
}

/* Tries one key file. Returns 1 when in, 0 when not, -1 when nothing else need be tried. */
static int
try_key(struct ssh_link *l, const char *path, bool must, struct tried *tried, struct cij_error *err)
{
	return try_loaded(l, read_key(path, must, tried), path, tried, err);
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
	if (!ssh_is_connected(l->session)) /* servers hang up after a few */
		return ssh_link_failed(l, "logging in with ssh-agent's keys", err);
	note(tried, "none of ssh-agent's keys is taken");
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

/* A passphrase for a key of the user's. */
static int
ask_passphrase(const char *prompt, char *buf, size_t len, int echo, int verify, void *arg)
{
	return ssh_ask(arg, "passphrase of the key: ", false, buf, len);
}

/* The agent's keys and those that the user's ssh_config names, by libssh. As try_key(). */
static int
try_configured(struct ssh_link *l, struct tried *tried, struct cij_error *err)
{
	struct ssh_callbacks_struct callbacks = {.userdata = l, .auth_function = ask_passphrase};
	int rc;

	ssh_callbacks_init(&callbacks);
	if (!l->no_prompt)
		ssh_set_callbacks(l->session, &callbacks);
	rc = TRY(l, ssh_userauth_publickey_auto(l->session, NULL, NULL), err);
	if (!l->no_prompt) {
		callbacks.auth_function = NULL;
		ssh_set_callbacks(l->session, &no_callbacks);
	}
	if (rc == SSH_AUTH_SUCCESS)
		return 1;
	if (err->class == CIJ_E_TIMEOUT)
		return -1;
	if (!ssh_is_connected(l->session))
		return ssh_link_failed(l, "logging in", err);
	note(tried, "ssh-agent's keys and those of ~/.ssh");
	return 0;
}

/* A password, asked for up to three times. As try_key(). */
static int
try_password(struct ssh_link *l, const char *user, struct tried *tried, struct cij_error *err)
{
	const char *at = strrchr(l->guest, '@');
	char question[256], secret[512];
	int rc = SSH_AUTH_DENIED;

	/* A host of --host may have been named with its user. */
	snprintf(question, sizeof(question), "%s@%s's password: ", user, at ? at + 1 : l->guest);
	for (int i = 0; i < PASSWORD_TRIES && rc != SSH_AUTH_SUCCESS && rc != SSH_AUTH_PARTIAL;
		i++) {
		if (ssh_ask(l, question, false, secret, sizeof(secret)) < 0)
			break;
		rc = TRY(l, ssh_userauth_password(l->session, NULL, secret), err);
		explicit_bzero(secret, sizeof(secret));
		if (err->class == CIJ_E_TIMEOUT || !ssh_is_connected(l->session))
			break;
	}
	if (rc == SSH_AUTH_SUCCESS)
		return 1;
	if (rc == SSH_AUTH_ERROR)
		return err->class != CIJ_E_NONE ? -1 : ssh_link_failed(l, "logging in", err);
	note(tried,
		rc == SSH_AUTH_PARTIAL ? "a password is not enough" : "no password that it takes");
	return 0;
}

/* Questions of the server's own, one round after the other. As try_key(). */
static int
try_questions(struct ssh_link *l, struct tried *tried, struct cij_error *err)
{
	char answer[512], echo;
	int rc;

	for (int i = 0; i < PASSWORD_TRIES; i++) {
		while ((rc = TRY(l, ssh_userauth_kbdint(l->session, NULL, NULL), err)) ==
			SSH_AUTH_INFO) {
			int n = ssh_userauth_kbdint_getnprompts(l->session);

			for (int q = 0; q < n; q++) {
				const char *prompt = ssh_userauth_kbdint_getprompt(
					l->session, q, &echo);

				if (ssh_ask(l, prompt ? prompt : "? ", echo, answer,
					    sizeof(answer)) < 0) {
					note(tried, "it asks questions, and nobody answers");
					return 0;
				}
				(void)ssh_userauth_kbdint_setanswer(l->session, q, answer);
				explicit_bzero(answer, sizeof(answer));
			}
		}
		if (rc == SSH_AUTH_SUCCESS)
			return 1;
		if (rc == SSH_AUTH_ERROR)
			return err->class != CIJ_E_NONE ? -1
							: ssh_link_failed(l, "logging in", err);
	}
	note(tried, "no answer that it takes");
	return 0;
}

int
ssh_keys_login(struct ssh_link *l, const char *user, const char *own, struct cij_error *err)
{
	struct tried tried = {{0}, 0};
	int rc = 0, methods;

	err->class = CIJ_E_NONE;
	if (own && host_active())
		rc = try_loaded(l, read_key_there(l, own, &tried), own, &tried, err);
	else if (own)
		rc = try_key(l, own, true, &tried, err);
	if (rc == 0 && l->own_host)
		rc = try_configured(l, &tried, err);
	if (rc == 0 && !l->own_host)
		rc = try_agent(l, &tried, err);
	if (rc == 0 && !l->own_host)
		rc = try_default_keys(l, &tried, err);
	if (rc == 0 && TRY(l, ssh_userauth_none(l->session, NULL), err) == SSH_AUTH_SUCCESS)
		rc = 1;
	methods = rc == 0 ? ssh_userauth_list(l->session, NULL) : 0;
	if (rc == 0 && methods & SSH_AUTH_METHOD_PASSWORD) {
		rc = try_password(l, user, &tried, err);
		/* Where a password is not enough, something else is asked for behind it. */
		methods = rc == 0 ? ssh_userauth_list(l->session, NULL) : 0;
		if (methods & SSH_AUTH_METHOD_PASSWORD)
			methods = 0;
	}
	if (rc == 0 && methods & SSH_AUTH_METHOD_INTERACTIVE)
		rc = try_questions(l, &tried, err);
	if (rc > 0)
		return 0;
	if (rc < 0 || err->class == CIJ_E_TIMEOUT)
		return -1;
	cij_error_set(err, l->own_host ? CIJ_E_UNREACHABLE : CIJ_E_DENIED,
		"%s: logging in at %s as '%s' failed: it takes no key that we have%s%s", l->guest,
		l->where, user, tried.len ? ": " : "", tried.text);
	if (l->own_host) {
		_cleanup_free_ char *by_hand = ssh_login_by_hand(l->guest);

		return cij_error_hint(err, "'%s' should work first", by_hand);
	}
	return cij_error_hint(err,
		"'cijqemuctl set %s ssh.key=FILE ssh.user=NAME' tells which key and user to take",
		l->guest);
}
