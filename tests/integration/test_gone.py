"""What goes in the middle of something: guests whose folders vanish, the daemon itself."""

import shutil
import signal
import socket

import pytest

from harness import wait_until


def test_host_down_of_a_guest_without_folder(daemon, fake):
    """Who waits for its end looks for it, and finds it gone."""
    for name in ("a", "b"):
        daemon.folder(name, fake.config())
    daemon.ctl("start", "a", "b")
    shutil.rmtree(daemon.guests / "a")
    with daemon.connect() as c, daemon.connect() as other:
        other.send("guest-wait", guest="a", **{"for": "stopped"})
        results = c.call("host-down", force_after=1)
        assert {r["guest"] for r in results["guests" if "guests" in results else "results"]
                } == {"a", "b"} if isinstance(results, dict) else results
    assert [g["guest"] for g in daemon.json("list")] == ["b"]
    assert daemon.stop() == 0


def test_the_name_of_a_guest_that_runs_is_not_given_away(daemon, fake):
    """Nobody is told to have created what is somebody else's guest; one that was renamed gives its name back."""
    daemon.folder("a", fake.config())
    daemon.ctl("start", "a")
    (daemon.guests / "a").rename(daemon.guests / "b")
    daemon.ctl("create", "a", "--kernel", fake.home / "bzImage")
    shutil.rmtree(daemon.guests / "b")
    done = daemon.ctl("create", "b", "--kernel", fake.home / "bzImage", code=65)
    assert "'b' still runs, though its folder was renamed or removed" in done.stderr
    assert not (daemon.guests / "b").exists()
    daemon.ctl("kill", "b")
    daemon.ctl("create", "b", "--kernel", fake.home / "bzImage")
    assert [(g["guest"], g["state"]) for g in daemon.json("list")] == [("a", "stopped"), ("b", "stopped")]


def test_lease_with_reset_of_a_guest_without_folder(daemon, fake):
    daemon.folder("a", fake.config(devices=[{"id": "d0", "type": "nvme", "size": "1M"}]))
    daemon.ctl("start", "a")
    with daemon.connect() as c:
        c.call("lease-acquire", guest="a", seconds=60, reset=True)
        shutil.rmtree(daemon.guests / "a")
        c.call("lease-release", guest="a")
        wait_until(lambda: not daemon.json("list"), "the guest is gone")
    assert daemon.stop() == 0


def test_lease_with_reset_when_a_drive_is_not_defined_any_more(daemon, fake):
    """The first drive cannot be formatted, the second is."""
    drives = [{"id": d, "type": "nvme", "size": "1M"} for d in ("d0", "d1")]
    folder = daemon.folder("a", fake.config(devices=drives))
    daemon.ctl("start", "a")
    daemon.ctl("kill", "a")
    (folder / "d1.img").write_bytes(b"x" * 2**20)
    with daemon.connect() as c:
        c.call("lease-acquire", guest="a", seconds=60, reset=True)
        daemon.folder("a", fake.config(devices=[{**drives[0], "size": "bad"}, drives[1]]))
        c.call("lease-release", guest="a")
        wait_until(lambda: "as its lease ended" in daemon.log_text(), "the lease's end is over")
    assert daemon.stop() == 0


def test_stopped_while_a_kernel_is_copied(daemon, fake, tmp_path):
    """Nothing of it is left in the guest's folder."""
    folder = daemon.folder("a", fake.config())
    kernel = tmp_path / "bzImage"
    with open(kernel, "wb") as f:
        f.write(b"\0" * 0x1fe + b"\x55\xaa\0\0HdrS")
        f.truncate(900 * 2**20)
    with daemon.connect() as c:
        c.send("kernel-install", guest="a", path=str(kernel))
        wait_until(lambda: list(folder.glob(".bzImage*")) or (folder / "bzImage").exists(), "it is being copied")
        assert daemon.stop(signal.SIGTERM) == 0
    assert not list(folder.glob(".bzImage*"))


def test_a_monitor_that_closes_leaves_time_for_last_words(daemon, fake):
    """QEMU says why it ends after it has closed its monitor: that is what is told."""
    daemon.folder("a", fake.config("at=cont:close", "say=disk on fire"))
    err = daemon.ctl("start", "a", code=1).stderr
    assert "closed its monitor" in err or "disk on fire" in err, err


@pytest.mark.parametrize("half_first", [False, True])
def test_a_client_that_waits_for_ever_and_leaves_is_let_go(daemon, fake, half_first):
    """Also while nothing is read of it: it has asked for too much, or has said that no more comes."""
    daemon.folder("a", fake.config())
    daemon.show("a")
    base = len(daemon.fds())
    wait = '{"execute": "guest-wait", "arguments": {"guest": "a", "for": "running", "timeout": 0}, "id": %d}\n'
    for requests in (1, 256, 600):
        with daemon.connect() as c:
            c.send_raw("".join(wait % i for i in range(requests)))
            if half_first:
                c.sock.shutdown(socket.SHUT_WR)
                # It is seen to be half closed only, and is not taken for gone.
                with daemon.connect() as other:
                    other.call("query-daemon")
                assert len(daemon.fds()) > base
        wait_until(lambda: len(daemon.fds()) <= base, "its descriptors are closed")
    # And none of what it waited for is kept: one, and twice as many as a client may have under way.
    wait_until(lambda: daemon.log_text().count("guest-wait a: Timeout") == 1 + 2 * 256, "nobody waits any more")
    # Who stays hears of it.
    with daemon.connect() as c:
        c.send_raw("".join(wait % i for i in range(300)))
        c.sock.shutdown(socket.SHUT_WR)
        daemon.ctl("start", "a")
        for one in range(300):
            assert c.receive(one)["return"]["state"] == "running"
