"""Leases: one user's guest for a while, a queue behind it, and an end that always comes."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from harness import BUILD, HANG, wait_until
from lab import ADMIN, OWNER, SHARED, STRANGER, TEAM, TEAMMATE, VIEWER, Lab, User, lab, root_only  # noqa: F401

pytestmark = root_only

ROOT = User("root", 0)


@pytest.fixture
def g(lab):
    """A guest that OWNER, SHARED and TEAMMATE may operate."""
    lab.folder_of(OWNER, "g", lab.fake.config(share=[str(SHARED.uid), f"@{TEAM}"]))
    return lab


def holder(lab):
    lease = lab.show("g")["lease"]
    return lease and lease.get("uid")


def start_as(lab, user, *args, **kw):
    return subprocess.Popen([BUILD / "cijqemuctl", *map(str, args)], env=lab.client_env({"HOME": "/"}), text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            **user.as_process, **kw)


def process_of(user):
    """A process of @user's that lives until it is killed."""
    return subprocess.Popen(["sleep", "1000"], **user.as_process)


def queue(lab):
    lease = lab.show("g")["lease"]
    return [place["uid"] for place in lease["queue"]] if lease else []


def test_only_the_holder_operates(g):
    g.ctl_as(SHARED, "lease", "g", "--for", "2h", "-m", "bisecting the FTL")
    g.ctl_as(SHARED, "start", "g")
    for user in (OWNER, TEAMMATE, ADMIN):
        for args in (["stop", "g"], ["kill", "g"], ["pause", "g"], ["set", "g", "cpus=1"], ["delete", "g", "--yes"]):
            if args[0] in ("set", "delete") and user is TEAMMATE:
                continue
            done = g.ctl_as(user, *args, code=75)
            assert f"uid {SHARED.uid}" in done.stderr and "bisecting the FTL" in done.stderr
            assert "until 20" in done.stderr and "lease g --wait" in done.stderr
            assert ("--steal" in done.stderr) == (user is ADMIN)
    g.ctl_as(STRANGER, "stop", "g", code=77)
    assert g.show("g")["state"] == "running"
    # Looking is for everybody, sharing stays the owner's.
    g.ctl_as(VIEWER, "show", "g")
    g.ctl_as(OWNER, "share", "g", "--add", STRANGER.uid)
    with g.connect_as(OWNER) as c:
        assert c.call("console-attach", guest="g")["mode"] == "read-only"
    with g.connect_as(OWNER) as c:
        assert c.ask("console-attach", guest="g", mode="force")["error"]["class"] == "Leased"
    with g.connect_as(SHARED) as c:
        assert c.call("console-attach", guest="g")["mode"] != "read-only"
    g.ctl_as(SHARED, "stop", "g")
    g.ctl_as(SHARED, "release", "g")
    g.ctl_as(OWNER, "start", "g")


def test_shown_in_list_who_and_lease(g):
    g.ctl_as(SHARED, "lease", "g", "--for", "90m", "-m", "why not")
    until = g.show("g")["lease"]["until"]
    line = next(x for x in g.ctl("list").stdout.splitlines() if x.startswith("g "))
    assert f"leased by {SHARED.uid} until {until}" in line or f"leased by uid {SHARED.uid} until {until}" in line
    assert until in g.ctl("who", "g").stdout and until in g.ctl("lease").stdout
    assert "why not" in g.ctl("lease").stdout
    assert [x["guest"] for x in g.json("lease")] == ["g"]
    seconds = time.mktime(time.strptime(until, "%Y-%m-%dT%H:%M:%SZ")) - time.mktime(time.gmtime())
    assert 5300 < seconds <= 5401


def test_who_may_lease(g):
    g.ctl_as(STRANGER, "lease", "g", "--for", "1h", code=77)
    g.ctl_as(VIEWER, "lease", "g", "--for", "1h", code=77)
    assert holder(g) is None
    assert g.json("lease") == []


@pytest.mark.parametrize("args, code", [
    (["--for", "0"], 64), (["--for", "soon"], 64), (["--for", "-1h"], 64), (["--for", "1h30"], 64),
    (["--for", "31d"], 65), (["--while", "x"], 64), (["--while", "0"], 64), (["--while", "4194303"], 65),
    (["--while", "1"], 77), (["--steal"], 64), (["-m", "x" * 300, "--for", "1h"], 65),
    (["-m", "two\nlines", "--for", "1h"], 65),
])
def test_bad_wishes(g, args, code):
    done = g.ctl_as(OWNER, "lease", "g", *args, code=code)
    assert len(done.stderr.splitlines()) == 1
    assert holder(g) is None


def test_extended_and_shortened_by_its_holder(g):
    g.ctl_as(OWNER, "lease", "g", "--for", "1h")
    first = g.show("g")["lease"]["until"]
    g.ctl_as(OWNER, "lease", "g", "--for", "2h")
    assert g.show("g")["lease"]["until"] > first
    g.ctl_as(OWNER, "lease", "g", "--for", "1m")
    assert g.show("g")["lease"]["until"] < first
    g.ctl_as(SHARED, "release", "g", code=75)
    g.ctl_as(OWNER, "release", "g")
    assert "was not leased" in g.ctl_as(OWNER, "release", "g").stderr


def test_time_ends_it(g):
    g.ctl_as(OWNER, "lease", "g", "--for", "1m")
    g.ctl_as(SHARED, "start", "g", code=75)
    g.ctl_as(OWNER, "lease", "g", "--for", "1s")
    wait_until(lambda: holder(g) is None, "the lease ends")
    g.ctl_as(SHARED, "start", "g")


def test_it_ends_with_its_process(g):
    p = process_of(OWNER)
    g.ctl_as(OWNER, "lease", "g", "--while", p.pid)
    lease = g.show("g")["lease"]
    assert lease["pid"] == p.pid and lease["until"] is None
    assert f"process {p.pid}" in g.ctl_as(SHARED, "start", "g", code=75).stderr
    p.kill()
    p.wait()
    g.ctl_as(SHARED, "start", "g")  # at once: nobody waits for the news to come round


def test_a_process_of_somebody_elses(g):
    p = process_of(SHARED)
    try:
        done = g.ctl_as(OWNER, "lease", "g", "--while", p.pid, code=77)
        assert "not yours" in done.stderr
    finally:
        p.kill()
        p.wait()


def test_a_command_has_it_and_its_exit_code_comes_back(g):
    done = g.ctl_as(OWNER, "lease", "g", "--", "sh", "-c", "echo out; exit 7", code=7)
    assert done.stdout == "out\n" and "leased" in done.stderr
    assert holder(g) is None
    g.ctl_as(OWNER, "lease", "g", "--", "sh", "-c", "kill -9 $$", code=137)
    g.ctl_as(OWNER, "lease", "g", "--", "no-such-command", code=127)
    g.ctl_as(SHARED, "lease", "g", "--for", "1h")
    assert g.ctl_as(OWNER, "lease", "g", "--", "touch", "/tmp/never", code=75).stdout == ""
    assert not os.path.exists("/tmp/never")


def test_a_command_goes_on_when_we_are_killed(g):
    p = start_as(g, OWNER, "lease", "g", "--", "sleep", "1000")
    wait_until(lambda: holder(g) == OWNER.uid, "the lease is there")
    child = g.show("g")["lease"]["pid"]
    p.kill()
    p.wait()
    assert holder(g) == OWNER.uid
    os.kill(child, signal.SIGTERM)
    wait_until(lambda: holder(g) is None, "the lease ends with the command")


def test_two_jobs_of_one_user_are_two(g):
    p = start_as(g, OWNER, "lease", "g", "--", "sleep", "1000")
    wait_until(lambda: holder(g) == OWNER.uid, "the lease is there")
    assert "yourself" in g.ctl_as(OWNER, "lease", "g", "--", "true", code=75).stderr
    second = start_as(g, OWNER, "lease", "g", "--wait", "--", "echo", "second")
    wait_until(lambda: queue(g) == [OWNER.uid], "the second waits")
    p.terminate()
    assert p.wait(HANG) == 143
    assert second.communicate(timeout=HANG)[0] == "second\n"


def test_a_command_within_a_longer_lease_leaves_it(g):
    g.ctl_as(OWNER, "lease", "g", "--for", "2h")
    until = g.show("g")["lease"]["until"]
    g.ctl_as(OWNER, "lease", "g", "--", "true")
    assert g.show("g")["lease"]["until"] == until


def test_queue_in_order_with_places(g):
    g.ctl_as(OWNER, "lease", "g", "--for", "1h")
    second = start_as(g, SHARED, "lease", "g", "--for", "1h", "--wait")
    wait_until(lambda: queue(g) == [SHARED.uid], "the second waits")
    third = start_as(g, TEAMMATE, "lease", "g", "--for", "1h", "--wait")
    wait_until(lambda: queue(g) == [SHARED.uid, TEAMMATE.uid], "the third waits")
    assert [x["place"] for x in g.show("g")["lease"]["queue"]] == [1, 2]
    assert "; 2 wait for it" in g.ctl_as(ADMIN, "start", "g", code=75).stderr
    assert "place 2" in g.ctl("who", "g").stdout
    g.ctl_as(OWNER, "release", "g")
    assert second.wait(HANG) == 0 and "; waiting" in second.stderr.read()
    assert holder(g) == SHARED.uid and third.poll() is None
    g.ctl_as(SHARED, "release", "g")
    assert third.wait(HANG) == 0
    assert holder(g) == TEAMMATE.uid


def test_leaving_the_queue(g):
    g.ctl_as(OWNER, "lease", "g", "--for", "1h")
    gone = start_as(g, SHARED, "lease", "g", "--wait")
    wait_until(lambda: queue(g) == [SHARED.uid], "one waits")
    gone.send_signal(signal.SIGINT)
    gone.wait()
    wait_until(lambda: queue(g) == [], "who hung up is out of the queue")
    g.ctl_as(SHARED, "--timeout", "0.3", "lease", "g", "--wait", code=124)
    wait_until(lambda: queue(g) == [], "who ran out of time is, too")
    killed = start_as(g, SHARED, "lease", "g", "--wait", "--", "true")
    wait_until(lambda: queue(g) == [SHARED.uid], "one waits")
    killed.kill()
    killed.wait()
    wait_until(lambda: queue(g) == [], "who was killed is, too")


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_all_of_it_survives_a_restart(g, sig):
    p = process_of(OWNER)
    g.folder_of(OWNER, "h", g.fake.config())
    g.ctl_as(OWNER, "lease", "h", "--while", p.pid)
    g.ctl_as(OWNER, "lease", "g", "--for", "1h", "-m", "why")
    before = g.show("g")["lease"]
    second = start_as(g, SHARED, "lease", "g", "--for", "1h", "--wait")
    wait_until(lambda: queue(g) == [SHARED.uid], "the second waits")
    third = start_as(g, TEAMMATE, "lease", "g", "--for", "1h", "--wait")
    wait_until(lambda: queue(g) == [SHARED.uid, TEAMMATE.uid], "the third waits")
    g.restart(sig)
    after = g.show("g")["lease"]
    for member in ("uid", "since", "until", "why"):
        assert after[member] == before[member]
    wait_until(lambda: queue(g) == [SHARED.uid, TEAMMATE.uid], "both are in their places")
    g.ctl_as(SHARED, "start", "g", code=75)
    assert g.show("h")["lease"]["pid"] == p.pid
    p.kill()
    p.wait()
    assert g.show("h")["lease"] is None
    time.sleep(1)  # the clients have come back to their places
    g.ctl_as(OWNER, "release", "g")
    assert second.wait(HANG) == 0, second.stderr.read()
    assert holder(g) == SHARED.uid
    g.ctl_as(SHARED, "release", "g")
    assert third.wait(HANG) == 0


def test_what_ended_while_the_daemon_was_away(g):
    p = process_of(OWNER)
    g.folder_of(OWNER, "h", g.fake.config())
    g.ctl_as(OWNER, "lease", "h", "--while", p.pid)
    g.ctl_as(OWNER, "lease", "g", "--for", "1s")
    g.stop(signal.SIGKILL)
    p.kill()
    p.wait()
    time.sleep(1.2)
    g.start()
    assert holder(g) is None and g.show("h")["lease"] is None


def test_a_recycled_pid_is_not_the_process(g):
    p = process_of(OWNER)
    try:
        g.ctl_as(OWNER, "lease", "g", "--while", p.pid)
        g.stop()
        path = g.state / "leases.json"
        saved = json.loads(path.read_text())
        saved["leases"][0]["holder"]["pid_start"] -= 1
        path.write_text(json.dumps(saved))
        g.start()
        assert holder(g) is None
    finally:
        p.kill()
        p.wait()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"leases": 3}', '{"leases": [3, {}, {"guest": "g", "holder": {}}]}',
                                  '{"leases": [{"guest": "g", "holder": {"uid": 30001, "seconds": 0}}]}'])
def test_a_broken_file_of_leases(g, text):
    g.stop()
    (g.state / "leases.json").write_text(text)
    g.start()
    assert holder(g) is None
    g.ctl_as(OWNER, "lease", "g", "--for", "1h")


def test_steal_by_admins_with_a_reason_the_loser_is_shown(g):
    g.ctl_as(SHARED, "lease", "g", "--for", "2h")
    for user in (OWNER, TEAMMATE):
        assert "only admins" in g.ctl_as(user, "lease", "g", "--steal", "-m", "mine", code=77).stderr
    with g.connect() as events:
        events.call("events-subscribe")
        g.ctl_as(ADMIN, "lease", "g", "--for", "1h", "--steal", "-m", "disk is dying")
        event = events.next_event(lambda e: e["event"] == "LEASE" and e["data"]["what"] == "stolen")["data"]
    assert (event["uid"], event["by_uid"], event["why"]) == (SHARED.uid, ADMIN.uid, "disk is dying")
    g.restart()
    shown = g.ctl_as(SHARED, "start", "g", code=75).stderr
    assert "your lease was taken by" in shown and "disk is dying" in shown
    assert "disk is dying" not in g.ctl_as(OWNER, "start", "g", code=75).stderr.replace("(disk is dying)", "")
    assert holder(g) == ADMIN.uid


def test_the_loser_of_a_running_command_is_told(g):
    p = start_as(g, SHARED, "lease", "g", "--", "sleep", "1000")
    wait_until(lambda: holder(g) == SHARED.uid, "the lease is there")
    time.sleep(0.5)  # it listens for events
    g.ctl_as(ADMIN, "release", "g", "--steal", "-m", "power goes off")
    p.stderr.readline()
    assert "power goes off" in p.stderr.readline()
    assert p.poll() is None
    p.terminate()
    p.wait()


def test_release_of_somebody_elses(g):
    g.ctl_as(SHARED, "lease", "g", "--for", "2h")
    assert "release g --steal" in g.ctl_as(ADMIN, "release", "g", code=75).stderr
    g.ctl_as(OWNER, "release", "g", "--steal", "-m", "x", code=75)
    g.ctl_as(ADMIN, "release", "g", "--steal", "-m", "end of the day")
    assert holder(g) is None


@pytest.mark.parametrize("by", ["release", "option at lease", "guest.json", "process"])
def test_reset_at_the_end(lab, by):
    config = lab.fake.config(devices=[{"id": "nvme0", "type": "nvme", "size": "1M"}], share=[str(SHARED.uid)],
                             **({"lease": {"reset": True}} if by == "guest.json" else {}))
    path = lab.folder_of(OWNER, "g", config)
    lab.ctl_as(OWNER, "start", "g")
    p = process_of(SHARED)
    lab.ctl_as(SHARED, "lease", "g", *(["--for", "1h"] if by != "process" else ["--while", p.pid]),
               *(["--reset"] if by in ("option at lease", "process") else []))
    image = path / "nvme0.img"
    image.write_bytes(b"dirty" + image.read_bytes()[5:])
    waits = start_as(lab, OWNER, "lease", "g", "--wait")
    wait_until(lambda: queue(lab) == [OWNER.uid], "the owner waits")
    if by != "process":
        lab.ctl_as(SHARED, "release", "g", *(["--reset"] if by == "release" else []))
    p.kill()
    p.wait()
    assert waits.wait(HANG) == 0  # only when all is done
    assert lab.show("g")["state"] == "stopped"
    lab.ctl_as(OWNER, "start", "g")
    assert image.read_bytes()[:5] == bytes(5) and image.stat().st_uid == OWNER.uid


def test_deleting_the_guest_ends_the_lease_and_the_queue(g):
    g.ctl_as(OWNER, "lease", "g", "--for", "2h")
    waits = start_as(g, SHARED, "lease", "g", "--wait")
    wait_until(lambda: queue(g) == [SHARED.uid], "one waits")
    g.ctl_as(OWNER, "delete", "g", "--yes")
    assert waits.wait(HANG) == 66
    assert g.json("lease") == []


def test_guest_of_the_environment(g):
    done = g.ctl_as(OWNER, "lease", "--for", "1h", env={"QEMU_GUEST_NAME": "g"})
    assert holder(g) == OWNER.uid, done
    g.ctl_as(OWNER, "release", env={"QEMU_GUEST_NAME": "g"})
    g.ctl_as(OWNER, "lease", "--", "true", env={"QEMU_GUEST_NAME": "g"})
    g.ctl_as(OWNER, "lease", "--for", "1h", code=64)


class Monitor:
    """A client of a guest's qmp.sock."""

    def __init__(self, lab, user):
        from lab import connect_as
        self.file = connect_as(user, lab.run / "guests/g/qemu.sock".replace("qemu", "qmp")).makefile("rw")
        assert "QMP" in json.loads(self.file.readline())
        assert self.ask("qmp_capabilities") == {"return": {}}

    def ask(self, command):
        self.file.write(json.dumps({"execute": command}) + "\n")
        self.file.flush()
        while True:
            reply = json.loads(self.file.readline())
            if "event" not in reply:
                return reply


def test_monitors_that_are_attached_already(g):
    """A lease counts for who came before it; when it is over they go on."""
    g.ctl_as(OWNER, "start", "g")
    owner, shared = Monitor(g, OWNER), Monitor(g, SHARED)
    assert "return" in owner.ask("query-status") and "return" in shared.ask("query-status")
    g.ctl_as(SHARED, "lease", "g", "--for", "1h", "-m", "mine now")
    refused = owner.ask("system_reset")["error"]["desc"]
    assert "leased by" in refused and "mine now" in refused
    assert "return" in shared.ask("query-status")
    who = g.json("who", "g")
    assert {(m["uid"], m["kind"], m["mode"]) for m in who["monitors"]} == {
        (OWNER.uid, "qmp", "none"), (SHARED.uid, "qmp", "queries")}
    assert all(m["idle_s"] < HANG for m in who["monitors"])
    assert "monitor" in g.ctl("who", "g").stdout
    g.ctl_as(SHARED, "release", "g")
    assert "return" in owner.ask("system_reset")
    got = [(e["uid"], e["operation"], e["result"]) for e in g.json("events", "--history", "g")]
    assert any(u == OWNER.uid and "system_reset" in op and r == "Leased" for u, op, r in got), got
    assert any(u == OWNER.uid and "system_reset" in op and r == "done" for u, op, r in got), got
    # Shut out is shut out at once.
    g.ctl_as(OWNER, "share", "g", "--remove", SHARED.uid)
    assert "error" in shared.ask("query-status")


def attach(lab, user, **arguments):
    """A console, attached; its socket is raw from here on."""
    c = lab.connect_as(user)
    return c, c.call("console-attach", guest="g", **arguments)["mode"]


def read_until(c, wanted):
    while wanted not in c.buffer:
        data = c.sock.recv(4096)
        assert data, c.buffer
        c.buffer += data
    return c.buffer


def test_who_types_when_a_lease_begins_only_looks(g):
    g.ctl_as(OWNER, "start", "g")
    owner, mode = attach(g, OWNER)
    assert mode == "write"
    owner.send_raw("first\n")
    read_until(owner, b"first")
    with g.connect() as events:
        events.call("events-subscribe")
        g.ctl_as(SHARED, "lease", "g", "--for", "1h")
        event = events.next_event(lambda e: e["event"] == "CONSOLE")["data"]
    assert (event["what"], event["uid"], event["mode"]) == ("reads", OWNER.uid, "read-only")
    owner.send_raw("second\n")
    shared, mode = attach(g, SHARED)
    assert mode == "write"  # the pen is free
    shared.send_raw("third\n")
    assert b"second" not in read_until(owner, b"third")
    who = g.json("who", "g")
    assert {(v["uid"], v["mode"]) for v in who["viewers"]} == {(OWNER.uid, "read-only"), (SHARED.uid, "write")}
    assert all(0 <= v["idle_s"] < HANG for v in who["viewers"])
    owner.close()
    shared.close()


def test_the_client_at_a_console_is_told(g):
    g.ctl_as(OWNER, "start", "g")
    p = start_as(g, OWNER, "console", "g", "--read-only")
    wait_until(lambda: g.json("who", "g")["viewers"], "it is attached")
    time.sleep(0.5)  # it listens for events
    g.ctl_as(SHARED, "lease", "g", "--for", "1h", "-m", "bisecting")
    while True:
        line = p.stderr.readline()
        assert line
        if "leased by" in line:
            break
    assert "bisecting" in line and "until" in line
    p.kill()
    p.wait()


def test_a_lease_follows_its_guest_to_another_name(g):
    g.ctl_as(OWNER, "start", "g")
    g.ctl_as(SHARED, "lease", "g", "--for", "1h")
    os.rename(g.guests / "g", g.guests / "moved")
    g.ctl("list")
    assert g.show("moved")["lease"]["uid"] == SHARED.uid
    assert [x["guest"] for x in g.json("lease")] == ["moved"]
    g.ctl_as(OWNER, "kill", "moved", code=75)
    g.ctl_as(SHARED, "kill", "moved")
