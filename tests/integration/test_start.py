"""Guests from folders, started, stopped, paused, reset and waited for: the real guest and QEMU."""

import os
import re
import signal
import socket
import subprocess
import threading

import pytest

from harness import BUILD, HANG, Daemon, alive, wait_until
from terminal import Terminal


def test_a_folder_with_a_kernel_is_a_guest(daemon, tiny):
    """No guest.json at all: what boots is found by name."""
    folder = daemon.folder("emujoe")
    os.link(tiny.dir / "bzImage", folder / "bzImage")
    os.link(tiny.dir / "initrd.img", folder / "initrd.img")
    assert daemon.show("emujoe")["state"] == "stopped"
    assert daemon.show("emujoe")["reason"] == "never-started"
    daemon.ctl("start", "emujoe", "--wait=ssh", "--timeout", "120")
    view = daemon.show("emujoe")
    assert view["state"] == "running" and view["ready"] and view["boot_ms"] > 0
    assert view["accel"]["used"] == "tcg" or os.path.exists("/dev/kvm")
    assert view["accel"]["why"]
    assert view["memory_bytes"] == 2 << 30 and view["cpus"] == 2
    assert view["run"] == 1 and view["uptime_s"] >= 0 and view["exit"] is None
    assert alive(view["pid"])
    done = daemon.ctl("stop", "emujoe")
    assert "powered off" in done.stderr
    assert not alive(view["pid"])
    view = daemon.show("emujoe")
    assert (view["state"], view["reason"], view["exit"]) == ("stopped", "stopped", {"code": 0})
    assert view["pid"] is None and view["ssh"] is None


def test_files_that_come_later_are_found_too(daemon, tiny):
    """One at a time, the daemon looking on: nothing else tells it that an initrd has come."""
    folder = daemon.folder("emujoe")
    os.link(tiny.dir / "bzImage", folder / "bzImage")
    os.utime(folder, (1, 1))  # nothing has changed here for long
    assert "-initrd" not in daemon.ctl("argv", "emujoe").stdout
    os.link(tiny.dir / "initrd.img", folder / "initrd.img")
    assert "-initrd initrd.img" in daemon.ctl("argv", "emujoe").stdout
    (folder / "boot.img").touch()  # within the same tick of the clock, perhaps
    assert "boot.img" in daemon.ctl("argv", "emujoe").stdout
    (folder / "boot.img").unlink()
    (folder / "initrd.img").unlink()
    said = daemon.ctl("argv", "emujoe").stdout
    assert "-initrd" not in said and "boot.img" not in said


def test_two_guests_side_by_side(daemon, tiny):
    for name in ("a", "b"):
        daemon.folder(name, {**tiny.config, "devices": [{"id": "nvme0", "type": "nvme", "size": "16M"}]})
    done = daemon.ctl("start", "a", "b", "--wait=ssh", timeout=HANG * 2)
    assert "a: running" in done.stderr and "b: running" in done.stderr
    ports = {daemon.show(name)["ssh"]["port"] for name in ("a", "b")}
    assert len(ports) == 2
    for name in ("a", "b"):
        daemon.ctl("exec", name, "--", f"echo {name} > /tmp/me; hostname {name}")
    for name in ("a", "b"):
        assert daemon.ctl("exec", name, "--", "cat", "/tmp/me").stdout == name + "\n"
        assert "/dev/nvme0n1" in daemon.ctl("exec", name, "--", "nvme", "list").stdout
    daemon.ctl("stop", "--all")
    assert {g["state"] for g in daemon.json("list")} == {"stopped"}


def test_guest_powers_itself_off(booted_alone):
    d = booted_alone
    d.ctl("exec", "tiny", "--", "poweroff -f &", code=None)
    d.ctl("wait", "tiny", "--for", "stopped")
    view = d.show("tiny")
    assert (view["state"], view["reason"], view["exit"]) == ("stopped", "guest-shutdown", {"code": 0})
    assert view["error"] is None


@pytest.fixture
def booted_alone(daemon, tiny):
    daemon.folder("tiny", tiny.config)
    daemon.ctl("start", "tiny", "--wait=ssh")
    return daemon


def test_killed_from_outside_is_a_crash(booted_alone):
    d = booted_alone
    os.kill(d.show("tiny")["pid"], signal.SIGSEGV)
    d.ctl("wait", "tiny", "--for", "stopped")
    view = d.show("tiny")
    assert (view["state"], view["reason"]) == ("stopped", "crashed")
    assert view["exit"] == {"signal": 11, "name": "SIGSEGV"}


def test_reset_boots_again(booted_alone):
    d = booted_alone
    d.ctl("exec", "tiny", "--", "touch /tmp/mark")
    pid = d.show("tiny")["pid"]
    d.ctl("reset", "tiny")
    wait_until(lambda: not d.show("tiny")["ready"] or
               d.ctl("exec", "tiny", "--", "ls /tmp/mark", code=None).returncode != 0, "it boots anew")
    d.ctl("wait", "tiny", "--for", "ssh")
    assert d.ctl("exec", "tiny", "--", "ls /tmp/mark", code=None).returncode != 0
    assert d.show("tiny")["pid"] == pid


def test_pause_and_resume(booted):
    booted.ctl("pause", "tiny")
    try:
        assert booted.show("tiny")["state"] == "paused"
        booted.ctl("pause", "tiny")  # it is so already
    finally:
        booted.ctl("resume", "tiny")
    assert booted.show("tiny")["state"] == "running"
    booted.ctl("resume", "tiny")
    assert booted.ctl("exec", "tiny", "--", "echo", "on").stdout == "on\n"


def test_start_and_stop_twice(daemon, fake):
    daemon.folder("g", fake.config())
    daemon.ctl("start", "g")
    done = daemon.ctl("start", "g")
    assert "running already" in done.stderr
    daemon.ctl("stop", "g")
    done = daemon.ctl("stop", "g")
    assert "stopped already" in done.stderr
    assert "stopped already" in daemon.ctl("kill", "g").stderr
    # What makes no sense is refused, and says in which state the guest is.
    for command in ("pause", "resume", "reset"):
        assert "stopped" in daemon.ctl(command, "g", code=75).stderr


def test_stop_by_force(daemon, fake):
    daemon.folder("g", fake.config("ignore-powerdown"))
    daemon.ctl("start", "g")
    done = daemon.ctl("stop", "g", "--force-after", "0.5")
    assert "killed" in done.stderr
    assert daemon.show("g")["reason"] == "killed"


def test_kill_of_one_that_ignores_term(daemon, fake):
    daemon.folder("g", fake.config("ignore-powerdown", "ignore-term"))
    daemon.ctl("start", "g")
    daemon.ctl("kill", "g")
    view = daemon.show("g")
    assert (view["state"], view["reason"]) == ("stopped", "killed")


def test_restart_takes_the_new_definition(daemon, fake):
    daemon.folder("g", fake.config())
    daemon.ctl("start", "g")
    pid = daemon.show("g")["pid"]
    assert "next start" in daemon.ctl("set", "g", "memory=128M").stderr
    assert daemon.show("g")["memory_bytes"] == 64 << 20
    daemon.ctl("restart", "g")
    view = daemon.show("g")
    assert view["memory_bytes"] == 128 << 20 and view["pid"] != pid and view["run"] == 2
    daemon.ctl("stop", "g")
    daemon.ctl("restart", "g")  # of a stopped one: a start
    assert daemon.show("g")["state"] == "running"


def test_start_paused(daemon, fake):
    daemon.folder("g", fake.config())
    daemon.ctl("start", "g", "--paused")
    assert daemon.show("g")["state"] == "paused"
    daemon.ctl("resume", "g")
    assert daemon.show("g")["state"] == "running"


def test_globs_and_first_failure(daemon, fake):
    daemon.folder("good1", fake.config())
    daemon.folder("good2", fake.config())
    daemon.folder("bad1", "{")
    done = daemon.ctl("start", "good*", "bad1", code=78)
    assert "bad1" in done.stderr
    states = {g["guest"]: g["state"] for g in daemon.json("list")}
    assert states == {"bad1": "broken", "good1": "running", "good2": "running"}
    views = daemon.json("stop", "good*")
    assert [v["state"] for v in views] == ["stopped", "stopped"]


def test_status_codes(daemon, fake):
    daemon.folder("g", fake.config())
    assert daemon.ctl("status", "g", code=3).stdout.startswith("g: stopped")
    daemon.ctl("start", "g")
    assert daemon.ctl("status", "g").stdout.startswith("g: running")
    daemon.ctl("status", "h", code=4)
    daemon.stop()
    daemon.ctl("status", "g", code=69)


def test_default_guest_by_environment(daemon, fake):
    daemon.folder("g", fake.config())
    daemon.ctl("start", env={"QEMU_GUEST_NAME": "g"})
    assert "running" in daemon.ctl("status", env={"QEMU_GUEST_NAME": "g"}).stdout


def test_waits(daemon, fake):
    daemon.folder("g", fake.config("ssh"))
    done = daemon.ctl("wait", "g", "--for", "running", "--timeout", "0.3", code=124)
    assert "stopped" in done.stderr
    waiting = daemon.ctl_start("wait", "g", "--for", "ssh", "--timeout", "0")
    daemon.ctl("start", "g")
    assert waiting.wait(HANG) == 0
    waiting.communicate()
    daemon.ctl("wait", "g", "--for", "running")
    waiting = daemon.ctl_start("wait", "g", "--for", "stopped")
    daemon.ctl("kill", "g")
    assert waiting.wait(HANG) == 0
    waiting.communicate()


def test_events(daemon, fake):
    daemon.folder("g", fake.config("ssh"))
    with daemon.connect() as c:
        c.call("events-subscribe", guests=["g"])
        daemon.ctl("start", "g", "--wait")
        daemon.ctl("stop", "g")
        states = []
        while not states or states[-1] != "stopped":
            event = c.next_event(lambda e: e["event"] in ("GUEST_STATE", "GUEST_READY"))
            assert event["data"]["guest"] == "g" and event["timestamp"]["seconds"] > 0
            states.append(event["data"].get("state", "ready"))
        assert states == ["starting", "running", "ready", "stopping", "stopped"]


def test_events_command(daemon, fake):
    daemon.folder("g", fake.config())
    watching = daemon.ctl_start("--json", "events", "g")
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(watching.stdout))
    reader.start()
    try:
        # Subscribed when the first event arrives: until then guests are started again.
        def seen():
            daemon.ctl("start", "g")
            daemon.ctl("kill", "g")
            return any(b'"stopped"' in line for line in lines)
        wait_until(seen, "an event is printed")
    finally:
        watching.terminate()
        watching.wait(HANG)
        reader.join(HANG)
        watching.stderr.close()


def test_port_is_never_shared(tmp_path, fake):
    """Others' ports are stepped over, ours are kept across runs."""
    # A range of our own: other tests' guests come and go on the usual ports.
    first = 20000 + os.getpid() % 10000
    daemon = Daemon(tmp_path, options=["--ports", f"{first}-{first + 50}"])
    taken = []
    try:
        daemon.start()
        for port in (first, first + 1):
            s = socket.socket()
            taken.append(s)
            s.bind(("127.0.0.1", port))  # bound but not listening is taken, too
        for name in ("a", "b", "c"):
            daemon.folder(name, fake.config())
        daemon.ctl("start", "a", "b", "c")
        ports = [daemon.show(name)["ssh"]["port"] for name in ("a", "b", "c")]
        assert len(set(ports)) == 3 and min(ports) >= first + 2
        daemon.ctl("restart", "b")
        assert daemon.show("b")["ssh"]["port"] == ports[1]
    finally:
        for s in taken:
            s.close()
        daemon.close()


def test_forwards(daemon, tiny):
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
    s.close()
    daemon.folder("g", {**tiny.config, "forward": [{"host": port, "guest": 22}]})
    daemon.ctl("start", "g", "--wait=ssh")
    with socket.create_connection(("127.0.0.1", port), HANG) as c:
        assert c.recv(4) == b"SSH-"


def test_create_set_delete(daemon, tiny):
    daemon.ctl("create", "g", "--kernel", tiny.dir / "bzImage", "--initrd", tiny.dir / "initrd.img",
               "--ssh-key", tiny.dir / "id_ed25519", "--memory", "256M", "--cpus", "1",
               "--device", "nvme,size=32M", "--set", "devices.nvme0.mdts=5", "--set", "ssh.user=root")
    config = daemon.show("g")["config"]
    assert config["memory"] == "256M" and config["cpus"] == 1
    assert config["devices"] == [{"id": "nvme0", "type": "nvme", "size": "32M", "mdts": 5}]
    daemon.ctl("set", "g", "cpus=null", "devices.nvme1.type=nvme", 'share=["anna", "@storage"]')
    config = daemon.show("g")["config"]
    assert "cpus" not in config and [d["id"] for d in config["devices"]] == ["nvme0", "nvme1"]
    assert daemon.ctl("validate", "g").stdout == "g: ok\n"
    daemon.ctl("delete", "g")
    assert list(daemon.guests.iterdir()) == []


def test_delete_asks_at_a_terminal(daemon):
    (daemon.folder("g") / "bzImage").write_text("x")
    for answer, code in (("n", 1), ("y", 0)):
        t = Terminal([BUILD / "cijqemuctl", "delete", "g"], daemon.client_env())
        try:
            t.expect(re.escape("Delete guest 'g' with its folder and images? [y/N] "))
            assert (daemon.guests / "g").exists()
            t.type(answer + "\n")
            assert t.wait() == code
        finally:
            t.close()
        assert (daemon.guests / "g").exists() == (answer == "n")


def test_delete_of_a_running_guest_is_refused(daemon, fake):
    daemon.folder("g", fake.config())
    daemon.ctl("start", "g")
    assert "running" in daemon.ctl("delete", "g", "--yes", code=75).stderr
    assert (daemon.guests / "g/guest.json").exists()
    assert daemon.show("g")["state"] == "running"


def test_delete_does_not_follow_links(daemon, fake, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("kept")
    folder = daemon.folder("g", fake.config())
    (folder / "link").symlink_to(tmp_path / "precious")
    (folder / "deep").mkdir()
    (folder / "deep/link").symlink_to(tmp_path / "precious/file")
    daemon.ctl("delete", "g", "--yes")
    assert (tmp_path / "precious/file").read_text() == "kept"


def test_argv(daemon, tiny):
    daemon.folder("g", {**tiny.config, "devices": [{"id": "nvme0", "type": "nvme", "size": "16M"}]})
    argv = daemon.ctl("argv", "g").stdout
    assert argv.count("\n") == 1 and "-nodefaults" in argv
    explained = daemon.ctl("argv", "g", "--explain").stdout
    assert "memory" in explained and "devices.nvme0" in explained
    assert daemon.json("argv", "g")["argv"][0].endswith("qemu-system-x86_64")
    # What is printed is what runs.
    daemon.ctl("start", "g")
    with open(f"/proc/{daemon.show('g')['pid']}/cmdline") as f:
        running = f.read().split("\0")[:-1]
    assert running == daemon.json("argv", "g")["argv"] or \
        [w for w in running if not w.startswith("pipe,")] == \
        [w for w in daemon.json("argv", "g")["argv"] if not w.startswith("pipe,")]


def test_daemon_says_what_it_is(daemon, fake):
    daemon.folder("g", fake.config())
    daemon.ctl("start", "g")
    with daemon.connect() as c:
        assert c.greeting == {"cijqemud": {"version": "0.1.0", "api": 1}}
        about = c.call("query-daemon")
        assert about["guests"] == {"total": 1, "running": 1}
        assert about["guests_dir"] == str(daemon.guests) and about["pid"] == daemon.pid
        operations = {op["name"]: op for op in c.call("query-operations")}
        for name in ("guest-create", "guest-start", "console-attach", "qmp-execute", "hmp", "guest-wait"):
            assert operations[name]["access"] in ("view", "operate", "own")
        assert [a["name"] for a in operations["guest-wait"]["arguments"]] == ["guest", "for", "timeout"]


def test_query_guests_tells_the_members_that_are_asked_for(daemon, fake):
    daemon.folder("a", fake.config())
    with daemon.connect() as c:
        whole, = c.call("query-guests")
        some, = c.call("query-guests", members=["state", "memory_bytes", "ssh"])
        assert some == {"guest": "a", "state": "stopped", "memory_bytes": whole["memory_bytes"]}
        every, = c.call("query-guests", members=list(whole))
        assert every == {k: v for k, v in whole.items() if v is not None}
        error = c.ask("query-guests", members=["stat"])["error"]
        assert error["class"] == "BadRequest" and "'stat'" in error["desc"] and "'state'" in error["hint"]


def test_pipelined_requests(daemon, fake):
    daemon.folder("g", fake.config())
    with daemon.connect() as c:
        seen = []
        # Who sends without reading is, from some point on, not read from.
        reader = threading.Thread(target=lambda: seen.extend(c.read()["id"] for _ in range(500)))
        reader.start()
        ids = [c.send("query-guest", guest="g") for _ in range(500)]
        reader.join(HANG)
        assert sorted(seen) == ids


def test_guest_by_hand_is_picked_up(daemon, fake):
    folder = daemon.folder("g", fake.config())
    assert daemon.show("g")["memory_bytes"] == 64 << 20
    (folder / "guest.json").write_text((folder / "guest.json").read_text().replace("64M", "128M"))
    daemon.ctl("start", "g")
    assert daemon.show("g")["memory_bytes"] == 128 << 20
    daemon.ctl("kill", "g")
    (folder / "guest.json").write_text("{")
    assert daemon.show("g")["state"] == "broken"
    subprocess.run(["rm", "-r", folder], check=True)
    daemon.ctl("show", "g", code=66)


def test_qemu_errors_are_kept(daemon, tiny):
    daemon.folder("g", {**tiny.config, "cpu": "no-such-cpu"})
    assert "no-such-cpu" in daemon.ctl("start", "g", code=1).stderr
    view = daemon.show("g")
    assert view["reason"] == "start-failed" and "no-such-cpu" in view["error"]
    assert "no-such-cpu" in (daemon.guests / "g/logs/0001.qemu").read_text()
