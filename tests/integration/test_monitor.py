"""QMP and the human monitor, shared: the plain sockets, qmp-attach, and the commands 'monitor' and 'qmp'."""

import contextlib
import json
import os
import pty
import random
import select
import shutil
import signal
import socket
import stat
import subprocess
import termios
import threading
import time

import pytest

from harness import BUILD, HANG, Daemon, FakeQemu, Lines, wait_until

NOBODY, STRANGER = 65534, 4242
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="this machine cannot: needs root for a second user")


class Raw(Lines):
    """A plain socket: bytes in, bytes out."""

    def until(self, what):
        while what not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(self.buffer)
            self.buffer += data
        head, _, self.buffer = self.buffer.partition(what)
        return head + what

    def to_end(self):
        while True:
            data = self.sock.recv(1 << 20)
            if not data:
                return self.buffer
            self.buffer += data

    def silent(self, seconds=0.3):
        self.sock.settimeout(seconds)
        try:
            return not self.buffer and self.sock.recv(1, socket.MSG_PEEK) and False
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(HANG)


class Qmp(Raw):
    """One QMP client."""

    def __init__(self, path, negotiate=True):
        super().__init__(path)
        self.greeting = json.loads(self.read_line())
        assert "QMP" in self.greeting, self.greeting
        self.events = []
        if negotiate:
            assert self.ask({"execute": "qmp_capabilities"}) == {"return": {}}

    def message(self):
        while True:
            msg = json.loads(self.read_line())
            if "event" not in msg:
                return msg
            self.events.append(msg)

    def ask(self, msg):
        self.send_raw(json.dumps(msg) + "\n")
        return self.message()

    def event(self, name):
        while True:
            for event in self.events:
                if event["event"] == name:
                    self.events.remove(event)
                    return event
            msg = json.loads(self.read_line())
            assert "event" in msg, msg
            self.events.append(msg)


def sockets(daemon, guest):
    return daemon.run / "guests" / guest


@contextlib.contextmanager
def as_user(uid):
    """This thread's connections come from @uid: SO_PEERCRED says who connect()s."""
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def guest(daemon, fake):
    """A stand-in guest 'f' that runs."""
    daemon.folder("f", fake.config())
    daemon.ctl("start", "f")
    return daemon


@pytest.fixture(scope="module")
def real(tmp_path_factory, tiny):
    """A real QEMU whose processors stand still: its monitor is all that is needed."""
    d = Daemon(tmp_path_factory.mktemp("real"))
    try:
        d.start()
        d.folder("tiny", tiny.config)
        d.ctl("start", "tiny", "--paused")
        yield d
    finally:
        d.close()


def connects(path):
    with contextlib.suppress(OSError), Raw(path):
        return True
    return False


@pytest.fixture
def own(tmp_path):
    """A real QEMU by hand, on a QMP socket of its own: what ours is compared with."""
    path = tmp_path / "own.sock"
    process = subprocess.Popen(
        ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-accel", "tcg", "-chardev",
         f"socket,id=qmp0,path={path},server=on,wait=off", "-mon", "chardev=qmp0,mode=control"])
    try:
        wait_until(lambda: connects(path), "QEMU listens")
        yield path
    finally:
        process.kill()
        process.wait()


# QMP, beside QEMU's own socket


def test_greeting_is_qemus_without_what_cannot_be_shared(real, own):
    with Qmp(own, False) as theirs, Qmp(sockets(real, "tiny") / "qmp.sock", False) as ours:
        assert ours.greeting["QMP"]["version"] == theirs.greeting["QMP"]["version"]
        assert ours.greeting["QMP"]["capabilities"] == []


def test_capabilities_are_each_clients_own(real, own):
    path = sockets(real, "tiny") / "qmp.sock"
    with Qmp(path) as first, Qmp(path, False) as second, Qmp(own, False) as theirs:
        for client in (second, theirs):
            early = client.ask({"execute": "query-status", "id": 1})
            assert early["error"]["class"] == "CommandNotFound" and "qmp_capabilities" in early["error"]["desc"]
            assert early["id"] == 1
        assert "return" in first.ask({"execute": "query-status"})
        for client in (second, theirs):
            assert client.ask({"execute": "qmp_capabilities", "id": "a"}) == {"return": {}, "id": "a"}
            assert client.ask({"execute": "qmp_capabilities"})["error"]["class"] == "CommandNotFound"


def test_out_of_band_is_refused_and_harms_nobody(real):
    path = sockets(real, "tiny") / "qmp.sock"
    with Qmp(path) as other, Qmp(path, False) as client:
        reply = client.ask({"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}, "id": 7})
        assert "shared" in reply["error"]["desc"] and reply["id"] == 7
        assert client.ask({"execute": "qmp_capabilities"}) == {"return": {}}
        assert "unexpected" in client.ask({"exec-oob": "query-status", "id": 8})["error"]["desc"]
        assert "return" in client.ask({"execute": "query-status"})
        assert "return" in other.ask({"execute": "query-status"})


def test_replies_are_qemus_own_bytes(real, own):
    """The schema, some 200 KB, and errors and ids as QEMU lays them out; the same lines to both."""
    lines = ['{"execute": "query-qmp-schema"}', '{"execute": "query-qmp-schema", "id": 5}',
             '{"execute": "query-version", "id": "a"}', '{"execute": "nosuch", "id": [1, {"a": null}]}',
             '{"execute": "query-status", "arguments": {"x": 1}}', '{"execute": "device_add", "arguments": {}, "id": 1}',
             '{"execute": "query-status", "bad": 1, "id": 2}', '[1]', '5', '"x"', '{}', '{"id": 4}', '{"execute": 1}',
             '{"execute": "query-status", "arguments": 5}', '{"execute": "query-version", "execute": "query-name"}',
             "{'execute': 'query-version', 'id': 'it\\'s'}", '{"execute": "query-version"} {"execute": "query-kvm"}',
             '{"execute":\n\n "query-version",\n"id": {"a": [1, 2]}}', '{"execute": "query-version", "id": null}']
    with Qmp(own) as theirs, Qmp(sockets(real, "tiny") / "qmp.sock") as ours:
        for line in lines:
            for client in (theirs, ours):
                client.send_raw(line + "\n")
            for _ in range(line.count('"execute"') if "} {" in line else 1):
                wanted = theirs.read_line()
                assert ours.read_line() == wanted, line
        assert len(wanted) < 1000


def test_ids_come_back_byte_for_byte(real):
    ids = ["1", "-0", "1.0", "1e400", "123456789012345678901234567890", '"x"', '"\\u00e9\\/"', '"é"', "null", "true",
           '{ "a" : [ 1,2 ] }', "[ ]", '"1"', "0.10", '{"id": 1, "return": 2}', '", \\"id\\": 1}"']
    with Qmp(sockets(real, "tiny") / "qmp.sock") as client:
        for given in ids:
            client.send_raw('{"id" :%s, "execute": "query-kvm"}\n' % given)
            line = client.read_line().decode()
            assert line == '{"return": {"enabled": false, "present": true}, "id": %s}' % given
            client.send_raw('{"execute": "nosuch", "id":%s}\n' % given)
            line = client.read_line().decode()
            assert line.startswith('{"id": %s, "error": ' % given), line


def test_two_clients_with_the_same_id(real):
    path = sockets(real, "tiny") / "qmp.sock"
    with Qmp(path) as a, Qmp(path) as b:
        for _ in range(50):
            a.send_raw('{"execute": "query-kvm", "id": 1}\n')
            b.send_raw('{"execute": "query-name", "id": 1}\n')
            assert a.message() == {"return": {"enabled": False, "present": True}, "id": 1}
            assert b.message() == {"return": {"name": "tiny"}, "id": 1}


def test_pipelining_by_many_keeps_each_order(real):
    """Some give ids and some do not, in bursts of all sizes: each gets its own answers in its own order."""
    path = sockets(real, "tiny") / "qmp.sock"
    commands = [("query-kvm", {"enabled": False, "present": True}), ("query-name", {"name": "tiny"}),
                ("query-iothreads", []), ("query-tpm", [])]
    failures = []

    def one(seed):
        rng = random.Random(seed)
        try:
            with Qmp(path) as client:
                for _ in range(5):
                    burst = [rng.choice(commands) for _ in range(rng.choice([1, 2, 30, 100]))]
                    with_id = [rng.random() < 0.5 and seed % 3 for _ in burst]
                    client.send_raw("".join(json.dumps({"execute": c[0], **({"id": i} if w else {})}) + rng.choice(["\n", " ", ""])
                                        for i, (c, w) in enumerate(zip(burst, with_id))))
                    for i, (c, w) in enumerate(zip(burst, with_id)):
                        assert client.message() == {"return": c[1], **({"id": i} if w else {})}
        except Exception as e:  # told by the test itself
            failures.append((seed, repr(e)))

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert not failures


def test_answers_of_ours_wait_for_those_before_them(real):
    with Qmp(sockets(real, "tiny") / "qmp.sock") as client:
        client.send_raw('{"execute": "query-name"}{"execute": "migrate"}{"execute": "query-kvm"}nonsense\n{"execute": "query-name"}')
        assert client.message() == {"return": {"name": "tiny"}}
        assert "daemon's hands" in client.message()["error"]["desc"]
        assert client.message() == {"return": {"enabled": False, "present": True}}
        assert "JSON" in client.message()["error"]["desc"]
        assert client.message() == {"return": {"name": "tiny"}}


def test_events_go_to_all_that_negotiated(guest):
    path = sockets(guest, "f") / "qmp.sock"
    with Qmp(path) as a, Qmp(path) as b, Qmp(path, False) as silent:
        a.send_raw('{"execute": "stop"}\n')
        assert a.event("STOP")["timestamp"] == b.event("STOP")["timestamp"]
        assert a.message() == {"return": {}}
        assert silent.silent()
        wait_until(lambda: guest.show("f")["state"] == "paused", "the daemon heard it, too")


def test_a_client_that_dies_leaves_the_others_alone(real):
    path = sockets(real, "tiny") / "qmp.sock"
    with Qmp(path) as other:
        for _ in range(20):
            victim = Qmp(path)
            victim.send_raw('{"execute": "query-qmp-schema"}' * 20)
            other.send_raw('{"execute": "query-name", "id": 3}')
            victim.close()
            assert other.message() == {"return": {"name": "tiny"}, "id": 3}


def test_a_client_that_does_not_read_is_not_read_from(real):
    """Its answers are bounded, its commands wait in its own socket, and all arrive when it reads."""
    path = sockets(real, "tiny") / "qmp.sock"

    def memory():
        with open(f"/proc/{real.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))

    with Qmp(path) as stuck, Qmp(path) as other:
        before, sent = memory(), 0
        stuck.sock.setblocking(False)
        one = b'{"execute": "query-qmp-schema", "id": 1}\n'
        with contextlib.suppress(BlockingIOError):
            while sent < 4000:
                n = stuck.sock.send(one)
                assert n == len(one)
                sent += 1
        for _ in range(50):
            assert other.ask({"execute": "query-name"}) == {"return": {"name": "tiny"}}
        assert memory() - before < 8 * 1024
        stuck.sock.settimeout(HANG)
        for _ in range(min(sent, 40)):
            assert stuck.message()["id"] == 1


def test_bad_input_is_answered_and_the_connection_goes_on(real):
    with Qmp(sockets(real, "tiny") / "qmp.sock") as client:
        for bad in (b"foo\n", b"}\n", b'{"execute": nope}\n', b'{"execute": "query-name", "id": NaN}\n',
                    b'{"execute": "query-name", "id": "\\ud800"}\n', b'{"execute": "query-name", "id": "\xc0\x80"}\n',
                    b'{"execute": "query-name", "id": 01}\n', b"[" * 200 + b"]" * 200 + b"\n", b'{"a": "\x01"}\n',
                    b'{"execute": "query-name"\xff\n', b'{"execute": "query-name", "id": [1,]}\n',
                    b'{"execute": "query-name", "id": "' + b"x" * 300000 + b'"}\n'):
            client.send_raw(bad)
            assert client.message()["error"]["class"] == "GenericError", bad
            assert client.ask({"execute": "query-name", "id": 1}) == {"return": {"name": "tiny"}, "id": 1}, bad


# Faults, with the stand-in


def test_a_command_without_answer_blocks_only_its_asker(guest, fake):
    fake.tell("at=query-block:ignore")
    guest.ctl("restart", "f", "--force-after", "0")
    path = sockets(guest, "f") / "qmp.sock"
    with Qmp(path) as asker, Qmp(path) as with_ids, Qmp(path) as without:
        for _ in range(6):  # more than QEMU is given ahead
            asker.send_raw('{"execute": "query-block", "id": 1}\n')
            for _ in range(3):
                assert without.ask({"execute": "query-name"}) == {"return": {"name": "f"}}
                assert with_ids.ask({"execute": "query-name", "id": [7]}) == {"return": {"name": "f"}, "id": [7]}
        assert asker.silent()
    # And its own deadline is its own.
    done = guest.ctl("--timeout", "0.5", "qmp", "f", "query-block", code=124)
    assert "in time" in done.stderr
    assert guest.json("qmp", "f", "query-name") == {"name": "f"}


def test_mute_qemu_is_told_and_answers_go_nowhere_else(guest, fake):
    fake.tell("at=query-block:mute")
    guest.ctl("restart", "f", "--force-after", "0")
    path = sockets(guest, "f") / "qmp.sock"
    with Qmp(path) as asker, Qmp(path) as other:
        asker.send_raw('{"execute": "query-block"}\n')
        time.sleep(0.2)
        other.send_raw('{"execute": "query-name", "id": 1}\n')
        assert asker.silent() and other.silent()
        guest.ctl("--timeout", "0.5", "qmp", "f", "query-name", code=124)
        guest.ctl("kill", "f")
        for client, wanted in ((asker, {}), (other, {"id": 1})):
            reply = client.message()
            assert {k: v for k, v in reply.items() if k != "error"} == wanted
            assert "QEMU" in reply["error"]["desc"]
            assert client.to_end() == b""  # each waiter failed once, then the end


def test_what_nobody_waits_for_is_not_kept(guest, fake, tmp_path):
    """Commands for a mute QEMU, without a time-out, from clients that vanish: it is never given them."""
    seen = tmp_path / "qmp-log"
    fake.tell(f"qmp-log={seen}")
    guest.ctl("restart", "f", "--force-after", "0")
    pid = guest.show("f")["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(5):
            with guest.connect() as c:
                for _ in range(50):
                    c.send("qmp-execute", guest="f", command={"execute": "stop"}, timeout=0)
                    c.send("hmp", guest="f", line="system_wakeup")
                c.call("query-daemon")  # all have been taken
        wait_until(lambda: guest.log_text().count("hung up") > 400, "they are taken back")
    finally:
        os.kill(pid, signal.SIGCONT)
    with guest.connect() as c:
        c.call("qmp-execute", guest="f", command={"execute": "query-status"})
    log = seen.read_text()
    # No more than what may be on its way to QEMU at a time.
    assert log.count("stop") + log.count("system_wakeup") <= 8


@pytest.mark.parametrize("deed", ["crash", "exit", "close", "garbage"])
def test_qemu_ending_fails_every_waiter_once(guest, fake, deed):
    fake.tell(f"at=query-block:{deed}")
    guest.ctl("restart", "f", "--force-after", "0")
    path = sockets(guest, "f") / "qmp.sock"
    clients = [Qmp(path) for _ in range(8)]
    try:
        pid = guest.show("f")["pid"]
        os.kill(pid, signal.SIGSTOP)  # until all have asked
        for i, client in enumerate(clients):
            client.send_raw("".join('{"execute": "query-block", "id": %d}\n' % (i * 100 + n) for n in range(10)))
        os.kill(pid, signal.SIGCONT)
        for i, client in enumerate(clients):
            replies = [json.loads(line) for line in client.to_end().splitlines()]
            assert [r["id"] for r in replies] == [i * 100 + n for n in range(10)]
            assert all("error" in r for r in replies)
        if deed in ("close", "garbage"):  # QEMU lives: it can be talked to again
            wait_until(lambda: guest.ctl("qmp", "f", "query-name", code=None).returncode == 0, "the monitor is back")
            with Qmp(path) as again:
                assert again.ask({"execute": "query-name"}) == {"return": {"name": "f"}}
    finally:
        for client in clients:
            client.close()


# The human monitor


def hmp(path, text):
    done = subprocess.run(["socat", "-t", "20", "-", f"UNIX-CONNECT:{path}"], input=text.encode(),
                          capture_output=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_hmp_banner_prompt_and_all_before_the_end(real):
    path = sockets(real, "tiny") / "hmp.sock"
    version = real.show("tiny")["qemu"]["version"].split()[0]
    assert hmp(path, "") == f"QEMU {version} monitor - type 'help' for more information\r\n(qemu) "
    out = hmp(path, "info status\n\nnosuch\r\ninfo name")
    _, first, empty, unknown, name, end = out.split("(qemu) ")
    assert first == "VM status: paused (prelaunch)\r\n" and empty == ""
    assert unknown == "unknown command: 'nosuch'\r\n" and name == "tiny\r\n" and end == ""


def test_hmp_lines_of_all_sorts(real):
    path = sockets(real, "tiny") / "hmp.sock"
    out = hmp(path, "x" * 10000 + "\ninfo name\n")
    assert "over 4095" in out and "\r\n(qemu) tiny\r\n(qemu) " in out
    assert "invalid CPU" in hmp(path, "cpu 99\n")
    # 'cpu N' holds for the lines behind it, as in a monitor of one's own.
    assert "(qemu) (qemu) \r\nCPU#0\r\n" in hmp(path, "cpu 0\ninfo registers\n")
    with Raw(path) as client:
        client.until(b"(qemu) ")
        client.send_raw("info na")
        assert client.silent()
        client.send_raw("me\n")
        assert client.until(b"(qemu) ") == b"tiny\r\n(qemu) "
        client.send_raw(b"info \xff\n")
        assert b"UTF-8" in client.until(b"(qemu) ")


def test_cijoes_line_powers_off(guest):
    link = guest.guests / "f" / "monitor.sock"
    assert os.readlink(link) == str(sockets(guest, "f") / "hmp.sock")
    # The stand-in knows the power button over QMP alone.
    guest.ctl("kill", "f")
    assert not link.exists()


def test_cijoes_line_powers_off_a_real_guest(booted):
    out = hmp(booted.guests / "tiny" / "monitor.sock", "system_powerdown\n")
    assert out.endswith("(qemu) (qemu) ") or "(qemu) " in out
    booted.ctl("wait", "tiny", "--for", "stopped", "--timeout", "60")
    view = booted.show("tiny")
    assert (view["reason"], view["exit"]) == ("guest-shutdown", {"code": 0})
    assert not list(sockets(booted, "tiny").glob("*")) if sockets(booted, "tiny").exists() else True


def test_a_file_of_the_owners_is_left_alone(daemon, fake):
    folder = daemon.folder("f", fake.config())
    (folder / "monitor.sock").write_text("mine")
    daemon.ctl("start", "f")
    assert (folder / "monitor.sock").read_text() == "mine"
    other = daemon.folder("g", fake.config())
    (other / "monitor.sock").symlink_to("/etc/passwd")
    daemon.ctl("start", "g")
    assert os.readlink(other / "monitor.sock") == "/etc/passwd"


# The sockets


def test_modes_do_not_depend_on_the_umask(tmp_path, fake):
    for umask in (0o000, 0o077):
        old = os.umask(umask)
        try:
            d = Daemon(tmp_path / str(umask))
            d.start()
        finally:
            os.umask(old)
        try:
            d.folder("f", fake.config())
            d.ctl("start", "f")
            wanted = 0o666 if os.geteuid() == 0 else 0o600
            for name in ("console.sock", "qmp.sock", "hmp.sock"):
                st = (sockets(d, "f") / name).lstat()
                assert stat.S_ISSOCK(st.st_mode) and stat.S_IMODE(st.st_mode) == wanted
        finally:
            d.close()


def test_sockets_come_and_go_with_the_guest(guest):
    folder = sockets(guest, "f")
    assert {p.name for p in folder.iterdir()} == {"console.sock", "hmp.sock", "qmp.sock", "qemu.sock"}
    guest.ctl("kill", "f")
    assert not folder.exists()
    guest.ctl("start", "f")
    with Qmp(folder / "qmp.sock") as client:
        assert client.ask({"execute": "query-name"}) == {"return": {"name": "f"}}


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_sockets_are_back_after_a_restart_of_the_daemon(guest, sig):
    pid = guest.show("f")["pid"]
    client = Qmp(sockets(guest, "f") / "qmp.sock")
    guest.restart(sig)
    assert client.to_end() == b""
    client.close()
    assert guest.show("f")["pid"] == pid
    with Qmp(sockets(guest, "f") / "qmp.sock") as again:
        assert again.ask({"execute": "query-name"}) == {"return": {"name": "f"}}
    assert "VM status: running" in hmp(guest.guests / "f" / "monitor.sock", "info status\n")
    with Raw(sockets(guest, "f") / "console.sock") as console:
        console.send_raw("hello\r")
        assert console.until(b"hello") == b"hello"


def test_a_removed_socket_is_made_again(guest):
    folder = sockets(guest, "f")
    (folder / "qmp.sock").unlink()
    shutil.rmtree(folder)
    wait_until(lambda: (folder / "qmp.sock").exists() and (folder / "hmp.sock").exists(), "they are back")
    with Qmp(folder / "qmp.sock") as client:
        assert client.ask({"execute": "query-name"}) == {"return": {"name": "f"}}


def test_console_socket_serves_many(guest):
    path = sockets(guest, "f") / "console.sock"
    clients = [Raw(path) for _ in range(5)]
    try:
        wait_until(lambda: guest.show("f")["console"]["viewers"] == 5, "all are in")
        clients[0].send_raw("one\r")
        for client in clients:
            assert client.until(b"one\r") == b"one\r"
        clients[3].send_raw("two\r")  # nobody's keys are lost, as on a cable
        for client in clients:
            assert client.until(b"two\r") == b"two\r"
    finally:
        for client in clients:
            client.close()


def test_socat_on_the_console(guest):
    done = subprocess.run(["socat", "-t", "2", "-", f"UNIX-CONNECT:{sockets(guest, 'f') / 'console.sock'}"],
                          input=b"a line\r", capture_output=True, timeout=HANG)
    assert done.stdout == b"a line\r"


def test_a_script_like_qmp_shell(guest):
    """Greeting, negotiation, a command a line, half-closed at the end: all is answered."""
    script = '{"execute": "qmp_capabilities"}\n{"execute": "query-name", "id": "x"}\n{"execute": "query-status"}\n'
    done = subprocess.run(["socat", "-t", "20", "-", f"UNIX-CONNECT:{sockets(guest, 'f') / 'qmp.sock'}"], input=script,
                          capture_output=True, timeout=HANG, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert "QMP" in lines[0] and lines[1] == {"return": {}}
    assert lines[2] == {"return": {"name": "f"}, "id": "x"} and lines[3]["return"]["running"] is True


# qmp-attach


def test_attach_turns_the_connection_into_qmp(guest):
    with guest.connect() as control:
        # What is sent behind the request is the first of the stream.
        control.send_raw('{"execute": "qmp-attach", "arguments": {"guest": "f"}, "id": 1}\n'
                         '{"execute": "qmp_capabilities"}{"execute": "query-name", "id": 9}')
        assert control.read() == {"return": {"guest": "f", "mode": "auto"}, "id": 1}
        assert "QMP" in control.read()
        assert control.read() == {"return": {}}
        assert control.read() == {"return": {"name": "f"}, "id": 9}


def test_attach_read_only_runs_queries_alone(guest):
    with guest.connect() as control:
        assert control.call("qmp-attach", guest="f", mode="read-only")["mode"] == "read-only"
        with Raw(control.sock) as raw:
            raw.buffer = control.buffer
            assert b"QMP" in raw.read_line()
            raw.send_raw('{"execute": "qmp_capabilities"}{"execute": "query-name"}{"execute": "stop"}'
                     '{"execute": "human-monitor-command", "arguments": {"command-line": "stop"}}'
                     '{"execute": "human-monitor-command", "arguments": {"command-line": "info status"}}')
            raw.read_line()
            assert json.loads(raw.read_line()) == {"return": {"name": "f"}}
            for _ in range(3):
                assert "read-only" in json.loads(raw.read_line())["error"]["desc"]


def test_attach_to_what_does_not_run(daemon, fake):
    daemon.folder("f", fake.config())
    with daemon.connect() as control:
        assert control.ask("qmp-attach", guest="f")["error"]["class"] == "Busy"
        assert control.ask("qmp-attach", guest="g")["error"]["class"] == "GuestNotFound"
        assert control.ask("qmp-attach", guest="f", mode="wild")["error"]["class"] == "BadRequest"


# Who may what


FORBIDDEN = [{"execute": "migrate", "arguments": {"uri": "exec:true"}}, {"execute": "migrate-incoming"},
             {"execute": "set-action", "arguments": {"shutdown": "pause"}},
             {"execute": "add_client", "arguments": {"protocol": "qmp0", "fdname": "x"}},
             {"execute": "chardev-remove", "arguments": {"id": "qmp0"}},
             {"execute": "chardev-change", "arguments": {"id": "con0", "backend": {"type": "null", "data": {}}}},
             *({"execute": "human-monitor-command", "arguments": {"command-line": line}}
               for line in ("migrate tcp:x", " chardev-remove qmp0", 'chardev-remove "qmp0"', "chardev-change con0 null",
                            "migrate_incoming x", "\tchardev-remove\tcon0"))]


def test_what_breaks_supervision_is_refused_everywhere(real):
    with Qmp(sockets(real, "tiny") / "qmp.sock") as client:
        for command in FORBIDDEN:
            desc = client.ask(command)["error"]["desc"]
            assert "not passed on" in desc and ("daemon's hands" in desc or "daemon's own" in desc)
            done = real.ctl("qmp", "tiny", json.dumps(command), code=1)
            assert "not passed on" in done.stderr
        # Chardevs of the owner's are the owner's.
        add = {"id": "mine", "backend": {"type": "null", "data": {}}}
        assert "return" in client.ask({"execute": "chardev-add", "arguments": add})
        assert "return" in client.ask({"execute": "chardev-change", "arguments": add})
        assert "return" in client.ask({"execute": "chardev-remove", "arguments": {"id": "mine"}})
    for line in ("chardev-remove qmp0", "migrate x"):
        assert "not passed on" in hmp(sockets(real, "tiny") / "hmp.sock", line)
        assert "not passed on" in real.ctl("monitor", "tiny", line, code=1).stderr


@pytest.fixture
def shared(tmp_path):
    """A root daemon's guest of another user's, shared with a third."""
    if os.geteuid() != 0:
        pytest.skip("this machine cannot: needs root for a second user")
    base = tmp_path
    for folder in [base, *base.parents]:  # pytest's folders are root's alone
        if str(folder).startswith("/tmp/") and folder != base.parents[-1]:
            folder.chmod(folder.stat().st_mode | 0o055)
    fake = FakeQemu(base / "qemu")
    d = Daemon(base / "d")
    try:
        d.start()
        d.folder("f", fake.config(share=["games"]))
        for path in [d.guests / "f", *(d.guests / "f").rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
        d.ctl("start", "f")
        yield d
    finally:
        d.close()


def answers(path, *commands):
    with Qmp(path) as client:
        return [client.ask(command) for command in commands]


@root_only
def test_the_owner_may_all(shared):
    assert os.stat(f"/proc/{shared.show('f')['pid']}").st_uid == NOBODY
    path = sockets(shared, "f")
    with as_user(NOBODY):
        for reply in answers(path / "qmp.sock", {"execute": "query-name"}, {"execute": "stop"},
                             {"execute": "device_add", "arguments": {"id": "x", "driver": "nvme"}}):
            assert "return" in reply
        with Raw(path / "hmp.sock") as client:
            client.send_raw("info status\ndevice_add x\n")
            client.until(b"paused\r\n(qemu) ")
            assert b"unknown command" in client.until(b"(qemu) ")
    assert os.lstat(shared.guests / "f" / "monitor.sock").st_uid == NOBODY


@root_only
def test_who_may_operate_runs_queries_and_the_power_switch(shared):
    path = sockets(shared, "f")
    with as_user(5):  # games
        for reply in answers(path / "qmp.sock", {"execute": "query-name"}, {"execute": "stop"}, {"execute": "cont"},
                             {"execute": "system_reset"},
                             {"execute": "human-monitor-command", "arguments": {"command-line": "stop"}}):
            assert "return" in reply
        denied = answers(path / "qmp.sock", {"execute": "device_add", "arguments": {"id": "x"}},
                         {"execute": "blockdev-add", "arguments": {}}, {"execute": "screendump", "arguments": {}},
                         {"execute": "human-monitor-command", "arguments": {"command-line": "device_add nvme"}},
                         {"execute": "human-monitor-command", "arguments": {"command-line": "info status"}},
                         {"execute": "human-monitor-command", "arguments": {"command-line": "pmemsave 0 1 x"}})
        for reply in denied:
            assert "for the guest's owner and admins" in reply["error"]["desc"]
        with Raw(path / "hmp.sock") as client:
            client.until(b"(qemu) ")
            for line in ("info status\n", "device_add nvme\n"):
                client.send_raw(line)
                assert b"owner and admins" in client.until(b"(qemu) ")
            client.send_raw("system_reset\n")  # the stand-in's human monitor has no such command
            assert b"unknown command" in client.until(b"(qemu) ")


@root_only
def test_who_may_only_view_gets_nothing_but_the_console(shared):
    path = sockets(shared, "f")
    with as_user(STRANGER):
        for reply in answers(path / "qmp.sock", {"execute": "query-name"}, {"execute": "quit"}):
            assert "may not use this guest's monitor" in reply["error"]["desc"]
        events = Qmp(path / "qmp.sock")
        with Raw(path / "hmp.sock") as client:
            client.until(b"(qemu) ")
            client.send_raw("info status\nquit\n")
            for _ in range(2):
                assert b"may not use" in client.until(b"(qemu) ")
        console = Raw(path / "console.sock")
    with Raw(path / "console.sock") as typing:
        wait_until(lambda: shared.show("f")["console"]["viewers"] == 2, "both are in")
        console.send_raw("from a stranger")
        typing.send_raw("from root\r")
        assert typing.until(b"from root\r") == b"from root\r"
    assert console.until(b"from root\r") == b"from root\r"  # sees all, types nothing
    shared.ctl("pause", "f")
    assert events.silent()
    events.close()
    console.close()
    assert shared.show("f")["state"] == "paused"


def test_a_user_cannot_take_all_connections(guest):
    """Beyond the limit there is a reason, and the others go on."""
    path = sockets(guest, "f") / "qmp.sock"
    clients = []
    try:
        first = Qmp(path)
        clients.append(first)
        for _ in range(511):
            client = Raw(path)
            clients.append(client)
            assert b"QMP" in client.read_line()
        with Raw(path) as refused:
            assert "too many clients" in json.loads(refused.read_line())["error"]["desc"]
            assert refused.to_end() == b""
        assert first.ask({"execute": "query-name"}) == {"return": {"name": "f"}}
    finally:
        for client in clients:
            client.close()
    wait_until(lambda: b"QMP" in Raw(path).read_line(), "there is room again")


def test_what_changes_something_is_in_the_journal(guest):
    with Qmp(sockets(guest, "f") / "qmp.sock") as client:
        client.ask({"execute": "query-name"})
        client.ask({"execute": "stop"})
        client.ask({"execute": "nosuch-thing"})
        client.ask({"execute": "migrate"})
    guest.ctl("monitor", "f", "info status")
    guest.ctl("monitor", "f", "nosuch", "line")
    guest.ctl("qmp", "f", "cont")
    log = guest.log_text()
    me = f"uid {os.geteuid()} pid {os.getpid()}"
    assert f"{me}: qmp 'stop' f: done (" in log and "query-name" not in log
    assert f"{me}: qmp 'nosuch-thing' f: The command nosuch-thing has not been found" in log
    assert f"{me}: qmp 'migrate' f: 'migrate' is not passed on" in log
    assert "hmp 'nosuch line' f: done" in log and "qmp 'cont' f: done" in log and "info status" not in log


# Numbers


def test_numbers_pass_through_unchanged(real):
    """Beyond 64 bits and 53: QEMU's own words for them, both ways."""
    with Qmp(sockets(real, "tiny") / "qmp.sock") as client:
        client.send_raw('{"execute": "query-rocker", "arguments": {"name": 123456789012345678901234567890}, "id": 1e2}\n')
        first = client.read_line()
        assert first.endswith(b'}}') and b'"id": 1e2, ' in first
        big = "9007199254740993"  # a double cannot hold it
        client.send_raw('{"execute": "object-add", "arguments": {"qom-type": "iothread", "id": "io", "poll-max-ns": %s}}' % big)
        assert client.read_line() == b'{"return": {}}'
        client.send_raw('{"execute": "qom-get", "arguments": {"path": "/objects/io", "property": "poll-max-ns"}, "id": %s1.50}' % big)
        assert client.read_line().decode() == '{"return": %s, "id": %s1.50}' % (big, big)
    read = '{"execute": "qom-get", "arguments": {"path": "/objects/io", "property": "poll-max-ns"}}'
    assert real.ctl("qmp", "tiny", read).stdout == big + "\n"
    real.ctl("qmp", "tiny", '{"execute": "qom-set", "arguments": {"path": "/objects/io", "property": "poll-max-ns", "value": %s}}'
             % "9007199254740995")
    assert real.ctl("qmp", "tiny", read).stdout == "9007199254740995\n"


def test_large_replies_to_the_command_line_unchanged(real, own):
    with Qmp(own) as theirs:
        theirs.send_raw('{"execute": "query-qmp-schema"}\n')
        wanted = theirs.read_line()
    done = real.ctl("--json", "qmp", "tiny", "query-qmp-schema")
    assert done.stdout.encode() == wanted[len(b'{"return": '):-1] + b"\n"
    assert len(wanted) > 150000


# The commands 'monitor' and 'qmp'


class Terminal:
    """cijqemuctl at a terminal of its own."""

    def __init__(self, daemon, *args, env=None):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            full = daemon.client_env({"TERM": "xterm", **(env or {})})
            os.execve(BUILD / "cijqemuctl", ["cijqemuctl", *args], full)
        self.text = ""

    def type(self, text):
        os.write(self.fd, text.encode())

    def until(self, what):
        """Reads until @what is on the screen; returns all up to there."""
        end = time.monotonic() + HANG
        while what not in self.text:
            assert time.monotonic() < end, f"never saw {what!r} in {self.text!r}"
            if select.select([self.fd], [], [], 1)[0]:
                try:
                    self.text += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    raise AssertionError(f"ended without {what!r}: {self.text!r}") from None
        head, _, self.text = self.text.partition(what)
        return head + what

    def leave(self):
        """Types ^D (again, where it came between the prompt and the editor's taking over); gives the exit code."""
        end = time.monotonic() + HANG
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                self.type("\x04")
                while select.select([self.fd], [], [], 0.5)[0] and os.read(self.fd, 65536):
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
        raise AssertionError("did not leave at ^D")

    def close(self):
        os.close(self.fd)
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def start(daemon, *args, env=None):
        opened.append(Terminal(daemon, *args, env={"XDG_STATE_HOME": str(tmp_path / "xdg"), **(env or {})}))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_monitor_at_a_terminal(real, terminal, tmp_path):
    t = terminal(real, "monitor", "tiny")
    t.until("^D leaves")
    t.until("(qemu) ")
    t.type("info na\t\r")  # completed from 'help info'
    assert "tiny\r\n" in t.until("(qemu) ")
    t.type("chardev-r\t")  # and from 'help'
    t.until("emove ")
    t.type("\x03")
    t.until("^C")
    t.until("(qemu) ")
    t.type("info sta\t\t")
    t.until("status")
    t.type("\x03\x1b[A\r")  # the line before, from the history
    t.until("tiny\r\n")
    t.until("(qemu) ")
    t.type("migrate x\r")
    t.until("daemon's hands")
    t.until("(qemu) ")
    assert t.leave() == 0
    history = tmp_path / "xdg/cijqemu/monitor.history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600 and "migrate" in history.read_text()
    again = terminal(real, "monitor", "tiny")
    again.until("(qemu) ")
    again.type("\x1b[A\x1b[A\r")
    again.until("info name")
    again.until("tiny\r\n")


def test_monitor_outlives_a_restart_of_the_daemon(guest, terminal):
    t = terminal(guest, "monitor", "f")
    t.until("(qemu) ")
    t.type("info status\r")
    t.until("running")
    guest.restart(signal.SIGKILL)
    t.until("(qemu) ")
    t.type("info status\r")
    t.until("(qemu) ")  # told that the connection broke
    t.type("info status\r")
    t.until("VM status: running")


def test_qmp_at_a_terminal_tells_events(guest, terminal):
    t = terminal(guest, "qmp", "f")
    t.until("(qmp) ")
    t.type("query-na")
    guest.ctl("pause", "f")
    t.until("STOP")  # while a line is typed, which stays
    t.until("(qmp) query-na")
    t.type("me\r")
    t.until('"name": "f"')
    t.until("(qmp) ")
    t.type("nosuch\r")
    t.until("has not been found")
    t.type('{"execute": "cont"}\r')
    t.until("RESUME")
    t.until("{}")
    guest.ctl("kill", "f")
    t.until("has gone")
    t.type("query-name\r")
    t.until("it has no monitor")
    t.until("(qmp) ")
    assert t.leave() == 0


def test_a_terminal_without_the_library_has_its_own_line(real, terminal, tmp_path):
    """As where libedit is not installed: the loader finds something else under its names."""
    empty = tmp_path / "lib"
    empty.mkdir()
    for name in ("libedit.so.2", "libedit.so.0"):
        (empty / name).write_text("no library")
    t = terminal(real, "monitor", "tiny", env={"LD_LIBRARY_PATH": str(empty)})
    t.until("(qemu) ")
    t.type("info name\r")
    t.until("tiny\r\n")
    t.until("(qemu) ")
    assert t.leave() == 0


def test_the_terminal_is_given_back(real, terminal):
    t = terminal(real, "monitor", "tiny")
    before = None
    t.until("(qemu) ")
    t.type("info name\r")
    t.until("tiny\r\n")
    t.until("(qemu) ")
    before = termios.tcgetattr(t.fd)[3] & termios.ECHO
    os.kill(t.pid, signal.SIGTERM)
    wait_until(lambda: termios.tcgetattr(t.fd)[3] & termios.ECHO, "the terminal echoes again")
    assert not before and os.waitstatus_to_exitcode(os.waitpid(t.pid, 0)[1]) == 128 + signal.SIGTERM


def test_piped_lines_and_exit_codes(guest):
    done = guest.ctl("monitor", "f", input="info status\n\nnosuch\ninfo status")
    assert done.stdout == "VM status: running\nunknown command: 'nosuch'\nVM status: running\n"
    done = guest.ctl("qmp", "f", input="query-name\nnosuch\n{bad\nquery-kvm\n", code=1)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{"name": "f"}, {"enabled": False, "present": True}]
    assert "nosuch has not been found" in done.stderr and "bad JSON" in done.stderr
    guest.ctl("qmp", "f", "{bad", code=65)
    guest.ctl("monitor", "f", "migrate", "x", code=1)
    guest.ctl("kill", "f")
    guest.ctl("monitor", "f", "info", "status", code=75)
    guest.ctl("qmp", "nosuch", "query-name", code=66)


def test_several_guests_at_once(daemon, fake):
    for name in ("a1", "a2", "b1", "a3"):
        daemon.folder(name, fake.config())
    daemon.ctl("start", "a1", "a2", "b1")
    out = daemon.ctl("monitor", "a*", "info", "status").stdout  # a3 does not run
    assert out == "a1: VM status: running\na2: VM status: running\n"
    out = daemon.ctl("qmp", "a*", input="query-name\nquery-kvm\n").stdout.splitlines()
    assert [line.split(":")[0] for line in out] == ["a1", "a2", "a1", "a2"]
    out = daemon.ctl("--json", "qmp", "*", "query-name").stdout.splitlines()
    assert [json.loads(line) for line in out] == [{"guest": g, "return": {"name": g}} for g in ("a1", "a2", "b1")]
    done = daemon.ctl("qmp", "[ab]*", "nosuch", code=1)
    assert "a1: The command" in done.stderr and "b1: The command" in done.stderr
    daemon.ctl("qmp", "z*", "query-name", code=66)
    daemon.ctl("monitor", "a3*", "info", "status", code=75)
    # From many scripts, all at the same time.
    clients = [daemon.ctl_start("monitor", g, "info", "status") for g in ("a1", "a2", "b1") for _ in range(5)]
    for client in clients:
        out, err = client.communicate(timeout=HANG)
        assert (out, client.returncode) == (b"VM status: running\n", 0), err


def test_qmp_arguments_as_words(real):
    assert real.ctl("qmp", "tiny", "qom-get", "path=/machine", "property=type").stdout.startswith('"pc-q35')
    out = real.ctl("qmp", "tiny", input="qom-list-properties typename=iothread\n").stdout
    assert any(p["name"] == "poll-max-ns" for p in json.loads(out))
