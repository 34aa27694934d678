#!/bin/sh
# Puts the units, groups and folders in place for 'make install' ('remove': takes them away). From the
# environment: DESTDIR, bindir, and systemd's own folders; without those there is no systemd here.
# Installed for this machine (no DESTDIR), groups and folders are made at once, and systemd is told.
set -eu
cd "$(dirname "$0")"

if [ -z "${unitdir-}" ]; then
	echo "systemd: not here (pkg-config systemd): no units are installed" >&2
	exit 0
fi
if [ -z "${DESTDIR-}" ] && [ "$(id -u)" != 0 ]; then
	echo "systemd: not root: the units are left as they are" >&2
	exit 0
fi

: "${bindir:?}" "${userunitdir:?}" "${sysusersdir:?}" "${tmpfilesdir:?}"

# SOURCE TARGET
files="
cijqemud.service.in $unitdir/cijqemud.service
cijqemud.socket $unitdir/cijqemud.socket
cijqemud-ro.socket $unitdir/cijqemud-ro.socket
cijqemu-guests.service.in $unitdir/cijqemu-guests.service
cijqemu.slice $unitdir/cijqemu.slice
cijqemud-user.service.in $userunitdir/cijqemud.service
sysusers.conf $sysusersdir/cijqemu.conf
tmpfiles.conf $tmpfilesdir/cijqemu.conf
"

echo "$files" | while read -r source target; do
	[ -n "$source" ] || continue
	target=${DESTDIR-}$target
	if [ "${1-}" = remove ]; then
		rm -f "$target"
		continue
	fi
	mkdir -p "$(dirname "$target")"
	sed "s,@bindir@,$bindir,g" "$source" >"$target.new"
	chmod 644 "$target.new"
	mv "$target.new" "$target"
	echo "installed $target"
done

[ -z "${DESTDIR-}" ] || exit 0
if [ "${1-}" != remove ]; then
	systemd-sysusers cijqemu.conf
	systemd-tmpfiles --create cijqemu.conf
fi
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
