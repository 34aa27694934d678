/* A guest's folder: what it is defined as, what boots, and whether it is a guest at all. */
#include "daemon/guest_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/fileio.h"
#include "daemon/log.h"
#include "daemon/users.h"
#include "proto/text.h"

/* A folder's time is that of the kernel's last tick; where it has whole seconds only, FAT's is the
 * coarsest there is. */
#define TICK_SECONDS 0.02
#define COARSE_TICK_SECONDS 3

#define GUEST_JSON_DEPTH_MAX 16

void
guest_files_clear(struct guest_files *files)
{
	free(files->boot);
	free(files->boot_format);
	free(files->kernel);
	free(files->initrd);
	*files = (struct guest_files){0};
}

/*
 * The group that the folder's owner acts with: the folder's, if it is really one of the owner's. In
 * a set-gid folder of guests every new one gets that folder's group, whoever makes it.
 */
static gid_t
owners_group(const struct guest *guest, const struct stat *folder)
{
	struct stat above;
	gid_t primary;

	if (folder->st_uid == 0 || geteuid() != 0)
		return folder->st_gid;
	if (user_primary_group(folder->st_uid, &primary))
		return user_has_group(folder->st_uid, folder->st_gid) ? folder->st_gid : primary;
	/* Known to NSS alone, or to nobody: the launcher, which may ask, judges once more. */
	if (folder->st_gid == 0 ||
		(fstat(guest->sv->guests_fd, &above) == 0 && above.st_gid == folder->st_gid &&
			folder->st_gid != folder->st_uid))
		return NO_GROUP;
	return folder->st_gid;
}

/* Takes over whose folder it is, as the open folder itself tells. */
static void
take_owner(struct guest *guest, const struct stat *st)
{
	guest->dir_st = *st;
	guest->uid = st->st_uid;
	guest->gid = owners_group(guest, st);
}

/*
 * Opens the folder anew when it is another one than before. Returns false when it is not there. The
 * name may lead to another folder the next moment: whose it is, is asked of what was opened.
 */
static bool
open_folder(struct guest *guest)
{
	struct stat st, opened;

	if (fstatat(guest->sv->guests_fd, guest->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		int saved = errno;

		if (guest->dir_fd >= 0)
			close(guest->dir_fd);
		guest->dir_fd = -1;
		cij_error_errno(&guest->broken, CIJ_E_BAD_CONFIG, saved, "its folder");
		return saved != ENOENT;
	}
	if (guest->dir_fd >= 0 && st.st_ino == guest->dir_st.st_ino &&
		st.st_dev == guest->dir_st.st_dev) {
		/* Whoever owns it now may not be allowed to read what the one before could. */
		if (st.st_uid != guest->dir_st.st_uid)
			guest->read_once = false;
		take_owner(guest, &st);
		return true;
	}
	if (guest->dir_fd >= 0)
		close(guest->dir_fd);
	guest->read_once = false;
	take_owner(guest, &st);
	guest->dir_fd = dir_open_at(guest->sv->guests_fd, guest->name);
	if (guest->dir_fd >= 0 && fstat(guest->dir_fd, &opened) == 0)
		take_owner(guest, &opened);
	if (S_ISLNK(st.st_mode))
		cij_error_set(&guest->broken, CIJ_E_BAD_CONFIG, "its folder is a symbolic link");
	else if (guest->dir_fd < 0)
		cij_error_errno(&guest->broken, CIJ_E_BAD_CONFIG, errno, "its folder");
	return true;
}

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/*
 * Reads guest.json into *@json (NULL: there is none). Returns 0, or -1 with BadConfig. As the
 * owner.
 */
static int
read_json(struct guest *guest, struct json_object **json, struct stat *st, struct cij_error *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;

	*json = NULL;
	*st = (struct stat){0};
	text = file_read_at(guest->dir_fd, "guest.json", GUEST_JSON_MAX, &len, st);
	if (!text) {
		st->st_ino = 0;
		if (errno == ENOENT)
			return 0;
		if (errno == ELOOP)
			return cij_error_set(err, CIJ_E_BAD_CONFIG,
				"guest.json is a symbolic link: not followed");
		if (errno == EINVAL)
			return cij_error_set(
				err, CIJ_E_BAD_CONFIG, "guest.json is no regular file");
		return cij_error_errno(err, CIJ_E_BAD_CONFIG, errno, "guest.json");
	}
	*json = cij_json_parse(text, len, GUEST_JSON_DEPTH_MAX, err);
	if (!*json) {
		if (err->class == CIJ_E_NONE)
			cij_error_set(err, CIJ_E_BAD_CONFIG, "must be an object, not null");
		err->class = CIJ_E_BAD_CONFIG;
		return cij_error_prefix(err, "guest.json");
	}
	return 0;
}

/* Whether the file exists, as the owner sees it. */
static bool
has_file(const struct guest *guest, const char *name)
{
	struct stat st;

	return fstatat(guest->dir_fd, name, &st, 0) == 0 && S_ISREG(st.st_mode);
}

/* The file that @key of guest.json names must be there and regular. */
static void
check_file(
	const struct guest *guest, const char *key, const char *name, struct cij_problems *problems)
{
	char clean[256];
	struct stat st;

	cij_text_clean(name, clean, sizeof(clean));
	if (fstatat(guest->dir_fd, name, &st, 0) < 0)
		cij_problems_add(problems, key, "names '%s': %s", clean, strerror(errno));
	else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		cij_problems_add(problems, key, "names '%s', which is no regular file", clean);
}

static const char *
format_by_name(const char *name)
{
	size_t n = strlen(name);

	return n > 6 && strcmp(name + n - 6, ".qcow2") == 0 ? "qcow2" : "raw";
}

/* What boots: by guest.json, else by the names of the folder's files. As the owner. */
static void
find_files(const struct guest *guest, const struct guest_conf *conf, struct guest_files *files,
	struct cij_problems *problems)
{
	static const char *const images[] = {"boot.qcow2", "boot.img"};

	if (conf->boot.image) {
		check_file(guest, "boot.image", conf->boot.image, problems);
		files->boot = str_copy(conf->boot.image);
	}
	for (size_t i = 0; !files->boot && i < cij_array_size(images); i++)
		if (has_file(guest, images[i]))
			files->boot = str_copy(images[i]);
	if (files->boot)
		files->boot_format = str_copy(
			conf->boot.format ? conf->boot.format : format_by_name(files->boot));
	if (conf->kernel.image) {
		check_file(guest, "kernel.image", conf->kernel.image, problems);
		files->kernel = str_copy(conf->kernel.image);
	} else if (has_file(guest, "bzImage")) {
		files->kernel = str_copy("bzImage");
	}
	if (conf->kernel.initrd) {
		check_file(guest, "kernel.initrd", conf->kernel.initrd, problems);
		files->initrd = str_copy(conf->kernel.initrd);
	} else if (files->kernel && has_file(guest, "initrd.img")) {
		files->initrd = str_copy("initrd.img");
	}
	if (files->boot || files->kernel)
		return;
	cij_problems_add(problems, "", "no boot image and no kernel");
	cij_problems_hint(problems,
		"put a boot.qcow2, boot.img or bzImage into the folder, or name one as "
		"boot.image or kernel.image");
}

/* The definition @json with the folder as it is. As the owner. */
static void
define(const struct guest *guest, struct json_object *json, struct guest_conf *conf,
	struct guest_files *files, struct cij_problems *problems)
{
	guest_conf_decode(conf, json, problems);
	/* What is wrong elsewhere hides nothing here. */
	if (!cij_problems_below(problems, "boot") && !cij_problems_below(problems, "kernel"))
		find_files(guest, conf, files, problems);
}

/* A drive's files of errors and chunk states, line by line. As the owner. */
static void
check_inject_files(const struct guest *guest, const struct device_conf *d, size_t i,
	struct cij_problems *problems)
{
	for (int kind = 0; kind < INJECT_KINDS; kind++) {
		const char *file = inject_file(d, kind);
		_cleanup_free_ char *path = NULL, *text = NULL;
		struct cij_error err;
		char clean[256];
		size_t len;

		if (!file)
			continue;
		path = str_printf("devices[%zu].%s", i, inject_file_key(kind));
		text = file_read_at(guest->dir_fd, file, INJECT_FILE_MAX, &len, NULL);
		if (!text)
			cij_problems_add(problems, path, "names '%s': %s",
				cij_text_clean(file, clean, sizeof(clean)), strerror(errno));
		else if (strlen(text) != len)
			cij_problems_add(problems, path, "has NUL characters in it");
		else if (inject_check_text(d, kind, text, &err) < 0)
			cij_problems_add(problems, path, "%s", err.desc);
	}
}

/* What stands in files beside guest.json, and what this QEMU cannot do (@caps NULL: not known). */
static void
check_devices(const struct guest *guest, const struct guest_conf *conf, const char *qemu,
	const struct qemu_caps *caps, struct cij_problems *problems)
{
	const struct device_conf *devices = conf->devices.items;
	enum image_format format;
	struct cij_error err;

	for (size_t i = 0; i < conf->devices.n; i++) {
		_cleanup_free_ char *path = str_printf("devices[%zu]", i);

		if (cij_problems_below(problems, path))
			continue;
		check_inject_files(guest, &devices[i], i, problems);
		if (!caps || (dialect_check(caps, &devices[i], qemu, &format, &err) == 0 &&
				     image_check(guest->dir_fd, guest->name, &devices[i], format,
					     &err) == 0))
			continue;
		cij_problems_add(problems, path, "%s", err.desc);
		if (*err.hint)
			cij_problems_hint(problems, "%s", err.hint);
	}
}

/*
 * As has_file(), by whoever may be asking. What lies in the folder itself its owner may see, and
 * becoming the owner takes longer than the looking; where a path or a link leads, only the owner's
 * rights may tell.
 */
static bool
still_has_file(const struct guest *guest, const char *name)
{
	struct stat st;

	if (!strchr(name, '/') && fstatat(guest->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		!S_ISLNK(st.st_mode))
		return S_ISREG(st.st_mode);
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest->uid, guest->gid);
	return has_file(guest, name);
}

/*
 * Whether all is as it was when the definition was read. A definition that works is kept until it
 * changes; a broken one is looked at each time.
 */
static bool
is_as_it_was(const struct guest *guest)
{
	struct stat st = {0};

	if (!guest->read_once || guest->broken.class != CIJ_E_NONE ||
		guest->names_at.tv_sec != guest->dir_st.st_mtim.tv_sec ||
		guest->names_at.tv_nsec != guest->dir_st.st_mtim.tv_nsec)
		return false;
	if (fstatat(guest->dir_fd, "guest.json", &st, AT_SYMLINK_NOFOLLOW) < 0)
		st = (struct stat){0};
	return same_file(&st, &guest->json_st) &&
	       (!guest->files.boot || still_has_file(guest, guest->files.boot)) &&
	       (!guest->files.kernel || still_has_file(guest, guest->files.kernel));
}

/*
 * Files are found by their names, and a name that comes or goes is seen by the folder's time; but
 * not within the tick of the clock in which that was read: what is as young as that tells nothing.
 */
static struct timespec
time_of_names(const struct guest *guest)
{
	struct timespec at = guest->dir_st.st_mtim, now;
	double age;

	clock_gettime(CLOCK_REALTIME, &now);
	age = (double)(now.tv_sec - at.tv_sec) + (double)(now.tv_nsec - at.tv_nsec) / 1e9;
	return age > (at.tv_nsec ? TICK_SECONDS : COARSE_TICK_SECONDS) ? at : (struct timespec){0};
}

/* Reads the definition anew. */
static void
read_definition(struct guest *guest)
{
	_cleanup_problems_ struct cij_problems problems = {0};
	_cleanup_json_ struct json_object *json = NULL;
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest->uid, guest->gid);

	guest->read_once = true;
	guest->broken.class = CIJ_E_NONE;
	guest->names_at = time_of_names(guest);
	guest_conf_clear(&guest->conf);
	guest_files_clear(&guest->files);
	if (read_json(guest, &json, &guest->json_st, &guest->broken) < 0) {
		guest_conf_decode(&guest->conf, NULL, &problems);
		return;
	}
	define(guest, json, &guest->conf, &guest->files, &problems);
	if (problems.n == 0)
		return;
	cij_problems_to_error(&problems, CIJ_E_BAD_CONFIG, &guest->broken);
	/* Half of a definition is none: nothing of it is shown or used. */
	guest_conf_clear(&guest->conf);
	guest_files_clear(&guest->files);
	cij_problems_clear(&problems);
	guest_conf_decode(&guest->conf, NULL, &problems);
}

void
guest_use_definition_of_run(struct guest *guest)
{
	_cleanup_problems_ struct cij_problems problems = {0};
	struct guest_conf conf;

	if (!guest->run.config)
		return;
	if (guest_conf_decode(&conf, guest->run.config, &problems) < 0) {
		/* Of an older or a newer version: the file is all there is. */
		guest_conf_clear(&conf);
		return;
	}
	guest_conf_clear(&guest->conf);
	guest->conf = conf;
}

void
guest_read_run(struct guest *guest, unsigned number)
{
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest->uid, guest->gid);

	if (number == 0)
		number = run_newest(guest->dir_fd);
	run_clear(&guest->run);
	if (number == 0 || run_load(guest->dir_fd, number, &guest->run) < 0) {
		guest->run.number = number;
		guest->reason = number ? GR_LOST : GR_NEVER_STARTED;
		if (number)
			guest->run.error = str_printf(
				"the record of run %u cannot be read: how it ended is not known",
				number);
		return;
	}
	/* A record without an end is that of a run whose end nobody saw (or that still runs). */
	guest->reason = guest->run.ended && guest->run.reason != GR_NONE ? guest->run.reason
									 : GR_LOST;
	if (guest->run.ended)
		guest->since = guest->run.ended;
}

bool
guest_refresh(struct guest *guest)
{
	bool first = !guest->read_once, there;

	if (guest->unsaved)
		guest_save_run(guest);
	/* What runs keeps the definition and the folder that it was started with. */
	if (guest->state != GS_STOPPED && guest->state != GS_BROKEN)
		return true;
	there = open_folder(guest);
	if (guest->dir_fd >= 0) {
		if (first || !guest->read_once)
			guest_read_run(guest, 0);
		if (!is_as_it_was(guest))
			read_definition(guest);
	} else if (first) {
		_cleanup_problems_ struct cij_problems problems = {0};

		guest->read_once = true;
		guest_conf_clear(&guest->conf);
		guest_conf_decode(&guest->conf, NULL, &problems);
	}
	if (guest->broken.class != CIJ_E_NONE && guest->state == GS_STOPPED)
		guest_step(guest, GE_BREAK);
	else if (guest->broken.class == CIJ_E_NONE && guest->state == GS_BROKEN)
		guest_step(guest, GE_MEND);
	return there;
}

struct json_object *
guest_config_read(struct guest *guest, struct cij_error *err)
{
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest->uid, guest->gid);
	struct json_object *json;
	struct stat st;

	err->class = CIJ_E_NONE;
	if (guest->dir_fd < 0) {
		*err = guest->broken;
		return NULL;
	}
	read_json(guest, &json, &st, err);
	return json;
}

int
guest_config_write(struct guest *guest, struct json_object *config, struct cij_error *err)
{
	_cleanup_problems_ struct cij_problems problems = {0};
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest->uid, guest->gid);
	_cleanup_free_ char *text = NULL;
	struct guest_files files = {0};
	struct guest_conf conf;
	size_t len;

	if (guest->dir_fd < 0) {
		*err = guest->broken;
		return -1;
	}
	define(guest, config, &conf, &files, &problems);
	check_devices(guest, &conf, NULL, NULL, &problems);
	guest_conf_clear(&conf);
	guest_files_clear(&files);
	if (problems.n > 0)
		return cij_problems_to_error(&problems, CIJ_E_BAD_CONFIG, err);
	text = str_printf("%s\n", json_object_to_json_string_ext(config,
					  JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
						  JSON_C_TO_STRING_NOSLASHESCAPE));
	len = strlen(text);
	if (len > GUEST_JSON_MAX)
		return cij_error_set(err, CIJ_E_BAD_CONFIG,
			"guest.json would have %zu bytes: at most %d", len, GUEST_JSON_MAX);
	if (file_write_at(guest->dir_fd, "guest.json", text, len, 0644) < 0)
		return cij_error_errno(err, CIJ_E_NO_RESOURCES, errno, "cannot write guest.json");
	return 0;
}

struct json_object *
guest_config_begin(struct guest *guest, struct cij_error *err)
{
	_cleanup_json_ struct json_object *config = guest_config_read(guest, err);

	if (!config && err->class == CIJ_E_NONE)
		return json_object_new_object();
	if (config && !json_object_is_type(config, json_type_object)) {
		cij_error_set(err, CIJ_E_BAD_CONFIG, "guest.json holds no object");
		return NULL;
	}
	return steal_ptr(config);
}

int
guest_config_change(struct guest *guest, struct json_object *changes, struct cij_error *err)
{
	_cleanup_json_ struct json_object *config = guest_config_begin(guest, err);

	if (!config || guest_conf_apply(config, changes, err) < 0 ||
		guest_config_write(guest, config, err) < 0)
		return -1;
	guest_refresh(guest);
	return 0;
}

/* What the definition asks of QEMU: @why there is none that works, where @caps are NULL. */
static void
check_qemu(const struct guest_conf *conf, const struct qemu_caps *caps, const struct cij_error *why,
	struct cij_problems *problems)
{
	if (why && !cij_problems_below(problems, "qemu_home")) {
		cij_problems_add(problems, conf->qemu_home ? "qemu_home" : "", "%s", why->desc);
		if (*why->hint)
			cij_problems_hint(problems, "%s", why->hint);
	}
	if (caps && conf->accel == ACCEL_KVM && !caps->kvm) {
		cij_problems_add(problems, "accel", "is kvm, but %s", caps->kvm_why);
		cij_problems_hint(problems, "set accel to auto or tcg");
	}
}

char *
guest_qemu_on_disk(struct guest *guest, struct cij_error *err)
{
	_cleanup_problems_ struct cij_problems problems = {0};
	_cleanup_json_ struct json_object *json = NULL;
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest->uid, guest->gid);
	struct guest_conf conf;
	struct stat st;
	char *qemu = NULL;

	err->class = CIJ_E_NONE;
	if (guest->dir_fd < 0 || read_json(guest, &json, &st, err) < 0) {
		err->class = CIJ_E_NONE; /* guest_problems() tells that */
		return NULL;
	}
	guest_conf_decode(&conf, json, &problems);
	if (!cij_problems_below(&problems, "qemu_home"))
		qemu = probe_find_qemu(conf.qemu_home, guest->sv->conf->qemu_home, err);
	guest_conf_clear(&conf);
	return qemu;
}

void
guest_problems(struct guest *guest, const char *qemu, const struct qemu_caps *caps,
	const struct cij_error *why, struct cij_problems *problems)
{
	_cleanup_json_ struct json_object *json = NULL;
	_cleanup_as_owner_ struct as_owner as = as_owner_begin(guest->uid, guest->gid);
	struct guest_files files = {0};
	struct guest_conf conf;
	struct cij_error err;
	struct stat st;

	if (guest->dir_fd < 0) {
		cij_problems_add(problems, "", "%s", guest->broken.desc);
		return;
	}
	if (read_json(guest, &json, &st, &err) < 0) {
		cij_problems_add(problems, "", "%s", err.desc);
		return;
	}
	define(guest, json, &conf, &files, problems);
	check_devices(guest, &conf, qemu, caps, problems);
	check_qemu(&conf, caps, why, problems);
	guest_conf_clear(&conf);
	guest_files_clear(&files);
}

void
guest_seen(struct guest *guest, unsigned mark, ino_t inode)
{
	struct stat st;

	guest->scan_mark = mark;
	if (guest_is_down(guest) || guest->dir_fd < 0 || inode == guest->dir_st.st_ino)
		return;
	/* Where something is mounted the folder tells of what is below. */
	if (fstatat(guest->sv->guests_fd, guest->name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		st.st_ino != guest->dir_st.st_ino || st.st_dev != guest->dir_st.st_dev)
		guest->scan_mark = mark - 1;
}

bool
guest_is_missing(const struct guest *guest, unsigned mark)
{
	return !guest_is_down(guest) && guest->scan_mark != mark;
}

ino_t
guest_inode(const struct guest *guest)
{
	return guest->dir_st.st_ino;
}

void
guest_set_folder_gone(struct guest *guest, bool gone)
{
	if (guest->folder_gone == gone)
		return;
	guest->folder_gone = gone;
	if (gone)
		log_id(LOG_ID_FOLDER, LOG_WARNING,
			"guest '%s': its folder was renamed or removed while it runs", guest->name);
	else
		log_id(LOG_ID_FOLDER, LOG_NOTICE, "guest '%s': its folder is there again",
			guest->name);
}

void
guest_rename(struct guest *guest, const char *name)
{
	log_id(LOG_ID_FOLDER, LOG_NOTICE, "guest '%s': its folder was renamed to '%s'", guest->name,
		name);
	renameat(guest->sv->run_fd, guest->name, guest->sv->run_fd, name);
	lease_rename(guest->sv->leases, guest->name, name);
	str_replace(&guest->name, name);
	free(guest->path);
	guest->path = str_printf("%s/%s", guest->sv->conf->guests_dir, name);
	guest_make_uuid(guest); /* for the next run */
	guest->folder_gone = false;
}
