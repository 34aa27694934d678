"""push and pull: through tar (the tiny guest as it is), by SFTP (the same with a server), and by
SFTP with an OpenSSH server on loopback, for size and faults."""

import filecmp
import json
import os
import pathlib
import random
import signal
import subprocess
import time

import pytest

from harness import BUILD, Daemon, FakeQemu, HANG, wait_until

SFTP_SERVER = pathlib.Path("/usr/lib/openssh/sftp-server")


@pytest.fixture(scope="module")
def sftp_tiny(tmp_path_factory, tiny):
    """The tiny guest with OpenSSH's SFTP server, which dropbear runs where it finds it."""
    d = Daemon(tmp_path_factory.mktemp("sftp"))
    try:
        d.start()
        d.folder("tiny", tiny.config)
        d.ctl("start", "tiny", "--wait=ssh")
        d.ctl("push", "tiny", SFTP_SERVER, "/usr/lib/sftp-server")
        yield d
    finally:
        d.close()


@pytest.fixture(params=["tar", "sftp"])
def guest(request):
    return request.getfixturevalue({"tar": "booted", "sftp": "sftp_tiny"}[request.param])


@pytest.fixture(scope="module")
def loop(tmp_path_factory, sshd):
    """A guest whose SSH is the OpenSSH server on loopback: its files are ours."""
    base = tmp_path_factory.mktemp("loop")
    d = Daemon(base)
    fake = FakeQemu(base / "qemu")
    try:
        d.start()
        d.folder("g", fake.config("elsewhere", ssh={"port": sshd.port, "key": str(sshd.key)}))
        d.ctl("start", "g", "--wait=ssh")
        yield d
    finally:
        d.close()


def tree(base):
    """A folder with what files can be."""
    base.mkdir()
    (base / "empty").touch()
    (base / "a").write_text("hi\n")
    (base / "a").chmod(0o750)
    os.utime(base / "a", (1577934245, 1577934245))
    (base / "sub/deep").mkdir(parents=True)
    (base / "sub/random").write_bytes(random.randbytes(300_001))
    (base / "sub/link").symlink_to("../a")
    (base / "sub/dangling").symlink_to("nowhere/at all")
    (base / "sub/deep/new\nline 'and\" blank").write_text("x")
    (base / "-rf").write_text("no option")
    (base / ("long" * 60)).write_text("long")
    (base / "ümlaut").write_text("u")
    with open(base / "sparse", "wb") as f:
        f.truncate(3_000_000)
        f.seek(1_000_000)
        f.write(b"data in the middle")
    (base / "sub/deep").chmod(0o555)
    (base / "sub").chmod(0o711)
    os.utime(base / "sub", (1500000000, 1500000000))
    return base


def same(a, b):
    """Content, kinds, modes and times of two trees."""
    names = sorted(p.relative_to(a) for p in a.rglob("*"))
    assert names == sorted(p.relative_to(b) for p in b.rglob("*"))
    for name in names:
        x, y = a / name, b / name
        assert x.is_symlink() == y.is_symlink()
        if x.is_symlink():
            assert os.readlink(x) == os.readlink(y)
            continue
        assert (x.stat().st_mode, int(x.stat().st_mtime)) == (y.stat().st_mode, int(y.stat().st_mtime)), name
        if x.is_file():
            assert filecmp.cmp(x, y, shallow=False), name


def no_parts(path):
    return not list(pathlib.Path(path).rglob(".cijqemu*"))


def test_tree_there_and_back(guest, tmp_path, request):
    src = tree(tmp_path / "src")
    way = "through tar" if "tar" in request.node.name else "by SFTP"
    guest.ctl("exec", "tiny", "--", "rm -rf /root/t; mkdir /root/t")
    assert way in guest.ctl("push", "-v", "tiny", "-r", src, "t").stderr
    guest.ctl("pull", "tiny", "-r", "t/src", tmp_path / "back")
    same(src, tmp_path / "back")
    # Once more, into what is there: files are replaced, others stay.
    (src / "a").write_text("other\n")
    guest.ctl("exec", "tiny", "--", "echo mine > t/src/mine")
    guest.ctl("push", "tiny", "-r", src, "/root/t/")
    guest.ctl("pull", "tiny", "-r", "t/src/", tmp_path / "back2")
    assert (tmp_path / "back2/a").read_text() == "other\n"
    assert (tmp_path / "back2/mine").read_text() == "mine\n"
    assert "cijqemu" not in guest.ctl("exec", "tiny", "--", "find /root").stdout
    assert no_parts(tmp_path)
    (src / "sub/deep").chmod(0o755)
    (tmp_path / "back/sub/deep").chmod(0o755)
    (tmp_path / "back2/sub/deep").chmod(0o755)


def test_destination_rules(guest, tmp_path):
    """As cp's, and the same each time."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_text("f")
    guest.ctl("exec", "tiny", "--", "rm -rf t; mkdir -p t/dir")
    a, b, d = tmp_path / "a", tmp_path / "b", tmp_path / "d"

    def there():
        return guest.ctl("exec", "tiny", "--", "cd t && find . -type f | sort").stdout.split()

    guest.ctl("push", "tiny", a, "t/new")
    guest.ctl("push", "tiny", a, "t/dir")
    guest.ctl("push", "tiny", a, b, "t/dir/")
    guest.ctl("push", "tiny", a, "~/t/tilde")
    assert there() == ["./dir/a", "./dir/b", "./new", "./tilde"]
    guest.ctl("push", "tiny", "-r", d, "t/d2")
    guest.ctl("push", "tiny", "-r", d, "t/d2")
    assert "./d2/f" in there() and "./d2/d/f" in there()
    guest.ctl("push", "tiny", "-r", f"{d}/.", "t/dir")
    assert "./dir/f" in there()
    before = there()
    for bad in ([a, "t/none/x"], [a, "t/none/"], [a, b, "t/new"], [a, b, "t/none"], [d, "t/dir"],
                [tmp_path / "none", "t"], ["-r", d, "t/new"], [a, a, "t/dir"], ["-r", f"{d}/..", "t/dir"], [a, ""]):
        assert guest.ctl("push", "tiny", *bad, code=None).returncode != 0, bad
    assert there() == before
    # The other way.
    out = tmp_path / "out"
    out.mkdir()
    guest.ctl("pull", "tiny", "t/new", out)
    guest.ctl("pull", "tiny", "t/new", out / "named")
    guest.ctl("pull", "tiny", "t/dir/a", "t/dir/b", out)
    guest.ctl("pull", "tiny", "-r", "t/d2", out / "e")
    guest.ctl("pull", "tiny", "-r", "t/d2", out / "e")
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()) == [
        "a", "b", "e/d/f", "e/d2/d/f", "e/d2/f", "e/f", "named", "new"]
    for bad in (["t/none", out], ["t/dir", out], ["t/new", out / "none/x"], ["t/new", "t/tilde", out / "x"],
                ["t/new", f"{out}/none/"], ["", out], ["t/new", ""]):
        assert guest.ctl("pull", "tiny", *bad, code=None).returncode != 0, bad
    for path in ("~/t/tilde", "~//t/tilde"):
        guest.ctl("pull", "tiny", path, out)
        assert (out / "tilde").read_text() == "a"
        (out / "tilde").unlink()
    for home in ("~", "~/"):
        assert "is a folder; -r" in guest.ctl("pull", "tiny", home, out / "home", code=None).stderr
    assert no_parts(out)


def test_into_a_folder_that_is_there(guest, tmp_path):
    """What is there stays; folders that are new have their own modes and times, as files have."""
    src = tree(tmp_path / "src")
    (src / "private").mkdir(mode=0o700)
    (src / "both").mkdir()
    (src / "both/new").mkdir(mode=0o750)
    (src / "both/new/f").write_text("f")
    os.utime(src / "both/new", (1400000000, 1400000000))
    (src / "clash").mkdir()
    (src / "clash/in").write_text("in")
    guest.ctl("exec", "tiny", "--", "rm -rf t; mkdir -p t/src/both; echo kept >t/src/both/kept; echo kept >t/src/clash")
    assert "clash" in guest.ctl("push", "tiny", "-r", src, "t", code=1).stderr
    there = guest.ctl("exec", "tiny", "--", "cd t/src && cat both/kept clash && ls -a ..").stdout
    assert there.split() == ["kept", "kept", ".", "..", "src"]
    guest.ctl("exec", "tiny", "--", "rm -rf t; mkdir -p t/src/both")
    guest.ctl("push", "tiny", "-r", f"{src}/.", "t/src")
    guest.ctl("pull", "tiny", "-r", "t/src", tmp_path / "back")
    for path in (src, tmp_path / "back"):
        os.utime(path / "both", (0, 0))  # the folder that was there
        os.utime(path, (0, 0))
    same(src, tmp_path / "back")


def test_devices_are_written_to(guest, tmp_path):
    (tmp_path / "a").write_text("to the void")
    guest.ctl("push", "tiny", tmp_path / "a", "/dev/null")
    assert guest.ctl("exec", "tiny", "--", "[ -c /dev/null ] && ls -A /dev | grep -c cijqemu", code=1).stdout == "0\n"
    guest.ctl("exec", "tiny", "--", "echo data > f")
    assert guest.ctl("pull", "tiny", "f", "/dev/stdout").stdout == "data\n"


@pytest.mark.parametrize("size", [1_100_000, 30_000_000], ids=["at the end", "long before the end"])
def test_disk_full_in_the_guest(guest, tmp_path, size):
    guest.ctl("exec", "tiny", "--", "mkdir -p small; mount -t tmpfs -o size=1m none small")
    try:
        (tmp_path / "big").write_bytes(b"x" * size)
        done = guest.ctl("push", "tiny", tmp_path / "big", "small/big", code=1)
        assert "full" in done.stderr
        assert guest.ctl("exec", "tiny", "--", "ls -A small").stdout == ""
    finally:
        guest.ctl("exec", "tiny", "--", "umount small")


def test_disk_full_here(guest, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("this machine cannot mount: not root")
    (tmp_path / "m").mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path / "m"], capture_output=True)
    if done.returncode:
        pytest.skip("this machine cannot mount")
    try:
        guest.ctl("exec", "tiny", "--", "head -c 2000000 /dev/urandom > /tmp/big")
        done = guest.ctl("pull", "tiny", "/tmp/big", tmp_path / "m/big", code=1)
        assert "No space left" in done.stderr
        assert os.listdir(tmp_path / "m") == []
    finally:
        subprocess.run(["umount", tmp_path / "m"], check=True)


@pytest.mark.parametrize("direction", ["push", "pull"])
def test_interrupted(guest, tmp_path, direction):
    """^C in the middle: exit code 130, and nothing that only looks whole, on either side."""
    out = tmp_path / "out"
    out.mkdir()
    guest.ctl("exec", "tiny", "--", "rm -rf t; mkdir t; truncate -s 200M big")
    if direction == "push":
        (tmp_path / "big").write_bytes(random.randbytes(1 << 20) * 100)
        p = guest.ctl_start("--json", "push", "tiny", tmp_path / "big", "t/big")
    else:
        p = guest.ctl_start("--json", "pull", "tiny", "big", out / "big")
    while json.loads(p.stdout.readline())["data"]["bytes"] == 0:
        pass
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=HANG)
    assert b"interrupted" in err and p.returncode == 130, err
    assert os.listdir(out) == []
    wait_until(lambda: guest.ctl("exec", "tiny", "--", "ls -A t").stdout == "", "the rest is removed")


def test_json_events(guest, tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 1000)
    lines = guest.ctl("--json", "push", "tiny", tmp_path / "f", "f").stdout.splitlines()
    last = json.loads(lines[-1])
    assert last["event"] == "DONE"
    data = last["data"]
    assert (data["bytes"], data["total_bytes"], data["files"], data["total_files"], data["failures"]) == (1000, 1000, 1, 1, 0)
    assert all(json.loads(line)["event"] == "PROGRESS" for line in lines[:-1])


@pytest.mark.parametrize("way", ["tar", pytest.param("sftp", marks=pytest.mark.long)])
def test_guest_that_dies_in_mid_transfer(daemon, tiny, tmp_path, way):
    out = tmp_path / "out"
    out.mkdir()
    with open(tmp_path / "big", "wb") as f:
        for _ in range(64):
            f.write(random.randbytes(1 << 20))
    daemon.folder("g", tiny.config)
    for direction in ("pull", "push"):
        daemon.ctl("start", "g", "--wait=ssh")
        if way == "sftp":
            daemon.ctl("push", "g", SFTP_SERVER, "/usr/lib/sftp-server")
        daemon.ctl("exec", "g", "--", "truncate -s 200M big")
        words = ["pull", "g", "big", out / "big"] if direction == "pull" else ["push", "g", tmp_path / "big", "there"]
        p = daemon.ctl_start("--json", *words)
        while json.loads(p.stdout.readline())["data"]["bytes"] == 0:
            pass
        daemon.ctl("kill", "g")
        _, err = p.communicate(timeout=HANG)
        assert p.returncode == 1 and b"the connection was lost" in err, err
        assert os.listdir(out) == []


def test_server_that_dies_in_mid_push(loop, tmp_path):
    """What is on the other side then does not look whole: it has another name."""
    (tmp_path / "big").write_bytes(random.randbytes(1 << 20) * 300)
    (tmp_path / "there").mkdir()
    p = loop.ctl_start("--json", "push", "g", tmp_path / "big", tmp_path / "there/big")
    while json.loads(p.stdout.readline())["data"]["bytes"] == 0:
        pass
    # The process that serves our files is one that has the part open.
    part = wait_until(lambda: list((tmp_path / "there").iterdir()), "the part is begun")[0]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            fds = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        if str(part) in fds and int(pid) != p.pid:
            os.kill(int(pid), signal.SIGKILL)
    _, err = p.communicate(timeout=HANG)
    assert p.returncode == 1 and b"the connection was lost" in err, err
    assert all(name.startswith(".cijqemu") for name in os.listdir(tmp_path / "there"))


def test_paths_with_dots(guest, tmp_path):
    """Whose own '..' they are may go where they lead."""
    (tmp_path / "a").write_text("a")
    guest.ctl("exec", "tiny", "--", "rm -rf t; mkdir -p t/x t/y")
    guest.ctl("push", "tiny", tmp_path / "a", "t/x/../y/./b")
    guest.ctl("push", "tiny", tmp_path / "a", "t/x/..")
    assert guest.ctl("exec", "tiny", "--", "cd t; find . -type f | sort").stdout.split() == ["./a", "./y/b"]
    (tmp_path / "in").mkdir()
    guest.ctl("pull", "tiny", "t/y/../y/b", f"{tmp_path}/in/../c")
    guest.ctl("pull", "tiny", "t/x/../a", f"{tmp_path}/in/.")
    assert (tmp_path / "c").read_text() == "a" and (tmp_path / "in/a").read_text() == "a"


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_thousand_small_files_in_the_guest(guest, tmp_path):
    src = tmp_path / "src"
    for i in range(100):
        (src / f"d{i}").mkdir(parents=True)
        for k in range(100):
            (src / f"d{i}/f{k}").write_bytes(b"%d-%d" % (i, k))
    guest.ctl("exec", "tiny", "--", "rm -rf many")
    guest.ctl("push", "tiny", "-r", src, "many", timeout=900)
    assert guest.ctl("exec", "tiny", "--", "find many -type f | wc -l").stdout.strip() == "10000"
    guest.ctl("pull", "tiny", "-r", "many", tmp_path / "back", timeout=900)
    same(src, tmp_path / "back")
    guest.ctl("exec", "tiny", "--", "rm -rf many")


def test_ten_thousand_small_files(loop, tmp_path, sshd):
    src = tmp_path / "src"
    for i in range(100):
        (src / f"d{i}").mkdir(parents=True)
        for k in range(100):
            (src / f"d{i}/f{k}").write_bytes(b"%d-%d" % (i, k))
    loop.ctl("push", "g", "-r", src, tmp_path / "there")
    same(src, tmp_path / "there")
    loop.ctl("pull", "g", "-r", tmp_path / "there", tmp_path / "back")
    same(src, tmp_path / "back")


def test_four_gib_sparse(loop, tmp_path):
    """Holes are not sent, and are holes again on the other side; offsets beyond 32 bits are right."""
    big = tmp_path / "big"
    with open(big, "wb") as f:
        f.truncate((4 << 30) + 5)
        f.seek((4 << 30) + 1)
        f.write(b"end!")
    t = time.monotonic()
    loop.ctl("push", "g", big, tmp_path / "there")
    assert (tmp_path / "there").stat().st_size == (4 << 30) + 5
    assert (tmp_path / "there").stat().st_blocks < 1000
    with open(tmp_path / "there", "rb") as f:
        f.seek(4 << 30)
        assert f.read() == b"\0end!"
    assert time.monotonic() - t < HANG


@pytest.mark.long
def test_four_gib_pull(loop, tmp_path):
    big = tmp_path / "big"
    with open(big, "wb") as f:
        f.truncate((4 << 30) + 5)
        f.seek((4 << 30) + 1)
        f.write(b"end!")
    loop.ctl("pull", "g", big, tmp_path / "here", timeout=600)
    assert (tmp_path / "here").stat().st_size == (4 << 30) + 5
    assert (tmp_path / "here").stat().st_blocks < 1000
    subprocess.run(["cmp", big, tmp_path / "here"], check=True)


def test_failures_of_single_files_do_not_stop_the_others(loop, tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    os.mkfifo(src / "fifo")
    (src / "good").write_text("good")
    (tmp_path / "there/src/bad").mkdir(parents=True)
    (src / "bad").write_text("a folder is in the way")
    done = loop.ctl("push", "g", "-r", src, tmp_path / "there", code=1)
    assert "fifo" in done.stderr and "bad" in done.stderr
    assert (tmp_path / "there/src/good").read_text() == "good"
    assert no_parts(tmp_path)


def test_a_link_of_an_earlier_copy_leads_nowhere(loop, tmp_path):
    """A guest that first gives a link, then a folder of that name, does not get out of the folder."""
    outside = tmp_path / "outside"
    outside.mkdir()
    src = tmp_path / "src"
    (src / "x").mkdir(parents=True)
    (src / "x/evil").write_text("evil")
    dest = tmp_path / "dest"
    (dest / "src").mkdir(parents=True)
    (dest / "src/x").symlink_to(outside)
    done = loop.ctl("pull", "g", "-r", src, dest, code=1)
    assert "link" in done.stderr
    assert os.listdir(outside) == []


def test_progress_on_a_terminal(loop, tmp_path):
    (tmp_path / "f").write_bytes(random.randbytes(1 << 20) * 64)
    done = subprocess.run(["script", "-qec", f"{BUILD}/cijqemuctl push g {tmp_path}/f {tmp_path}/g", "/dev/null"],
                          env=loop.client_env({"TERM": "xterm"}),
                          capture_output=True, timeout=HANG)
    text = done.stdout.decode(errors="replace")
    assert "%" in text and "/s" in text and "[" in text, text
    assert (tmp_path / "g").stat().st_size == 64 << 20
