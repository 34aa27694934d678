"""QMP through qmp.sock beside QEMU's own socket (the same binary with the same arguments, by hand), and one shot of
'cijqemuctl qmp' beside socat. Rounds are interleaved; medians over them, and ratios of figures taken together.

As root all processes of both sides get real-time priority, so that the figures are those of an idle machine on one
that is not; RT=0: they do not.
"""

import contextlib
import json
import os
import pathlib
import socket
import statistics
import subprocess
import tempfile

from harness import BUILD, Daemon, wait_until

QUICK = bool(os.environ.get("QUICK"))
ROUNDS = 3 if QUICK else 9
LOAD, SPAWN = BUILD / "tests/bench/qmp_load", BUILD / "tests/bench/spawn_time"
RT = os.geteuid() == 0 and os.environ.get("RT") != "0"
FIRST = ["chrt", "-f", "5"] if RT else []


def load(path, clients, count, window):
    """Commands a second, and the median time of one in µs."""
    out = subprocess.run([*FIRST, LOAD, path, str(clients), str(count), str(window)], check=True, capture_output=True,
                         text=True).stdout.split()
    return float(out[0]), float(out[1])


def spawn(count, text, *command, env=None):
    out = subprocess.run([*FIRST, SPAWN, str(count), text, *map(str, command)], check=True, capture_output=True,
                         text=True, env=env)
    return float(out.stdout.split()[0])


def prefer(pid):
    if FIRST:
        for task in os.listdir(f"/proc/{pid}/task"):
            subprocess.run(["chrt", "-f", "-p", "5", task], check=True)


def connects(path):
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def make_image(path):
    with open(path, "wb") as image:
        image.truncate(1 << 20)


@contextlib.contextmanager
def by_hand(base, record):
    """The QEMU of the guest's run once more, with a monitor socket of its own."""
    (base / "logs").mkdir(parents=True)
    os.mkfifo(base / "logs/0001.in")
    (base / "logs/0001.out").touch()
    make_image(base / "boot.img")
    argv = [a.replace("fd=3", f"path={base / 'own.sock'}") if a.startswith("socket,id=") else a for a in record["argv"]]
    process = subprocess.Popen(argv, cwd=base, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: connects(base / "own.sock"), "QEMU listens")
        yield process.pid, base / "own.sock"
    finally:
        process.kill()
        process.wait()


def measure(daemon, own):
    ours = daemon.run / "guests/g/qmp.sock"
    # Both greet, negotiate and answer one command; only QEMU's own closes by itself at the end of input.
    once = '{"execute": "qmp_capabilities"}\n{"execute": "query-status"}\n'
    n, shots = (1000, 30) if QUICK else (4000, 100)
    cases = {
        "own, round trips": lambda: load(own, 1, n, 1),
        "ours, round trips": lambda: load(ours, 1, n, 1),
        "own, pipelined": lambda: load(own, 1, n, 64),
        "ours, pipelined": lambda: load(ours, 1, n, 64),
        "ours, 16 clients, round trips": lambda: load(ours, 16, n // 16, 1),
        "ours, 16 clients, pipelined": lambda: load(ours, 16, n // 16, 64),
    }
    shot = {
        "socat on QEMU's own": lambda: spawn(shots, once, "socat", "-", f"UNIX-CONNECT:{own}"),
        "socat on ours": lambda: spawn(shots, once, "socat", "-", f"UNIX-CONNECT:{ours}"),
        "cijqemuctl qmp": lambda: spawn(shots, "", BUILD / "cijqemuctl", "qmp", "g", "query-status",
                                        env=daemon.client_env()),
    }
    seen = {name: [] for name in (*cases, *shot)}
    for _ in range(ROUNDS):
        for name, case in (*cases.items(), *shot.items()):
            seen[name].append(case())
    return cases, shot, seen


def ratio(seen, ours, own, column=0):
    """The median of the rounds' own ratios."""
    pick = [(a[column], b[column]) if isinstance(a, tuple) else (a, b) for a, b in zip(seen[ours], seen[own])]
    return statistics.median(a / b for a, b in pick)


def main():
    with tempfile.TemporaryDirectory() as folder:
        base = pathlib.Path(folder)
        daemon = Daemon(base)
        try:
            daemon.start()
            make_image(daemon.folder("g", {"memory": "64M", "accel": "tcg"}) / "boot.img")
            daemon.ctl("start", "g", "--paused")
            record = json.loads((daemon.guests / "g/logs/0001.run.json").read_text())
            with by_hand(base / "hand", record) as (pid, own):
                for one in (daemon.pid, daemon.show("g")["pid"], pid):
                    prefer(one)
                cases, shot, seen = measure(daemon, own)
        finally:
            daemon.close()
    print("  with real-time priority" if RT else "  with the priority of everything else")
    for name in cases:
        print(f"  {name:32} {statistics.median(s[0] for s in seen[name]):8.0f}/s  "
              f"{statistics.median(s[1] for s in seen[name]):9.1f} µs a command")
    for name in shot:
        print(f"  {name:32} {statistics.median(seen[name]) / 1000:8.2f} ms a process")
    added = statistics.median(a[1] - b[1] for a, b in zip(seen["ours, round trips"], seen["own, round trips"]))
    print(f"  round trips: {ratio(seen, 'ours, round trips', 'own, round trips'):.2f} x QEMU's own rate (wanted 0.80), "
          f"{added:+.0f} µs each (50)")
    print(f"  pipelined: {ratio(seen, 'ours, pipelined', 'own, pipelined'):.2f} x QEMU's own rate (0.95)")
    print(f"  16 clients beside one on QEMU's own: "
          f"{ratio(seen, 'ours, 16 clients, round trips', 'own, round trips'):.2f} x, pipelined "
          f"{ratio(seen, 'ours, 16 clients, pipelined', 'own, pipelined'):.2f} x")
    print(f"  one shot: {1 / ratio(seen, 'cijqemuctl qmp', 'socat on QEMU' + chr(39) + 's own'):.1f} x faster than "
          f"socat (2)")


if __name__ == "__main__":
    main()
