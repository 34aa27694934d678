#!/usr/bin/env bash
# CIJOE hook: before a test, the guest of QEMU_GUEST_NAME is started and its SSH answers, within
# QEMU_ENTER_TIMEOUT seconds (300). Sourced or run; it ends with 0 when that is so.

# shellcheck source=client/cijoe/qemu.sh
source "${CIJQEMU_CIJOE:-$(dirname "$(realpath "${BASH_SOURCE[0]}")")}/qemu.sh"

hook::qemu_enter() {
	qemu::run --timeout "${QEMU_ENTER_TIMEOUT:-300}" --wait=ssh
}

hook::qemu_enter
hook_code=$?
# Who sources it goes on, with what it has set.
if [ "${BASH_SOURCE[0]}" != "$0" ]; then
	return "$hook_code"
fi
exit "$hook_code"
