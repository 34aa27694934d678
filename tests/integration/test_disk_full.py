"""A disk that fills up in the middle of something: told, nothing left that looks whole, and well again with room."""

import contextlib
import json
import os
import re
import signal
import subprocess
import tarfile

import pytest

from harness import HANG, Daemon, FakeQemu, fork, wait_until

V3 = "qemu-nvme-3.1.50"
OCSSD = {"id": "nvme0", "type": "ocssd", "num_grp": 2, "num_pu": 4, "num_chk": 60, "num_sec": 4096, "sec_size": 4096,
         "md_size": 16, "inject": [{"write": {"grp": 0, "pu": 3, "chk": 0, "sec": 53}}]}
PLAIN = {"id": "nvme1", "type": "nvme", "size": "8M"}


class Disk:
    """A file system of its own, whose room is given out by the file and by the page. Guests are in a folder of it."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=755", "tmpfs", path], capture_output=True)
        if done.returncode != 0:
            pytest.skip("this machine cannot: mount a small file system")
        (path / "ballast").write_bytes(bytes(4096))  # a size of 0 would be none
        self.guests = path / "guests"
        self.guests.mkdir()

    def leave(self, inodes=None, pages=None):
        """Leaves room for so many more files, or pages of what they hold."""
        fs = os.statvfs(self.path)
        files, used = fs.f_files - fs.f_ffree, fs.f_blocks - fs.f_bfree
        options = [f"nr_inodes={files + inodes if inodes is not None else 100000}",
                   f"size={4 * (used + pages) if pages is not None else 65536}k"]
        subprocess.run(["mount", "-o", "remount," + ",".join(options), self.path], check=True)

    def names(self):
        """What there is, when what is being removed has gone."""
        wait_until(lambda: not [name for name in os.listdir(self.guests) if name.startswith(".")],
                   "what was not finished is removed")
        return sorted(os.listdir(self.guests))


def files(folder):
    """All that is in a guest's folder, but for runs' records and logs."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if "logs" not in p.parts)


@pytest.fixture
def disk(tmp_path):
    made = Disk(tmp_path / "disk")
    try:
        yield made
    finally:
        subprocess.run(["umount", "-l", made.path], check=True)


@pytest.fixture
def lab(tmp_path, disk):
    """A daemon whose guests are on that disk, and which lets them have the last of it."""
    d = Daemon(tmp_path, guests=disk.guests, options=["--disk-reserve", "0"])
    try:
        yield d.start()
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            disk.leave()
        d.close()


def half_made(names):
    """What is written under another name first."""
    return [n for n in names if re.search(r"(^|/)\.[^/]*\.(new|part|cut|[0-9.]+)$", n)]


def attempts(doing):
    """Does it with room for nothing, for one more, and so on, until it comes to its end; how often it did not."""
    for room in range(60):
        if doing(room):
            return room
    raise AssertionError("60 were not enough")


@pytest.mark.parametrize("kind", ["inodes", "pages"])
def test_each_step_of_a_start(disk, lab, tmp_path, kind):
    """Wherever in a start the disk is found to be full: told as that, and with room the same guest starts."""
    # Room for an OCSSD's image is asked for before it is made: by the page only what a plain drive needs.
    config = fork(tmp_path / "q", V3).config(devices=[OCSSD, PLAIN] if kind == "inodes" else [PLAIN])
    whole = {}

    def start(room):
        folder = lab.folder(f"g{room}", config)
        disk.leave(**{kind: room})
        done = lab.ctl("start", f"g{room}", code=None)
        disk.leave()
        names = files(folder)
        if done.returncode == 0:
            lab.ctl("kill", f"g{room}")
            whole.update((p.name, p.stat().st_size) for p in folder.glob("*.img"))
            return True
        view = lab.show(f"g{room}")
        assert (done.returncode, view["state"]) == (75, "stopped"), (room, done.stderr, view)
        # By whichever way: refused before, or found full in the middle.
        assert "No space left" in done.stderr or "has only" in done.stderr, (room, done.stderr)
        assert not half_made(names), (room, names)
        for drive in ("nvme0", "nvme1"):
            assert f"{drive}.geometry.json" in names or f"{drive}.img" not in names, (room, names)
        return False

    failures = attempts(start)
    assert failures >= 3
    for room in range(failures):
        lab.ctl("start", f"g{room}")
        folder = lab.guests / f"g{room}"
        assert {p.name: p.stat().st_size for p in folder.glob("*.img")} == whole, room
        assert not half_made(files(folder))
        lab.ctl("kill", f"g{room}")


# A qemu-img that writes more than is said of the format.
GREEDY = """#!/bin/sh
for last; do :; done
exec head -c 64M /dev/zero >"$last"
"""


def test_an_image_in_the_middle_of_being_made(disk, lab, tmp_path):
    """The disk is full when qemu-img is half through: at a start, and when a drive is made anew."""
    fake = fork(tmp_path / "q", V3)
    folder = lab.folder("g", fake.config(devices=[OCSSD]))
    program = fake.home / "bin/qemu-img"
    good = program.read_text()
    program.write_text(GREEDY)
    disk.leave(pages=1000)
    done = lab.ctl("start", "g", code=75)
    assert "cannot make 'nvme0.img': No space left on device" in done.stderr
    assert "make room, then try again" in done.stderr
    assert [n for n in files(folder) if "nvme0" in n] == []
    assert os.statvfs(disk.path).f_bfree >= 990
    program.write_text(good)
    lab.ctl("start", "g")
    lab.ctl("kill", "g")

    def drive():
        return [(n, (folder / n).stat().st_size, (folder / n).stat().st_ino, (folder / n).open("rb").read(65536))
                for n in files(folder) if "nvme0" in n and "fail" not in n]

    before = drive()
    program.write_text(GREEDY)
    done = lab.ctl("device", "format", "g", "nvme0", "--yes", code=75)
    assert "cannot make 'nvme0.img': No space left on device" in done.stderr
    # The drive is as it was: not half of a new one.
    assert drive() == before
    disk.leave()
    program.write_text(good)
    lab.ctl("start", "g")
    lab.ctl("kill", "g")
    lab.ctl("device", "format", "g", "nvme0", "--yes")


@pytest.mark.parametrize("kind", ["inodes", "pages"])
def test_each_step_of_a_format(disk, lab, tmp_path, kind):
    """A format that fails leaves the drive that was there, or none: never one that is not what it is taken for."""
    folder = lab.folder("g", fork(tmp_path / "q", V3).config(devices=[OCSSD, PLAIN]))
    lab.ctl("start", "g")
    lab.ctl("kill", "g")
    (folder / "nvme1.img").write_bytes(b"data" * (2 << 20))

    def both(room):
        codes = []
        for drive in ("nvme0", "nvme1"):
            disk.leave(**{kind: room})
            done = lab.ctl("device", "format", "g", drive, "--yes", code=None)
            codes.append(done.returncode)
            assert done.returncode == 0 or (done.returncode == 75 and (
                "No space left" in done.stderr or "has only" in done.stderr)), (room, done)
        assert not half_made(files(folder))
        disk.leave()
        lab.ctl("start", "g")
        lab.ctl("kill", "g")
        return codes == [0, 0]

    assert attempts(both) >= 1
    assert (folder / "nvme1.img").read_bytes() == bytes(8 << 20)


def test_create_and_set(disk, lab, tmp_path):
    """A guest is made as a whole or not at all; a definition that cannot be written anew stays as it was."""
    fake = FakeQemu(tmp_path / "q")
    (fake.home / "bzImage").touch()
    names = iter(range(100))

    def create(room, kind):
        before = disk.names()
        disk.leave(**{kind: room})
        done = lab.ctl("create", f"g{next(names)}", "--kernel", fake.home / "bzImage", code=None)
        if done.returncode == 0:
            return True
        assert done.returncode == 75 and "No space left" in done.stderr, done
        assert disk.names() == before
        return False

    assert attempts(lambda room: create(room, "inodes")) == 2
    assert attempts(lambda room: create(room, "pages")) >= 1
    disk.leave()
    name = disk.names()[0]
    config = disk.guests / name / "guest.json"
    before = config.read_text()
    disk.leave(pages=0)
    done = lab.ctl("set", name, "memory=96M", code=75)
    assert "cannot write guest.json" in done.stderr and "No space left" in done.stderr
    assert config.read_text() == before and os.listdir(config.parent) == ["guest.json"]
    disk.leave()
    lab.ctl("set", name, "memory=96M")
    assert json.loads(config.read_text())["memory"] == "96M"


def test_a_kernel_that_does_not_fit(disk, lab, tmp_path):
    """The kernel that was there goes on to be it."""
    folder = lab.folder("g", FakeQemu(tmp_path / "q").config())
    old = (b"\0" * 0x1fe + b"\x55\xaa\0\0HdrS").ljust(4 << 20, b"o")
    new = tmp_path / "bzImage"
    new.write_bytes(old[:0x206].ljust(8 << 20, b"n"))
    (folder / "bzImage").write_bytes(old)
    disk.leave(pages=1000)
    done = lab.ctl("kernel", "g", new, code=75)
    assert "cannot write the kernel: No space left on device" in done.stderr
    assert (folder / "bzImage").read_bytes() == old and not half_made(files(folder))
    disk.leave()
    lab.ctl("kernel", "g", new)
    assert (folder / "bzImage").read_bytes() == new.read_bytes()


def test_the_end_of_a_run(disk, lab, tmp_path):
    """How it ended is on record as soon as there is room, and the next daemon says the same."""
    lab.folder("g", FakeQemu(tmp_path / "q").config())
    lab.ctl("start", "g")
    disk.leave(inodes=0)
    os.kill(lab.show("g")["pid"], signal.SIGKILL)
    wait_until(lambda: lab.show("g")["state"] == "stopped", "its end is seen")
    assert lab.log_text().count("cannot write 'logs/0001.run.json': No space left on device") == 1
    disk.leave()
    assert lab.show("g")["reason"] == "crashed"
    lab.restart(signal.SIGKILL)
    view = lab.show("g")
    assert (view["reason"], view["exit"]) == ("crashed", {"signal": 9, "name": "SIGKILL"})


def test_the_end_of_a_run_that_had_room_ahead(disk, lab, tmp_path):
    """What was kept for its console is enough for the record."""
    lab.folder("g", FakeQemu(tmp_path / "q").config())
    lab.ctl("start", "g")
    disk.leave(pages=0)
    os.kill(lab.show("g")["pid"], signal.SIGKILL)
    wait_until(lambda: lab.show("g")["state"] == "stopped", "its end is seen")
    lab.restart(signal.SIGKILL)
    assert lab.show("g")["reason"] == "crashed"


def test_a_guest_that_fills_it(disk, lab, tiny, tmp_path):
    """QEMU pauses a guest whose image cannot grow: that is said, and it goes on where it was when there is room."""
    folder = lab.folder("g", {**tiny.config, "kernel": {**tiny.config["kernel"], "append": "console=ttyS0"}})
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", folder / "boot.qcow2", "64M"], check=True)
    lab.ctl("start", "g", "--wait=ssh")
    pid = lab.show("g")["pid"]
    disk.leave(pages=1000)
    writing = lab.ctl_start("exec", "g", "--", "yes | head -c 20000000 >/tmp/x; md5sum </tmp/x; "
                            "dd if=/tmp/x of=/dev/vda bs=1M 2>/dev/null; sync; echo 3 >/proc/sys/vm/drop_caches; "
                            "head -c 20000000 /dev/vda | md5sum")
    wait_until(lambda: lab.show("g")["state"] == "paused", "QEMU pauses it")
    for restart in (False, True):
        if restart:
            lab.restart(signal.SIGKILL)
        view = lab.show("g")
        assert (view["state"], view["pid"]) == ("paused", pid)
        assert "QEMU has paused it" in view["error"] and "make room, then resume it" in view["error"]
        assert "make room" in lab.ctl("list").stdout
        assert "make room" in lab.ctl("status", "g", code=3).stdout
        if not restart:
            assert "'boot0'" in view["error"] and "No space left on device" in view["error"]
    disk.leave()
    lab.ctl("resume", "g")
    out, err = writing.communicate(timeout=HANG)
    one, two = out.split(b"\n")[:2]
    assert one == two and len(one) > 32, (out, err)
    view = lab.show("g")
    assert (view["state"], view["error"]) == ("running", None)


@pytest.fixture
def image(tmp_path):
    """A cloud image with something in it that compresses badly."""
    raw, path = tmp_path / "raw", tmp_path / "cloud.qcow2"
    raw.write_bytes(os.urandom(16 << 20))
    subprocess.run(["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", raw, path], check=True)
    return path


def test_a_box_that_does_not_fit(disk, lab, image, tmp_path):
    box = tmp_path / "test.box"
    with tarfile.open(box, "w") as tar:
        tar.add(image, "./box.img")
    disk.leave(pages=2000)
    done = lab.ctl("create", "boxed", "--box", box, code=75)
    assert "No space left on device" in done.stderr and "make room" in done.stderr, done.stderr
    assert disk.names() == []
    disk.leave()
    lab.ctl("create", "boxed", "--box", box)
    assert (disk.guests / "boxed/boot.qcow2").read_bytes() == image.read_bytes()


def test_an_overlay_and_a_seed_that_do_not_fit(disk, lab, image, tiny):
    """Whichever of the two has no room: no guest is left whose disk or whose key is missing."""
    key = tiny.dir / "id_ed25519.pub"
    told = set()
    for pages in range(0, 400, 8):
        disk.leave(pages=pages)
        done = lab.ctl("create", "web", "--cloud-image", image, "--ssh-key", key, code=None)
        if done.returncode == 0:
            break
        assert done.returncode == 75 and "No space left on device" in done.stderr, (pages, done)
        told.add("overlay" if "qemu-img" in done.stderr else "seed" if "genisoimage" in done.stderr else "guest")
        assert disk.names() == [], pages
    assert told == {"guest", "overlay", "seed"}
    boot = json.loads(subprocess.run(["qemu-img", "check", "--output=json", disk.guests / "web/boot.qcow2"],
                                     capture_output=True, check=True).stdout)
    assert boot["check-errors"] == 0
    assert b"ssh_authorized_keys" in (disk.guests / "web/seed.img").read_bytes()
    disk.leave()
