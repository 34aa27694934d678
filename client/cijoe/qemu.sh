#!/usr/bin/env bash
# CIJOE's qemu and ssh modules on top of cijqemuctl: source this in place of CIJOE's qemu.sh (and of
# its ssh.sh, for targets that are such guests). The functions are there under both spellings,
# 'qemu::run' (2018) and 'qemu.run' (later), and read the same variables:
#
#   QEMU_GUEST_NAME   which guest; the others are taken by 'cijqemuctl import' when it is first run
#   QEMU_HOST, QEMU_HOST_USER, QEMU_HOST_PORT   the machine that runs it, where that is another
#   SSH_HOST, SSH_PORT, SSH_USER                set by qemu::env and qemu::run
#
# Each returns 0 when it did what it says, else cijqemuctl's exit code. Works with 'set -eu'.

: "${CIJQEMUCTL:=cijqemuctl}"

# What a message is said with: CIJOE's own words where it is there.
_cij_say() {
	local level=$1
	shift
	if declare -F "cij::$level" >/dev/null; then
		"cij::$level" "$*"
	elif declare -F "cij.$level" >/dev/null; then
		"cij.$level" "$*"
	else
		printf '# %s: %s\n' "$level" "$*" >&2
	fi
}

# Whether a guest is named.
_cij_guest() {
	if [ -z "${QEMU_GUEST_NAME:-}" ]; then
		_cij_say err "QEMU_GUEST_NAME is not set: source a target_env.sh first"
		return 64
	fi
}

# Whether SSH_HOST and SSH_PORT are those of the guest, or none are set: CIJOE reached a guest of
# another machine by that machine's name.
_cij_ssh_is_guest() {
	[ -n "${QEMU_GUEST_NAME:-}" ] || return 1
	case ${SSH_HOST:-localhost} in
	localhost | 127.* | ::1 | "${QEMU_HOST:-localhost}" | "$(uname -n)") return 0 ;;
	*) return 1 ;;
	esac
}

# Whether there is anything that SSH could reach.
_cij_ssh_has_target() {
	if [ -z "${SSH_HOST:-}" ]; then
		_cij_say err "neither QEMU_GUEST_NAME nor SSH_HOST is set: source a target_env.sh first"
		return 64
	fi
}

# SSH_HOST, SSH_PORT and SSH_USER, and what is not set yet of the others.
_cij_qemu_env() {
	local lines
	_cij_guest || return
	lines=$("$CIJQEMUCTL" -q env "$QEMU_GUEST_NAME") || return
	lines=$(printf '%s\n' "$lines" | grep -E '^export (SSH_[A-Z]+|QEMU_GUEST_SSH_FWD_PORT|QEMU_GUEST_PATH)=') || return 0
	eval "$lines"
	if [ -z "${NVME_DEV_NAME:-}" ]; then
		export NVME_DEV_NAME=nvme0n1
	fi
}

# Takes the QEMU_* variables over into the guest's definition, unless it has one.
_cij_qemu_define() {
	local code=0
	_cij_guest || return
	"$CIJQEMUCTL" -q status "$QEMU_GUEST_NAME" >/dev/null 2>&1 || code=$?
	# A folder with a boot image is a guest, but knows nothing of a drive yet.
	if [ "$code" != 4 ] &&
		! "$CIJQEMUCTL" -q --json show "$QEMU_GUEST_NAME" 2>/dev/null | grep -q '"config": *null'; then
		return 0
	fi
	"$CIJQEMUCTL" -q import "$QEMU_GUEST_NAME" >/dev/null
}

# Starts the guest.
_cij_qemu_run() {
	_cij_qemu_define || return
	"$CIJQEMUCTL" start "$QEMU_GUEST_NAME" "$@" || return
	_cij_qemu_env
}

_cij_qemu_kill() {
	_cij_guest && "$CIJQEMUCTL" kill "$QEMU_GUEST_NAME"
}

# Presses the power button; the guest has QEMU_POWEROFF_TIMEOUT seconds (60) before it is killed.
_cij_qemu_poweroff() {
	_cij_guest && "$CIJQEMUCTL" stop "$QEMU_GUEST_NAME" --force-after "${QEMU_POWEROFF_TIMEOUT:-60}"
}

_cij_qemu_reset() {
	_cij_guest && "$CIJQEMUCTL" reset "$QEMU_GUEST_NAME"
}

# Returns 0 when it runs.
_cij_qemu_is_running() {
	_cij_guest && "$CIJQEMUCTL" -q status "$QEMU_GUEST_NAME" >/dev/null 2>&1
}

# Waits until it has stopped: SECONDS (60).
_cij_qemu_wait() {
	_cij_guest && "$CIJQEMUCTL" -q --timeout "${1:-60}" wait "$QEMU_GUEST_NAME" --for stopped
}

_cij_qemu_console() {
	_cij_guest && "$CIJQEMUCTL" console "$QEMU_GUEST_NAME" "$@"
}

_cij_qemu_monitor() {
	_cij_guest && "$CIJQEMUCTL" monitor "$QEMU_GUEST_NAME" "$@"
}

# Whether QEMU_HOST is this machine.
_cij_host_is_here() {
	case ${QEMU_HOST:-localhost} in
	localhost | 127.* | ::1 | "$(uname -n)") return 0 ;;
	*) return 1 ;;
	esac
}

# Runs a command line on the machine that runs the guests.
_cij_qemu_hostcmd() {
	if _cij_host_is_here; then
		bash -c "$*"
	else
		ssh -p "${QEMU_HOST_PORT:-22}" "${QEMU_HOST_USER:+$QEMU_HOST_USER@}$QEMU_HOST" "$*"
	fi
}

_cij_qemu_hostcmd_output() {
	_cij_qemu_hostcmd "$@"
}

# Copies a file to the machine that runs the guests.
_cij_qemu_host_push() {
	if _cij_host_is_here; then
		cp -r -- "$1" "$2"
	else
		scp -r -P "${QEMU_HOST_PORT:-22}" -- "$1" "${QEMU_HOST_USER:+$QEMU_HOST_USER@}$QEMU_HOST:$2"
	fi
}

# Gives the guest a kernel: arch/x86/boot/bzImage unless another is named.
_cij_qemu_provision_kernel() {
	_cij_guest && "$CIJQEMUCTL" kernel "$QEMU_GUEST_NAME" "${1:-arch/x86/boot/bzImage}"
}

# The drive's backing file is made at the start; these tell whether there is a drive, and which.
_cij_qemu_guest_nvme_exists() {
	_cij_guest && "$CIJQEMUCTL" -q --json show "$QEMU_GUEST_NAME" 2>/dev/null | grep -q '"devices": *\[ *{'
}

_cij_qemu_guest_nvme_create() {
	_cij_qemu_define
}

_cij_qemu_guest_nvme_config() {
	_cij_qemu_define
}

# Takes the drive out of the running guest: the one named, or QEMU_DEV_ID, QEMU_NVME_ID, nvme0.
_cij_qemu_guest_nvme_dev_del() {
	_cij_guest && "$CIJQEMUCTL" device unplug "$QEMU_GUEST_NAME" "${1:-${QEMU_DEV_ID:-${QEMU_NVME_ID:-nvme0}}}"
}

# Another image in the guest's folder: IDENT FORMAT SIZE. Prints its path.
_cij_qemu_img_create() {
	local path
	_cij_guest || return
	if [ $# != 3 ]; then
		_cij_say err "usage: qemu::img_create IDENT FORMAT SIZE"
		return 64
	fi
	_cij_qemu_env || return
	path=$QEMU_GUEST_PATH/$1.$2
	_cij_qemu_hostcmd "'${QEMU_IMG_BIN:-qemu-img}' create -q -f '$2' '$path' '$3'" || return
	printf '%s\n' "$path"
}

# QEMU options for such an image, for QEMU_ARGS_EXTRA: IDENT FORMAT [INTERFACE].
_cij_qemu_args_drive() {
	_cij_guest || return
	if [ $# -lt 2 ]; then
		_cij_say err "usage: qemu::args_drive IDENT FORMAT [INTERFACE]"
		return 64
	fi
	printf '%s\n' "-drive file=$1.$2,if=${3:-virtio},format=$2"
}

# A guest from a cloud image that is fetched first: URL [PUBLIC_KEY].
_cij_qemu_img_from_url() {
	local image
	_cij_guest || return
	if [ $# -lt 1 ]; then
		_cij_say err "usage: qemu::img_from_url URL [PUBLIC_KEY]"
		return 64
	fi
	image=${XDG_CACHE_HOME:-$HOME/.cache}/cijqemu/${1##*/}
	mkdir -p "${image%/*}" || return
	if [ ! -e "$image" ]; then
		curl -fL -o "$image.part" "$1" && mv "$image.part" "$image" || return
	fi
	"$CIJQEMUCTL" create "$QEMU_GUEST_NAME" --cloud-image "$image" --ssh-key "${2:-$HOME/.ssh/id_rsa.pub}"
}

# Commands and files in the guest; a target that is no such guest is reached as CIJOE did.
_cij_ssh_target() {
	printf '%s' "${SSH_USER:+$SSH_USER@}$SSH_HOST"
}

_cij_ssh_shell() {
	if _cij_ssh_is_guest; then
		"$CIJQEMUCTL" shell "$QEMU_GUEST_NAME" "$@"
	else
		_cij_ssh_has_target || return
		ssh -p "${SSH_PORT:-22}" "$(_cij_ssh_target)" "$@"
	fi
}

_cij_ssh_cmd() {
	if _cij_ssh_is_guest; then
		"$CIJQEMUCTL" exec "$QEMU_GUEST_NAME" -- "$*"
	else
		_cij_ssh_has_target || return
		ssh -p "${SSH_PORT:-22}" "$(_cij_ssh_target)" "$*"
	fi
}

_cij_ssh_cmd_output() {
	_cij_ssh_cmd "$@"
}

_cij_ssh_push() {
	if _cij_ssh_is_guest; then
		"$CIJQEMUCTL" push "$QEMU_GUEST_NAME" -r -- "$1" "$2"
	else
		_cij_ssh_has_target || return
		scp -r -P "${SSH_PORT:-22}" -- "$1" "$(_cij_ssh_target):$2"
	fi
}

_cij_ssh_pull() {
	if _cij_ssh_is_guest; then
		"$CIJQEMUCTL" pull "$QEMU_GUEST_NAME" -r -- "$1" "$2"
	else
		_cij_ssh_has_target || return
		scp -r -P "${SSH_PORT:-22}" -- "$(_cij_ssh_target):$1" "$2"
	fi
}

# qemu::run and qemu.run for _cij_qemu_run, and so on.
_cij_name_functions() {
	local function module name
	for function in $(compgen -A function _cij_qemu_) $(compgen -A function _cij_ssh_); do
		module=${function#_cij_}
		name=${module#*_}
		module=${module%%_*}
		case $function in
		_cij_ssh_is_guest | _cij_ssh_has_target | _cij_ssh_target) continue ;;
		esac
		eval "$module::$name() { $function \"\$@\"; }; $module.$name() { $function \"\$@\"; }"
	done
}
_cij_name_functions
unset -f _cij_name_functions
