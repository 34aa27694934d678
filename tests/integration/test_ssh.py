"""exec, shell, forward, env, ssh-config, kernel: on the real guest, whose server is dropbear."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import termios
import threading
import time
import urllib.request

import pytest

from harness import BUILD, HANG, alive, wait_until


class Terminal:
    """A cijqemuctl on a terminal of its own."""

    def __init__(self, daemon, *args, rows=24, columns=80, env=None):
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (rows, columns))
        self.before = termios.tcgetattr(self.slave)
        self.text = b""
        self.process = subprocess.Popen(
            [BUILD / "cijqemuctl", *args], stdin=self.slave, stdout=self.slave, stderr=self.slave,
            env=daemon.client_env({"TERM": "xterm", **(env or {})}), preexec_fn=self.own)

    def own(self):
        os.setsid()
        import fcntl
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def read(self):
        if select.select([self.master], [], [], 0.05)[0]:
            self.text += os.read(self.master, 65536)

    def expect(self, word, seconds=HANG):
        word = word.encode()
        end = time.monotonic() + seconds
        while word not in self.text:
            assert time.monotonic() < end, (word, self.text)
            self.read()
        before, _, self.text = self.text.partition(word)
        return before

    def send(self, text):
        os.write(self.master, text.encode())

    def resize(self, rows, columns):
        termios.tcsetwinsize(self.slave, (rows, columns))
        self.process.send_signal(signal.SIGWINCH)

    def wait(self):
        def over():
            self.read()
            return self.process.poll() is not None
        wait_until(over, "the client ends")
        return self.process.returncode

    def is_restored(self):
        return termios.tcgetattr(self.slave) == self.before

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(booted):
    made = []

    def make(*args, **kw):
        made.append(Terminal(booted, *args, **kw))
        return made[-1]
    yield make
    for t in made:
        t.close()


def test_streams_apart_and_exit_code(booted):
    done = booted.ctl("exec", "tiny", "--", "echo out; echo err >&2; exit 7", code=7)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


@pytest.mark.parametrize("number", [9, 15, 11])
def test_exit_signal(booted, number):
    booted.ctl("exec", "tiny", "--", f"kill -{number} $$", code=128 + number)


def test_binary_clean_both_ways(booted):
    data = os.urandom(10_000_000)
    done = booted.ctl("exec", "tiny", "--", "cat", input=data, text=False)
    assert done.stdout == data


def test_stdin_ends(booted):
    assert booted.ctl("exec", "tiny", "--", "cat; echo end").stdout == "end\n"
    assert booted.ctl("exec", "tiny", "--", "cat; echo end", input="x").stdout == "xend\n"


def test_stdout_closed_early(booted):
    """head has had enough: the client ends too, and says nothing."""
    done = subprocess.run(f"{BUILD}/cijqemuctl exec tiny -- yes | head -n 1", shell=True, text=True,
                          capture_output=True, env=booted.client_env(), timeout=HANG)
    assert (done.stdout, done.stderr) == ("y\n", "")


@pytest.mark.parametrize("args", [["tiny"], ["t*"], ["--json", "tiny"]])
def test_stdout_takes_no_more(booted, args):
    """What could not be written is told, and is no success of the command."""
    with open("/dev/full", "w") as full:
        done = subprocess.run([BUILD / "cijqemuctl", "exec", *args, "--", "echo lost"], stdout=full, text=True,
                              stderr=subprocess.PIPE, env=booted.client_env(), timeout=HANG, stdin=subprocess.DEVNULL)
    assert done.returncode == 255 and "cannot write the output: No space left" in done.stderr, done


def test_stdout_of_several_closed_early(booted):
    done = subprocess.run(["bash", "-c", f"{BUILD}/cijqemuctl exec 't*' -- yes | head -n 1; exit ${{PIPESTATUS[0]}}"],
                          text=True, capture_output=True, env=booted.client_env(), timeout=HANG)
    assert (done.stdout, done.stderr, done.returncode) == ("tiny: y\n", "", 141)


def test_input_that_cannot_be_read(booted):
    """What came before is no whole; only a terminal or nohup's file is at its end then."""
    folder = os.open("/", os.O_RDONLY)
    done = subprocess.run([BUILD / "cijqemuctl", "exec", "tiny", "--", "cat"], stdin=folder, capture_output=True,
                          text=True, env=booted.client_env(), timeout=HANG)
    os.close(folder)
    assert done.returncode == 255 and "cannot read the input: Is a directory" in done.stderr, done
    with open("/dev/null", "w") as unreadable:
        done = subprocess.run([BUILD / "cijqemuctl", "exec", "tiny", "--", "cat; echo end"], stdin=unreadable,
                              capture_output=True, text=True, env=booted.client_env(), timeout=HANG)
    assert (done.stdout, done.stderr, done.returncode) == ("end\n", "", 0)


def test_words_arrive_as_they_are(booted):
    words = ["a b", "*", "$HOME", "'", '"', "", "\\", "new\nline", "-n"]
    done = booted.ctl("exec", "tiny", "--", "printf", "%s|", *words)
    assert done.stdout == "".join(w + "|" for w in words)


def test_environment(booted):
    done = booted.ctl("exec", "tiny", "-e", "A=x 'y", "-e", "B", "--", 'echo "$A,$B"', env={"B": "two"})
    assert done.stdout == "x 'y,two\n"
    done = booted.ctl("exec", "tiny", "-e", "1A=2", "--", "true", code=255)
    assert "NAME=VALUE" in done.stderr


def test_script(booted, tmp_path):
    script = tmp_path / "s"
    script.write_text('#!/bin/sh\ncat\necho "$# $1"\nexit 3\n')
    done = booted.ctl("exec", "tiny", "--script", script, "--", "a b", "c", input="in\n", code=3)
    assert done.stdout == "in\n2 a b\n"
    script.write_text("echo no interpreter named\n")
    assert booted.ctl("exec", "tiny", "--script", script).stdout == "no interpreter named\n"
    assert booted.ctl("exec", "tiny", "--script", "-", input="echo from stdin").stdout == "from stdin\n"
    assert booted.ctl("exec", "tiny", "--", "ls /tmp").stdout == ""
    assert "no/such" in booted.ctl("exec", "tiny", "--script", "no/such", code=255).stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_passed_on(booted, number):
    name = {signal.SIGINT: "INT", signal.SIGTERM: "TERM"}[number]
    p = booted.ctl_start("exec", "tiny", "--", f"trap 'echo got; exit 9' {name}; echo up; while :; do sleep 0.1; done")
    assert p.stdout.readline() == b"up\n"
    p.send_signal(number)
    out, _ = p.communicate(timeout=HANG)
    assert (out, p.returncode) == (b"got\n", 9)


def test_a_command_that_ignores_signals_is_left_behind(booted):
    p = booted.ctl_start("exec", "tiny", "--", "trap '' INT; echo up; sleep 30")
    assert p.stdout.readline() == b"up\n"
    p.send_signal(signal.SIGINT)
    assert p.wait(HANG) == 130


def test_several_guests(booted):
    done = booted.ctl("exec", "t*", "--parallel", "--", "echo hi; echo err >&2; exit 4", code=4)
    assert (done.stdout, done.stderr) == ("tiny: hi\n", "tiny: err\n")
    done = booted.ctl("exec", "tiny", "nosuch", "-p", "--", "echo hi", code=255)
    assert done.stdout == "tiny:   hi\n" and "no guest 'nosuch'" in done.stderr
    assert booted.ctl("exec", "no*", "--", "true", code=255).stderr
    one = json.loads(booted.ctl("exec", "--json", "tiny", "--", "printf 'a\\377'; exit 5", code=5).stdout)
    assert one == {"guest": "tiny", "exit_code": 5, "stdout": "a\ufffd", "stderr": ""}


def test_several_guests_end_with_us(booted):
    """However early the signal comes: none is taken between looking for it and waiting."""
    for i in range(40):
        p = booted.ctl_start("exec", "tiny", "tiny", "nosuch", "--parallel", "--", "sleep 600")
        time.sleep(0.001 * i)
        p.send_signal(signal.SIGTERM)
        p.communicate(timeout=HANG)
        assert p.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)


def test_usage(booted):
    booted.ctl("exec", "tiny", code=255)
    booted.ctl("exec", "tiny", "-t", "-T", "--", "x", code=255)
    booted.ctl("exec", "tiny", "--parallel=0", "--", "x", code=255)
    booted.ctl("shell", code=255)
    assert "is stopped" not in booted.ctl("exec", "nope", "--", "x", code=255).stderr


def test_shell_follows_the_window(terminal):
    t = terminal("shell", "tiny", rows=33, columns=101)
    t.send("stty size; echo 'rea'dy\r")
    assert b"33 101" in t.expect("ready")
    assert not t.is_restored()
    t.resize(20, 60)
    time.sleep(0.2)
    t.send("stty size; echo 'aga'in\r")
    assert b"20 60" in t.expect("again")
    t.send("exit 5\r")
    assert t.wait() == 5
    assert t.is_restored()


def test_window_of_nothing(terminal):
    t = terminal("shell", "tiny", rows=0, columns=0)
    t.send("stty size; exit\r")
    t.expect("24 80")
    assert t.wait() == 0


def test_shell_hangs_up_at_tilde_dot(terminal):
    t = terminal("shell", "tiny")
    t.send("echo 'rea'dy\r")
    t.expect("ready")
    t.send("\r~.")
    assert t.wait() == 255
    assert t.is_restored()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGSEGV])
def test_terminal_is_restored_at_death(terminal, number):
    t = terminal("shell", "tiny")
    t.send("echo 'rea'dy\r")
    t.expect("ready")
    t.process.send_signal(number)
    t.wait()
    assert t.is_restored()


def test_exec_with_terminal(terminal, booted):
    t = terminal("exec", "tiny", "-t", "--", "tty; stty size; exit 6")
    t.expect("/dev/pts/")
    t.expect("24 80")
    assert t.wait() == 6
    t = terminal("exec", "tiny", "--", "tty; exit 6")
    t.expect("not a tty")
    assert t.wait() == 6
    assert "not a tty" in booted.ctl("shell", "tiny", input="tty\n", code=1).stdout


def test_host_key_is_pinned(booted):
    """Another key for the same boot image is refused, loudly; asked for, it is taken."""
    known = booted.guests / "tiny/known_hosts"
    booted.ctl("exec", "tiny", "--", "true")
    good = known.read_text()
    assert "tiny ssh-ed25519 AAAA" in good and "run=1" in good
    other = subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", booted.base / "other"], check=True)
    assert other.returncode == 0
    key = " ".join((booted.base / "other.pub").read_text().split()[:2])
    bad = good.splitlines()[0] + f"\ntiny {key}\n"
    known.write_text(bad)
    done = booted.ctl("exec", "tiny", "--", "echo in", code=255)
    assert "HOST KEY HAS CHANGED" in done.stderr and "--new-host-key" in done.stderr and done.stdout == ""
    assert known.read_text() == bad
    # A pin of a run that is to come, or of another image, was another guest's.
    for heading in ("run=99 ", "run=1 image=memory:0:0:0:0.0"):
        was = good.splitlines()[0]
        line = was.replace("run=1 ", heading) if heading.endswith(" ") else was[:was.index("run=")] + heading
        known.write_text(line + f"\ntiny {key}\n")
        assert booted.ctl("exec", "tiny", "--", "echo in").stdout == "in\n"
        assert known.read_text() == good
    known.write_text(bad)
    done = booted.ctl("exec", "--new-host-key", "tiny", "--", "echo in")
    assert done.stdout == "in\n" and "is now SHA256:" in done.stderr
    assert known.read_text() == good
    with booted.connect() as c:
        assert c.ask("ssh-pin", guest="tiny", key="ssh-ed25519 AAAA\nx y", run=1)["error"]["class"] == "BadRequest"
        assert c.ask("ssh-pin", guest="tiny", key="ssh-ed25519 AAAA", run=2)["error"]["class"] == "Busy"


def test_auth_refused_names_what_was_tried(daemon, fake, tmp_path, sshd):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "k"], check=True)
    env = {"HOME": str(tmp_path), "SSH_AUTH_SOCK": ""}
    daemon.folder("g", fake.config("elsewhere", ssh={"port": sshd.port, "key": str(tmp_path / "k")}))
    daemon.folder("h", fake.config("elsewhere", ssh={"port": sshd.port, "user": "nobody-here", "key": str(sshd.key)}))
    daemon.ctl("start", "g", "--wait=ssh")
    done = daemon.ctl("exec", "g", "--", "true", code=255, env=env)
    assert "logging in" in done.stderr and str(tmp_path / "k") in done.stderr
    daemon.ctl("kill", "g")
    daemon.ctl("start", "h", "--wait=ssh")
    done = daemon.ctl("exec", "h", "--", "true", code=255, env=env)
    assert "'nobody-here'" in done.stderr
    daemon.ctl("kill", "h")


def test_failed_step_is_named(daemon, fake):
    """No port, refused, silence, no banner: each says which."""
    def serve(reply):
        s = socket.socket()
        s.bind(("127.0.0.1", 0))
        s.listen(8)
        s.settimeout(HANG)

        def run():
            while True:
                try:
                    c, _ = s.accept()
                except OSError:
                    return
                held.append(c)
                if reply is None:
                    continue
                if reply:
                    c.sendall(reply)
                else:
                    c.close()
        held = []
        threading.Thread(target=run, daemon=True).start()
        return s

    silent = serve(None)
    daemon.folder("silent", fake.config("elsewhere", ssh={"port": silent.getsockname()[1]}))
    daemon.ctl("start", "silent")
    done = daemon.ctl("--timeout", "1", "exec", "silent", "--", "true", code=255)
    assert "not ready for SSH" in done.stderr
    banner = serve(b"SSH-2.0-mute\r\n")
    daemon.folder("mute", fake.config("elsewhere", ssh={"port": banner.getsockname()[1]}))
    daemon.ctl("start", "mute", "--wait=ssh")
    done = daemon.ctl("--timeout", "1", "exec", "mute", "--", "true", code=255)
    assert "the SSH key exchange" in done.stderr and "no answer in time" in done.stderr
    banner.shutdown(socket.SHUT_RDWR)
    banner.close()
    done = daemon.ctl("exec", "mute", "--", "true", code=255)
    assert "cannot connect" in done.stderr
    daemon.ctl("kill", "mute")
    done = daemon.ctl("exec", "mute", "--", "true", code=255)
    assert "mute is stopped" in done.stderr and "start mute" in done.stderr


def test_forward(booted):
    booted.ctl("exec", "tiny", "--", "mkdir -p /www; head -c 300000 /dev/zero | tr '\\0' x > /www/x; httpd -p 8080 -h /www")
    p = booted.ctl_start("--json", "forward", "tiny", "0:8080", "127.0.0.1:0:9999")
    try:
        http = json.loads(p.stdout.readline())["listen"]
        closed = json.loads(p.stdout.readline())["listen"]
        for _ in range(5):
            assert urllib.request.urlopen(f"http://{http}/x", timeout=HANG).read() == b"x" * 300000
        with socket.create_connection(closed.rsplit(":", 1), HANG) as s:
            try:
                assert s.recv(1) == b""
            except ConnectionResetError:
                pass
        p.send_signal(signal.SIGINT)
        assert p.wait(HANG) == 0
    finally:
        p.kill()
        p.wait()
        booted.ctl("exec", "tiny", "--", "killall httpd")
    assert "cannot listen" in booted.ctl("forward", "tiny", "1.2.3.4:1:2", code=1).stderr
    for bad in ("8080", "x:1", "1:0", "99999:1", "1:2:3:4:5"):
        assert booted.ctl("forward", "tiny", bad, code=None).returncode in (1, 64, 65)


def test_forward_from_an_ipv6_address(booted):
    with open("/proc/net/if_inet6", encoding="ascii") as f:
        has_ipv6 = any(line.startswith("0" * 31 + "1 ") for line in f)
    p = booted.ctl_start("forward", "tiny", "[::1]:0:22")
    try:
        if has_ipv6:
            assert re.fullmatch(rb"\[::1\]:[0-9]+ leads to port 22 of tiny\n", p.stdout.readline())
        else:
            assert p.wait(HANG) == 1 and b"cannot listen on ::1" in p.stderr.read()
    finally:
        p.kill()
        p.wait()


def test_env_and_ssh_config(booted, tmp_path):
    out = subprocess.run(["sh", "-uc", 'eval "$1"; echo "$SSH_HOST $SSH_PORT $SSH_USER $NVME_DEV_NAME $QEMU_GUEST_NAME"',
                          "sh", booted.ctl("env", "tiny").stdout], capture_output=True, text=True, check=True)
    port = booted.show("tiny")["ssh"]["port"]
    assert out.stdout == f"127.0.0.1 {port} root nvme0n1 tiny\n"
    block = booted.json("ssh-config", "tiny")
    assert (block["Host"], block["HostName"], block["Port"]) == ("tiny", "127.0.0.1", str(port))
    config = tmp_path / "config"
    config.write_text(booted.ctl("ssh-config", "tiny").stdout)
    booted.ctl("exec", "tiny", "--", "true")
    done = subprocess.run(["ssh", "-F", config, "tiny", "echo via ssh"], capture_output=True, text=True, timeout=HANG)
    assert done.stdout == "via ssh\n", done.stderr


def test_ssh_config_of_a_stopped_guest(daemon, fake):
    daemon.folder("g", fake.config())
    assert "no SSH port" in daemon.ctl("ssh-config", "g", code=1).stderr
    assert "no SSH port" in daemon.ctl("env", "g").stderr


def test_kernel(daemon, tiny, tmp_path):
    daemon.folder("g", tiny.config)
    (daemon.guests / "g/bzImage").write_text("old")
    bad = tmp_path / "bad"
    bad.write_bytes(b"x" * 1000)
    done = daemon.ctl("kernel", "g", bad, code=65)
    assert "no bzImage" in done.stderr
    assert (daemon.guests / "g/bzImage").read_text() == "old"
    daemon.ctl("kernel", "g", tmp_path / "none", code=65)
    daemon.ctl("kernel", "g", tiny.dir / "bzImage")
    assert (daemon.guests / "g/bzImage").read_bytes() == (tiny.dir / "bzImage").read_bytes()
    assert json.loads((daemon.guests / "g/guest.json").read_text())["kernel"]["image"] == "bzImage"
    assert not list((daemon.guests / "g").glob(".bzImage*"))


@pytest.mark.long
def test_exec_two_hundred_times(booted):
    for i in range(200):
        done = booted.ctl("exec", "tiny", "--", f"echo {i}; exit {i % 100}", code=i % 100)
        assert done.stdout == f"{i}\n"


def test_password_is_asked_for_last(daemon, tiny):
    """No key is let in any more: a terminal is asked, without one it is said."""
    daemon.folder("g", tiny.config)
    daemon.ctl("start", "g", "--wait=ssh")
    hashed = subprocess.run(["openssl", "passwd", "-6", "secret"], capture_output=True, text=True, check=True).stdout.strip()
    daemon.ctl("exec", "g", "--", f"echo 'root:{hashed}:19000:0:99999:7:::' > /etc/shadow; "
               "mv .ssh/authorized_keys .ssh/away; "
               "(sleep 1; killall dropbear; sleep 1; dropbear -W 1048576) >/dev/null 2>&1 &")
    time.sleep(3)
    env = {"HOME": "/nonexistent", "SSH_AUTH_SOCK": ""}
    # A wish without a terminal (setsid: no /dev/tty either).
    done = subprocess.run(["setsid", "-w", BUILD / "cijqemuctl", "exec", "g", "--", "true"], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, env=daemon.client_env(env), timeout=HANG)
    assert done.returncode == 255 and "password" in done.stderr, done.stderr
    t = Terminal(daemon, "exec", "g", "--", "echo 'in'side", env=env)
    try:
        t.expect("root@g's password: ")
        t.send("wrong\r")
        t.expect("root@g's password: ")
        t.send("secret\r")
        assert b"secret" not in t.expect("inside")
        assert t.wait() == 0
        assert t.is_restored()
    finally:
        t.close()
    t = Terminal(daemon, "exec", "g", "--", "true", env=env)
    try:
        t.expect("root@g's password: ")
        t.process.send_signal(signal.SIGINT)
        assert t.wait() == 130
        assert t.is_restored()
    finally:
        t.close()


@pytest.fixture
def openssh(daemon, fake, sshd):
    daemon.folder("g", fake.config("elsewhere", ssh={"port": sshd.port, "key": str(sshd.key)}))
    daemon.ctl("start", "g", "--wait=ssh")
    return daemon


def test_openssh(openssh):
    """The same with the server that most guests have."""
    d = openssh
    done = d.ctl("exec", "g", "--", "echo out; echo err >&2; exit 7", code=7)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    d.ctl("exec", "g", "--", "kill -9 $$", code=137)
    data = os.urandom(10_000_000)
    assert d.ctl("exec", "g", "--", "cat", input=data, text=False).stdout == data
    assert d.ctl("exec", "g", "-e", "A=1 2", "--", "echo $A").stdout == "1 2\n"
    assert d.ctl("exec", "g", "--script", "-", "--", "x", input="echo $1").stdout == "x\n"
    p = d.ctl_start("exec", "g", "--", "trap 'echo got; exit 9' TERM; echo $$; while :; do sleep 0.1; done")
    command = int(p.stdout.readline())
    p.send_signal(signal.SIGTERM)
    out, _ = p.communicate(timeout=HANG)
    # It passes no signals on to root's sessions: the command is left behind then.
    left = alive(command)
    if left:
        os.kill(command, signal.SIGKILL)
    assert (left, out, p.returncode) in ((False, b"got\n", 9), (True, b"", 143))
    t = Terminal(d, "shell", "g", rows=30, columns=90)
    try:
        t.send("stty size; echo 'rea'dy\r")
        assert b"30 90" in t.expect("ready")
        t.send("exit 3\r")
        assert t.wait() == 3 and t.is_restored()
    finally:
        t.close()


def test_image_is_another(openssh, sshd):
    """The pin belongs to the boot image: with another kernel file the key may be another, too."""
    d = openssh
    d.ctl("exec", "g", "--", "true")
    known = d.guests / "g/known_hosts"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", d.base / "k"], check=True)
    key = " ".join((d.base / "k.pub").read_text().split()[:2])
    good = known.read_text()
    known.write_text(good.splitlines()[0] + f"\ng {key}\n")
    d.ctl("exec", "g", "--", "true", code=255)
    d.ctl("kill", "g")
    kernel = json.loads((d.guests / "g/guest.json").read_text())["kernel"]["image"]
    with open(kernel, "w") as f:
        f.write("another one")
    d.ctl("start", "g", "--wait=ssh")
    done = d.ctl("exec", "-v", "g", "--", "true")
    assert "pinned" in done.stderr and key not in known.read_text()


def test_wait_says_which_phase_failed(daemon, fake, tiny):
    """No banner: how far the boot came, and the console's last lines."""
    daemon.folder("silent", fake.config("flood=3"))
    done = daemon.ctl("--timeout", "2", "start", "silent", "--wait=ssh", code=124)
    assert "its network is not up" in done.stderr
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))
    daemon.folder("closed", fake.config("elsewhere,flood=3", ssh={"port": closed.getsockname()[1]}))
    daemon.ctl("start", "closed")
    done = daemon.ctl("--timeout", "1", "wait", "closed", "--for", "ssh", code=124)
    assert "no SSH server listens" in done.stderr and "  | " in done.stderr
    # Nothing on the console, as many have it: what the port says is told all the same.
    mute = socket.socket()
    mute.bind(("127.0.0.1", 0))
    daemon.folder("mute", fake.config("elsewhere", ssh={"port": mute.getsockname()[1]}))
    daemon.ctl("start", "mute")
    done = daemon.ctl("--timeout", "1", "exec", "mute", "--", "true", code=255)
    assert "refused" in done.stderr
    mute.listen()  # accepts, says nothing
    wait_until(lambda: "no SSH banner comes" in daemon.ctl("--timeout", "1", "exec", "mute", "--", "true",
                                                           code=255).stderr, "the silence is seen")
    daemon.ctl("kill", "mute")
    mute.close()
    t = Terminal(daemon, "--timeout", "2", "wait", "closed", "--for", "ssh")
    try:
        t.expect("closed: waiting for ssh")
        assert t.wait() == 124
    finally:
        t.close()
    closed.close()
    # The real one, without a network card's driver to come up with: the phases on a terminal.
    daemon.folder("g", tiny.config)
    t = Terminal(daemon, "start", "g", "--wait=ssh")
    try:
        t.expect("waiting for ssh, boot: ")
        assert t.wait() == 0
    finally:
        t.close()
    assert daemon.show("g")["boot_ms"] > 0
