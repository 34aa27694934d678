"""Every socket of a live daemon, fed by nobody's friend: at the end it answers, who was not told to stop runs on, and
nothing has grown.

PROTOCOL_SEED repeats what was sent (not when: three clients work at a time), PROTOCOL_SECONDS says for how long."""

import array
import collections
import json
import os
import random
import re
import select
import socket
import threading
import time

import pytest

from harness import BUILD, HANG, FakeQemu, alive, delete_guest, wait_until

SEED = int(os.environ.get("PROTOCOL_SEED", random.SystemRandom().randrange(10**9)))
SECONDS = float(os.environ.get("PROTOCOL_SECONDS", 8))
LONG_SECONDS = float(os.environ.get("PROTOCOL_SECONDS", 300))
CLIENTS = 3

# Nothing that may change anything is sent about these but on the read-only socket; those may be told anything.
STEADY = ["steady-0", "steady-1", "steady-2"]
VICTIMS = ["victim-0", "victim-1", "victim-2"]
GUEST_SOCKETS = ["console.sock", "qmp.sock", "hmp.sock"]

# It would be right to stop them all; the streams have a deed of their own.
NOT_ASKED = {"host-down", "console-attach", "qmp-attach"}

# What may be left over of what was freed: glibc gives back the top of its heap alone, and where that is comes down to
# luck. In a long run it comes to rest within 2 MiB; a leak of 50 bytes a request is as much as this in the short one,
# and forty times as much in the long one.
SLACK_KIB = 4 * 1024

CLASSES = {"GuestNotFound", "GuestExists", "BadRequest", "BadConfig", "Busy", "Denied", "Leased", "NoResources",
           "QemuFailed", "Timeout", "NotSupported"}

ODD = [None, True, False, 0, -1, 1, 2**31, 2**63 - 1, -2**63, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308, 1e-308, "", " ",
       "\0", "a\0b", "\ud800", "ä" * 700, "x" * 5000, "../../etc/passwd", "/dev/zero", "%s%n", "*", "[", "é\n\r\x1b[31m",
       [], {}, [[]], [None], [{}], {"": ""}, {"id": 7}, {"a": {"b": [1, {"c": None}]}}, list(range(3000)),
       ["x"] * 3000, {f"k{i}": i for i in range(1000)}]

BYTES = [b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\n", b"\r\n", b"\\", b'"', b"'", b"{", b"}",
         b"[", b"]", b",", b":", b"\x1b", b"\x7f", b"\x80", b"NaN", b"1e999", b"-", b"\\u0000", b"\\ud800", b"//", b" "]

QMP = [b'{"execute": "qmp_capabilities"}', b'{"execute": "query-status", "id": 1}', b"{'execute': 'query-name'}",
       b'{"execute": "query-pci", "id": {"a": [null, 1e5]}}', b'{"exec-oob": "query-status"}', b'{"execute": 7}',
       b'{"execute": "human-monitor-command", "arguments": {"command-line": "info status"}}', b"[]", b"7", b"{",
       b'{"execute": "object-add", "arguments": {"qom-type": "x", "id": "y"}}', b'{"execute": "netdev_add"}']

HMP = [b"info status", b"info pci", b"help", b"?", b"", b"print 1+1", b"x /4x 0", b"info \xff\xfe", b'"unclosed', b"\t",
       b"\x1b[A", b"\x03", b"a" * 5000]

HTTP = [b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"HEAD /metrics HTTP/1.1\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"GET /../../etc/passwd HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n", b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", b"GET /%00%ff HTTP/1.1\r\nA: " + b"b" * 9000 + b"\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n\r\n", b"\r\n\r\n", b"GET /metrics\r\n\r\n"]


def nested(depth):
    return "[" * depth + "]" * depth


def dumps(value, ascii_only=True):
    return json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


class Fuzz:
    """What all clients share: the daemon, its operations, the counts, and what each has sent last."""

    def __init__(self, daemon, config):
        self.daemon, self.config = daemon, config
        with daemon.connect() as c:
            self.operations = c.call("query-operations")
        self.counts = collections.Counter()
        self.lock = threading.Lock()
        self.broken = []
        self.end = 0

    def control(self, r):
        return self.daemon.run / r.choice(["cijqemud.sock", "cijqemud.sock", "cijqemud-ro.sock"])

    def guest_socket(self, r):
        return self.daemon.run / "guests" / r.choice(STEADY + VICTIMS) / r.choice(GUEST_SOCKETS)

    def any_socket(self, r):
        return r.choice([self.control, self.control, self.guest_socket,
                         lambda _: self.daemon.run / "metrics.sock"])(r)

    def count(self, what, n=1):
        with self.lock:
            self.counts[what] += n

    def round(self, seconds, number):
        """Each client does every deed at least once, and goes on until the time is over."""
        self.end = time.monotonic() + seconds
        workers = [Worker(self, SEED * 1000 + number * 100 + i) for i in range(CLIENTS)]
        threads = [threading.Thread(target=w.work) for w in workers]
        for t in threads:
            t.start()
        for t in threads:
            t.join(seconds + HANG)
        self.broken += [f"{w.deed}: it hangs" for w, t in zip(workers, threads) if t.is_alive()]
        code = self.daemon.process.poll()
        if self.broken or code is not None:
            last = "\n".join(f"{w.deed}: {list(w.sent)}" for w in workers)
            raise AssertionError(f"PROTOCOL_SEED={SEED}: {self.broken}; the daemon's exit: {code}; sent last:\n{last}\n"
                                 + self.daemon.log_text()[-3000:])


class Worker:
    """One client, deed after deed."""

    def __init__(self, fuzz, seed):
        self.fuzz, self.r = fuzz, random.Random(seed)
        self.sent = collections.deque(maxlen=3)
        self.deed, self.path = "", None

    def work(self):
        deeds = [self.random_bytes, self.requests, self.requests, self.requests, self.mutated, self.mutated, self.cut,
                 self.long_lines, self.deep, self.descriptors, self.flood, self.slow, self.vanish, self.crowd,
                 self.stream, self.monitors, self.http, self.events, self.clean_up]
        first = True
        while first or time.monotonic() < self.fuzz.end:
            self.r.shuffle(deeds)
            for deed in deeds:
                if self.fuzz.broken or (not first and time.monotonic() > self.fuzz.end):
                    return
                self.deed = deed.__name__
                try:
                    deed()
                except (ConnectionError, BlockingIOError, FileNotFoundError):
                    pass  # it hung up, as it may, or the guest of that socket is no more
                except Exception as e:  # pylint: disable=broad-except
                    self.fuzz.broken.append(f"{self.deed}: {e!r}")
                    return
            first = False

    # Sending

    def connect(self, path):
        s = socket.socket(socket.AF_UNIX)
        self.path = path
        try:
            s.connect(str(path))
        except OSError:
            s.close()
            raise
        s.settimeout(HANG)
        self.fuzz.count("connections")
        return s

    def note(self, data):
        self.sent.append((self.path.name, bytes(data[:1000])))

    def send(self, sock, data):
        """Whatever is said meanwhile is read: a client may be odd and not mute."""
        self.note(data)
        view = memoryview(data)
        while view:
            readable, writable, _ = select.select([sock], [sock], [], HANG)
            assert readable or writable, "neither takes nor gives anything"
            if readable and not sock.recv(1 << 16):
                return
            if writable:
                n = sock.send(view[:65536], socket.MSG_DONTWAIT)
                self.fuzz.count("bytes", n)
                view = view[n:]

    def send_mutely(self, sock, data, seconds=0.2):
        """As much as it takes; nothing is read. Returns how much that was."""
        self.note(data)
        view, end = memoryview(data), time.monotonic() + seconds
        while view and select.select([], [sock], [], max(0, end - time.monotonic()))[1]:
            view = view[sock.send(view[:65536], socket.MSG_DONTWAIT):]
        self.fuzz.count("bytes", len(data) - len(view))
        return len(data) - len(view)

    def leave(self, sock):
        """One way or another."""
        how = self.r.randrange(5)
        if how == 0:
            sock.shutdown(socket.SHUT_WR)
            self.drain(sock)
        elif how == 1:
            sock.shutdown(socket.SHUT_RDWR)
        elif how == 2:
            sock.shutdown(socket.SHUT_RD)
        sock.close()

    def drain(self, sock, seconds=0.1):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([sock], [], [], 0.02)[0] and not sock.recv(1 << 16):
                return

    # What is sent

    def junk(self, n, without=b""):
        """Random bytes, or of those that mean something."""
        if self.r.random() < 0.5:
            data = self.r.randbytes(n)
        else:
            data = b"".join(self.r.choice(BYTES) for _ in range(n // 2))
        return data.translate(None, without)

    def value(self, arg):
        """What the argument may be, or something odd."""
        r = self.r
        if r.random() < 0.25:
            return r.choice(ODD)
        kind = arg["type"]
        if kind == "enum":
            return r.choice(arg["values"])
        return {
            "string": lambda: r.choice(["nvme0", "root", "info status", "ssh-ed25519 AAAA", "x", "/bin/true"]),
            "boolean": lambda: r.random() < 0.5,
            "integer": lambda: r.choice([arg.get("min", 0), arg.get("max", 9), 0, 1, 3, -3]),
            "seconds": lambda: r.choice([0.01, 0.1, 1]),
            "size": lambda: r.choice(["1M", "2G", 1 << 20]),
            "object": lambda: r.choice([{"execute": "query-status"}, {"id": "nvme0", "type": "nvme", "size": "1M"}]),
            "array of strings": lambda: r.choice([["root"], VICTIMS, ["victim-*", "nobody"]]),
            "array of objects": lambda: [{m["name"]: self.value(m) for m in arg.get("members", [])}],
        }.get(kind, lambda: r.choice(["nvme0", {"id": "d1", "type": "nvme", "size": "1M"}, {"execute": "stop"}]))()

    def request(self, steady=False):
        """An operation with arguments that are good or odd; @steady: about those that are not to be touched."""
        r = self.r
        op = r.choice(self.fuzz.operations)
        args = {}
        if op["name"] in NOT_ASKED and not steady:
            return self.request()
        for arg in op["arguments"]:
            if arg["name"] == "guest":
                args["guest"] = r.choice(STEADY if steady else VICTIMS) if r.random() < 0.95 else r.choice(ODD)
            elif arg["type"] == "other members":
                args.update(r.choice([self.fuzz.config(), {"memory": r.choice(ODD)}, {"cpus": 2},
                                      {r.choice(["boot", "kernel", "ssh", "devices", "x"]): r.choice(ODD)}]))
            elif arg["required"] or r.random() < 0.6:
                args[arg["name"]] = self.value(arg)
        if r.random() < 0.05:
            args[r.choice(["x", "gueste", "", "\0"])] = r.choice(ODD)
        msg = {"execute": op["name"], "arguments": args, "id": r.choice([1, "x", None, [1, {"a": 2}], 1.5, 2**70])}
        if r.random() < 0.05:
            msg[r.choice(list(msg))] = r.choice(ODD)
        if r.random() < 0.03:
            del msg[r.choice(list(msg))]
        return dumps(msg, r.random() < 0.5)

    def read_until(self, sock, mark):
        """Replies, each of them checked, until the one whose id is @mark."""
        buffer = b""
        while True:
            data = sock.recv(1 << 16)
            if not data:
                return False
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                msg = json.loads(line.decode())
                assert {"return", "error", "event", "cijqemud"} & set(msg), line[:2000]
                if "error" in msg:
                    assert msg["error"]["class"] in CLASSES, line[:2000]
                    assert "\n" not in msg["error"]["desc"] and msg["error"]["desc"], line[:2000]
                self.fuzz.count("answers")
                if msg.get("id") == mark:
                    assert "return" in msg, line[:2000]
                    return True

    def check_usable(self, sock):
        """The connection is: whatever was sent on it, the next request is answered."""
        mark = f"mark-{self.r.random()}"
        try:
            sock.sendall(dumps({"execute": "query-daemon", "id": mark}) + b"\n")
            kept = self.read_until(sock, mark)
        except ConnectionError:
            kept = False
        assert kept, "hung up on a client that kept to its lines"

    def say(self, sock, lines):
        data = b"".join(line + b"\n" for line in lines)
        self.note(data)
        self.fuzz.count("requests", len(lines))
        self.fuzz.count("bytes", len(data))
        sock.sendall(data)
        self.check_usable(sock)

    # The deeds

    def random_bytes(self):
        with self.connect(self.fuzz.any_socket(self.r)) as s:
            # "q" alone would be 'quit' to a monitor, and right so.
            for _ in range(self.r.randrange(1, 6)):
                self.send(s, self.junk(self.r.choice([1, 10, 1000, 70000]), without=b"qQ"))
            self.leave(s)

    def requests(self):
        """Of every operation; on the read-only socket about those that must not hear of it."""
        steady = self.r.random() < 0.3
        path = self.fuzz.daemon.run / ("cijqemud-ro.sock" if steady else "cijqemud.sock")
        with self.connect(path) as s:
            lines = [self.request(steady) for _ in range(self.r.randrange(1, 20))]
            if steady:
                lines = [line for line in lines if b"-attach" not in line]
            self.say(s, lines)
            self.leave(s)

    def mutated(self):
        """Requests with some bytes changed, doubled, moved or lost."""
        lines = []
        for _ in range(self.r.randrange(1, 20)):
            text = bytearray(self.request())
            for _ in range(self.r.randrange(1, 5)):
                at, n = self.r.randrange(len(text) + 1), self.r.randrange(8)
                what = self.r.randrange(4)
                if what == 0:
                    text[at:at + n] = b""
                elif what == 1:
                    text[at:at] = self.r.choice(BYTES) * self.r.choice([1, 2, 100])
                elif what == 2 and at < len(text):
                    text[at] ^= 1 << self.r.randrange(8)
                else:
                    text[at:at] = text[self.r.randrange(len(text) + 1):][:n * 10]
            if b"host-d" not in text and b"-attach" not in text:
                lines.append(bytes(text))
        with self.connect(self.fuzz.control(self.r)) as s:
            self.say(s, lines)
            self.leave(s)

    def cut(self):
        for _ in range(10):
            with self.connect(self.fuzz.control(self.r)) as s:
                line = self.request()
                self.send(s, line[:self.r.randrange(len(line))])
                self.leave(s)

    def long_lines(self):
        with self.connect(self.fuzz.control(self.r)) as s:
            for n in self.r.sample([65534, 65535, 65536, 65537, 69631, 69632, 69633, 200000, 1000000], 3):
                line = b'{"execute": "query-daemon", "id": "' + b"x" * (n - 37) + b'"}'
                if self.r.random() < 0.3:
                    line = self.r.choice([b"x", b"{", b"\0", b"\xff", b'"']) * n
                self.send(s, line)
                self.send(s, b"\n")
                self.fuzz.count("requests")
                self.check_usable(s)
            self.leave(s)

    def deep(self):
        lines = []
        for depth in self.r.sample([14, 15, 16, 17, 18, 100, 1000, 30000], 4):
            deep = self.r.choice([nested(depth), '{"a":' * depth + "1" + "}" * depth, "[" * depth]).encode()
            lines += [deep, b'{"execute": "query-daemon", "arguments": ' + deep + b"}",
                      b'{"execute": "guest-set", "arguments": {"guest": "victim-0", "devices": ' + deep + b"}}"]
        with self.connect(self.fuzz.control(self.r)) as s:
            self.say(s, [line for line in lines if len(line) < 65000])
            self.leave(s)

    def descriptors(self):
        """Nobody asked for them: they are closed, with the connection at the latest."""
        for path in (self.fuzz.control(self.r), self.fuzz.any_socket(self.r)):
            ours, theirs = os.pipe()
            try:
                with self.connect(path) as s:
                    line = dumps({"execute": "query-daemon", "id": "fd"}) + b"\n"
                    fds = array.array("i", [theirs] * self.r.choice([1, 1, 3, 250]))
                    self.note(line)
                    s.sendmsg([line], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
                    if path.name.startswith("cijqemud"):
                        assert self.read_until(s, "fd")
                    self.fuzz.count("descriptors", len(fds))
                os.close(theirs)
                theirs = -1
                assert select.select([ours], [], [], HANG)[0], "a descriptor that was sent is kept"
            finally:
                os.close(ours)
                if theirs >= 0:
                    os.close(theirs)

    def flood(self):
        """Thousands of requests on one connection, and no answer is read."""
        op = self.r.choice(["query-guests", "query-operations", "query-daemon", "guest-wait", "query-stats", "none"])
        args = {"guest": self.r.choice(STEADY), "for": "stopped", "timeout": 0} if op == "guest-wait" else {}
        line = dumps({"execute": op, "arguments": args, "id": 1}) + b"\n"
        with self.connect(self.fuzz.control(self.r)) as s:
            self.fuzz.count("requests", self.send_mutely(s, line * 3000) // len(line))
            self.leave(s)

    def slow(self):
        """A byte at a time."""
        with self.connect(self.fuzz.control(self.r)) as s:
            for b in dumps({"execute": "query-guest", "arguments": {"guest": self.r.choice(STEADY)}, "id": "slow"}):
                s.send(bytes([b]))
                time.sleep(0.001)
            s.send(b"\n")
            self.fuzz.count("requests")
            assert self.read_until(s, "slow")

    def vanish(self):
        """Away before, within or right behind the first word, with the answer unread."""
        for _ in range(100):
            s = self.connect(self.fuzz.any_socket(self.r))
            if self.r.random() < 0.5:
                s.send(self.r.choice([b"{", b"\n", b"{}\n", self.request() + b"\n", b"GET / HTTP/1.1\r\n", b"?\n"]))
            s.close()

    def crowd(self):
        """Many at once, who say little."""
        socks = []
        try:
            for _ in range(150):
                socks.append(self.connect(self.fuzz.control(self.r)))
                if self.r.random() < 0.5:
                    socks[-1].send(self.r.choice([b"{", b"x", b'{"execute": "query-guests"}\n']))
        finally:
            for s in socks:
                s.close()

    def stream(self):
        """A console or a monitor on the connection that asked for it, and whatever behind."""
        guest = self.r.choice(STEADY)
        op, args = self.r.choice([
            ("console-attach", {"mode": self.r.choice(["auto", "read-only", "force", "join"])}),
            ("console-attach", {"from": self.r.choice(["start", "end", 0, 10, -3, -10**6, 2**62, -2**62])}),
            ("qmp-attach", {})])
        with self.connect(self.fuzz.control(self.r)) as s:
            self.send(s, dumps({"execute": op, "arguments": {"guest": guest, **args}}) + b"\n" +
                      self.r.choice([b"", b"keys\r", QMP[0] + QMP[1], self.junk(500, without=b"qQ")]))
            for _ in range(3):
                self.send(s, self.junk(self.r.choice([10, 3000]), without=b"qQ"))
            self.leave(s)

    def monitors(self):
        guest = self.r.choice(STEADY + VICTIMS)
        for name, words in (("qmp.sock", QMP), ("hmp.sock", HMP), ("console.sock", HMP)):
            with self.connect(self.fuzz.daemon.run / "guests" / guest / name) as s:
                for _ in range(self.r.randrange(1, 30)):
                    word = bytearray(self.r.choice(words))
                    if word and self.r.random() < 0.3:
                        at = self.r.randrange(len(word))
                        word[at:at + 1] = self.junk(4, without=b"qQ\n\r")
                    self.send(s, bytes(word) + self.r.choice([b"\n", b"\r\n", b"", b" "]))
                if self.r.random() < 0.2:
                    self.send_mutely(s, words[1] * 3000 + b"\n", 0.1)
                self.leave(s)

    def http(self):
        with self.connect(self.fuzz.daemon.run / "metrics.sock") as s:
            for _ in range(self.r.randrange(1, 4)):
                text = bytearray(self.r.choice(HTTP))
                if self.r.random() < 0.5:
                    at = self.r.randrange(len(text))
                    text[at:at + self.r.randrange(4)] = self.junk(self.r.randrange(1, 20))
                self.send(s, bytes(text))
            self.drain(s, 0.05)
            self.leave(s)

    def events(self):
        """Subscribed, and deaf."""
        with self.connect(self.fuzz.control(self.r)) as s:
            self.send(s, dumps({"execute": "events-subscribe", "arguments": self.r.choice(
                [{}, {"guests": ["*"]}, {"guests": ["[", "victim-?"]}])}) + b"\n")
            time.sleep(0.05)
            if self.r.random() < 0.5:
                self.check_usable(s)
            self.leave(s)

    def clean_up(self):
        """The guests that were made by the way; else there would be thousands in the end."""
        with self.fuzz.daemon.connect() as c:
            for guest in c.call("query-guests"):
                if guest["guest"] not in STEADY + VICTIMS:
                    c.ask("guest-kill", guest=guest["guest"])
                    c.ask("guest-delete", guest=guest["guest"])


def restore(daemon, config):
    """The victims as they were: new and never started; nobody else but the steady ones."""
    with daemon.connect() as c:
        for guest in [g["guest"] for g in c.call("query-guests") if g["guest"] not in STEADY]:
            delete_guest(c, guest)
        for guest in VICTIMS:
            c.call("guest-create", guest=guest, **config())


def fill(daemon):
    """The largest answers there are, several at once and unread: the record of who did what is full from here on."""
    done = [("lease-acquire", {"guest": VICTIMS[0], "seconds": 60}), ("lease-release", {"guest": VICTIMS[0]})]
    refused = [("guest-kill", {"guest": "nobody" * 10})]
    with daemon.connect() as c:
        for _ in range(30):
            ids = [c.send(op, **args) for op, args in (done + refused) * 33]
            for one in ids:
                c.receive(one)
    clients = [daemon.connect() for _ in range(2 * CLIENTS)]
    for c in clients:
        for _ in range(3):
            last = c.send("query-history", limit=5000)
    for c in clients:
        assert len(c.receive(last)["return"]) > 1000
        c.close()


def descriptors(daemon):
    """By kind: numbers of sockets and pipes differ from one to the next."""
    return collections.Counter(re.sub(r"\[?\d+\]?$", "", name) for name in daemon.fds())


def memory_kib(daemon):
    """Of its own: what it maps of files may come and go."""
    with open(f"/proc/{daemon.pid}/status", encoding="ascii") as f:
        return int(re.search(r"^RssAnon:\s*(\d+) kB", f.read(), re.M)[1])


def settled(daemon, before=None):
    """Descriptors and memory once all clients are gone; @before: not more than those descriptors."""
    if before is not None:
        try:
            wait_until(lambda: not descriptors(daemon) - before, "descriptors are closed", 30)
        except AssertionError:
            raise AssertionError(f"descriptors are left: {descriptors(daemon) - before}") from None
    else:
        last = [None]

        def same():
            time.sleep(0.3)
            was, last[0] = last[0], descriptors(daemon)
            return was == last[0]
        wait_until(same, "descriptors come to rest")
    return descriptors(daemon), memory_kib(daemon)


def serves(path, words, answer):
    """Within a moment: who wrote on the console before may be about to be let go, and is its writer until then."""
    with socket.socket(socket.AF_UNIX) as s:
        got = b""
        try:
            s.connect(str(path))
            s.settimeout(3)
            s.sendall(words)
            while answer not in got:
                data = s.recv(65536)
                if not data:
                    return False
                got += data
        except (TimeoutError, ConnectionError):
            return False
    return True


def check_steady(daemon, pids):
    """They run, and each of their sockets serves."""
    mark = b"mark-%d" % time.monotonic_ns()
    for guest, pid in pids.items():
        view = daemon.show(guest)
        assert view["state"] in ("running", "paused") and view["pid"] == pid and alive(pid), view
        folder = daemon.run / "guests" / guest
        for name, words, answer in (
                ("console.sock", mark + b"\r", mark),
                ("hmp.sock", b"info status\n", b"(qemu) "),
                ("qmp.sock", QMP[0] + b'{"execute": "query-status", "id": "here"}', b'"here"')):
            wait_until(lambda: serves(folder / name, words, answer),  # pylint: disable=cell-var-from-loop
                       f"{guest}'s {name} serves")
    wait_until(lambda: serves(daemon.run / "metrics.sock", HTTP[0], b"cijqemu"), "metrics.sock serves")


def run(daemon, fake, tally, seconds):
    print(f"PROTOCOL_SEED={SEED} PROTOCOL_SECONDS={seconds:.0f} repeats it")

    def config():
        return fake.config(log={"limit": "1M", "keep": 2}, qemu_home=str(fake.home))

    for name in STEADY:
        daemon.folder(name, config())
    daemon.ctl("start", *STEADY)
    pids = {name: daemon.show(name)["pid"] for name in STEADY}
    restore(daemon, config)
    fuzz = Fuzz(daemon, config)
    # All there is to be had is had once: caches, buffers of the loop, the heap's own.
    fill(daemon)
    fuzz.round(seconds / 4, 1)
    check_steady(daemon, pids)
    restore(daemon, config)
    base, base_kib = settled(daemon)
    fuzz.round(seconds * 3 / 4, 2)
    check_steady(daemon, pids)
    restore(daemon, config)
    _, kib = settled(daemon, base)
    tally(f"seed {SEED}, {dict(fuzz.counts)}; memory {base_kib} KiB, {kib} KiB in the end")
    # Under AddressSanitizer what is freed is kept for a while; it tells of leaks itself, at the end.
    if BUILD.name != "asan" and not os.environ.get("CIJ_WRAP"):
        assert kib <= base_kib + SLACK_KIB, f"PROTOCOL_SEED={SEED}: memory grew from {base_kib} to {kib} KiB"
    assert daemon.stop() == 0
    assert sorted(daemon.qemu_pids()) == sorted(pids.values())
    daemon.start()


def test_protocol_fuzz(daemon, fake, tally):
    run(daemon, fake, tally, SECONDS)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_protocol_fuzz_for_long(daemon, fake, tally):
    run(daemon, fake, tally, LONG_SECONDS)
