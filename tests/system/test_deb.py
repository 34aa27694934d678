"""The Debian package under a real systemd: installed, used, upgraded, removed, purged."""

import fcntl
import os
import re
import shutil
import subprocess

import pytest

from harness import BUILD, ROOT, SHARED

BOX = SHARED / "tools/systemd-box"
DEB = BUILD / "deb"

pytestmark = [
    pytest.mark.long,
    pytest.mark.xdist_group("box"),
    pytest.mark.skipif(os.geteuid() != 0 or not BOX.exists(), reason="this machine cannot: no root or no systemd-box"),
]


@pytest.fixture(scope="module")
def package():
    """Built once for all who test at the same time, and not again while no source is newer."""
    with open(BUILD / "deb.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        names = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True).stdout
        newest = max((ROOT / name).stat().st_mtime for name in names.split("\n") if (ROOT / name).is_file())
        found = list(DEB.glob("cijqemu_*.deb"))
        if not found or found[0].stat().st_mtime < newest:
            subprocess.run(["make", "-C", ROOT, "deb", f"BUILD={BUILD}"], check=True, timeout=900)
            found = list(DEB.glob("cijqemu_*.deb"))
    return found[0]


def box(script, *args, seconds=240):
    """Runs a script under systemd, in a throw-away copy of this machine; what it printed."""
    # The box has a /tmp of its own, where the build may be.
    args = [os.path.join("/mnt/build", os.path.relpath(arg, BUILD)) for arg in args]
    done = subprocess.run([BOX, "-t", str(seconds), "-b", f"{BUILD}:/mnt/build", "--", "bash", "-euc", script, "box",
                           *args],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds + 60)
    assert done.returncode == 0, done.stdout
    return done.stdout


# $1: the package, $2: the stand-in QEMU. A guest of root's that runs in what follows.
GUEST = r"""
export DEBIAN_FRONTEND=noninteractive
rm -f /usr/sbin/policy-rc.d  # images of containers forbid packages to start anything
mkdir -p /opt/fake/bin && cp "$2" /opt/fake/bin/qemu-system-x86_64 && touch /opt/fake/bzImage
guest() {
	mkdir -p /opt/qemu-guests/emu
	echo '{"qemu_home": "/opt/fake", "accel": "tcg", "memory": "64M", "kernel": {"image": "/opt/fake/bzImage"}}' \
		>/opt/qemu-guests/emu/guest.json
	cijqemuctl start emu
	pid=$(cijqemuctl show emu --json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
	kill -0 "$pid"
}
daemon() { systemctl show -P MainPID cijqemud; }
"""


def test_lintian_finds_no_error(package):
    assert shutil.which("lintian"), "Debian's package lintian"
    changes, = DEB.glob("cijqemu_*.changes")
    done = subprocess.run(["lintian", "--allow-root", changes], capture_output=True, text=True, timeout=300)
    assert not re.findall(r"(?m)^[EW]: .*", done.stdout), done.stdout
    assert done.returncode == 0, done.stderr


def test_what_is_in_it(package):
    listed = subprocess.run(["dpkg-deb", "-c", package], capture_output=True, text=True, check=True).stdout
    for path in ("usr/bin/cijqemud", "usr/bin/cijqemuctl", "usr/libexec/cijqemu/cijqemuctl-ssh",
                 "lib/systemd/system/cijqemud.service", "lib/systemd/system/cijqemud.socket",
                 "usr/lib/systemd/user/cijqemud.service", "usr/lib/sysusers.d/cijqemu.conf",
                 "usr/lib/tmpfiles.d/cijqemu.conf", "usr/share/man/man1/cijqemuctl.1.gz",
                 "usr/share/man/man5/cijqemu-guest.5.gz", "usr/share/man/man7/cijqemu-protocol.7.gz",
                 "usr/share/man/man8/cijqemud.8.gz", "usr/share/bash-completion/completions/cijqemuctl",
                 "usr/share/zsh/vendor-completions/_cijqemuctl", "usr/share/fish/vendor_completions.d/cijqemuctl.fish"):
        assert f"./{path}\n" in listed, path
    info = subprocess.run(["dpkg-deb", "-f", package, "Depends"], capture_output=True, text=True, check=True).stdout
    assert "libevent-core" in info and "libssh" in info


def test_installed_it_runs(package):
    out = box(GUEST + r"""
dpkg -i "$1"
systemctl is-active cijqemud.service cijqemud.socket cijqemud-ro.socket
systemctl is-enabled cijqemud.service cijqemud.socket cijqemu-guests.service
getent group cijqemu cijqemu-admin
stat -c '%a %U:%G %n' /run/cijqemu/cijqemud.sock /run/cijqemu/metrics.sock /opt/qemu-guests
cijqemuctl list
guest
cijqemuctl exec emu -- true || echo "exec: $?"
setpriv --reuid 65534 --regid 65534 --clear-groups curl -s --unix-socket /run/cijqemu/metrics.sock http://x/metrics |
	grep 'guest_up{guest="emu"}'
man -w cijqemuctl || ls /usr/share/man/man1/cijqemuctl.1.gz
systemctl --failed --no-legend
""", package, BUILD / "tests/fake_qemu")
    assert out.count("\nactive") >= 3 and "enabled" in out
    assert "660 root:cijqemu /run/cijqemu/cijqemud.sock" in out
    assert "666 root:root /run/cijqemu/metrics.sock" in out
    assert 'cijqemu_guest_up{guest="emu"} 1' in out
    assert "exec: 255" in out  # the second program is found; the stand-in has no SSH
    assert "cijqemu" not in out.splitlines()[-1] or ".gz" in out.splitlines()[-1]


def test_an_upgrade_restarts_the_daemon_and_no_guest(package):
    out = box(GUEST + r"""
dpkg -i "$1"
guest
before=$(daemon)
dpkg -i "$1"
systemctl is-active cijqemud.service cijqemu-guests.service
[ "$(daemon)" != "$before" ] && echo "another daemon"
[ "$(cijqemuctl show emu --json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')" = "$pid" ] && echo "the same guest"
""", package, BUILD / "tests/fake_qemu")
    assert "another daemon" in out and "the same guest" in out


def test_removed_guests_go_on_and_are_taken_back(package):
    out = box(GUEST + r"""
dpkg -i "$1"
guest
dpkg -r cijqemu
kill -0 "$pid" && echo "it goes on"
systemctl is-active cijqemud.service || true
[ ! -e /usr/bin/cijqemuctl ] && echo "the client is gone"
dpkg -i "$1"
[ "$(cijqemuctl show emu --json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')" = "$pid" ] && echo "the same guest"
""", package, BUILD / "tests/fake_qemu")
    assert "these guests go on running: emu" in out
    assert "it goes on" in out and "inactive" in out and "the client is gone" in out and "the same guest" in out


def test_purged_nothing_is_left(package):
    out = box(GUEST + r"""
before=$(mktemp) after=$(mktemp)
list() { find /etc /lib/systemd /usr /var/lib /opt /run/systemd/generator* -xdev 2>/dev/null |
	grep -vE '^/var/lib/(dpkg|systemd|mlocate)|__pycache__|^/etc/(group|gshadow)-?$|/etc/\.(pwd\.lock|.*updated)|^/opt/fake|\.wants$' |
	sort; }
list >"$before"
dpkg -i "$1"
cijqemuctl list
dpkg -P cijqemu
list >"$after"
diff "$before" "$after" && echo "as before"
systemctl list-units --all --no-legend 'cijqemu*'
[ ! -e /opt/qemu-guests ] && echo "no folder"
""", package, BUILD / "tests/fake_qemu")
    assert "as before" in out and "no folder" in out, out
    assert "cijqemud" not in out.partition("as before")[2]


def test_purged_guests_of_users_are_left(package):
    out = box(GUEST + r"""
dpkg -i "$1"
guest
cijqemuctl kill emu
dpkg -P cijqemu
ls /opt/qemu-guests/emu/guest.json /var/lib/cijqemu || true
""", package, BUILD / "tests/fake_qemu")
    assert "/opt/qemu-guests/emu/guest.json\n" in out and "cannot access '/var/lib/cijqemu'" in out
