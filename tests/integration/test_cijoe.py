"""CIJOE's shell module and hooks, and 'import', in bash with 'set -u', on the real guest."""

import json
import os
import subprocess

import pytest

from harness import BUILD, HANG, ROOT

CIJOE = ROOT / "client/cijoe"

OLD = """
export SSH_USER=root SSH_HOST=localhost SSH_PORT=2022 QEMU_HOST=localhost QEMU_HOST_USER=root
export QEMU_BIN=/opt/qemu-nvme/bin/qemu-system-x86_64 QEMU_GUESTS=/opt/qemu-guests QEMU_GUEST_NAME=emujoe
export QEMU_GUEST_PATH=$QEMU_GUESTS/$QEMU_GUEST_NAME QEMU_GUEST_CONSOLE=file QEMU_NVME_ID=cij_nvme
export QEMU_NVME_LINES=100 QEMU_NVME_NUM_GRP=4 QEMU_NVME_NUM_PU=4 QEMU_NVME_NUM_SEC=400
export QEMU_NVME_SEC_SIZE=4096 QEMU_NVME_MS=16 QEMU_NVME_WS_MIN=12
export QEMU_NVME_WS_OPT=24 QEMU_NVME_MW_CUNITS=0 NVME_DEV_NAME=nvme0n1
"""


def bash(daemon, script, code=0, env=None):
    done = subprocess.run(
        ["bash", "-c", "set -u\n" + script], capture_output=True, text=True, timeout=HANG, stdin=subprocess.DEVNULL,
        env=daemon.client_env({"CIJQEMUCTL": str(BUILD / "cijqemuctl"), "CIJOE": str(CIJOE), **(env or {})}))
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "unbound variable" not in done.stderr
    return done


def test_import_2018(daemon):
    done = bash(daemon, OLD + "export QEMU_TYPO=1 QEMU_NVME_NLBAF=5; $CIJQEMUCTL import")
    words = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines()}
    assert words["QEMU_NVME_LINES"] == words["QEMU_BIN"] == words["QEMU_NVME_MW_CUNITS"] == "used"
    assert words["QEMU_NVME_NLBAF"] == words["QEMU_GUEST_CONSOLE"] == "dead"
    assert words["QEMU_TYPO"] == "unknown"
    config = json.loads((daemon.guests / "emujoe/guest.json").read_text())
    assert config == {"qemu_home": "/opt/qemu-nvme", "ssh": {"user": "root"}, "devices": [
        {"id": "cij_nvme", "type": "ocssd", "md_size": 16, "num_chk": 100, "num_grp": 4, "num_pu": 4, "num_sec": 400,
         "sec_size": 4096, "ws_min": 12, "ws_opt": 24, "mw_cunits": 0}]}


def test_import_2019(daemon, tmp_path):
    (tmp_path / "boot.img").touch()
    script = f"""
export QEMU_HOME=/opt/qemu QEMU_GUEST_NAME=joe QEMU_GUEST_MEM=2048 QEMU_GUEST_SMP=4,cores=2 QEMU_GUEST_KERNEL=1
export QEMU_GUEST_BOOT_IMG={tmp_path}/boot.img QEMU_GUEST_BOOT_IMG_FMT=raw QEMU_GUEST_SSH_FWD_PORT=3022
export QEMU_ARGS_EXTRA='-device virtio-rng-pci' QEMU_DEV_ID=cij0 QEMU_DEV_MDTS=7
export QEMU_OCSSD=1 QEMU_OCSSD_NUM_CHK=60 QEMU_OCSSD_LBADS=4096 QEMU_OCSSD_EARLY_RESET=true QEMU_NVME_LINES=5
$CIJQEMUCTL --json import"""
    report = json.loads(bash(daemon, script).stdout)
    assert "QEMU_NVME_LINES" in report["dead"] and report["unknown"] == []
    config = json.loads((daemon.guests / "joe/guest.json").read_text())
    assert config == {
        "qemu_home": "/opt/qemu", "memory": "2048M", "cpus": 4, "boot": {"image": f"{tmp_path}/boot.img", "format": "raw"},
        "ssh": {"port": 3022}, "extra_args": ["-device", "virtio-rng-pci"],
        "devices": [{"id": "cij0", "type": "ocssd", "mdts": 7, "num_chk": 60, "sec_size": 4096, "early_reset": True}]}
    # Without QEMU_OCSSD the drive is a plain one; --dry-run changes nothing.
    done = bash(daemon, "export QEMU_GUEST_NAME=dry QEMU_DEV_ID=d QEMU_OCSSD_NUM_GRP=2; $CIJQEMUCTL --json import -n")
    report = json.loads(done.stdout)
    assert report["config"]["devices"] == [{"id": "d", "type": "nvme", "size": "8G"}]
    assert "QEMU_OCSSD_NUM_GRP" in report["dead"]
    assert not (daemon.guests / "dry").exists()


@pytest.mark.parametrize("bad", ["QEMU_GUEST_SMP=many", "QEMU_GUEST_BOOT_IMG=/none", "QEMU_NVME_LINES=x",
                                 "QEMU_GUEST_MEM=lots", "QEMU_OCSSD_EARLY_RESET=perhaps QEMU_OCSSD=1"])
def test_import_of_what_makes_no_sense(daemon, bad):
    done = bash(daemon, f"export QEMU_GUEST_NAME=g {bad}; $CIJQEMUCTL import; code=$?; [ $code = 65 ] || [ $code = 78 ]")
    assert done.stderr
    assert not (daemon.guests / "g").exists()


@pytest.mark.parametrize("mark", ["::", "."])
def test_module(daemon, tiny, tmp_path, mark):
    """A test case's commands, under either spelling."""
    folder = daemon.folder("emujoe", {**tiny.config, "devices": [{"id": "nvme0", "type": "nvme", "size": "64M"}]})
    script = f"""
source "$CIJOE/qemu.sh"
export QEMU_GUEST_NAME=emujoe QEMU_HOST=localhost SSH_HOST=localhost SSH_PORT=2022
qemu::is_running && exit 90
qemu::guest_nvme_exists || exit 91
qemu::run --wait=ssh || exit
qemu::is_running || exit 92
[ "$SSH_HOST" = 127.0.0.1 ] || exit 93
ssh::cmd "nvme list | grep -c $NVME_DEV_NAME" || exit 94
[ "$(ssh::cmd_output 'echo "a  b"')" = "a  b" ] || exit 95
ssh::cmd "exit 5"; [ $? = 5 ] || exit 96
echo data > {tmp_path}/f
ssh::push {tmp_path}/f /root/f && ssh::pull /root/f {tmp_path}/g && cmp {tmp_path}/f {tmp_path}/g || exit 97
qemu::monitor info status | grep -q running || exit 98
[ "$(qemu::hostcmd_output 'echo here')" = here ] || exit 99
qemu::host_push {tmp_path}/f {tmp_path}/h && cmp {tmp_path}/f {tmp_path}/h || exit 100
img=$(qemu::img_create extra qcow2 10M) && [ "$img" = {folder}/extra.qcow2 ] && [ -s "$img" ] || exit 101
qemu::reset || exit 102
qemu::provision_kernel {tiny.dir}/bzImage && cmp {tiny.dir}/bzImage {folder}/bzImage || exit 103
qemu::wait 1; [ $? = 124 ] || exit 104
qemu::kill && qemu::wait 10 || exit 105
unset QEMU_GUEST_NAME
qemu::run; [ $? = 64 ] || exit 106
"""
    bash(daemon, script.replace("::", mark) if mark == "." else script)


def test_hooks(daemon, tiny):
    daemon.folder("emujoe", tiny.config)
    env = {"QEMU_GUEST_NAME": "emujoe"}
    bash(daemon, '"$CIJOE/qemu_enter.sh"', env=env)
    assert daemon.show("emujoe")["ready"]
    bash(daemon, 'source "$CIJOE/qemu_exit.sh"', env=env)
    assert daemon.show("emujoe")["state"] == "stopped"


def test_hooks_end_by_their_deadlines(daemon, fake):
    daemon.folder("g", fake.config("ignore-powerdown"))
    env = {"QEMU_GUEST_NAME": "g", "QEMU_ENTER_TIMEOUT": "1", "QEMU_EXIT_TIMEOUT": "1"}
    bash(daemon, '"$CIJOE/qemu_enter.sh"', env=env, code=124)
    bash(daemon, '"$CIJOE/qemu_exit.sh"', env=env)
    view = daemon.show("g")
    assert (view["state"], view["reason"]) == ("stopped", "killed")


def test_run_imports_a_guest_that_is_not_there(daemon, tiny):
    script = f"""
source "$CIJOE/qemu.sh"
export QEMU_GUEST_NAME=newjoe QEMU_GUEST_KERNEL={tiny.dir}/bzImage QEMU_GUEST_MEM=256 QEMU_GUEST_APPEND=console=ttyS0
qemu::run && qemu::kill
"""
    bash(daemon, script)
    assert json.loads((daemon.guests / "newjoe/guest.json").read_text())["memory"] == "256M"


def test_install(tmp_path):
    subprocess.run(["make", "-s", "install", f"DESTDIR={tmp_path}", "PREFIX=/usr", f"BUILD={os.path.relpath(BUILD, ROOT)}"],
                   cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / "usr/share/cijqemu/cijoe/qemu.sh").exists()
