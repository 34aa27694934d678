"""The console: every viewer gets every byte, one writes, a terminal is given back, and nothing holds the guest up."""

import os
import pathlib
import random
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness import BUILD, HANG, Client, wait_until
from terminal import Terminal

ESCAPE = b"\x1d"


def log_of(daemon, guest, run=1):
    return daemon.guests / guest / "logs" / f"{run:04}.out"


class Viewer:
    """A bare connection that collects in a thread of its own."""

    def __init__(self, daemon, guest, start=None, mode="read-only", path=None):
        self.client = Client(path or daemon.socket)
        arguments = {"from": start} if start is not None else {}
        self.reply = self.client.call("console-attach", guest=guest, mode=mode, **arguments)
        self.offset = self.reply["offset"]
        self.data = bytearray(self.client.buffer)
        self.ended = False
        self.go = threading.Event()
        self.go.set()
        self.thread = threading.Thread(target=self.collect, daemon=True)
        self.thread.start()

    def collect(self):
        try:
            while True:
                self.go.wait()
                data = self.client.sock.recv(65536)
                if not data:
                    break
                self.data += data
        except OSError:
            pass
        self.ended = True

    def send(self, data):
        self.client.sock.sendall(data)

    def has(self, text, seconds=HANG):
        wait_until(lambda: text in self.data, f"{text!r}, instead of {bytes(self.data[-300:])!r}", seconds)

    def close(self):
        self.go.set()
        try:
            self.client.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.thread.join()
        self.client.close()


def drain(viewers, log, end):
    """Waits until all have all up to @end, then compares each with the log."""
    for v in viewers:
        wait_until(lambda v=v: v.offset + len(v.data) >= end,
                   f"a viewer from {v.offset} has {len(v.data)} bytes, not {end - v.offset}")
        got = bytes(v.data)
        whole = log.read_bytes()
        assert got == whole[v.offset:v.offset + len(got)]


def run_viewers(daemon, guest, log, flooding):
    """20 viewers that join a flood at random times: some stop for a while, some are killed, some are processes."""
    rnd = random.Random(7)
    viewers, processes = [], []
    out = daemon.base / "viewers"
    out.mkdir()
    for i in range(20):
        kind = i % 5
        if kind == 4:
            file = (out / str(i)).open("wb")
            processes.append((daemon.ctl_start("logs", guest, "-f", stdout=file), out / str(i)))
        else:
            start = rnd.choice(["start", "end", rnd.randrange(0, log.stat().st_size + 1), -rnd.randrange(1, 50)])
            viewers.append(Viewer(daemon, guest, start))
            if kind == 1:
                viewers[-1].go.clear()
        time.sleep(rnd.uniform(0, 0.1))
    os.kill(processes[0][0].pid, signal.SIGSTOP)
    for v in viewers[::7]:
        v.close()
    processes[1][0].kill()
    alive = [v for i, v in enumerate(viewers) if i % 7]
    wait_until(lambda: not flooding(), "the flood ends")
    os.kill(processes[0][0].pid, signal.SIGCONT)
    for v in alive:
        v.go.set()
    end = log.stat().st_size
    drain(alive, log, end)
    whole = log.read_bytes()
    for i, (process, path) in enumerate(processes):
        if i != 1:
            wait_until(lambda path=path: path.stat().st_size >= end, "a followed log is whole")
        process.terminate()
        process.communicate()
        got = path.read_bytes()
        assert got == whole[:len(got)]
    for v in alive:
        v.close()
    assert daemon.json("show", guest)["console"]["viewers"] == 0


def test_every_viewer_gets_every_byte(daemon, fake):
    lines = 1_500_000
    daemon.folder("f", fake.config(f"flood={lines}", log={"limit": "1G"}))
    log = log_of(daemon, "f")
    daemon.ctl("start", "f", "--paused")
    daemon.ctl("resume", "f")
    run_viewers(daemon, "f", log, lambda: log.stat().st_size < lines * 28)
    assert log.read_bytes().startswith(b"line 000000000 of the flood\nline 000000001 ")


def test_every_viewer_gets_every_byte_of_a_real_guest(booted):
    log = log_of(booted, "tiny")
    size = 1_000_000
    booted.ctl("exec", "tiny", "--", f"yes 'the quick brown fox' | head -c {size} > /tmp/flood")
    begin = log.stat().st_size
    # In the background: ssh's own work would slow it down.
    booted.ctl("exec", "tiny", "--", "(cat /tmp/flood; echo end-of-flood) > /dev/ttyS0 2>/dev/null </dev/null &")
    run_viewers(booted, "tiny", log, lambda: log.stat().st_size < begin + size or b"end-of-flood" not in
                log.read_bytes()[begin + size:])


def test_a_stopped_daemon_holds_nobody_up(booted):
    """SIGSTOP for the whole flood: the guest prints on, and after SIGCONT all of it is there."""
    log = log_of(booted, "tiny")
    size = 300_000
    booted.ctl("exec", "tiny", "--", f"yes 'while nobody looks' | head -c {size} > /tmp/flood2")
    viewer = Viewer(booted, "tiny", "end")
    begin = log.stat().st_size
    booted.ctl("exec", "tiny", "--", "(sleep 1; cat /tmp/flood2 > /dev/ttyS0) >/dev/null 2>&1 </dev/null &")
    os.kill(booted.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: log.stat().st_size >= begin + size, "the guest floods beside a stopped daemon")
    finally:
        os.kill(booted.pid, signal.SIGCONT)
    drain([viewer], log, begin + size)
    viewer.close()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_console_goes_on_after_a_restart(daemon, fake, sig):
    """Viewers attach again by themselves at the byte that they had; the FIFO and the log are found again."""
    daemon.folder("f", fake.config())
    daemon.ctl("start", "f")
    log = log_of(daemon, "f")
    writer = Viewer(daemon, "f", "start", "auto")
    follower = daemon.ctl_start("logs", "f", "-f")
    wait_until(lambda: daemon.show("f")["console"]["viewers"] == 2, "it follows")
    writer.send(b"before\n")
    writer.has(b"before\n")
    daemon.stop(sig)
    with log.open("r+b") as f: # what the guest prints meanwhile
        f.seek(0, os.SEEK_END)
        f.write(b"meanwhile\n")
    # The stand-in writes at its own offset, as QEMU does: its next echo would overwrite this line. It says nothing.
    daemon.start()
    follower.stdout.read(len(b"before\nmeanwhile\n"))
    follower.terminate()
    _, err = follower.communicate()
    assert b"nothing was lost" in err
    again = Viewer(daemon, "f", "start", "auto")
    assert again.reply["mode"] == "write"
    again.has(b"before\nmeanwhile\n")
    again.close()


def test_fifo_without_a_writer(daemon, fake):
    """Nobody at the FIFO, then the daemon gone: the guest neither sees an end nor stops, and takes keys again."""
    daemon.folder("f", fake.config())
    daemon.ctl("start", "f")
    for word in (b"one\n", b"two\n"):
        v = Viewer(daemon, "f", "end", "auto")
        v.send(word)
        v.has(word)
        v.close()
    pid = daemon.show("f")["pid"]
    daemon.restart(signal.SIGKILL)
    assert daemon.show("f")["pid"] == pid
    v = Viewer(daemon, "f", "start", "auto")
    v.send(b"three\n")
    v.has(b"one\ntwo\nthree\n")
    v.close()


@pytest.mark.parametrize("setup, end", [
    (b"stty sane; stty -echo; cat > /tmp/paste; stty sane\n", b"\x04"),
    (b"cat > /tmp/paste\n", b"\x04"),
    (b"stty raw -echo; head -c 65536 > /tmp/paste; stty sane\n", b""),
])
def test_a_paste_of_64_kib_arrives_whole(booted, setup, end):
    text = b"".join(b"%06d the quick brown fox jumps over the lazy dog\n" % i for i in range(1300))[:65535] + b"\n"
    booted.ctl("exec", "tiny", "--", "rm -f /tmp/paste")
    v = Viewer(booted, "tiny", "end", "auto")
    try:
        assert v.reply["mode"] == "write"
        v.send(b"\n" + setup)
        wait_until(lambda: booted.ctl("exec", "tiny", "--", "test -e /tmp/paste", code=None).returncode == 0,
                   "the guest is ready to take it")
        time.sleep(0.5)
        v.send(text)

        def size():
            return int(booted.ctl("exec", "tiny", "--", "wc -c < /tmp/paste").stdout or 0)
        wait_until(lambda: size() >= 65536 - 4096, "the paste arrives")
        if end:
            v.send(end)
        wait_until(lambda: size() == 65536, f"all of the paste arrives, not {size()}")
    finally:
        v.close()
    got = subprocess.run([BUILD / "cijqemuctl", "exec", "tiny", "--", "cat /tmp/paste"], env=booted.client_env(),
                         capture_output=True, timeout=HANG).stdout
    assert got == text


def test_one_writes(daemon, fake):
    daemon.folder("f", fake.config())
    daemon.ctl("start", "f")
    with daemon.connect() as events:
        events.call("events-subscribe", guests=["f"])

        def told(what):
            return events.next_event(lambda e: e["event"] == "CONSOLE" and e["data"]["what"] == what)["data"]
        a = Viewer(daemon, "f", "start", "auto")
        assert (a.reply["mode"], a.reply["writer"]) == ("write", "root")
        came = told("came")
        assert (came["uid"], came["pid"], came["viewer"]) == (os.getuid(), os.getpid(), a.reply["viewer"])
        assert told("writes")["viewer"] == a.reply["viewer"]
        b = Viewer(daemon, "f", "start", "auto")
        assert (b.reply["mode"], b.reply["writer"]) == ("read-only", "root")
        b.send(b"not heard\n")
        a.send(b"heard\n")
        a.has(b"heard\n")
        j = Viewer(daemon, "f", "start", "join")
        j.send(b"me too\n")
        a.has(b"me too\n")
        f = Viewer(daemon, "f", "start", "force")
        assert told("writes")["viewer"] == f.reply["viewer"]
        a.send(b"no more\n")
        f.send(b"mine now\n")
        b.has(b"mine now\n")
        j.send(b"still me\n")
        b.has(b"still me\n")
        with daemon.connect() as c:
            who = c.call("console-who", guest="f")
        assert who["writer"] == "root"
        assert [v["mode"] for v in who["viewers"]] == ["read-only", "read-only", "join", "write"]
        f.close()
        assert told("went")["viewer"] == f.reply["viewer"]
        # Nothing of this is in the streams: they are the log.
        assert log_of(daemon, "f").read_bytes() == b"heard\nme too\nmine now\nstill me\n"
        for v in (a, b, j):
            v.has(b"still me\n")
            assert bytes(v.data) == b"heard\nme too\nmine now\nstill me\n"
            v.close()


def test_where_to_begin(daemon, fake):
    daemon.folder("f", fake.config("flood=100"))
    daemon.ctl("start", "f")
    log = log_of(daemon, "f")
    wait_until(lambda: log.stat().st_size == 2800, "the guest has printed")
    whole = log.read_bytes()
    for start, offset in (("start", 0), ("end", 2800), (1234, 1234), (-1, 2772), (-3, 2716), (-1000, 0), (5000, 2800),
                          (None, 2800)):
        v = Viewer(daemon, "f", start)
        assert (v.offset, v.reply["end"], v.reply["head"]) == (offset, 2800, 0)
        wait_until(lambda: len(v.data) == 2800 - offset, "the rest comes")
        assert bytes(v.data) == whole[offset:]
        v.close()
    for text, begin in (("start", 0), ("1234", 1234), ("-2", 2744)):
        p = daemon.ctl_start("console", "f", "--read-only", "--from", text)
        assert p.stdout.read(2800 - begin) == whole[begin:]
        p.terminate()
        p.communicate()
    with daemon.connect() as c:
        for bad in ("middle", 1.5, [], {}, True):
            assert c.ask("console-attach", guest="f", **{"from": bad})["error"]["class"] == "BadRequest"
        assert c.ask("console-attach", guest="f", run=7)["error"]["class"] == "BadRequest"
        # and the connection goes on
        assert c.call("console-who", guest="f")["viewers"] == []


def test_lost_bytes_are_told(daemon, fake):
    """A viewer that stood where the log lost its head goes on behind, and knows how many bytes went."""
    lines = 200_000
    daemon.folder("f", fake.config(log={"limit": "256K"}))
    daemon.ctl("start", "f", "--paused")
    if not daemon.show("f")["console"]["bounded"]:
        pytest.skip("this machine cannot punch holes here")
    log = log_of(daemon, "f")
    with daemon.connect() as events:
        events.call("events-subscribe", guests=["f"])
        v = Viewer(daemon, "f", "start")
        v.go.clear()
        reader, writer = os.pipe()
        follower = daemon.ctl_start("logs", "f", "-f", stdout=writer)
        os.close(writer)
        wait_until(lambda: daemon.show("f")["console"]["viewers"] == 2, "both are there")
        line = b"%09d padding so that a line is sixty-four bytes long, all in all\n"
        with log.open("r+b") as f:
            for i in range(lines):
                f.write(line % i)
                if i % 1000 == 0: # slower than a daemon on a busy machine
                    f.flush()
                    time.sleep(0.01)
        size = log.stat().st_size
        step = size // lines
        wait_until(lambda: daemon.ctl("logs", "f", "-n", "1").stdout.startswith(f"{lines - 1:09}"), "the flood ends")
        v.go.set()
        data = bytearray()
        # The first 10 lines, then all up to the last.
        while not data.endswith(line % (lines - 1)):
            data += os.read(reader, 65536)
        wait_until(lambda: v.data.endswith(line % (lines - 1)), "the viewer gets the end")
        lost = [e["data"] for e in events.events if e["data"].get("what") == "lost"]
        while sum(e["bytes"] for e in lost if e["viewer"] == v.reply["viewer"]) + len(v.data) < size:
            lost.append(events.next_event(lambda e: e["data"].get("what") == "lost")["data"])
    mine = [e for e in lost if e["viewer"] == v.reply["viewer"]]
    assert sum(e["bytes"] for e in mine) + len(v.data) == size
    # Whole lines tell where bytes went: the numbers jump just where the events say.
    for got in (bytes(v.data), bytes(data)):
        assert got.startswith(line % 0)
        whole = b"".join(line % i for i in range(lines))
        assert got.endswith(whole[-200_000:])
        head = next(i for i in range(len(got)) if got[i] != whole[i])
        assert head >= step
    assert mine[0]["offset"] <= len(v.data)
    assert bytes(v.data[:mine[0]["offset"]]) == whole[:mine[0]["offset"]]
    follower.terminate()
    _, err = follower.communicate()
    told = sum(int(part.split()[-1]) for part in err.decode().split(" bytes are lost here")[:-1])
    assert told + len(data) == size, err
    os.close(reader)
    v.close()


def test_start_console_misses_no_line(daemon, tiny):
    daemon.folder("tiny", tiny.config)
    with Terminal([BUILD / "cijqemuctl", "start", "tiny", "--console"], daemon.client_env()) as t:
        t.expect("tiny guest ready")
        first = log_of(daemon, "tiny").read_bytes()[:2000].splitlines()
        t.type(b"echo $((40+2))\n")
        t.expect("42")
        t.type(ESCAPE + b".")
        assert t.wait() == 0
    # Once more, now to a file: byte for byte.
    daemon.ctl("kill", "tiny")
    p = daemon.ctl_start("start", "tiny", "--console", stdin=subprocess.PIPE)
    data = b""
    while b"tiny guest ready" not in data:
        part = os.read(p.stdout.fileno(), 65536)
        assert part
        data += part
    p.terminate()
    p.communicate()
    assert log_of(daemon, "tiny", 2).read_bytes().startswith(data)
    assert first


def test_piped_console(daemon, fake):
    daemon.folder("f", fake.config())
    daemon.ctl("start", "f")
    assert daemon.ctl("console", "f", input="uname -a\n").stdout == "uname -a\n"
    v = Viewer(daemon, "f", "start", "auto")
    done = daemon.ctl("console", "f", input="not sent\n", code=75)
    assert "root writes on this console: nothing was sent" in done.stderr and "--force" in done.stderr
    assert daemon.ctl("console", "f", "--join", input="joined\n").stdout == "joined\n"
    # One whose pen is taken while it waits for its input fails, instead of typing into the void.
    v.close()
    p = daemon.ctl_start("console", "f", stdin=subprocess.PIPE)
    p.stdin.write(b"first\n")
    p.stdin.flush()
    assert p.stdout.read(6) == b"first\n"
    v = Viewer(daemon, "f", "end", "force")
    assert p.wait(HANG) == 75  # its input has not ended
    _, err = p.communicate()
    assert b"root has taken over: not all of the input was sent" in err
    v.close()


def test_piped_console_of_a_run_that_ends(daemon, fake):
    daemon.folder("f", fake.config())
    daemon.ctl("start", "f")
    p = daemon.ctl_start("console", "f", "--read-only", "--from", "start")
    wait_until(lambda: daemon.show("f")["console"]["viewers"] == 1, "it is attached")
    daemon.ctl("console", "f", input="last words\n")
    daemon.ctl("kill", "f")
    out, err = p.communicate(timeout=HANG)
    assert out == b"last words\n" and p.returncode == 0 and b"f stopped: killed" in err


def test_several_guests_from_a_script(daemon, fake):
    for name in ("a1", "a2", "b1", "asleep"):
        daemon.folder(name, fake.config())
    daemon.ctl("start", "a1", "a2", "b1")
    done = daemon.ctl("console", "a*", input="uptime\nwho\n")
    assert sorted(done.stdout.splitlines()) == ["a1: uptime", "a1: who", "a2: uptime", "a2: who"]
    assert log_of(daemon, "b1").read_bytes() == b""
    # One of them has a writer: its failure is told, and is the exit code; the other goes ahead.
    v = Viewer(daemon, "a1", "end", "auto")
    done = daemon.ctl("console", "a?", input="more\n", code=75)
    assert done.stdout == "a2: more\n" and "a1: root writes on this console" in done.stderr
    # Watching: until the runs end.
    p = daemon.ctl_start("console", "a*", "--read-only", "--from", "-1")
    wait_until(lambda: daemon.show("a2")["console"]["viewers"] == 1, "it watches")
    wait_until(lambda: daemon.show("a1")["console"]["viewers"] == 2, "it watches")
    v.send(b"seen")
    v.has(b"seen")
    daemon.ctl("kill", "a1", "a2")
    out, _ = p.communicate(timeout=HANG)
    assert sorted(out.splitlines()) == [b"a1: seen", b"a1: who", b"a2: more"] and p.returncode == 0
    v.close()
    daemon.ctl("console", "none*", input="", code=66)
    daemon.ctl("console", "a*", input="", code=75)
    with Terminal([BUILD / "cijqemuctl", "console", "b*"], daemon.client_env()) as t:
        t.expect("a conversation is with one guest")
        assert t.wait() == 64


def console(daemon, *args):
    t = Terminal([BUILD / "cijqemuctl", "console", "f", *args], daemon.client_env())
    t.expect(r"\[f: [^]]*\^?\][^\]]*\]|\[f: [^\]]*\]")
    return t


@pytest.fixture
def shared(daemon, fake):
    daemon.folder("f", fake.config())
    daemon.ctl("start", "f")
    return daemon


def test_escape_keys(shared):
    with Terminal([BUILD / "cijqemuctl", "console", "f"], shared.client_env()) as t:
        t.expect(r"\[f: writing; \^\] \. detaches, \^\] \? helps\]")
        assert t.raw()
        t.type(b"hello\r")
        t.expect(b"hello\r")
        t.type(ESCAPE + b"?")
        t.expect(r"\. detach, f take the pen, r only read, w who is there, \^\] send \^\]")
        t.type(ESCAPE + b"w")
        t.expect(r"\[root, pid %d: write \(you\)\]" % t.pid)
        t.type(ESCAPE + ESCAPE)
        t.expect(ESCAPE)
        t.type(ESCAPE + b"r")
        t.expect(r"you read; \^\] f takes over|nobody|\^\] f takes over")
        t.type(b"unheard")
        t.expect(r"\^\] f takes over")
        t.type(ESCAPE + b"f")
        t.expect("writing")
        t.type(b"heard\x03\x1a\x00")
        t.expect(b"heard\x03\x1a\x00")
        t.type(ESCAPE + b".")
        t.expect(r"\[f: detached\]")
        assert t.wait() == 0
        assert t.restored()
    assert b"unheard" not in log_of(shared, "f").read_bytes()


@pytest.mark.parametrize("option, key, leave", [("~", b"~", b"~."), ("^a", b"\x01", b"\x01."), ("^?", b"\x7f", b"\x7f.")])
def test_other_escape_keys(shared, option, key, leave):
    with console(shared, "-e", option) as t:
        t.type(ESCAPE + b"." + key + key)
        t.expect(ESCAPE + b"\\." + b"[" + key + b"]")
        t.type(leave)
        assert t.wait() == 0
        assert t.restored()


def test_no_escape_key(shared):
    with console(shared, "-e", "none") as t:
        t.type(ESCAPE + b".")
        t.expect(ESCAPE + b"\\.")
        assert t.poll() is None
        t.kill(signal.SIGTERM)
        t.wait()
        assert t.restored()
    for bad in ("", "ab", "^ab", "é"):
        shared.ctl("console", "f", "-e", bad, code=64)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGSEGV,
                                 signal.SIGABRT])
def test_terminal_is_given_back_at_a_signal(shared, sig):
    with console(shared) as t:
        assert t.raw()
        t.kill(sig)
        t.wait()
        assert t.restored()
    wait_until(lambda: shared.show("f")["console"]["viewers"] == 0, "the daemon sees that it has gone")


def test_terminal_is_given_back_while_it_is_stopped(shared):
    with console(shared) as t:
        t.kill(signal.SIGTSTP)
        wait_until(t.restored, "the terminal is in order while the program stands")
        t.kill(signal.SIGCONT)
        wait_until(t.raw, "it is raw again")
        t.type(b"goes on")
        t.expect("goes on")


def test_terminal_is_given_back_at_the_end_of_the_run(shared):
    with console(shared) as t:
        shared.ctl("kill", "f")
        t.expect("f stopped: killed")
        assert t.wait() == 0
        assert t.restored()


def test_terminal_is_given_back_when_the_daemon_stays_away(shared):
    with console(shared) as t:
        shared.stop(signal.SIGKILL)
        t.expect("the daemon went away; waiting for it to come back")
        t.type(ESCAPE + b".")
        assert t.wait() == 0
        assert t.restored()
    shared.start()


def test_terminal_through_a_restart(shared):
    with console(shared) as t:
        t.type(b"before")
        t.expect("before")
        shared.restart(signal.SIGKILL)
        t.expect("the daemon is back; nothing was lost")
        t.type(b"behind")
        t.expect("behind")
        assert t.raw()
        t.type(ESCAPE + b".")
        assert t.wait() == 0
        assert t.restored()


def test_resizing_disturbs_nothing(shared):
    import termios
    with console(shared) as t:
        for rows in (10, 50, 24):
            termios.tcsetwinsize(t.fd, (rows, 100))
            t.kill(signal.SIGWINCH)
            t.type(b"%d rows" % rows)
            t.expect(b"%d rows" % rows)


def test_all_present_are_told(shared):
    with console(shared) as a:
        with Terminal([BUILD / "cijqemuctl", "console", "f"], shared.client_env()) as b:
            b.expect(r"\[f: root writes; you read; \^\] f takes over, \^\] \. detaches\]")
            a.expect(r"\[root came\]")
            b.type(b"x")
            b.expect("root writes; you read")
            b.type(ESCAPE + b"f")
            b.expect(r"\[f: writing")
            a.expect(r"\[root writes now, you read; \^\] f takes over\]")
            b.type(b"b has the pen")
            a.expect("b has the pen")
            with console(shared, "--join") as c:
                b.expect(r"\[root came\]")
                c.type(b"c types too")
                a.expect("c types too")
                c.type(ESCAPE + b".")
                c.wait()
            b.expect(r"\[root went\]")
            b.type(ESCAPE + b".")
            b.wait()
        a.expect(r"\[root went\]")
    assert log_of(shared, "f").read_bytes() == b"b has the penc types too"


def test_notes_are_no_output(shared):
    """stdout is the stream alone, whatever is told beside it."""
    viewer = Viewer(shared, "f", "start")
    p = shared.ctl_start("console", "f", "--join", stdin=subprocess.PIPE)
    p.stdin.write(b"typed\n")
    p.stdin.flush()
    viewer.has(b"typed\n")
    other = Viewer(shared, "f", "end", "force")
    other.send(b"by another\n")
    viewer.has(b"by another\n")
    other.close()
    p.stdin.close()
    p.stdin = None
    stdout, _ = p.communicate(timeout=HANG)
    assert stdout == b"typed\nby another\n"
    viewer.close()


def test_killed_viewers_leave_nothing_behind(shared):
    def once():
        processes = [shared.ctl_start("console", "f", "--read-only") for _ in range(10)]
        wait_until(lambda: shared.show("f")["console"]["viewers"] == 10, "they are there")
        for p in processes:
            p.kill()
            p.communicate()
        wait_until(lambda: shared.show("f")["console"]["viewers"] == 0, "they are gone")
    once()
    before = len(shared.fds())
    for _ in range(3):
        once()
    # 60 connections came and went; one to the guest's SSH port comes and goes by itself.
    wait_until(lambda: len(shared.fds()) <= before + 1, "no descriptor is left")


def private_kib(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))


def test_a_stopped_viewer_costs_no_memory(daemon, fake):
    lines = 1_000_000
    daemon.folder("f", fake.config(f"flood={lines}", log={"limit": "1G"}))
    daemon.ctl("start", "f", "--paused")
    stopped = [Viewer(daemon, "f", "start") for _ in range(4)]
    for v in stopped:
        v.go.clear()
    before = private_kib(daemon.pid)
    log = log_of(daemon, "f")
    daemon.ctl("resume", "f")
    wait_until(lambda: log.stat().st_size == lines * 28, "the guest prints, whoever stands still")
    assert private_kib(daemon.pid) - before < 2048 * (10 if "asan" in str(BUILD) else 1)
    for v in stopped:
        v.go.set()
    drain(stopped, log, lines * 28)
    for v in stopped:
        v.close()


def test_1100_viewers(daemon, fake):
    daemon.folder("f", fake.config())
    daemon.ctl("start", "f")
    before = private_kib(daemon.pid)
    clients = []
    for _ in range(1100):
        c = daemon.connect()
        c.call("console-attach", guest="f", mode="read-only")
        clients.append(c.sock)
    each = (private_kib(daemon.pid) - before) / 1100
    v = Viewer(daemon, "f", "start", "auto")
    v.send(b"to all of you\n")
    for s in clients:
        got = b""
        while len(got) < 14:
            got += s.recv(100)
        assert got == b"to all of you\n"
        s.close()
    v.close()
    if "asan" not in str(BUILD):
        assert each <= 4, each
