"""--host: every command through an OpenSSH server on loopback."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

from harness import BUILD, HANG, alive, wait_until
from screen import Screen
from sshd import Agent, Sshd


@pytest.fixture
def far(booted, sshd):
    """Runs cijqemuctl as if from another machine: only --socket says which daemon over there."""
    def run(*args, host="lab7", env=None, **kw):
        return booted.ctl("--host", host, *args, env={**sshd.env, **(env or {})}, **kw)
    return run


def relays():
    """The processes that hold a connection to a host."""
    out = []
    for pid in os.listdir("/proc"):
        try:
            if open(f"/proc/{pid}/comm").read() == "cijqemuctl-host\n":
                out.append(int(pid))
        except (OSError, ValueError):
            pass
    return out


def test_commands(far, booted, tmp_path):
    assert "tiny" in far("list").stdout
    assert json.loads(far("--json", "show", "tiny").stdout)["guest"] == "tiny"
    assert "running" in far("status", "tiny").stdout
    far("status", "nope", code=4)
    assert far("exec", "tiny", "--", "echo out; echo err >&2; exit 7", code=7).stdout == "out\n"
    assert "tiny guest ready" in far("logs", "tiny").stdout
    assert far("qmp", "tiny", "query-status").returncode == 0
    data = os.urandom(3_000_000)
    assert far("exec", "tiny", "--", "cat", input=data, text=False).stdout == data
    (tmp_path / "f").write_bytes(data)
    far("push", "tiny", tmp_path / "f", "f")
    far("pull", "tiny", "f", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == data
    assert "cijqemu" in far("console", "tiny", input="echo cij'qe'mu\n").stdout


def test_events_and_forward(far, booted, sshd):
    booted.ctl("exec", "tiny", "--", "mkdir -p /www; echo hello > /www/x; httpd -p 8080 -h /www")
    p = booted.ctl_start("--json", "--host", "lab7", "forward", "tiny", "0:8080", env=sshd.env)
    try:
        at = json.loads(p.stdout.readline())["listen"]
        assert urllib.request.urlopen(f"http://{at}/x", timeout=HANG).read() == b"hello\n"
        p.send_signal(signal.SIGINT)
        assert p.wait(HANG) == 0
    finally:
        p.kill()
        p.wait()
        booted.ctl("exec", "tiny", "--", "killall httpd")
    e = booted.ctl_start("--json", "--host", "lab7", "events", "tiny", env=sshd.env)
    try:
        time.sleep(0.5)
        booted.ctl("pause", "tiny")
        booted.ctl("resume", "tiny")
        assert json.loads(e.stdout.readline())["data"]["guest"] == "tiny"
    finally:
        e.terminate()
        e.wait(HANG)


def test_define_start_kernel_delete(far, booted, tiny):
    config = tiny.config
    far("create", "afar", "--kernel", config["kernel"]["image"], "--initrd", config["kernel"]["initrd"],
        "--ssh-key", config["ssh"]["key"], "--memory", "256M", "--set", "accel=tcg")
    assert "full path" in far("create", "afar2", "--kernel", "bzImage", code=64).stderr
    far("kernel", "afar", tiny.dir / "bzImage")
    assert (booted.guests / "afar/bzImage").stat().st_size == (tiny.dir / "bzImage").stat().st_size
    far("start", "afar", "--wait=ssh")
    assert far("exec", "afar", "tiny", "-p", "--", "echo hi").stdout.count("hi\n") == 2
    far("stop", "afar")
    far("delete", "afar", "--yes")


def test_nothing_is_left_running(far):
    far("list")
    far("exec", "tiny", "--", "true")
    wait_until(lambda: not relays(), "the relays end")


def test_variables(booted, sshd):
    """QEMU_HOST and its kin; a QEMU_HOST that is this machine means the local socket."""
    for local in ("localhost", "127.0.0.1", "127.9.9.9", "::1", socket.gethostname()):
        assert "tiny" in booted.ctl("list", env={"QEMU_HOST": local, "QEMU_HOST_PORT": "1"}).stdout
    env = {**sshd.env, "QEMU_HOST": "lab7"}
    assert "tiny" in booted.ctl("list", env=env).stdout
    done = booted.ctl("list", env={**env, "QEMU_HOST_PORT": "1"}, code=69)
    assert ":1" in done.stderr


def test_several_hosts(booted, sshd, far):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(4)
        mute = f"127.0.0.1:{silent.getsockname()[1]}"
        t = time.monotonic()
        done = far("--timeout", "3", "list", host=f"lab7,{mute},127.0.0.1:1,root@127.0.0.1:{sshd.port}", code=None)
        assert time.monotonic() - t < HANG
    assert done.returncode in (69, 124)
    lines = done.stdout.splitlines()
    assert lines[0].split()[0] == "HOST" and len(lines) == 3
    assert {line.split()[0] for line in lines[1:]} == {"lab7", f"root@127.0.0.1:{sshd.port}"}
    assert mute in done.stderr and "127.0.0.1:1" in done.stderr
    views = json.loads(far("--json", "list", host=f"lab7,root@127.0.0.1:{sshd.port}").stdout)
    assert [(v["host"], v["guest"]) for v in views] == [("lab7", "tiny"), (f"root@127.0.0.1:{sshd.port}", "tiny")]
    assert "several hosts" in far("start", "tiny", host="a,b", code=64).stderr


@pytest.mark.parametrize("host", ["", "a@", "host:0", "host:x", "host:99999", "-oProxyCommand=x", "u@-x", "[::1"])
def test_bad_hosts(far, host):
    assert far("list", host=host, code=None).returncode in (64, 69)


def test_port_of_an_ipv6_address(booted):
    """As CIJOE has them, in two variables: the port is no part of the address."""
    env = {"QEMU_HOST": "fe80::1", "QEMU_HOST_PORT": "2200"}
    assert "[fe80::1]:2200:" in booted.ctl("--timeout", 5, "list", env=env, code=69).stderr


def test_host_key_and_login_are_checked(booted, sshd, tmp_path):
    target = f"root@127.0.0.1:{sshd.port}"
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    env = {"HOME": str(home), "SSH_AUTH_SOCK": ""}
    # Never met: nobody can be asked.
    done = booted.ctl("--host", target, "list", env=env, code=69)
    by_hand = f"'ssh -p {sshd.port} root@127.0.0.1'"
    assert "not in known_hosts" in done.stderr and "SHA256:" in done.stderr and by_hand in done.stderr
    # Another key than the one remembered.
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "k"], check=True)
    key = " ".join((tmp_path / "k.pub").read_text().split()[:2])
    (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {key}\n")
    done = booted.ctl("--host", target, "list", env=env, code=69)
    assert "CHANGED" in done.stderr
    # The right one, but no key that is let in.
    (home / ".ssh/known_hosts").write_text((sshd.home / ".ssh/known_hosts").read_text())
    done = booted.ctl("--host", target, "list", env=env, code=69)
    assert "logging in" in done.stderr and by_hand in done.stderr
    # A key that the user's config names, and one that the agent has.
    (home / ".ssh/config").write_text(f"Host *\n  IdentityFile {sshd.key}\n")
    assert "tiny" in booted.ctl("--host", target, "list", env=env).stdout
    (home / ".ssh/config").unlink()
    with Agent(tmp_path / "agent") as agent:
        agent.add(sshd.key)
        done = booted.ctl("--host", target, "list", env={**env, "SSH_AUTH_SOCK": str(agent.path)})
        assert "tiny" in done.stdout


def test_no_daemon_there(sshd, booted):
    done = booted.ctl("--host", "lab7", "--socket", "/nonexistent/sock", "list", env=sshd.env, code=69)
    assert "/nonexistent/sock" in done.stderr and "systemctl start" in done.stderr


def test_forwarding_is_forbidden_there(tmp_path, booted):
    server = Sshd(tmp_path / "strict", "AllowStreamLocalForwarding no")
    try:
        server.start()
        done = booted.ctl("--host", "lab7", "list", env=server.env, code=69)
        assert "AllowStreamLocalForwarding" in done.stderr
    finally:
        server.stop()


def test_silence_is_given_up(booted, sshd):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(4)
        done = booted.ctl("--timeout", "1", "--host", f"127.0.0.1:{s.getsockname()[1]}", "list", env=sshd.env, code=124)
        assert "banner" in done.stderr


def test_connection_is_lost(booted, tmp_path):
    """The server ends in the middle: what runs through it says so and ends."""
    server = Sshd(tmp_path / "dies")
    try:
        server.start()
        p = booted.ctl_start("--host", "lab7", "exec", "tiny", "--", "echo up; sleep 1000", env=server.env)
        assert p.stdout.readline() == b"up\n"
        children = subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True).stdout.split()
        for pid in children:
            grand = subprocess.run(["pgrep", "-P", pid], capture_output=True, text=True).stdout.split()
            for one in (pid, *grand):
                if alive(int(one)):
                    os.kill(int(one), signal.SIGKILL)
        _, err = p.communicate(timeout=HANG)
        assert p.returncode == 255 and b"lost" in err
    finally:
        server.stop()


def test_top(far, booted, sshd):
    """The screen, and from it the console, of another machine's guests; no relay is left behind."""
    assert json.loads(far("top", "--json", "-d", "0.2").stdout)[0]["guest"] == "tiny"
    before = set(relays())
    screen = Screen([BUILD / "cijqemuctl", "--host", "lab7", "top", "-d", "0.2"], booted.client_env(sshd.env))
    try:
        screen.until_shown("1 guest, 1 running")
        screen.keys("\r")
        screen.until_shown("tiny: writing")
        screen.keys("\x1d.")
        screen.until_shown("q quit")
        screen.keys("q")
        assert screen.ended() == 0
        screen.assert_restored()
    finally:
        screen.close()
    wait_until(lambda: not set(relays()) - before, "the relays have ended")
