"""The kernel's out-of-memory killer takes a guest, in a control group that is too small: named as that."""

import os
import pathlib
import signal

import pytest

from harness import Daemon, alive, wait_until

V1, V2 = pathlib.Path("/sys/fs/cgroup/memory"), pathlib.Path("/sys/fs/cgroup")

# Enough to boot in, and not for all that the guest believes to have.
LIMIT, MEMORY = 320 << 20, "640M"


class Group:
    """A control group whose memory is limited, of either version."""

    def __init__(self, name):
        self.v2 = "memory" in (V2 / "cgroup.controllers").read_text() if (V2 / "cgroup.controllers").exists() else False
        self.path = (V2 if self.v2 else V1) / name
        try:
            if self.v2:
                (V2 / "cgroup.subtree_control").write_text("+memory")
            self.path.mkdir()
        except OSError as e:
            pytest.skip(f"this machine cannot: no control group of its own that limits memory ({e})")
        if self.v2:
            (self.path / "memory.swap.max").write_text("0")
        (self.path / ("memory.max" if self.v2 else "memory.limit_in_bytes")).write_text(str(LIMIT))
        self.counter = self.path / ("memory.events" if self.v2 else "memory.oom_control")

    def take(self, pid):
        (self.path / "cgroup.procs").write_text(str(pid))

    def kills(self):
        return int([line for line in self.counter.read_text().splitlines() if line.startswith("oom_kill ")][0].split()[1])

    def close(self):
        """Removed when it is empty, which may take a moment."""
        def removed():
            try:
                self.path.rmdir()
                return True
            except OSError:
                return False
        wait_until(removed, f"{self.path} is empty")


@pytest.fixture
def group(request):
    """Named as the scope of guest 'g' is where the test says so."""
    made = Group(f"{getattr(request, 'param', 'cij-test')}-{os.getpid()}.scope")
    try:
        yield made
    finally:
        for pid in made.path.joinpath("cgroup.procs").read_text().split():
            (made.path.parent / "cgroup.procs").write_text(pid)
        made.close()


own = pytest.mark.parametrize("group", ["cijqemu-g"], indirect=True)


def fill(daemon, name):
    """Lets the guest use all its memory."""
    daemon.ctl("exec", name, "--", "mount -t tmpfs -o size=100% none /tmp; setsid cat /dev/zero >/tmp/x 2>/dev/null </dev/null &")


def ended(daemon):
    return wait_until(lambda: (v := daemon.show("g"))["state"] == "stopped" and v, "it is taken")


@own
def test_alone_in_its_group(daemon, tiny, group):
    """As in a scope of its own: it is the guest that was killed for its memory, and no other."""
    daemon.folder("g", {**tiny.config, "memory": MEMORY})
    daemon.ctl("start", "g", "--paused")
    group.take(daemon.show("g")["pid"])
    daemon.ctl("resume", "g")
    daemon.restart(signal.SIGKILL)  # it looks where its guest is
    daemon.ctl("wait", "g", "--for", "ssh")
    fill(daemon, "g")
    view = ended(daemon)
    assert group.kills() >= 1
    assert (view["reason"], view["exit"]) == ("crashed", None), view  # not its child: the kernel does not tell
    assert "out-of-memory" in view["error"]
    assert "out-of-memory" in daemon.ctl("status", "g", code=3).stdout
    assert "guest 'g': crashed" in daemon.log_text()
    # The record has it, and what comes after says the same.
    daemon.restart()
    assert daemon.show("g")["error"] == view["error"]


@own
def test_alone_and_our_child(daemon, tiny, group, tmp_path):
    home = tmp_path / "qemu"
    (home / "bin").mkdir(parents=True)
    program = home / "bin/qemu-system-x86_64"
    program.write_text(f"#!/bin/sh\necho $$ >{group.path}/cgroup.procs\nexec qemu-system-x86_64 \"$@\"\n")
    program.chmod(0o755)
    daemon.folder("g", {**tiny.config, "memory": MEMORY, "qemu_home": str(home)})
    daemon.ctl("start", "g")
    assert group.path.name in pathlib.Path(f"/proc/{daemon.show('g')['pid']}/cgroup").read_text()
    # Somebody's kill -9 is none of that.
    os.kill(daemon.show("g")["pid"], signal.SIGKILL)
    view = ended(daemon)
    assert (view["reason"], view["error"]) == ("crashed", None)
    daemon.ctl("start", "g", "--wait=ssh")
    fill(daemon, "g")
    view = ended(daemon)
    assert view["exit"] == {"signal": 9, "name": "SIGKILL"} and view["reason"] == "crashed"
    assert "out-of-memory" in view["error"]


def test_with_others_in_the_group(tmp_path, tiny, group):
    """Without a scope of its own: that it was this one is likely, and said no surer than that."""
    daemon = Daemon(tmp_path)
    try:
        daemon.spawn()
        group.take(daemon.pid)
        wait_until(daemon.answers, "the daemon answers")
        daemon.folder("g", {**tiny.config, "memory": MEMORY})
        daemon.ctl("start", "g", "--wait=ssh")
        fill(daemon, "g")
        view = ended(daemon)
        assert view["exit"] == {"signal": 9, "name": "SIGKILL"} and view["reason"] == "crashed"
        assert "ran out of memory" in view["error"] and "it seems" in view["error"]
        assert alive(daemon.pid)
    finally:
        daemon.close()
