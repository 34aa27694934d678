#!/bin/bash
# The main job before your eyes: a guest is defined, started, used and removed, with a daemon of its
# own. 'make demo' runs it; KEEP=1 leaves the guest running and says what to try next.
set -euo pipefail

BUILD=$(realpath "${BUILD:-build}")
here=$(dirname "$(realpath "$0")")
name=emujoe
dir=$(mktemp -d /tmp/cijqemu-demo.XXXXXX)
daemon_pid=
done_all=

say() {
	printf '\n%s==> %s%s\n' "${bold-}" "$*" "${plain-}"
}

# Shows a command as you would type it, then runs it.
run() {
	printf '%s$ %s%s\n' "${bold-}" "$*" "${plain-}"
	"$@"
}

# Removes all that the demo made, also when a step failed.
clean_up() {
	local status=$?
	trap - EXIT INT TERM
	if [ -n "$done_all" ] && [ -n "${KEEP-}" ]; then
		exit "$status"
	fi
	if [ -n "$daemon_pid" ]; then
		cijqemuctl -q kill "$name" 2>/dev/null || true
		kill "$daemon_pid" 2>/dev/null || true
		wait "$daemon_pid" 2>/dev/null || true
	fi
	if [ "$status" != 0 ]; then
		echo "demo: a step failed (exit $status); the daemon's log:" >&2
		cat "$dir/daemon.log" >&2 || true
	fi
	rm -rf "$dir"
	exit "$status"
}

if [ -t 1 ] && [ -z "${NO_COLOR-}" ]; then
	bold=$'\e[1m' plain=$'\e[0m'
fi
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
export PATH="$BUILD:$PATH" CIJQEMU_SOCKET="$dir/run/cijqemud.sock"
unset QEMU_GUEST_NAME

say "a tiny guest: Debian's kernel, busybox, dropbear, nvme-cli"
"$here/guest/build.sh" "$BUILD/guest"

say "a private daemon in $dir"
mkdir "$dir/guests"
cijqemud -v --guests "$dir/guests" --run-dir "$dir/run" --state-dir "$dir/state" 2>"$dir/daemon.log" &
daemon_pid=$!
for _ in $(seq 100); do
	cijqemuctl -q list >/dev/null 2>&1 && break
	kill -0 "$daemon_pid"
	sleep 0.1
done
cijqemuctl -q list >/dev/null

say "guest $name with an emulated drive"
run cijqemuctl create "$name" --kernel "$BUILD/guest/bzImage" --initrd "$BUILD/guest/initrd.img" \
	--ssh-key "$BUILD/guest/id_ed25519" --memory 512M --device ocssd
if ! why=$(cijqemuctl argv "$name" 2>&1 >/dev/null); then
	# Only the drive may be what is missing.
	case $why in
	*"no Open-Channel SSD"*) ;;
	*) echo "$why" >&2; exit 1 ;;
	esac
	echo "this QEMU has no Open-Channel SSD (QEMU_HOME names one that has): a plain NVMe drive instead"
	run cijqemuctl set "$name" 'devices=[{"id": "nvme0", "type": "nvme", "size": "1G"}]'
fi

say "start, until SSH answers"
run cijqemuctl start "$name" --wait=ssh
run cijqemuctl list

say "a command inside: the drive as the guest sees it"
out=$(cijqemuctl exec "$name" -- nvme list)
printf '%s$ cijqemuctl exec %s -- nvme list%s\n%s\n' "${bold-}" "$name" "${plain-}" "$out"
grep -q /dev/nvme0n1 <<<"$out"

say "the last lines of its console"
out=$(cijqemuctl logs "$name" -n 5)
printf '%s$ cijqemuctl logs %s -n 5%s\n%s\n' "${bold-}" "$name" "${plain-}" "$out"
[ -n "$out" ]

say "QEMU's monitor"
out=$(cijqemuctl monitor "$name" info block)
printf '%s$ cijqemuctl monitor %s info block%s\n%s\n' "${bold-}" "$name" "${plain-}" "$out"
grep -q nvme0 <<<"$out"

done_all=1
if [ -n "${KEEP-}" ]; then
	disown "$daemon_pid"
	cat <<NEXT

The guest goes on running. Try, in this shell:

  export PATH=$BUILD:\$PATH CIJQEMU_SOCKET=$CIJQEMU_SOCKET
  cijqemuctl shell $name              # a shell inside
  cijqemuctl console $name            # its serial console; ^] then . leaves it
  cijqemuctl show $name

And to remove it all:

  cijqemuctl stop $name; kill $daemon_pid; rm -rf $dir
NEXT
	exit 0
fi

say "power off, and remove it all"
run cijqemuctl stop "$name"
state=$(cijqemuctl status "$name") && { echo "still up: $state" >&2; exit 1; }
echo "$state"
run cijqemuctl delete "$name" --yes
[ ! -e "$dir/guests/$name" ]
kill "$daemon_pid"
wait "$daemon_pid"
daemon_pid=
say "done"
