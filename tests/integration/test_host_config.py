"""--host and the user's ~/.ssh: what ssh would do by it, this does, or says that it cannot."""

import shutil
import subprocess

import pytest

from harness import BUILD
from sshd import Agent, Sshd
from terminal import Terminal


class Home:
    """A user's home with a configuration of its own; the key and known_hosts are the server's."""

    def __init__(self, base, server):
        self.ssh = base / "home/.ssh"
        self.ssh.mkdir(parents=True, mode=0o700)
        self.server = server
        self.env = {"HOME": str(base / "home"), "SSH_AUTH_SOCK": ""}
        shutil.copy(server.home / ".ssh/known_hosts", self.ssh / "known_hosts")

    def config(self, text):
        (self.ssh / "config").write_text(text.format(port=self.server.port, key=self.server.key, ssh=self.ssh,
                                                     base=self.server.base))


@pytest.fixture
def home(tmp_path, sshd):
    return Home(tmp_path, sshd)


@pytest.fixture
def listed(booted, home):
    """Runs 'list' on a host: its stdout or, where it is to fail, its stderr."""
    def run(host, code=0, *options):
        done = booted.ctl("--host", host, *options, "list", env=home.env, code=code)
        return done.stderr if code else done.stdout
    return run


GOOD = "  HostName 127.0.0.1\n  Port {port}\n  User root\n  IdentityFile {key}\n"


def test_plain_words(listed, home):
    home.config("Host lab\n" + GOOD)
    assert "tiny" in listed("lab")


def test_first_value_wins(listed, home):
    home.config("Host lab*\n" + GOOD + "Host *\n  Port 1\n  User nobody\n  HostName 192.0.2.1\n")
    assert "tiny" in listed("lab9")


def test_what_is_named_outranks_it(listed, home):
    home.config("Host lab\n  HostName 127.0.0.1\n  Port 1\n  User nobody\n  IdentityFile {key}\n")
    assert "tiny" in listed(f"root@lab:{home.server.port}")


def test_include_and_match(listed, home):
    (home.ssh / "more").write_text(f"Host lab\n  Port {home.server.port}\n  IdentityFile {home.server.key}\n")
    home.config("Include more\nMatch host lab\n  HostName 127.0.0.1\n  User root\n")
    assert "tiny" in listed("lab")


def test_equal_signs_quotes_and_tokens(listed, home):
    shutil.copy(home.server.key, home.ssh / "a key")
    home.config('Host lab\n  HostName=127.0.0.1\n  Port = {port}\n  User root\n  IdentityFile "%d/.ssh/a key"\n')
    assert "tiny" in listed("lab")


def test_proxy_command(listed, home, tmp_path):
    home.config("Host lab\n  HostName 127.0.0.1\n  Port {port}\n  User root\n  IdentityFile {key}\n"
                f"  ProxyCommand sh -c 'echo used >> {tmp_path}/proxy; exec socat - TCP:%h:%p'\n")
    assert "tiny" in listed("lab")
    assert (tmp_path / "proxy").read_text() == "used\n"
    home.config("Host lab\n" + GOOD + "  ProxyCommand none\n")
    assert "tiny" in listed("lab")


def test_interrupt_through_a_jump_host(booted, home):
    """^C goes to the command in the guest, not to the ssh that leads there."""
    home.config("Host lab\n" + GOOD + "  ProxyJump jump\nHost jump\n" + GOOD + "Host *\n  UserKnownHostsFile {ssh}/known_hosts\n")
    with Terminal([BUILD / "cijqemuctl", "--host", "lab", "exec", "tiny", "--",
                   "trap 'echo got; exit 9' INT; echo up; while :; do sleep 0.1; done"],
                  booted.client_env({**home.env, "TERM": "xterm"})) as t:
        t.expect("up")
        t.type("\x03")
        t.expect("got")
        assert t.wait() == 9 and t.restored()


def test_proxy_command_that_fails(listed, home):
    home.config("Host lab\n" + GOOD + "  ProxyCommand sh -c 'echo no way >&2; exit 1'\n")
    assert "ProxyCommand" in listed("lab", 69)


def test_proxy_jump(listed, home, sshd, tmp_path):
    """Through another host, which is another sshd here; it must have been gone through."""
    jump = Sshd(tmp_path / "jump")
    try:
        jump.start()
        # Where it leads, nobody else does: the name is known to the configuration alone.
        (home.ssh / "known_hosts").write_text((home.ssh / "known_hosts").read_text() +
                                              (jump.home / ".ssh/known_hosts").read_text())
        # The ssh that jumps goes by the account's home, not by $HOME.
        home.config("Host lab\n" + GOOD + "  ProxyJump jump\n"
                    f"Host jump\n  HostName 127.0.0.1\n  Port {jump.port}\n  User root\n  IdentityFile {jump.key}\n"
                    "Host *\n  UserKnownHostsFile {ssh}/known_hosts\n")
        assert "tiny" in listed("lab")
        assert "direct-tcpip" in (jump.base / "log").read_text()
        jump.stop()
        assert "ProxyCommand" in listed("lab", 69)
    finally:
        jump.stop()


def test_hashed_known_hosts(listed, home):
    home.config("Host lab\n" + GOOD)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", home.ssh / "known_hosts"], check=True, capture_output=True)
    assert "127.0.0.1" not in (home.ssh / "known_hosts").read_text()
    assert "tiny" in listed("lab")
    # Another key under the hash.
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home.ssh / "k"], check=True)
    key = " ".join((home.ssh / "k.pub").read_text().split()[:2])
    (home.ssh / "known_hosts").write_text(f"[127.0.0.1]:{home.server.port} {key}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", home.ssh / "known_hosts"], check=True, capture_output=True)
    assert "CHANGED" in listed("lab", 69)


def test_known_hosts_elsewhere(listed, home):
    (home.ssh / "known_hosts").rename(home.ssh / "mine")
    home.config("Host lab\n" + GOOD + "  UserKnownHostsFile {ssh}/mine\n")
    assert "tiny" in listed("lab")


def test_host_key_alias(listed, home):
    key = home.ssh / "known_hosts"
    key.write_text("labs-own-name " + " ".join(key.read_text().split()[1:]) + "\n")
    home.config("Host lab\n" + GOOD + "  HostKeyAlias labs-own-name\n")
    assert "tiny" in listed("lab")


@pytest.mark.parametrize("word", ["no", "off", "accept-new"])
def test_strict_host_key_checking_off(listed, home, word):
    """A host never met is let in and remembered; a changed key is not, whatever the word."""
    (home.ssh / "known_hosts").unlink()
    home.config("Host lab\n" + GOOD + f"  StrictHostKeyChecking {word}\n")
    assert "tiny" in listed("lab")
    assert f"[127.0.0.1]:{home.server.port}" in (home.ssh / "known_hosts").read_text()
    home.config("Host lab\n" + GOOD)
    assert "tiny" in listed("lab")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home.ssh / "k"], check=True)
    key = " ".join((home.ssh / "k.pub").read_text().split()[:2])
    (home.ssh / "known_hosts").write_text(f"[127.0.0.1]:{home.server.port} {key}\n")
    home.config("Host lab\n" + GOOD + f"  StrictHostKeyChecking {word}\n")
    assert "CHANGED" in listed("lab", 69)


@pytest.mark.parametrize("word", ["ask", "yes"])
def test_a_host_never_met(booted, home, word):
    """Whoever sits there is asked; with 'yes', nobody is."""
    (home.ssh / "known_hosts").unlink()
    home.config("Host lab\n" + GOOD + f"  StrictHostKeyChecking {word}\n")
    with Terminal([BUILD / "cijqemuctl", "--host", "lab", "list"], booted.client_env({**home.env, "TERM": "xterm"})) as t:
        if word == "yes":
            t.expect("not in known_hosts")
            assert t.wait() == 69
            return
        t.expect("SHA256:.*yes/no")
        t.type("yes\r")
        t.expect("tiny")
        assert t.wait() == 0 and t.restored()
    assert (home.ssh / "known_hosts").read_text().count("ssh-ed25519") == 1
    home.config("Host lab\n" + GOOD)
    assert "tiny" in booted.ctl("--host", "lab", "list", env=home.env).stdout


def test_a_configuration_that_cannot_be_read(listed, home):
    """ssh's own words; nothing is connected to."""
    home.config("Host lab\n" + GOOD + "  Nonsense yes\n")
    assert "nonsense" in listed("lab", 69).lower()


@pytest.mark.parametrize("line", ["CertificateFile /nonexistent", "AddressFamily inet", "PasswordAuthentication no"])
def test_what_cannot_be_followed_is_told(booted, home, line):
    home.config("Host lab\n" + GOOD + f"  {line}\n")
    done = booted.ctl("--host", "lab", "list", env=home.env)
    assert line.split()[0].lower() in done.stderr and "not followed" in done.stderr


def test_identities_only(listed, home, tmp_path):
    """An agent full of other keys is not what the server is asked about first, until it hangs up."""
    with Agent(tmp_path / "agent") as agent:
        home.env["SSH_AUTH_SOCK"] = str(agent.path)
        for i in range(8):
            key = tmp_path / f"k{i}"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
            agent.add(key)
        home.config("Host lab\n" + GOOD)
        why = listed("lab", 69)
        assert "logging in" in why and "Too many" in why, why
        home.config("Host lab\n" + GOOD + "  IdentitiesOnly yes\n")
        assert "tiny" in listed("lab")
        home.config("Host lab\n" + GOOD + "  IdentityAgent none\n")
        assert "tiny" in listed("lab")


def test_a_key_with_a_passphrase(booted, home):
    """Whoever sits there is asked for it; without a terminal it is said."""
    subprocess.run(["cp", home.server.key, home.ssh / "locked"], check=True)
    subprocess.run(["cp", f"{home.server.key}.pub", home.ssh / "locked.pub"], check=True)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "open sesame", "-f", home.ssh / "locked"], check=True)
    home.config("Host lab\n  HostName 127.0.0.1\n  Port {port}\n  User root\n  IdentityFile {ssh}/locked\n")
    with Terminal([BUILD / "cijqemuctl", "--host", "lab", "list"], booted.client_env({**home.env, "TERM": "xterm"})) as t:
        t.expect("passphrase")
        t.type("open sesame\r")
        t.expect("tiny")
        assert t.wait() == 0 and t.restored()
        assert b"sesame" not in t.shown


def test_no_ssh_program(booted, home, tmp_path):
    """Then nobody reads the configuration, and that is told."""
    shutil.copy(home.server.key, home.ssh / "id_ed25519")
    (tmp_path / "bin").mkdir()
    done = booted.ctl("--host", f"root@127.0.0.1:{home.server.port}", "list", env={**home.env, "PATH": str(tmp_path / "bin")})
    assert "tiny" in done.stdout and "not read" in done.stderr
