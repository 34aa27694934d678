"""Run inside of systemd-box: 'inside.py NAME[:ARGUMENT]' installs the program and does the test of that name."""

import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))
GUEST = ROOT / "build/guest"
GUESTS = pathlib.Path("/opt/qemu-guests")
HANG = 90


def run(*args, check=True, **kw):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, **kw)
    if check and done.returncode != 0:
        raise AssertionError(f"{args}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_until(condition, what):
    end = time.monotonic() + HANG
    while not (value := condition()):
        if time.monotonic() > end:
            print(run("journalctl", "--no-pager", "-n", "60", check=False))
            raise AssertionError(f"not within {HANG} s: {what}")
        time.sleep(0.05)
    return value


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def prop(unit, name):
    return run("systemctl", "show", "-P", name, unit).strip()


def ctl(*args, **kw):
    return run("cijqemuctl", *args, **kw)


def show(name):
    return json.loads(ctl("--json", "show", name))


def install():
    run("make", "-s", "-C", ROOT, "install", f"BUILD={BUILD.relative_to(ROOT)}")


def up():
    install()
    run("systemctl", "enable", "--now", "cijqemud")


def tiny(name, guests=GUESTS, owner=None, **more):
    """A real guest; fast enough to boot, and with a shell on its console."""
    folder = guests / name
    folder.mkdir(parents=True)
    files = guests.parent / "tiny-files"  # where its owner can read them
    if not files.exists():
        shutil.copytree(GUEST, files)
    config = {"memory": "192M", "cpus": 1, "accel": "tcg",
              "kernel": {"image": str(files / "bzImage"), "initrd": str(files / "initrd.img")},
              "ssh": {"key": str(files / "id_ed25519")}, **more}
    (folder / "guest.json").write_text(json.dumps(config))
    if owner:
        user = pwd.getpwnam(owner)
        for path in (folder, folder / "guest.json"):
            os.chown(path, user.pw_uid, user.pw_gid)
    return folder


def fake(name, guests=GUESTS, **more):
    """A stand-in QEMU, for what does not depend on QEMU."""
    home = pathlib.Path("/opt/fake-qemu")
    if not home.exists():
        (home / "bin").mkdir(parents=True)
        shutil.copy(BUILD / "tests/fake_qemu", home / "bin/qemu-system-x86_64")
        (home / "bzImage").touch()
    folder = guests / name
    folder.mkdir(parents=True)
    (folder / "guest.json").write_text(json.dumps(
        {"qemu_home": str(home), "accel": "tcg", "memory": "64M", "kernel": {"image": str(home / "bzImage")}, **more}))


def numbered(folder, prefix, count):
    text = (folder / "console.log").read_text(errors="replace")
    seen = [int(n) for n in re.findall(rf"^{prefix} (\d+)\r?$", text, re.M)]
    assert seen == list(range(1, count + 1)), (len(seen), seen[:5], seen[-5:])


def install_and_enable():
    up()
    assert prop("cijqemud", "ActiveState") == "active"
    assert re.fullmatch(r"0 guests, 0 running", prop("cijqemud", "StatusText"))
    for unit in ("cijqemud.socket", "cijqemud-ro.socket", "cijqemu-guests.service"):
        assert prop(unit, "ActiveState") == "active", unit
        assert run("systemctl", "is-enabled", unit).strip() == "enabled", unit
    group = run("getent", "group", "cijqemu").split(":")[2]
    assert run("getent", "group", "cijqemu-admin")
    for name, mode, gid in (("cijqemud.sock", "660", group), ("cijqemud-ro.sock", "666", "0")):
        assert run("stat", "-c", "%a %u %g", f"/run/cijqemu/{name}").split() == [mode, "0", gid], name
    assert json.loads(ctl("--json", "list")) == []
    # Who is in no group may look and not touch; who is in the group may create.
    run("useradd", "-m", "outside")
    run("useradd", "-m", "-G", "cijqemu", "inside")
    def as_user(user, *args, check=True):
        return run("runuser", "-u", user, "--", *args, check=check)
    assert "NAME" in as_user("outside", "cijqemuctl", "--socket", "/run/cijqemu/cijqemud-ro.sock", "list")
    as_user("inside", "cijqemuctl", "create", "mine", "--set", "memory=64M", "--kernel", "/etc/hostname")
    # The daemon looks once a second whether /etc/passwd has changed.
    wait_until(lambda: show("mine")["owner"]["name"] == "inside", "the owner is known")
    fake("f")
    ctl("start", "f")
    wait_until(lambda: prop("cijqemud", "StatusText") == "2 guests, 1 running", "the counts follow")
    print(run("systemd-analyze", "security", "--no-pager", "cijqemud.service").splitlines()[-1])



def doctor():
    """What it says of the unit is so, and the command that it prints mends it."""
    def findings(*user):
        done = subprocess.run([*user, "cijqemuctl", "--json", "doctor"], capture_output=True, text=True)
        found = json.loads(done.stdout)
        assert done.returncode == (1 if any(f["level"] == "fail" for f in found) else 0), done
        return found

    def find(found, check, level, thing=None):
        some = [f for f in found if f["check"] == check and f["level"] == level and thing in (None, f["thing"])]
        assert some, (check, level, found)
        return some[0]

    up()
    fake("f")
    found = findings()
    find(found, "unit", "ok", "cijqemud.service")
    find(found, "sandbox", "ok", str(GUESTS))
    find(found, "descriptors", "ok")
    assert {f["level"] for f in found if f["check"] == "socket"} == {"ok"}
    # A user of no group: as printed, it lets them in.
    run("useradd", "-m", "anna")
    user = ["runuser", "-u", "anna", "--"]
    fix = find(findings(*user), "group", "note", "cijqemu")["fix"]
    assert fix == "sudo usermod -aG cijqemu anna, then log in anew", fix
    run("usermod", "-aG", "cijqemu", "anna")
    find(findings(*user), "group", "ok", "cijqemu")
    assert "may create" in find(findings(*user), "access", "ok", "anna")["text"]
    # A sandbox that shuts the guests out.
    dropin = pathlib.Path("/etc/systemd/system/cijqemud.service.d")
    dropin.mkdir()
    (dropin / "ours.conf").write_text(f"[Service]\nProtectSystem=strict\nReadOnlyPaths={GUESTS}\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", "cijqemud")
    walls = [f for f in findings() if f["check"] == "sandbox" and f["level"] == "fail"]
    assert {f["thing"] for f in walls} == {str(GUESTS)} and len(walls) == 2, walls
    find(findings(), "guests", "fail")
    for wall in walls:
        run("sh", "-c", wall["fix"])
    find(findings(), "sandbox", "ok")
    find(findings(), "guests", "ok")  # as the daemon meets it
    run("systemctl", "disable", "cijqemud")
    run("sh", "-c", find(findings(), "unit", "note", "cijqemud.service")["fix"])
    # Down: told without it.
    run("systemctl", "stop", "cijqemud.socket", "cijqemud-ro.socket", "cijqemud")
    found = findings()
    find(found, "daemon", "fail")
    run("sh", "-c", find(found, "unit", "fail", "cijqemud.service")["fix"])
    find(findings(), "unit", "ok", "cijqemud.service")


def scopes_and_limits():
    up()
    fake("limited", limits={"memory_max": "300M", "cpu_quota": "150%", "tasks_max": 99})
    fake("free")
    ctl("start", "limited", "free")
    scope = "cijqemu-limited-1.scope"
    assert prop(scope, "ActiveState") == "active"
    assert prop(scope, "Slice") == "cijqemu.slice"
    assert prop(scope, "MemoryMax") == str(300 << 20)
    assert prop(scope, "CPUQuotaPerSecUSec") == "1.500000s" or prop(scope, "CPUQuotaPerSecUSec") == "1.5s"
    assert prop(scope, "TasksMax") == "99"
    assert prop("cijqemu-free-1.scope", "MemoryMax") == "infinity"
    for name in ("limited", "free"):
        pid = show(name)["pid"]
        assert f"/cijqemu.slice/cijqemu-{name}-1.scope" in pathlib.Path(f"/proc/{pid}/cgroup").read_text()
        assert pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "0"
    assert prop("cijqemud", "OOMScoreAdjust") == "-800"  # which the box itself may not be let to do
    # Killed and started again at once, over and over: no name is taken.
    for i in range(10):
        pid = show("free")["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: show("free")["state"] == "stopped", "the end is seen")
        ctl("start", "free")
        assert f"cijqemu-free-{i + 2}.scope" in pathlib.Path(f"/proc/{show('free')['pid']}/cgroup").read_text()
    # A unit of the name it wants: another one is found.
    run("systemd-run", "--scope", "--unit=cijqemu-limited-2.scope", "--slice=cijqemu.slice", "sh", "-c",
        "sleep 300 >/dev/null 2>&1 &")
    ctl("kill", "limited")
    ctl("start", "limited")
    assert re.search(r"cijqemu-limited-2-\d+\.scope", pathlib.Path(f"/proc/{show('limited')['pid']}/cgroup").read_text())
    ctl("kill", "--all")
    wait_until(lambda: "cijqemu-free" not in run("systemctl", "list-units", "--all", "--no-legend", "*.scope"),
               "no scope stays behind")
    # How long a scope takes on top of a start.
    began = time.monotonic()
    ctl("start", "free")
    print("start with a scope: %.0f ms" % ((time.monotonic() - began) * 1000))


def journal():
    up()
    fake("g")
    ctl("start", "g")
    os.kill(show("g")["pid"], signal.SIGSEGV)
    wait_until(lambda: show("g")["state"] == "stopped", "the end is seen")
    lines = [json.loads(line) for line in run("journalctl", "-o", "json", "CIJQEMU_GUEST=g").splitlines()]
    by_id = {line.get("MESSAGE_ID"): line for line in lines}
    header = (ROOT / "daemon/log.h").read_text()
    ids = dict(re.findall(r'#define (LOG_ID_\w+) "(\w+)"', header))
    assert by_id[ids["LOG_ID_RUNNING"]]["MESSAGE"].startswith("guest 'g': running, pid ")
    assert by_id[ids["LOG_ID_FAILED"]]["PRIORITY"] == "4"
    assert "signal 11 (SEGV)" in by_id[ids["LOG_ID_FAILED"]]["MESSAGE"]
    assert all(line["SYSLOG_IDENTIFIER"] == "cijqemud" and line["_SYSTEMD_UNIT"] == "cijqemud.service" for line in lines)
    ready = json.loads(run("journalctl", "-o", "json", f"MESSAGE_ID={ids['LOG_ID_READY']}").splitlines()[0])
    assert ready["MESSAGE"].startswith("ready: ") and "CIJQEMU_GUEST" not in ready


def socket_activation():
    install()
    run("systemctl", "start", "cijqemud.socket", "cijqemud-ro.socket")
    assert prop("cijqemud", "ActiveState") == "inactive"
    fake("g")
    assert [g["guest"] for g in json.loads(ctl("--json", "list"))] == ["g"]
    assert prop("cijqemud", "ActiveState") == "active"
    inode = os.stat("/run/cijqemu/cijqemud.sock").st_ino
    ctl("start", "g")
    run("systemctl", "stop", "cijqemud")
    # The sockets are systemd's: who asks while no daemon runs is answered by the next.
    assert os.stat("/run/cijqemu/cijqemud.sock").st_ino == inode
    assert show("g")["state"] == "running"


def users():
    run("useradd", "-m", "lab")
    return "lab"


def restart_under_guests():
    owner = users()
    up()
    folders = {name: tiny(name, owner=owner) for name in ("a", "b")}
    ctl("start", "a", "b", "--wait=ssh")
    before = {name: show(name) for name in folders}
    for name in folders:
        ctl("console", name, input="i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done; echo no more\n")
    daemons = set()
    for _ in range(8):
        daemons.add(prop("cijqemud", "MainPID"))
        run("systemctl", "restart", "cijqemud")
        # Behind systemctl every guest is known already: Type=notify.
        assert {g["guest"]: g["state"] for g in json.loads(ctl("--json", "list"))} == {"a": "running", "b": "running"}
    assert len(daemons) == 8
    for name, folder in folders.items():
        after = show(name)
        assert (after["pid"], after["ssh"], after["run"]) == (before[name]["pid"], before[name]["ssh"], 1)
        assert os.stat(f"/proc/{after['pid']}").st_uid == pwd.getpwnam(owner).pw_uid
        wait_until(lambda: re.search(r"^no more\r?$", (folder / "console.log").read_text(errors="replace"), re.M),
                   f"{name} has printed all")
        numbered(folder, "line", 3000)
    assert "2 guests, 2 running" == prop("cijqemud", "StatusText")


def watchdog():
    up()
    drop_in = pathlib.Path("/run/systemd/system/cijqemud.service.d")
    drop_in.mkdir(parents=True)
    (drop_in / "quick.conf").write_text("[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", "cijqemud")
    fake("g")
    ctl("start", "g")
    pid, daemon = show("g")["pid"], prop("cijqemud", "MainPID")
    time.sleep(5)
    assert prop("cijqemud", "MainPID") == daemon, "it is fed while the loop runs"
    os.kill(int(daemon), signal.SIGSTOP)
    wait_until(lambda: prop("cijqemud", "MainPID") not in (daemon, "0"), "systemd starts another")
    wait_until(lambda: prop("cijqemud", "ActiveState") == "active", "it is ready")
    view = show("g")
    assert (view["pid"], view["state"], view["hung"]) == (pid, "running", False)


def crash():
    up()
    fake("g")
    ctl("start", "g")
    pid = show("g")["pid"]
    for sig in (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT):
        daemon = prop("cijqemud", "MainPID")
        os.kill(int(daemon), sig)
        wait_until(lambda: prop("cijqemud", "MainPID") not in (daemon, "0"), "systemd starts another")
        assert show("g")["pid"] == pid  # the socket is systemd's: nobody is turned away


def stop_leaves_guests():
    up()
    fake("g")
    ctl("start", "g")
    pid = show("g")["pid"]
    run("systemctl", "stop", "cijqemud.service", "cijqemud.socket", "cijqemud-ro.socket")
    time.sleep(0.5)
    assert alive(pid)
    run("systemctl", "start", "cijqemud")
    assert show("g")["pid"] == pid


def guests_service():
    install()
    fake("auto1", autostart=True)
    fake("auto2", autostart=True)
    fake("other")
    fake("bad", autostart=True, kernel={"image": "/nowhere"})
    run("systemctl", "enable", "--now", "cijqemud")
    wait_until(lambda: prop("cijqemu-guests", "ActiveState") == "active", "those with autostart are started")
    states = {g["guest"]: g["state"] for g in json.loads(ctl("--json", "list"))}
    assert states == {"auto1": "running", "auto2": "running", "other": "stopped", "bad": "broken"}
    since = [show(name)["since"] for name in ("auto1", "auto2")]
    print("started at", since)
    ctl("start", "other")
    ctl("kill", "auto2")
    pid, started = show("auto1")["pid"], prop("cijqemu-guests", "InvocationID")
    run("systemctl", "restart", "cijqemud")  # no guest comes and goes with the daemon
    assert prop("cijqemu-guests", "ActiveState") == "active"
    assert prop("cijqemu-guests", "InvocationID") == started != ""
    assert show("auto1")["pid"] == pid and show("auto2")["state"] == "stopped"
    run("systemctl", "stop", "cijqemu-guests")
    for name in ("auto1", "other"):
        view = show(name)
        assert (view["state"], view["reason"]) == ("stopped", "host-shutdown"), view
    run("systemctl", "start", "cijqemu-guests")
    assert show("auto1")["state"] == "running" and show("other")["state"] == "stopped"


def own_daemon():
    """An unprivileged user's own, in the user's own systemd."""
    owner = users()
    install()
    uid = pwd.getpwnam(owner).pw_uid
    run("systemctl", "start", f"user@{uid}.service")
    env = {**os.environ, "XDG_RUNTIME_DIR": f"/run/user/{uid}", "HOME": f"/home/{owner}", "USER": owner}

    def user(*args, check=True):
        return run("runuser", "-u", owner, "--", *args, env=env, check=check)

    user("systemctl", "--user", "enable", "--now", "cijqemud")
    guests = pathlib.Path(f"/home/{owner}/qemu-guests")
    assert guests.is_dir()
    tiny("mine", guests=guests, owner=owner)
    user("cijqemuctl", "start", "mine")
    view = json.loads(user("cijqemuctl", "--json", "show", "mine"))
    assert (view["state"], view["owner"]["name"]) == ("running", owner)
    print(pathlib.Path(f"/proc/{view['pid']}/cgroup").read_text().splitlines()[-1])
    assert "cijqemu.slice/cijqemu-mine-1.scope" in pathlib.Path(f"/proc/{view['pid']}/cgroup").read_text()
    user("systemctl", "--user", "restart", "cijqemud")
    assert json.loads(user("cijqemuctl", "--json", "show", "mine"))["pid"] == view["pid"]
    assert os.stat(f"/run/user/{uid}/cijqemu/cijqemud.sock").st_mode & 0o777 == 0o600
    user("cijqemuctl", "kill", "mine")


def guests_in(folder):
    """What the unit's sandbox does, guests inherit: a real one boots, writes, is used, wherever it is."""
    owner = users()
    guests = pathlib.Path(folder)
    guests.mkdir(parents=True)
    guests.parent.chmod(0o755 if folder != "/tmp/guests" else 0o1777)
    install()
    pathlib.Path("/etc/default/cijqemud").write_text(f"QEMU_GUESTS={guests}\n")
    run("systemctl", "enable", "--now", "cijqemud")
    theirs = tiny("theirs", guests=guests, owner=owner, devices=[{"id": "nvme0", "type": "nvme", "size": "64M"}])
    roots = tiny("roots", guests=guests, devices=[{"id": "nvme0", "type": "nvme", "size": "64M"}])
    # A disk image that QEMU opens for writing, too.
    for path, user in ((theirs, owner), (roots, None)):
        run("qemu-img", "create", "-f", "qcow2", path / "boot.qcow2", "64M")
        config = json.loads((path / "guest.json").read_text())
        config["kernel"]["append"] = "console=ttyS0"
        (path / "guest.json").write_text(json.dumps(config))
        if user:
            os.chown(path / "boot.qcow2", pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    ctl("start", "theirs", "roots", "--wait=ssh")
    for name, path in (("theirs", theirs), ("roots", roots)):
        view = show(name)
        status = pathlib.Path(f"/proc/{view['pid']}/status").read_text()
        assert f"Uid:\t{path.stat().st_uid}\t" in status
        if name == "theirs":
            assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status
        ctl("exec", name, "--", "dd if=/dev/zero of=/dev/nvme0n1 bs=1M count=8 conv=fsync && "
            "dd if=/dev/zero of=/dev/vda bs=1M count=8 conv=fsync")
        # Its files are where its owner sees them.
        assert (path / "nvme0.img").stat().st_blocks * 512 >= 1 << 20 or (path / "nvme0.img").exists()
        assert (path / "boot.qcow2").stat().st_size > 4 << 20
        assert "tiny guest ready" in (path / "console.log").read_text(errors="replace")
    run("systemctl", "restart", "cijqemud")
    ctl("exec", "theirs", "--", "true")
    ctl("stop", "theirs", "roots")
    assert show("theirs")["reason"] == "stopped"


def host_shutdown():
    up()
    folder = tiny("g")
    ctl("start", "g", "--wait=ssh")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    run("systemctl", "--no-block", "exit")
    # The box ends when this does: wait for the guest's record first, and keep what tells.
    end = time.monotonic() + HANG
    record = folder / "logs/0001.run.json"
    while time.monotonic() < end and not json.loads(record.read_text())["reason"]:
        time.sleep(0.05)
    shutil.copy(record, "/keep/record.json")
    shutil.copy(folder / "logs/0001.out", "/keep/console")


def uninstall():
    up()
    run("systemctl", "disable", "--now", "cijqemud", "cijqemud.socket", "cijqemud-ro.socket", "cijqemu-guests")
    run("make", "-s", "-C", ROOT, "uninstall", f"BUILD={BUILD.relative_to(ROOT)}")
    assert not run("find", "/usr/local/bin", "/usr/local/libexec", "/lib/systemd", "/usr/lib/sysusers.d",
                   "/usr/lib/tmpfiles.d", "-name", "*cijqemu*").strip()
    assert "cijqemu" not in run("systemctl", "list-unit-files", "--no-legend", "cijqemu*", check=False)


name, _, argument = sys.argv[1].partition(":")
os.environ["CIJQEMU_SOCKET"] = "/run/cijqemu/cijqemud.sock"
if name == "own_daemon":
    del os.environ["CIJQEMU_SOCKET"]
try:
    globals()[name](*([argument] if argument else []))
except BaseException:
    print(run("systemctl", "status", "--no-pager", "-n", "50", "cijqemud", check=False))
    print(run("journalctl", "--no-pager", "-n", "40", check=False))
    raise
