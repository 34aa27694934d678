"""Drives on QEMU builds that are not here, and faults: a stand-in that says what they say."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from harness import Daemon, fork, wait_until

OCSSD = {"id": "nvme0", "type": "ocssd"}
V3, V4, REFENV = "qemu-nvme-3.1.50", "qemu-nvme-4.1.50", "qemu-refenv"


def define(daemon, fake, devices, *words, **more):
    return daemon.folder("d", fake.config(*words, devices=devices, **more))


def argv(daemon, guest="d"):
    return daemon.json("argv", guest)["argv"]


def option(words, start):
    return [w for w in words if w.startswith(start)]


@pytest.mark.parametrize("build, device, image", [
    (V3, "nvme,drive=drive-nvme0,", True),
    (REFENV, "ocssd,drive=drive-nvme0,", True),
    (V4, "ocssd,serial=nvme0,", False)])
def test_each_fork_runs_the_same_guest(daemon, tmp_path, build, device, image):
    path = define(daemon, fork(tmp_path / "q", build), [OCSSD, {"id": "nvme1", "type": "nvme", "size": "8M"}])
    daemon.ctl("start", "d")
    view = daemon.show("d")
    assert [d["present"] for d in view["devices"]] == [True, True]
    running = subprocess.run(["tr", "\\0", "\\n"], stdin=open(f"/proc/{view['pid']}/cmdline"),
                             capture_output=True, text=True).stdout.splitlines()
    assert option(running, device)
    size = os.stat(path / "nvme0.img").st_size
    assert size > 7 << 30 if image else size == 0
    assert os.stat(path / "nvme0.img").st_blocks * 512 < 1 << 20
    record = json.loads((path / "nvme0.geometry.json").read_text())
    assert (record["num_grp"], record["num_pu"], record["num_chk"], record["num_sec"]) == (2, 4, 60, 4096)
    daemon.ctl("kill", "d")
    daemon.ctl("start", "d")  # the same geometry again
    daemon.ctl("kill", "d")


@pytest.mark.parametrize("build", [V3, V4, REFENV])
def test_another_geometry_is_refused_before_qemu_runs(daemon, tmp_path, build):
    path = define(daemon, fork(tmp_path / "q", build), [OCSSD])
    daemon.ctl("start", "d")
    daemon.ctl("kill", "d")
    runs = daemon.show("d")["run"]
    for record in (True, False):
        if not record:  # the image tells, too; an empty one of 4.1.50 never held anything
            (path / "nvme0.geometry.json").unlink()
            if build == V4:
                break
        daemon.ctl("set", "d", "devices.nvme0.num_pu=2")
        done = daemon.ctl("start", "d", code=78)
        assert "num_grp 2, num_pu 4, num_chk 60" in done.stderr
        assert "guest.json wants type ocssd, num_grp 2, num_pu 2, num_chk 60" in done.stderr
        assert "'cijqemuctl device format d nvme0'" in done.stderr
        assert daemon.show("d")["reason"] == "start-failed"
        daemon.ctl("set", "d", "devices.nvme0.num_pu=4")
        daemon.ctl("start", "d")
        daemon.ctl("kill", "d")
    assert len(list((path / "logs").glob("*.out"))) == daemon.show("d")["run"]  # no run for a refused start
    assert daemon.show("d")["run"] >= runs
    daemon.ctl("set", "d", "devices.nvme0.num_pu=2")
    if build == V4:
        (path / "nvme0.geometry.json").write_text('{"type": "ocssd", "format": "ocssd-ns", "num_pu": 4}')
        daemon.ctl("start", "d", code=78)
    daemon.ctl("device", "format", "d", "nvme0", "--yes")
    daemon.ctl("start", "d")
    assert json.loads((path / "nvme0.geometry.json").read_text())["num_pu"] == 2


def test_an_image_of_another_fork_is_refused(daemon, tmp_path):
    define(daemon, fork(tmp_path / "q", V3), [OCSSD])
    daemon.ctl("start", "d")
    daemon.ctl("kill", "d")
    define(daemon, fork(tmp_path / "q4", V4), [OCSSD])
    done = daemon.ctl("start", "d", code=78)
    assert "format lightnvm" in done.stderr and "format ocssd-ns" in done.stderr


def test_an_image_that_is_none_is_refused(daemon, tmp_path):
    path = define(daemon, fork(tmp_path / "q", V3), [OCSSD])
    (path / "nvme0.img").write_bytes(bytes(100000))
    done = daemon.ctl("start", "d", code=78)
    assert "'nvme0.img' is no OCSSD image" in done.stderr and "device format d nvme0" in done.stderr
    (path / "nvme0.geometry.json").write_text("{}")
    done = daemon.ctl("start", "d", code=78)
    assert "cannot be understood" in done.stderr


def test_qemu_img_that_fails_leaves_nothing(daemon, tmp_path):
    fake = fork(tmp_path / "q", V3)
    path = define(daemon, fake, [OCSSD])
    (fake.home / "bin/qemu-img.fail").write_text("disk on fire")
    done = daemon.ctl("start", "d", code=1)
    assert "disk on fire" in done.stderr
    assert not [n for n in os.listdir(path) if "nvme0" in n]
    (fake.home / "bin/qemu-img.fail").write_text("nvme0.img: No space left on device")
    done = daemon.ctl("start", "d", code=75)
    assert "the disk is full" in done.stderr
    (fake.home / "bin/qemu-img").unlink()
    done = daemon.ctl("start", "d", code=1)
    assert "bin/qemu-img' to make its image with" in done.stderr
    assert not [n for n in os.listdir(path) if "nvme0" in n]


def test_a_daemon_killed_while_it_makes_an_image(daemon, tmp_path):
    fake = fork(tmp_path / "q", V3)
    path = define(daemon, fake, [OCSSD])
    img = (fake.home / "bin/qemu-img").read_text()
    (fake.home / "bin/qemu-img").write_text(
        "#!/bin/sh\nfor last; do :; done\necho half >\"$last\"\nexec sleep 600\n")
    with daemon.connect() as client:
        client.call("events-subscribe")
        client.send("guest-start", guest="d")
        event = client.next_event(lambda e: e["event"] == "PROGRESS" and "nvme0.img" in e["data"]["text"])
        assert "7.5G, sparse" in event["data"]["text"]
        event = client.next_event(lambda e: e["event"] == "PROGRESS" and "written" in e["data"]["text"])
        assert (path / ".nvme0.img.new").exists() and not (path / "nvme0.img").exists()
        sleeper = int(subprocess.run(["pgrep", "-f", "^sleep 600"], capture_output=True, text=True).stdout.split()[0])
    daemon.stop(9)
    os.kill(sleeper, 9)
    assert not (path / "nvme0.img").exists()
    (fake.home / "bin/qemu-img").write_text(img)
    daemon.start()
    daemon.ctl("start", "d")
    assert (path / "nvme0.img").stat().st_size > 7 << 30 and not (path / ".nvme0.img.new").exists()


RULES = {**OCSSD, "inject": [{"write": {"grp": 0, "pu": 3, "chk": 0, "sec": 53}},
                             {"reset": {"grp": 0, "pu": 3, "chk": 5}, "percent": 20}],
         "chunks": [{"grp": 0, "pu": 0, "chk": 1, "state": "offline"}]}


@pytest.mark.parametrize("build, words, write, reset, chunk", [
    (V3, ("lwritefail=", "lresetfail=", "lchunkstate="), "grp=0 pu=3 chk=0 sec=53 writefail_prob=100\n",
     "grp=0 pu=3 chk=5 resetfail_prob=20\n", "grp=0 pu=0 chk=1 state=OFFLINE wp=65535 type=W_SEQ wi=0\n"),
    (V4, ("writefail=", "resetfail=", "chunkinfo="), "group=0 punit=3 chunk=0 sectr=53 prob=100\n",
     "group=0 punit=3 chunk=5 prob=20\n", "group=0 punit=0 chunk=1 state=OFFLINE\n"),
    (REFENV, ("writefail=", "resetfail=", "chunkinfo="), "ns=1 group=0 punit=3 chunk=0 sectr=53 prob=100\n",
     "ns=1 group=0 punit=3 chunk=5 prob=20\n", "ns=1 group=0 punit=0 chunk=1 state=OFFLINE\n")])
def test_rules_reach_each_fork(daemon, tmp_path, build, words, write, reset, chunk):
    path = define(daemon, fork(tmp_path / "q", build), [RULES])
    daemon.ctl("start", "d")
    device = option(argv(daemon), "nvme," if build == V3 else "ocssd-ns," if build == V4 else "ocssd,drive")[0]
    for word, text in zip(words, (write, reset, chunk)):
        name = [w.split("=")[1] for w in device.split(",") if w.startswith(word)][0]
        assert (path / name).read_text() == text


def test_files_by_hand_are_checked_line_by_line(daemon, tmp_path):
    path = define(daemon, fork(tmp_path / "q", V3), [{**OCSSD, "writefail": "w.txt"}])
    done = daemon.ctl("start", "d", code=78)
    assert "its writefail 'w.txt'" in done.stderr
    (path / "w.txt").write_text("group=0 punit=0 chunk=0 sectr=1 prob=50\nnonsense\n")
    done = daemon.ctl("start", "d", code=78)
    assert "its writefail 'w.txt' line 2: 'nonsense' is not KEY=VALUE" in done.stderr
    done = daemon.ctl("validate", "d", code=78)
    assert "devices[0].writefail" in done.stdout and "line 2" in done.stdout
    (path / "w.txt").write_text("group=0 punit=0 chunk=0 sectr=1 prob=50\n")
    daemon.ctl("validate", "d")
    daemon.ctl("start", "d")
    assert (path / ".nvme0.writefail").read_text() == "grp=0 pu=0 chk=0 sec=1 writefail_prob=50\n"


def qmp_log(tmp_path):
    log = tmp_path / "qmp.log"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.mark.parametrize("build", [V3, V4, REFENV])
def test_inject_live(daemon, tmp_path, build):
    path = define(daemon, fork(tmp_path / "q", build, f"qmp-log={tmp_path}/qmp.log"), [OCSSD])
    daemon.ctl("start", "d")
    done = daemon.ctl("device", "inject", "d", "nvme0", "--write", "grp=0,pu=1-2,chk=0,sec=53,percent=50",
                      "--reset", "grp=0,pu=0,chk=*", "--chunk", "grp=1,pu=0,chk=3,state=offline")
    assert "the guest saw it go, and found it again" in done.stderr
    config = json.loads((path / "guest.json").read_text())["devices"][0]
    assert config["inject"] == [{"write": {"grp": 0, "pu": "1-2", "chk": 0, "sec": 53}, "percent": 50},
                                {"reset": {"grp": 0, "pu": 0, "chk": "*"}}]
    assert config["chunks"] == [{"grp": 1, "pu": 0, "chk": 3, "state": "offline"}]
    names = [m["execute"] for m in qmp_log(tmp_path)]
    assert names.index("device_del") < names.index("blockdev-del") < names.index("blockdev-add") \
        < names.index("device_add")
    added = [m["arguments"] for m in qmp_log(tmp_path) if m["execute"] == "device_add"][-1]
    assert added["lwritefail" if build == V3 else "writefail"] == ".nvme0.writefail"
    assert len((path / ".nvme0.writefail").read_text().splitlines()) == 2
    assert daemon.show("d")["devices"][0]["present"]
    # What makes no sense changes nothing.
    daemon.ctl("device", "inject", "d", "nvme0", "--write", "grp=9,pu=0,chk=0", code=78)
    daemon.ctl("device", "inject", "d", "nvme0", "--write", "nonsense", code=64)
    assert json.loads((path / "guest.json").read_text())["devices"][0] == config
    daemon.ctl("device", "inject", "d", "nvme0", "--clear")
    assert "writefail" not in str([m for m in qmp_log(tmp_path) if m["execute"] == "device_add"][-1])
    daemon.ctl("kill", "d")
    done = daemon.ctl("device", "inject", "d", "nvme0", "--reset", "grp=0,pu=0,chk=1")
    assert "the guest does not run" in done.stderr


def test_a_bad_file_is_found_before_the_drive_goes(daemon, tmp_path):
    path = define(daemon, fork(tmp_path / "q", V3, f"qmp-log={tmp_path}/qmp.log"), [OCSSD])
    daemon.ctl("start", "d")
    (path / "w.txt").write_text("grp=0\n")
    daemon.ctl("set", "d", "devices.nvme0.writefail=w.txt", code=78)
    config = json.loads((path / "guest.json").read_text())
    config["devices"][0]["writefail"] = "w.txt"
    (path / "guest.json").write_text(json.dumps(config))
    done = daemon.ctl("device", "inject", "d", "nvme0", code=78)
    assert "line 1" in done.stderr
    assert "device_del" not in [m["execute"] for m in qmp_log(tmp_path)]
    assert daemon.show("d")["devices"][0]["present"]


def test_inject_says_what_the_guest_saw(daemon, tmp_path):
    define(daemon, fork(tmp_path / "q", V3), [OCSSD], "unseen")
    daemon.ctl("start", "d")
    reply = daemon.json("device", "inject", "d", "nvme0", "--reset", "grp=0,pu=0,chk=0")
    assert (reply["applied"], reply["unplug_seen"], reply["seen"]) == (True, True, False)


def test_a_guest_that_does_not_let_go(daemon, tmp_path):
    define(daemon, fork(tmp_path / "q", V3), [OCSSD], "keep-devices=1")
    daemon.ctl("start", "d")
    with daemon.connect() as events:
        events.call("events-subscribe")
        done = daemon.ctl("--timeout", "0.3", "device", "unplug", "d", "nvme0", code=124)
        event = events.next_event(lambda e: e["event"] == "GUEST_DEVICE")["data"]
        assert (event["device"], event["what"], event["present"]) == ("nvme0", "unplug-timeout", True)
    assert "did not let go of drive 'nvme0' within 0.3 s: it still has it" in done.stderr
    device = daemon.show("d")["devices"][0]
    assert device["present"] and device["unplugging"]
    listed = daemon.json("device", "list", "d")["devices"][0]
    assert listed["present"] and listed["unplugging"]
    assert "the guest has not let go yet" in daemon.ctl("device", "list", "d").stdout
    daemon.ctl("device", "unplug", "d", "nvme0")  # asked again, it does
    device = daemon.show("d")["devices"][0]
    assert not device["present"] and "unplugging" not in device


def test_others_are_served_while_one_waits(daemon, tmp_path):
    define(daemon, fork(tmp_path / "q", V3), [OCSSD], "keep-devices")
    daemon.ctl("start", "d")
    with daemon.connect() as client:
        waiting = client.send("device-unplug", guest="d", device="nvme0", timeout=600)
        wait_until(lambda: daemon.json("device", "list", "d")["devices"][0]["unplugging"], "it waits")
        done = daemon.ctl("device", "plug", "d", "nvme,size=8M", code=75)
        assert "another of its drives is being worked on" in done.stderr
        daemon.ctl("kill", "d")
        reply = client.receive(waiting)
        assert reply["error"]["class"] == "QemuFailed" and "ended meanwhile" in reply["error"]["desc"]


@pytest.mark.parametrize("refused", ["blockdev-add", "device_add", "qom-set", "device_add:ocssd-ns"])
def test_what_qemu_refuses_is_taken_back(daemon, tmp_path, refused):
    path = define(daemon, fork(tmp_path / "q", V4, f"qmp-log={tmp_path}/qmp.log"), [], f"refuse={refused}")
    daemon.ctl("start", "d")
    done = daemon.ctl("device", "plug", "d", "ocssd", code=1)
    assert "drive 'nvme0': QEMU refuses it: told to refuse" in done.stderr
    wait_until(lambda: not daemon.json("device", "list", "d")["devices"] or
               not daemon.json("device", "list", "d")["devices"][0]["present"], "it is gone again")
    assert json.loads((path / "guest.json").read_text())["devices"] == []
    names = [m["execute"] for m in qmp_log(tmp_path)]
    assert ("device_del" in names) == (refused in ("qom-set", "device_add:ocssd-ns"))


def test_paused_guest(daemon, tmp_path):
    define(daemon, fork(tmp_path / "q", V3), [OCSSD])
    daemon.ctl("start", "d", "--paused")
    done = daemon.ctl("device", "unplug", "d", "nvme0", code=75)
    assert "is paused" in done.stderr and "resume d" in done.stderr
    done = daemon.json("device", "plug", "d", "nvme,size=8M")
    assert done["present"]


def test_stopped_guest(daemon, tmp_path):
    path = define(daemon, fork(tmp_path / "q", V3), [OCSSD])
    for verb in ("plug", "unplug"):
        done = daemon.ctl("device", verb, "d", "nvme0", code=75)
        assert "does not run" in done.stderr
    done = daemon.ctl("device", "plug", "d", "nvme,size=8M", code=75)
    assert "it is stopped" in done.stderr
    assert daemon.json("device", "list", "d")["devices"][0]["present"] is False
    daemon.ctl("device", "format", "d", "nvme0", "--yes")
    assert (path / "nvme0.img").stat().st_size > 7 << 30


def test_a_full_disk_is_told_before(daemon, tmp_path, tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("this machine cannot mount for us: not root")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", small], check=True)
    try:
        fake = fork(tmp_path / "q", V3)
        path = small / "full"
        path.mkdir()
        (path / "guest.json").write_text(json.dumps(fake.config(devices=[OCSSD])))
        (daemon.guests / "full").mkdir()
        subprocess.run(["mount", "--bind", path, daemon.guests / "full"], check=True)
        try:
            (path / "ballast").write_bytes(bytes(120 * 1024))
            done = daemon.ctl("start", "full", code=75)
            assert "making 'nvme0.img' takes" in done.stderr and "left" in done.stderr
            assert not [n for n in os.listdir(path) if "nvme0" in n]
            (path / "ballast").unlink()
            with daemon.connect() as client:
                client.call("events-subscribe")
                client.send("guest-start", guest="full")
                event = client.next_event(
                    lambda e: e["event"] == "PROGRESS" and "nvme0.img" in e["data"]["text"])
                assert "the disk has only" in event["data"]["text"]
                wait_until(lambda: daemon.show("full")["state"] != "starting", "it has started, or not")
            daemon.ctl("kill", "full")
        finally:
            subprocess.run(["umount", "-l", daemon.guests / "full"], check=True)
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_probe_is_told(daemon, tmp_path):
    for build in (V3, V4, REFENV):
        daemon.folder(build, fork(tmp_path / build, build).config(devices=[OCSSD]))
    with daemon.connect() as client:
        qemu = {q["guests"][0]: q for q in client.call("query-qemu")["qemu"] if q["guests"]}
        assert {k: (v["dialect"], v["types"]) for k, v in qemu.items()} == {
            V3: ("lightnvm", ["ocssd", "nvme"]), V4: ("ocssd-ns", ["ocssd", "nvme"]),
            REFENV: ("ocssd", ["ocssd", "nvme"])}
        assert [v["sandbox"] for v in qemu.values()] == [False] * 3
        only = client.call("query-qemu", guests=["*4.1*"])["qemu"]
        assert [q["guests"] for q in only] == [[V4]]
    out = daemon.ctl("doctor").stdout
    assert "QEMU 3.1.50, used by qemu-nvme-3.1.50" in out and "has ocssd and nvme drives (dialect ocssd-ns)" in out


def test_all_files_are_the_owners(request):
    """A daemon of root's makes them as the folder's owner, whatever their umask."""
    if os.geteuid() != 0:
        pytest.skip("this machine cannot: not root")
    base = pathlib.Path(tempfile.mkdtemp(prefix="cij-owner-", dir="/tmp"))  # others may go in there
    base.chmod(0o755)
    request.addfinalizer(lambda: shutil.rmtree(base))
    d = Daemon(base)
    request.addfinalizer(d.close)
    d.start()
    fake = fork(base / "q", V3)
    path = d.folder("d", fake.config(devices=[RULES, {"id": "nvme1", "type": "nvme", "size": "8M"}]))
    os.chown(path / "guest.json", 12345, 23456)
    os.chown(path, 12345, 23456)
    d.ctl("start", "d")
    d.ctl("device", "plug", "d", "nvme,size=2M")
    files = [p for p in path.iterdir()]
    assert {".nvme0.writefail", "nvme0.img", "nvme0.geometry.json", "nvme2.img"} <= {p.name for p in files}
    assert {(p.lstat().st_uid, p.lstat().st_gid) for p in files} == {(12345, 23456)}
    assert (path / "nvme0.img").stat().st_mode & 0o077 == 0
    # A link that the owner planted leads nowhere that is not the owner's.
    d.ctl("kill", "d")
    secret = base / "secret"
    secret.write_text("grp=0\n")
    secret.chmod(0o600)
    (path / "w.txt").symlink_to(secret)
    config = json.loads((path / "guest.json").read_text())
    config["devices"][0]["writefail"] = "w.txt"
    (path / "guest.json").write_text(json.dumps(config))
    done = d.ctl("start", "d", code=78)
    assert "its writefail 'w.txt'" in done.stderr and "line" not in done.stderr


def test_a_new_daemon_knows_what_was_plugged_in(daemon, tmp_path):
    fake = fork(tmp_path / "q", V3)
    path = define(daemon, fake, [OCSSD])
    daemon.ctl("start", "d")
    daemon.ctl("device", "plug", "d", "nvme,id=extra,size=8M")
    daemon.ctl("set", "d", "devices.extra=null", "devices.nvme0.ws_opt=16")
    daemon.stop(9)
    config = json.loads((path / "guest.json").read_text())
    (path / "guest.json").write_text(json.dumps({**config, "devices": [{"id": "other", "type": "nvme"}]}))
    daemon.start()
    assert [(d["id"], d["type"], d["present"]) for d in daemon.show("d")["devices"]] == [
        ("nvme0", "ocssd", True), ("extra", "nvme", True)]
    listed = {d["id"]: d for d in daemon.json("device", "list", "d")["devices"]}
    assert not listed["extra"]["configured"] and listed["extra"]["present"]
    assert listed["other"]["configured"] and not listed["other"]["present"]
    daemon.ctl("device", "unplug", "d", "extra")
    assert not daemon.show("d")["devices"][1]["present"]


def test_cpus_stand_still_while_a_namespace_comes(daemon, tmp_path):
    path = define(daemon, fork(tmp_path / "q", V4, f"qmp-log={tmp_path}/qmp.log"), [])
    daemon.ctl("start", "d")
    daemon.ctl("device", "plug", "d", "ocssd")
    names = [m["execute"] for m in qmp_log(tmp_path)]
    assert names[names.index("stop"):names.index("cont", names.index("stop")) + 1] == [
        "stop", "blockdev-add", "device_add", "qom-set", "device_add", "cont"]
    assert daemon.show("d")["state"] == "running"
    # A daemon that ended in between: the next one lets them run on.
    daemon.ctl("qmp", "d", '{"execute": "stop"}')
    daemon.stop(9)
    record = path / "logs/0001.run.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "frozen": True}))
    daemon.start()
    assert daemon.show("d")["state"] == "running"
    wait_until(lambda: json.loads(daemon.ctl("--json", "qmp", "d", "query-status").stdout)["running"], "it runs on")
    wait_until(lambda: "frozen" not in json.loads(record.read_text()), "that is over")
    # A paused one stays paused.
    daemon.ctl("pause", "d")
    daemon.ctl("device", "plug", "d", "ocssd,id=more")
    assert daemon.show("d")["state"] == "paused"
    daemon.stop(9)
    daemon.start()
    assert daemon.show("d")["state"] == "paused"
