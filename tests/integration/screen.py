"""A program on a terminal that is read like a person reads it: a pty and pyte's screen."""

import atexit
import fcntl
import functools
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time

import pyte

from harness import HANG


# What pyte does not know.
UNKNOWN = r"(indn|rin|rep)=[^,]*, ?"


@functools.cache
def terminfo():
    """A folder with terminal 'cij-pyte': screen's, without what pyte does not know."""
    folder = tempfile.mkdtemp(prefix="cij-terminfo.")
    atexit.register(shutil.rmtree, folder)
    text = subprocess.run(["infocmp", "screen"], capture_output=True, text=True, check=True).stdout
    text = re.sub(UNKNOWN, "", re.sub(r"(?m)^screen\|.*$", "cij-pyte|for tests,", text))
    subprocess.run(["tic", "-x", "-o", folder, "-"], input=text, text=True, check=True)
    return folder


class Screen:
    def __init__(self, argv, env, lines=24, columns=80):
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.master, slave = pty.openpty()
        self.before = termios.tcgetattr(slave)
        self.set_size(lines, columns)
        self.process = subprocess.Popen([str(a) for a in argv], stdin=slave, stdout=slave, stderr=slave,
                                        env={**env, "TERM": "cij-pyte", "TERMINFO": terminfo()}, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.slave = slave
        os.set_blocking(self.master, False)

    def set_size(self, lines, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, lines, columns):
        self.screen.resize(lines, columns)
        self.set_size(lines, columns)

    def keys(self, text):
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def pump(self):
        try:
            data = os.read(self.master, 65536)
        except (BlockingIOError, OSError):
            return False
        self.raw += data
        self.stream.feed(data)
        return True

    @property
    def text(self):
        return "\n".join(self.screen.display)

    def until(self, condition, what):
        end = time.monotonic() + HANG
        while True:
            while self.pump():
                pass
            value = condition()
            if value:
                return value
            assert time.monotonic() < end, f"not within {HANG} s: {what}\n{self.text}"
            time.sleep(0.02)

    def until_shown(self, text):
        self.until(lambda: text in self.text, f"'{text}' is on the screen")

    def ended(self):
        """Waits for its end and takes its last words in; returns the exit code."""
        self.until(lambda: self.process.poll() is not None, "it ends")
        while self.pump():
            pass
        return self.process.returncode

    def assert_restored(self):
        """The terminal is as it was: its modes, the screen behind, the cursor."""
        assert termios.tcgetattr(self.slave) == self.before
        assert self.raw.rindex(b"\x1b[?1049l") > self.raw.rindex(b"\x1b[?1049h")
        assert self.raw.rindex(b"\x1b[?25h") > self.raw.rindex(b"\x1b[?25l")

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)
