"""What breaks, breaks alone, and is told of as it is."""

import os
import pathlib
import resource
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time

import pytest

from harness import BUILD, ROOT, Daemon, FakeQemu, alive, cpu_seconds, wait_until


def settled(daemon, name, **wanted):
    """Waits until the guest's view has these values; returns it."""
    def there():
        view = daemon.show(name)
        return view if all(view[k] == v for k, v in wanted.items()) else None
    return wait_until(there, f"{name} is {wanted}")


def free_ports(n):
    socks = [socket.socket() for _ in range(n)]
    for s in socks:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in socks]
    for s in socks:
        s.close()
    return ports


def children(pid):
    return subprocess.run(["ps", "-o", "stat=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()


# How a guest ends


@pytest.mark.parametrize("sig, name", [(signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV"), (signal.SIGABRT, "SIGABRT")])
def test_guest_killed(daemon, tiny, sig, name):
    daemon.folder("g", tiny.config)
    daemon.ctl("start", "g")
    os.kill(daemon.show("g")["pid"], sig)
    view = settled(daemon, "g", state="stopped")
    assert (view["reason"], view["exit"]) == ("crashed", {"signal": int(sig), "name": name})
    assert f"guest 'g': crashed, signal {int(sig)}" in daemon.log_text()
    assert children(daemon.pid) == []
    status = daemon.ctl("status", "g", code=3)
    assert f"crashed: {name}" in status.stdout


def test_last_words_and_exit_code(daemon, fake):
    daemon.folder("g", fake.config("at=stop:exit"))
    daemon.ctl("start", "g")
    daemon.ctl("pause", "g", code=None)
    view = settled(daemon, "g", state="stopped")
    assert (view["reason"], view["exit"]) == ("crashed", {"code": 1})
    assert view["error"] == "fake_qemu: told to exit at stop"


def test_ended_from_outside_in_good_order(daemon, tiny):
    """SIGTERM from somebody, or 'quit' on its monitor: ended, and not by the guest; no crash."""
    daemon.folder("g", tiny.config)
    daemon.ctl("start", "g")
    os.kill(daemon.show("g")["pid"], signal.SIGTERM)
    assert settled(daemon, "g", state="stopped")["reason"] == "killed"


def test_guest_panics(daemon, tiny):
    daemon.folder("g", tiny.config)
    daemon.ctl("start", "g", "--wait=ssh")
    daemon.ctl("exec", "g", "--", "(sleep 0.3; echo c > /proc/sysrq-trigger) >/dev/null 2>&1 &")
    view = settled(daemon, "g", state="stopped")
    assert view["reason"] == "panicked"


def test_guest_powers_off_and_reboots_itself(daemon, tiny):
    """What a guest does by itself is no failure: policy on-failure leaves it alone."""
    daemon.folder("g", {**tiny.config, "restart": "on-failure"})
    daemon.ctl("start", "g", "--wait=ssh")
    pid = daemon.show("g")["pid"]
    daemon.ctl("exec", "g", "--", "setsid sh -c 'sleep 0.3; reboot -f' >/dev/null 2>&1 </dev/null &")
    try:
        wait_until(lambda: daemon.show("g")["resets"] >= 1, "the reset is seen")
    except AssertionError as e:
        console = (daemon.guests / "g/console.log").read_text(errors="replace")
        raise AssertionError(f"{e}\n{daemon.show('g')}\n{daemon.log_text()[-2000:]}\n{console[-2000:]}") from None
    view = settled(daemon, "g", ready=True)
    # One reset, though its BIOS does it twice.
    assert (view["pid"], view["restarts"], view["resets"], view["reset_loop"]) == (pid, 0, 1, False)
    daemon.ctl("exec", "g", "--", "setsid sh -c 'sleep 0.3; poweroff -f' >/dev/null 2>&1 </dev/null &")
    view = settled(daemon, "g", state="stopped")
    assert (view["reason"], view["exit"], view["restart_in_s"]) == ("guest-shutdown", {"code": 0}, None)


def test_guest_goes_on_as_another_kernel(daemon, tiny, tmp_path):
    """kexec: no reset that QEMU would tell of, and no failure; the same run, console and port go on."""
    subprocess.run(["cc", "-static", "-O2", "-o", tmp_path / "kexec", ROOT / "tests/guest/kexec.c"], check=True)
    folder = daemon.folder("g", {**tiny.config, "memory": "384M", "restart": "always",
                                 "devices": [{"id": "nvme0", "type": "nvme", "size": "64M"}]})
    # What it needs comes on a drive, at each 24 MiB: SSH would take longer than the boot.
    with open(folder / "nvme0.img", "wb") as drive:
        for i, file in enumerate((tiny.dir / "bzImage", tiny.dir / "initrd.img", tmp_path / "kexec")):
            assert os.stat(file).st_size < 24 << 20
            drive.seek(i * 24 << 20)
            drive.write(file.read_bytes())
        drive.truncate(64 << 20)
    daemon.ctl("start", "g", "--wait=ssh")
    before = daemon.show("g")
    boot_id = daemon.ctl("exec", "g", "--", "cat /proc/sys/kernel/random/boot_id").stdout
    daemon.ctl("exec", "g", "--", "cd /tmp; for i in 0 1 2; do dd if=/dev/nvme0n1 of=$i bs=1M skip=$((i * 24)) count=24; "
               "done; chmod +x 2; ./2 0 1 console=ttyS0")
    log = folder / "logs/0001.out"
    wait_until(lambda: log.read_bytes().count(b"tiny guest ready") == 2, "the other kernel is up")
    assert daemon.ctl("exec", "g", "--", "cat /proc/sys/kernel/random/boot_id").stdout != boot_id
    view = daemon.show("g")
    assert {k: view[k] for k in ("state", "pid", "run", "ssh", "restarts", "resets", "hung", "reset_loop")} == {
        **{k: before[k] for k in ("state", "pid", "run", "ssh")}, "restarts": 0, "resets": 0, "hung": False,
        "reset_loop": False}
    daemon.ctl("stop", "g")
    assert daemon.show("g")["reason"] == "stopped"


def test_reset_loop(daemon):
    """What faults as soon as it boots, over and over, is running and not well."""
    folder = daemon.folder("g", {"memory": "64M", "boot": {"image": "boot.img", "format": "raw"}})
    # cli; lidt [0x7c10], of zeros; int3: no handler, nor one for the fault that this is
    fault = bytes.fromhex("fa 0f 01 1e 10 7c cc f4")
    (folder / "boot.img").write_bytes(fault.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    daemon.ctl("start", "g")
    view = settled(daemon, "g", reset_loop=True)
    assert view["state"] == "running" and view["resets"] >= 3 and not view["ready"]
    assert "resets itself over and over" in daemon.ctl("list").stdout
    assert "triple fault" in daemon.log_text()


# Starting again


def test_restart_on_failure(daemon, fake):
    daemon.folder("g", fake.config(restart="on-failure"))
    daemon.ctl("start", "g")
    first = daemon.show("g")
    os.kill(first["pid"], signal.SIGKILL)
    view = settled(daemon, "g", state="stopped")
    assert view["restart_in_s"] is not None
    assert "starts again in" in daemon.ctl("status", "g", code=3).stdout
    daemon.ctl("wait", "g", "--for", "running")
    view = daemon.show("g")
    assert (view["restarts"], view["run"]) == (1, 2) and view["pid"] != first["pid"]
    # A stop is a stop.
    daemon.ctl("kill", "g")
    view = daemon.show("g")
    assert (view["state"], view["restart_in_s"]) == ("stopped", None)


def test_restart_always(daemon, fake):
    daemon.folder("g", fake.config(restart="always"))
    daemon.ctl("start", "g")
    daemon.ctl("qmp", "g", "quit", code=None)
    settled(daemon, "g", state="running", restarts=1)
    daemon.ctl("stop", "g")
    time.sleep(1.5)
    assert daemon.show("g")["state"] == "stopped"


def test_restart_gives_up(daemon, fake):
    """A guest that never works is not started for ever, and that is said."""
    daemon.folder("g", fake.config("at=cont:crash", restart="on-failure"))
    daemon.ctl("start", "g", code=1)
    assert daemon.show("g")["restart_in_s"] is None  # whoever started it was told, and may try again
    daemon.ctl("kill", "g")
    fake.tell()
    daemon.folder("g", fake.config(restart="on-failure"))
    daemon.ctl("start", "g")
    fake.tell("at=cont:crash")
    os.kill(daemon.show("g")["pid"], signal.SIGKILL)
    view = settled(daemon, "g", gave_up=True)
    assert (view["state"], view["restarts"], view["restart_in_s"]) == ("stopped", 4, None)
    assert "not started again: 5 failures within 10 minutes" in daemon.log_text()
    assert "not started again after so many failures" in daemon.ctl("status", "g", code=3).stdout
    daemon.restart()
    assert daemon.show("g")["gave_up"] is True
    fake.tell()
    daemon.ctl("start", "g")
    view = daemon.show("g")
    assert (view["state"], view["restarts"], view["gave_up"]) == ("running", 0, False)


def test_restart_is_not_lost_with_the_daemon(daemon, fake):
    daemon.folder("waits", fake.config(restart="on-failure"))
    daemon.folder("dies", fake.config(restart="on-failure"))
    daemon.folder("stopped", fake.config(restart="always"))
    for name in ("waits", "dies", "stopped"):
        daemon.ctl("start", name)
    os.kill(daemon.show("waits")["pid"], signal.SIGKILL)
    settled(daemon, "waits", state="stopped")
    daemon.ctl("kill", "stopped")
    pid = daemon.show("dies")["pid"]
    daemon.stop(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), "the guest ends")
    daemon.start()
    settled(daemon, "waits", state="running", restarts=1)
    settled(daemon, "dies", state="running", restarts=1)
    assert daemon.show("stopped")["state"] == "stopped"


def test_stop_cancels_a_restart(daemon, fake):
    daemon.folder("g", fake.config(restart="on-failure"))
    daemon.ctl("start", "g")
    for _ in range(2):  # the second delay is long enough to be met
        os.kill(daemon.show("g")["pid"], signal.SIGKILL)
        settled(daemon, "g", state="stopped")
        if _ == 0:
            daemon.ctl("wait", "g", "--for", "running")
    daemon.ctl("stop", "g")
    view = daemon.show("g")
    assert (view["state"], view["restart_in_s"]) == ("stopped", None)
    time.sleep(2.5)
    assert daemon.show("g")["state"] == "stopped"


# Mute and garbage


@pytest.mark.parametrize("word", ["at=query-status:garbage", "at=query-status:close"])
def test_monitor_that_talks_garbage(daemon, fake, word):
    """The connection is given up and made anew; the guest is none of the worse for it."""
    daemon.folder("good", fake.config())
    daemon.folder("g", fake.config(word))
    daemon.ctl("start", "good")
    daemon.ctl("start", "g")
    daemon.ctl("qmp", "g", "query-status", code=1)
    view = daemon.show("g")
    assert view["state"] == "running" and alive(view["pid"])
    daemon.ctl("qmp", "good", "query-status")
    wait_until(lambda: daemon.ctl("qmp", "g", "query-name", code=None).returncode == 0, "a new connection")
    daemon.ctl("kill", "g")


@pytest.mark.long
def test_hung_and_cleared(daemon, tiny):
    daemon.folder("g", tiny.config)
    daemon.ctl("start", "g")
    pid = daemon.show("g")["pid"]
    os.kill(pid, signal.SIGSTOP)
    view = settled(daemon, "g", hung=True)
    assert (view["state"], view["pid"]) == ("running", pid)
    assert "hung" in daemon.ctl("list").stdout
    os.kill(pid, signal.SIGCONT)
    settled(daemon, "g", hung=False)
    text = daemon.log_text()
    assert text.count("does not answer") == 1 and text.count("answers again") == 1


@pytest.mark.long
def test_mute_is_seen_soon(daemon, fake, tmp_path):
    """A monitor is asked several times in the 10 s that one has to answer: 'hung' is told soon after them."""
    log = tmp_path / "qmp.log"
    daemon.folder("mute", fake.config())
    daemon.folder("well", fake.config(f"qmp-log={log}"))
    daemon.ctl("start", "mute", "well")

    def asked():
        return log.read_text().count("query-status")

    first = asked()
    wait_until(lambda: asked() > first, "the monitors are asked")
    before = asked()
    os.kill(daemon.show("mute")["pid"], signal.SIGSTOP)
    settled(daemon, "mute", hung=True)
    assert asked() - before >= 4
    os.kill(daemon.show("mute")["pid"], signal.SIGCONT)
    settled(daemon, "mute", hung=False)


@pytest.mark.long
def test_stopped_daemon_wakes_calm(daemon, fake):
    """After SIGSTOP and SIGCONT nothing is taken for hung, and nothing spins."""
    for name in "abc":
        daemon.folder(name, fake.config())
        daemon.ctl("start", name)
    os.kill(daemon.pid, signal.SIGSTOP)
    time.sleep(25)
    os.kill(daemon.pid, signal.SIGCONT)
    time.sleep(0.5)
    assert [v["hung"] for v in daemon.json("list")] == [False] * 3
    before = cpu_seconds(daemon.pid)
    time.sleep(5)
    assert cpu_seconds(daemon.pid) - before < 0.5
    assert "does not answer" not in daemon.log_text()


# Resources


def test_no_zombies_no_descriptors_lost(daemon, fake):
    def once():
        daemon.ctl("start", "g")
        daemon.ctl("kill", "g")

    daemon.folder("g", fake.config())
    once()
    with daemon.connect():  # greeted, so that the clients before it are gone
        before = len(daemon.fds())
        for _ in range(5):
            once()
        wait_until(lambda: len(daemon.fds()) <= before, f"{daemon.fds()} are as few as before")
    assert children(daemon.pid) == []


def test_descriptors_exhausted(daemon, fake):
    """It goes on when it gets some back, and the guest never noticed."""
    daemon.folder("g", fake.config())
    daemon.folder("h", fake.config())
    daemon.ctl("start", "g")
    hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (len(daemon.fds()) + 12, hard))
    clients = []
    for _ in range(40):
        c = socket.socket(socket.AF_UNIX)
        c.settimeout(5)
        c.connect(str(daemon.socket))
        clients.append(c)
    wait_until(lambda: "cannot accept a connection" in daemon.log_text(), "it says so")
    before = cpu_seconds(daemon.pid)
    time.sleep(2)
    assert cpu_seconds(daemon.pid) - before < 0.5
    for c in clients:
        c.close()
    view = daemon.show("g")
    assert view["state"] == "running"
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (len(daemon.fds()) + 2, hard))
    done = daemon.ctl("start", "h", code=None)
    assert done.returncode != 0 and "open files" in done.stderr, done.stderr
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))
    daemon.ctl("start", "h")
    assert daemon.show("g")["pid"] == view["pid"]


def as_nobody(base):
    """A daemon of another user, for limits that do not hold for root."""
    base.chmod(0o755)
    daemon = Daemon(base)
    for folder in (base, daemon.guests):
        os.chown(folder, 65534, 65534)
    return daemon


@pytest.mark.skipif(os.geteuid() != 0, reason="this machine cannot: needs root to become another user")
def test_fork_fails():
    base = pathlib.Path(tempfile.mkdtemp(dir="/var/tmp"))
    daemon = as_nobody(base)
    fake = FakeQemu(base / "qemu")
    config = fake.config()

    def limit_processes(soft):
        subprocess.run(["prlimit", "--pid", str(daemon.pid), f"--nproc={soft}"], check=True, user=65534, group=65534,
                       extra_groups=[])

    try:
        with open(daemon.log, "ab") as log:
            daemon.process = subprocess.Popen(
                [BUILD / "cijqemud", "--guests", daemon.guests, "--run-dir", daemon.run, "--state-dir", daemon.state],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=daemon.env, user=65534, group=65534,
                extra_groups=[])
        wait_until(daemon.answers, "the daemon answers")
        daemon.folder("g", config)
        os.chown(daemon.guests / "g", 65534, 65534)
        daemon.ctl("start", "g")  # what the QEMU can do is known from here on
        daemon.ctl("kill", "g")
        limit_processes("1:")
        done = daemon.ctl("start", "g", code=None)
        if done.returncode == 0:
            pytest.skip("this machine cannot: RLIMIT_NPROC does not hold here")
        assert done.returncode == 75 and "cannot start a process" in done.stderr, done.stderr
        assert daemon.show("g")["reason"] == "start-failed"
        limit_processes("1000:")
        daemon.ctl("start", "g")
    finally:
        daemon.close()
        shutil.rmtree(base)


@pytest.fixture
def small_disk(tmp_path):
    """A guests' folder on a file system of 8 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True)
    if done.returncode != 0:
        pytest.skip("this machine cannot: mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_disk_full(small_disk, tmp_path, fake):
    """A full disk stops neither the guest nor the daemon; a start that has no room says so."""
    daemon = Daemon(tmp_path, guests=small_disk)
    try:
        daemon.start()
        daemon.folder("g", fake.config("flood=400000"))
        daemon.ctl("start", "g")
        wait_until(lambda: shutil.disk_usage(small_disk).free == 0, "the disk is full")
        view = daemon.show("g")
        assert view["state"] == "running"
        daemon.ctl("qmp", "g", "query-status")
        daemon.ctl("kill", "g")
        view = daemon.show("g")
        assert (view["state"], view["reason"]) == ("stopped", "killed")
        done = daemon.ctl("start", "g", code=None)
        assert done.returncode == 75 and ("No space left" in done.stderr or "no disk for" in done.stderr), done.stderr
        for log in small_disk.glob("g/logs/*"):
            log.unlink()
        daemon.ctl("start", "g")
    finally:
        daemon.close()


def test_read_only_guests_folder(small_disk, tmp_path, fake):
    daemon = Daemon(tmp_path, guests=small_disk)
    try:
        daemon.start()
        daemon.folder("g", fake.config())
        daemon.folder("h", fake.config())
        daemon.ctl("start", "g")
        pid = daemon.show("g")["pid"]
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=False)
        if os.access(small_disk, os.W_OK):
            # The guest writes there: only a new mount over it can be read-only.
            subprocess.run(["mount", "--bind", small_disk, small_disk], check=True)
            subprocess.run(["mount", "-o", "remount,ro,bind", small_disk], check=True)
        daemon.restart(signal.SIGKILL)
        view = daemon.show("g")
        assert (view["state"], view["pid"]) == ("running", pid)
        done = daemon.ctl("start", "h", code=75)
        assert "Read-only file system" in done.stderr
        daemon.ctl("create", "new", "--kernel", fake.home / "bzImage", code=75)
        daemon.ctl("kill", "g")
        wait_until(lambda: not alive(pid), "the guest ends")
        assert daemon.show("g")["state"] == "stopped"
    finally:
        daemon.close()
        subprocess.run(["umount", "-l", small_disk], capture_output=True)


@pytest.mark.parametrize("what", ["socket", "folder", "renamed"])
def test_control_socket_removed(daemon, fake, what):
    """The daemon notices, and is there again without a restart."""
    daemon.folder("g", fake.config())
    daemon.ctl("start", "g")
    with daemon.connect() as c:
        if what == "socket":
            daemon.socket.unlink()
            (daemon.run / "cijqemud-ro.sock").unlink()
        elif what == "folder":
            shutil.rmtree(daemon.run)
        else:
            daemon.run.rename(daemon.base / "elsewhere")
        wait_until(daemon.answers, "the socket is there again")
        assert daemon.show("g")["state"] == "running"
        assert c.call("query-guest", guest="g")["state"] == "running"  # who was connected stays so
    assert stat.S_IMODE(os.stat(daemon.socket).st_mode) in (0o600, 0o660)
    wait_until(lambda: (daemon.run / "cijqemud-ro.sock").exists(), "the other socket, too")
    daemon.restart(signal.SIGKILL)
    assert daemon.show("g")["hung"] is False
    daemon.ctl("kill", "g")
    daemon.ctl("start", "g")


def test_two_daemons_on_one_run_dir(daemon, tmp_path):
    (tmp_path / "second").mkdir()
    second = Daemon(tmp_path / "second")
    second.run = daemon.run
    second.spawn()
    assert second.process.wait(60) != 0
    assert "another cijqemud has its sockets in" in second.log_text()
    daemon.json("list")


def test_check(daemon, tmp_path):
    """--check changes nothing, also beside a daemon that runs, and its exit code tells."""
    def check(*options):
        return subprocess.run([BUILD / "cijqemud", "--check", *options], capture_output=True, text=True, env=daemon.env)
    daemon.folder("g")
    done = check("--guests", daemon.guests, "--run-dir", tmp_path / "new", "--state-dir", tmp_path / "new2")
    assert done.returncode == 0, done.stdout
    assert "1 folders" in done.stdout and "a cijqemud serves" in done.stdout and "will be made" in done.stdout
    assert not (tmp_path / "new").exists()
    done = check("--guests", tmp_path / "none", "--run-dir", tmp_path / "new")
    assert done.returncode == 78 and f"mkdir -p {tmp_path}/none" in done.stdout
    daemon.json("list")


# A start that is cut short: the stand-in dies, or the daemon does, at each step

POINTS = ["start", "pidfile", "greeting", "capabilities", "hostfwd_add", "cont"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("deed", ["exit", "crash"])
def test_qemu_ends_at_each_step_of_a_start(daemon, fake, point, deed):
    daemon.folder("g", fake.config(f"at={point}:{deed}"))
    done = daemon.ctl("start", "g", code=1)
    assert "guest 'g' did not start" in done.stderr and f"told to {deed} at {point}" in done.stderr
    view = daemon.show("g")
    assert (view["state"], view["reason"]) == ("stopped", "start-failed")
    assert view["exit"] == ({"code": 1} if deed == "exit" else {"signal": 11, "name": "SIGSEGV"})
    daemon.folder("g", fake.config())
    daemon.ctl("start", "g")
    assert daemon.show("g")["ssh"]["port"] > 0


@pytest.mark.parametrize("point, paused", [
    (point, paused) for point in POINTS for paused in (False, True) if not (paused and point == "cont")])
def test_daemon_ends_at_each_step_of_a_start(daemon, fake, point, paused):
    """The next daemon finishes the start of a QEMU that had come as far as that."""
    forward = [{"host": port, "guest": 80 + i} for i, port in enumerate(free_ports(2))]
    config = fake.config(f"at={point}:sleep", forward=forward)
    daemon.folder("g", config)
    starting = daemon.ctl_start("start", "g", *(["--paused"] if paused else []))
    log = daemon.guests / "g/logs/0001.qemu"
    wait_until(lambda: log.exists() and f"sleeps at {point}" in log.read_text(), "it sleeps there")
    daemon.stop(signal.SIGKILL)
    starting.communicate()
    daemon.start()
    view = settled(daemon, "g", state="paused" if paused else "running")
    assert view["run"] == 1 and view["ssh"]["port"] > 0 and view["pid"] > 0
    usernet = daemon.ctl("monitor", "g", "info", "usernet").stdout
    assert usernet.count("HOST_FORWARD") == 3, usernet
    daemon.ctl("kill", "g")


def test_a_daemon_that_is_stopped_says_no_guest_is_gone(daemon, fake):
    """What it had begun is told as what it is, to those who read the history later."""
    daemon.folder("g", fake.config("at=greeting:sleep"))
    starting = daemon.ctl_start("start", "g")
    settled(daemon, "g", state="starting")
    daemon.restart()
    starting.communicate()
    told = [e for e in daemon.connect().call("query-history", guests=["g"]) if e["operation"] == "guest-start"]
    assert len(told) == 1 and "stopped meanwhile" in str(told[0]), told
    daemon.ctl("kill", "g")


def test_a_guest_ended_as_soon_as_begun_ends_no_daemon(daemon, fake):
    """The signal that is for a QEMU of a moment's age."""
    daemon.folder("g", fake.config())
    with daemon.connect() as c:
        for i in range(20):
            c.send_raw('{"execute": "guest-start", "arguments": {"guest": "g"}, "id": 1}\n'
                       '{"execute": "guest-stop", "arguments": {"guest": "g", "force_after": 0}, "id": 2}\n')
            assert {c.read()["id"], c.read()["id"]} == {1, 2}
    assert daemon.process.poll() is None, daemon.log_text()
    assert settled(daemon, "g", state="stopped")["pid"] is None
    wait_until(lambda: not children(daemon.pid), "all are reaped")


@pytest.mark.parametrize("times", [30])
def test_daemon_ends_at_any_moment_of_a_start(daemon, fake, times):
    """Whatever the moment: never a QEMU that nobody knows of, and a start works afterwards."""
    daemon.folder("g", fake.config())
    for i in range(times):
        starting = daemon.ctl_start("start", "g")
        time.sleep(0.0015 * i)
        daemon.restart(signal.SIGKILL)
        starting.communicate()
        view = wait_until(lambda: (v := daemon.show("g"))["state"] in ("running", "stopped") and v, "a true state")
        running = daemon.qemu_pids()
        assert running == ([view["pid"]] if view["state"] == "running" else []), (i, view)
        if view["state"] == "stopped":
            assert view["reason"] in ("never-started", "start-failed", "killed"), (i, view["reason"], view["error"], view["run"])
        daemon.ctl("start", "g")
        daemon.ctl("kill", "g")
