"""The daemon, or a QEMU, is stopped (SIGSTOP) and goes on: nobody is blamed for that time, and nothing of it is lost."""

import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from harness import HANG, Client, alive, cpu_seconds, stopped, wait_until

GUESTS = 40  # more than what one call of the loop's is told of (32)


def flood(daemon, name):
    """Lets the guest print numbered lines for ever, and its kernel nothing (of a CPU that stood still) in between."""
    typist = daemon.ctl_start("console", name, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    typist.stdin.write(f"stty -echo; echo 0 >/proc/sys/kernel/printk; i=0; while :; do i=$((i+1)); echo {name} $i; done\n".encode())
    typist.stdin.flush()
    log = daemon.guests / name / "logs/0001.out"
    wait_until(lambda: f"{name} 5\r".encode() in log.read_bytes(), f"{name} prints")
    typist.kill()
    typist.communicate()


def numbered(data, name):
    """How many lines, which shall be 1, 2, 3 …"""
    seen = [int(n) for n in re.findall(rb"(?m)^%s (\d+)\r$" % name.encode(), data)]
    assert seen == list(range(1, len(seen) + 1)), f"{name}: a gap or a double among {len(seen)} lines"
    return len(seen)


def test_daemon_stopped_under_guests_that_print(daemon, tiny, fake, tally):
    """Guests print on, clients wait: when it goes on, everyone has all of it, and nobody is taken for dead."""
    names = ["a", "b"]
    for name in names:
        daemon.folder(name, tiny.config)
    daemon.folder("quiet", fake.config())
    daemon.ctl("start", "quiet", *names)
    pids = {name: daemon.show(name)["pid"] for name in [*names, "quiet"]}
    for name in names:
        daemon.ctl("wait", name, "--for", "ssh")
    followers = {}
    for name in names:
        with open(daemon.base / f"{name}.copy", "wb") as out:
            followers[name] = daemon.ctl_start("logs", "-f", "--raw", name, stdout=out)
    waiter = daemon.ctl_start("wait", "quiet", "--for", "stopped")
    with daemon.connect() as c:
        c.call("events-subscribe")
        for name in names:
            flood(daemon, name)
        logs = {name: daemon.guests / name / "logs/0001.out" for name in names}
        stopped(daemon.pid)
        before = {name: log.stat().st_size for name, log in logs.items()}
        # Whoever comes meanwhile is answered when it goes on.
        late = [daemon.ctl_start("--json", "list") for _ in range(20)]
        half = socket.socket(socket.AF_UNIX)
        half.connect(str(daemon.socket))
        half.sendall(b'{"execute": "query-gue')
        time.sleep(6)
        assert all(log.stat().st_size > before[name] for name, log in logs.items()), "they print on"
        os.kill(daemon.pid, signal.SIGCONT)
        for client in late:
            out, err = client.communicate(timeout=HANG)
            assert client.returncode == 0, err
            assert {v["guest"] for v in json.loads(out)} == set(pids)
        half.sendall(b'sts", "id": 7}\n')
        with Client(half) as h:
            states = {v["guest"]: (v["state"], v["pid"], v["hung"]) for v in h.receive(7)["return"]}
        assert states == {name: ("running", pid, False) for name, pid in pids.items()}
        for name in names:
            daemon.ctl("pause", name)
        before = cpu_seconds(daemon.pid)
        time.sleep(3)
        assert cpu_seconds(daemon.pid) - before < 0.5
        total = lines = 0
        for name in names:
            data = logs[name].read_bytes()
            total += len(data)
            lines += numbered(data, name)
            copy = daemon.base / f"{name}.copy"
            wait_until(lambda: copy.stat().st_size >= len(data), "who followed has seen all")
            assert copy.read_bytes() == data
        assert waiter.poll() is None
        daemon.ctl("kill", "quiet")
        assert waiter.wait(HANG) == 0
        assert c.next_event(
            lambda e: e["event"] == "GUEST_STATE" and e["data"]["state"] == "stopped")["data"]["guest"] == "quiet"
    assert all(alive(pids[name]) for name in names)
    assert "does not answer" not in daemon.log_text()
    for follower in followers.values():
        follower.kill()
        follower.communicate()
    waiter.communicate()
    tally(f"stopped for 6 s under {len(names)} guests: {lines} lines in order, {total} bytes compared")


@pytest.mark.long
def test_many_answers_lie_there_when_it_goes_on(daemon, fake):
    """It was asking all its guests when it was stopped; all answered, and the time for that is long over."""
    names = [f"g{i:02}" for i in range(GUESTS)]
    for name in names:
        daemon.folder(name, fake.config())
    daemon.ctl("start", *names)
    daemon.restart(signal.SIGKILL)  # from here on it asks all at the same time, every 10 s
    pids = [v["pid"] for v in daemon.json("list")]
    time.sleep(7)
    for pid in pids:
        stopped(pid)
    time.sleep(5)  # it has asked, and nobody can answer
    stopped(daemon.pid)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    time.sleep(12)
    os.kill(daemon.pid, signal.SIGCONT)
    time.sleep(1)
    assert [v["guest"] for v in daemon.json("list") if v["hung"]] == []
    assert "does not answer" not in daemon.log_text()


@pytest.mark.long
def test_a_start_is_not_given_up_for_that(daemon, fake):
    """Stopped in the middle of a start for longer than a start may take."""
    daemon.folder("g", fake.config("at=hostfwd_add:sleep"))
    starting = daemon.ctl_start("start", "g")
    log = daemon.guests / "g/logs/0001.qemu"
    wait_until(lambda: log.exists() and "sleeps at hostfwd_add" in log.read_text(), "it is half through")
    stopped(daemon.pid)
    time.sleep(32)
    os.kill(daemon.pid, signal.SIGCONT)
    assert starting.wait(HANG) == 0, starting.communicate()
    starting.communicate()
    view = daemon.show("g")
    assert (view["state"], view["run"], view["hung"]) == ("running", 1, False)


@pytest.mark.long
def test_probing_is_not_given_up_for_that(daemon, fake):
    """What a QEMU can do is asked once: what is taken for silence then would be believed for ever."""
    fake.tell("at=query-version:sleep", "at=qom-list-types:sleep", "at=device-list-properties:sleep")
    daemon.folder("g", fake.config())
    starting = daemon.ctl_start("start", "g")
    wait_until(lambda: daemon.show("g")["state"] == "starting", "it asks")
    stopped(daemon.pid)
    time.sleep(22)
    os.kill(daemon.pid, signal.SIGCONT)
    assert starting.wait(HANG) == 0, starting.communicate()
    starting.communicate()
    assert daemon.show("g")["state"] == "running"


@pytest.mark.long
def test_qemu_stopped_while_it_prints(daemon, tiny):
    """Hung, and shown so; then well again, with every byte, and what was asked of it in between is refused, not lost."""
    daemon.folder("g", tiny.config)
    daemon.ctl("start", "g", "--wait=ssh")
    pid = daemon.show("g")["pid"]
    flood(daemon, "g")
    stopped(pid)
    wait_until(lambda: daemon.show("g")["hung"], "it is shown as hung")
    view = daemon.show("g")
    assert (view["state"], view["pid"]) == ("running", pid)
    daemon.ctl("--timeout", "3", "qmp", "g", "query-status", code=124)
    before = cpu_seconds(daemon.pid)
    time.sleep(3)
    assert cpu_seconds(daemon.pid) - before < 0.5
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not daemon.show("g")["hung"], "it is shown as well")
    assert daemon.json("qmp", "g", "query-status")["status"] == "running"
    log = daemon.guests / "g/logs/0001.out"
    before = log.stat().st_size
    wait_until(lambda: log.stat().st_size > before, "it prints on")
    daemon.ctl("pause", "g")
    assert numbered(log.read_bytes(), "g") > 5
    assert daemon.show("g")["pid"] == pid
