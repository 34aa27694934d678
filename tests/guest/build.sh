#!/bin/sh
# build.sh DIR makes a tiny Linux guest for the tests in DIR:
#
#   bzImage           the kernel of Debian's linux-image-cloud-amd64
#   initrd.img        the whole system: busybox, dropbear, nvme-cli and acpid, the libraries and
#                     kernel modules they need, and the files of root/ beside this script
#   id_ed25519, .pub  root's SSH key in OpenSSH's format; new with each build, as is the host key
#   .stamp            what it was made from; remove it to have the guest made again
#
# Boot it with 'console=ttyS0', 128 MB or more and a virtio network card on QEMU's user networking
# (it is 10.0.2.15). It prints 'tiny guest ready' when sshd listens, has a root shell on the console
# and powers off at the power button. It lives in memory: nothing it does outlasts it.
#
# Nothing is installed on this machine and nobody has to be root: 'apt-get download' brings the
# packages into ${XDG_CACHE_HOME:-~/.cache}/cijqemu-guest, and what they hold (dropbearkey, busybox's
# cpio and depmod) does the work. A call that finds all of it there, made by the script and root/ as
# they are now, does nothing.
set -eu
umask 022
export LC_ALL=C

kernel=linux-image-cloud-amd64
packages='busybox-static dropbear-bin nvme-cli acpid'
programs='dropbear nvme acpid'
# Loaded at boot by root/etc/rc, with what they depend on. NVMe is built into the kernel.
modules='virtio_pci virtio_net virtio_blk pvpanic-pci evdev button'
outputs='bzImage initrd.img id_ed25519 id_ed25519.pub'

# Not to plain stderr: that is a log while a step runs.
exec 3>&2
say()
{
	echo "guest: $*" >&3
}

die()
{
	say "$*"
	exit 1
}

is_made()
{
	for output in $outputs .stamp; do
		[ -s "$dir/$output" ] || return 1
	done
	[ "$(head -n 1 "$dir/.stamp")" = "$source_hash" ]
}

# Prints the names of the packages given and of their libraries, the libraries' libraries, and so on.
# Their other dependencies are for Debian systems, not for the programs taken out here.
with_libraries()
{
	todo=$* seen=
	while [ -n "$todo" ]; do
		seen="$seen $todo"
		# shellcheck disable=SC2086 # names, to be split
		needed=$(apt-cache depends -i $todo) || return 1
		todo=
		for package in $(echo "$needed" |
				sed -n 's/^[ |]*\(Pre\)\{0,1\}Depends: \(\(lib\|zlib\)[^ ]*\)$/\2/p'); do
			case " $seen $todo " in
			*" $package "*) ;;
			*) todo="$todo $package" ;;
			esac
		done
	done
	echo "$seen"
}

# apt-get download, into $partial. As root apt would drop to a user that cannot write there.
apt_download()
{
	(cd "$partial" && apt-get -q -o APT::Sandbox::User=root download "$@")
}

# Sets $debs to the wanted packages' files, having brought into the cache those that are not there.
fetch()
{
	partial=$cache/.partial
	rm -rf "$partial" && mkdir "$partial" || return 1
	image=$(apt-cache depends -i "$kernel" | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p')
	[ -n "$image" ] || return 1
	# shellcheck disable=SC2086
	wanted="$image $(with_libraries $packages)" || return 1
	# Asked from an empty directory, apt says of each package what it would name its file.
	# shellcheck disable=SC2086
	debs=$(apt_download --print-uris $wanted) || return 1
	debs=$(echo "$debs" | sed -n "s/^'[^']*' \([^ ]*\.deb\) .*/\1/p")
	[ -n "$debs" ] || return 1
	missing=
	for deb in $debs; do
		[ -e "$cache/$deb" ] || missing="$missing ${deb%%_*}"
	done
	[ -n "$missing" ] || return 0
	say "downloading$missing"
	# shellcheck disable=SC2086
	apt_download $missing || return 1
	# Moved within the cache: a file is there as a whole or not at all.
	mv "$partial"/*.deb "$cache/"
}

# Unpacks what may be needed of the packages into $tmp/x, with /bin, /lib and so on merged into /usr.
unpack()
{
	for name in bin sbin lib lib64; do
		mkdir -p "$tmp/x/usr/$name"
		ln -s "usr/$name" "$tmp/x/$name"
	done
	for deb in $debs; do
		dpkg-deb --fsys-tarfile "$cache/$deb" >"$tmp/deb.tar" ||
			die "$cache/$deb is damaged: remove it and try again"
		tar -x -f "$tmp/deb.tar" -C "$tmp/x" --keep-directory-symlink --no-same-owner \
			--exclude='./usr/share' --exclude='./etc' --exclude='./var'
	done
	rm "$tmp/deb.tar"
	busybox=$tmp/x/bin/busybox
	libraries=$tmp/x/usr/lib/x86_64-linux-gnu
	loader=$libraries/ld-linux-x86-64.so.2
}

# Runs one of the unpacked programs with the unpacked libraries, so this machine's do not matter.
run_unpacked()
{
	"$loader" --library-path "$libraries" "$@"
}

add_programs()
{
	cp "$busybox" "$root/usr/bin/"
	for applet in $("$busybox" --list); do
		[ "$applet" = busybox ] || ln -s busybox "$root/usr/bin/$applet"
	done
	for program in $programs; do
		rm -f "$root/usr/bin/$program"
		cp "$tmp/x/usr/sbin/$program" "$root/usr/bin/"
		run_unpacked --list "$tmp/x/usr/sbin/$program" >>"$tmp/needed" ||
			die "the libraries of $program are not in the packages $wanted"
	done
	sed -n 's/.* => \(.*\) (.*/\1/p' "$tmp/needed" | sort -u | while read -r library; do
		cp "$library" "$root/usr/lib/"
	done
	cp "$loader" "$root/usr/lib64/"
}

add_modules()
{
	version=${image#linux-image-}
	"$busybox" depmod -b "$tmp/x" "$version"
	mkdir -p "$root/lib/modules/$version"
	for module in $modules; do
		files=$(sed -n "s,^\(.*/$module\.ko\):,\1,p" "$tmp/x/lib/modules/$version/modules.dep")
		[ -n "$files" ] || die "no module $module in $image"
		for file in $files; do
			mkdir -p "$root/lib/modules/$version/${file%/*}"
			cp "$tmp/x/lib/modules/$version/$file" "$root/lib/modules/$version/$file"
		done
	done
	"$busybox" depmod -b "$root" "$version"
	echo "$modules" >"$root/etc/modules"
}

# Makes root's key and the host key, here rather than in a slow guest at each boot.
add_keys()
{
	mkdir -p "$root/root/.ssh" "$root/etc/dropbear"
	run_unpacked "$tmp/x/usr/bin/dropbearkey" -t ed25519 \
		-f "$root/etc/dropbear/dropbear_ed25519_host_key"
	run_unpacked "$tmp/x/usr/bin/dropbearkey" -t ed25519 -f "$tmp/key"
	run_unpacked "$tmp/x/usr/bin/dropbearconvert" dropbear openssh "$tmp/key" "$tmp/out/id_ed25519"
	run_unpacked "$tmp/x/usr/bin/dropbearkey" -y -f "$tmp/key" |
		sed -n 's/^\(ssh-ed25519 [^ ]*\).*/\1 root@tiny/p' >"$tmp/out/id_ed25519.pub"
	cp "$tmp/out/id_ed25519.pub" "$root/root/.ssh/authorized_keys"
	chmod 600 "$tmp/out/id_ed25519"
	chmod 700 "$root/root" "$root/root/.ssh" "$root/etc/dropbear"
	[ -s "$tmp/out/id_ed25519.pub" ]
}

# Packs the guest into one initrd, all owned by root. Not compressed: under TCG unpacking gzip, lz4 or
# zstd takes the guest 0.3 s of its 2 s, and 8 MB more to read take QEMU next to nothing.
pack()
{
	(cd "$root" && find . | sort | "$busybox" cpio -o -H newc -R 0:0) >"$tmp/out/initrd.img"
	cp "$tmp/x/boot/vmlinuz-$version" "$tmp/out/bzImage"
	{
		echo "$source_hash"
		for deb in $debs; do
			echo "$deb"
		done
	} >"$tmp/out/.stamp"
}

# Runs one step. What its commands say goes to a log, shown when one fails.
step()
{
	say "$1"
	shift
	"$@" >"$tmp/log" 2>&1
}

clean_up()
{
	status=$?
	if [ "$status" != 0 ] && [ -s "$tmp/log" ]; then
		cat "$tmp/log" >&3
	fi
	rm -rf "$tmp"
}

[ $# = 1 ] || die "usage: build.sh DIR"
for tool in apt-get apt-cache dpkg-deb flock sha256sum tar; do
	command -v "$tool" >/dev/null || die "no $tool: this needs a Debian with apt, dpkg, tar and util-linux"
done
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" || die "cannot make $1"
dir=$(cd "$1" && pwd)
source_hash=$(cd "$here" && find build.sh root -type f | sort | xargs sha256sum | sha256sum)

is_made && exit 0
# One at a time per directory, and whoever waited finds the work done. Downloads take turns, too.
exec 9<"$dir"
flock 9
is_made && exit 0

cache=${XDG_CACHE_HOME:-${HOME:-$dir}/.cache}/cijqemu-guest
mkdir -p "$cache" || die "cannot make $cache"
rm -rf "$dir"/.build.*
tmp=$(mktemp -d "$dir/.build.XXXXXX")
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
root=$tmp/root
mkdir "$tmp/x" "$tmp/out"

say "finding the packages"
exec 8<"$cache"
flock 8
if ! fetch >"$tmp/log" 2>&1; then
	# The lists of a fresh machine are empty, or older than what the mirror still has.
	[ "$(id -u)" = 0 ] || die "apt-get cannot find or download the packages; try 'sudo apt-get update'"
	say "updating apt's package lists"
	apt-get -q update >"$tmp/log" 2>&1 || die "apt-get update failed"
	fetch >"$tmp/log" 2>&1 || die "apt-get cannot find or download the packages"
fi
exec 8<&-
step "unpacking" unpack

say "adding files"
cp -R "$here/root" "$root"
chmod -R u=rwX,go=rX "$root"
for name in usr/bin usr/lib usr/lib64 var proc sys dev run tmp root; do
	mkdir -p "$root/$name"
done
for name in bin lib lib64; do
	ln -s "usr/$name" "$root/$name"
done
ln -s bin "$root/usr/sbin"
ln -s usr/bin "$root/sbin"
ln -s ../run "$root/var/run"
ln -s usr/bin/busybox "$root/init"

step "adding programs" add_programs
step "adding kernel modules" add_modules
step "making keys" add_keys
step "packing" pack

# The stamp goes first and comes last: while it is there, so are the files that belong together.
rm -f "$dir/.stamp"
for output in $outputs .stamp; do
	mv "$tmp/out/$output" "$dir/$output"
done
say "made $dir/bzImage and $dir/initrd.img"
