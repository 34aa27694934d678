"""Everything at once, at random: the daemon outlives it, tells the truth, and keeps nothing."""

import collections
import json
import os
import pathlib
import random
import select
import shutil
import signal
import socket
import tempfile
import threading
import time

import pytest

from lab import OWNER, root_only
from harness import HANG, Client, Daemon, FakeQemu, alive, delete_guest, wait_until

SEED = int(os.environ.get("STORM_SEED", random.SystemRandom().randrange(10**9)))
SECONDS = float(os.environ.get("STORM_SECONDS", 12))
CLIENTS = 6
NAMES = [f"g{i}" for i in range(6)]
FAULTS = ["", "", "", "", "ssh", "ignore-powerdown", "ignore-term", "at=cont:crash", "at=greeting:mute",
          "at=query-pci:close", "at=device_add:sleep", "exit=1", "keep-devices", "unseen", "flood=20000",
          "at=query-status:garbage", "at=device_del:crash", "refuse=device_add", "at=stop:close"]
STATES = {"stopped", "starting", "running", "paused", "stopping", "broken"}


def operations(r, config):
    """One operation at random, as a client would ask for it, good or bad."""
    guest = r.choice(NAMES)
    drive = {"id": r.choice(["d0", "d1", "d2"]), "type": "nvme", "size": "1M"}
    return r.choice([
        lambda: ("guest-start", {"guest": guest, "paused": r.random() < .2}),
        lambda: ("guest-start", {"guest": guest}),
        lambda: ("guest-start", {"guest": guest}),
        lambda: ("guest-stop", {"guest": guest, "force_after": r.choice([0, 0.2, 60])}),
        lambda: ("guest-kill", {"guest": guest}),
        lambda: ("guest-restart", {"guest": guest}),
        lambda: ("guest-reset", {"guest": guest}),
        lambda: ("guest-pause", {"guest": guest}),
        lambda: ("guest-resume", {"guest": guest}),
        lambda: ("guest-delete", {"guest": guest}),
        lambda: ("guest-create", {"guest": guest, **config(r.choice(FAULTS))}),
        lambda: ("guest-create", {"guest": guest, **config(r.choice(FAULTS))}),
        lambda: ("guest-set", {"guest": guest, "memory": r.choice(["32M", "x", 7, None])}),
        lambda: ("guest-set", {"guest": guest, "restart": r.choice(["no", "always", "on-failure"])}),
        lambda: ("guest-wait", {"guest": guest, "for": r.choice(["running", "stopped", "ssh"]),
                                "timeout": r.choice([0, 0.1, 1, 5])}),
        lambda: ("guest-validate", {"guest": guest}),
        lambda: ("guest-argv", {"guest": guest}),
        lambda: ("guest-share", {"guest": guest, "add": ["@nobody", "root"]}),
        lambda: ("device-plug", {"guest": guest, "device": r.choice([drive, drive["id"]])}),
        lambda: ("device-unplug", {"guest": guest, "device": drive["id"], "timeout": r.choice([0.1, 2])}),
        lambda: ("device-format", {"guest": guest, "device": drive["id"]}),
        lambda: ("query-devices", {"guest": guest}),
        lambda: ("query-stats", {}),
        lambda: ("query-stats", {"guests": [guest]}),
        lambda: ("query-guests", {}),
        lambda: ("query-guest", {"guest": guest}),
        lambda: ("query-leases", {}),
        lambda: ("query-qemu", {"guest": guest}),
        lambda: ("query-history", {}),
        lambda: ("console-who", {"guest": guest}),
        lambda: ("lease-acquire", {"guest": guest, "seconds": r.choice([1, 2, 30]), "wait": r.random() < .5,
                                   "reset": r.random() < .3}),
        lambda: ("lease-release", {"guest": guest, "reset": r.random() < .3}),
        lambda: ("kernel-install", {"guest": guest, "path": config("")["kernel"]["image"]}),
        lambda: ("console-times", {"guest": guest}),
        lambda: ("ssh-pin", {"guest": guest, "key": "ssh-ed25519 AAAA" + r.choice("xyz")}),
        lambda: ("host-down", {"force_after": 0.5}) if r.random() < .1 else ("host-up", {}),
        lambda: ("qmp-execute", {"guest": guest, "command": {"execute": r.choice(
            ["query-status", "query-pci", "stop", "cont", "quit", "no-such"])}}),
        lambda: ("hmp", {"guest": guest, "line": r.choice(["info status", "info usernet", "quit", ""])}),
        lambda: ("events-subscribe", {"guests": r.choice([["*"], [guest], ["["]])}),
        lambda: (r.choice(["guest-start", "nothing", "guest-wait"]), {r.choice(["guest", "x"]): r.choice(
            [None, 7, "../x", guest, [], "a" * 300])}),
    ])()


class Storm:
    def __init__(self, daemon, config):
        self.daemon, self.config = daemon, config
        self.end = time.monotonic() + SECONDS
        self.asked, self.answers = 0, collections.Counter()
        self.broken = []

    def going(self):
        return time.monotonic() < self.end

    def control(self, r):
        """Requests in bundles on one connection; some answers are not waited for."""
        with Client(self.daemon.socket) as c:
            c.sock.settimeout(0.5)
            for _ in range(r.randrange(1, 12)):
                for _ in range(r.randrange(1, 6)):
                    op, args = operations(r, self.config)
                    c.send_raw(json.dumps({"execute": op, "arguments": args, "id": 1}) + "\n")
                    self.asked += 1
                if r.random() < .1:
                    c.send_raw(r.choice([b"{", b"\0\n", b"[]\n", b"x" * 70000 + b"\n", b"\xff\xfe\n"]))
                if r.random() < .3:
                    return
                try:
                    for _ in range(r.randrange(1, 6)):
                        msg = c.read()
                        self.answers[msg.get("error", {}).get("class", "event" if "event" in msg else "return")] += 1
                        state = (msg.get("return") or {}).get("state") if isinstance(
                            msg.get("return"), dict) else None
                        assert state is None or state in STATES, msg
                        assert msg.get("error", {}).get("class") != "Internal" or "gone" in str(msg), msg
                except TimeoutError:
                    pass

    def stream(self, r):
        """A console or a monitor over the control socket."""
        with Client(self.daemon.socket) as c:
            c.sock.settimeout(0.5)
            op = r.choice(["console-attach", "qmp-attach"])
            args = {"guest": r.choice(NAMES)}
            if op == "console-attach":
                args.update(r.choice([{}, {"mode": "read-only"}, {"mode": "force"}, {"mode": "join"},
                                      {"from": "start"}, {"from": -3}, {"from": 10}]))
            line = json.dumps({"execute": op, "arguments": args}) + "\n"
            behind = r.choice(["", "keys\r", '{"execute": "query-status"}\n', line])
            c.send_raw(line + behind)
            self.babble(c.sock, r)

    def plain(self, r):
        """One of the plain sockets."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(0.5)
            s.connect(str(self.daemon.run / "guests" / r.choice(NAMES) / r.choice(
                ["console.sock", "qmp.sock", "hmp.sock"])))
            self.babble(s, r)

    def babble(self, sock, r):
        words = [b'{"execute": "qmp_capabilities"}', b'{"execute": "query-status", "id": [1]}\n', b"info status\n",
                 b"\r\n", b"\0\1\2", b"{" * 50 + b"\n", b"x" * 5000, b"quit\n"]
        for _ in range(r.randrange(0, 8)):
            sock.sendall(r.choice(words))
            if r.random() < .5 and select.select([sock], [], [], 0.1)[0] and not sock.recv(65536):
                return
            if r.random() < .1:
                sock.shutdown(socket.SHUT_WR)
                return
        time.sleep(r.random() * .2)

    def kill(self, r):
        """A QEMU dies, or its folder changes under it."""
        time.sleep(r.random() * .4)
        pids = self.daemon.qemu_pids()
        if pids:
            try:
                os.kill(r.choice(pids), r.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM]))
            except ProcessLookupError:
                pass
        if r.random() < .2:
            a, b = r.choice(NAMES), r.choice(NAMES)
            try:
                os.rename(self.daemon.guests / a, self.daemon.guests / b)
            except OSError:
                pass

    def run(self, number):
        r = random.Random(SEED * 100 + number)
        while self.going():
            deed = r.choice([self.control] * 5 + [self.stream, self.plain] * 2 + [self.kill])
            try:
                deed(r)
            except (OSError, EOFError):
                time.sleep(0.02)  # the daemon is being restarted, or hung up
            except Exception as e:  # pylint: disable=broad-except
                self.broken.append(e)
                return


def told_states_are_true(daemon):
    with daemon.connect() as c:
        for guest in c.call("query-guests"):
            if guest["state"] in ("running", "paused"):
                assert guest["pid"] and alive(guest["pid"]), guest
            elif guest["state"] in ("stopped", "broken"):
                assert not guest["pid"], guest


@pytest.fixture
def open_path():
    """A folder that every user may look into."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="storm-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("owner", [None, pytest.param(OWNER, marks=root_only)])
def test_storm(open_path, owner, tally):
    """@owner: whose guests there are at first, beside root's; None: the daemon's own user's."""
    print(f"STORM_SEED={SEED} repeats it")
    fake = FakeQemu(open_path / "qemu")
    daemon = Daemon(open_path)
    daemon.guests.chmod(0o755)
    (fake.home / "bzImage").write_bytes((b"\0" * 0x1fe + b"\x55\xaa\0\0HdrS").ljust(4 * 2**20, b"x"))

    def config(fault):
        # 'guest-create' takes the keys of guest.json as its arguments
        return fake.config(*([fault] if fault else []), devices=[{"id": "d0", "type": "nvme", "size": "1M"}])

    r = random.Random(SEED)
    try:
        daemon.start()
        base = len(daemon.fds())
        for name in NAMES:
            folder = daemon.folder(name, config(""))
            if owner:
                os.chown(folder, owner.uid, owner.gid)
                os.chown(folder / "guest.json", owner.uid, owner.gid)
        storm = Storm(daemon, config)
        threads = [threading.Thread(target=storm.run, args=(i,)) for i in range(CLIENTS)]
        for t in threads:
            t.start()
        while storm.going() and not storm.broken:
            time.sleep(r.random() * 1.5)
            if r.random() < .5:
                os.kill(daemon.pid, signal.SIGHUP)
            if r.random() < .2:
                assert daemon.stop(r.choice([signal.SIGTERM, signal.SIGTERM, signal.SIGKILL])) in (0, -9)
                daemon.start()
        storm.end = 0
        for t in threads:
            t.join(HANG)
            assert not t.is_alive()
        assert not storm.broken, storm.broken
        tally(f"seed {SEED}, {storm.asked} asked; of the answers read: {dict(storm.answers)}")
        assert daemon.process.poll() is None, daemon.log_text()[-5000:]
        told_states_are_true(daemon)
        daemon.ctl("-q", "kill", "--all", code=None)
        with daemon.connect() as c:
            for guest in c.call("query-guests"):
                delete_guest(c, guest["guest"])
        wait_until(lambda: not daemon.qemu_pids(), "all QEMUs are gone")
        try:
            wait_until(lambda: len(daemon.fds()) <= base, "descriptors are closed", 20)
        except AssertionError:
            raise AssertionError(daemon.fds()) from None
        assert daemon.stop() == 0
    finally:
        daemon.close()
