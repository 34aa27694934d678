"""Whatever becomes of the daemon, the guests go on and the next one takes them back."""

import ctypes
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

from harness import BUILD, HANG, Daemon, FakeQemu, alive, stopped, wait_until


def start(daemon, name, config):
    daemon.folder(name, config)
    daemon.ctl("start", name)
    return daemon.show(name)


def settled(daemon, name, **wanted):
    """Waits until the guest's view has these values; returns it."""
    def there():
        view = daemon.show(name)
        return view if all(view[k] == v for k, v in wanted.items()) else None
    return wait_until(there, f"{name} is {wanted}: {daemon.show(name)}")


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV])
def test_taken_back_after(daemon, tiny, sig):
    """The same process, the same port, uptime that goes on, and a console without a gap."""
    before = start(daemon, "g", tiny.config)
    daemon.restart(sig)
    after = daemon.show("g")
    for key in ("state", "pid", "ssh", "run", "memory_bytes", "qemu", "accel"):
        assert after[key] == before[key], key
    assert "taken back" in daemon.log_text()
    daemon.ctl("wait", "g", "--for", "ssh", "--timeout", "60")
    assert daemon.ctl("exec", "g", "--", "echo works").stdout == "works\n"
    daemon.ctl("stop", "g")
    view = daemon.show("g")
    # It is not our child: the kernel does not tell how it ended.
    assert (view["state"], view["reason"], view["exit"]) == ("stopped", "stopped", None)


def test_upgrade_under_running_guests(daemon, fake, tmp_path):
    """The binary is replaced while it runs: it still launches guests, and so does the new one."""
    program = tmp_path / "cijqemud"
    shutil.copy(BUILD / "cijqemud", program)
    daemon.stop()

    def spawn():
        with open(daemon.log, "ab") as log:
            daemon.process = subprocess.Popen(
                [program, "--guests", daemon.guests, "--run-dir", daemon.run, "--state-dir", daemon.state],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=daemon.env)
        wait_until(daemon.answers, "the daemon answers")

    spawn()
    old = start(daemon, "a", fake.config())
    program.unlink()
    start(daemon, "b", fake.config())  # /proc/self/exe of a deleted file still executes
    shutil.copy(BUILD / "cijqemud", program)
    start(daemon, "c", fake.config())
    daemon.stop()
    spawn()
    assert {v["guest"]: v["state"] for v in daemon.json("list")} == dict.fromkeys("abc", "running")
    assert daemon.show("a")["pid"] == old["pid"]


def test_stale_and_recycled_pid_file(daemon, fake):
    """The text of a pid file is nobody's proof of life: a stranger of that pid is left alone."""
    view = start(daemon, "g", fake.config())
    daemon.stop(signal.SIGKILL)
    os.kill(view["pid"], signal.SIGKILL)
    wait_until(lambda: not alive(view["pid"]), "the guest ends")
    (daemon.guests / "g/guest.pid").write_text(f"{os.getpid()}\n")
    daemon.start()
    view = daemon.show("g")
    assert (view["state"], view["reason"], view["exit"], view["pid"]) == ("stopped", "lost", None, None)
    assert "not known" in view["error"]
    daemon.ctl("kill", "g")
    daemon.ctl("start", "g")
    assert daemon.show("g")["state"] == "running"


def test_another_guest_on_its_monitor(daemon, fake):
    """Of the same name, with the lock on its pid file, and not the one that was started here: left alone."""
    before = start(daemon, "g", fake.config())
    daemon.stop(signal.SIGKILL)
    record = daemon.guests / "g/logs/0001.run.json"
    text = record.read_text()
    argv = json.loads(text)["argv"]
    uuid = argv[argv.index("-uuid") + 1]
    record.write_text(text.replace(uuid, "0" * 8 + uuid[8:]))
    daemon.start()
    view = daemon.show("g")
    assert (view["state"], view["reason"], view["pid"]) == ("stopped", "lost", None)
    assert "another guest answers on its monitor" in view["error"]
    daemon.ctl("kill", "g")
    daemon.ctl("stop", "g")
    assert alive(before["pid"])
    daemon.stop(signal.SIGKILL)
    record.write_text(text)
    daemon.start()
    assert daemon.show("g")["pid"] == before["pid"]


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "garbage"])
def test_run_record_damaged(daemon, fake, damage):
    before = start(daemon, "g", fake.config())
    daemon.stop(signal.SIGKILL)
    record = daemon.guests / "g/logs/0001.run.json"
    text = record.read_text()
    assert json.loads(text)["up"] is True
    if damage == "gone":
        record.unlink()
    else:
        record.write_text({"cut": text[:len(text) // 2], "empty": "", "garbage": "\0\1[[[["}[damage])
    daemon.start()
    after = daemon.show("g")
    assert (after["state"], after["pid"], after["run"]) == ("running", before["pid"], 1)
    assert after["error"] is None and 0 <= after["uptime_s"] < 600  # by the process's own age
    daemon.ctl("kill", "g")
    daemon.restart()
    assert daemon.show("g")["reason"] == "killed"


def test_run_record_damaged_after_the_end(daemon, fake):
    start(daemon, "g", fake.config())
    daemon.ctl("kill", "g")
    daemon.stop()
    (daemon.guests / "g/logs/0001.run.json").write_text("{")
    daemon.start()
    view = daemon.show("g")
    assert (view["state"], view["reason"]) == ("stopped", "lost")
    assert "record of run 1 cannot be read" in view["error"]


def test_console_log_cut_and_removed(daemon, fake):
    before = start(daemon, "g", fake.config("flood=1000"))
    log = daemon.guests / "g/logs/0001.out"
    wait_until(lambda: log.read_bytes().count(b"\n") == 1000, "the flood")
    os.truncate(log, 100)
    daemon.restart(signal.SIGKILL)
    assert daemon.show("g")["console"]["bytes"] == 100
    log.unlink()
    daemon.restart(signal.SIGKILL)
    after = daemon.show("g")
    assert (after["state"], after["pid"], after["console"]) == ("running", before["pid"], None)


@pytest.mark.parametrize("what", ["log", "logs"])
def test_log_removed_of_a_guest_that_was_stopped_before(daemon, fake, what):
    """The newest log there is is an earlier run's: what was asked of that is not done to this one."""
    start(daemon, "g", fake.config())
    daemon.ctl("stop", "g")
    daemon.ctl("start", "g")
    before = daemon.show("g")
    daemon.stop(signal.SIGKILL)
    logs = daemon.guests / "g/logs"
    if what == "log":
        (logs / "0002.out").unlink()
    else:
        for name in logs.glob("0002.*"):
            name.unlink()
    daemon.start()
    for _ in range(2):
        view = daemon.show("g")
        assert (view["state"], view["pid"], view["run"]) == ("running", before["pid"], 2)
        assert "run 2 of guest 'g' is gone" in daemon.ctl("console", "g", input="", code=65).stderr
        daemon.restart()
    daemon.ctl("stop", "g")
    view = daemon.show("g")
    assert (view["state"], view["reason"], view["run"]) == ("stopped", "stopped", 2)
    if what == "log":
        daemon.ctl("start", "g")
        assert daemon.show("g")["run"] == 3


def test_since_goes_on(daemon, fake):
    """'since' tells since when a guest runs or stands still, not when this daemon came."""
    start(daemon, "runs", fake.config())
    daemon.folder("stands", fake.config())
    daemon.ctl("start", "stands", "--paused")
    start(daemon, "paused", fake.config())
    start(daemon, "resumed", fake.config())
    daemon.ctl("pause", "resumed")
    first = daemon.show("resumed")["since"]
    wait_until(lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) > first, "another second")
    daemon.ctl("pause", "paused")
    daemon.ctl("resume", "resumed")

    def told():
        return {v["guest"]: (v["state"], v["since"]) for v in daemon.json("list")}

    before = told()
    assert before["resumed"][1] > first
    wait_until(lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) > before["resumed"][1], "another second")
    daemon.restart(signal.SIGKILL)
    assert told() == before
    pid = daemon.show("runs")["pid"]
    stopped(pid)
    daemon.restart(signal.SIGKILL)
    assert daemon.show("runs")["hung"] is True
    assert told() == before
    os.kill(pid, signal.SIGCONT)
    settled(daemon, "runs", hung=False)
    assert told() == before


@pytest.mark.parametrize("restart", [False, True])
def test_folder_renamed(daemon, tiny, restart):
    """It is shown under its new name, and can be used under that."""
    before = start(daemon, "old", tiny.config)
    (daemon.guests / "old").rename(daemon.guests / "new")
    if restart:
        daemon.restart(signal.SIGKILL)
    views = daemon.json("list")
    assert [(v["guest"], v["state"], v["pid"]) for v in views] == [("new", "running", before["pid"])]
    assert views[0]["path"] == str(daemon.guests / "new")
    daemon.ctl("status", "old", code=4)
    daemon.restart(signal.SIGKILL)
    assert daemon.show("new")["pid"] == before["pid"]
    daemon.ctl("kill", "new")
    daemon.ctl("start", "new")
    assert daemon.show("new")["state"] == "running"


@pytest.mark.parametrize("restart", [False, True])
def test_folder_deleted(daemon, fake, restart):
    before = start(daemon, "g", fake.config())
    shutil.rmtree(daemon.guests / "g")
    if restart:
        daemon.restart(signal.SIGKILL)
    view = daemon.json("list")[0]
    assert (view["guest"], view["state"], view["pid"]) == ("g", "running", before["pid"])
    assert "renamed or removed" in view["error"]
    daemon.ctl("kill", "g")
    wait_until(lambda: not alive(before["pid"]), "the guest ends")
    assert daemon.json("list") == []


def test_folder_moved_away(daemon, fake, tmp_path):
    before = start(daemon, "g", fake.config())
    (daemon.guests / "g").rename(tmp_path / "elsewhere")
    daemon.restart(signal.SIGKILL)
    view = daemon.show("g")
    assert (view["state"], view["pid"], view["run"]) == ("running", before["pid"], 1)
    (tmp_path / "elsewhere").rename(daemon.guests / "g")
    assert daemon.json("list")[0]["error"] is None
    daemon.ctl("kill", "g")
    view = daemon.show("g")
    assert (view["state"], view["reason"]) == ("stopped", "killed")


@pytest.mark.parametrize("restart", [False, True])
def test_folder_unreadable(restart):
    """As root: the guest is another user's, whose rights the daemon takes when it looks at the folder."""
    base = pathlib.Path(tempfile.mkdtemp(dir="/var/tmp"))
    base.chmod(0o755)
    daemon = Daemon(base)
    folder = daemon.guests / "g"
    try:
        fake = FakeQemu(base / "qemu")
        daemon.start()
        daemon.folder("g", fake.config())
        if os.geteuid() == 0:
            os.chown(folder, 1, 1)
        daemon.ctl("start", "g")
        before = daemon.show("g")
        folder.chmod(0)
        if restart:
            daemon.restart(signal.SIGKILL)
        view = daemon.show("g")
        assert (view["state"], view["pid"]) == ("running", before["pid"])
        daemon.ctl("kill", "g")
        wait_until(lambda: not alive(before["pid"]), "the guest ends")
        assert daemon.show("g")["state"] in ("stopped", "broken")
        folder.chmod(0o755)
        view = daemon.show("g")
        assert (view["state"], view["reason"]) == ("stopped", "killed")
    finally:
        folder.chmod(0o755)
        daemon.close()
        shutil.rmtree(base)


@pytest.mark.parametrize("what", ["qemu.sock", "the guest's folder", "guest.pid", "all"])
def test_removed_under_us(daemon, tiny, what):
    """The QMP connection is made again all the same: QEMU has a handle on its socket."""
    before = start(daemon, "g", tiny.config)
    daemon.stop(signal.SIGKILL)
    if what == "qemu.sock":
        (daemon.run / "guests/g/qemu.sock").unlink()
    if what in ("the guest's folder", "all"):
        shutil.rmtree(daemon.run / "guests/g")
    if what in ("guest.pid", "all"):
        (daemon.guests / "g/guest.pid").unlink()
    daemon.start()
    after = daemon.show("g")
    assert (after["state"], after["pid"], after["hung"]) == ("running", before["pid"], False)
    daemon.ctl("pause", "g")
    assert daemon.show("g")["state"] == "paused"
    daemon.ctl("resume", "g")
    daemon.ctl("kill", "g")
    wait_until(lambda: not alive(before["pid"]), "the guest ends")


def test_copy_of_a_running_guest_is_no_guest_that_runs(daemon, fake):
    start(daemon, "g", fake.config(restart="always"))
    shutil.copytree(daemon.guests / "g", daemon.guests / "copy", symlinks=True, ignore=shutil.ignore_patterns("*.in"))
    daemon.restart(signal.SIGKILL)
    time.sleep(1.5)
    assert {v["guest"]: v["state"] for v in daemon.json("list")} == {"g": "running", "copy": "stopped"}


def test_definition_is_that_of_the_run(daemon, fake):
    start(daemon, "g", fake.config(memory="96M"))
    daemon.folder("g", fake.config(memory="32M"))
    daemon.restart(signal.SIGKILL)
    assert daemon.show("g")["memory_bytes"] == 96 << 20
    daemon.folder("g", "{ broken")
    daemon.restart(signal.SIGKILL)
    assert daemon.show("g")["state"] == "running"
    daemon.ctl("kill", "g")
    assert daemon.show("g")["state"] == "broken"
    daemon.folder("g", fake.config(memory="32M"))
    view = daemon.show("g")
    assert (view["state"], view["memory_bytes"]) == ("stopped", 32 << 20)


def test_paused_stays_paused(daemon, tiny):
    start(daemon, "g", tiny.config)
    daemon.ctl("pause", "g")
    daemon.restart(signal.SIGKILL)
    assert daemon.show("g")["state"] == "paused"
    daemon.folder("p", tiny.config)
    daemon.ctl("start", "p", "--paused")
    daemon.restart(signal.SIGKILL)
    assert daemon.show("p")["state"] == "paused"
    daemon.ctl("resume", "p")
    assert daemon.show("p")["state"] == "running"


def test_a_stop_goes_on(daemon, fake):
    """A stop that was asked of the daemon that died is carried to its end by the next."""
    start(daemon, "g", fake.config("ignore-powerdown"))
    stopping = daemon.ctl_start("stop", "g", "--force-after", "3")
    settled(daemon, "g", state="stopping")
    daemon.restart(signal.SIGKILL)
    stopping.communicate()
    assert daemon.show("g")["state"] == "stopping"
    settled(daemon, "g", state="stopped", reason="killed")


def test_mute_guest_beside_a_good_one(daemon, fake):
    """A mute guest does not keep the daemon from its work, and is told of."""
    start(daemon, "good", fake.config())
    view = start(daemon, "mute", fake.config())
    os.kill(view["pid"], signal.SIGSTOP)
    daemon.restart(signal.SIGKILL)
    assert daemon.show("good")["hung"] is False
    view = daemon.show("mute")
    assert (view["state"], view["hung"]) == ("running", True)
    os.kill(view["pid"], signal.SIGCONT)
    view = settled(daemon, "mute", hung=False)
    assert view["ssh"]["port"] > 0


def test_pen_stays_where_it_is(daemon, fake):
    """Whoever wrote on a console does so behind a restart, whoever is back first."""
    start(daemon, "g", fake.config())

    def modes():
        with daemon.connect() as c:
            return {v["pid"]: v["mode"] for v in c.call("console-who", guest="g")["viewers"]}

    writer = daemon.ctl_start("console", "g", stdin=subprocess.PIPE)
    wait_until(lambda: modes() == {writer.pid: "write"}, "it writes")
    readers = [daemon.ctl_start("console", "g") for _ in range(6)]
    wanted = {writer.pid: "write", **{r.pid: "read-only" for r in readers}}
    wait_until(lambda: modes() == wanted, "they read")
    for _ in range(4):
        daemon.restart(signal.SIGKILL)
        wait_until(lambda: len(modes()) == 7, "all are back")
        assert modes() == wanted
    daemon.ctl("kill", "g")
    for p in [writer, *readers]:
        p.communicate(timeout=HANG)


@pytest.mark.parametrize("what", ["stopped", "ssh", "console=never"])
def test_wait_keeps_its_time_without_a_daemon(daemon, fake, what):
    start(daemon, "g", fake.config())
    before = len(daemon.fds())
    waiting = daemon.ctl_start("wait", "g", "--for", what, "--timeout", "5", text=True)
    wait_until(lambda: len(daemon.fds()) > before, "it asks")
    time.sleep(1)  # a connection that has not lived is not waited for
    daemon.stop()
    _, told = waiting.communicate()
    assert waiting.returncode == 124, told
    assert "the daemon went away" in told and "in time" in told
    daemon.start()


def fd_of(pid, fd):
    """Another process's descriptor, as one of ours."""
    with open(os.pidfd_open(pid)) as pidfd:
        got = ctypes.CDLL(None, use_errno=True).syscall(438, pidfd.fileno(), fd, 0)  # pidfd_getfd
    if got < 0:
        pytest.skip(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
    return got


def test_ended_while_it_is_taken_back(daemon, fake):
    """Its end is seen before that of its monitor: the daemon is ready all the same."""
    pid = start(daemon, "g", fake.config())["pid"]
    stopped(pid)
    daemon.stop(signal.SIGKILL)
    with socket.socket(fileno=fd_of(pid, 3)) as monitor:  # it outlives QEMU
        daemon.spawn()
        assert select.select([monitor], [], [], HANG)[0], "the daemon connects"
        os.kill(pid, signal.SIGKILL)
        wait_until(daemon.answers, "the daemon is ready")
    view = settled(daemon, "g", state="stopped")
    assert (view["reason"], view["pid"]) == ("lost", None)
    daemon.ctl("start", "g")


def test_ended_while_away(daemon, fake):
    view = start(daemon, "g", fake.config())
    asked = start(daemon, "asked", fake.config("ignore-powerdown"))
    with daemon.connect() as c:
        c.send("guest-stop", guest="asked")
        settled(daemon, "asked", state="stopping")
    daemon.stop(signal.SIGKILL)
    for pid in (view["pid"], asked["pid"]):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid), "the guest ends")
    daemon.start()
    view = daemon.show("g")
    assert (view["state"], view["reason"], view["exit"]) == ("stopped", "lost", None)
    assert daemon.show("asked")["reason"] == "stopped"
    daemon.restart()
    assert daemon.show("g")["reason"] == "lost"


def test_host_went_down(daemon, fake):
    """As after a power cut: the record is of another boot of the host, and nothing of it lives."""
    view = start(daemon, "g", fake.config(restart="on-failure"))
    daemon.stop(signal.SIGKILL)
    os.kill(view["pid"], signal.SIGKILL)
    wait_until(lambda: not alive(view["pid"]), "the guest ends")
    record = daemon.guests / "g/logs/0001.run.json"
    boot_id = json.loads(record.read_text())["boot_id"]
    record.write_text(record.read_text().replace(boot_id, "0" * 8 + boot_id[8:]))
    daemon.start()
    view = daemon.show("g")
    assert (view["state"], view["reason"], view["exit"]) == ("stopped", "host-shutdown", None)
    assert view["error"] == "the host went down while it ran"
    daemon.restart()
    assert daemon.show("g")["reason"] == "host-shutdown"
    daemon.ctl("start", "g")
    assert daemon.show("g")["run"] == 2


def test_two_daemons_on_one_folder(daemon, fake, tmp_path):
    start(daemon, "g", fake.config())
    (tmp_path / "second").mkdir()
    second = Daemon(tmp_path / "second", guests=daemon.guests)
    second.spawn()
    assert second.process.wait(60) != 0
    assert f"another cijqemud (pid {daemon.pid}) serves" in second.log_text()
    assert daemon.show("g")["state"] == "running"
