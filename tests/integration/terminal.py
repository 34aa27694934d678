"""A program on a real terminal, as a person sees it: a pseudo terminal with us at the other end."""

import os
import pty
import re
import signal
import termios
import threading
import time

from harness import HANG, wait_until


class Terminal:
    """Runs @argv on a terminal of its own, in its own session. What it shows is collected all the time."""

    def __init__(self, argv, env, rows=24, columns=100):
        # We keep the program's end open too: the state that it left can be looked at.
        self.fd, self.slave = pty.openpty()
        termios.tcsetwinsize(self.fd, (rows, columns))
        self.before = termios.tcgetattr(self.slave)  # before the program can change it
        started, starting = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.login_tty(self.slave)
                os.execvpe(argv[0], [str(a) for a in argv], env)
            finally:
                os._exit(127)
        # A ^C that is typed before the terminal is the program's own reaches nobody.
        os.close(starting)
        os.read(started, 1)
        os.close(started)
        self.status = None
        self.shown = b""
        self.lock = threading.Lock()  # of shown, which is added to all the time
        self.thread = threading.Thread(target=self.collect, daemon=True)
        self.thread.start()

    def collect(self):
        while True:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                return
            if not data:
                return
            with self.lock:
                self.shown += data

    def type(self, data):
        os.write(self.fd, data if isinstance(data, bytes) else data.encode())

    def expect(self, pattern, seconds=HANG):
        """Waits until it shows @pattern (a regular expression of bytes); what was before is used up."""
        pattern = pattern if isinstance(pattern, bytes) else pattern.encode()
        end = time.monotonic() + seconds
        while True:
            over = time.monotonic() >= end
            if self.poll() is not None:  # what it said last may be on its way to us
                self.thread.join(10)
                over = True
            with self.lock:
                match = re.search(pattern, self.shown)
                if match:
                    self.shown = self.shown[match.end():]
                    return match
            assert not over, f"{pattern} never came; it ended with {self.status}: {self.shown[-2000:]}"
            time.sleep(0.01)

    def poll(self):
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def wait(self):
        wait_until(lambda: self.poll() is not None, f"the program ends; it shows {self.shown[-500:]}")
        return self.status

    def raw(self):
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def restored(self):
        return termios.tcgetattr(self.slave) == self.before

    def kill(self, sig):
        os.kill(self.pid, sig)

    def close(self):
        if self.poll() is None:
            os.kill(self.pid, signal.SIGCONT)
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        os.close(self.slave)
        self.thread.join(10)  # or it would read what the next terminal shows, who gets our descriptor
        os.close(self.fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
