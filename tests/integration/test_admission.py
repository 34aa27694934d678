"""Room on the host: a start that would not fit is refused before QEMU runs, with the numbers and who uses what."""

import json
import os
import re
import socket
import subprocess

import pytest

from harness import HANG, FakeQemu, wait_until
from lab import GROUP, OWNER, SHARED, STRANGER, Lab, lab, root_only  # noqa: F401


@pytest.fixture
def lab_with():
    """A daemon with other limits."""
    made = []

    def make(*options):
        d = Lab(options=options)
        made.append(d)
        return d.start()

    yield make
    for d in made:
        d.close()


def memory(lab, size, **more):
    return {**lab.fake.config(), "memory": size, **more}


@root_only
def test_memory_limit_in_bytes(lab_with):
    lab = lab_with("--memory-limit", "1G")
    for user, name, size in ((OWNER, "a", "384M"), (OWNER, "b", "256M"), (SHARED, "c", "256M"), (SHARED, "d", "256M"),
                             (SHARED, "e", "128M")):
        lab.folder_of(user, name, memory(lab, size))
    for name in "abc":
        lab.ctl("start", name)
    done = lab.ctl_as(SHARED, "start", "d", code=75)
    assert "'d'" in done.stderr and "needs 256M" in done.stderr and "1G" in done.stderr and "896M" in done.stderr
    assert f"{OWNER.uid} 640M in 2 guests, " in done.stderr and f"{SHARED.uid} 256M in 1 guest" in done.stderr
    assert lab.show("d")["state"] == "stopped" and lab.show("d")["run"] is None  # no QEMU, no run
    assert not (lab.guests / "d/logs").exists()
    lab.ctl_as(SHARED, "start", "e")  # what fits to the byte, fits
    lab.ctl_as(SHARED, "start", "d", code=75)
    lab.ctl("kill", "b")
    lab.ctl_as(SHARED, "start", "d")


@root_only
def test_memory_is_counted_again_after_a_restart(lab_with):
    lab = lab_with("--memory-limit", "1G")
    lab.folder_of(OWNER, "a", memory(lab, "768M"))
    lab.folder_of(OWNER, "b", memory(lab, "512M"))
    lab.ctl("start", "a")
    lab.restart()
    lab.ctl("start", "b", code=75)
    lab.ctl("kill", "a")
    lab.ctl("start", "b")
    lab.ctl("start", "a", code=75)
    # One that fails to start gives back what it had been promised.
    lab.ctl("kill", "b")
    lab.fake.tell("exit=1")
    assert lab.ctl("start", "a", code=None).returncode != 0
    lab.fake.tell()
    lab.ctl("start", "b")


@root_only
def test_many_at_once_do_not_slip_through(lab_with):
    lab = lab_with("--memory-limit", "512M")
    for i in range(20):
        lab.folder_of(OWNER, f"g{i}", memory(lab, "64M"))
    with lab.connect() as c:
        ids = [c.send("guest-start", guest=f"g{i}") for i in range(20)]
        got = {}
        while len(got) < 20:
            msg = c.read()
            if msg.get("id"):
                got[msg["id"]] = msg
    assert sum("return" in m for m in got.values()) == 8
    assert {m["error"]["class"] for m in got.values() if "error" in m} == {"NoResources"}


@root_only
def test_default_limit_is_of_this_host(lab):
    total = int(re.search(r"MemTotal: +(\d+)", open("/proc/meminfo").read()).group(1)) * 1024
    lab.folder_of(OWNER, "fits", memory(lab, total * 89 // 100))
    lab.folder_of(OWNER, "not", memory(lab, total * 91 // 100))
    done = lab.ctl("start", "not", code=75)
    assert "90% of" in done.stderr and "set not memory=" in done.stderr
    lab.ctl("start", "fits")


@root_only
def test_limits_of_one_user(lab_with):
    lab = lab_with("--user-guests", "2", "--user-memory", "300M")
    for i in range(3):
        lab.folder_of(OWNER, f"o{i}", memory(lab, "64M"))
    lab.folder_of(SHARED, "s", memory(lab, "200M"))
    lab.folder_of(SHARED, "t", memory(lab, "128M"))
    for name in ("r1", "r2", "r3"):
        lab.folder(name, memory(lab, "256M"))
    lab.ctl_as(OWNER, "start", "o0", "o1")
    done = lab.ctl_as(OWNER, "start", "o2", code=75)
    assert f"uid {OWNER.uid} has 2 guests" in done.stderr and "'o0'" in done.stderr and "'o1'" in done.stderr
    # Whoever presses the button: it is the owner's guest.
    lab.ctl("start", "o2", code=75)
    lab.ctl_as(SHARED, "start", "s")
    done = lab.ctl_as(SHARED, "start", "t", code=75)
    assert "needs 128M" in done.stderr and "300M" in done.stderr and "200M" in done.stderr and "'s'" in done.stderr
    lab.ctl("start", "r1", "r2", "r3")  # root set the limits


@root_only
def test_disk_reserve(lab_with):
    """A file system of its own, small enough to fill."""
    lab = lab_with("--disk-reserve", "20%")
    mount = lab.guests
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m,mode=755", "none", mount],
                      capture_output=True).returncode != 0:
        pytest.skip("this machine cannot: no mount")
    try:
        lab.restart()  # it serves the folder that it opened
        lab.folder_of(OWNER, "g", lab.fake.config())
        lab.ctl("start", "g")
        lab.ctl("kill", "g")
        path = lab.folder_of(SHARED, "hog", lab.fake.config())
        (path / "old.img").write_bytes(b"x" * (17 << 20))
        done = lab.ctl("start", "g", code=75)
        assert "20% of 20M" in done.stderr and "4M" in done.stderr
        assert re.search(rf"uid {SHARED.uid} 17(\.0)?M in 1 guest", done.stderr), done.stderr
        (path / "old.img").unlink()
        lab.ctl("start", "g")
        lab.ctl("kill", "g")
    finally:
        lab.stop()
        subprocess.run(["umount", "-l", mount], check=True)


# Ports


@root_only
def test_ports_in_the_range_and_never_twice(lab_with):
    lab = lab_with("--ports", "23500-23503")
    for i in range(5):
        lab.folder_of(OWNER, f"g{i}", lab.fake.config())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 23501))
        taken.listen()
        lab.ctl("start", "g0", "g1", "g2")
        ports = sorted(g["ssh"]["port"] for g in lab.json("list") if g["ssh"])
        assert ports == [23500, 23502, 23503]
        done = lab.ctl("start", "g3", code=75)
        assert "23500 to 23503" in done.stderr
    lab.restart()
    assert sorted(g["ssh"]["port"] for g in lab.json("list") if g["ssh"]) == ports
    lab.ctl("start", "g3")
    assert lab.show("g3")["ssh"]["port"] == 23501
    lab.ctl("kill", "g0")
    lab.ctl("start", "g0")
    assert lab.show("g0")["ssh"]["port"] in ports  # its own of before


@root_only
def test_a_taken_port_is_named_with_its_holder(lab_with):
    lab = lab_with("--ports", "23520-23529")
    lab.folder_of(OWNER, "first", lab.fake.config(forward=[{"host": 23540, "guest": 80}]))
    lab.ctl("start", "first")
    port = lab.show("first")["ssh"]["port"]
    for config in ({"ssh": {"port": port}}, {"ssh": {"port": 23540}}, {"forward": [{"host": port, "guest": 80}]},
                   {"forward": [{"host": 23540, "guest": 80}]}):
        for again in (False, True):
            if again:
                lab.restart()  # read back, forwards too
            lab.folder_of(OWNER, "second", {**lab.fake.config(), **config})
            done = lab.ctl("start", "second", code=75)
            assert "taken by guest 'first'" in done.stderr, (config, done.stderr)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 23541))
        taken.listen()
        for config in ({"ssh": {"port": 23541}}, {"forward": [{"host": 23541, "guest": 80}]}):
            lab.folder_of(OWNER, "second", {**lab.fake.config(), **config})
            done = lab.ctl("start", "second", code=75)
            assert f"(pid {os.getpid()}, uid {os.getuid()})" in done.stderr, done.stderr
    # What was refused holds nothing back.
    lab.folder_of(OWNER, "second", lab.fake.config(forward=[{"host": 23541, "guest": 80}]))
    lab.ctl("start", "second")
    lab.ctl("kill", "second", "first")
    lab.ctl("start", "second")


@pytest.mark.parametrize("args, word", [
    (["--ports", "1"], "--ports"), (["--ports", "9-1"], "--ports"), (["--ports", "1-65536"], "--ports"),
    (["--ports", "a-b"], "--ports"), (["--memory-limit", "lots"], "--memory-limit"),
    (["--memory-limit", "1000%"], "--memory-limit"), (["--disk-reserve", "101%"], "--disk-reserve"),
    (["--disk-reserve", "-1"], "--disk-reserve"), (["--user-guests", "x"], "--user-guests"),
    (["--user-guests", "-1"], "--user-guests"), (["--user-memory", "1X"], "--user-memory"),
])
def test_bad_options(tmp_path, args, word):
    from harness import BUILD
    done = subprocess.run([BUILD / "cijqemud", "--check", "--guests", tmp_path, "--run-dir", tmp_path / "r",
                           "--state-dir", tmp_path / "s", *args], capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 64 and word in done.stderr and len(done.stderr.splitlines()) == 1, done
