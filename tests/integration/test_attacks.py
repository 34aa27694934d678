"""What a user may plant in a folder of his own: nothing is read, written, shown, ended or started by it that he
could not do alone."""

import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest

from harness import HANG, alive, wait_until
from lab import ADMIN, GROUP, OWNER, SHARED, STRANGER, VIEWER, Lab, User, lab, root_only  # noqa: F401

pytestmark = root_only

SECRET = "s3cret-of-root"


@pytest.fixture
def secret(lab):
    """A file that only root may read, where everybody may look."""
    path = lab.base / "secret"
    path.write_text(SECRET + "\n" + "x" * (1 << 20))
    path.chmod(0o600)
    before = path.stat()
    yield path
    after = path.stat()
    assert (before.st_ino, before.st_size, before.st_mtime_ns, before.st_mode, before.st_uid) == \
        (after.st_ino, after.st_size, after.st_mtime_ns, after.st_mode, after.st_uid)
    assert path.read_text().startswith(SECRET)


@pytest.fixture
def victim(lab):
    """A file of another user's, which its owner alone may read."""
    path = lab.base / "victim"
    path.write_text("victims words\n")
    os.chown(path, SHARED.uid, SHARED.gid)
    path.chmod(0o600)
    yield path
    assert path.read_text() == "victims words\n" and path.stat().st_uid == SHARED.uid


def everything_said(lab):
    """All that anybody is shown: by the operations, the client and the log."""
    with lab.connect() as c:
        said = [json.dumps(c.ask("query-guests")), json.dumps(c.ask("query-history"))]
        for g in c.call("query-guests"):
            for op in ("query-guest", "guest-validate", "guest-argv", "console-who"):
                said.append(json.dumps(c.ask(op, guest=g["guest"])))
    for args in (["list"], ["validate"], ["events", "--history"]):
        done = lab.ctl(*args, code=None)
        said.append(done.stdout + done.stderr)
    return "\n".join(said) + lab.log_text()


def start_fails(lab, name="g", code=None):
    done = lab.ctl_as(OWNER, "start", name, code=code)
    assert done.returncode != 0, done
    assert lab.show(name)["state"] in ("stopped", "broken")
    return done.stderr


# guest.json


def test_guest_json_is_a_link(lab, secret):
    path = lab.folder_of(OWNER, "g")
    (path / "guest.json").symlink_to(secret)
    view = lab.show("g")
    assert view["state"] == "broken" and "link" in view["error"] and view["config"] is None
    start_fails(lab)
    lab.ctl_as(OWNER, "set", "g", "cpus=1", code=None)
    assert SECRET not in everything_said(lab)


def test_guest_json_is_a_fifo_or_a_device(lab):
    path = lab.folder_of(OWNER, "g")
    os.mkfifo(path / "guest.json")
    other = lab.folder_of(OWNER, "h")
    os.mknod(other / "guest.json", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    for name in ("g", "h"):
        assert "no regular file" in lab.show(name)["error"]
        start_fails(lab, name)


def test_guest_json_is_unreadable_to_its_owner(lab):
    """A hard link to root's file, as on systems without protected_hardlinks: root would read it."""
    path = lab.folder_of(OWNER, "g")
    hidden = lab.base / "hidden.json"
    hidden.write_text(json.dumps({"memory": "123M", "kernel": {"image": "/etc/" + SECRET}}))
    hidden.chmod(0o600)
    os.link(hidden, path / "guest.json")
    view = lab.show("g")
    assert view["state"] == "broken" and "Permission denied" in view["error"]
    assert SECRET not in everything_said(lab)


def test_set_writes_as_the_owner_beside_a_link(lab, victim):
    path = lab.folder_of(OWNER, "g", lab.fake.config())
    for name in (f".guest.json.{lab.pid}",):
        (path / name).symlink_to(victim)
    lab.ctl_as(OWNER, "set", "g", "cpus=2")
    assert (path / "guest.json").stat().st_uid == OWNER.uid


# logs and console


@pytest.mark.parametrize("what", ["link to root's folder", "link to another's folder", "file", "another's folder"])
def test_logs_is_not_a_folder_of_ours(lab, what, tmp_path):
    path = lab.folder_of(OWNER, "g", lab.fake.config())
    target = lab.base / "target"
    target.mkdir(mode=0o755)
    if "another" in what:
        os.chown(target, SHARED.uid, SHARED.gid)
    if "link" in what:
        (path / "logs").symlink_to(target)
    elif what == "file":
        (path / "logs").write_text("")
    else:
        (path / "logs").mkdir()
        os.chown(path / "logs", SHARED.uid, SHARED.gid)
        (path / "logs").chmod(0o755)
    assert "logs" in start_fails(lab)
    assert list(target.iterdir()) == []
    if what == "another's folder":
        assert list((path / "logs").iterdir()) == []


@pytest.mark.parametrize("suffix", ["out", "qemu", "in", "run.json", "index"])
def test_a_planted_log_of_the_next_run(lab, secret, suffix):
    path = lab.folder_of(OWNER, "g", lab.fake.config())
    (path / "logs").mkdir()
    os.chown(path / "logs", OWNER.uid, OWNER.gid)
    (path / f"logs/0001.{suffix}").symlink_to(secret)
    lab.ctl_as(OWNER, "start", "g", code=None)
    lab.ctl_as(OWNER, "logs", "g", code=None)
    lab.restart()
    lab.ctl_as(OWNER, "logs", "g", code=None)
    assert SECRET not in everything_said(lab)


def test_an_old_log_is_a_link_or_a_hard_link(lab, secret, victim):
    path = lab.folder_of(OWNER, "g", lab.fake.config())
    lab.ctl_as(OWNER, "start", "g")
    lab.ctl_as(OWNER, "kill", "g")
    log = path / "logs/0001.out"
    log.unlink()
    log.symlink_to(secret)
    done = lab.ctl_as(VIEWER, "logs", "g", code=None)
    assert SECRET not in done.stdout + done.stderr and done.returncode != 0
    log.unlink()
    os.link(victim, log)
    done = lab.ctl_as(VIEWER, "logs", "g", code=None)
    assert "victims words" not in done.stdout + done.stderr and done.returncode != 0


def test_console_log_and_its_temporary_name(lab, secret):
    path = lab.folder_of(OWNER, "g", lab.fake.config())
    for name in ("console.log", ".console.log.new", "console.out", "monitor.sock"):
        (path / name).symlink_to(secret)
    lab.ctl_as(OWNER, "start", "g")
    assert os.readlink(path / "console.log") == "logs/0001.out"


# The drives and what boots. QEMU itself is the judge of what its user may open: the real one.


def real(**more):
    return {"memory": "64M", "cpus": 1, "accel": "tcg", **more}


@pytest.mark.parametrize("config, needs", [
    ({"boot": {"image": "/etc/shadow", "format": "raw"}}, "Permission denied"),
    ({"kernel": {"image": "/etc/shadow"}}, "/etc/shadow"),
    ({"boot": {"image": "SECRET", "format": "raw"}}, "Permission denied"),
    ({"boot": {"image": "VICTIM", "format": "raw"}}, "Permission denied"),
    ({"boot": {"image": "link.img", "format": "raw"}}, "Permission denied"),
    ({"kernel": {"image": "bzImage", "initrd": "SECRET"}}, "SECRET"),
    ({"boot": {"image": "fifo"}}, "no regular file"),
    ({"boot": {"image": "/dev/null"}}, "no regular file"),
    ({"boot": {"image": "/dev/tty"}}, "no regular file"),
    ({"boot": {"image": "/dev/vda", "format": "raw"}}, ""),
    ({"boot": {"image": "/root/nothing-there"}}, "Permission denied"),
])
def test_a_file_that_is_not_the_owners(lab, secret, victim, tiny, config, needs):
    os.chmod("/root", 0o700)
    text = json.dumps(real(**config)).replace("SECRET", str(secret)).replace("VICTIM", str(victim))
    path = lab.folder_of(OWNER, "g", text)
    (path / "link.img").symlink_to(secret)
    os.mkfifo(path / "fifo")
    shutil.copy(tiny.dir / "bzImage", path / "bzImage")
    for p in path.iterdir():
        os.lchown(p, OWNER.uid, OWNER.gid)
    if "/dev/vda" in text and not os.path.exists("/dev/vda"):
        pytest.skip("this machine cannot: it has no /dev/vda")
    said = start_fails(lab)
    assert needs.replace("SECRET", str(secret)) in said, said
    assert SECRET not in everything_said(lab) and "victims words" not in everything_said(lab)


@pytest.mark.parametrize("there", [True, False])
def test_whether_root_has_a_file_is_not_told(lab, there):
    """The folder that an image is in is changed for a link to one that only root may look into."""
    hidden = lab.base / "hidden"
    hidden.mkdir(mode=0o700)
    if there:
        (hidden / "f").touch()
    (lab.base / "own").mkdir()
    (lab.base / "own/f").touch()
    path = lab.folder_of(OWNER, "g", {**lab.fake.config(), "kernel": {"image": "way/f"}})
    (path / "way").symlink_to(lab.base / "own")
    assert lab.show("g")["state"] == "stopped"
    (path / "way").unlink()
    (path / "way").symlink_to(hidden)
    view = lab.show("g")
    assert view["state"] == "broken" and "Permission denied" in view["error"], view


def test_root_may_what_its_owner_may_not(lab, secret):
    """The same folder under root starts: it was the owner's rights that stopped it."""
    lab.folder("g", real(boot={"image": str(secret), "format": "raw"}))
    lab.ctl("start", "g")
    assert lab.show("g")["state"] == "running"


@pytest.mark.parametrize("plant", ["link", "fifo", "device", "folder", "hard link"])
def test_a_planted_backing_file(lab, secret, victim, plant):
    config = lab.fake.config(devices=[{"id": "nvme0", "type": "nvme", "size": "1M"}])
    if plant != "fifo":
        config = real(kernel=config["kernel"], devices=config["devices"])
    path = lab.folder_of(OWNER, "g", config)
    image = path / "nvme0.img"
    if plant == "link":
        image.symlink_to(secret)
    elif plant == "fifo":
        os.mkfifo(image)
    elif plant == "device":
        os.mknod(image, stat.S_IFBLK | 0o600, os.makedev(254, 0))
    elif plant == "folder":
        image.mkdir()
    else:
        os.link(secret, image)
    start_fails(lab)
    assert SECRET not in everything_said(lab)


def test_a_new_backing_file_lands_nowhere_else(lab, secret):
    path = lab.folder_of(OWNER, "g", lab.fake.config(devices=[{"id": "nvme0", "type": "nvme", "size": "1M"}]))
    (path / ".nvme0.img.new").symlink_to(secret)
    lab.ctl_as(OWNER, "start", "g")
    assert (path / "nvme0.img").stat().st_uid == OWNER.uid


def test_a_qemu_that_only_root_may_run(lab):
    home = lab.base / "private/qemu"
    (home / "bin").mkdir(parents=True)
    shutil.copy(lab.fake.home / "bin/qemu-system-x86_64", home / "bin")
    (lab.base / "private").chmod(0o700)
    lab.folder_of(OWNER, "g", {**lab.fake.config(), "qemu_home": str(home)})
    lab.folder_of(OWNER, "h", {**lab.fake.config(), "qemu_home": str(lab.base / "private/none")})
    there, missing = start_fails(lab), start_fails(lab, "h")
    # Whether it is there is not told: the two read alike.
    assert "Permission denied" in there and "Permission denied" in missing


def test_a_qemu_of_the_owners_own_runs_as_the_owner(lab):
    """qemu_home is the owner's word: what is there runs with the owner's rights, from the first question on."""
    home = lab.base / "own"
    (home / "bin").mkdir(parents=True)
    seen = lab.base / "seen"
    seen.mkdir()
    seen.chmod(0o777)
    script = home / "bin/qemu-system-x86_64"
    script.write_text(f"#!/bin/sh\nid -u >>{seen}/uids\nid -G >>{seen}/groups\nexit 1\n")
    script.chmod(0o755)
    lab.folder_of(OWNER, "g", {**lab.fake.config(), "qemu_home": str(home)})
    start_fails(lab)
    assert set((seen / "uids").read_text().split()) == {str(OWNER.uid)}
    assert "0" not in (seen / "groups").read_text().split()


# guest.pid


def lock_as(user, path):
    """A process of @user's that holds the lock on a file, as QEMU does."""
    code = ("import fcntl, sys, time\n"
            f"f = open({str(path)!r}, 'r+')\n"
            "fcntl.lockf(f, fcntl.LOCK_EX)\n"
            "print('locked', flush=True)\n"
            "time.sleep(300)\n")
    p = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, **user.as_process)
    assert p.stdout.readline() == b"locked\n"
    return p


@pytest.mark.parametrize("how", [os.symlink, os.link])
def test_guest_pid_leads_to_anothers_locked_file(lab, how):
    """Another daemon's pid file, which its process has locked: that process is not ours to end."""
    foreign = lab.base / "foreign.pid"
    foreign.write_text("4194303\n")
    os.chown(foreign, SHARED.uid, SHARED.gid)
    foreign.chmod(0o644)
    holder = lock_as(SHARED, foreign)
    try:
        path = lab.folder_of(OWNER, "g", lab.fake.config())
        how(foreign, path / "guest.pid")
        lab.restart()
        assert lab.show("g")["state"] == "stopped"
        lab.ctl_as(OWNER, "kill", "g")
        lab.ctl_as(OWNER, "stop", "g")
        time.sleep(0.2)
        assert holder.poll() is None
    finally:
        holder.kill()
        holder.wait()


def test_guest_pid_of_another_guest_of_the_same_owner(lab):
    """A link to the pid file of the owner's other guest: the monitor's word on its name decides."""
    lab.folder_of(OWNER, "one", lab.fake.config())
    path = lab.folder_of(OWNER, "two", lab.fake.config())
    lab.ctl_as(OWNER, "start", "one")
    pid = lab.show("one")["pid"]
    os.link(lab.guests / "one/guest.pid", path / "guest.pid")
    lab.restart()
    view = lab.show("two")
    assert view["pid"] != pid or view["hung"], view
    assert lab.show("one")["pid"] == pid and lab.show("one")["state"] == "running"


def posing_as(user, folder, socket_path, name, uuid):
    """A process of @user's in the folder of a guest of his, made up to look like the QEMU @name there: it holds the
    lock, has a handle on the socket where QEMU has one, and the record of the last run is his to write."""
    code = f"""if True:
        import fcntl, json, os, socket, time
        os.chdir({str(folder)!r})
        os.makedirs("logs", exist_ok=True)
        open("logs/0001.out", "w").close()
        with open("logs/0001.run.json", "w") as f:
            json.dump({{"run": 1, "started": "2026-11-27T01:00:00Z",
                       "argv": ["qemu", "-name", "guest={name}", "-uuid", "{uuid}"]}}, f)
        own = socket.socket(socket.AF_UNIX)
        own.bind("own.sock")
        own.listen()
        os.dup2(own.fileno(), 13)
        os.dup2(os.open({str(socket_path)!r}, os.O_PATH), 14)
        os.dup2(13, 3)
        os.dup2(14, 4)
        pid = os.open("guest.pid", os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.lockf(pid, fcntl.LOCK_EX)
        print("ready", flush=True)
        time.sleep(300)
    """
    p = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, **user.as_process)
    assert p.stdout.readline() == b"ready\n"
    return p


def argv_word(path, option):
    argv = json.loads(path.read_text())["argv"]
    return argv[argv.index(option) + 1]


@pytest.mark.parametrize("mal", ["a", "z"])  # taken back before the victim, and after
@pytest.mark.parametrize("name", ["m", "own"])
def test_the_monitor_of_anothers_guest(lab, mal, name):
    """A handle on the socket of another user's QEMU, a made-up record, a process that holds the lock: after a restart
    of the daemon the other's monitor is not his. With it he would write files as that user."""
    lab.folder_of(OWNER, "m", lab.fake.config())
    lab.ctl_as(OWNER, "start", "m")
    pid = lab.show("m")["pid"]
    path = lab.folder_of(STRANGER, mal, lab.fake.config())
    own = mal if name == "own" else name
    posing = posing_as(STRANGER, path, lab.run / "guests/m/qemu.sock", own,
                       argv_word(lab.guests / "m/logs/0001.run.json", "-uuid"))
    try:
        lab.restart()
        view = lab.show("m")
        assert view["pid"] == pid and view["state"] == "running" and not view["hung"], view
        assert (lab.run / "guests/m/qemu.sock").exists()
        done = lab.ctl_as(STRANGER, "qmp", mal, "query-name", code=1)
        assert "'m'" not in done.stdout and '"m"' not in done.stdout
        assert lab.show(mal)["hung"] or lab.show(mal)["state"] == "stopped"
    finally:
        posing.kill()
        posing.wait()


@pytest.mark.parametrize("mal", ["a", "z"])
def test_the_port_of_anothers_guest(lab, mal):
    """A QEMU that its owner wrote says to have a port, on which another's guest listens: that one keeps it."""
    lab.folder_of(OWNER, "m", lab.fake.config())
    lab.ctl_as(OWNER, "start", "m")
    port = lab.show("m")["ssh"]["port"]
    lab.folder_of(STRANGER, mal, lab.fake.config("elsewhere"))
    lab.ctl_as(STRANGER, "start", mal)
    lab.ctl_as(STRANGER, "monitor", mal, f"hostfwd_add n0 tcp:127.0.0.1:{port}-:80")
    for _ in range(2):
        lab.restart()
        assert lab.show("m")["ssh"]["port"] == port
        assert lab.show(mal)["state"] == "running"


def test_a_port_for_root_alone(lab):
    """It is not said to be taken where nobody has it."""
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first <= 7:
        pytest.skip("this machine cannot: everybody may open any port")
    for key in ("ssh", "forward"):
        conf = {"ssh": {"port": 7}} if key == "ssh" else {"forward": [{"host": 7, "guest": 80}]}
        lab.folder_of(OWNER, "g", lab.fake.config(**conf))
        done = lab.ctl_as(OWNER, "start", "g", code=78)
        assert f"port 7 of 127.0.0.1 is below {first}: only root may open it" in done.stderr
    lab.folder_of(User("root", 0), "r", lab.fake.config(ssh={"port": 7}))
    lab.ctl("start", "r")


def test_a_socket_that_only_root_may_connect_to(lab):
    """The daemon is not sent to a socket of another user's by a handle on its name."""
    foreign = socket.socket(socket.AF_UNIX)
    foreign.bind(str(lab.base / "foreign.sock"))
    os.chown(lab.base / "foreign.sock", SHARED.uid, SHARED.gid)
    (lab.base / "foreign.sock").chmod(0o600)
    foreign.listen()
    foreign.setblocking(False)
    path = lab.folder_of(OWNER, "g", lab.fake.config())
    posing = posing_as(OWNER, path, lab.base / "foreign.sock", "g", "00000000-0000-0000-0000-000000000000")
    try:
        lab.restart()
        assert lab.show("g")["hung"]
        with pytest.raises(BlockingIOError):
            foreign.accept()
    finally:
        posing.kill()
        posing.wait()
        foreign.close()


def test_a_set_uid_program_is_not_the_daemons(lab):
    """It has root's rights, and all else that a launcher has: whoever called it has it ended by nobody."""
    program = lab.base / "python"
    shutil.copy(os.path.realpath("/usr/bin/python3"), program)
    program.chmod(0o4755)
    path = lab.folder_of(OWNER, "g", lab.fake.config())
    uuid = "00000000-0000-0000-0000-000000000001"
    logs = path / "logs"
    logs.mkdir()
    (logs / "0001.out").touch()
    (logs / "0001.run.json").write_text(json.dumps(
        {"run": 1, "started": "2026-11-27T01:00:00Z", "argv": ["qemu", "-uuid", uuid]}))
    with open(logs / "0001.qemu", "w") as said:
        fcntl.flock(said, fcntl.LOCK_EX)
        for p in [logs, *logs.iterdir()]:
            os.chown(p, OWNER.uid, OWNER.gid)
        called = subprocess.Popen([program, "-c", "print('ready', flush=True); import time; time.sleep(300)",
                                   "-uuid", uuid], stdout=subprocess.PIPE, stderr=said, **OWNER.as_process)
        assert called.stdout.readline() == b"ready\n"
        assert pathlib.Path(f"/proc/{called.pid}").stat().st_uid == 0
    try:
        lab.restart()
        assert "another user's" in lab.show("g")["error"]
        lab.ctl_as(OWNER, "kill", "g", code=None)
        time.sleep(0.2)
        assert called.poll() is None
    finally:
        called.kill()
        called.wait()


@pytest.mark.parametrize("how", [os.symlink, os.link])
def test_guest_pid_leads_to_a_file_of_the_owners(lab, how):
    """QEMU, which follows links, does not write its number into it."""
    path = lab.folder_of(OWNER, "g", lab.fake.config())
    kept = path / "kept"
    kept.write_text("kept\n")
    os.chown(kept, OWNER.uid, OWNER.gid)
    how(kept, path / "guest.pid")
    lab.ctl_as(OWNER, "start", "g")
    assert kept.read_text() == "kept\n"
    assert (path / "guest.pid").read_text() == f"{lab.show('g')['pid']}\n"


def test_guest_pid_is_a_folder(lab):
    path = lab.folder_of(OWNER, "g", lab.fake.config())
    (path / "guest.pid").mkdir()
    assert "guest.pid" in lab.ctl_as(OWNER, "start", "g", code=78).stderr
    assert lab.show("g")["state"] == "stopped"


# The folder itself


def test_a_folder_that_is_a_link(lab):
    target = lab.base / "elsewhere"
    target.mkdir()
    (target / "guest.json").write_text(json.dumps(lab.fake.config()))
    (lab.guests / "g").symlink_to(target)
    os.lchown(lab.guests / "g", OWNER.uid, OWNER.gid)
    assert lab.show("g")["state"] == "broken" and "link" in lab.show("g")["error"]
    start_fails(lab)
    lab.ctl_as(OWNER, "delete", "g", "--yes")
    assert (target / "guest.json").exists() and not (lab.guests / "g").is_symlink()


def test_folders_swapped_between_check_and_use(lab):
    """Two folders change places all the time; nobody's QEMU ever runs the other's definition."""
    seen = lab.base / "seen"
    seen.mkdir()
    seen.chmod(0o777)
    homes = {}
    for user in (OWNER, SHARED):
        home = lab.base / f"home-{user.name}"
        (home / "bin").mkdir(parents=True)
        script = home / "bin/qemu-system-x86_64"
        script.write_text(f"#!/bin/sh\necho $(id -u) {user.uid} >>{seen}/runs\nexit 1\n")
        script.chmod(0o755)
        homes[user] = home
        lab.folder_of(user, f"dir-{user.name}", {**lab.fake.config(), "qemu_home": str(home)})
    a, b, g = (lab.guests / n for n in ("dir-owner", "dir-shared", "g"))
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            for d in (a, b):
                try:
                    os.rename(d, g)
                    time.sleep(0)
                    os.rename(g, d)
                except OSError:
                    pass

    t = threading.Thread(target=swap)
    t.start()
    try:
        for _ in range(150):
            with lab.connect() as c:
                c.ask("guest-start", guest="g")
    finally:
        stop.set()
        t.join()
    runs = [line.split() for line in (seen / "runs").read_text().splitlines()] if (seen / "runs").exists() else []
    assert all(ran_as == folders for ran_as, folders in runs), runs


def test_delete_removes_nothing_of_others(lab, secret):
    """Root's folder inside the owner's: the owner could not empty it, so it stays."""
    path = lab.folder_of(OWNER, "g", lab.fake.config())
    (path / "linked").symlink_to(lab.base)
    (path / "roots").mkdir()
    (path / "roots/kept").write_text("kept")
    done = lab.ctl_as(OWNER, "delete", "g", "--yes", code=70)
    left = list(lab.guests.glob(".g.*.deleted"))
    assert len(left) == 1 and (left[0] / "roots/kept").read_text() == "kept"
    assert str(left[0]) in done.stderr
    assert lab.ctl("list").stdout.count("\n") == 1 and secret.exists()


def test_create_over_a_link(lab, secret):
    (lab.guests / "g").symlink_to(secret)
    lab.ctl_as(STRANGER, "create", "g", "--memory", "64M", code=65)
    assert os.readlink(lab.guests / "g") == str(secret)


def test_names_with_escapes_and_newlines(lab):
    """In file names, in guest.json, in a reason for a lease: none reaches a terminal."""
    nasty = "\x1b]0;owned\x07\n\x9b31m"
    for name in (nasty, "a\nb", "..", "-rf", "x" * 64):
        try:
            (lab.guests / name.replace("/", "_")).mkdir()
        except (FileExistsError, OSError):
            pass
    lab.folder_of(OWNER, "g", json.dumps({**lab.fake.config(), nasty: nasty}))
    lab.folder_of(OWNER, "h", json.dumps({**lab.fake.config(), "boot": {"image": nasty}}))
    lab.folder_of(OWNER, "i", json.dumps({**lab.fake.config("say=" + nasty.replace(",", ""), "exit=1")}))
    lab.folder_of(OWNER, "j", json.dumps({**lab.fake.config(), "share": [nasty]}))
    start_fails(lab, "i")
    lab.ctl_as(STRANGER, "start", "j", code=77)
    for args in (["list"], ["show", "g"], ["show", "h"], ["show", "i"], ["show", "j"], ["validate"], ["status", "i"],
                 ["share", "j"], ["events", "--history"], ["logs", "i"], ["who", "j"], ["lease"]):
        done = lab.ctl(*args, code=None)
        for bad in "\x1b\x07\x9b":
            assert bad not in done.stdout + done.stderr, (args, done)
    assert {g["guest"] for g in lab.json("list")} == {"g", "h", "i", "j"}
    assert "\x1b" not in lab.log_text()


def test_sockets_are_nobodys_to_replace(lab):
    lab.folder_of(OWNER, "g", lab.fake.config())
    lab.ctl_as(OWNER, "start", "g")
    for path in [lab.run, *lab.run.rglob("*")]:
        st = path.lstat()
        assert st.st_uid == 0 and not (path.is_dir() and st.st_mode & 0o022), path
    with pytest.raises(PermissionError):
        from lab import connect_as
        connect_as(OWNER, lab.run / "guests/g/qemu.sock")
    for path in [lab.state, *lab.state.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("way", ["console.sock", "console-attach"])
def test_nobody_takes_the_daemons_descriptors(lab, way, monkeypatch):
    """Who may only look has as many viewers as he likes to start: the others are served all the same."""
    lab.stop()
    monkeypatch.setenv("CIJ_WRAP", "prlimit --nofile=600 " + os.environ.get("CIJ_WRAP", ""))
    lab.start()
    lab.folder_of(OWNER, "g", lab.fake.config())
    lab.ctl_as(OWNER, "start", "g")
    code = f"""if True:
        import socket, time
        kept = []
        for i in range(700):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(5)
            try:
                s.connect({str(lab.run / "guests/g/console.sock") if way == "console.sock" else str(lab.read_only)!r})
                if {way == "console-attach"}:
                    s.sendall(b'{{"execute": "console-attach", "arguments": {{"guest": "g"}}}}\\n')
                    answers = s.makefile("rb")
                    answers.readline()
                    assert b"return" in answers.readline()
            except (OSError, AssertionError):
                s.close()
                continue
            kept.append(s)
        print("ready", flush=True)
        time.sleep(300)
    """
    flood = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, **VIEWER.as_process)
    try:
        assert flood.stdout.readline() == b"ready\n"
        wait_until(lambda: len(lab.fds()) < 590, "the daemon has descriptors left", 20)
        assert lab.ctl_as(SHARED, "list").stdout.count("running") == 1
        with lab.connect_as(OWNER) as c:
            assert c.call("console-attach", guest="g")["mode"] == "write"
        viewers = [v for v in lab.json("who", "g")["viewers"] if v["uid"] == VIEWER.uid]
        assert 100 < len(viewers) <= 200
    finally:
        flood.kill()
        flood.wait()
