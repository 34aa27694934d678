"""kill -9 of the daemon, over and over, while guests flood their consoles and people work."""

import os
import random
import re
import signal
import subprocess
import threading
import time

import pytest

from harness import BUILD, HANG, alive, stopped, wait_until

GUESTS = ["g0", "g1", "g2", "g3"]


class Crowd:
    """Clients that start and kill a guest of their own, attach, list, type: whatever the daemon is doing."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.over = threading.Event()
        self.calls = 0
        self.threads = [threading.Thread(target=self.loop, args=(work,)) for work in
                        (self.churn, self.look, self.attach)]

    def loop(self, work):
        while not self.over.is_set():
            try:
                work()
            except (subprocess.TimeoutExpired, OSError):
                pass
            self.calls += 1

    def ctl(self, *args, **kw):
        return subprocess.run([BUILD / "cijqemuctl", "--timeout", "10", *args], env=self.daemon.client_env(),
                              capture_output=True, timeout=HANG, **kw)

    def churn(self):
        self.ctl("start", "churn")
        self.ctl(random.choice(["kill", "stop", "restart"]), "churn", stdin=subprocess.DEVNULL)

    def look(self):
        self.ctl("--json", "list")
        self.ctl("qmp", random.choice(GUESTS), "query-status")
        time.sleep(0.05)

    def attach(self):
        viewer = subprocess.Popen(
            [BUILD / "cijqemuctl", "console", "--read-only", random.choice(GUESTS)], env=self.daemon.client_env(),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.over.wait(random.uniform(0.05, 1))
        viewer.kill()
        viewer.wait()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()


def numbers(data, name):
    """The lines "NAME N" of a console, which shall be 1, 2, 3 … to the last one."""
    seen = [int(n) for n in re.findall(rb"^%s (\d+)\r?\n" % name.encode(), data, re.M)]
    assert seen == list(range(1, len(seen) + 1)), f"{name}: a gap or a double among {len(seen)} lines"
    return len(seen)


def flood(daemon, name):
    """Lets the guest print numbered lines for ever, and its kernel nothing (of a CPU that stood still) in between."""
    typist = daemon.ctl_start("console", name, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    typist.stdin.write(f"stty -echo; echo 0 >/proc/sys/kernel/printk; i=0; while :; do i=$((i+1)); echo {name} $i; done\n".encode())
    typist.stdin.flush()
    log = daemon.guests / name / "logs/0001.out"
    wait_until(lambda: re.search(rb"^%s 5\r?$" % name.encode(), log.read_bytes(), re.M), f"{name} floods")
    typist.kill()
    typist.communicate()


def kills(daemon, tiny, fake, times):
    for name in GUESTS:
        daemon.folder(name, {**tiny.config, "memory": "192M", "log": {"limit": "4G"}})
    daemon.folder("churn", fake.config())
    daemon.ctl("start", *GUESTS)
    for name in GUESTS:
        daemon.ctl("wait", name, "--for", "ssh")
    pids = {name: daemon.show(name)["pid"] for name in GUESTS}
    for name in GUESTS:
        flood(daemon, name)
    copies = {name: daemon.base / f"{name}.copy" for name in GUESTS}
    followers = []
    for name, copy in copies.items():
        with open(copy, "wb") as out:
            followers.append(daemon.ctl_start("logs", "-f", "--raw", name, stdout=out, stderr=subprocess.DEVNULL))
    try:
        with Crowd(daemon) as crowd:
            for i in range(times):
                time.sleep(random.uniform(0, 1.2))
                daemon.stop(signal.SIGKILL)
                daemon.start()
                views = {v["guest"]: v for v in daemon.json("list")}
                for name in GUESTS:
                    assert alive(pids[name]), f"kill {i}: {name} is dead"
                    assert (views[name]["state"], views[name]["pid"]) == ("running", pids[name]), (i, views[name])
        # What it says of the guest that came and went is what is.
        view = wait_until(lambda: (v := daemon.show("churn"))["state"] in ("running", "stopped") and v, "it settles")
        holders = [pid for pid in daemon.qemu_pids() if pid not in pids.values()]
        assert holders == ([view["pid"]] if view["state"] == "running" else []), (holders, view)
        for name in GUESTS:
            stopped(pids[name])  # no more lines, so that all can be compared
        total = lines = 0
        for name, copy in copies.items():
            data = (daemon.guests / name / "logs/0001.out").read_bytes()
            lines += numbers(data, name)
            total += len(data)
            wait_until(lambda: copy.stat().st_size >= len(data), f"who followed {name} has seen all")
            assert copy.read_bytes() == data, f"who followed {name} saw another text than the log has"
    finally:
        for follower in followers:
            follower.kill()
            follower.communicate()
        for pid in pids.values():
            os.kill(pid, signal.SIGCONT)
    return (f"{times} kills survived, {len(GUESTS)} guests, {lines} lines in {total} bytes of consoles without a gap, "
            f"all of them the same as {len(followers)} followers saw, {crowd.calls} rounds of clients")


def test_killed_8_times(daemon, tiny, fake, tally):
    tally(kills(daemon, tiny, fake, 8))


@pytest.mark.long
def test_killed_50_times(daemon, tiny, fake, tally):
    tally(kills(daemon, tiny, fake, 50))
