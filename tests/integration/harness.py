"""What the integration tests are made of: a private daemon, its client, guests, real and stand-in."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = (ROOT / os.environ.get("BUILD", "build")).resolve()
SHARED = ROOT.parent / "shared"

# Nothing takes this long but a hang: no test asserts a shorter time.
HANG = 90

# What the sanitizers and valgrind print when they find something.
SANITIZER = re.compile(r"ERROR: AddressSanitizer|runtime error:|LeakSanitizer|ERROR SUMMARY: [1-9]")


def wait_until(condition, what, seconds=HANG):
    """Polls until condition() is true; returns its value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def stopped(pid):
    """Stops the process, and waits until all its threads are."""
    def states():
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            yield (task / "stat").read_text().rpartition(")")[2].split()[0]
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: set(states()) == {"T"}, f"{pid} is stopped")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Lines:
    """A connection to a socket of the daemon's, line by line. A socket that is connected already will do, too."""

    def __init__(self, path_or_sock):
        if isinstance(path_or_sock, socket.socket):
            self.sock = path_or_sock
        else:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(str(path_or_sock))
        self.sock.settimeout(HANG)
        self.buffer = b""

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send_raw(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def read_line(self):
        while b"\n" not in self.buffer:
            data = self.sock.recv(1 << 20)
            if not data:
                raise EOFError(self.buffer)
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.rstrip(b"\r")


def delete_guest(c, guest):
    """Deletes it whatever is under way there: a restart, the reset that a lease ends with, a drive that is formatted."""
    def went():
        c.ask("guest-set", guest=guest, restart="no")
        c.ask("guest-kill", guest=guest)
        c.ask("lease-release", guest=guest, steal=True)
        replies.append(c.ask("guest-delete", guest=guest))
        return replies[-1].get("error", {}).get("class") not in ("Leased", "Busy")

    replies = []
    try:
        wait_until(went, f"{guest} may be deleted")
    finally:
        print(f"{guest} is deleted:", *replies[-1:])
    assert "return" in replies[-1] or replies[-1]["error"]["class"] == "GuestNotFound", replies[-1]


class Client(Lines):
    """A client of the control socket."""

    def __init__(self, path_or_sock, greet=True):
        super().__init__(path_or_sock)
        self.events = []
        self.last_id = 0
        if greet:
            self.greeting = self.read()

    def read(self):
        return json.loads(self.read_line())

    def send(self, op, **arguments):
        self.last_id += 1
        args = {k.replace("_", "-") if k == "x" else k: v for k, v in arguments.items()}
        self.send_raw(json.dumps({"execute": op, "arguments": args, "id": self.last_id}) + "\n")
        return self.last_id

    def receive(self, wanted):
        while True:
            msg = self.read()
            if "event" in msg:
                self.events.append(msg)
            elif msg.get("id") == wanted:
                return msg

    def ask(self, op, **arguments):
        """The whole reply, an error too."""
        return self.receive(self.send(op, **arguments))

    def call(self, op, **arguments):
        """What the operation returns."""
        reply = self.ask(op, **arguments)
        assert "return" in reply, reply
        return reply["return"]

    def next_event(self, match=lambda event: True):
        while True:
            for i, event in enumerate(self.events):
                if match(event):
                    return self.events.pop(i)
            msg = self.read()
            if "event" in msg:
                self.events.append(msg)


class Daemon:
    """A cijqemud of our own, with folders of its own."""

    def __init__(self, base, env=None, options=(), guests=None):
        self.base = pathlib.Path(base)
        self.guests = pathlib.Path(guests) if guests else self.base / "guests"
        self.run = self.base / "run"
        self.state = self.base / "state"
        self.log = self.base / "daemon.log"
        self.socket = self.run / "cijqemud.sock"
        self.options = list(options)
        self.env = {**os.environ, "LC_ALL": "C.UTF-8", **(env or {})}
        for name in ("QEMU_GUESTS", "QEMU_HOME", "CIJQEMU_SOCKET", "NOTIFY_SOCKET", "QEMU_GUEST_NAME",
                     "QEMU_HOST", "QEMU_HOST_USER", "QEMU_HOST_PORT"):
            if not env or name not in env:
                self.env.pop(name, None)
        self.guests.mkdir(parents=True, exist_ok=True)
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    def spawn(self):
        wrap = os.environ.get("CIJ_WRAP", "").split()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*wrap, BUILD / "cijqemud", "-v", "--guests", self.guests, "--run-dir", self.run,
                 "--state-dir", self.state, *self.options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env)
        return self

    def start(self):
        self.spawn()
        wait_until(self.answers, "the daemon answers")
        return self

    def answers(self):
        assert self.process.poll() is None, self.log_text()
        try:
            Client(self.socket).close()
            return True
        except OSError:
            return False

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def stop(self, sig=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
            try:
                self.process.wait(HANG)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError("the daemon did not end at signal %d\n%s" % (sig, self.log_text()))
        return self.process.returncode if self.process else None

    def restart(self, sig=signal.SIGTERM):
        self.stop(sig)
        if sig in (signal.SIGABRT, signal.SIGSEGV):  # sent by us: what a sanitizer says of it is no finding
            self.log.write_text(re.sub(r"AddressSanitizer:DEADLYSIGNAL.*==\d+==ABORTING\n", "", self.log_text(),
                                       flags=re.S))
        return self.start()

    def connect(self):
        return Client(self.socket)

    def client_env(self, env=None):
        return {**self.env, "CIJQEMU_SOCKET": str(self.socket), **(env or {})}

    def ctl(self, *args, code=0, input=None, env=None, timeout=HANG, text=True):
        """Runs cijqemuctl; its exit code must be @code (None: whatever)."""
        done = subprocess.run(
            [BUILD / "cijqemuctl", *map(str, args)], input=input, capture_output=True, text=text,
            stdin=subprocess.DEVNULL if input is None else None, env=self.client_env(env), timeout=timeout)
        err = done.stderr if text else done.stderr.decode(errors="replace")
        assert not SANITIZER.search(err), err
        if code is not None:
            assert done.returncode == code, (
                f"cijqemuctl {args}: exit {done.returncode}, wanted {code}\n{done.stdout}\n{err}")
        return done

    def ctl_start(self, *args, env=None, **kw):
        """A cijqemuctl that runs on, for tests that watch it."""
        return subprocess.Popen([BUILD / "cijqemuctl", *map(str, args)], env=self.client_env(env),
                                **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
                                   "stderr": subprocess.PIPE, **kw})

    def json(self, *args, code=0):
        return json.loads(self.ctl("--json", *args, code=code).stdout)

    def show(self, guest):
        return self.json("show", guest)

    def folder(self, name, config=None):
        """A guest's folder as a user would make it by hand."""
        path = self.guests / name
        path.mkdir(exist_ok=True)
        if config is not None:
            text = config if isinstance(config, str) else json.dumps(config)
            (path / "guest.json").write_text(text)
        return path

    def fds(self):
        """What the daemon's descriptors are; those that come and go meanwhile may be missing."""
        found = []
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                found.append(os.readlink(f"/proc/{self.pid}/fd/{fd}"))
            except FileNotFoundError:
                pass
        return sorted(found)

    def qemu_pids(self):
        """The live processes that hold a guest's pid file."""
        pids = []
        for pidfile in self.guests.glob("*/guest.pid"):
            try:
                pid = int(pidfile.read_text())
            except (ValueError, OSError):
                continue
            if alive(pid) and os.path.realpath(f"/proc/{pid}/cwd") == os.path.realpath(pidfile.parent):
                pids.append(pid)
        return pids

    def close(self):
        """Ends the guests and the daemon, whatever state they are in, and checks what it left."""
        try:
            if self.process and self.process.poll() is None:
                os.kill(self.pid, signal.SIGCONT)
                try:
                    self.ctl("-q", "--timeout", "20", "kill", "--all", code=None)
                except (subprocess.TimeoutExpired, AssertionError):
                    pass
            if self.process:
                self.stop()
        finally:
            for pid in self.qemu_pids():
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda: not alive(pid), f"process {pid} ends")
        assert not SANITIZER.search(self.log_text()), self.log_text()


class Tiny:
    """The real tiny guest, built once."""

    def __init__(self):
        self.dir = BUILD_GUEST

    @property
    def config(self):
        return {"memory": "256M", "cpus": 1, "accel": "tcg",
                "kernel": {"image": str(self.dir / "bzImage"), "initrd": str(self.dir / "initrd.img")},
                "ssh": {"key": str(self.dir / "id_ed25519")}}


BUILD_GUEST = (ROOT / os.environ.get("CIJ_GUEST_DIR", "build/guest")).resolve()


def build_guest():
    subprocess.run([ROOT / "tests/guest/build.sh", BUILD_GUEST], check=True)


class FakeQemu:
    """An installation of the stand-in QEMU: a folder for qemu_home. Words: see tests/fake/main.c."""

    def __init__(self, home, *words, qemu_img=True):
        self.home = pathlib.Path(home)
        (self.home / "bin").mkdir(parents=True)
        shutil.copy(BUILD / "tests/fake_qemu", self.home / "bin/qemu-system-x86_64")
        if qemu_img and shutil.which("qemu-img"):
            (self.home / "bin/qemu-img").symlink_to(shutil.which("qemu-img"))
        self.tell(*words)

    def tell(self, *words):
        (self.home / "fake.conf").write_text("".join(word + "\n" for word in words))

    def config(self, *words, **more):
        """A guest.json that needs nothing else in the folder."""
        kernel = self.home / "bzImage"
        kernel.touch()
        extra = {"extra_args": ["-fake", ",".join(words)]} if words else {}
        return {"qemu_home": str(self.home), "accel": "tcg", "memory": "64M", "cpus": 1,
                "kernel": {"image": str(kernel)}, **extra, **more}


def eprint(*args):
    print(*args, file=sys.stderr)


# A stand-in for the qemu-img of a fork, which knows the 'ocssd' format: header, geometry, hole.
OCSSD_QEMU_IMG = """#!/usr/bin/python3
import os, struct, sys
args = sys.argv[1:]
assert args[:4] == ["create", "-q", "-f", "ocssd"] and args[4] == "-o", args
o = {k: int(v) for k, v in (p.split("=") for p in args[5].split(","))}
if os.path.exists(__file__ + ".fail"):
    open(args[6], "wb").write(b"half")
    sys.exit(open(__file__ + ".fail").read())
geo = bytearray(4096)
geo[0] = 2
struct.pack_into("<HHII", geo, 64, o["num_grp"], o["num_pu"], o["num_chk"], o["num_sec"])
struct.pack_into("<III", geo, 128, o["ws_min"], o["ws_opt"], o["mw_cunits"])
chunks = o["num_grp"] * o["num_pu"] * o["num_chk"]
if "%(magic)s" == "MVNL":
    head = struct.pack("<4sIIIQI", b"MVNL", 1, 1, 0, o["sec_size"], o["md_size"]).ljust(o["sec_size"], b"\\0")
else:
    head = struct.pack("<4sIIIQ", b"02CO", 1, 1, o["md_size"], o["sec_size"]).ljust(4096, b"\\0")
with open(args[6], "wb") as f:
    f.write(head + geo)
    f.truncate(len(head) + 8192 + chunks * o["num_sec"] * (o["sec_size"] + o["md_size"]))
"""


def fork(home, build, *words):
    """A stand-in for a QEMU fork: what it says of itself is recorded in tests/data."""
    fake = FakeQemu(home, f"transcript={ROOT}/tests/data/{build}.qmp", "no-sandbox", *words, qemu_img=False)
    if "4.1.50" not in build:
        path = fake.home / "bin/qemu-img"
        path.write_text(OCSSD_QEMU_IMG % {"magic": "MVNL" if "3.1.50" in build else "02CO"})
        path.chmod(0o755)
    return fake
