#include "client/cloud.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "client/out.h"
#include "proto/text.h"

/* What "create" of CIJOE's guests, and of those that take its place, logs in as. */
#define CLOUD_USER "root"
#define BOX_USER "vagrant"

/* The longest public key in use is an RSA key of 16384 bits, under 3 KiB. */
#define KEY_MAX (16 * 1024)

#define SEED "seed.img"

bool
cloud_wanted(const struct call *call)
{
	return call_has(call, "cloud-image") || call_has(call, "box");
}

/* What a program that failed has said is read so far to see why. */
#define SAID_MAX (16 * 1024)

/* What is unpacked is moved in blocks of this size. */
#define UNPACK_BLOCK (256 * 1024)

/* Starts a program, its stdout and stderr into @out and @said (-1: ours). Its pid, or -1. */
static pid_t
start(const char *const *argv, int out, int said, struct cij_error *err)
{
	pid_t pid = fork();

	if (pid < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot start '%s'", argv[0]);
	if (pid > 0)
		return pid;
	if (out >= 0)
		(void)dup2(out, STDOUT_FILENO);
	if (said >= 0)
		(void)dup2(said, STDERR_FILENO);
	/* What it says is the user's to read, and ours too. */
	setenv("LC_ALL", "C.UTF-8", 1);
	signal(SIGPIPE, SIG_DFL);
	execvp(argv[0], (char *const *)argv);
	_exit(errno == ENOENT ? 127 : 126);
}

static int
wait_for(pid_t pid, const char *program, struct cij_error *err)
{
	int status;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return cij_error_set(err, CIJ_E_NOT_SUPPORTED, "there is no '%s' here", program);
	return cij_error_set(err, CIJ_E_FAILED, "'%s' failed (%s %d)", program,
		WIFEXITED(status) ? "exit code" : "signal",
		WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

/* "… : No space left on device": the class and the way out are those of a full disk. */
static int
disk_full(int errnum, struct cij_error *err)
{
	char before[CIJ_ERROR_DESC_MAX];

	snprintf(before, sizeof(before), "%s", err->desc);
	cij_error_set(err, CIJ_E_NO_RESOURCES, "%s: %s", before, strerror(errnum));
	return cij_error_hint(err, "the disk is full: make room, then try again");
}

/* Runs a program to its end. What it says on stderr the user reads too; a full disk is told as
 * that. */
static int
run(const char *const *argv, struct cij_error *err)
{
	static const int full[] = {ENOSPC, EDQUOT};
	_cleanup_close_ int said = memfd_create("said", MFD_CLOEXEC);
	char text[SAID_MAX];
	pid_t pid = start(argv, -1, said, err);
	ssize_t n;
	int rc;

	if (pid < 0)
		return -1;
	rc = wait_for(pid, argv[0], err);
	n = said < 0 ? 0 : pread(said, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	fputs(text, stderr);
	for (size_t i = 0; rc < 0 && i < cij_array_size(full); i++)
		if (strstr(text, strerror(full[i])))
			return disk_full(full[i], err);
	return rc;
}

/* All that comes from @from, to @to. */
static int
move_all(int from, int to)
{
	_cleanup_free_ char *block = malloc(UNPACK_BLOCK);
	ssize_t n;

	if (!block)
		abort();
	while ((n = read(from, block, UNPACK_BLOCK)) != 0) {
		if (n < 0 && errno != EINTR)
			return -1;
		if (n > 0 && out_write(to, block, (size_t)n) < 0)
			return -1;
	}
	return 0;
}

/* Runs a program that unpacks something, into @fd. Written by us: it is known why that fails. */
static int
unpack(const char *const *argv, int fd, struct cij_error *err)
{
	struct cij_error ended;
	int pipes[2], failed = 0;
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot start '%s'", argv[0]);
	pid = start(argv, pipes[1], -1, err);
	close(pipes[1]);
	if (pid > 0 && move_all(pipes[0], fd) < 0)
		failed = errno;
	close(pipes[0]);
	if (pid < 0)
		return -1;
	if (!failed)
		return wait_for(pid, argv[0], err);
	(void)wait_for(pid, argv[0], &ended); /* nobody reads what it unpacks: it has ended */
	if (failed != ENOSPC && failed != EDQUOT)
		return cij_error_errno(err, CIJ_E_FAILED, failed, "cannot write");
	cij_error_set(err, CIJ_E_NO_RESOURCES, "cannot write");
	return disk_full(failed, err);
}

/* The full path of the file that @option names. Heap; NULL with an error. */
static char *
option_file(const struct call *call, const char *option, struct cij_error *err)
{
	const char *path = call_value(call, option);
	char *full = realpath(path, NULL);
	struct stat st;

	if (!full || stat(full, &st) < 0) {
		cij_error_errno(err, CIJ_E_BAD_REQUEST, errno, "--%s '%s'", option, path);
	} else if (!S_ISREG(st.st_mode)) {
		cij_error_set(err, CIJ_E_BAD_REQUEST, "--%s '%s' is no file", option, path);
	} else {
		return full;
	}
	free(full);
	return NULL;
}

/* What the beginning of a qcow2 image says (QEMU, docs/interop/qcow2.txt). */
struct qcow2 {
	uint64_t bytes; /* of the disk that it is */
	bool has_others; /* it needs other files, which it names */
};

/* Returns false for what is no such image. */
static bool
read_qcow2(const char *path, struct qcow2 *image)
{
	static const uint64_t external_data = 1 << 2;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct {
		char magic[4];
		uint32_t version;
		uint64_t backing;
		uint32_t backing_len, cluster_bits;
		uint64_t bytes;
		char more[40];
		uint64_t incompatible; /* from version 3 on */
	} head = {{0}};

	if (fd < 0 || read(fd, &head, sizeof(head)) < (ssize_t)offsetof(typeof(head), more) ||
		memcmp(head.magic, "QFI\xfb", 4) != 0)
		return false;
	image->bytes = be64toh(head.bytes);
	image->has_others = head.backing || (be32toh(head.version) >= 3 &&
						    be64toh(head.incompatible) & external_data);
	return true;
}

/*
 * Both halves of the key: --ssh-key may be either. @private stays NULL where only the public one is
 * there: then ssh-agent must have the other.
 */
static int
find_keys(const struct call *call, char **public, char **private, struct cij_error *err)
{
	_cleanup_free_ char *given = option_file(call, "ssh-key", err), *other = NULL;
	size_t n;

	if (!given)
		return -1;
	n = strlen(given);
	if (n > 4 && strcmp(given + n - 4, ".pub") == 0) {
		other = strndup(given, n - 4);
		*public = steal_ptr(given);
		if (access(other, R_OK) == 0)
			*private = steal_ptr(other);
		return 0;
	}
	if (asprintf(&other, "%s.pub", given) < 0)
		abort();
	if (access(other, R_OK) < 0)
		return cij_error_errno(
			err, CIJ_E_BAD_REQUEST, errno, "--ssh-key '%s': its public half", given);
	*public = steal_ptr(other);
	*private = steal_ptr(given);
	return 0;
}

static int
add_key(struct call *call, struct json_object *args, struct cij_error *err)
{
	_cleanup_free_ char *public = NULL, *private = NULL;

	if (find_keys(call, &public, &private, err) < 0)
		return -1;
	if (private)
		cij_json_add_str(args, "ssh.key", private);
	else
		out_note("%s: no private key beside '%s': ssh-agent must have it", call->guest,
			public);
	return 0;
}

int
cloud_arguments(struct call *call, struct json_object *args, struct cij_error *err)
{
	const char *option = call_has(call, "box") ? "box" : "cloud-image";
	const char *user = call_value(call, "user");
	_cleanup_free_ char *image = NULL;
	struct qcow2 header;
	struct json_object *extra;

	if (call_has(call, "box") && call_has(call, "cloud-image"))
		return call_usage(call, err, "either --box or --cloud-image");
	if (call_has(call, "boot"))
		return call_usage(call, err, "--%s is the boot image: no --boot beside it", option);
	if (call->host) {
		call_usage(call, err, "--%s works on the machine itself", option);
		return cij_error_hint(err, "ssh there, and run it there");
	}
	image = option_file(call, option, err);
	if (!image)
		return -1;
	cij_json_add_str(args, "ssh.user",
		user                    ? user
		: call_has(call, "box") ? BOX_USER
					: CLOUD_USER);
	if (call_has(call, "box"))
		return call_has(call, "ssh-key") ? add_key(call, args, err) : 0;
	if (!read_qcow2(image, &header))
		return cij_error_set(
			err, CIJ_E_BAD_REQUEST, "--cloud-image '%s' is no qcow2 image", image);
	if (!call_has(call, "ssh-key"))
		return call_usage(
			call, err, "--cloud-image needs --ssh-key: nobody else could log in");
	if (add_key(call, args, err) < 0)
		return -1;
	extra = json_object_new_array();
	json_object_array_add(extra, json_object_new_string("-drive"));
	json_object_array_add(
		extra, json_object_new_string("file=" SEED ",if=virtio,format=raw,readonly=on"));
	json_object_object_add(args, "extra_args", extra);
	return 0;
}

/* The text of a public key file, without the newline behind it. Heap; NULL with an error. */
static char *
read_public_key(const char *path, struct cij_error *err)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	char *text = malloc(KEY_MAX);
	size_t n;

	if (!text)
		abort();
	n = f ? fread(text, 1, KEY_MAX - 1, f) : 0;
	text[n] = '\0';
	while (n > 0 && strchr(" \r\n", text[n - 1]))
		text[--n] = '\0';
	if (n > 0 && !strchr(text, '\n') && strncmp(text, "-----", 5) != 0 && strchr(text, ' '))
		return text;
	free(text);
	cij_error_set(err, CIJ_E_BAD_REQUEST, "'%s' is no public SSH key of one line", path);
	return NULL;
}

/* Writes "#cloud-config" and @doc: JSON is YAML too, so that nothing need be quoted by hand. */
static int
write_document(int dir, const char *name, const char *heading, struct json_object *doc,
	struct cij_error *err)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	_cleanup_fclose_ FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;

	if (!f ||
		fprintf(f, "%s%s\n", heading,
			json_object_to_json_string_ext(doc,
				JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE)) < 0 ||
		fflush(f) != 0)
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot write '%s'", name);
	return 0;
}

/*
 * cloud-init's "user-data": who is let in. Nothing of passwords: nobody has one, and to change what
 * sshd thinks of them cloud-init restarts it, when people are in already.
 */
static struct json_object *
user_data(const char *user, const char *key)
{
	struct json_object *doc = json_object_new_object(), *users = json_object_new_array();
	struct json_object *one = json_object_new_object(), *keys = json_object_new_array();

	json_object_array_add(keys, json_object_new_string(key));
	cij_json_add_str(one, "name", user);
	json_object_object_add(one, "ssh_authorized_keys", keys);
	if (strcmp(user, "root") != 0) {
		cij_json_add_str(one, "sudo", "ALL=(ALL) NOPASSWD:ALL");
		cij_json_add_str(one, "shell", "/bin/bash");
		cij_json_add_bool(one, "lock_passwd", true);
	}
	json_object_array_add(users, one);
	json_object_object_add(doc, "users", users);
	cij_json_add_bool(doc, "disable_root", false);
	return doc;
}

/* "meta-data": a new instance-id makes cloud-init do its work. */
static struct json_object *
meta_data(const char *guest)
{
	struct json_object *doc = json_object_new_object();
	unsigned random = 0;
	char id[128];

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		random = (unsigned)getpid();
	snprintf(id, sizeof(id), "%s-%08x", guest, random);
	cij_json_add_str(doc, "instance-id", id);
	cij_json_add_str(doc, "local-hostname", guest);
	return doc;
}

/* The seed by whatever tool is there; they all make the same ISO 9660 image labelled "cidata". */
static int
make_iso(const char *seed, const char *user, const char *meta, struct cij_error *err)
{
	const char *const tools[][12] = {
		{"genisoimage", "-quiet", "-output", seed, "-volid", "cidata", "-joliet", "-rock",
			user, meta, NULL},
		{"xorriso", "-as", "mkisofs", "-quiet", "-o", seed, "-V", "cidata", "-J", "-r",
			user, NULL},
		{"cloud-localds", seed, user, meta, NULL},
	};
	const char *xorriso[13];

	for (size_t i = 0; i < cij_array_size(tools); i++) {
		const char *const *argv = tools[i];

		if (i == 1) {
			memcpy(xorriso, tools[1], 11 * sizeof(*xorriso));
			xorriso[11] = meta;
			xorriso[12] = NULL;
			argv = xorriso;
		}
		if (run(argv, err) == 0)
			return 0;
		if (err->class != CIJ_E_NOT_SUPPORTED)
			return -1;
	}
	cij_error_set(err, CIJ_E_NOT_SUPPORTED, "no program here makes the seed image");
	return cij_error_hint(
		err, "apt-get install genisoimage (or xorriso, or cloud-image-utils)");
}

static int
fill_seed(struct call *call, const char *folder, const char *temporary, struct cij_error *err)
{
	_cleanup_close_ int dir = open(temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *public = NULL, *private = NULL, *key = NULL;
	_cleanup_free_ char *seed = NULL, *user = NULL, *meta = NULL;
	_cleanup_json_ struct json_object *users = NULL, *machine = meta_data(call->guest);
	const char *name = call_value(call, "user");

	if (find_keys(call, &public, &private, err) < 0)
		return -1;
	key = read_public_key(public, err);
	if (!key)
		return -1;
	users = user_data(name ? name : CLOUD_USER, key);
	if (asprintf(&seed, "%s/" SEED, folder) < 0 ||
		asprintf(&user, "%s/user-data", temporary) < 0 ||
		asprintf(&meta, "%s/meta-data", temporary) < 0)
		abort();
	if (dir < 0 || write_document(dir, "user-data", "#cloud-config\n", users, err) < 0 ||
		write_document(dir, "meta-data", "", machine, err) < 0)
		return -1;
	return make_iso(seed, user, meta, err);
}

static int
make_seed(struct call *call, const char *folder, struct cij_error *err)
{
	const char *tmp = getenv("TMPDIR");
	_cleanup_free_ char *temporary = NULL, *file = NULL;
	int rc;

	if (asprintf(&temporary, "%s/cijqemu-seed.XXXXXX", tmp && *tmp ? tmp : "/tmp") < 0)
		abort();
	if (!mkdtemp(temporary))
		return cij_error_errno(err, CIJ_E_FAILED, errno, "cannot make '%s'", temporary);
	rc = fill_seed(call, folder, temporary, err);
	for (const char *const *name = (const char *const[]){"user-data", "meta-data", NULL}; *name;
		name++) {
		free(file);
		file = NULL;
		if (asprintf(&file, "%s/%s", temporary, *name) < 0)
			abort();
		(void)unlink(file);
	}
	(void)rmdir(temporary);
	return rc;
}

/* boot.qcow2 as an overlay: the image itself stays as it is, and serves many guests. */
static int
make_overlay(struct call *call, const char *folder, struct cij_error *err)
{
	_cleanup_free_ char *image = option_file(call, "cloud-image", err), *boot = NULL;
	const char *size = call_value(call, "disk");
	struct qcow2 header;
	int64_t bytes;

	if (!image)
		return -1;
	if (size && cij_size_parse(size, &bytes) < 0)
		return call_usage(call, err, "--disk takes a size such as 20G, not '%s'", size);
	if (size && read_qcow2(image, &header) && (uint64_t)bytes < header.bytes) {
		cij_error_set(err, CIJ_E_BAD_REQUEST,
			"--disk %s is less than the image's own %" PRIu64 " bytes", size,
			header.bytes);
		return cij_error_hint(err, "what is behind its end would be lost: more, or none");
	}
	if (asprintf(&boot, "%s/boot.qcow2", folder) < 0)
		abort();
	return run((const char *const[]){"qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2",
			   "-b", image, boot, size, NULL},
		err);
}

/* boot.qcow2 out of a box: box.img in a tar archive, compressed or not. */
static int
unpack_box(struct call *call, const char *folder, struct cij_error *err)
{
	_cleanup_free_ char *box = option_file(call, "box", err), *part = NULL, *boot = NULL;
	_cleanup_close_ int fd = -1;
	struct qcow2 header;
	int rc;

	if (!box)
		return -1;
	if (asprintf(&part, "%s/.boot.qcow2.part", folder) < 0 ||
		asprintf(&boot, "%s/boot.qcow2", folder) < 0)
		abort();
	fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return cij_error_errno(err, CIJ_E_NO_RESOURCES, errno, "cannot write '%s'", part);
	rc = unpack((const char *const[]){"tar", "-x", "-O", "-f", box, "--wildcards",
			    "--no-anchored", "box.img", NULL},
		fd, err);
	if (rc == 0 && !read_qcow2(part, &header))
		rc = cij_error_set(
			err, CIJ_E_BAD_REQUEST, "--box '%s': its box.img is no qcow2 image", box);
	else if (rc == 0 && header.has_others) /* somebody's file would be read into the guest */
		rc = cij_error_set(err, CIJ_E_BAD_REQUEST,
			"--box '%s': its box.img names another file that it needs: not one of a "
			"box",
			box);
	else if (rc < 0)
		cij_error_prefix(err, "--box '%s': no box.img could be unpacked", box);
	if (rc == 0 && rename(part, boot) < 0)
		rc = cij_error_errno(err, CIJ_E_NO_RESOURCES, errno, "'%s'", boot);
	if (rc < 0)
		(void)unlink(part);
	return rc;
}

int
cloud_make(struct call *call, const char *folder, struct cij_error *err)
{
	if (!folder)
		return cij_error_set(err, CIJ_E_PROTOCOL, "the daemon gave the guest no folder");
	if (call_has(call, "box"))
		return unpack_box(call, folder, err);
	if (make_overlay(call, folder, err) < 0)
		return -1;
	return make_seed(call, folder, err);
}
