"""Into the guest, when things go wrong: refusals, silence, hang-ups, impatience."""

import io
import os
import pathlib
import random
import signal
import subprocess
import tarfile
import time

import paramiko
import pytest

from harness import BUILD, HANG, wait_until
from odd_sshd import OddSshd
from terminal import Terminal

# How a program ends at ^C, before and after there is something to be put in order: for a shell it is the same.
INTERRUPTED = (128 + signal.SIGINT, -signal.SIGINT)


@pytest.fixture
def odd(daemon, fake):
    """A guest 'g' whose SSH server is odd; (daemon, server)."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", daemon.base / "key"], check=True)
    with OddSshd(daemon.socket) as server:
        daemon.folder("g", fake.config("elsewhere", ssh={"port": server.port, "key": str(daemon.base / "key")}))
        daemon.ctl("start", "g", "--wait=ssh")
        yield daemon, server


@pytest.mark.parametrize("fault", ["refusals", "hang_ups"])
def test_a_channel_refused_once(odd, fault, tmp_path):
    """Nothing has run yet: a second connection is made, once, and with a reason where that does not help."""
    d, server = odd
    setattr(server, fault, 1)
    done = d.ctl("exec", "-v", "g", "--", "echo in; exit 3", code=3)
    assert done.stdout == "in\n" and "trying once more" in done.stderr
    assert server.logins == 2
    setattr(server, fault, 2)
    done = d.ctl("exec", "g", "--", "echo in", code=255)
    assert done.stdout == "" and "opening an SSH channel" in done.stderr
    assert done.stderr.split("failed: ")[1].strip(), done.stderr
    assert server.logins == 4


def test_a_server_that_is_being_restarted(odd):
    """The guest's port closes without a word for a moment; one that goes on doing so is told."""
    d, server = odd
    server.shy = 2
    assert d.ctl("exec", "g", "--", "echo in").stdout == "in\n"
    server.shy = 1000
    done = d.ctl("exec", "g", "--", "echo in", code=255)
    assert "without an SSH banner" in done.stderr and done.stdout == ""


def test_a_guest_that_falls_silent(odd, tmp_path):
    """It says yes to everything and does nothing: the deadline holds, and ^C before that."""
    d, server = odd
    server.silent = True
    (tmp_path / "f").write_text("x")
    (tmp_path / "out").mkdir()
    for command in (["push", "g", tmp_path / "f", "f"], ["pull", "g", "f", tmp_path / "out/f"]):
        done = d.ctl("--timeout", "2", *command, code=124)
        assert "no answer in time" in done.stderr, done
        server.logins = 0
        p = d.ctl_start(*command)
        wait_until(lambda: server.logins, "it is in")
        time.sleep(0.5)
        p.send_signal(signal.SIGINT)
        _, err = p.communicate(timeout=HANG)
        assert p.returncode in INTERRUPTED, err
    assert os.listdir(tmp_path / "out") == []


def test_a_guest_that_hangs_up(odd):
    """In the middle of a command."""
    d, server = odd
    p = d.ctl_start("exec", "g", "--", "sleep 5")
    wait_until(lambda: server.logins, "it is in")
    time.sleep(0.5)
    server.hang_up()
    _, err = p.communicate(timeout=HANG)
    assert p.returncode == 255 and (b"lost" in err or b"closed" in err or b"disconnected" in err), err


def test_a_guest_that_is_reset(daemon, tiny):
    """Nobody tells of the connection's end: it is asked for."""
    daemon.folder("g", tiny.config)
    daemon.ctl("start", "g", "--wait=ssh")
    p = daemon.ctl_start("exec", "g", "--", "echo ready; reboot -f; sleep 1000")
    assert p.stdout.readline() == b"ready\n"
    _, err = p.communicate(timeout=2 * HANG)
    assert p.returncode == 255 and b"lost" in err, err


def test_questions_of_the_server(odd, tmp_path):
    """keyboard-interactive: whoever sits at the terminal is asked; without one it is said."""
    d, server = odd
    server.answers = {"Token: ": "123", "Colour: ": "red"}
    env = {"HOME": str(tmp_path), "SSH_AUTH_SOCK": "", "TERM": "xterm"}
    with Terminal([BUILD / "cijqemuctl", "exec", "g", "--", "echo 'in'side"], d.client_env(env)) as t:
        t.expect("Token: ")
        t.type("123\r")
        t.expect("Colour: ")
        t.type("blue\r")  # wrong: once more
        t.expect("Token: ")
        t.type("123\r")
        t.expect("Colour: ")
        t.type("red\r")
        t.expect("inside")
        assert t.wait() == 0 and t.restored()
        assert b"blue" not in t.shown
    done = subprocess.run(["setsid", "-w", BUILD / "cijqemuctl", "exec", "g", "--", "true"], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, env=d.client_env(env), timeout=HANG)
    assert done.returncode == 255 and "nobody answers" in done.stderr, done.stderr


def test_a_key_and_an_answer(odd, tmp_path):
    """A server that wants both gets both."""
    d, server = odd
    server.answers, server.key_and_answers = {"Token: ": "123"}, True
    env = {"HOME": str(tmp_path), "SSH_AUTH_SOCK": "", "TERM": "xterm"}
    with Terminal([BUILD / "cijqemuctl", "exec", "g", "--", "echo 'in'side"], d.client_env(env)) as t:
        t.expect("Token: ")
        t.type("123\r")
        t.expect("inside")
        assert t.wait() == 0 and t.restored()


def test_questions_of_a_host(odd, tmp_path):
    """The same with --host."""
    d, server = odd
    server.answers = {"Token: ": "123"}
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/known_hosts").write_text(
        f"[127.0.0.1]:{server.port} {server.key.get_name()} {server.key.get_base64()}\n")
    env = {"HOME": str(tmp_path), "SSH_AUTH_SOCK": "", "TERM": "xterm"}
    with Terminal([BUILD / "cijqemuctl", "--host", f"127.0.0.1:{server.port}", "--socket", d.socket, "status", "g"],
                  d.client_env(env)) as t:
        t.expect("Token: ")
        t.type("123\r")
        t.expect("g: running")
        assert t.wait() == 0 and t.restored()


class Evil(paramiko.SFTPServerInterface):
    """Names that lead out of the folder that is copied."""

    def stat(self, path):
        found = paramiko.SFTPAttributes()
        found.st_mode, found.st_size = (0o40755, 0) if path == "dir" else (0o100644, 4)
        found.st_atime = found.st_mtime = 1
        return found

    lstat = stat

    def list_folder(self, path):
        names = ["../evil", "/evil", "..", ".", "", "a/b", "good"]
        out = []
        for name in names:
            out.append(self.stat(name))
            out[-1].filename = name
        return out

    def open(self, path, flags, attr):
        handle = paramiko.SFTPHandle(flags)
        handle.readfile = io.BytesIO(b"data")
        handle.stat = lambda: self.stat(path)
        return handle


def test_a_guest_whose_sftp_server_is_evil(odd, tmp_path):
    d, server = odd
    server.sftp = Evil
    (tmp_path / "out/in").mkdir(parents=True)
    done = d.ctl("pull", "-v", "g", "-r", "dir", tmp_path / "out/in/dir", code=None)
    assert "by SFTP" in done.stderr
    assert (tmp_path / "out/in/dir/good").read_text() == "data"
    assert sorted(p.name for p in (tmp_path / "out").rglob("*")) == ["dir", "good", "in"]
    assert done.returncode == 1 and "no file can have" in done.stderr, done


def test_a_guest_whose_tar_is_evil(odd, tmp_path):
    d, server = odd
    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as tar:
        def add(name, kind=tarfile.REGTYPE, link=""):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode = kind, link, 0o755
            entry.size = 4 if kind == tarfile.REGTYPE else 0
            tar.addfile(entry, io.BytesIO(b"data"))
        add("./", tarfile.DIRTYPE)
        add("./good")
        add("../evil1")
        add("./x/../../evil2")
        add(f"{tmp_path}/out/evil3")
        add("./link", tarfile.SYMTYPE, "..")
        add("./link/evil4")
        add("./hard", tarfile.LNKTYPE, "../../../outside")
        add("./dev", tarfile.CHRTYPE)
    (tmp_path / "outside").write_text("secret")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tar").write_text(f"#!/bin/sh\ncat {archive}\n")
    (tmp_path / "bin/tar").chmod(0o755)
    server.path = tmp_path / "bin"
    (tmp_path / "out/in").mkdir(parents=True)
    done = d.ctl("pull", "-v", "g", "-r", "/tmp", tmp_path / "out/in/dir", code=1)
    assert "through tar" in done.stderr
    assert (tmp_path / "out/in/dir/good").read_text() == "data"
    assert not [p for p in tmp_path.rglob("evil?")], done
    assert not (tmp_path / "out/in/dir/hard").exists() and not (tmp_path / "out/in/dir/dev").exists()


@pytest.mark.parametrize("what", ["shell", "exec -t", "exec", "forward", "console", "push", "pull"])
def test_impatience(booted, tmp_path, what):
    """^C, or a signal where ^C is the guest's, at any moment: the terminal is as it was, the exit code says it."""
    impatience(booted, tmp_path, what, 3)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", ["shell", "exec -t", "exec", "forward", "console", "push", "pull"])
def test_impatience_many_times(booted, tmp_path, what):
    impatience(booted, tmp_path, what, 60)


def impatience(d, tmp_path, what, times):
    (tmp_path / "big").write_bytes(random.randbytes(1 << 20) * 8)
    (tmp_path / "out").mkdir()
    d.ctl("exec", "tiny", "--", "rm -rf i; mkdir i; head -c 8000000 /dev/urandom > whole")
    words = {
        "shell": ["shell", "tiny"],
        "exec -t": ["exec", "tiny", "-t", "--", "cat"],
        "exec": ["exec", "tiny", "--", "sleep 60"],
        "forward": ["forward", "tiny", "0:22"],
        "console": ["console", "tiny"],
        "push": ["push", "tiny", tmp_path / "big", "i/big"],
        "pull": ["pull", "tiny", "whole", tmp_path / "out/whole"],
    }[what]
    for i in range(times):
        sig = random.choice([signal.SIGTERM, signal.SIGHUP]) if what in ("shell", "exec -t", "console") else signal.SIGINT
        delay = random.random() * 0.6
        with Terminal([BUILD / "cijqemuctl", *words], d.client_env({"TERM": "xterm"})) as t:
            time.sleep(delay)
            if sig == signal.SIGINT:
                t.type("\x03")
            elif t.poll() is None:
                t.kill(sig)
            code, tale = t.wait(), (what, i, sig, delay, t.shown)
            good = {128 + sig, -sig}
            if what == "forward" or what in ("push", "pull"):
                good.add(0)
            assert code in good, (code, tale)
            assert t.restored(), tale
        if what == "push":
            wait_until(lambda: d.ctl("exec", "tiny", "--", "cd i; ls -A").stdout.strip() in ("", "big"), tale)
            # There as a whole, or not at all.
            size = d.ctl("exec", "tiny", "--", "wc -c < i/big || echo none; rm -f i/big").stdout.strip()
            assert size in ("none", str(8 << 20)) and (code != 0 or size != "none"), (size, tale)
        if what == "pull":
            left = os.listdir(tmp_path / "out")
            assert left in ([], ["whole"]) and (code != 0 or left), (left, tale)
            if left:
                assert (tmp_path / "out/whole").stat().st_size == 8000000, tale
                (tmp_path / "out/whole").unlink()


@pytest.mark.parametrize("what", ["exec", "console", "push"])
def test_window_of_nothing(booted, tmp_path, what):
    """A terminal of 0 lines and 0 columns, as one has it that nobody looks at."""
    (tmp_path / "big").write_bytes(random.randbytes(1 << 20) * 20)
    words = {"exec": ["exec", "tiny", "-t", "--", "stty size; exit 7"],
             "console": ["console", "tiny", "--from", "start"],
             "push": ["push", "tiny", tmp_path / "big", "big"]}[what]
    with Terminal([BUILD / "cijqemuctl", *words], booted.client_env({"TERM": "xterm"}), rows=0, columns=0) as t:
        if what == "exec":
            t.expect("24 80")
        if what == "console":
            t.expect("tiny guest ready")
            t.type("\x1d.")
        assert t.wait() == (7 if what == "exec" else 0), t.shown
        assert t.restored()


def test_the_second_file_has_its_own_time(booted, tmp_path):
    """--timeout bounds how long the guest may take to answer, not how long all files take together."""
    booted.ctl("exec", "tiny", "--", "rm -f slow; mkfifo slow; echo quick > quick; (sleep 11; echo late) > slow 2>/dev/null &")
    booted.ctl("--timeout", "10", "pull", "tiny", "slow", "quick", tmp_path)
    assert (tmp_path / "quick").read_text() == "quick\n" and (tmp_path / "slow").read_text() == "late\n"


@pytest.fixture(scope="module")
def slow_reader(tmp_path_factory):
    """The environment of a client that is slow between its looks for stdout and stderr."""
    library = tmp_path_factory.mktemp("slow") / "slow_reader.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library,
                    pathlib.Path(__file__).with_name("slow_reader.c")], check=True)
    env = {"LD_PRELOAD": str(library)}
    if BUILD.name == "asan":
        env["ASAN_OPTIONS"] = "verify_asan_link_order=0:detect_leaks=0"
    return env


@pytest.mark.parametrize("pause", [0.1, 0.3, 0.5, 0.7])
def test_what_came_in_beside_something_else(booted, slow_reader, pause):
    """Output, and the command's end, that libssh reads while it was asked for something else, are not waited for."""
    done = booted.ctl("exec", "tiny", "--", f"sleep 2; echo a; sleep {pause}; echo b; exit 3", env=slow_reader, code=3)
    assert done.stdout == "a\nb\n"
