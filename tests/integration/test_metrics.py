"""What guests use and move: 'query-stats', and Prometheus' text on metrics.sock."""

import http.client
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import time

from harness import HANG, Client, Daemon, wait_until


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("metrics", timeout=HANG)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(HANG)
        self.sock.connect(self.path)


def get(daemon, path="/metrics", method="GET"):
    conn = UnixHTTP(daemon.run / "metrics.sock")
    conn.request(method, path)
    reply = conn.getresponse()
    return reply, reply.read().decode()


def samples(text):
    """{'name{labels}': value}"""
    return {k: float(v) for k, v in re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (\S+)$", text, re.M)}


def test_promtool_has_nothing_to_say(booted):
    reply, text = get(booted)
    assert reply.status == 200 and reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    promtool = shutil.which("promtool")
    assert promtool, "promtool is in Debian's package prometheus"
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=HANG)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_numbers_grow_with_what_the_guest_does(booted):
    before = samples(get(booted)[1])
    booted.ctl("exec", "tiny", "--", "dd if=/dev/nvme0n1 of=/dev/null bs=1M count=8 iflag=direct; "
                                     "dd if=/dev/zero of=/dev/nvme0n1 bs=1M count=4 oflag=direct")
    time.sleep(0.2)  # answers of less than 0.05 s ago are given again
    after = samples(get(booted)[1])

    def grown(name):
        key = f'cijqemu_guest_{name}{{guest="tiny",drive="nvme0"}}'
        return after[key] - before[key]

    assert 8 << 20 <= grown("drive_read_bytes_total") < 10 << 20
    assert grown("drive_written_bytes_total") == 4 << 20
    assert grown("drive_reads_completed_total") > 0 and grown("drive_writes_completed_total") > 0
    assert grown("drive_read_time_seconds_total") > 0
    cpu = 'cijqemu_guest_cpu_seconds_total{guest="tiny"}'
    assert after[cpu] > before[cpu] > 0.5
    assert after['cijqemu_guest_resident_memory_bytes{guest="tiny"}'] > 50 << 20
    assert after['cijqemu_guest_memory_bytes{guest="tiny"}'] == 256 << 20
    assert after['cijqemu_guests{state="running"}'] == 1
    assert after['cijqemu_guest_boot_seconds{guest="tiny"}'] > 0
    assert after["process_open_fds"] > 5


def test_the_operation_gives_the_same(booted):
    with Client(booted.socket) as c:
        stats, = c.call("query-stats", guests=["ti*"])
        assert c.call("query-stats", guests=["no*"]) == []
    assert stats["guest"] == "tiny" and stats["cpu_ms"] > 500 and stats["resident_bytes"] > 50 << 20
    assert [d["id"] for d in stats["drives"]] == ["nvme0"]
    assert stats["console_bytes"] == booted.show("tiny")["console"]["bytes"]


def test_stopped_and_broken_guests(daemon, fake):
    daemon.folder("off", fake.config())
    daemon.folder("bad", "{")
    text = get(daemon)[1]
    values = samples(text)
    assert values['cijqemu_guest_up{guest="off"}'] == 0
    assert values['cijqemu_guests{state="broken"}'] == 1
    assert 'cpu_seconds_total{guest="off"}' not in text and 'guest_cpus{guest="bad"}' not in text
    with Client(daemon.socket) as c:
        for stats in c.call("query-stats"):
            assert stats["cpu_ms"] is None and stats["drives"] is None


def test_numbers_begin_anew_with_each_run(daemon, fake):
    daemon.folder("g", fake.config())
    daemon.ctl("start", "g")
    with Client(daemon.socket) as c:
        assert c.call("query-stats")[0]["cpu_ms"] is not None
        daemon.ctl("kill", "g")
        assert c.call("query-stats")[0]["cpu_ms"] is None
        daemon.ctl("start", "g")
        assert c.call("query-stats")[0]["run"] == 2


def test_a_mute_guest_costs_a_second_and_only_its_drives(daemon, fake):
    daemon.folder("mute", fake.config("at=query-blockstats:mute"))
    daemon.folder("well", fake.config())
    daemon.ctl("start", "mute", "well")
    values = samples(get(daemon)[1])
    for guest in ("mute", "well"):
        assert values[f'cijqemu_guest_cpu_seconds_total{{guest="{guest}"}}'] >= 0
    with Client(daemon.socket) as c:
        mute, = c.call("query-stats", guests=["mute"])
    assert mute["drives"] is None and mute["resident_bytes"] > 0


def test_a_guest_that_dies_when_asked(daemon, fake):
    daemon.folder("g", fake.config("at=query-blockstats:crash"))
    daemon.folder("h", fake.config())
    daemon.ctl("start", "g", "h")
    assert 'cijqemu_guest_up{guest="h"} 1' in get(daemon)[1]
    wait_until(lambda: daemon.show("g")["state"] == "stopped", "g has ended")


def test_many_askers_cost_qemu_one_question(daemon, fake):
    daemon.folder("g", fake.config("at=query-blockstats:mute"))
    daemon.ctl("start", "g")
    with Client(daemon.socket) as c:
        ids = [c.send("query-stats") for _ in range(200)]
        for i in ids:
            assert c.receive(i)["return"][0]["guest"] == "g"


def test_the_daemon_ends_while_somebody_waits(daemon, fake):
    daemon.folder("g", fake.config("at=query-blockstats:mute"))
    daemon.folder("h", fake.config())
    daemon.ctl("start", "g", "h")
    waiting = UnixHTTP(daemon.run / "metrics.sock")
    waiting.request("GET", "/metrics")
    gone = UnixHTTP(daemon.run / "metrics.sock")
    gone.request("GET", "/metrics")
    gone.close()
    with Client(daemon.socket) as c:
        c.send("query-stats")
        daemon.stop()
    assert daemon.process.returncode == 0
    assert not (daemon.run / "metrics.sock").exists()
    daemon.start()


def test_other_paths_and_methods(daemon):
    assert get(daemon, "/nothing")[0].status == 404
    assert "/metrics" in get(daemon, "/")[1]
    assert get(daemon, method="HEAD")[1] == ""
    assert get(daemon, method="POST")[0].status >= 400
    assert get(daemon, method="DELETE")[0].status >= 400


def test_who_may_open_it(daemon, tmp_path):
    mode = stat.S_IMODE(os.stat(daemon.run / "metrics.sock").st_mode)
    assert mode == (0o666 if os.geteuid() == 0 else 0o600)
    own = Daemon(tmp_path / "own", options=["--user-only"])
    try:
        own.start()
        assert stat.S_IMODE(os.stat(own.run / "metrics.sock").st_mode) == 0o600
    finally:
        own.close()


def test_connections_are_bounded(daemon):
    """Whoever opens many and says nothing takes a few descriptors, and gives them back."""
    before = len(daemon.fds())
    conns = []
    for _ in range(200):
        conn = socket.socket(socket.AF_UNIX)
        conn.setblocking(False)
        try:
            conn.connect(str(daemon.run / "metrics.sock"))
        except BlockingIOError:
            conn.close()
            break
        conns.append(conn)
    with Client(daemon.socket) as c:
        c.call("query-daemon")
        assert len(daemon.fds()) <= before + 40
    for conn in conns:
        conn.close()
    wait_until(lambda: len(daemon.fds()) <= before + 1, "the descriptors are free again")
    assert get(daemon)[0].status == 200


def test_the_boot_time_is_that_of_the_boot_after_a_restart_of_the_daemon(daemon, fake):
    """It was the time from the boot to the restart."""
    daemon.folder("g", fake.config("ssh"))
    daemon.ctl("start", "g", "--wait=ssh")
    before = daemon.show("g")["boot_ms"]
    assert before is not None
    time.sleep(0.5)
    daemon.restart(signal.SIGKILL)
    daemon.ctl("wait", "g", "--for", "ssh")
    assert daemon.show("g")["boot_ms"] == before
