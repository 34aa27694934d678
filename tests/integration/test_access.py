"""Who may do what: real users, the kernel's word on who asks, and nothing else."""

import json
import os
import pathlib
import re
import stat

import pytest

from harness import Client, wait_until
from lab import (ADMIN, GROUP, OWNER, SHARED, STRANGER, TEAM, TEAMMATE, VIEWER, Lab, lab,  # noqa: F401
                 root_only)

pytestmark = root_only

SHARES = [str(SHARED.uid), f"@{TEAM}"]

# Everyone who asks, by which socket, and what they may do at most to a guest of OWNER's.
WHO = [(OWNER, False, "own"), (SHARED, False, "operate"), (TEAMMATE, False, "operate"), (STRANGER, False, "view"),
       (ADMIN, False, "own"), (VIEWER, True, "view"), (OWNER, True, "view"), (ADMIN, True, "view")]
LEVELS = ["view", "operate", "own", "admin"]

# Arguments that each operation needs beside the guest; those that are not here need none.
ARGUMENTS = {
    "guest-wait": {"for": "stopped", "timeout": 1},
    "qmp-execute": {"command": {"execute": "query-status"}},
    "hmp": {"line": "system_reset"},
    "guest-set": {"cpus": 1},
    "guest-share": {"add": ["30002"]},
    "device-plug": {"device": "nvme0"},
    "device-unplug": {"device": "nvme0"},
    "device-format": {"device": "nvme0"},
    "device-inject": {"device": "nvme0"},
    "lease-acquire": {"seconds": 60},
}


def operations(daemon):
    with daemon.connect() as c:
        return c.call("query-operations")


def needs_guest(op):
    return any(a["name"] == "guest" for a in op["arguments"])


def arguments(op):
    given = {"guest": "g", **ARGUMENTS.get(op["name"], {})} if needs_guest(op) else {}
    for a in op["arguments"]:
        if a.get("required") and a["name"] not in given:
            given[a["name"]] = {"string": "nvme0", "integer": 1, "object": {}, "array": []}.get(a["type"], "x")
    return given


def test_every_operation_for_everyone(lab):
    """The table: made from the operations themselves, so that none is forgotten."""
    wrong = []
    for op in operations(lab):
        for user, read_only, level in WHO:
            # A guest of its own for each, which nobody's doing before has changed.
            lab.folder_of(OWNER, "g", lab.fake.config(share=SHARES))
            args = arguments(op)
            creates = op["name"] == "guest-create"
            if op["name"] == "guest-create":
                args = {"guest": "new"}
            with lab.connect_as(user, read_only) as c:
                reply = c.ask(op["name"], **args)
            denied = reply.get("error", {}).get("class") == "Denied"
            if creates:
                may = not read_only and (op["access"] != "admin" or user is ADMIN)
            elif needs_guest(op):
                may = LEVELS.index(op["access"]) <= LEVELS.index(level)
            elif op["access"] == "admin":
                may = user is ADMIN and not read_only
            else:
                may = not op["changes"]
            if denied == may:
                wrong.append((op["name"], user, read_only, reply))
            if denied:
                text = reply["error"]["desc"]
                # What it is in the user's words, which are not the protocol's.
                assert "you may not " in text and op["name"] not in text and "(null)" not in text, text
            if denied and needs_guest(op) and not creates:
                assert str(OWNER.uid) in text and "admins" in text, text
                if op["access"] == "operate":
                    assert str(SHARED.uid) in text and f"@{TEAM}" in text, text
            with lab.connect() as c:
                for name in ("g", "new"):
                    c.ask("lease-release", guest=name, steal=True)
                    c.ask("guest-kill", guest=name)
                    c.ask("guest-delete", guest=name)
    assert not wrong, wrong


def test_a_denial_says_what_was_typed(lab):
    lab.folder_of(OWNER, "g", lab.fake.config())
    for command, *args in (["start"], ["stop"], ["kill"], ["delete", "--yes"], ["reset"], ["lease", "--for", "1m"]):
        done = lab.ctl_as(STRANGER, command, "g", *args, code=77)
        assert f"you may not {command} 'g'" in done.stderr, done.stderr
    done = lab.ctl_as(STRANGER, "--json", "set", "g", "cpus=2", code=77)
    assert "you may not change 'g'" in done.stderr
    done = lab.ctl_as(VIEWER, "create", "mine", code=77)
    assert "you may not create guests" in done.stderr


def test_who_operates_a_guest_gives_it_another_drive(lab):
    """As the table has it, whatever guest.json then says of it; but a drive that names a file has it read as the
    owner, and what is wrong in it is told."""
    path = lab.folder_of(OWNER, "g", lab.fake.config(share=SHARES))
    (path / "words").write_text("the owner's words\n")
    (path / "words").chmod(0o600)
    os.chown(path / "words", OWNER.uid, OWNER.gid)
    lab.ctl_as(OWNER, "start", "g")
    lab.ctl_as(SHARED, "device", "plug", "g", "nvme,size=1M")
    assert (path / "nvme0.img").stat().st_uid == OWNER.uid
    assert json.loads((path / "guest.json").read_text())["devices"][0]["id"] == "nvme0"
    for key in ("writefail", "resetfail", "chunkinfo"):
        for user, code in ((SHARED, 77), (OWNER, None)):
            done = lab.ctl_as(user, "device", "plug", "g", f"ocssd,{key}=words", code=code)
            assert ("you may not name a file" in done.stderr) == (user is SHARED), done
            assert "words'" not in done.stderr or user is OWNER, done
    with lab.connect_as(SHARED) as c:
        reply = c.ask("device-inject", guest="g", device="nvme0", inject=[])
    assert reply.get("error", {}).get("class") != "Denied", reply
    lab.ctl_as(STRANGER, "device", "plug", "g", "nvme,size=1M", code=77)


def test_sockets_as_designed(lab):
    st = lab.socket.stat()
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o660, 0, GROUP)
    assert stat.S_IMODE(lab.read_only.stat().st_mode) == 0o666
    with pytest.raises(PermissionError):
        lab.connect_as(VIEWER)
    lab.stop()
    assert not lab.socket.exists() and not lab.read_only.exists()


def test_without_the_group_only_root_may_write(tmp_path):
    d = Lab(options=["--group", "no-such-group"])
    try:
        d.start()
        assert stat.S_IMODE(d.socket.stat().st_mode) == 0o600
        assert d.connect_as(VIEWER, read_only=True).call("query-guests") == []
    finally:
        d.close()


def test_the_client_falls_back_to_the_read_only_socket(lab):
    lab.folder_of(OWNER, "g", lab.fake.config())
    assert "g " in lab.ctl_as(VIEWER, "list").stdout
    done = lab.ctl_as(VIEWER, "start", "g", code=77)
    assert "read-only socket" in done.stderr and "group cijqemu" in done.stderr
    assert "Denied" not in done.stderr and len(done.stderr.splitlines()) == 1
    lab.ctl_as(VIEWER, "create", "mine", code=77)
    assert not (lab.guests / "mine").exists()


def status_of(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return dict(re.findall(r"^(\w+):\t(.*)$", text, re.M))


def test_a_guest_runs_as_its_owner(lab):
    lab.folder_of(OWNER, "g", lab.fake.config(devices=[{"id": "nvme0", "type": "nvme", "size": "1M"}]))
    lab.ctl_as(OWNER, "start", "g")
    pid = lab.show("g")["pid"]
    s = status_of(pid)
    assert s["Uid"].split() == [str(OWNER.uid)] * 4
    assert s["Gid"].split() == [str(OWNER.gid)] * 4
    assert 0 not in map(int, s["Groups"].split())
    assert int(s["CapPrm"], 16) == int(s["CapEff"], 16) == 0 and s["NoNewPrivs"] == "1"
    for path in (lab.guests / "g").rglob("*"):
        assert path.lstat().st_uid == OWNER.uid, path
    lab.ctl_as(OWNER, "kill", "g")
    assert lab.json("show", "g")["reason"] == "killed"


def test_a_named_owner_has_all_his_groups(lab):
    """User 'daemon' of /etc/passwd; a group of the folder that he is not in is not his."""
    path = lab.folder("g", lab.fake.config())
    for p in [path, *path.iterdir()]:
        os.chown(p, 1, 42)  # daemon, shadow
    lab.ctl("start", "g")
    s = status_of(lab.show("g")["pid"])
    assert s["Uid"].split()[0] == "1" and s["Gid"].split() == ["1"] * 4
    assert "42" not in s["Groups"].split()
    assert {p.stat().st_gid for p in (path / "logs").iterdir()} == {1}


def test_a_nameless_owner_gets_no_group_by_inheritance(lab):
    """A set-gid folder of guests gives its group to every folder made in it."""
    lab.guests.chmod(0o3777)
    os.chown(lab.guests, 0, 42)
    lab.folder_of(OWNER, "g", lab.fake.config())
    os.chown(lab.guests / "g", OWNER.uid, 42)
    lab.ctl("start", "g")
    s = status_of(lab.show("g")["pid"])
    assert "42" not in s["Groups"].split() + s["Gid"].split()


def test_create_makes_the_folder_the_askers(lab):
    lab.ctl_as(STRANGER, "create", "mine", "--kernel", lab.fake.home / "bzImage", code=None)
    lab.ctl_as(STRANGER, "create", "other", "--memory", "64M", code=0)
    st = (lab.guests / "other").stat()
    assert (st.st_uid, st.st_gid) == (STRANGER.uid, STRANGER.gid)
    assert (lab.guests / "other/guest.json").stat().st_uid == STRANGER.uid
    lab.ctl_as(STRANGER, "delete", "other", "--yes")
    assert not (lab.guests / "other").exists()


def test_a_viewer_watches_the_console_and_cannot_type(lab):
    lab.folder_of(OWNER, "g", lab.fake.config())
    lab.ctl_as(OWNER, "start", "g")
    for user, read_only in ((STRANGER, False), (VIEWER, True), (OWNER, True)):
        with lab.connect_as(user, read_only) as c:
            assert c.call("console-attach", guest="g")["mode"] == "read-only"
        for mode in ("force", "join"):
            with lab.connect_as(user, read_only) as c:
                assert c.ask("console-attach", guest="g", mode=mode)["error"]["class"] == "Denied"
    with lab.connect_as(OWNER) as c:
        assert c.call("console-attach", guest="g")["mode"] != "read-only"


def test_share_lets_in_and_shuts_out(lab):
    lab.folder_of(OWNER, "g", lab.fake.config())
    lab.ctl_as(SHARED, "start", "g", code=77)
    lab.ctl_as(SHARED, "share", "g", "--add", SHARED.uid, code=77)
    out = lab.ctl_as(OWNER, "share", "g", "--add", SHARED.uid, "--add", f"@{TEAM}").stdout
    assert out.split() == [str(SHARED.uid), f"@{TEAM}"]
    lab.ctl_as(SHARED, "start", "g")
    lab.ctl_as(TEAMMATE, "pause", "g")
    lab.ctl_as(TEAMMATE, "delete", "g", "--yes", code=77)
    lab.ctl_as(OWNER, "share", "g", "--remove", f"@{TEAM}")
    lab.ctl_as(TEAMMATE, "resume", "g", code=77)  # at once, not only at the next start
    assert lab.ctl_as(VIEWER, "share", "g").stdout.split() == [str(SHARED.uid)]
    lab.ctl_as(OWNER, "share", "g", "--remove", "nobody-there", code=65)
    assert json.loads((lab.guests / "g/guest.json").read_text())["share"] == [str(SHARED.uid)]


@pytest.mark.parametrize("name", ["", "@", "a b", "a:b", "-a", "a\x1b[31m", "@a\nb", "a\x7f"])
def test_a_name_that_no_account_can_have(lab, name):
    lab.folder_of(OWNER, "g", lab.fake.config())
    with lab.connect_as(OWNER) as c:
        reply = c.ask("guest-share", guest="g", add=[name])
    assert reply["error"]["class"] == "BadRequest" and "names no user or group" in reply["error"]["desc"]
    assert not any(c < " " or c == "\x7f" for c in reply["error"]["desc"])


def test_share_by_name(lab):
    lab.folder_of(OWNER, "g", lab.fake.config(share=["nobody", "@bin"]))
    from lab import User
    for user, code in ((User("nobody", 65534, GROUP), 0), (User("x", 30020, GROUP, 2), 0),
                       (User("y", 30020, GROUP), 77)):
        lab.ctl_as(user, "start", "g", code=code)
        lab.ctl("kill", "g")


def test_history_names_who_what_whom_and_how(lab):
    lab.folder_of(OWNER, "g", lab.fake.config())
    lab.ctl_as(OWNER, "start", "g")
    lab.ctl_as(STRANGER, "kill", "g", code=77)
    lab.ctl_as(STRANGER, "start", "nix", code=66)
    with lab.connect_as(VIEWER, read_only=True) as c:
        got = c.call("query-history", guests=["g"])
        everything = c.call("query-history")
    assert [(e["uid"], e["operation"], e["guest"], e["result"]) for e in got] == [
        (OWNER.uid, "guest-start", "g", "done"), (STRANGER.uid, "guest-kill", "g", "Denied")]
    assert "owner" in got[1]["error"] and got[0]["ms"] >= 0 and got[0]["error"] is None
    assert everything[-1]["guest"] == "nix" and everything[-1]["result"] == "GuestNotFound"
    text = lab.log_text()
    assert f"uid {STRANGER.uid}" in text and re.search(r"guest-kill g: you may not", text)
    lab.restart()
    lines = lab.ctl_as(VIEWER, "events", "--history", "g").stdout.splitlines()
    assert len(lines) == 2 and "guest-start g: done" in lines[0] and "30005" in lines[1]
    assert json.loads(lab.ctl("--json", "events", "--history").stdout)[-1]["guest"] == "nix"


def flood(client, name, n):
    """@n refusals, or more."""
    for _ in range(0, n, 100):
        ids = [client.send("guest-kill", guest=name) for _ in range(100)]
        for _ in ids:
            assert "error" in client.read()


def test_history_is_bounded_and_survives_rubbish(lab):
    path = lab.state / "refused.jsonl"
    with lab.connect() as c:
        for i in range(4):
            c.ask("guest-kill", guest=f"x{i}")
        with open(path, "a") as f:
            f.write('{"half": "a li\n\0\n[]\n')
        c.ask("guest-kill", guest="last")
        got = c.call("query-history", limit=3)
        assert [e["guest"] for e in got] == ["x2", "x3", "last"] and not any("us" in e for e in got)
        for i in range(30):
            flood(c, "a" * 61 + str(i + 10), 100)
        got = c.call("query-history", limit=5000)
        assert got[-1]["guest"][-2:] == "39" and 10 <= len(got) < 30
    sizes = {p.name: p.stat().st_size for p in lab.state.glob("*.jsonl")}
    assert sorted(sizes) == ["history.jsonl", "refused.1.jsonl", "refused.jsonl"]
    assert sizes["refused.1.jsonl"] > 200 * 1024 and max(sizes.values()) <= 256 * 1024
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_strangers_refusals_push_out_no_deed(lab):
    lab.folder_of(OWNER, "g", lab.fake.config())
    lab.ctl_as(OWNER, "start", "g")
    with lab.connect_as(STRANGER) as c:
        flood(c, "g", 5000)
        lab.ctl_as(OWNER, "kill", "g")
        flood(c, "g", 100)
        got = c.call("query-history", guests=["g"], limit=5)
        more = c.call("query-history", guests=["g"], limit=1)
    assert [(e["operation"], e["result"], e.get("times", 1) > 1) for e in got] == [
        ("guest-start", "done", False), ("guest-kill", "Denied", True),
        ("guest-kill", "done", False), ("guest-kill", "Denied", True)]
    assert got[3]["times"] == 100 and more == got[3:]
    assert lab.log_text().count("guest-kill g: you may not") >= 5100  # the journal has each
    lines = lab.ctl("events", "--history", "g").stdout.splitlines()
    assert len(lines) == 4 and "100 times in a row" in lines[3] and "times" not in lines[2]


def test_share_with_names_that_no_file_has(lab):
    """They are asked of the name service, off the loop; who is in by another entry need not wait for it."""
    lab.folder_of(OWNER, "g", lab.fake.config(share=["no-such-user", "@no-such-group", str(SHARED.uid)]))
    lab.ctl_as(SHARED, "start", "g")
    done = lab.ctl_as(STRANGER, "kill", "g", code=77)
    assert "no-such-user" in done.stderr
    with lab.connect_as(STRANGER) as c:
        ids = [c.send("guest-kill", guest="g") for _ in range(5)]
        assert [c.receive(i)["error"]["class"] for i in ids] == ["Denied"] * 5
    c = lab.connect_as(STRANGER)
    for _ in range(5):
        c.send("guest-kill", guest="g")
    c.close()
    assert lab.show("g")["state"] == "running"
