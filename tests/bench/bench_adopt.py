"""kill -9 of the daemon and its restart: how long until all guests are taken back and listed, and what a thousand of
them cost. Stand-in QEMUs, since the figure is the daemon's; GUESTS=N and REAL=1 (real QEMUs, paused) to see others.
"""

import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time

from harness import BUILD, BUILD_GUEST, Client, Daemon, FakeQemu, build_guest

QUICK = bool(os.environ.get("QUICK"))
ROUNDS = 3 if QUICK else 7
TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_kib(pid):
    """What is the daemon's alone; its libraries are everybody's."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(("Pss:",)))


def resident_kib(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def define(daemon, fake, names):
    config = fake.config("ssh") if fake else {
        "memory": "64M", "cpus": 1, "accel": "tcg", "kernel": {"image": str(BUILD_GUEST / "bzImage")}}
    for name in names:
        daemon.folder(name, config)


def start(daemon, names):
    with daemon.connect() as c:
        for i in range(0, len(names), 50):
            waits = {c.send("guest-start", guest=name, paused=True) for name in names[i:i + 50]}
            while waits:
                reply = c.read()
                assert "error" not in reply, reply
                waits.discard(reply.get("id"))


def listed(daemon, count):
    """Waits for the socket, as a client does that tries again; asks for all guests."""
    while True:
        try:
            with Client(daemon.socket) as c:
                guests = c.call("query-guests")
                running = sum(g["state"] in ("running", "paused") and not g["hung"] for g in guests)
                assert running == count, (running, count)
                return
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(0.0005)


def take_back(daemon, count):
    daemon.stop(signal.SIGKILL)
    began = time.monotonic()
    daemon.spawn()
    listed(daemon, count)
    return (time.monotonic() - began) * 1000


def timed_list(daemon):
    times = []
    for _ in range(ROUNDS * 3):
        began = time.monotonic()
        subprocess.run([BUILD / "cijqemuctl", "list"], env=daemon.client_env(), stdout=subprocess.DEVNULL, check=True)
        times.append((time.monotonic() - began) * 1000)
    return statistics.median(times), min(times)


def measure(count, real):
    with tempfile.TemporaryDirectory(prefix="cij-bench") as base:
        fake = None if real else FakeQemu(pathlib.Path(base) / "qemu")
        daemon = Daemon(base, options=["--memory-limit", "999%"])
        try:
            daemon.start()
            names = [f"guest{i:04}" for i in range(count)]
            define(daemon, fake, names)
            began = time.monotonic()
            start(daemon, names)
            print(f"{count} {'real' if real else 'stand-in'} guests, started in {time.monotonic() - began:.1f} s")
            times = [take_back(daemon, count) for _ in range(ROUNDS)]
            print(f"  kill -9, restart, all listed   {statistics.median(times):7.1f} ms   ({min(times):.1f} to {max(times):.1f})")
            seconds = 5 if QUICK else 20
            before = cpu_seconds(daemon.pid)
            time.sleep(seconds)
            print(f"  CPU while nothing happens      {(cpu_seconds(daemon.pid) - before) / seconds * 100:7.2f} %")
            median, least = timed_list(daemon)
            print(f"  'list', the whole process      {median:7.1f} ms   (least {least:.1f})")
            print(f"  memory: Pss {memory_kib(daemon.pid) / 1024:.1f} MiB, resident {resident_kib(daemon.pid) / 1024:.1f} MiB,"
                  f" {len(daemon.fds())} descriptors")
        finally:
            daemon.close()


def main():
    if os.environ.get("REAL"):
        build_guest()
    for count in [int(n) for n in os.environ.get("GUESTS", "20 1000").split()]:
        measure(count, bool(os.environ.get("REAL")))


if __name__ == "__main__":
    main()
