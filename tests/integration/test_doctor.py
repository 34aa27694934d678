"""'doctor': what is wrong with the machine is found, named, and mended by the command that it prints."""

import grp
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile

import pytest

from harness import BUILD, HANG, Daemon

NOBODY = 65534
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="this machine cannot: not root")


def doctor(daemon, env=None, code=None):
    done = daemon.ctl("--json", "doctor", code=code, env=env)
    findings = json.loads(done.stdout)
    assert all(list(f) == ["check", "thing", "level", "text", "fix"] for f in findings)
    assert done.returncode == (1 if any(f["level"] == "fail" for f in findings) else 0)
    return findings


def find(findings, check, level=None, thing=None):
    found = [f for f in findings if f["check"] == check and (not level or f["level"] == level)
             and (not thing or f["thing"] == str(thing))]
    assert found, (check, level, thing, findings)
    return found[0]


def mend(finding):
    subprocess.run(finding["fix"], shell=True, check=True, timeout=HANG)


@pytest.fixture
def lab(tmp_path, fake):
    """A daemon in a folder that every user may go into, for guests of other owners."""
    base = pathlib.Path(tempfile.mkdtemp(prefix="cij-doctor-", dir="/tmp"))
    base.chmod(0o755)
    d = Daemon(base, options=["--disk-reserve", "1M"])
    try:
        yield d.start()
    finally:
        d.close()
        shutil.rmtree(base)


def test_a_machine_that_is_well(daemon, fake):
    daemon.folder("a", fake.config())
    findings = doctor(daemon)
    for check in ("daemon", "socket", "guests", "folder", "memory", "disk", "descriptors", "inotify"):
        assert find(findings, check, "ok"), check
    for check in ("unit", "qemu", "kvm", "access"):
        assert find(findings, check), check
    text = daemon.ctl("doctor", code=None).stdout
    assert f"ok    guests {os.path.realpath(daemon.guests)}: mode 0755" in text
    assert "1 guest, each its owner's to use" in text


def test_all_findings_have_a_level_and_bad_ones_a_way_out(daemon, fake):
    daemon.folder("a", fake.config())
    daemon.guests.chmod(0o777)
    for f in doctor(daemon, env={"QEMU_FOO": "1"}):
        assert f["level"] in ("ok", "note", "fail") and f["text"]
        if f["level"] == "fail":
            assert f["fix"]


def test_guests_folder_that_everybody_may_write(daemon):
    daemon.guests.chmod(0o777)
    finding = find(doctor(daemon, code=1), "guests", "fail")
    assert "0777" in finding["text"] and str(daemon.guests) == finding["thing"]
    mend(finding)
    find(doctor(daemon), "guests", "ok")


def test_guest_folder_that_everybody_may_write(daemon, fake):
    path = daemon.folder("a", fake.config())
    path.chmod(0o777)
    mend(find(doctor(daemon, code=1), "folder", "fail", "a"))
    find(doctor(daemon), "folder", "ok")


@ROOT_ONLY
def test_folder_that_its_owner_cannot_enter(lab):
    path = lab.folder("a", {"memory": "64M"})
    (path / "bzImage").touch()
    os.chown(path, NOBODY, NOBODY)
    path.chmod(0o055)
    finding = find(doctor(lab, code=1), "folder", "fail", "a")
    assert finding["fix"] == f"chmod u+rwx {path}" and "Permission denied" in finding["text"]
    mend(finding)
    find(doctor(lab), "folder", "ok")
    # A folder above it.
    lab.guests.chmod(0o700)
    finding = find(doctor(lab, code=1), "folder", "fail", "a")
    assert finding["fix"] == f"chmod o+x {lab.guests}" and "go through" in finding["text"]
    mend(finding)
    find(doctor(lab), "folder", "ok")


def test_folder_that_is_no_guest(daemon):
    daemon.folder("a", "{")
    finding = find(doctor(daemon), "folder", "note", "a")
    assert "guest.json" in finding["text"] and finding["fix"] == "cijqemuctl validate a"


def test_key_that_cannot_be_read(daemon, fake):
    path = daemon.folder("a", fake.config(ssh={"key": "id"}))
    finding = find(doctor(daemon, code=1), "key", "fail", "a")
    assert f"{path}/id" in finding["text"] and "No such file" in finding["text"]
    (path / "id").touch(0o644)
    finding = find(doctor(daemon), "key", "note", "a")
    assert "others may read" in finding["text"]
    mend(finding)
    assert not [f for f in doctor(daemon) if f["check"] == "key"]


@ROOT_ONLY
def test_another_users_key_and_groups(lab, fake):
    """As a user of no group, by the read-only socket."""
    path = lab.folder("a", fake.config(ssh={"key": "id"}))
    (path / "id").touch(0o600)
    tool = lab.base / "cijqemuctl"
    shutil.copy(BUILD / "cijqemuctl", tool)
    done = subprocess.run([tool, "--json", "doctor"], capture_output=True, text=True, timeout=HANG, user=NOBODY,
                          group=NOBODY, extra_groups=[], env=lab.client_env())
    findings = json.loads(done.stdout)
    assert "Permission denied" in find(findings, "key", "note", "a")["text"]
    finding = find(findings, "access", "note", "nobody")
    assert "may only look" in finding["text"] and "usermod -aG cijqemu nobody" in finding["fix"]
    finding = find(findings, "group", "note", "cijqemu")
    assert finding["fix"].startswith("sudo ")


@ROOT_ONLY
def test_a_member_whom_the_socket_does_not_let_in(lab):
    """Nobody is told to join a group that he is in."""
    group = next(g for g in grp.getgrall() if g.gr_gid != 0)
    lab.options += ["--group", group.gr_name]
    lab.restart()
    lab.socket.chmod(0o600)
    tool = lab.base / "cijqemuctl"
    shutil.copy(BUILD / "cijqemuctl", tool)
    done = subprocess.run([tool, "--json", "doctor"], capture_output=True, text=True, timeout=HANG, user=30001,
                          group=30001, extra_groups=[group.gr_gid], env=lab.client_env())
    findings = json.loads(done.stdout)
    finding = find(findings, "access", "note", "30001")
    assert f"though in group '{group.gr_name}'" in finding["text"] and "usermod" not in finding["fix"]
    finding = find(findings, "socket", "note", lab.socket)
    mend({"fix": finding["fix"].removeprefix("sudo ")})
    assert lab.socket.stat().st_mode & 0o777 == 0o660


def test_few_descriptors(tmp_path, fake):
    d = Daemon(tmp_path)
    wrapped = os.environ.get("CIJ_WRAP", "")
    os.environ["CIJ_WRAP"] = f"prlimit --nofile=70:70 {wrapped}".strip()
    try:
        d.start()
        d.folder("a", fake.config())
        finding = find(doctor(d, code=1), "descriptors", "fail")
        assert "may have 70 open" in finding["text"] and "ulimit -n" in finding["fix"]
    finally:
        os.environ["CIJ_WRAP"] = wrapped
        d.close()


def test_memory_and_disk_against_what_guests_want(tmp_path, fake):
    d = Daemon(tmp_path, options=["--memory-limit", "100M", "--disk-reserve", "99999T"])
    try:
        d.start()
        d.folder("a", fake.config())
        d.folder("b", fake.config())
        findings = doctor(d, code=1)
        assert "not all can run at once" in find(findings, "memory", "note")["text"]
        assert "no guest starts" in find(findings, "disk", "fail")["text"]
        assert d.ctl("start", "a", code=75).stderr
        d.folder("b", fake.config(memory="128M"))
        finding = find(doctor(d, code=1), "memory", "fail", "b")
        words = shlex.split(finding["fix"])
        assert words[:3] == ["cijqemuctl", "set", "b"]
        d.ctl(*words[1:])
        assert not [f for f in doctor(d, code=1) if f["check"] == "memory" and f["level"] == "fail"]
    finally:
        d.close()


def test_no_qemu(daemon, fake):
    daemon.folder("a", fake.config())
    (fake.home / "bin/qemu-system-x86_64").unlink()
    finding = find(doctor(daemon, code=1), "qemu", "fail")
    assert str(fake.home) in finding["text"] and finding["fix"]


def test_socket_with_another_mode(daemon):
    daemon.socket.chmod(0o666)
    finding = find(doctor(daemon, code=1), "socket", "fail", daemon.socket)
    mend(finding)
    find(doctor(daemon), "socket", "ok", daemon.socket)


def test_variables_of_cijoe(daemon, fake):
    daemon.folder("a", fake.config())
    find(doctor(daemon, env={"QEMU_GUESTS": str(daemon.guests) + "/", "QEMU_GUEST_NAME": "a"}), "environment", "ok",
         "QEMU_GUESTS")
    findings = doctor(daemon, code=1, env={
        "QEMU_GUESTS": "/opt", "QEMU_HOME": "/opt/qemu", "QEMU_GUEST_NAME": "nope", "QEMU_GUEST_CONSOLE": "file",
        "QEMU_NVME_LINES": "1", "QEMU_DEV_ID": "x", "QEMU_GUEST_MEN": "1"})
    finding = find(findings, "environment", "note", "QEMU_GUESTS")
    assert "'/opt'" in finding["text"] and str(daemon.guests) in finding["text"]
    assert finding["fix"].startswith(f"export QEMU_GUESTS={daemon.guests}")
    assert find(findings, "environment", "note", "QEMU_HOME")["fix"].startswith("unset QEMU_HOME")
    assert "no guest 'nope'" in find(findings, "environment", "fail", "QEMU_GUEST_NAME")["text"]
    assert "does nothing" in find(findings, "environment", "note", "QEMU_GUEST_CONSOLE")["text"]
    assert "newer" in find(findings, "environment", "note", "QEMU_NVME_LINES")["text"]
    assert "QEMU_GUEST_MEM?" in find(findings, "environment", "note", "QEMU_GUEST_MEN")["text"]
    assert not [f for f in findings if f["thing"] == "QEMU_DEV_ID"]


def test_no_daemon_answers(daemon, tmp_path):
    daemon.stop()
    findings = doctor(daemon, code=1, env={"QEMU_FOO": "1"})
    finding = find(findings, "daemon", "fail")
    assert str(daemon.socket) in finding["text"] and "systemctl start cijqemud" in finding["fix"]
    assert "only it can tell" in find(findings, "daemon", "note")["text"]
    find(findings, "unit")
    find(findings, "kvm")
    find(findings, "environment", "note", "QEMU_FOO")
    empty = tmp_path / "empty"
    empty.mkdir()
    path = {"PATH": str(empty), "QEMU_HOME": str(empty)}
    assert "apt-get install" in find(doctor(daemon, code=1, env=path), "qemu", "fail")["fix"]


SHOW = """\
MainPID={pid}
Result=success
ReadWritePaths=
ReadOnlyPaths={read_only}
InaccessiblePaths=
PrivateTmp={private_tmp}
PrivateDevices=no
ProtectHome={home}
ProtectSystem={system}
Id=cijqemud.service
LoadState={load}
ActiveState={active}
SubState=running
UnitFileState={enabled}

MainPID=
Id=cijqemud.socket
LoadState=loaded
ActiveState=inactive
UnitFileState=disabled
"""


@pytest.fixture
def systemctl(tmp_path):
    """A stand-in for systemctl on the PATH: tell(…) sets what it shows."""
    folder = tmp_path / "path"
    folder.mkdir()
    tool = folder / "systemctl"

    def tell(**values):
        text = SHOW.format(**{"pid": 1, "read_only": "", "private_tmp": "no", "home": "no", "system": "full",
                              "load": "loaded", "active": "active", "enabled": "enabled", **values})
        tool.write_text("#!/bin/sh\ncat <<'END'\n" + text + "END\n")
        tool.chmod(0o755)
        return {"PATH": f"{folder}:{os.environ['PATH']}"}
    return tell


def test_unit_and_its_sandbox(lab, systemctl):
    findings = doctor(lab, env=systemctl(pid=lab.pid))
    assert find(findings, "unit", "ok", "cijqemud.service") and find(findings, "sandbox", "ok")
    assert "enable --now cijqemud.socket" in find(findings, "unit", "note", "cijqemud.socket")["fix"]
    finding = find(doctor(lab, code=1, env=systemctl(pid=lab.pid, private_tmp="yes")), "sandbox", "fail", lab.guests)
    assert "PrivateTmp=yes" in finding["text"] and "PrivateTmp=no" in finding["fix"]
    assert "systemctl daemon-reload" in finding["fix"]
    finding = find(doctor(lab, code=1, env=systemctl(pid=lab.pid, system="strict")), "sandbox", "fail", lab.guests)
    assert f"ReadWritePaths={lab.guests}" in finding["fix"]
    find(doctor(lab, code=1, env=systemctl(pid=lab.pid, read_only="/opt /tmp")), "sandbox", "fail", lab.guests)
    # Not where its guests are.
    find(doctor(lab, env=systemctl(pid=lab.pid, home="yes")), "sandbox", "ok")


def test_unit_that_is_not_as_it_should_be(lab, systemctl):
    finding = find(doctor(lab, env=systemctl(pid=lab.pid, enabled="disabled")), "unit", "note", "cijqemud.service")
    assert "systemctl enable cijqemud" in finding["fix"]
    finding = find(doctor(lab, code=1, env=systemctl(pid=0, active="failed")), "unit", "fail", "cijqemud.service")
    assert "journalctl" in finding["fix"]
    finding = find(doctor(lab, env=systemctl(pid=0, active="inactive")), "unit", "note", "cijqemud.service")
    assert f"pid {lab.pid}" in finding["text"]
    finding = find(doctor(lab, env=systemctl(load="not-found")), "unit", "note", "cijqemud.service")
    assert "make install" in finding["fix"]
    lab.stop()
    finding = find(doctor(lab, code=1, env=systemctl(active="inactive", pid=0)), "unit", "fail", "cijqemud.service")
    assert "systemctl start cijqemud" in finding["fix"]
