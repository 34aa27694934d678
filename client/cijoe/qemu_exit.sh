#!/usr/bin/env bash
# CIJOE hook: after a test, the guest of QEMU_GUEST_NAME is powered off; one that has not done so
# within QEMU_EXIT_TIMEOUT seconds (60) is killed. Sourced or run.

# shellcheck source=client/cijoe/qemu.sh
source "${CIJQEMU_CIJOE:-$(dirname "$(realpath "${BASH_SOURCE[0]}")")}/qemu.sh"

hook::qemu_exit() {
	QEMU_POWEROFF_TIMEOUT=${QEMU_EXIT_TIMEOUT:-60} qemu::poweroff
}

hook::qemu_exit
hook_code=$?
# Who sources it goes on, with what it has set.
if [ "${BASH_SOURCE[0]}" != "$0" ]; then
	return "$hook_code"
fi
exit "$hook_code"
