"""A cloud image as it comes, to its SSH: systemd, cloud-init, OpenSSH's server and Debian's kernel behind a boot loader."""

import os
import subprocess

import pytest

from harness import ROOT

# Emulated, on a machine that does other things: two minutes where it is quick.
BOOT_SECONDS = 1500


@pytest.fixture(scope="module")
def debian():
    path = ROOT / "build/cloud/debian.qcow2"
    subprocess.run(["nice", ROOT / "tests/guest/cloud.sh", path], check=True)
    return path


@pytest.mark.long
@pytest.mark.timeout(3 * BOOT_SECONDS)
def test_to_ssh_without_further_steps(daemon, debian, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    for name, user in (("byroot", "root"), ("byuser", "debian")):
        daemon.ctl("create", name, "--cloud-image", debian, "--ssh-key", tmp_path / "key.pub", "--user", user,
                   "--disk", "4G", "--memory", "768M", "--cpus", "2")
        daemon.ctl("--timeout", BOOT_SECONDS, "start", name, "--wait=ssh", timeout=2 * BOOT_SECONDS)
        out = daemon.ctl("--timeout", "120", "exec", name, "--", "hostname; id -un; sudo id -u; cat /etc/os-release").stdout
        assert out.splitlines()[:3] == [name, user, "0"] and "bookworm" in out
        # OpenSSH's own SFTP server, as a distribution has it.
        (tmp_path / "data").write_bytes(os.urandom(3_000_000))
        assert "by SFTP" in daemon.ctl("push", "-v", name, tmp_path / "data", "data").stderr
        daemon.ctl("pull", name, "data", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == (tmp_path / "data").read_bytes()
        done = daemon.ctl("--timeout", BOOT_SECONDS, "stop", name, "--force-after", "600", timeout=2 * BOOT_SECONDS)
        assert "powered off" in done.stderr and daemon.show(name)["reason"] == "stopped"
