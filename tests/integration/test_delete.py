"""Guests deleted: nothing waits for it, and what it leaves is known."""

import os
import signal
import time

import pytest

from harness import wait_until
from lab import OWNER, STRANGER, lab, root_only  # noqa: F401

HIDDEN = ".g.0123456789abcdef.deleted"


# Names of one file in a folder: they take a disk a twentieth of the time that new files take. ext4 has 65000.
LINKS_MAX = 50_000


def fill(folder, files):
    folder.mkdir(exist_ok=True)
    fd = os.open(folder, os.O_RDONLY)
    try:
        for i in range(files):
            if i % LINKS_MAX == 0:
                first = f"f{i}"
                os.close(os.open(first, os.O_CREAT | os.O_WRONLY, dir_fd=fd))
            else:
                os.link(first, f"f{i}", src_dir_fd=fd, dst_dir_fd=fd)
    finally:
        os.close(fd)


def all_deleted(client, n):
    """The next @n replies, in whatever order."""
    replies = [client.read() for _ in range(n)]
    assert all(r["return"]["deleted"] for r in replies), replies
    assert len({r["id"] for r in replies}) == n


def hidden(daemon):
    return [p.name for p in daemon.guests.iterdir() if p.name.startswith(".")]


def test_others_are_answered_meanwhile(daemon, fake):
    """Asked in one go: what is quick is answered first, however few files there are."""
    fill(daemon.folder("g", fake.config()) / "many", 2000)
    with daemon.connect() as c:
        delete = c.send("guest-delete", guest="g")
        listing = c.send("query-guests")
        again = c.send("guest-delete", guest="g")
        replies = [c.read() for _ in range(3)]
    assert [r["id"] for r in replies] == [listing, again, delete]
    assert replies[0]["return"] == []  # it is none any more, from the first moment
    assert replies[1]["error"]["class"] == "GuestNotFound"
    assert replies[2]["return"] == {"guest": "g", "deleted": True}
    assert list(daemon.guests.iterdir()) == []


@pytest.mark.long
def test_two_hundred_thousand_files(daemon, fake):
    fill(daemon.folder("g", fake.config()) / "many", 200_000)
    with daemon.connect() as watcher, daemon.connect() as deleter, daemon.connect() as c:
        watcher.call("events-subscribe")
        wanted = deleter.send("guest-delete", guest="g")
        slowest, asked = 0, 0
        deleter.sock.setblocking(False)
        start = time.monotonic()
        while True:
            try:
                deleter.buffer += deleter.sock.recv(1 << 20)
                break
            except BlockingIOError:
                began = time.monotonic()
                c.call("query-guests")
                slowest, asked = max(slowest, time.monotonic() - began), asked + 1
        took = time.monotonic() - start
        assert deleter.receive(wanted)["return"]["deleted"]
        watcher.call("query-daemon")
        told = [e["data"] for e in watcher.events if e["event"] == "PROGRESS"]
        assert all(t["guest"] == "g" and t["phase"] == "deleting" and "are gone" in t["text"] for t in told)
        assert told or took < 4
        print(f"{asked} requests answered in {took:.1f} s, the slowest within {slowest * 1000:.1f} ms")
    assert list(daemon.guests.iterdir()) == []


def test_many_at_once(daemon, fake):
    for i in range(30):
        fill(daemon.folder(f"g{i}", fake.config()) / "some", 20)
    with daemon.connect() as c:
        for i in range(30):
            c.send("guest-delete", guest=f"g{i}")
        all_deleted(c, 30)
    assert list(daemon.guests.iterdir()) == []
    assert not [fd for fd in daemon.fds() if "removal" in fd or str(daemon.guests) + "/" in fd]


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_a_daemon_that_ends_in_the_middle(daemon, fake, sig):
    """The guest is whole or none at all; the daemon after it removes what is left."""
    fill(daemon.folder("g", fake.config()) / "many", 5000)
    daemon.guests.chmod(0o755)
    with daemon.connect() as c:
        c.send("guest-delete", guest="g")
        c.call("query-guests")  # so it has begun, and may be over
        daemon.stop(sig)
    daemon.start()
    assert daemon.json("list") == []
    wait_until(lambda: not hidden(daemon), "the folder is gone")
    assert list(daemon.guests.iterdir()) == []


def test_leftovers_are_removed_at_the_start(daemon, fake):
    """As kill -9 leaves them; what only looks like one stays."""
    daemon.stop()
    daemon.guests.chmod(0o755)
    names = [HIDDEN, ".a.b-c.ffffffffffffffff.new", ".g.0123456789abcdef.other", ".g.0123456789abcde.deleted",
             "..0123456789abcdef.deleted", ".g.0123456789ABCDEF.deleted", ".0123456789abcdef.deleted"]
    for name in names:
        fill(daemon.guests / name, 3)
    (daemon.guests / ".f.0123456789abcdef.deleted").touch()
    daemon.start()
    wait_until(lambda: len(hidden(daemon)) <= len(names) - 1, "the folders are gone")
    assert sorted(hidden(daemon)) == sorted([*names[2:], ".f.0123456789abcdef.deleted"])
    assert "guest 'g': removing what is left of it" in daemon.log_text()


def test_in_a_folder_where_others_give_names(daemon, fake):
    """There anybody can have called somebody's guest so: it is told of, not removed."""
    daemon.stop()
    daemon.guests.chmod(0o777)
    fill(daemon.guests / HIDDEN, 3)
    (daemon.guests / ".h.0123456789abcdef.deleted").mkdir()
    daemon.start()
    assert hidden(daemon) == [HIDDEN] and len(os.listdir(daemon.guests / HIDDEN)) == 3
    assert HIDDEN in daemon.log_text() and "not removed" in daemon.log_text()


@root_only
def test_what_cannot_be_removed_is_told_and_the_rest_goes(lab):
    """At each start anew, until somebody who may has removed it."""
    folder = lab.folder_of(OWNER, "g", lab.fake.config())
    (folder / "roots").mkdir()
    (folder / "roots/kept").touch()
    locked = folder / "locked"
    fill(locked, 3)
    for path in (locked, *locked.iterdir()):
        os.chown(path, OWNER.uid, OWNER.gid)
    done = lab.ctl_as(OWNER, "delete", "g", "--yes", code=70)
    left = lab.guests / hidden(lab)[0]
    assert "guest 'g' is gone" in done.stderr and f"'{left}'" in done.stderr and "denied" in done.stderr
    assert [p.name for p in left.iterdir()] == ["roots"]
    with lab.connect_as(OWNER) as c:
        entry = c.call("query-history")[-1]
        assert (entry["operation"], entry["result"]) == ("guest-delete", "Internal")
    lab.restart()
    wait_until(lambda: f"files of it are left in '{left}'" in lab.log_text().split("stopping")[1], "it is told")
    (left / "roots/kept").unlink()
    lab.restart()
    wait_until(lambda: not left.exists(), "it is gone")


@root_only
def test_one_owners_slow_deletions_hold_up_nobody_else(lab):
    """Four that never end, since their owner has stopped them."""
    for i in range(6):
        fill(lab.folder_of(OWNER, f"slow{i}", lab.fake.config()) / "d", 2000)
        os.chown(lab.guests / f"slow{i}" / "d", OWNER.uid, OWNER.gid)
    lab.folder_of(STRANGER, "quick", lab.fake.config())
    stopped = []

    def stop_one():
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            try:
                if (os.stat(f"/proc/{pid}").st_uid == OWNER.uid and pid not in stopped
                        and b"--remove" in open(f"/proc/{pid}/cmdline", "rb").read()):
                    os.kill(pid, signal.SIGSTOP)
                    stopped.append(pid)
            except (FileNotFoundError, ProcessLookupError):
                pass
    with lab.connect() as slow:
        for i in range(6):
            slow.send("guest-delete", guest=f"slow{i}")
        stop_one()
        try:
            lab.ctl_as(STRANGER, "delete", "quick", "--yes")
        finally:
            for pid in stopped:
                try:
                    os.kill(pid, signal.SIGCONT)
                except ProcessLookupError:
                    pass
        all_deleted(slow, 6)
    assert list(lab.guests.iterdir()) == []
