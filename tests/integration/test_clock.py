"""The host's clock is set, hours ahead and back, under a daemon that runs: what is told stays true, and nothing spins."""

import datetime
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

from harness import BUILD, HANG, Daemon, alive, cpu_seconds, wait_until

HOUR = 3600
# How far a time that is told may be from the test's own look at the clock: a jump is of hours.
NEAR = 600


class Clock:
    """The wall clock of the programs under test, whose other clocks are the machine's."""

    def __init__(self, path):
        self.path = path
        library = path.with_suffix(".so")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library,
                        pathlib.Path(__file__).with_name("wall_clock.c")], check=True)
        self.env = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(path)}
        if BUILD.name == "asan":
            self.env["ASAN_OPTIONS"] = "verify_asan_link_order=0:detect_leaks=0"
        self.set(0)

    def set(self, ahead):
        self.ahead = ahead
        new = self.path.with_suffix(".new")
        new.write_text(str(ahead))
        new.rename(self.path)

    def now(self):
        return time.time() + self.ahead


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path / "clock")


@pytest.fixture
def lab(tmp_path, clock):
    d = Daemon(tmp_path, env=clock.env)
    try:
        yield d.start()
    finally:
        d.close()


def seconds_of(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def is_calm(daemon):
    """It has nothing to do and does nothing."""
    before = cpu_seconds(daemon.pid)
    time.sleep(2)
    assert cpu_seconds(daemon.pid) - before < 0.5


def say(daemon, text):
    log = daemon.guests / "g/console.log"
    daemon.ctl("console", "g", input=text + "\n")
    wait_until(lambda: text in log.read_text(errors="replace"), f"{text} is echoed")


@pytest.mark.parametrize("jumps", [(5 * HOUR, -7 * HOUR), (-5 * HOUR, 7 * HOUR)], ids=["ahead", "back"])
def test_the_clock_is_set(lab, fake, clock, jumps):
    lab.folder("g", fake.config())
    lab.ctl("start", "g")
    pid = lab.show("g")["pid"]
    lab.ctl("lease", "g", "--for", "1h")
    waiting = lab.ctl_start("wait", "g", "--for", "stopped")
    follower = lab.ctl_start("logs", "-f", "--timestamps", "g")
    with lab.connect() as c:
        c.call("events-subscribe")
        for i, jump in enumerate((0,) + jumps):
            clock.set(clock.ahead + jump)
            if jump:
                is_calm(lab)
            began = clock.now()
            say(lab, f"line-{i}")
            # The lease has as much left as it had, and says until when by the clock as it is.
            lease = lab.show("g")["lease"]
            assert abs(seconds_of(lease["until"]) - (clock.now() + HOUR)) < NEAR
            # Each line's time is by today's clock, whenever it came.
            shown = lab.ctl("logs", "--timestamps", "g").stdout.splitlines()
            stamps = [seconds_of(line.split()[0]) for line in shown if "line-" in line]
            assert len(stamps) >= i + 1 and all(clock.now() - NEAR < s < clock.now() + 1 for s in stamps), shown
            assert stamps == sorted(stamps)
            assert "line-0" in lab.ctl("logs", "--since", "10m", "g").stdout
            since = datetime.datetime.fromtimestamp(began - 0.01, datetime.timezone.utc).isoformat()
            since = lab.ctl("logs", "--since", since, "g").stdout
            assert f"line-{i}" in since and f"line-{i - 1}" not in since
            view = lab.show("g")
            assert (view["state"], view["pid"], view["hung"]) == ("running", pid, False)
            assert 0 <= view["uptime_s"] < NEAR
            # A time-out is so long and no longer, and neither ends by the jump nor never.
            began = time.monotonic()
            lab.ctl("wait", "g", "--for", "stopped", "--timeout", "1", code=124)
            assert 0.9 < time.monotonic() - began < HANG
            assert waiting.poll() is None and follower.poll() is None
            # An event has the time of when it was.
            lab.ctl("pause", "g")
            lab.ctl("resume", "g")
            for state in ("paused", "running"):
                event = c.next_event(lambda e: e["event"] == "GUEST_STATE" and e["data"]["state"] == state)
                assert abs(event["timestamp"]["seconds"] - clock.now()) < NEAR
    # Nothing of that is lost with the daemon, nor when the clock is set while there is none.
    lab.stop(signal.SIGKILL)
    clock.set(clock.ahead + 3 * HOUR)
    lab.start()
    view = lab.show("g")
    assert (view["state"], view["pid"]) == ("running", pid) and view["uptime_s"] < NEAR
    assert abs(seconds_of(view["lease"]["until"]) - (clock.now() + HOUR)) < NEAR
    lab.ctl("kill", "g")
    assert waiting.wait(HANG) == 0
    follower.terminate()
    stamped = [line for line in follower.communicate()[0].decode().splitlines() if "line-" in line]
    assert len({line.split()[-1] for line in stamped}) == 3
    assert "does not answer" not in lab.log_text()


@pytest.mark.parametrize("jump", [9 * HOUR, -9 * HOUR])
def test_a_lease_ends_when_its_time_is_over(lab, fake, clock, jump):
    """Neither by a clock that is set ahead, nor hours later for one that is set back; those who wait come next."""
    lab.folder("g", fake.config())
    began = time.monotonic()
    lab.ctl("lease", "g", "--for", "4s")
    clock.set(jump)
    lab.show("g")
    held = lab.json("list")[0]["lease"] is not None
    assert held or time.monotonic() - began >= 2
    wait_until(lambda: lab.show("g")["lease"] is None, "it has ended")
    assert time.monotonic() - began >= 2
    assert "was set by" in lab.log_text()
    is_calm(lab)


def test_a_restart_comes_when_it_is_due(lab, fake, clock):
    lab.folder("g", fake.config(restart="on-failure"))
    lab.ctl("start", "g")
    for jump in (9 * HOUR, -18 * HOUR):
        pid = lab.show("g")["pid"]
        run = lab.show("g")["run"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid), "it has ended")
        clock.set(clock.ahead + jump)
        wait_until(lambda: (v := lab.show("g"))["run"] == run + 1 and v["state"] == "running", "it is started again")
    is_calm(lab)
    history = [json.loads(line) for line in (lab.state / "history.jsonl").read_text().splitlines()]
    assert abs(seconds_of(history[0]["time"]) - time.time()) < NEAR


def test_hung_by_no_clock(lab, fake, clock):
    """Silence is counted by a clock that nobody sets."""
    lab.folder("g", fake.config())
    lab.ctl("start", "g")
    for jump in (HOUR, -2 * HOUR, 30 * HOUR):
        clock.set(clock.ahead + jump)
        lab.ctl("qmp", "g", "query-status")
        assert lab.show("g")["hung"] is False
    assert "does not answer" not in lab.log_text()
