"""QMP, shared: each client is served as if it had QEMU to itself, by qmp.sock and by qmp-attach."""

import contextlib
import json
import os
import random
import signal
import threading
import time

import pytest

from harness import HANG, stopped, wait_until
from monitors import Qmp, Raw, guest, own, real, sockets  # noqa: F401


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
    stopped(pid)
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
        stopped(pid)  # until all have asked
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
