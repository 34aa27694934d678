"""Bad input, each with one clear line on stderr, the right exit code, and nothing changed or lost."""

import json
import os
import resource
import socket
import time

import pytest

from harness import HANG, Client, FakeQemu, wait_until


def fails(daemon, code, *args, **kw):
    """Runs cijqemuctl, which must fail with @code and one line; returns that."""
    done = daemon.ctl(*args, code=code, **kw)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("cijqemuctl: "), lines
    return lines[0]


# Guests and names


def test_unknown_guest_names_the_nearest(daemon, fake):
    daemon.folder("emujoe", fake.config())
    for command in ("show", "start", "stop", "kill", "reset", "argv", "validate"):
        line = fails(daemon, 66, command, "emujo")
        assert "emujo'" in line and "did you mean 'emujoe'?" in line
    assert fails(daemon, 4, "status", "emujo")
    assert "did you mean 'emujoe'?" in fails(daemon, 66, "events", "emujoe", "emujo")
    # Those that read commands: with none to read, too.
    for command in ("monitor", "qmp"):
        assert "did you mean 'emujoe'?" in fails(daemon, 66, command, "emujo")
        assert "did you mean 'emujoe'?" in fails(daemon, 66, command, "emujo", input="info status\n")
        assert "'emujoe' is stopped" in fails(daemon, 75, command, "emujoe")


@pytest.mark.parametrize("name", ["../x", "", "x" * 200, ".hidden", "a/b", "ä", "a b", "-x"])
def test_bad_guest_name(daemon, name):
    before = sorted(daemon.guests.rglob("*"))
    for command in ("create", "show", "start"):
        assert "name" in fails(daemon, 65, command, "--", name)
    assert sorted(daemon.guests.rglob("*")) == before == []


def test_guest_name_with_nul(daemon):
    with daemon.connect() as c:
        reply = c.ask("guest-create", guest="a\0b")
        assert reply["error"]["class"] == "BadRequest" and "'guest'" in reply["error"]["desc"]
        assert c.call("query-guests") == []


def test_glob_without_a_match(daemon, fake):
    daemon.folder("emujoe", fake.config())
    fails(daemon, 66, "start", "nothing*")
    done = daemon.ctl("list", "nothing*")
    assert "emujoe" not in done.stdout


def test_create_twice_leaves_the_first(daemon):
    daemon.ctl("create", "g", "--memory", "1G", "--kernel", "/bin/true")
    before = (daemon.guests / "g/guest.json").read_text()
    assert "already" in fails(daemon, 65, "create", "g", "--memory", "2G")
    assert (daemon.guests / "g/guest.json").read_text() == before


# guest.json


@pytest.mark.parametrize("text, words", [
    ("{ not json", ["guest.json", "bad JSON"]),
    ("[]", ["object"]),
    ("null", ["object"]),
    ('{"memory": true}', ["'memory'", "size"]),
    ('{"cpus": "two"}', ["'cpus'", "whole number"]),
    ('{"memry": "1G"}', ["'memry'", "did you mean 'memory'?"]),
    ('{"memory": 0}', ["'memory'", "1M"]),
    ('{"memory": "lots"}', ["'memory'", "lots"]),
    ('{"memory": -5}', ["'memory'"]),
    ('{"boot": {"image": "missing.qcow2"}}', ["'boot.image'", "missing.qcow2"]),
    ('{"devices": [{"id": "nvme0", "type": "floppy"}]}', ["devices[0].type", "floppy", "ocssd"]),
    ('{"devices": [{"type": "nvme"}]}', ["devices[0].id", "missing"]),
    ('{"extra_args": ["-daemonize"]}', ["extra_args[0]", "-daemonize"]),
    ('{"ssh": {"port": 70000}}', ["ssh.port", "65535"]),
    ("[" * 1000, ["guest.json", "16"]),
    ('{"a":' * 100 + "1" + "}" * 100, ["guest.json", "nested"]),
    ('{"memory": "1G\\u0000x"}', ["'memory'"]),
])
def test_broken_definition(daemon, fake, text, words):
    folder = daemon.folder("bad", text)
    (folder / "bzImage").touch()
    daemon.folder("good", fake.config())
    line = fails(daemon, 78, "start", "bad")
    for word in words:
        assert word in line, line
    assert (folder / "guest.json").read_text() == text
    # It breaks nobody else, and is shown as what it is.
    states = {g["guest"]: g["state"] for g in daemon.json("list")}
    assert states == {"bad": "broken", "good": "stopped"}
    assert daemon.ctl("validate", "bad", code=78).stdout.startswith("bad: ")
    daemon.ctl("start", "good")


def test_validate_finds_every_error_at_once(daemon):
    """What is wrong in one place hides nothing elsewhere: not in the drive itself, nor what QEMU cannot do."""
    folder = daemon.folder("bad", {
        "memory": 0, "colour": "red", "boot": {"image": "missing.qcow2"}, "accel": "tcg", "devices": [
            {"id": "nvme0", "type": "ocssd", "num_grp": 0, "mw_cunits": -1, "ws_min": 3, "ws_opt": 8, "size": "1G"},
            {"id": "nvme1", "type": "ocssd"},
            {"id": "nvme2", "type": "zns", "size": 5, "zone_size": "64M", "zone_capacity": "65M", "max_open": 2,
             "max_active": 1}]})
    problems = daemon.json("validate", "bad", code=78)[0]["problems"]
    assert {p["path"] for p in problems} == {
        "memory", "colour", "boot.image", "devices[0].num_grp", "devices[0].mw_cunits", "devices[0].ws_opt",
        "devices[0].size", "devices[1]", "devices[2].size", "devices[2].zone_capacity", "devices[2].max_open"}
    assert "no Open-Channel SSD" in [p["desc"] for p in problems if p["path"] == "devices[1]"][0]
    (folder / "guest.json").write_text('{"memory": 0, "qemu_home": "/nowhere"}')
    problems = daemon.json("validate", "bad", code=78)[0]["problems"]
    assert {p["path"] for p in problems} == {"memory", "qemu_home", ""}


def test_validate_knows_where_kvm_does_not_work(daemon, fake):
    (daemon.folder("g", {**fake.config(), "accel": "kvm"}) / "bzImage").touch()
    said = daemon.ctl("validate", "g", code=78).stdout
    assert "g: accel: is kvm, but KVM: " in said and "signal" not in said  # the end that we gave it
    daemon.ctl("start", "g", code=1)


def test_a_run_that_is_not_there_is_named_as_it_was_asked_for(daemon, fake):
    daemon.folder("g", fake.config())
    daemon.ctl("start", "g")
    for run in (2, -1, -99):
        assert f"no run {run}: the last is 1" in fails(daemon, 65, "logs", "g", "--boot", str(run))


def test_invalid_utf8_and_nul_in_definition(daemon):
    for i, data in enumerate([b'{"cpu": "\xff\xfe"}', b'{"cpu": "a\x00b"}', b"\x00" * 100, b""]):
        folder = daemon.folder(f"g{i}")
        (folder / "bzImage").touch()
        (folder / "guest.json").write_bytes(data)
        assert "guest.json" in fails(daemon, 78, "start", f"g{i}")


def test_no_boot_image_and_no_kernel(daemon):
    daemon.folder("empty")
    line = fails(daemon, 78, "start", "empty")
    assert "no boot image and no kernel" in line and "boot.qcow2" in line


def test_set_refuses_and_keeps_the_file(daemon, fake):
    folder = daemon.folder("g", fake.config())
    before = (folder / "guest.json").read_text()
    for change in ("memory=0", "memry=1G", "devices.nvme0.mdts=7", 'cpus="x"', "..=1", "ssh.port.x=1"):
        done = daemon.ctl("set", "g", change, code=None)
        assert done.returncode in (65, 78), done
        assert (folder / "guest.json").read_text() == before


# QEMU


def test_qemu_is_missing(daemon, fake):
    daemon.folder("g", fake.config(qemu_home="/nonexistent"))
    line = fails(daemon, 1, "start", "g")
    assert "/nonexistent/bin/qemu-system-x86_64" in line and "qemu_home" in line


def test_qemu_is_not_executable(daemon, fake):
    os.chmod(fake.home / "bin/qemu-system-x86_64", 0o644)
    daemon.folder("g", fake.config())
    assert "cannot be executed" in fails(daemon, 1, "start", "g")


def test_qemu_is_no_program(daemon, fake):
    (fake.home / "bin/qemu-system-x86_64").write_bytes(b"\0\1\2 this is no program\n" * 100)
    os.chmod(fake.home / "bin/qemu-system-x86_64", 0o755)
    daemon.folder("g", fake.config())
    assert "qemu-system-x86_64" in fails(daemon, 1, "start", "g")


def test_qemu_exits_at_once(daemon, fake):
    daemon.folder("g", fake.config("say=fatal: the moon is full", "exit=3"))
    assert "the moon is full" in fails(daemon, 1, "start", "g")
    view = daemon.show("g")
    assert (view["state"], view["reason"], view["exit"]) == ("stopped", "start-failed", {"code": 3})
    assert "the moon is full" in view["error"]


def test_qemu_dies_of_a_signal(daemon, fake):
    daemon.folder("g", fake.config("at=capabilities:crash"))
    line = fails(daemon, 1, "start", "g")
    assert "told to crash" in line
    assert daemon.show("g")["exit"] == {"signal": 11, "name": "SIGSEGV"}


def test_qemu_that_fails_its_probe(daemon, fake):
    fake.tell("say=cannot load firmware", "probe-exit=1")
    daemon.folder("g", fake.config())
    assert "cannot load firmware" in fails(daemon, 1, "start", "g")


def test_qemu_never_answers(daemon, fake, tmp_path):
    daemon.folder("mute", fake.config("at=greeting:mute"))
    daemon.folder("other", fake.config())
    # One that does not even say what it can do.
    dumb = FakeQemu(tmp_path / "dumb")
    (dumb.home / "bin/qemu-system-x86_64").unlink()
    (dumb.home / "bin/qemu-system-x86_64").write_text("#!/bin/sh\nexec sleep 600\n")
    os.chmod(dumb.home / "bin/qemu-system-x86_64", 0o755)
    daemon.folder("dumb", dumb.config())
    asking = daemon.ctl_start("start", "dumb")
    starting = daemon.ctl_start("start", "mute")
    wait_until(lambda: daemon.show("mute")["state"] == "starting", "the mute one starts")
    daemon.ctl("start", "other")  # it holds nobody up
    _, err = starting.communicate(timeout=HANG)
    assert starting.returncode == 1 and b"did not answer on its monitor" in err
    assert daemon.show("mute")["state"] == "stopped"
    _, err = asking.communicate(timeout=HANG)
    assert asking.returncode == 1 and b"does not work: it did not answer within 20 s" in err
    assert daemon.show("other")["state"] == "running"


@pytest.mark.parametrize("point", ["greeting", "capabilities", "cont", "hostfwd_add"])
def test_qemu_talks_garbage(daemon, fake, point):
    daemon.folder("g", fake.config(f"at={point}:garbage"))
    done = daemon.ctl("start", "g", code=1, timeout=120)
    assert "monitor" in done.stderr
    assert daemon.show("g")["state"] == "stopped"
    assert not daemon.qemu_pids()


def test_property_that_the_binary_does_not_know(daemon, tiny):
    daemon.folder("g", {**tiny.config, "extra_args": ["-device", "nvme,serial=x,foo=1"]})
    line = fails(daemon, 1, "start", "g")
    assert "foo" in line and "not found" in line
    assert "foo" in daemon.show("g")["error"]


def test_ocssd_on_a_qemu_without_it(daemon, tiny):
    daemon.folder("g", {**tiny.config, "devices": [{"id": "nvme0", "type": "ocssd"}]})
    line = fails(daemon, 1, "start", "g")
    assert "no Open-Channel SSD" in line and "qemu-nvme" in line
    assert not list((daemon.guests / "g").glob("nvme0*"))


def test_wrong_ssh_port_is_named(daemon, fake):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        daemon.folder("g", fake.config(ssh={"port": port}))
        assert str(port) in fails(daemon, 75, "start", "g")


# The daemon's socket


def test_no_daemon(daemon, tmp_path):
    daemon.stop()
    for command in (["list"], ["start", "g"], ["status", "g"], ["console", "g"], ["events"]):
        line = fails(daemon, 69, *command)
        assert str(daemon.socket) in line
    assert "255" not in fails(daemon, 255, "exec", "g", "--", "true")


def test_not_our_protocol(daemon, tmp_path):
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))
        s.listen()
        import threading

        def serve():
            conn, _ = s.accept()
            conn.sendall(b"220 mail ESMTP\r\n")
            conn.recv(1000)
            conn.close()

        thread = threading.Thread(target=serve)
        thread.start()
        assert "no cijqemud" in fails(daemon, 76, "--socket", path, "list")
        thread.join(HANG)


def test_request_line_of_a_mebibyte(daemon):
    with daemon.connect() as c:
        c.send_raw(b'{"execute": "query-guests", "x": "' + b"a" * (1 << 20) + b'"}\n')
        error = c.read()["error"]
        assert error["class"] == "BadRequest" and "65536" in error["desc"]
        assert c.call("query-guests") == []  # and the connection goes on


def test_longest_request_line(daemon):
    def line(size):
        begin, end = b'{"execute": "query-guests", "id": "', b'"}'
        return begin + b"a" * (size - len(begin) - len(end)) + end + b"\n"

    with daemon.connect() as c:
        c.send_raw(line(65536) + line(65537) + line(65536))
        assert c.read()["return"] == []
        assert "over 65536" in c.read()["error"]["desc"]
        assert c.read()["return"] == []


def test_half_a_line_then_eof(daemon):
    with daemon.connect() as c:
        c.send_raw(b'{"execute": "query-gue')
        c.sock.shutdown(socket.SHUT_WR)
        assert "middle of a request" in c.read()["error"]["desc"]
        with pytest.raises(EOFError):
            c.read()


def test_nesting_of_a_thousand(daemon):
    with daemon.connect() as c:
        for deep in ("[" * 1000 + "]" * 1000, '{"a":' * 1000 + "1" + "}" * 1000, "[" * 1000):
            c.send_raw('{"execute": "query-guests", "arguments": {"x": %s}, "id": 1}\n' % deep)
            error = c.read()["error"]
            assert error["class"] == "BadRequest", error
        assert c.call("query-guests") == []


@pytest.mark.parametrize("line", [
    b'{"execute": "query-\xff\xfe"}', b"\xc3\x28", b'{"execute": "query-guests"', b"nonsense", b"null", b"[]",
    b"1", b'"x"', b"{}", b'{"execute": 1}', b'{"execute": "no-such"}', b'{"execute": "query-guests", "arguments": []}',
    b'{"execute": "query-guests", "extra": 1}', b'{"execute": "show", "arguments": {"guest": "\\u0000"}}',
    b"{\x00}", b'{"execute": "guest-start"}', b'{"execute": "guest-start", "arguments": {"guest": 5}}',
    b'{"execute": "guest-wait", "arguments": {"guest": "x", "for": "rain"}}',
    b'{"execute": "guest-wait", "arguments": {"guest": "x", "for": "ssh", "timeout": 1e300}}',
    b'{"execute": "guest-stop", "arguments": {"guest": "x", "force_after": -1}}',
])
def test_bad_request_line(daemon, line):
    with daemon.connect() as c:
        c.send_raw(line + b"\n")
        error = c.read()["error"]
        assert error["class"] in ("BadRequest", "GuestNotFound"), error
        assert error["desc"]
        assert c.call("query-guests") == []


def test_unknown_operation_has_a_hint(daemon):
    with daemon.connect() as c:
        assert c.ask("query-guest-s")["error"]["hint"] == "did you mean 'query-guests'?"


@pytest.mark.parametrize("request_id", ['1', '"x"', 'null', '[1, {"a": 2}]', '{"z": 1, "a": 1.50}',
                                        "123456789012345678901234567890", "1e-7", '"\\u00e4"', "-0.0"])
def test_id_comes_back_as_it_was(daemon, request_id):
    with daemon.connect() as c:
        c.send_raw('{"execute": "query-guests", "id": %s}\n' % request_id)
        assert c.read_line().decode().endswith('"id":%s}' % request_id)


def test_a_thousand_idle_connections(daemon, fake):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    daemon.folder("g", fake.config())
    idle = [Client(daemon.socket, greet=False) for _ in range(1000)]
    try:
        daemon.ctl("start", "g")
        assert daemon.show("g")["state"] == "running"
        before = len(daemon.fds())
        assert before > 1000
    finally:
        for c in idle:
            c.close()
    wait_until(lambda: len(daemon.fds()) < 100, "the daemon lets go of them")


def test_client_that_never_reads(daemon, fake):
    for i in range(20):
        daemon.folder(f"g{i}", fake.config())
    with daemon.connect() as c:
        c.sock.setblocking(False)
        sent = 0
        end = time.monotonic() + 20
        line = b'{"execute": "query-guests"}\n'
        # Until the daemon takes no more: what it holds for us is bounded.
        while time.monotonic() < end and sent < 50_000_000:
            try:
                sent += c.sock.send(line * 100)
            except BlockingIOError:
                break
        else:
            raise AssertionError(f"the daemon took {sent} bytes of requests without an answer read")
        with open(f"/proc/{daemon.pid}/status") as f:
            rss = next(int(row.split()[1]) for row in f if row.startswith("VmRSS"))
        assert rss < 200 * 1024 if "asan" in os.environ.get("BUILD", "") else rss < 64 * 1024
        daemon.ctl("start", "g0")  # nobody else is held up


def test_subscriber_that_never_reads(daemon, fake):
    daemon.folder("g", fake.config())
    with daemon.connect() as c:
        c.call("events-subscribe")
        for _ in range(30):
            daemon.ctl("start", "g")
            daemon.ctl("kill", "g")
        seqs = []
        while len(seqs) < 100:
            seqs.append(c.next_event()["seq"])
        assert seqs == sorted(set(seqs))


# The command line


@pytest.mark.parametrize("args", [
    [], ["--no-such"], ["lst"], ["frobnicate"], ["list", "--nope"], ["wait", "g"], ["wait", "g", "--for", "rain"],
    ["console", "g", "--force", "--join"], ["console", "g", "-e", "ab"], ["start"], ["show"], ["show", "a", "b"],
    ["set", "g"], ["stop", "g", "--force-after", "soon"], ["--timeout", "x", "list"], ["exec"],
])
def test_usage(daemon, args):
    code = 255 if args[:1] == ["exec"] else 64
    done = daemon.ctl(*args, code=code)
    assert done.stderr.startswith("cijqemuctl: ") and done.stdout == ""


def test_did_you_mean_and_prefixes(daemon):
    assert "did you mean 'list'" in daemon.ctl("lsit", code=64).stderr
    assert daemon.ctl("li").returncode == 0
    ambiguous = daemon.ctl("sta", code=64).stderr
    assert "start" in ambiguous and "status" in ambiguous


def test_second_daemon_on_the_folder(daemon, tmp_path):
    import subprocess
    from harness import BUILD
    done = subprocess.run([BUILD / "cijqemud", "--guests", daemon.guests, "--run-dir", tmp_path / "r2",
                           "--state-dir", tmp_path / "s2"], capture_output=True, text=True, timeout=HANG)
    assert done.returncode != 0
    assert str(daemon.guests) in done.stderr and f"pid {daemon.pid}" in done.stderr


def test_daemon_options(tmp_path):
    import subprocess
    from harness import BUILD
    for args, word in ((["--guests", "relative"], "absolute"), (["--nope"], "--nope"), (["x"], "'x'"),
                       (["--guests", str(tmp_path / "missing"), "--run-dir", str(tmp_path / "r")], "mkdir -p")):
        done = subprocess.run([BUILD / "cijqemud", *args], capture_output=True, text=True, timeout=HANG)
        assert done.returncode != 0 and word in done.stderr, done
    assert not (tmp_path / "missing").exists()


def test_what_is_asked_in_vain_does_not_push_out_the_history(daemon, fake):
    """The longest names, by somebody who may only look: what was done is still told."""
    daemon.folder("a", fake.config())
    daemon.ctl("kill", "a")
    with Client(daemon.run / "cijqemud-ro.sock") as c:
        for _ in range(50):
            assert c.ask("guest-start", guest="n" * 60000)["error"]["class"] == "BadRequest"
    with daemon.connect() as c:
        entries = c.call("query-history")
        entries = entries["entries"] if isinstance(entries, dict) else entries
        assert any(e["operation"] == "guest-kill" for e in entries)
        assert all(len(e["guest"] or "") <= 63 for e in entries)
