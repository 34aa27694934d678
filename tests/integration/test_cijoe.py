"""CIJOE's shell module and hooks, in bash with 'set -u', on the real guest."""

import json
import os
import subprocess

import pytest

from harness import BUILD, HANG, ROOT

CIJOE = ROOT / "client/cijoe"

def bash(daemon, script, code=0, env=None):
    done = subprocess.run(
        ["bash", "-c", "set -u\n" + script], capture_output=True, text=True, timeout=HANG, stdin=subprocess.DEVNULL,
        env=daemon.client_env({"CIJQEMUCTL": str(BUILD / "cijqemuctl"), "CIJOE": str(CIJOE), **(env or {})}))
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "unbound variable" not in done.stderr
    return done


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


def test_run_takes_the_drive_of_a_folder_without_a_definition(daemon, tiny):
    """As CIJOE's users have it: an image in a folder, and the rest in target_env.sh."""
    folder = daemon.folder("old")
    for name in ("bzImage", "initrd.img"):
        (folder / name).write_bytes((tiny.dir / name).read_bytes())
    script = f"""
source "$CIJOE/qemu.sh"
export QEMU_GUEST_NAME=old QEMU_GUEST_MEM=256 QEMU_DEV_ID=nvme0 QEMU_DEV_MDTS=5 SSH_USER=root
qemu.guest_nvme_create && qemu.guest_nvme_exists && qemu.run && qemu.kill
"""
    bash(daemon, script)
    config = json.loads((folder / "guest.json").read_text())
    assert config["devices"][0]["mdts"] == 5


def test_install(tmp_path):
    subprocess.run(["make", "-s", "install", f"DESTDIR={tmp_path}", "PREFIX=/usr", f"BUILD={os.path.relpath(BUILD, ROOT)}"],
                   cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / "usr/share/cijqemu/cijoe/qemu.sh").exists()
