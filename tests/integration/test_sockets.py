"""The plain sockets of a guest, for whatever tool: that of the human monitor, and how all three come and go."""

import json
import os
import shutil
import signal
import stat
import subprocess

import pytest

from harness import HANG, Daemon, wait_until
from monitors import Qmp, Raw, guest, hmp, real, sockets  # noqa: F401


# The human monitor


def test_hmp_banner_prompt_and_all_before_the_end(real):
    path = sockets(real, "tiny") / "hmp.sock"
    version = real.show("tiny")["qemu"]["version"].split()[0]
    assert hmp(path, "") == f"QEMU {version} monitor - type 'help' for more information\r\n(qemu) "
    out = hmp(path, "info status\n\nnosuch\r\ninfo name")
    _, first, empty, unknown, name, end = out.split("(qemu) ")
    assert first == "VM status: paused (prelaunch)\r\n" and empty == ""
    assert unknown == "unknown command: 'nosuch'\r\n" and name == "tiny\r\n" and end == ""


def test_hmp_lines_of_all_sorts(real):
    path = sockets(real, "tiny") / "hmp.sock"
    out = hmp(path, "x" * 10000 + "\ninfo name\n")
    assert "over 4095" in out and "\r\n(qemu) tiny\r\n(qemu) " in out
    assert "invalid CPU" in hmp(path, "cpu 99\n")
    # 'cpu N' holds for the lines behind it, as in a monitor of one's own.
    assert "(qemu) (qemu) \r\nCPU#0\r\n" in hmp(path, "cpu 0\ninfo registers\n")
    with Raw(path) as client:
        client.until(b"(qemu) ")
        client.send_raw("info na")
        assert client.silent()
        client.send_raw("me\n")
        assert client.until(b"(qemu) ") == b"tiny\r\n(qemu) "
        client.send_raw(b"info \xff\n")
        assert b"UTF-8" in client.until(b"(qemu) ")


def test_cijoes_line_powers_off(guest):
    link = guest.guests / "f" / "monitor.sock"
    assert os.readlink(link) == str(sockets(guest, "f") / "hmp.sock")
    # The stand-in knows the power button over QMP alone.
    guest.ctl("kill", "f")
    assert not link.exists()


def test_cijoes_line_powers_off_a_real_guest(booted):
    out = hmp(booted.guests / "tiny" / "monitor.sock", "system_powerdown\n")
    assert out.endswith("(qemu) (qemu) ") or "(qemu) " in out
    booted.ctl("wait", "tiny", "--for", "stopped", "--timeout", "60")
    view = booted.show("tiny")
    assert (view["reason"], view["exit"]) == ("guest-shutdown", {"code": 0})
    assert not list(sockets(booted, "tiny").glob("*")) if sockets(booted, "tiny").exists() else True


def test_a_file_of_the_owners_is_left_alone(daemon, fake):
    folder = daemon.folder("f", fake.config())
    (folder / "monitor.sock").write_text("mine")
    daemon.ctl("start", "f")
    assert (folder / "monitor.sock").read_text() == "mine"
    other = daemon.folder("g", fake.config())
    (other / "monitor.sock").symlink_to("/etc/passwd")
    daemon.ctl("start", "g")
    assert os.readlink(other / "monitor.sock") == "/etc/passwd"


# The sockets


def test_modes_do_not_depend_on_the_umask(tmp_path, fake):
    for umask in (0o000, 0o077):
        old = os.umask(umask)
        try:
            d = Daemon(tmp_path / str(umask))
            d.start()
        finally:
            os.umask(old)
        try:
            d.folder("f", fake.config())
            d.ctl("start", "f")
            wanted = 0o666 if os.geteuid() == 0 else 0o600
            for name in ("console.sock", "qmp.sock", "hmp.sock"):
                st = (sockets(d, "f") / name).lstat()
                assert stat.S_ISSOCK(st.st_mode) and stat.S_IMODE(st.st_mode) == wanted
        finally:
            d.close()


def test_sockets_come_and_go_with_the_guest(guest):
    folder = sockets(guest, "f")
    assert {p.name for p in folder.iterdir()} == {"console.sock", "hmp.sock", "qmp.sock", "qemu.sock"}
    guest.ctl("kill", "f")
    assert not folder.exists()
    guest.ctl("start", "f")
    with Qmp(folder / "qmp.sock") as client:
        assert client.ask({"execute": "query-name"}) == {"return": {"name": "f"}}


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_sockets_are_back_after_a_restart_of_the_daemon(guest, sig):
    pid = guest.show("f")["pid"]
    client = Qmp(sockets(guest, "f") / "qmp.sock")
    guest.restart(sig)
    assert client.to_end() == b""
    client.close()
    assert guest.show("f")["pid"] == pid
    with Qmp(sockets(guest, "f") / "qmp.sock") as again:
        assert again.ask({"execute": "query-name"}) == {"return": {"name": "f"}}
    assert "VM status: running" in hmp(guest.guests / "f" / "monitor.sock", "info status\n")
    with Raw(sockets(guest, "f") / "console.sock") as console:
        console.send_raw("hello\r")
        assert console.until(b"hello") == b"hello"


def test_a_removed_socket_is_made_again(guest):
    folder = sockets(guest, "f")
    (folder / "qmp.sock").unlink()
    shutil.rmtree(folder)
    wait_until(lambda: (folder / "qmp.sock").exists() and (folder / "hmp.sock").exists(), "they are back")
    with Qmp(folder / "qmp.sock") as client:
        assert client.ask({"execute": "query-name"}) == {"return": {"name": "f"}}


def test_console_socket_serves_many(guest):
    path = sockets(guest, "f") / "console.sock"
    clients = [Raw(path) for _ in range(5)]
    try:
        wait_until(lambda: guest.show("f")["console"]["viewers"] == 5, "all are in")
        clients[0].send_raw("one\r")
        for client in clients:
            assert client.until(b"one\r") == b"one\r"
        clients[3].send_raw("two\r")  # nobody's keys are lost, as on a cable
        for client in clients:
            assert client.until(b"two\r") == b"two\r"
    finally:
        for client in clients:
            client.close()


def test_socat_on_the_console(guest):
    done = subprocess.run(["socat", "-t", "2", "-", f"UNIX-CONNECT:{sockets(guest, 'f') / 'console.sock'}"],
                          input=b"a line\r", capture_output=True, timeout=HANG)
    assert done.stdout == b"a line\r"


def test_a_script_like_qmp_shell(guest):
    """Greeting, negotiation, a command a line, half-closed at the end: all is answered."""
    script = '{"execute": "qmp_capabilities"}\n{"execute": "query-name", "id": "x"}\n{"execute": "query-status"}\n'
    done = subprocess.run(["socat", "-t", "20", "-", f"UNIX-CONNECT:{sockets(guest, 'f') / 'qmp.sock'}"], input=script,
                          capture_output=True, timeout=HANG, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert "QMP" in lines[0] and lines[1] == {"return": {}}
    assert lines[2] == {"return": {"name": "f"}, "id": "x"} and lines[3]["return"]["running"] is True
