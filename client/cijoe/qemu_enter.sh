#!/usr/bin/env bash
# CIJOE hook: before a test, the guest of QEMU_GUEST_NAME is started and its SSH answers, within
# QEMU_ENTER_TIMEOUT seconds (300). Sourced or run; it ends with 0 when that is so.

# shellcheck source=client/cijoe/qemu.sh
source "${CIJQEMU_CIJOE:-$(dirname "$(realpath "${BASH_SOURCE[0]}")")}/qemu.sh"

hook::qemu_enter() {
	local timeout=${QEMU_ENTER_TIMEOUT:-300}
	qemu::run || return
	"$CIJQEMUCTL" --timeout "$timeout" wait "$QEMU_GUEST_NAME" --for ssh || return
	qemu::env
}

hook::qemu_enter
exit $?
