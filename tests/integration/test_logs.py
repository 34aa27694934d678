"""Logs: byte for byte, with times, bounded, kept, readable; and 'wait --for console='."""

import contextlib
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time

import pytest

from harness import BUILD, HANG, Daemon, wait_until
from terminal import Terminal

STAMP = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d) (.*)$")


def say(daemon, text, guest="f"):
    """Has the stand-in echo a line."""
    log = current(daemon, guest)
    before = log.stat().st_size
    with daemon.connect() as c:
        c.call("console-attach", guest=guest, mode="join")
        c.send_raw(text)
        wait_until(lambda: log.stat().st_size >= before + len(text), "the echo")


def current(daemon, guest="f"):
    return pathlib.Path(daemon.show(guest)["console"]["log"])


def stamped(text):
    """[(time, line), …]"""
    found = [STAMP.match(line) for line in text.rstrip("\n").split("\n")]
    assert all(found), text
    return [(datetime.datetime.fromisoformat(m[1]).timestamp(), m[2]) for m in found]


@pytest.fixture
def f(daemon, fake):
    daemon.folder("f", fake.config())
    daemon.ctl("start", "f")
    return daemon


def test_bytes_are_exact(f):
    data = bytes(range(256)) * 300
    log = current(f)
    say(f, data)
    assert log.read_bytes() == data
    assert f.ctl("logs", "f", text=False).stdout == data
    assert (f.guests / "f/console.log").read_bytes() == data
    f.ctl("kill", "f")
    assert f.ctl("logs", "f", text=False).stdout == data


def test_lines_and_boots(f):
    for run in (1, 2, 3):
        say(f, "".join(f"run {run} line {i}\n" for i in range(10)))
        f.ctl("kill", "f")
        f.ctl("start", "f")
    assert f.ctl("logs", "f").stdout == ""
    assert f.ctl("logs", "f", "-n", "2", "--boot", "-1").stdout == "run 3 line 8\nrun 3 line 9\n"
    assert f.ctl("logs", "f", "-n", "-1", "--boot", "-2").stdout == "run 2 line 9\n"
    assert f.ctl("logs", "f", "--boot", "1", "-n", "100").stdout.startswith("run 1 line 0\n")
    assert f.ctl("logs", "f", "--boot", "0", "-n", "0").stdout == ""
    for none in ("9", "-9"):
        assert "no run" in f.ctl("logs", "f", "--boot", none, code=65).stderr
    f.ctl("logs", "f", "--boot", "x", code=64)
    f.ctl("logs", "nobody", code=66)


def test_lines_back_while_it_grows(f):
    """As many as were asked for: the end is that which they were counted from."""
    line, n = b"another line\n", 3
    grown = threading.Event()

    def grow():
        # As QEMU does: it appends.
        with open(current(f), "ab", buffering=0) as log:
            while not grown.is_set():
                log.write(line)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        wait_until(lambda: current(f).stat().st_size > 1000, "the log grows")
        for _ in range(300):
            with f.connect() as c:
                reply = c.call("console-attach", guest="f", mode="read-only", **{"from": -n})
            # The last one may be half there yet.
            assert (n - 1) * len(line) < reply["end"] - reply["offset"] <= n * len(line), reply
    finally:
        grown.set()
        writer.join()


def test_last_runs_are_kept(daemon, fake):
    daemon.folder("f", fake.config(log={"keep": 3}))
    for run in range(1, 6):
        daemon.ctl("start", "f")
        say(daemon, f"run {run}\n")
        daemon.ctl("kill", "f")
    left = sorted(p.name for p in (daemon.guests / "f/logs").glob("*.out"))
    assert left == ["0003.out", "0004.out", "0005.out"]
    assert daemon.ctl("logs", "f", "--boot", "3").stdout == "run 3\n"
    assert "gone" in daemon.ctl("logs", "f", "--boot", "1", code=65).stderr


def test_follow_to_the_end_of_the_run(f):
    p = f.ctl_start("logs", "f", "-f", "-n", "1")
    wait_until(lambda: f.show("f")["console"]["viewers"] == 1, "it follows")
    say(f, "one\ntwo\n")
    f.ctl("kill", "f")
    out, err = p.communicate(timeout=HANG)
    assert out == b"one\ntwo\n" and b"f stopped: killed" in err and p.returncode == 0


def test_times_are_right(f):
    moments = []
    for i in range(4):
        before = time.time()
        say(f, f"line {i}\n")
        moments.append((before, time.time()))
        time.sleep(0.3)
    got = stamped(f.ctl("logs", "f", "--timestamps").stdout)
    assert [line for _, line in got] == [f"line {i}" for i in range(4)]
    for (when, _), (before, after) in zip(got, moments):
        assert before - 0.05 <= when <= after + 0.05
    # Since the moment before a line came: that one and those behind it.
    for i, (before, _) in enumerate(moments):
        at = datetime.datetime.fromtimestamp(before - 0.02, datetime.timezone.utc)
        for text in (at.isoformat(), at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), at.astimezone().strftime("%H:%M:%S.%f")):
            out = f.ctl("logs", "f", "--since", text).stdout
            assert out == "".join(f"line {n}\n" for n in range(i, 4)), text
    assert f.ctl("logs", "f", "--since", "1h").stdout.count("\n") == 4
    assert f.ctl("logs", "f", "--since", "0s").stdout == ""
    assert f.ctl("logs", "f", "--since", "1h", "-n", "2").stdout == "line 2\nline 3\n"
    assert f.ctl("logs", "f", "--since", "0s", "-n", "2").stdout == ""
    for bad in ("", "soon", "25:00", "10", "2026-02-30"):
        assert "is no time" in f.ctl("logs", "f", "--since", bad, code=65).stderr
    # And when the run is over.
    f.ctl("kill", "f")
    again = stamped(f.ctl("logs", "f", "--timestamps").stdout)
    assert [line for _, line in again] == [line for _, line in got]
    assert all(abs(a[0] - b[0]) < 0.05 for a, b in zip(again, got))


def test_followed_lines_have_their_times(f):
    say(f, "old\n")
    p = f.ctl_start("logs", "f", "-f", "--timestamps")
    lines = [p.stdout.readline().decode()]
    for i in range(3):
        time.sleep(0.1)
        say(f, f"new {i}, ")
        say(f, "in two parts\n")
        lines.append(p.stdout.readline().decode())
    now = time.time()
    p.terminate()
    p.communicate()
    got = stamped("".join(lines))
    assert [line for _, line in got] == ["old"] + [f"new {i}, in two parts" for i in range(3)]
    assert [when for when, _ in got] == sorted(when for when, _ in got)
    assert now - 60 < got[0][0] and got[-1][0] <= now + 0.05


def test_times_across_a_change_of_the_clock(f):
    """As if the host's clock had been an hour fast until the middle of the run: no line's time shows it."""
    for i in range(4):
        say(f, f"line {i}\n")
        time.sleep(0.05)
    index = current(f).with_suffix(".index")
    f.ctl("kill", "f")
    before = stamped(f.ctl("logs", "f", "--timestamps").stdout)
    data = bytearray(index.read_bytes())
    for at in range(64, 64 + 2 * 32, 32):
        offset, wall, mono, kind, _ = struct.unpack_from("<QQQII", data, at)
        struct.pack_into("<QQQII", data, at, offset, wall + 3600 * 1000000, mono, kind, 0)
    index.write_bytes(data)
    after = stamped(f.ctl("logs", "f", "--timestamps").stdout)
    assert [line for _, line in after] == [line for _, line in before]
    assert all(abs(a[0] - b[0]) < 0.05 for a, b in zip(after, before))
    assert f.ctl("logs", "f", "--since", "10m").stdout.count("\n") == 4


def test_times_without_an_index(f):
    """A log without its index is still a log; what is not known is said to be unknown."""
    say(f, "line\n")
    index = current(f).with_suffix(".index")
    f.ctl("kill", "f")
    for content in (None, b"", b"nonsense" * 100):
        if content is None:
            index.unlink()
        else:
            index.write_bytes(content)
        out = f.ctl("logs", "f", "--timestamps").stdout
        assert out.startswith("? ") and out.endswith(" line\n")
        assert f.ctl("logs", "f").stdout == "line\n"


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_times_while_nobody_looked(f, sig):
    log = current(f)
    say(f, "seen\n")
    time.sleep(0.05)
    f.stop(sig)
    before = time.time()
    with log.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(b"unseen\n")
    time.sleep(1)
    f.start()
    got = stamped(f.ctl("logs", "f", "--timestamps").stdout)
    assert [line for _, line in got] == ["seen", "unseen"]
    # When it was written, not when somebody came to look.
    assert abs(got[1][0] - before) < 0.9


def test_lines_as_json(f):
    say(f, b"one\r\n\x1b[31mred\xff\x1b[0m\n\nno end")
    lines = [json.loads(line) for line in f.ctl("--json", "logs", "f").stdout.splitlines()]
    assert [line["line"] for line in lines] == ["one", "red?", "", "no end"]
    assert [line["offset"] for line in lines] == [0, 5, 19, 20]
    for line in lines:
        assert abs(datetime.datetime.fromisoformat(line["time"]).timestamp() - time.time()) < HANG
    p = f.ctl_start("--json", "logs", "f", "-f", "-n", "0")
    wait_until(lambda: f.show("f")["console"]["viewers"] == 1, "it follows")
    say(f, "live\n")
    assert json.loads(p.stdout.readline())["line"] == "live"
    p.terminate()
    p.communicate()


def test_control_sequences_on_a_terminal(f):
    f_args = [BUILD / "cijqemuctl", "logs", "f"]
    say(f, b"\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2Jplain\xff\n")
    for args, want, no in (([], rb"\x1b\[31mred\x1b\[0m plain\?\r\n", b"title"),
                           (["--raw"], rb"\x1b\]0;title\x07\x1b\[2Jplain\xff\r\n", None),
                           (["--timestamps"], rb"\d \x1b\[31mred\x1b\[0m plain\?\r\n", b"title")):
        with Terminal(f_args + args, f.client_env()) as t:
            assert t.wait() == 0
            wait_until(lambda t=t: t.shown.endswith(b"\n"), "it is shown")
            assert re.search(want, t.shown), t.shown
            assert no is None or no not in t.shown
    # Not in a file.
    assert f.ctl("logs", "f", text=False).stdout == b"\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2Jplain\xff\n"


def print_much(log, size):
    """As QEMU, at its own offset."""
    block = b"".join(b"%07d %s\n" % (i, b"x" * 55) for i in range(1024))
    with log.open("r+b", buffering=0) as file:
        file.seek(0, os.SEEK_END)
        for _ in range(size // len(block)):
            file.write(block)


def room(path):
    return path.stat().st_blocks * 512


@pytest.mark.parametrize("options", [[], ["--timestamps"], ["--json"]])
def test_follow_ends_when_nobody_reads(daemon, fake, options):
    """As in 'logs -f | head': a guest that prints no more keeps nobody waiting."""
    daemon.folder("f", fake.config("flood=10"))
    daemon.ctl("start", "f")
    wait_until(lambda: current(daemon).read_bytes().count(b"\n") == 10, "the flood")
    follower = daemon.ctl_start("logs", "f", "-f", *options)
    assert follower.stdout.readline()
    follower.stdout.close()
    assert follower.wait(HANG) == 0
    assert follower.stderr.read() == b""
    assert daemon.show("f")["state"] == "running"


def test_log_is_bounded_by_holes(daemon, fake):
    daemon.folder("f", fake.config(log={"limit": "1M"}))
    daemon.ctl("start", "f")
    if not daemon.show("f")["console"]["bounded"]:
        pytest.skip("this machine cannot punch holes here")
    log = current(daemon)
    for _ in range(5):
        print_much(log, 2 << 20)
        wait_until(lambda: room(log) <= (1 << 20) * 5 // 2, "holes are punched")
    size = log.stat().st_size

    def first_byte():
        with daemon.connect() as c:
            return c.call("console-attach", guest="f", **{"from": "start"})["head"]

    # Of the last of it, too: no more than the limit is left.
    head = wait_until(lambda: (at := first_byte()) >= size - (1 << 20) and at, "the head has gone")
    assert head < size
    done = daemon.ctl("logs", "f", text=False)
    assert b"the first %d bytes are gone from the log (log.limit)" % head in done.stderr
    assert done.stdout == log.read_bytes()[head:]
    assert b"\0" not in done.stdout
    # A byte that has gone, and one that is there.
    for asked, told in ((5, b"%d bytes are gone from the log (log.limit)\n" % (head - 5)), (head + 1, b"")):
        seen = daemon.ctl("console", "f", "--from", str(asked), text=False, input=b"x")
        assert (seen.stdout[:1000], seen.stderr) == (log.read_bytes()[max(head, asked):][:1000], told)
    done = daemon.ctl("logs", "f", text=False)
    # The next daemon knows, too; and it goes on.
    daemon.restart(signal.SIGKILL)
    assert daemon.ctl("logs", "f", text=False).stdout == done.stdout
    print_much(log, 2 << 20)
    wait_until(lambda: room(log) <= (1 << 20) * 5 // 2, "holes are punched")
    assert stamped(daemon.ctl("logs", "f", "-n", "3", "--timestamps").stdout)
    # A run that is over keeps what it had, and no room ahead.
    daemon.ctl("kill", "f")
    wait_until(lambda: room(log) <= (1 << 20) + 65536, "the room ahead is given back")
    assert len(daemon.ctl("logs", "f", text=False).stdout) >= 1 << 19


@contextlib.contextmanager
def mounted(daemon, kind, *options):
    """The guests' folder on a file system of its own."""
    args = ["mount", "-t", kind, *options, "none", daemon.guests]
    if os.geteuid() != 0 or subprocess.run(args, capture_output=True).returncode != 0:
        pytest.skip("this machine cannot mount")
    try:
        yield
    finally:
        daemon.close()
        subprocess.run(["umount", "-l", daemon.guests], check=True)


def test_log_where_no_holes_can_be(tmp_path, fake):
    """Said when the run begins; cut to its limit when the next one starts."""
    daemon = Daemon(tmp_path)
    with mounted(daemon, "ramfs"):
        daemon.start()
        daemon.folder("f", fake.config(log={"limit": "1M"}))
        daemon.ctl("start", "f")
        assert daemon.show("f")["console"]["bounded"] is False
        assert "cannot be kept under log.limit" in daemon.log_text()
        log = current(daemon)
        say(daemon, "begin\n")
        print_much(log, 5 << 20)
        whole = log.read_bytes()
        assert len(whole) > 5_000_000
        assert daemon.ctl("logs", "f", text=False).stdout == whole
        daemon.ctl("kill", "f")
        assert daemon.ctl("logs", "f", text=False).stdout == whole
        daemon.ctl("start", "f")
        wait_until(lambda: log.stat().st_size == 1 << 20, "the log is cut")
        wait_until(lambda: not list(log.parent.glob(".*")), "the cut is over")
        done = daemon.ctl("logs", "f", "--boot", "-1", text=False)
        assert done.stdout == whole[-(1 << 20):]
        assert b"the first %d bytes are gone" % (len(whole) - (1 << 20)) in done.stderr
        assert STAMP.match(daemon.ctl("logs", "f", "--boot", "-1", "--timestamps", "-n", "1").stdout.rstrip("\n"))
        assert log.stat().st_mode & 0o777 == 0o644


def test_full_disk_is_told(tmp_path, fake):
    """Nothing is lost while there is room ahead; when bytes are, it is said, since when, and until when."""
    daemon = Daemon(tmp_path)
    with mounted(daemon, "tmpfs", "-o", "size=2m"):
        daemon.start()
        daemon.folder("f", fake.config())
        daemon.ctl("start", "f")
        log = current(daemon)
        with daemon.connect() as events:
            events.call("events-subscribe", guests=["f"])

            def told(what):
                return events.next_event(lambda e: e["data"].get("what") == what)["data"]
            filler = daemon.guests / "filler"
            with filler.open("wb", buffering=0) as file:
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * 4096)
            # The disk is full, the log is not: there is room ahead.
            say(daemon, "still whole\n")
            assert daemon.show("f")["console"]["incomplete_since"] is None
            with pytest.raises(OSError):
                print_much(log, 2 << 20)
            data = told("incomplete")
            since = data["since"]
            assert data["offset"] == log.stat().st_size
            assert daemon.show("f")["console"]["incomplete_since"] == since
            assert daemon.show("f")["console"]["incomplete_until"] is None
            assert "the disk is full: what it prints from now on is lost" in daemon.log_text()
            assert f"the log is incomplete since {since}: the disk is full" in daemon.ctl("logs", "f").stderr
            filler.unlink()
            until = told("recording")["until"]
            assert until >= since
            with log.open("r+b", buffering=0) as file: # who printed all that goes on
                file.seek(0, os.SEEK_END)
                file.write(b"recorded again\n")
        daemon.restart(signal.SIGKILL)
        view = daemon.show("f")["console"]
        assert (view["incomplete_since"], view["incomplete_until"]) == (since, until)
        daemon.ctl("kill", "f")
        done = daemon.ctl("logs", "f", text=False)
        assert done.stdout.startswith(b"still whole\n") and done.stdout.endswith(b"recorded again\n")
        assert f"the log is incomplete since {since}: the disk was full".encode() in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="this machine cannot change users: not root")
def test_logs_belong_to_the_owner(fake):
    """Files of the guest's owner, readable in the folder; and through the daemon also where that is closed."""
    base = pathlib.Path(tempfile.mkdtemp(dir="/tmp"))
    base.chmod(0o755)
    daemon = Daemon(base)
    try:
        home = base / "qemu"
        shutil.copytree(fake.home, home, symlinks=True)
        daemon.start()
        config = {**fake.config(), "qemu_home": str(home), "kernel": {"image": str(home / "bzImage")}}
        (home / "bzImage").touch()
        folder = daemon.folder("f", config)
        subprocess.run(["chown", "-R", "65534:65534", folder], check=True)
        daemon.ctl("start", "f")
        say(daemon, "of nobody's\n")
        for path in (folder / "logs").iterdir():
            assert path.stat().st_uid == 65534, path
        mode = {p.suffix: p.stat().st_mode & 0o777 for p in (folder / "logs").iterdir()}
        assert (mode[".out"], mode[".index"], mode[".in"]) == (0o644, 0o644, 0o600)
        # Some other user who may open the socket gets it through the daemon, the folder closed or not.
        folder.chmod(0o700)
        daemon.socket.chmod(0o666)
        for directory in (daemon.run, daemon.base):
            directory.chmod(0o755)
        env = daemon.client_env()
        for args in (["logs", "f"], ["logs", "f", "--timestamps"]):
            done = subprocess.run([BUILD / "cijqemuctl", *args], env=env, user=12345, group=12345, extra_groups=[],
                                  capture_output=True, text=True)
            if "Permission denied" in done.stderr and "cijqemuctl" in done.stderr and done.returncode == 69:
                pytest.skip("this machine cannot: the build is not in reach of other users")
            assert done.stdout.endswith("of nobody's\n"), done
        daemon.ctl("kill", "f")
        done = subprocess.run([BUILD / "cijqemuctl", "logs", "f", "--boot", "1"], env=env, user=12345, group=12345,
                              extra_groups=[], capture_output=True, text=True)
        assert done.stdout == "of nobody's\n", done
        # A link in the place of the log leads nowhere.
        out = folder / "logs/0001.out"
        out.unlink()
        out.symlink_to("/etc/shadow")
        assert "gone" in daemon.ctl("logs", "f", code=65).stderr
    finally:
        daemon.close()
        shutil.rmtree(base)


def test_times_over_the_wire(f):
    say(f, "one\n")
    time.sleep(0.1)
    say(f, "two\n")
    with f.connect() as c:
        got = c.call("console-times", guest="f")
        assert [offset for offset, _ in got["times"]] == [0, 4]
        assert (got["offset"], got["end"], got["more"], got["known"]) == (0, 8, False, True)
        assert [o for o, _ in c.call("console-times", guest="f", offset=5)["times"]] == [4]
        since = got["times"][1][1]
        assert c.call("console-times", guest="f", since=since - 1000)["offset"] == 4
        assert c.call("console-times", guest="f", since=since + 10**12)["offset"] == 8
        assert c.call("console-times", guest="f", ago=10**15)["offset"] == 0
        for bad in ({"offset": -1}, {"since": "now"}, {"run": 5}, {"ago": -1}):
            assert c.ask("console-times", guest="f", **bad)["error"]["class"] == "BadRequest"
        operations = json.dumps(c.call("query-operations"))
        assert "console-times" in operations


def test_many_times_are_paged(f):
    """More stretches than one answer holds: every line still has its own time."""
    log = current(f)
    with log.open("r+b", buffering=0) as file:
        for i in range(1300):
            file.write(b"line %d\n" % i)
            time.sleep(0.011)
    wait_until(lambda: f.ctl("logs", "f", "-n", "1").stdout == "line 1299\n", "all is seen")
    got = stamped(f.ctl("logs", "f", "--timestamps").stdout)
    assert [line for _, line in got] == [f"line {i}" for i in range(1300)]
    times = [when for when, _ in got]
    assert times == sorted(times)
    # On a busy machine several lines share a time, but not many.
    assert len(set(times)) > 512
    with f.connect() as c:
        assert c.call("console-times", guest="f")["more"] is True


# wait --for console=REGEX


def test_wait_sees_what_came_before(f):
    say(f, "Booting\nlogin: ")
    done = f.ctl("wait", "f", "--for", "console=^log[i]n: *$")
    assert done.stdout == "login: \n"
    assert f.ctl("wait", "f", "--for", "console=Boot").stdout == "Booting\n"


def test_wait_for_what_comes(f):
    p = f.ctl_start("wait", "f", "--for", "console=^ready [0-9]+", "--timeout", "60")
    wait_until(lambda: f.show("f")["console"]["viewers"] == 1, "it watches")
    for part in ("not yet\n\x1b[1mrea", "dy 4", "2 now\n"):
        say(f, part)
    out, _ = p.communicate(timeout=HANG)
    # As soon as it matches; and colours are no part of the line.
    assert p.returncode == 0 and out in (b"ready 4\n", b"ready 42 now\n")


def test_wait_times_out_and_says_what_it_saw(f):
    say(f, "the last thing seen\n")
    done = f.ctl("wait", "f", "--for", "console=never", "--timeout", "1", code=124)
    assert "nothing on the console matched 'never' in time" in done.stderr
    assert "f is running" in done.stderr and "| the last thing seen" in done.stderr


def test_wait_times_out_in_a_flood(f):
    """A guest that never falls silent is not waited for without an end."""
    log = current(f)
    p = f.ctl_start("wait", "f", "--for", "console=never", "--timeout", "2")
    end = time.monotonic() + HANG
    with log.open("r+b", buffering=0) as file:
        while p.poll() is None and time.monotonic() < end:
            file.write(b"noise\n" * 100)
    _, err = p.communicate(timeout=HANG)
    assert p.returncode == 124 and b"| noise" in err


def test_wait_ends_with_the_run(f):
    p = f.ctl_start("wait", "f", "--for", "console=never")
    wait_until(lambda: f.show("f")["console"]["viewers"] == 1, "it watches")
    f.ctl("kill", "f")
    _, err = p.communicate(timeout=HANG)
    assert p.returncode == 1 and b"f stopped before a line matched" in err


def test_wait_does_not_match_the_run_before(f):
    say(f, "ready\n")
    f.ctl("kill", "f")
    p = f.ctl_start("wait", "f", "--for", "console=ready", "--timeout", "60")
    time.sleep(0.3)
    assert p.poll() is None
    f.ctl("start", "f")
    wait_until(lambda: f.show("f")["console"]["viewers"] == 1, "it watches the new run")
    assert p.poll() is None
    say(f, "ready again\n")
    out, _ = p.communicate(timeout=HANG)
    assert out == b"ready again\n"


def test_wait_refuses_a_bad_pattern(f):
    assert "bad pattern" in f.ctl("wait", "f", "--for", "console=(", code=64).stderr


def test_wait_through_a_restart(f):
    p = f.ctl_start("wait", "f", "--for", "console=at last", "--timeout", "60")
    wait_until(lambda: f.show("f")["console"]["viewers"] == 1, "it watches")
    f.restart(signal.SIGKILL)
    wait_until(lambda: f.show("f")["console"]["viewers"] == 1, "it watches again")
    say(f, "at last\n")
    out, _ = p.communicate(timeout=HANG)
    assert out == b"at last\n"


def test_wait_on_a_real_guest(daemon, tiny):
    daemon.folder("tiny", tiny.config)
    daemon.ctl("start", "tiny")
    assert "tiny guest ready" in daemon.ctl("wait", "tiny", "--for", "console=tiny guest ready").stdout
    # The guest ends its lines with more than one CR, which make lines of their own in text mode.
    out = daemon.ctl("logs", "tiny", "--timestamps", text=False).stdout.decode(errors="replace")
    got = stamped(out.replace("\r", ""))
    times = [when for when, _ in got]
    assert times == sorted(times) and len(set(times)) > 5
