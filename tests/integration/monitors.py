"""Clients of a guest's monitors, and guests to try them on."""

import contextlib
import json
import os
import socket
import subprocess

import pytest

from harness import HANG, Daemon, Lines, wait_until

NOBODY, STRANGER = 65534, 4242
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="this machine cannot: needs root for a second user")


class Raw(Lines):
    """A plain socket: bytes in, bytes out."""

    def until(self, what):
        while what not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(self.buffer)
            self.buffer += data
        head, _, self.buffer = self.buffer.partition(what)
        return head + what

    def to_end(self):
        while True:
            data = self.sock.recv(1 << 20)
            if not data:
                return self.buffer
            self.buffer += data

    def silent(self, seconds=0.3):
        self.sock.settimeout(seconds)
        try:
            return not self.buffer and self.sock.recv(1, socket.MSG_PEEK) and False
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(HANG)


class Qmp(Raw):
    """One QMP client."""

    def __init__(self, path, negotiate=True):
        super().__init__(path)
        self.greeting = json.loads(self.read_line())
        assert "QMP" in self.greeting, self.greeting
        self.events = []
        if negotiate:
            assert self.ask({"execute": "qmp_capabilities"}) == {"return": {}}

    def message(self):
        while True:
            msg = json.loads(self.read_line())
            if "event" not in msg:
                return msg
            self.events.append(msg)

    def ask(self, msg):
        self.send_raw(json.dumps(msg) + "\n")
        return self.message()

    def event(self, name):
        while True:
            for event in self.events:
                if event["event"] == name:
                    self.events.remove(event)
                    return event
            msg = json.loads(self.read_line())
            assert "event" in msg, msg
            self.events.append(msg)


def sockets(daemon, guest):
    return daemon.run / "guests" / guest


@contextlib.contextmanager
def as_user(uid):
    """This thread's connections come from @uid: SO_PEERCRED says who connect()s."""
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def guest(daemon, fake):
    """A stand-in guest 'f' that runs."""
    daemon.folder("f", fake.config())
    daemon.ctl("start", "f")
    return daemon


@pytest.fixture(scope="module")
def real(tmp_path_factory, tiny):
    """A real QEMU whose processors stand still: its monitor is all that is needed."""
    d = Daemon(tmp_path_factory.mktemp("real"))
    try:
        d.start()
        d.folder("tiny", tiny.config)
        d.ctl("start", "tiny", "--paused")
        yield d
    finally:
        d.close()


def connects(path):
    with contextlib.suppress(OSError), Raw(path):
        return True
    return False


@pytest.fixture
def own(tmp_path):
    """A real QEMU by hand, on a QMP socket of its own: what ours is compared with."""
    path = tmp_path / "own.sock"
    process = subprocess.Popen(
        ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-accel", "tcg", "-chardev",
         f"socket,id=qmp0,path={path},server=on,wait=off", "-mon", "chardev=qmp0,mode=control"])
    try:
        wait_until(lambda: connects(path), "QEMU listens")
        yield path
    finally:
        process.kill()
        process.wait()


def hmp(path, text):
    done = subprocess.run(["socat", "-t", "20", "-", f"UNIX-CONNECT:{path}"], input=text.encode(),
                          capture_output=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()
