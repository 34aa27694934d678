"""Many guests, side by side with libvirt: the client's time and memory, start, kill, the daemon's memory, and a restart
under running guests. libvirt's daemons are started by hand, in a mount namespace of their own: what the machine has of
libvirt is neither used nor touched. With the stand-in QEMU also 1000 guests, and 100 clients at once.
"""

import os
import pathlib
import select
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time

from bench_adopt import define, listed, resident_kib, start, take_back
from harness import BUILD, BUILD_GUEST, Client, Daemon, FakeQemu, build_guest, wait_until

QUICK = bool(os.environ.get("QUICK"))
ROUNDS = 5 if QUICK else 15
SPAWNS = 20 if QUICK else 60
SPAWN = BUILD / "tests/bench/spawn_time"
CTL = BUILD / "cijqemuctl"
ANSWER = 1 << 20


def say(what, ours, theirs=None, unit="ms", digits=1, also=""):
    line = f"  {what:<38} {ours:9.{digits}f} {unit}"
    if theirs is not None:
        line += f"   libvirt {theirs:9.{digits}f} {unit}   ratio {theirs / ours:6.1f}"
    print(line + also, flush=True)


def spawn(env, *command):
    """Of whole processes: the median time in ms, and the largest memory in MiB."""
    out = subprocess.run([SPAWN, str(SPAWNS), "", *map(str, command)], check=True, capture_output=True, text=True,
                         env=env).stdout.split()
    return float(out[0]) / 1000, int(out[2]) / 1024


def timed(command, env=None):
    began = time.monotonic()
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    return (time.monotonic() - began) * 1000


QEMU_CONF = """
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
"""

DOMAIN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel}</kernel></os><features><acpi/></features>
<devices><emulator>{qemu}</emulator><serial type='pty'><target port='0'/></serial>
<console type='pty'/><memballoon model='none'/></devices></domain>"""


class Libvirt:
    """libvirtd and virtlogd with folders of their own."""

    FOLDERS = {"etc": "/etc/libvirt", "lib": "/var/lib/libvirt", "run": "/run/libvirt", "log": "/var/log/libvirt",
               "cache": "/var/cache/libvirt"}

    def __init__(self, base):
        self.base = pathlib.Path(base)
        for name in (*self.FOLDERS, "sock"):
            (self.base / name).mkdir()
        shutil.copytree("/etc/libvirt", self.base / "etc", dirs_exist_ok=True)
        shutil.rmtree(self.base / "etc/qemu/networks", ignore_errors=True)
        (self.base / "etc/qemu.conf").write_text(QEMU_CONF)
        self.conf = self.base / "libvirtd.conf"
        self.conf.write_text(f'unix_sock_dir = "{self.base}/sock"\nauth_unix_ro = "none"\nauth_unix_rw = "none"\n')
        self.socket = self.base / "sock/libvirt-sock"
        self.virsh = ["virsh", "-q", "-c", f"qemu+unix:///system?socket={self.socket}"]
        self.processes = []

    def start(self):
        mounts = "".join(f"mkdir -p {to} && mount --bind {self.base}/{name} {to} && " for name, to in self.FOLDERS.items())
        keeper = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c",
                                   f"{mounts} exec virtlogd --pid-file {self.base}/virtlogd.pid"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log())
        self.processes.append(keeper)
        wait_until(lambda: (self.base / "run/virtlogd-sock").exists(), "virtlogd listens")
        self.spawn()
        return self

    def log(self):
        return open(self.base / "daemons.log", "ab")

    def spawn(self):
        """libvirtd, in virtlogd's namespace."""
        self.process = subprocess.Popen(
            ["nsenter", f"--mount=/proc/{self.processes[0].pid}/ns/mnt", "libvirtd", "--config", str(self.conf), "--pid-file",
             f"{self.base}/libvirtd.pid"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log())
        wait_until(self.answers, "libvirtd answers")

    def answers(self):
        assert self.process.poll() is None, (self.base / "daemons.log").read_text()
        try:
            s = socket.socket(socket.AF_UNIX)
            s.connect(str(self.socket))
            return True
        except OSError:
            time.sleep(0.001)
            return False
        finally:
            s.close()

    def run(self, *words):
        return subprocess.run([*self.virsh, *map(str, words)], check=True, capture_output=True, text=True).stdout

    def define(self, names, qemu):
        for name in names:
            path = self.base / "domain.xml"
            path.write_text(DOMAIN.format(name=name, kernel=BUILD_GUEST / "bzImage", qemu=qemu))
            self.run("define", path)

    def forget(self, names):
        for name in names:
            self.run("undefine", name)

    def take_back(self, count):
        """kill -9 until all running guests are listed again."""
        self.process.kill()
        self.process.wait()
        began = time.monotonic()
        self.spawn()
        while len(self.run("list", "--name").split()) != count:
            pass
        return (time.monotonic() - began) * 1000

    def close(self):
        try:
            if self.process.poll() is None:
                for name in self.run("list", "--name").split():
                    subprocess.run([*self.virsh, "destroy", name], capture_output=True)
        finally:
            for pidfile in (self.base / "run/qemu").glob("*.pid"):
                try:
                    os.kill(int(pidfile.read_text()), signal.SIGKILL)
                except (ProcessLookupError, ValueError):
                    pass
            for process in (self.process, *self.processes):
                if process.poll() is None:
                    process.terminate()
                process.wait()


def by_hand(argv, folder):
    """The same QEMU by hand with -S: ms until its monitor answers, ms from 'quit' until it is gone."""
    path = folder / "hand.sock"
    path.unlink(missing_ok=True)
    began = time.monotonic()
    process = subprocess.Popen([*argv, "-S", "-qmp", f"unix:{path},server=on,wait=off"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=folder)
    s = socket.socket(socket.AF_UNIX)
    try:
        while True:
            try:
                s.connect(str(path))
                break
            except OSError:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.0005)
        lines = s.makefile("rb")
        lines.readline()
        s.sendall(b'{"execute":"qmp_capabilities"}')
        lines.readline()
        up = (time.monotonic() - began) * 1000
        began = time.monotonic()
        s.sendall(b'{"execute":"quit"}')
        process.wait()
        return up, (time.monotonic() - began) * 1000
    finally:
        s.close()
        if process.poll() is None:
            process.kill()
            process.wait()


def compare_clients(daemon, libvirt, name):
    env = daemon.client_env()
    for what, ours, theirs in (("list", [CTL, "list"], ["list", "--all"]), ("show / dominfo", [CTL, "show", name],
                                                                        ["dominfo", name])):
        mine, other = spawn(env, *ours), spawn(None, *libvirt.virsh, *theirs)
        say(what, mine[0], other[0], digits=2)
        say(f"{what}: client's memory", mine[1], other[1], "MiB")
    say("daemon, resident", resident_kib(daemon.pid) / 1024, resident_kib(libvirt.process.pid) / 1024, "MiB")


def compare_power(daemon, libvirt, name, argv, folder):
    env = daemon.client_env()
    times = {key: [] for key in ("up", "down", "virsh up", "virsh down", "hand up", "hand down")}
    for _ in range(ROUNDS):
        hand = by_hand(argv, folder)
        times["hand up"].append(hand[0])
        times["hand down"].append(hand[1])
        times["up"].append(timed([CTL, "start", "--paused", name], env))
        times["down"].append(timed([CTL, "kill", name], env))
        times["virsh up"].append(timed([*libvirt.virsh, "start", "--paused", name]))
        times["virsh down"].append(timed([*libvirt.virsh, "destroy", name]))
    m = {key: statistics.median(value) for key, value in times.items()}
    least = {key: min(value) for key, value in times.items()}
    say("start until the monitor answers", m["up"], m["virsh up"],
        also=f"   by hand {m['hand up']:.1f} ms: x {m['up'] / m['hand up']:.2f}, {m['up'] - m['hand up']:+.1f} ms")
    say("kill until gone", m["down"], m["virsh down"],
        also=f"   by hand {m['hand down']:.1f} ms: {m['down'] - m['hand down']:+.1f} ms")
    say("the least of each: start", least["up"], least["virsh up"], also=f"   by hand {least['hand up']:.1f} ms")
    say("the least of each: kill", least["down"], least["virsh down"], also=f"   by hand {least['hand down']:.1f} ms")


def compare_restart(daemon, libvirt, names):
    count = len(names)
    start(daemon, names)
    for name in names:
        libvirt.run("start", "--paused", name)
    rounds = 3 if QUICK else 7
    ours = [take_back(daemon, count) for _ in range(rounds)]
    theirs = [libvirt.take_back(count) for _ in range(rounds)]
    listed(daemon, count)
    say(f"kill -9, restart, {count} running listed", statistics.median(ours), statistics.median(theirs),
        also="   (libvirt's has a virsh or two in it)")
    say(f"daemon with {count} running, resident", resident_kib(daemon.pid) / 1024,
        resident_kib(libvirt.process.pid) / 1024, "MiB")
    daemon.ctl("-q", "kill", "--all")
    for name in names:
        libvirt.run("destroy", name)


def hand_argv(daemon, name):
    """What runs, without the parts that need the daemon: its monitor, its console, its pid file."""
    argv = daemon.json("argv", name)["argv"]
    dropped = {"-chardev", "-mon", "-pidfile", "-qmp", "-serial", "-netdev"}
    kept, words = [], iter(argv)
    for word in words:
        if word in dropped:
            next(words)
        elif word == "-device":
            value = next(words)
            if "netdev=" not in value and "chardev=" not in value:
                kept += [word, value]
        elif word != "-S":
            kept.append(word)
    return kept


def side_by_side(base):
    libvirt = Libvirt(base / "libvirt")
    daemon = Daemon(base / "ours", options=["--memory-limit", "999%"])
    qemu = shutil.which("qemu-system-x86_64")
    try:
        libvirt.start()
        daemon.start()
        names = []
        for count in (1, 20, 100):
            more = [f"guest{i:04}" for i in range(len(names), count)]
            define(daemon, None, more)
            libvirt.define(more, qemu)
            names += more
            print(f"{count} guests defined, real QEMU")
            compare_clients(daemon, libvirt, names[-1])
            if count == 1:
                compare_power(daemon, libvirt, names[0], hand_argv(daemon, names[0]), base)
            if count == 20:
                compare_restart(daemon, libvirt, names)
    finally:
        daemon.close()
        libvirt.close()


def all_at_once(path, clients):
    """ms from @clients requests for all guests, sent at once, to the first and the last whole answer."""
    socks = []
    request = b'{"execute":"query-guests","id":1}\n'
    try:
        for _ in range(clients):
            s = socket.socket(socket.AF_UNIX)
            s.connect(str(path))
            s.recv(4096)
            socks.append(s)
        began = time.monotonic()
        poller, ends, size = select.poll(), [], 0
        waiting = {s.fileno(): s for s in socks}
        for s in socks:
            s.sendall(request)
            poller.register(s, select.POLLIN)
        while waiting:
            for fd, _ in poller.poll():
                data = waiting[fd].recv(ANSWER)
                assert data
                size += len(data)
                if data.endswith(b"\n"):
                    poller.unregister(fd)
                    del waiting[fd]
                    ends.append((time.monotonic() - began) * 1000)
        return ends[0], ends[-1], size
    finally:
        for s in socks:
            s.close()


def a_thousand(base, count=1000, clients=100):
    fake = FakeQemu(base / "qemu")
    daemon = Daemon(base / "many", options=["--memory-limit", "999%"])
    try:
        daemon.start()
        define(daemon, fake, [f"guest{i:04}" for i in range(count)])
        with Client(daemon.socket) as c:
            assert len(c.call("query-guests")) == count
        print(f"{count} guests defined, stand-in QEMU")
        for what, command in (("list", ["list"]), ("list of one", ["list", "guest0500"]), ("show", ["show", "guest0500"])):
            ms, mib = spawn(daemon.client_env(), CTL, *command)
            say(what, ms, digits=2, also=f"   client's memory {mib:.1f} MiB")
        first, last, size = all_at_once(daemon.socket, clients)
        again = [all_at_once(daemon.socket, clients) for _ in range(3)]
        last = statistics.median([last, *(a[1] for a in again)])
        say(f"{clients} clients at once ask for all", last, also=f"   {last / clients:.2f} ms each, {size >> 20} MiB in all")
        say("daemon, resident", resident_kib(daemon.pid) / 1024, unit="MiB")
    finally:
        daemon.close()


def main():
    build_guest()
    with tempfile.TemporaryDirectory(prefix="cij-bench-") as base:
        base = pathlib.Path(base)
        for name in ("ours", "libvirt", "many"):
            (base / name).mkdir()
        if os.geteuid() == 0 and shutil.which("libvirtd"):
            side_by_side(base)
        else:
            print("no libvirt beside it: that takes root, and 'make bench' installs it")
        a_thousand(base)


if __name__ == "__main__":
    main()
