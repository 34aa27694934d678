"""Emulated drives on the real QEMU: what the guest sees of them, plugged, unplugged, formatted."""

import json
import os
import re

import pytest

from harness import Daemon, wait_until

MIB = 1024 * 1024

DRIVES = [
    {"id": "nvme0", "type": "nvme", "size": "64M"},
    {"id": "zns0", "type": "zns", "size": "256M", "zone_size": "64M", "zone_capacity": "48M",
     "max_open": 2, "max_active": 3},
]


@pytest.fixture(scope="module")
def drives(tmp_path_factory, tiny):
    """A daemon whose guest 'd' runs with two drives, its SSH up."""
    d = Daemon(tmp_path_factory.mktemp("drives"))
    try:
        d.start()
        d.folder("d", {**tiny.config, "devices": DRIVES})
        d.ctl("start", "d", "--wait=ssh")
        yield d
    finally:
        d.close()


def sh(daemon, guest, command):
    return daemon.ctl("exec", guest, "--", command).stdout


def block(daemon, guest, serial):
    """The guest's name for the drive with that serial number: "nvme1n1"; None when it has none."""
    out = sh(daemon, guest, "for c in /sys/class/nvme/*; do n=$(basename $c); "
                            "[ -b /dev/${n}n1 ] && echo $(cat $c/serial) $n; done; true")
    for line in out.splitlines():
        if line.split()[0] == serial:
            return line.split()[1] + "n1"
    return None


def devices(daemon, guest):
    return {d["id"]: d for d in daemon.json("device", "list", guest)["devices"]}


def test_sizes_and_zones_are_as_asked_for(drives):
    nvme, zns = block(drives, "d", "nvme0"), block(drives, "d", "zns0")
    assert sh(drives, "d", f"cat /sys/block/{nvme}/size").strip() == str(64 * MIB // 512)
    ident = sh(drives, "d", f"nvme id-ns /dev/{nvme}")
    assert int(re.search(r"nsze\s*: (\S+)", ident)[1], 16) == 64 * MIB // 512
    assert sh(drives, "d", f"cat /sys/block/{zns}/size").strip() == str(256 * MIB // 512)
    assert sh(drives, "d", f"cat /sys/block/{zns}/queue/zoned").strip() == "host-managed"
    assert sh(drives, "d", f"cat /sys/block/{zns}/queue/nr_zones").strip() == "4"
    assert sh(drives, "d", f"cat /sys/block/{zns}/queue/chunk_sectors").strip() == str(64 * MIB // 512)
    assert sh(drives, "d", f"cat /sys/block/{zns}/queue/max_open_zones").strip() == "2"
    assert sh(drives, "d", f"cat /sys/block/{zns}/queue/max_active_zones").strip() == "3"
    report = sh(drives, "d", f"nvme zns report-zones /dev/{zns}")
    assert "nr_zones: 4" in report
    assert re.search(r"SLBA: 0x20000\s.*Cap: 0x18000", report), report


def test_view_and_list_agree(drives):
    view = drives.show("d")["devices"]
    assert [(d["id"], d["type"], d["bytes"], d["present"]) for d in view] == [
        ("nvme0", "nvme", 64 * MIB, True), ("zns0", "zns", 256 * MIB, True)]
    there = devices(drives, "d")
    assert {k: (v["present"], v["configured"], v["port"]) for k, v in there.items()} == {
        "nvme0": (True, True, "port0"), "zns0": (True, True, "port1")}
    table = drives.ctl("device", "list", "d").stdout
    assert re.search(r"^zns0\s+zns\s+256M\s+yes\s+yes\s+port1", table, re.M), table


@pytest.mark.parametrize("serial", ["nvme0", "zns0"])
def test_unplug_and_plug(drives, serial):
    with drives.connect() as events:
        events.call("events-subscribe")
        where = block(drives, "d", serial)
        assert where
        sh(drives, "d", f"echo hello {serial} | dd of=/dev/{where} bs=4096 conv=sync oflag=direct count=1 2>&1")
        drives.ctl("device", "unplug", "d", serial)
        event = events.next_event(lambda e: e["event"] == "GUEST_DEVICE")["data"]
        assert (event["device"], event["what"], event["present"]) == (serial, "unplugged", False)
        assert block(drives, "d", serial) is None
        assert not devices(drives, "d")[serial]["present"]
        assert not next(d for d in drives.show("d")["devices"] if d["id"] == serial)["present"]
        again = drives.json("device", "unplug", "d", serial)
        assert again["already"] is True
        done = drives.ctl("device", "plug", "d", serial)
        assert "the guest has found it" in done.stderr
        event = events.next_event(lambda e: e["event"] == "GUEST_DEVICE")["data"]
        assert (event["device"], event["what"], event["present"]) == (serial, "plugged", True)
    where = wait_until(lambda: block(drives, "d", serial), "the guest has the drive again")
    wait_until(lambda: f"hello {serial}" in sh(drives, "d", f"dd if=/dev/{where} bs=4096 count=1 2>/dev/null"),
               "its data is there")
    assert devices(drives, "d")[serial]["present"]
    assert drives.json("device", "plug", "d", serial)["already"] is True


def test_plug_a_new_drive(drives):
    done = drives.json("device", "plug", "d", "nvme,size=32M")
    assert done["device"] == "nvme1" and done["present"] and done["seen"]
    where = wait_until(lambda: block(drives, "d", "nvme1"), "the guest has it")
    wait_until(lambda: sh(drives, "d", f"cat /sys/block/{where}/size").strip() == str(32 * MIB // 512), "its size")
    config = json.loads((drives.guests / "d/guest.json").read_text())
    assert config["devices"][-1] == {"id": "nvme1", "type": "nvme", "size": "32M"}
    assert [d["id"] for d in drives.show("d")["devices"]] == ["nvme0", "zns0", "nvme1"]
    assert devices(drives, "d")["nvme1"]["port"] == "port2"
    # Another daemon knows what was plugged in, and asks QEMU what is still there.
    drives.ctl("device", "unplug", "d", "zns0")
    drives.restart()
    view = {d["id"]: d["present"] for d in drives.show("d")["devices"]}
    assert view == {"nvme0": True, "zns0": False, "nvme1": True}
    drives.ctl("device", "plug", "d", "zns0")
    drives.ctl("device", "unplug", "d", "nvme1")
    assert block(drives, "d", "nvme1") is None


def test_plug_a_new_zoned_drive(drives):
    done = drives.json("device", "plug", "d", "zns,id=zns1,size=64M,zone_size=16M,max_open=3")
    assert done["device"] == "zns1" and done["seen"]
    where = wait_until(lambda: block(drives, "d", "zns1"), "the guest has it")
    queue = f"/sys/block/{where}/queue"
    wait_until(lambda: sh(drives, "d", f"cat {queue}/nr_zones {queue}/max_open_zones").split() == ["4", "3"], "its zones")
    drives.ctl("device", "unplug", "d", "zns1")
    drives.ctl("set", "d", "devices.zns1=null")
    assert "zns1" not in devices(drives, "d") or not devices(drives, "d")["zns1"]["configured"]


def test_plugged_in_again_and_again(drives):
    """As fast as it goes: QEMU lives, the namespace is always found, and nobody hears of a pause."""
    with drives.connect() as events:
        events.call("events-subscribe")
        for i in range(8):
            drives.ctl("device", "unplug", "d", "zns0")
            drives.ctl("device", "plug", "d", "zns0")
            assert wait_until(lambda: block(drives, "d", "zns0"), f"the guest has it again, time {i}")
        events.call("query-daemon")
        assert not [e for e in events.events if e["event"] == "GUEST_STATE"]


def test_drive_in_use_is_not_formatted(drives):
    done = drives.ctl("device", "format", "d", "nvme0", "--yes", code=75)
    assert "runs and has drive 'nvme0'" in done.stderr and "unplug" in done.stderr


def test_refusals_name_the_way_out(drives):
    done = drives.ctl("device", "unplug", "d", "nvme7", code=65)
    assert "no drive 'nvme7'" in done.stderr and "'nvme0'" in done.stderr
    done = drives.ctl("device", "plug", "d", "nvme,size=1000", code=78)
    assert "size" in done.stderr
    done = drives.ctl("device", "plug", "d", "nvme,id=nvme0", code=65)
    assert "has a drive 'nvme0' already" in done.stderr
    done = drives.ctl("device", "plug", "d", "ocssd", code=1)
    assert "has no Open-Channel SSD" in done.stderr and "/opt/qemu-nvme" in done.stderr
    drives.ctl("device", "eject", "d", "nvme0", code=64)
    drives.ctl("device", "unplug", "d", code=64)
    drives.ctl("device", "format", "d", "nvme0", code=64)


def test_ports_run_out(drives):
    for i in range(10):
        done = drives.ctl("device", "plug", "d", f"nvme,id=extra{i},size=1M", code=None)
        if done.returncode:
            break
    assert done.returncode == 75 and "no free port" in done.stderr and "restart d" in done.stderr
    assert 2 <= i <= 4
    # The one that did not fit is not left behind in guest.json.
    assert [d["id"] for d in json.loads((drives.guests / "d/guest.json").read_text())["devices"]
            if d["id"].startswith("extra")] == [f"extra{k}" for k in range(i)]
    for k in range(i):
        drives.ctl("device", "unplug", "d", f"extra{k}")
        drives.ctl("set", "d", f"devices.extra{k}=null")


def test_a_drive_ejected_inside_the_guest(drives):
    """Nobody asked us: the view follows all the same, and it can be plugged in again."""
    where = block(drives, "d", "nvme0")
    with drives.connect() as events:
        events.call("events-subscribe")
        sh(drives, "d", f"echo 0 > /sys/bus/pci/slots/$(for s in /sys/bus/pci/slots/*; do grep -q "
                        f"$(basename $(readlink -f /sys/block/{where}/device/device) | sed 's/..$//') "
                        "$s/address && basename $s; done)/power")
        event = events.next_event(lambda e: e["event"] == "GUEST_DEVICE")["data"]
        assert (event["device"], event["what"]) == ("nvme0", "unplugged")
    assert not drives.show("d")["devices"][0]["present"]
    drives.ctl("device", "format", "d", "nvme0", "--yes")
    assert drives.json("device", "plug", "d", "nvme0")["seen"]
    assert wait_until(lambda: block(drives, "d", "nvme0"), "the guest has it again")


def test_sixteen_drives(daemon, tiny):
    names = [f"drive{i}" for i in range(16)]
    daemon.folder("many", {**tiny.config, "devices": [{"id": n, "type": "nvme", "size": "1M"} for n in names]})
    daemon.ctl("start", "many", "--wait=ssh")
    got = sh(daemon, "many", "cat /sys/class/nvme/*/serial").split()
    assert sorted(got) == sorted(names)
    daemon.ctl("device", "unplug", "many", "drive15")
    assert daemon.json("device", "plug", "many", "drive15")["seen"]
    daemon.ctl("kill", "many")


def test_data_outlives_a_restart(daemon, tiny):
    daemon.folder("d", {**tiny.config, "devices": DRIVES})
    daemon.ctl("start", "d", "--wait=ssh")
    addresses = sh(daemon, "d", "cd /sys/class/nvme; for c in *; do echo $(cat $c/serial) $(cat $c/address); done")
    for serial in ("nvme0", "zns0"):
        sh(daemon, "d", f"echo kept {serial} | dd of=/dev/{block(daemon, 'd', serial)} bs=4096 conv=sync "
                        "oflag=direct count=1 2>&1")
    daemon.ctl("stop", "d")
    daemon.ctl("start", "d", "--wait=ssh")
    for serial in ("nvme0", "zns0"):
        assert f"kept {serial}" in sh(daemon, "d", f"dd if=/dev/{block(daemon, 'd', serial)} bs=4096 count=1 2>/dev/null")
    assert addresses == sh(
        daemon, "d", "cd /sys/class/nvme; for c in *; do echo $(cat $c/serial) $(cat $c/address); done")
    assert len(addresses.splitlines()) == 2
    daemon.ctl("kill", "d")


def test_pc_machine(daemon, tiny):
    daemon.folder("d", {**tiny.config, "machine": "pc", "devices": DRIVES[:1]})
    daemon.ctl("start", "d", "--wait=ssh")
    assert block(daemon, "d", "nvme0")
    daemon.ctl("device", "unplug", "d", "nvme0")
    assert block(daemon, "d", "nvme0") is None
    daemon.ctl("device", "plug", "d", "nvme0")
    assert wait_until(lambda: block(daemon, "d", "nvme0"), "the guest has the drive again")
    daemon.ctl("kill", "d")


def test_geometry_is_recorded_and_compared(daemon, tiny):
    path = daemon.folder("d", {**tiny.config, "devices": DRIVES})
    daemon.ctl("start", "d")
    daemon.ctl("kill", "d")
    record = json.loads((path / "zns0.geometry.json").read_text())
    assert (record["type"], record["zone_size"], record["size"]) == ("zns", 64 * MIB, 256 * MIB)
    for name in ("nvme0.img", "zns0.img"):
        assert os.stat(path / name).st_blocks < 16, "sparse"
    before = os.stat(path / "zns0.img").st_ino
    daemon.ctl("set", "d", "devices.zns0.zone_size=32M", "devices.zns0.zone_capacity=32M")
    for said in (daemon.ctl("start", "d", code=78).stderr, daemon.ctl("validate", "d", code=78).stdout):
        assert "zone_size 64M" in said and "zone_size 32M" in said
        assert "device format d zns0" in said
    assert os.stat(path / "zns0.img").st_ino == before
    daemon.ctl("device", "format", "d", "zns0", "--yes")
    assert os.stat(path / "zns0.img").st_ino != before
    daemon.ctl("validate", "d")
    daemon.ctl("start", "d")
    daemon.ctl("kill", "d")
    # Cut by hand: told, not started.
    os.truncate(path / "nvme0.img", 32 * MIB)
    done = daemon.ctl("start", "d", code=78)
    assert "size 32M" in done.stderr and "size 64M" in done.stderr
    # A drive of another type with the same name.
    daemon.ctl("device", "format", "d", "nvme0", "-y")
    daemon.ctl("set", "d", 'devices.nvme0={"type": "zns", "size": "64M"}')
    done = daemon.ctl("start", "d", code=78)
    assert "type nvme" in done.stderr and "type zns" in done.stderr


def test_image_made_by_hand_is_taken(daemon, tiny):
    path = daemon.folder("d", {**tiny.config, "devices": DRIVES[:1]})
    (path / "nvme0.img").write_bytes(b"mine" + bytes(4092))
    os.truncate(path / "nvme0.img", 64 * MIB)
    daemon.ctl("start", "d")
    daemon.ctl("kill", "d")
    assert (path / "nvme0.img").read_bytes()[:4] == b"mine"
    assert json.loads((path / "nvme0.geometry.json").read_text())["size"] == 64 * MIB


def test_doctor_and_query_qemu(daemon, tiny):
    daemon.folder("d", {**tiny.config, "devices": DRIVES})
    done = daemon.ctl("doctor")
    assert re.search(r"^ok .*qemu-system-x86_64: QEMU \d+\.\d+", done.stdout, re.M), done.stdout
    assert "has nvme and zns drives (dialect upstream)" in done.stdout
    assert "has no Open-Channel SSD" in done.stdout and "/opt/qemu-nvme" in done.stdout
    assert re.search("starts with KVM|does not start with KVM: ", done.stdout)
    findings = daemon.json("doctor")
    assert {f["level"] for f in findings} <= {"ok", "note"}
    with daemon.connect() as client:
        qemu = client.call("query-qemu")["qemu"]
    assert len(qemu) == 1 and qemu[0]["guests"] == ["d"] and qemu[0]["default"]
    assert qemu[0]["types"] == ["nvme", "zns"] and qemu[0]["dialect"] == "upstream"
    assert isinstance(qemu[0]["kvm"]["works"], bool)
    daemon.folder("b", {**tiny.config, "qemu_home": "/nowhere"})
    done = daemon.ctl("doctor", code=1)
    assert re.search(r"^fail .*/nowhere", done.stdout, re.M), done.stdout
    daemon.stop()
    assert re.search("^fail  daemon", daemon.ctl("doctor", code=1).stdout, re.M)
