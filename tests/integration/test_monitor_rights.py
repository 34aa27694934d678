"""Who may do what at a monitor, by whichever way, and what is on record of it."""

import json
import os

import pytest

from harness import Daemon, FakeQemu, wait_until
from monitors import NOBODY, STRANGER, Qmp, Raw, as_user, guest, hmp, real, root_only, sockets  # noqa: F401

FORBIDDEN = [{"execute": "migrate", "arguments": {"uri": "exec:true"}}, {"execute": "migrate-incoming"},
             {"execute": "set-action", "arguments": {"shutdown": "pause"}},
             {"execute": "add_client", "arguments": {"protocol": "qmp0", "fdname": "x"}},
             {"execute": "chardev-remove", "arguments": {"id": "qmp0"}},
             {"execute": "chardev-change", "arguments": {"id": "con0", "backend": {"type": "null", "data": {}}}},
             *({"execute": "human-monitor-command", "arguments": {"command-line": line}}
               for line in ("migrate tcp:x", " chardev-remove qmp0", 'chardev-remove "qmp0"', "chardev-change con0 null",
                            "migrate_incoming x", "\tchardev-remove\tcon0"))]


def test_what_breaks_supervision_is_refused_everywhere(real):
    with Qmp(sockets(real, "tiny") / "qmp.sock") as client:
        for command in FORBIDDEN:
            desc = client.ask(command)["error"]["desc"]
            assert "not passed on" in desc and ("daemon's hands" in desc or "daemon's own" in desc)
            done = real.ctl("qmp", "tiny", json.dumps(command), code=1)
            assert "not passed on" in done.stderr
        # Chardevs of the owner's are the owner's.
        add = {"id": "mine", "backend": {"type": "null", "data": {}}}
        assert "return" in client.ask({"execute": "chardev-add", "arguments": add})
        assert "return" in client.ask({"execute": "chardev-change", "arguments": add})
        assert "return" in client.ask({"execute": "chardev-remove", "arguments": {"id": "mine"}})
    for line in ("chardev-remove qmp0", "migrate x"):
        assert "not passed on" in hmp(sockets(real, "tiny") / "hmp.sock", line)
        assert "not passed on" in real.ctl("monitor", "tiny", line, code=1).stderr


@pytest.fixture
def shared(tmp_path):
    """A root daemon's guest of another user's, shared with a third."""
    if os.geteuid() != 0:
        pytest.skip("this machine cannot: needs root for a second user")
    base = tmp_path
    for folder in [base, *base.parents]:  # pytest's folders are root's alone
        if str(folder).startswith("/tmp/") and folder != base.parents[-1]:
            folder.chmod(folder.stat().st_mode | 0o055)
    fake = FakeQemu(base / "qemu")
    d = Daemon(base / "d")
    try:
        d.start()
        d.folder("f", fake.config(share=["games"]))
        for path in [d.guests / "f", *(d.guests / "f").rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
        d.ctl("start", "f")
        yield d
    finally:
        d.close()


def answers(path, *commands):
    with Qmp(path) as client:
        return [client.ask(command) for command in commands]


@root_only
def test_the_owner_may_all(shared):
    assert os.stat(f"/proc/{shared.show('f')['pid']}").st_uid == NOBODY
    path = sockets(shared, "f")
    with as_user(NOBODY):
        for reply in answers(path / "qmp.sock", {"execute": "query-name"}, {"execute": "stop"},
                             {"execute": "device_add", "arguments": {"id": "x", "driver": "nvme"}}):
            assert "return" in reply
        with Raw(path / "hmp.sock") as client:
            client.send_raw("info status\ndevice_add x\n")
            client.until(b"paused\r\n(qemu) ")
            assert b"unknown command" in client.until(b"(qemu) ")
    assert os.lstat(shared.guests / "f" / "monitor.sock").st_uid == NOBODY


@root_only
def test_who_may_operate_runs_queries_and_the_power_switch(shared):
    path = sockets(shared, "f")
    with as_user(5):  # games
        for reply in answers(path / "qmp.sock", {"execute": "query-name"}, {"execute": "stop"}, {"execute": "cont"},
                             {"execute": "system_reset"},
                             {"execute": "human-monitor-command", "arguments": {"command-line": "stop"}}):
            assert "return" in reply
        denied = answers(path / "qmp.sock", {"execute": "device_add", "arguments": {"id": "x"}},
                         {"execute": "blockdev-add", "arguments": {}}, {"execute": "screendump", "arguments": {}},
                         {"execute": "human-monitor-command", "arguments": {"command-line": "device_add nvme"}},
                         {"execute": "human-monitor-command", "arguments": {"command-line": "info status"}},
                         {"execute": "human-monitor-command", "arguments": {"command-line": "pmemsave 0 1 x"}})
        for reply in denied:
            assert "for the guest's owner and admins" in reply["error"]["desc"]
        with Raw(path / "hmp.sock") as client:
            client.until(b"(qemu) ")
            for line in ("info status\n", "device_add nvme\n"):
                client.send_raw(line)
                assert b"owner and admins" in client.until(b"(qemu) ")
            client.send_raw("system_reset\n")  # the stand-in's human monitor has no such command
            assert b"unknown command" in client.until(b"(qemu) ")


@root_only
def test_who_may_only_view_gets_nothing_but_the_console(shared):
    path = sockets(shared, "f")
    with as_user(STRANGER):
        for reply in answers(path / "qmp.sock", {"execute": "query-name"}, {"execute": "quit"}):
            assert "may not use this guest's monitor" in reply["error"]["desc"]
        events = Qmp(path / "qmp.sock")
        with Raw(path / "hmp.sock") as client:
            client.until(b"(qemu) ")
            client.send_raw("info status\nquit\n")
            for _ in range(2):
                assert b"may not use" in client.until(b"(qemu) ")
        console = Raw(path / "console.sock")
    with Raw(path / "console.sock") as typing:
        wait_until(lambda: shared.show("f")["console"]["viewers"] == 2, "both are in")
        console.send_raw("from a stranger")
        typing.send_raw("from root\r")
        assert typing.until(b"from root\r") == b"from root\r"
    assert console.until(b"from root\r") == b"from root\r"  # sees all, types nothing
    shared.ctl("pause", "f")
    assert events.silent()
    events.close()
    console.close()
    assert shared.show("f")["state"] == "paused"


def test_a_user_cannot_take_all_connections(guest):
    """Beyond the limit there is a reason, and the others go on."""
    path = sockets(guest, "f") / "qmp.sock"
    clients = []
    try:
        first = Qmp(path)
        clients.append(first)
        for _ in range(511):
            client = Raw(path)
            clients.append(client)
            assert b"QMP" in client.read_line()
        with Raw(path) as refused:
            assert "too many clients" in json.loads(refused.read_line())["error"]["desc"]
            assert refused.to_end() == b""
        assert first.ask({"execute": "query-name"}) == {"return": {"name": "f"}}
    finally:
        for client in clients:
            client.close()
    wait_until(lambda: b"QMP" in Raw(path).read_line(), "there is room again")


def test_what_changes_something_is_in_the_journal(guest):
    with Qmp(sockets(guest, "f") / "qmp.sock") as client:
        client.ask({"execute": "query-name"})
        client.ask({"execute": "stop"})
        client.ask({"execute": "nosuch-thing"})
        client.ask({"execute": "migrate"})
    guest.ctl("monitor", "f", "info status")
    guest.ctl("monitor", "f", "nosuch", "line")
    guest.ctl("qmp", "f", "cont")
    log = guest.log_text()
    me = f"uid {os.geteuid()} pid {os.getpid()}"
    assert f"{me}: qmp 'stop' f: done (" in log and "query-name" not in log
    assert f"{me}: qmp 'nosuch-thing' f: The command nosuch-thing has not been found" in log
    assert f"{me}: qmp 'migrate' f: 'migrate' is not passed on" in log
    assert "hmp 'nosuch line' f: done" in log and "qmp 'cont' f: done" in log and "info status" not in log
