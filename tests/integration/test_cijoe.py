"""CIJOE's shell module and hooks, in bash with 'set -u', on the real guest."""

import json
import os
import random
import re
import shutil
import socket
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


OLD_FUNCTIONS = """qemu: env run kill poweroff reset is_running wait console monitor hostcmd hostcmd_output host_push
provision_kernel guest_nvme_exists guest_nvme_create guest_nvme_config guest_nvme_dev_del img_create args_drive
img_from_url
ssh: shell cmd cmd_output push pull"""


def test_every_old_function_under_both_spellings(daemon):
    names = []
    for word in OLD_FUNCTIONS.split():
        if word.endswith(":"):
            module = word[:-1]
        else:
            names += [f"{module}::{word}", f"{module}.{word}"]
    script = 'source "$CIJOE/qemu.sh"\n' + "".join(f"declare -F {name} >/dev/null || echo {name}\n" for name in names)
    assert bash(daemon, script).stdout == ""


@pytest.mark.parametrize("mark", ["::", "."])
def test_console_shell_and_drive(daemon, tiny, mark):
    daemon.folder("emujoe", {**tiny.config, "devices": [{"id": "nvme0", "type": "nvme", "size": "64M"}]})
    script = """
set -e
source "$CIJOE/qemu.sh"
export QEMU_GUEST_NAME=emujoe SSH_HOST=localhost
qemu::run --wait=ssh
qemu::env
[ "$QEMU_GUEST_PATH" -ef {folder} ] || exit 90
echo "echo cij'qe'mu; exit" | qemu::console > {folder}/seen
grep -q cijqemu {folder}/seen || exit 91
code=0; echo 'echo "in"side; exit 3' | ssh::shell > {folder}/said || code=$?
[ $code = 3 ] && [ "$(cat {folder}/said)" = inside ] || exit 92
ssh::cmd 'test -b /dev/nvme0n1' || exit 93
qemu::guest_nvme_config && qemu::guest_nvme_create && qemu::guest_nvme_exists || exit 94
qemu::guest_nvme_dev_del || exit 95
ssh::cmd '! test -b /dev/nvme0n1' || exit 96
code=0; qemu::guest_nvme_dev_del nosuch 2>/dev/null || code=$?
[ $code != 0 ] || exit 97
[ "$(qemu::args_drive extra qcow2)" = "-drive file=extra.qcow2,if=virtio,format=qcow2" ] || exit 98
code=0; qemu::args_drive extra 2>/dev/null || code=$?; [ $code = 64 ] || exit 99
code=0; qemu::img_create extra 2>/dev/null || code=$?; [ $code = 64 ] || exit 100
qemu::poweroff && qemu::wait 30 || exit 101
""".replace("{folder}", str(daemon.guests / "emujoe"))
    bash(daemon, script.replace("::", mark) if mark == "." else script)


@pytest.mark.parametrize("mark", ["::", "."])
def test_img_from_url(daemon, tiny, tmp_path, mark):
    """A cloud image is fetched once, whole or not at all, and becomes a guest."""
    image = tmp_path / "cloud.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "64M"], check=True)
    script = f"""
set -e
source "$CIJOE/qemu.sh"
export QEMU_GUEST_NAME=webjoe
code=0; qemu::img_from_url file://{tmp_path}/nosuch.qcow2 {tiny.dir}/id_ed25519.pub 2>/dev/null || code=$?
[ $code != 0 ] || exit 90
code=0; qemu::img_from_url 2>/dev/null || code=$?; [ $code = 64 ] || exit 91
qemu::img_from_url file://{image} {tiny.dir}/id_ed25519.pub
rm {image}
"$CIJQEMUCTL" delete webjoe --yes
qemu::img_from_url file://{image} {tiny.dir}/id_ed25519.pub
"""
    bash(daemon, script.replace("::", mark) if mark == "." else script, env={"XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert (daemon.guests / "webjoe/boot.qcow2").exists() and (daemon.guests / "webjoe/seed.img").exists()
    assert os.listdir(tmp_path / "cache/cijqemu") == ["cloud.qcow2"]


@pytest.mark.parametrize("mark", ["::", "."])
def test_other_machines(daemon, tmp_path, mark):
    """QEMU_HOST and SSH_HOST that are no guest of ours: ssh and scp, as CIJOE did it."""
    for name in ("ssh", "scp"):
        (tmp_path / name).write_text(f'#!/bin/sh\nprintf "%s|" {name} "$@"; echo; exit 7\n')
        (tmp_path / name).chmod(0o755)
    script = f"""
source "$CIJOE/qemu.sh"
export QEMU_HOST=lab7 QEMU_HOST_USER=anna QEMU_HOST_PORT=2200 SSH_HOST=board SSH_USER=root SSH_PORT=22022
qemu::hostcmd 'ls -l' x; [ $? = 7 ] || exit 90
qemu::hostcmd_output uptime
qemu::host_push a b
ssh::cmd 'nvme list'; [ $? = 7 ] || exit 91
ssh::cmd_output uname
ssh::shell
ssh::push a b
ssh::pull a b
unset QEMU_HOST_USER QEMU_HOST_PORT SSH_USER SSH_PORT
qemu::hostcmd id
ssh::cmd id
exit 0
"""
    out = bash(daemon, script.replace("::", mark) if mark == "." else script,
               env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}).stdout
    assert out.splitlines() == [
        "ssh|-p|2200|anna@lab7|ls -l x|", "ssh|-p|2200|anna@lab7|uptime|", "scp|-r|-P|2200|--|a|anna@lab7:b|",
        "ssh|-p|22022|root@board|nvme list|", "ssh|-p|22022|root@board|uname|", "ssh|-p|22022|root@board|",
        "scp|-r|-P|22022|--|a|root@board:b|", "scp|-r|-P|22022|--|root@board:a|b|",
        "ssh|-p|22|lab7|id|", "ssh|-p|22|board|id|"]


def test_guest_of_another_machine(daemon, tmp_path):
    """CIJOE had SSH_HOST=$QEMU_HOST then; a guest's port is open to its own machine alone, cijqemuctl gets there."""
    (tmp_path / "ctl").write_text('#!/bin/sh\nprintf "%s|" "$@"; echo\n')
    (tmp_path / "ctl").chmod(0o755)
    script = """
source "$CIJOE/qemu.sh"
export QEMU_GUEST_NAME=emujoe QEMU_HOST=lab7 SSH_HOST=lab7 SSH_USER=root SSH_PORT=2022
ssh::cmd 'nvme list'
ssh.push a b
"""
    out = bash(daemon, script, env={"CIJQEMUCTL": str(tmp_path / "ctl")}).stdout
    assert out.splitlines() == ["exec|emujoe|--|nvme list|", "push|emujoe|-r|--|a|b|"]


def test_nothing_to_reach(daemon):
    """No guest, no SSH_HOST: told, and under 'set -u' the shell lives on."""
    script = """
source "$CIJOE/qemu.sh"
unset QEMU_GUEST_NAME SSH_HOST
for f in shell cmd cmd_output push pull; do code=0; ssh::$f a b || code=$?; [ $code = 64 ] || exit 90; done
"""
    assert "SSH_HOST is set" in bash(daemon, script).stderr


def walk_through():
    """The commands of README's section on CIJOE, block by block, as printed."""
    text = (ROOT / "README.md").read_text()
    section = re.search(r"^## CIJOE\n(.*?)^## ", text, re.S | re.M).group(1)
    blocks = re.findall(r"(?:^    .*\n)+", section, re.M)
    return [[line[6:] for line in block.splitlines() if line.startswith("    $ ")] for block in blocks]


def quiet_port():
    """A port that no daemon's guests and no outgoing connections are given."""
    while True:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", random.randrange(20000, 30000)))
                return s.getsockname()[1]
            except OSError:
                pass


def test_walk_through_of_the_readme(daemon, tiny, tmp_path):
    """As printed, in 'bash -u', with what 'make install' puts under /usr/local seen there by it alone."""
    blocks = walk_through()
    assert len(blocks) == 2 and all(len(block) >= 5 for block in blocks), blocks
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("this machine cannot: no mount namespace of our own")
    installed, home, work = tmp_path / "installed", tmp_path / "home", tmp_path / "work"
    subprocess.run(["make", "-s", "install", f"DESTDIR={installed}", f"BUILD={os.path.relpath(BUILD, ROOT)}"],
                   cwd=ROOT, check=True, capture_output=True)
    folder = daemon.folder("emujoe")
    for name in ("bzImage", "initrd.img"):
        shutil.copy(tiny.dir / name, folder / name)
    (home / ".ssh").mkdir(parents=True)
    shutil.copy(tiny.dir / "id_ed25519", home / ".ssh/id_ed25519")
    work.mkdir()
    (work / "target_env.sh").write_text("".join(f"export {line}\n" for line in (
        "SSH_USER=root", "SSH_HOST=localhost", f"SSH_PORT={quiet_port()}", "QEMU_HOST=localhost", "QEMU_HOST_USER=root",
        f"QEMU_GUESTS={daemon.guests}", "QEMU_GUEST_NAME=emujoe", "QEMU_GUEST_PATH=$QEMU_GUESTS/$QEMU_GUEST_NAME",
        "QEMU_GUEST_MEM=256", "QEMU_GUEST_CONSOLE=file", "QEMU_DEV_ID=cij_nvme",
        "QEMU_DEV_MDTS=7", "NVME_DEV_NAME=nvme0n1")))
    for block in blocks:
        # Each command in turn; the first that fails is named.
        script = "".join(f"{line}\ncode=$?; [ $code = 0 ] || {{ echo 'failed:' {line!r} >&2; exit $code; }}\n"
                         for line in block)
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", 'mount --bind "$1" /usr/local && exec bash -u -c "$2"', "sh",
             installed / "usr/local", script],
            cwd=work, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=2 * HANG,
            env={**daemon.client_env({"HOME": str(home), "SSH_AUTH_SOCK": ""}), "PATH": "/usr/local/bin:/usr/bin:/bin"})
        assert done.returncode == 0 and "unbound variable" not in done.stderr, (done, daemon.log_text()[-2000:])
        assert "/dev/nvme0n1" in done.stdout, done
        assert daemon.show("emujoe")["state"] == "stopped" and daemon.show("emujoe")["reason"] == "stopped"
    assert json.loads((folder / "guest.json").read_text())["devices"][0]["mdts"] == 7


def test_hooks(daemon, tiny):
    daemon.folder("emujoe", tiny.config)
    env = {"QEMU_GUEST_NAME": "emujoe"}
    bash(daemon, '"$CIJOE/qemu_enter.sh"', env=env)
    assert daemon.show("emujoe")["ready"]
    # Sourced, they leave the shell that did it alone, and what they know in it.
    script = """
source "$CIJOE/qemu_enter.sh" || exit 90
[ "$SSH_PORT" = "$("$CIJQEMUCTL" env emujoe | sed -n 's/^export SSH_PORT=//p')" ] || exit 91
ssh::cmd true || exit 92
source "$CIJOE/qemu_exit.sh" || exit 93
QEMU_GUEST_NAME= source "$CIJOE/qemu_enter.sh"
exit $?
"""
    bash(daemon, script, env=env, code=64)
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
