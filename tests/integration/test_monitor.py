"""The commands 'monitor' and 'qmp', at a terminal and in scripts."""

import contextlib
import json
import os
import pty
import select
import signal
import stat
import termios
import time

import pytest

from harness import BUILD, HANG, wait_until
from monitors import guest, real  # noqa: F401


class Terminal:
    """cijqemuctl at a terminal of its own."""

    def __init__(self, daemon, *args, env=None):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            full = daemon.client_env({"TERM": "xterm", **(env or {})})
            os.execve(BUILD / "cijqemuctl", ["cijqemuctl", *args], full)
        self.text = ""

    def type(self, text):
        os.write(self.fd, text.encode())

    def until(self, what):
        """Reads until @what is on the screen; returns all up to there."""
        end = time.monotonic() + HANG
        while what not in self.text:
            assert time.monotonic() < end, f"never saw {what!r} in {self.text!r}"
            if select.select([self.fd], [], [], 1)[0]:
                try:
                    self.text += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    raise AssertionError(f"ended without {what!r}: {self.text!r}") from None
        head, _, self.text = self.text.partition(what)
        return head + what

    def leave(self):
        """Types ^D (again, where it came between the prompt and the editor's taking over); gives the exit code."""
        end = time.monotonic() + HANG
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                self.type("\x04")
                while select.select([self.fd], [], [], 0.5)[0] and os.read(self.fd, 65536):
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
        raise AssertionError("did not leave at ^D")

    def close(self):
        os.close(self.fd)
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def start(daemon, *args, env=None):
        opened.append(Terminal(daemon, *args, env={"XDG_STATE_HOME": str(tmp_path / "xdg"), **(env or {})}))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_monitor_at_a_terminal(real, terminal, tmp_path):
    t = terminal(real, "monitor", "tiny")
    t.until("^D leaves")
    t.until("(qemu) ")
    t.type("info na\t\r")  # completed from 'help info'
    assert "tiny\r\n" in t.until("(qemu) ")
    t.type("chardev-r\t")  # and from 'help'
    t.until("emove ")
    t.type("\x03")
    t.until("^C")
    t.until("(qemu) ")
    t.type("info sta\t\t")
    t.until("status")
    t.type("\x03\x1b[A\r")  # the line before, from the history
    t.until("tiny\r\n")
    t.until("(qemu) ")
    t.type("migrate x\r")
    t.until("daemon's hands")
    t.until("(qemu) ")
    assert t.leave() == 0
    history = tmp_path / "xdg/cijqemu/monitor.history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600 and "migrate" in history.read_text()
    again = terminal(real, "monitor", "tiny")
    again.until("(qemu) ")
    again.type("\x1b[A\x1b[A\r")
    again.until("info name")
    again.until("tiny\r\n")


def test_monitor_outlives_a_restart_of_the_daemon(guest, terminal):
    t = terminal(guest, "monitor", "f")
    t.until("(qemu) ")
    t.type("info status\r")
    t.until("running")
    guest.restart(signal.SIGKILL)
    t.until("(qemu) ")
    t.type("info status\r")
    t.until("(qemu) ")  # told that the connection broke
    t.type("info status\r")
    t.until("VM status: running")


def test_qmp_at_a_terminal_tells_events(guest, terminal):
    t = terminal(guest, "qmp", "f")
    t.until("(qmp) ")
    t.type("query-na")
    guest.ctl("pause", "f")
    t.until("STOP")  # while a line is typed, which stays
    t.until("(qmp) query-na")
    t.type("me\r")
    t.until('"name": "f"')
    t.until("(qmp) ")
    t.type("nosuch\r")
    t.until("has not been found")
    t.type('{"execute": "cont"}\r')
    t.until("RESUME")
    t.until("{}")
    guest.ctl("kill", "f")
    t.until("has gone")
    t.type("query-name\r")
    t.until("it has no monitor")
    t.until("(qmp) ")
    assert t.leave() == 0


def test_a_terminal_without_the_library_has_its_own_line(real, terminal, tmp_path):
    """As where libedit is not installed: the loader finds something else under its names."""
    empty = tmp_path / "lib"
    empty.mkdir()
    for name in ("libedit.so.2", "libedit.so.0"):
        (empty / name).write_text("no library")
    t = terminal(real, "monitor", "tiny", env={"LD_LIBRARY_PATH": str(empty)})
    t.until("(qemu) ")
    t.type("info name\r")
    t.until("tiny\r\n")
    t.until("(qemu) ")
    assert t.leave() == 0


def test_the_terminal_is_given_back(real, terminal):
    t = terminal(real, "monitor", "tiny")
    before = None
    t.until("(qemu) ")
    t.type("info name\r")
    t.until("tiny\r\n")
    t.until("(qemu) ")
    before = termios.tcgetattr(t.fd)[3] & termios.ECHO
    os.kill(t.pid, signal.SIGTERM)
    wait_until(lambda: termios.tcgetattr(t.fd)[3] & termios.ECHO, "the terminal echoes again")
    assert not before and os.waitstatus_to_exitcode(os.waitpid(t.pid, 0)[1]) == 128 + signal.SIGTERM


def test_piped_lines_and_exit_codes(guest):
    done = guest.ctl("monitor", "f", input="info status\n\nnosuch\ninfo status")
    assert done.stdout == "VM status: running\nunknown command: 'nosuch'\nVM status: running\n"
    done = guest.ctl("qmp", "f", input="query-name\nnosuch\n{bad\nquery-kvm\n", code=1)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{"name": "f"}, {"enabled": False, "present": True}]
    assert "nosuch has not been found" in done.stderr and "bad JSON" in done.stderr
    guest.ctl("qmp", "f", "{bad", code=65)
    guest.ctl("monitor", "f", "migrate", "x", code=1)
    guest.ctl("kill", "f")
    guest.ctl("monitor", "f", "info", "status", code=75)
    guest.ctl("qmp", "nosuch", "query-name", code=66)


def test_several_guests_at_once(daemon, fake):
    for name in ("a1", "a2", "b1", "a3"):
        daemon.folder(name, fake.config())
    daemon.ctl("start", "a1", "a2", "b1")
    out = daemon.ctl("monitor", "a*", "info", "status").stdout  # a3 does not run
    assert out == "a1: VM status: running\na2: VM status: running\n"
    out = daemon.ctl("qmp", "a*", input="query-name\nquery-kvm\n").stdout.splitlines()
    assert [line.split(":")[0] for line in out] == ["a1", "a2", "a1", "a2"]
    out = daemon.ctl("--json", "qmp", "*", "query-name").stdout.splitlines()
    assert [json.loads(line) for line in out] == [{"guest": g, "return": {"name": g}} for g in ("a1", "a2", "b1")]
    done = daemon.ctl("qmp", "[ab]*", "nosuch", code=1)
    assert "a1: The command" in done.stderr and "b1: The command" in done.stderr
    daemon.ctl("qmp", "z*", "query-name", code=66)
    daemon.ctl("monitor", "a3*", "info", "status", code=75)
    # From many scripts, all at the same time.
    clients = [daemon.ctl_start("monitor", g, "info", "status") for g in ("a1", "a2", "b1") for _ in range(5)]
    for client in clients:
        out, err = client.communicate(timeout=HANG)
        assert (out, client.returncode) == (b"VM status: running\n", 0), err


def test_qmp_arguments_as_words(real):
    assert real.ctl("qmp", "tiny", "qom-get", "path=/machine", "property=type").stdout.startswith('"pc-q35')
    out = real.ctl("qmp", "tiny", input="qom-list-properties typename=iothread\n").stdout
    assert any(p["name"] == "poll-max-ns" for p in json.loads(out))
