"""An OpenSSH server of our own on loopback, with keys and a configuration of its own."""

import os
import pathlib
import shutil
import socket
import subprocess

from harness import wait_until


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Agent:
    """An ssh-agent of our own; it answers once it is entered."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.process = subprocess.Popen(["ssh-agent", "-D", "-a", self.path], stdout=subprocess.DEVNULL)
        wait_until(lambda: self.run("ssh-add", "-l") != 2, "ssh-agent answers")
        return self

    def run(self, *argv):
        """The exit code: 2 = there is no agent."""
        return subprocess.run(argv, env={**os.environ, "SSH_AUTH_SOCK": str(self.path)}, capture_output=True).returncode

    def add(self, key):
        assert self.run("ssh-add", "-q", str(key)) == 0

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)


class Sshd:
    def __init__(self, base, *options, authorized=None):
        self.base = pathlib.Path(base)
        self.base.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.key = self.base / "userkey"
        for name in ("hostkey", "userkey"):
            if not (self.base / name).exists():
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.base / name],
                               check=True)
        shutil.copy(self.base / "userkey.pub", self.base / "authorized_keys")
        # A home for the client: its known_hosts, key and config are found by $HOME.
        self.home = self.base / "home"
        (self.home / ".ssh").mkdir(parents=True, exist_ok=True)
        (self.home / ".ssh").chmod(0o700)
        shutil.copy(self.key, self.home / ".ssh/id_ed25519")
        self.trust()
        (self.home / ".ssh/config").write_text(
            f"Host lab7\n  HostName 127.0.0.1\n  Port {self.port}\n  User root\n")
        (self.base / "sshd_config").write_text("\n".join([
            f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {self.base}/hostkey",
            f"AuthorizedKeysFile {self.base}/authorized_keys", f"PidFile {self.base}/pid", "StrictModes no",
            "PermitRootLogin yes", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
            "UsePAM no", "Subsystem sftp internal-sftp", "MaxStartups 100", "LogLevel DEBUG1", *options]) + "\n")
        self.process = None

    def trust(self):
        key = " ".join((self.base / "hostkey.pub").read_text().split()[:2])
        (self.home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{self.port} {key}\n")

    def start(self):
        pathlib.Path("/run/sshd").mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-f", self.base / "sshd_config", "-E", self.base / "log"])
        wait_until(self.answers, "sshd answers")
        return self

    def answers(self):
        assert self.process.poll() is None, (self.base / "log").read_text()
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                return s.recv(4) == b"SSH-"
        except OSError:
            return False

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    @property
    def env(self):
        return {"HOME": str(self.home), "SSH_AUTH_SOCK": ""}
