#!/bin/sh
# cloud.sh FILE.qcow2 makes a Debian cloud image for the tests, as there is none that could be fetched:
# a disk with a boot loader of its own (syslinux, for SeaBIOS), Debian's kernel, systemd, cloud-init
# and an OpenSSH server, and nothing of a user's: those come from the seed at the first boot.
#
# Nothing is mounted and nobody has to be root. A file that is there, made by the script as it is now,
# is left as it is; .stamp beside it tells. Needs: dosfstools fdisk genext2fs mmdebstrap mtools
# qemu-utils syslinux syslinux-common.
set -eu
umask 022
export LC_ALL=C PATH="$PATH:/sbin:/usr/sbin"

suite=bookworm
packages=linux-image-cloud-amd64,initramfs-tools,zstd,systemd-sysv,udev,dbus,iproute2,netbase,openssh-server,sudo,cloud-init
boot_mib=64 root_mib=1600

die()
{
	echo "cloud image: $*" >&2
	exit 1
}

[ $# = 1 ] || die "usage: cloud.sh FILE.qcow2"
image=$1
for tool in mmdebstrap genext2fs syslinux mcopy mkfs.vfat sfdisk resize2fs tune2fs qemu-img; do
	command -v "$tool" >/dev/null || die "no $tool here"
done
here=$(cd "$(dirname "$0")" && pwd)
hash=$(sha256sum <"$here/cloud.sh")
[ -s "$image" ] && [ "$(cat "$image.stamp" 2>/dev/null)" = "$hash" ] && exit 0

mkdir -p "$(dirname "$image")"
tmp=$(mktemp -d "$image.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

# The system, its modules for a disk and a card of virtio alone: an emulated guest unpacks them slowly.
cat >"$tmp/customize" <<'END'
set -eu
cat >"$1/etc/initramfs-tools/conf.d/small" <<CONF
MODULES=list
COMPRESS=zstd
CONF
printf '%s\n' virtio_pci virtio_blk virtio_net ext4 >"$1/etc/initramfs-tools/modules"
chroot "$1" update-initramfs -u
cp "$1"/boot/vmlinuz-* "$2/vmlinuz"
cp "$1"/boot/initrd.img-* "$2/initrd.img"
rm "$1"/boot/*
echo 'LABEL=root / ext4 defaults 0 1' >"$1/etc/fstab"
# What a seed says of a network is brought up by systemd; the keys of a host are its own.
ln -sf /run/systemd/resolve/resolv.conf "$1/etc/resolv.conf"
chroot "$1" systemctl -q enable systemd-networkd
chroot "$1" systemctl -q mask systemd-networkd-wait-online.service
rm -f "$1"/etc/ssh/ssh_host_* "$1/etc/machine-id"
: >"$1/etc/machine-id"
echo 'datasource_list: [ NoCloud, None ]' >"$1/etc/cloud/cloud.cfg.d/90_here.cfg"
END
mkdir "$tmp/boot"
mmdebstrap --quiet --variant=minbase --format=ext2 --include="$packages" \
	--aptopt='Apt::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
	--customize-hook="sh '$tmp/customize' \"\$1\" '$tmp/boot'" \
	"$suite" "$tmp/root.ext2" >&2 || die "mmdebstrap failed"
truncate -s "${root_mib}M" "$tmp/root.ext2"
tune2fs -L root -O has_journal,extents "$tmp/root.ext2" >/dev/null
e2fsck -fy "$tmp/root.ext2" >/dev/null || [ $? -le 1 ]
resize2fs "$tmp/root.ext2" >/dev/null 2>&1

# The boot partition, and the disk.
truncate -s "${boot_mib}M" "$tmp/boot.fat"
mkfs.vfat -n BOOT "$tmp/boot.fat" >/dev/null
syslinux --install "$tmp/boot.fat"
cat >"$tmp/boot/syslinux.cfg" <<'END'
SERIAL 0 115200
DEFAULT linux
LABEL linux
  LINUX vmlinuz
  INITRD initrd.img
  APPEND root=LABEL=root ro console=ttyS0,115200
END
mcopy -i "$tmp/boot.fat" "$tmp/boot/vmlinuz" "$tmp/boot/initrd.img" "$tmp/boot/syslinux.cfg" ::
truncate -s $((1 + boot_mib + root_mib + 1))M "$tmp/disk"
sfdisk -q "$tmp/disk" <<END
label: dos
start=1MiB, size=${boot_mib}MiB, type=c, bootable
start=$((1 + boot_mib))MiB, size=${root_mib}MiB, type=83
END
dd if=/usr/lib/syslinux/mbr/mbr.bin of="$tmp/disk" bs=440 count=1 conv=notrunc status=none
dd if="$tmp/boot.fat" of="$tmp/disk" bs=1M seek=1 conv=notrunc,sparse status=none
dd if="$tmp/root.ext2" of="$tmp/disk" bs=1M seek=$((1 + boot_mib)) conv=notrunc,sparse status=none
qemu-img convert -O qcow2 "$tmp/disk" "$tmp/image"
mv "$tmp/image" "$image"
echo "$hash" >"$image.stamp"
