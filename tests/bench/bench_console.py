"""The console beside conserver, conman and socat: throughput, memory, latency. Medians of a few runs each.

A synthetic producer stands for QEMU: for ours it appends to the run's log as QEMU's pipe chardev does, for the
others it serves the socket that they take for the console. Viewers are bare sockets that only count, the same for
all; each has spoken the daemon's own protocol before. QUICK=1: fewer and shorter runs.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time

from harness import BUILD, Daemon, FakeQemu, Tiny, build_guest, wait_until

QUICK = bool(os.environ.get("QUICK"))
LOAD = BUILD / "tests/bench/console_load"
RUNS = 1 if QUICK else 3
MIB = 1024 * 1024
TICK = os.sysconf("SC_CLK_TCK")


def median(values):
    return statistics.median(values)


def table(title, head, rows):
    print(f"\n{title}")
    rows = [head] + [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
        print("  " + "  ".join(cells), flush=True)


def cpu(pids):
    """CPU seconds used by these processes."""
    total = 0
    for pid in pids:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(stat[11]) + int(stat[12])) / TICK
    return total


def memory(pids):
    """KiB of their own memory."""
    total = 0
    for pid in pids:
        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += sum(int(m) for m in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+)", text, re.M))
    return total


def children(pid):
    out = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [pid] + [int(p) for p in out.split()]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Peer:
    """A server of one console, 'c0', whose other end is a UNIX socket of ours."""

    name = ""

    def __init__(self, base):
        self.dir = pathlib.Path(base) / self.name
        self.dir.mkdir()
        self.console = self.dir / "c0.sock"
        self.producer = self.server = None
        self.open = []

    def produce_by(self, *args):
        """Starts the producer, then the server that connects to it."""
        # In a session of its own, as a guest is: the scheduler may share the CPU by sessions.
        self.producer = subprocess.Popen([LOAD, args[0], self.console, *map(str, args[1:])], text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.producer.stdout.readline()
        self.start()

    def start(self):
        raise NotImplementedError

    def pids(self):
        return children(self.server.pid)

    def viewer(self):
        raise NotImplementedError

    def viewers(self, count):
        new = [self.viewer() for _ in range(count)]
        self.open += new
        return new

    def push(self):
        """Has the producer send its bytes; call finish() for when it had begun."""
        self.producer.stdin.write("go\n")
        self.producer.stdin.flush()

    def finish(self):
        return json.loads(self.producer.stdout.readline())

    def connect(self, port):
        def attempt():
            try:
                return socket.create_connection(("127.0.0.1", port))
            except OSError:
                return None
        s = wait_until(attempt, f"{self.name} listens")
        s.settimeout(20)
        return s

    def stop(self):
        for s in self.open:
            s.close()
        for process in (self.server, self.producer):
            if process and process.poll() is None:
                process.kill()
            if process:
                process.wait()


def say(s, line=None):
    """Sends a line, reads one."""
    if line is not None:
        s.sendall(line + b"\n")
    reply = b""
    while not reply.endswith(b"\n"):
        data = s.recv(1)
        if not data:
            raise EOFError(reply)
        reply += data
    return reply.strip()


class Conserver(Peer):
    name = "conserver"

    def start(self):
        self.port, second = free_port(), free_port()
        (self.dir / "passwd").write_text("*any*:\n")
        (self.dir / "conf").write_text(f"""
config * {{ sslrequired no; defaultaccess allowed; daemonmode off; primaryport {self.port};
  secondaryport {second}; passwdfile {self.dir}/passwd; }}
default d {{ rw *; master 127.0.0.1; logfile {self.dir}/&.log; }}
console c0 {{ include d; type uds; uds {self.console}; }}
access 127.0.0.1 {{ trusted 127.0.0.1; }}
""")
        # A group of its own: its children do not end with it.
        self.server = subprocess.Popen(["conserver", "-C", self.dir / "conf", "-M", "127.0.0.1", "-n"],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       start_new_session=True)

    def viewer(self):
        with self.connect(self.port) as s:
            say(s)
            say(s, b"login root")
            port = int(say(s, b"call c0"))
        s = self.connect(port)
        say(s)
        say(s, b"login root")
        say(s, b"call c0")
        # What its own client sends next: from here on it is given the console's output.
        s.sendall(b"\x05c;")
        say(s)
        return s

    def stop(self):
        if self.server and self.server.poll() is None:
            os.killpg(self.server.pid, signal.SIGKILL)
        super().stop()


class Conman(Peer):
    name = "conman"

    def start(self):
        self.port = free_port()
        (self.dir / "conf").write_text(f"""
server port={self.port}
server loopback=on
server logdir="{self.dir}"
server pidfile="{self.dir}/pid"
console name="c0" dev="unix:{self.console}" log="c0.log"
""")
        self.server = subprocess.Popen(["conmand", "-F", "-c", self.dir / "conf"],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.connect(self.port).close()

    def viewer(self, request=b"MONITOR"):
        s = self.connect(self.port)
        say(s, b"HELLO USER='root'")
        say(s, request + b" CONSOLE='c0'")
        return s


class Socat(Peer):
    """One viewer and no log: what a pipe costs."""

    name = "socat"

    def start(self):
        self.out = self.dir / "out.sock"
        self.server = subprocess.Popen(["socat", f"UNIX-CONNECT:{self.console}", f"UNIX-LISTEN:{self.out}"])

    def viewer(self):
        s = socket.socket(socket.AF_UNIX)

        def attempt():
            try:
                s.connect(str(self.out))
                return True
            except OSError:
                return False
        wait_until(attempt, "socat listens")
        return s


class Ours(Peer):
    name = "cijqemud"

    def __init__(self, base):
        super().__init__(base)
        self.daemon = Daemon(self.dir / "d").start()
        self.qemu = FakeQemu(self.dir / "qemu")

    def produce_by(self, what, *args):
        self.args = [str(a) for a in args]
        self.daemon.folder("c0", self.qemu.config(log={"limit": "4G", "keep": 1}))
        self.daemon.ctl("start", "c0")
        self.log = self.daemon.show("c0")["console"]["log"]

    def pids(self):
        return [self.daemon.pid]

    def viewer(self, mode="read-only"):
        c = self.daemon.connect()
        c.call("console-attach", guest="c0", mode=mode)
        return c.sock

    def push(self):
        self.producer = subprocess.Popen([LOAD, "append", self.log, *self.args], text=True,
                                         stdout=subprocess.PIPE, start_new_session=True)

    def stop(self):
        super().stop()
        self.daemon.close()


class Sink:
    """Reads what comes to @viewers, in up to four processes: in earnest each viewer is one."""

    def __init__(self, viewers, total, silence=3.0):
        parts = [part for part in (viewers[i::4] for i in range(4)) if part]
        self.processes = []
        for part in parts:
            fds = [v.fileno() for v in part]
            process = subprocess.Popen([LOAD, "sink", str(total), str(silence), *map(str, fds)], pass_fds=fds,
                                       text=True, stdout=subprocess.PIPE)
            process.stdout.readline()
            self.processes.append(process)

    def wait(self):
        """[(bytes, when it had them all)] of each viewer; the time of the last byte where some never came."""
        got = []
        for process in self.processes:
            result = json.loads(process.communicate()[0])
            got += [(count, done or result["end"]) for count, done in result["viewers"]]
        return got


def measure(kind, viewers, chunk, total):
    """MB/s to each viewer, the part of the bytes that came, CPU seconds of the server."""
    with tempfile.TemporaryDirectory(prefix="cij-bench-") as base:
        peer = kind(base)
        try:
            peer.produce_by("serve", chunk, total)
            sockets = peer.viewers(viewers)
            sink = Sink(sockets, total)
            pids = peer.pids()
            before = cpu(pids)
            peer.push()
            got = sink.wait()
            used = cpu(pids) - before
            begin = peer.finish()["begin"]
            least, end = min(count for count, _ in got), max(when for _, when in got)
            return least / 1e6 / (end - begin), min(1.0, least / total), used
        finally:
            peer.stop()


class Result:
    """Of some runs of one kind."""

    def __init__(self, runs, total, viewers):
        self.runs = runs
        self.rate = median([r[0] for r in runs])
        self.lost = f"{100 * (1 - min(r[1] for r in runs)):.0f} %"
        # Seconds of the server's CPU for each GB that a viewer got: what a busy machine does not change.
        self.cpu = median([r[2] for r in runs]) * 1e9 / total / viewers

    def ratio(self, other):
        """How much faster than @other, run by run: those of one turn have met the same machine."""
        return median([a[0] / b[0] for a, b in zip(self.runs, other.runs)])


def side_by_side(kinds, viewers, chunk, totals):
    """One run of each kind after the other, RUNS times; the kinds' results."""
    runs = [[measure(kind, viewers, chunk, total) for kind, total in zip(kinds, totals)] for _ in range(RUNS)]
    return [Result([turn[i] for turn in runs], totals[i], viewers) for i in range(len(kinds))]


def throughput():
    """64 KiB writes."""
    rows = []
    for viewers, ours, theirs in ((1, 512, 128), (4, 256, 96), (16, 256, 48), (64, 64, 16)):
        part = 4 if QUICK else 1
        kinds = [Ours, Conserver, Conman] + ([Socat] if viewers == 1 else [])
        sizes = [ours * MIB // part] + [theirs * MIB // part] * 3
        us, conserver, conman, *socat = side_by_side(kinds, viewers, 65536, sizes)
        rows.append([viewers, f"{us.rate:.0f}", us.lost, f"{us.cpu:.2f}", f"{conserver.rate:.0f}",
                     f"{conserver.cpu:.2f}", f"{us.ratio(conserver):.1f}", f"{conman.rate:.0f}", conman.lost,
                     f"{conman.cpu:.2f}", f"{socat[0].rate:.0f}" if socat else "-"])
    table("MB/s to each viewer, producer writes 64 KiB; CPU: the server's seconds for a GB to one viewer",
          ["viewers", "cijqemud", "lost", "CPU", "conserver", "CPU", "ours / conserver", "conman", "lost", "CPU",
           "socat"], rows)


def single_bytes():
    """1-byte writes, as QEMU makes them for a guest's UART."""
    rows = []
    total = MIB // (4 if QUICK else 1)
    for viewers in (1, 16):
        us, conserver, conman = side_by_side((Ours, Conserver, Conman), viewers, 1, [total] * 3)
        cpus = [max(r.cpu * viewers / 10, 1 / TICK) for r in (us, conserver, conman)] # per 100 MB
        rows.append([viewers, f"{us.rate:.2f}", f"{cpus[0]:.1f}", f"{conserver.rate:.2f}", f"{cpus[1]:.1f}",
                     f"{us.ratio(conserver):.1f}", f"{cpus[1] / cpus[0]:.0f}", f"{conman.rate:.2f}",
                     f"{cpus[2]:.1f}"])
    table("MB/s to each viewer, producer writes 1 byte; CPU: the server's seconds per 100 MB",
          ["viewers", "cijqemud", "CPU", "conserver", "CPU", "ours / conserver", "its CPU / ours", "conman", "CPU"],
          rows)


def three_viewers(kind, total, stopped):
    """MB/s of three viewers, alone or beside a fourth that stands still; how the server grew; what that one gets."""
    with tempfile.TemporaryDirectory(prefix="cij-bench-") as base:
        peer = kind(base)
        try:
            peer.produce_by("serve", 65536, total)
            sockets = peer.viewers(3 + stopped)
            sink = Sink(sockets[:3], total)
            before = memory(peer.pids())
            peer.push()
            got = sink.wait()
            begin = peer.finish()["begin"]
            speed = min(count for count, _ in got) / 1e6 / (max(when for _, when in got) - begin)
            growth = memory(peer.pids()) - before
            late = Sink(sockets[3:], total).wait()[0][0] if stopped else 0
            return speed, growth, min(1.0, late / total)
        finally:
            peer.stop()


def stopped():
    """Alone and beside one that stands still in turns, so that neither always comes first."""
    rows = []
    for kind, mib in ((Ours, 256), (Conserver, 128), (Conman, 128)):
        alone, beside = [], []
        for turn in range((2 if kind is Ours else 1) * RUNS):
            for still in (False, True) if turn % 2 else (True, False):
                (beside if still else alone).append(three_viewers(kind, mib * MIB // (4 if QUICK else 1), still))
        a, b = median([r[0] for r in alone]), median([r[0] for r in beside])
        rows.append([kind.name, f"{a:.0f}", f"{b:.0f}", f"{b / a:.2f}", max(r[1] for r in beside),
                     f"{100 * min(r[2] for r in beside):.0f} %"])
    table("Three viewers, and a fourth that stands still (256 MiB ours, 128 MiB theirs): MB/s of the three",
          ["", "alone", "beside it", "ratio", "server grew, KiB", "it got then"], rows)


def idle_viewers():
    rows = []
    for kind, count in ((Ours, 1100), (Conserver, 1000), (Conman, 1000)):
        with tempfile.TemporaryDirectory(prefix="cij-bench-") as base:
            peer = kind(base)
            try:
                peer.produce_by("serve", 1, 1)
                peer.viewers(1)
                before = memory(peer.pids())
                try:
                    peer.viewers(count)
                    rows.append([kind.name, count, f"{(memory(peer.pids()) - before) / count:.1f}"])
                except (OSError, EOFError) as e:
                    rows.append([kind.name, count, f"refused: {e!r}"])
            finally:
                peer.stop()
    table("Idle viewers: KiB of private memory each", ["", "viewers", "KiB each"], rows)


def ping(s, count):
    done = subprocess.run([LOAD, "ping", str(s.fileno()), str(count)], pass_fds=[s.fileno()], capture_output=True,
                          text=True, check=True)
    times = sorted(json.loads(done.stdout))
    return 1e6 * median(times), 1e6 * times[int(len(times) * 0.95)]


def latency():
    """From a key to its echo; the echo is a program's, so what is measured is the way there and back."""
    rows, count = [], 50 if QUICK else 200
    for kind in (Ours, Conserver, Conman, Socat):
        with tempfile.TemporaryDirectory(prefix="cij-bench-") as base:
            peer = kind(base)
            try:
                peer.produce_by("echo")
                if kind is Ours:
                    s = peer.viewer("auto")
                elif kind is Conman:
                    s = peer.viewer(b"CONNECT")
                else:
                    s = peer.viewer()
                peer.open.append(s)
                # What the server says about who is attached comes first.
                time.sleep(0.5)
                s.settimeout(0.2)
                with contextlib.suppress(OSError):
                    while s.recv(4096):
                        pass
                s.setblocking(True)
                rows.append([kind.name, *(f"{us:.0f}" for us in ping(s, count))])
            finally:
                peer.stop()
    table("Key to echo, µs", ["", "median", "95 %"], rows)


def flood_rate(daemon, viewers, stopped, size):
    """KB/s of a real guest's console while so many watch; and that all have got all."""
    clients = []
    for _ in range(viewers + stopped):
        c = daemon.connect()
        c.call("console-attach", guest="g", mode="read-only")
        clients.append(c.sock)
    reading = clients[:viewers]
    log = pathlib.Path(daemon.show("g")["console"]["log"])
    begin = log.stat().st_size
    sink = Sink(reading, size, silence=20) if reading else None
    before = memory([daemon.pid])
    daemon.ctl("exec", "g", "--", f"touch /tmp/go{begin}")
    wait_until(lambda: log.stat().st_size > begin + 1000, "the guest floods")
    t0, s0 = time.monotonic(), log.stat().st_size
    wait_until(lambda: log.stat().st_size >= begin + size, "the flood ends")
    rate = (log.stat().st_size - s0) / 1e3 / (time.monotonic() - t0)
    grew = memory([daemon.pid]) - before
    if sink:
        got = sink.wait()
        assert all(count >= size for count, _ in got), got
    for s in clients:
        s.close()
    return rate, grew


def real_guest():
    build_guest()
    size = 1_000_000 if QUICK else 2_000_000
    with tempfile.TemporaryDirectory(prefix="cij-bench-") as base:
        daemon = Daemon(base).start()
        try:
            daemon.folder("g", {**Tiny().config, "log": {"limit": "1G"}})
            daemon.ctl("start", "g", "--wait=ssh")
            # It waits for a file to begin, so that no typing and no SSH disturbs the flood.
            daemon.ctl("exec", "g", "--", "yes 'the quick brown fox jumps over the lazy dog' | "
                       f"head -c {size} > /tmp/flood; stty -F /dev/ttyS0 -opost; "
                       "(while :; do for f in /tmp/go*; do [ -e $f ] && rm $f && cat /tmp/flood > /dev/ttyS0; "
                       "done; usleep 50000; done) >/dev/null 2>&1 </dev/null &")
            rates = {}
            for _ in range(RUNS):
                for key in ((0, 0), (1, 0), (16, 0), (16, 1)):
                    rates.setdefault(key, []).append(flood_rate(daemon, *key, size))
            base_rate = median([r[0] for r in rates[0, 0]])
            rows = [[f"{v} viewers" + (", 1 stopped" if s else ""), f"{median([r[0] for r in got]):.0f}",
                     f"{median([r[0] for r in got]) / base_rate:.2f}", max(r[1] for r in got)]
                    for (v, s), got in rates.items()]
            table("A real guest's flood, KB/s", ["", "KB/s", "ratio to none", "daemon grew, KiB"], rows)
        finally:
            daemon.close()


def main():
    for tool in ("conserver", "conmand", "socat"):
        assert shutil.which(tool), f"{tool} is missing: 'make bench' installs it"
    for part in (throughput, single_bytes, stopped, idle_viewers, latency, real_guest):
        part()


if __name__ == "__main__":
    main()
