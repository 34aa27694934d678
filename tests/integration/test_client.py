"""The client as a person and a script meet it: help, tables, JSON, notes, colours."""

import json
import os
import pty
import re
import subprocess

import pytest

from harness import BUILD, HANG

COMMANDS = subprocess.run([BUILD / "cijqemuctl", "--help"], capture_output=True, text=True).stdout


def command_names():
    return re.findall(r"^  ([a-z-]+)(?: |$)", COMMANDS, re.M)


def test_contract_commands_are_there():
    names = set(command_names())
    assert set("list show status create set delete validate argv start stop kill restart reset pause resume wait "
               "console logs monitor qmp exec shell events".split()) <= names


@pytest.mark.parametrize("name", sorted(set(command_names())))
def test_help_of_each_command(name):
    for args in ([name, "--help"], ["help", name]):
        done = subprocess.run([BUILD / "cijqemuctl", *args], capture_output=True, text=True, timeout=HANG)
        assert done.returncode == 0, done
        assert done.stdout.startswith(f"usage: cijqemuctl {name}") or f"cijqemuctl {name}" in done.stdout
        assert all(len(line) <= 100 for line in done.stdout.splitlines())


def test_version():
    done = subprocess.run([BUILD / "cijqemuctl", "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("cijqemuctl 0.1.0")
    done = subprocess.run([BUILD / "cijqemud", "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("cijqemud 0.1.0")


def test_verbose_daemon_logs_each_request(daemon):
    daemon.ctl("list")
    daemon.ctl("start", "nobody", code=None)
    lines = daemon.log_text().splitlines()
    assert any(f"uid {os.getuid()}, " in line and "query-guests: done, " in line for line in lines), lines
    assert any("nobody: GuestNotFound, " in line for line in lines), lines


def test_list_is_a_table(daemon, fake):
    daemon.folder("emujoe", fake.config(devices=[{"id": "nvme0", "type": "nvme", "size": "8G"}]))
    daemon.folder("broken", "{")
    lines = daemon.ctl("list").stdout.splitlines()
    assert lines[0].split() == "NAME STATE READY OWNER MEM CPUS SSH DEVICES UPTIME".split()
    assert lines[1].startswith("broken") and lines[2].split()[:2] == ["emujoe", "stopped"]
    assert "nvme:8G" in lines[2]
    assert [g["guest"] for g in daemon.json("list", "emu*")] == ["emujoe"]


def test_show_has_the_contracts_members(daemon, fake):
    daemon.folder("g", fake.config())
    members = ("guest path state reason since ready boot_ms hung exit error owner pid memory_bytes cpus accel qemu "
               "ssh devices console run uptime_s lease restarts").split()
    for view in (daemon.show("g"), daemon.json("list")[0]):
        assert set(members) <= set(view)
    daemon.ctl("start", "g")
    view = daemon.show("g")
    assert set(members) <= set(view)
    assert view["qemu"]["dialect"] == "upstream" and view["ssh"]["host"] == "127.0.0.1"
    assert view["console"]["log"].endswith("/g/logs/0001.out")
    assert "g" in daemon.ctl("show", "g").stdout


def test_stdout_is_data_stderr_is_notes(daemon, fake):
    daemon.folder("g", fake.config())
    done = daemon.ctl("start", "g")
    assert done.stdout == "" and done.stderr
    assert daemon.ctl("-q", "stop", "g").stderr == ""
    view = json.loads(daemon.ctl("start", "g", "--json").stdout)
    assert view["state"] == "running"


def test_no_control_characters_in_a_list(daemon):
    """Folders and reasons come from users: nothing of theirs reaches the terminal raw."""
    folder = daemon.guests / "g"
    folder.mkdir()
    (folder / "guest.json").write_text(json.dumps({"\x1b[31mred\n": 1}))
    for args in (["list"], ["show", "g"], ["validate", "g"]):
        done = daemon.ctl(*args, code=None)
        assert "\x1b" not in done.stdout + done.stderr


def run_on_terminal(daemon, *args, env=None):
    """Runs cijqemuctl on a pty of its own; what it printed."""
    master, slave = pty.openpty()
    p = subprocess.Popen([BUILD / "cijqemuctl", *args], stdin=slave, stdout=slave, stderr=slave,
                         env=daemon.client_env({"TERM": "xterm", **(env or {})}), start_new_session=True)
    os.close(slave)
    out = b""
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:
            break
        if not data:
            break
        out += data
    os.close(master)
    assert p.wait(HANG) == 0, out
    return out


def test_colour_only_on_a_terminal_and_no_color(daemon, fake):
    daemon.folder("g", fake.config())
    daemon.ctl("start", "g")
    assert "\x1b" not in daemon.ctl("list").stdout
    assert b"\x1b[" not in run_on_terminal(daemon, "list", env={"NO_COLOR": "1"})


def test_progress_on_a_terminal(daemon, fake):
    daemon.folder("g", fake.config("ssh"))
    out = run_on_terminal(daemon, "start", "g", "--wait=ssh")
    assert b"g: running" in out


def test_monitor_and_qmp_one_shot(booted):
    assert "VM status: running" in booted.ctl("monitor", "tiny", "info", "status").stdout
    assert json.loads(booted.ctl("qmp", "tiny", '{"execute": "query-status"}').stdout)["status"] == "running"
    done = booted.ctl("qmp", "tiny", "no-such-command", code=1)
    assert "no-such-command" in done.stderr
    assert "not passed on" in booted.ctl("qmp", "tiny", '{"execute": "chardev-remove", "arguments": {"id": "con0"}}',
                                         code=1).stderr
    assert booted.show("tiny")["state"] == "running"


def test_exec_gives_the_guests_code(booted):
    assert booted.ctl("exec", "tiny", "--", "exit 7", code=7)
    done = booted.ctl("exec", "tiny", "--", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert booted.ctl("exec", "tiny", "--", "tr a-z A-Z", input="hello").stdout == "HELLO"
    assert booted.ctl("exec", "tiny", "--", "kill -9 $$", code=137)
    booted.ctl("exec", "nobody", "--", "true", code=255)


def test_logs_and_console_show_the_boot(booted):
    logs = booted.ctl("logs", "tiny").stdout
    assert "Linux version" in logs and "tiny guest ready" in logs
    assert len(booted.ctl("logs", "tiny", "-n", "3").stdout.splitlines()) == 3
    done = booted.ctl("console", "tiny", input="echo $((21*2))\n")
    assert "42" in done.stdout


def test_edit(daemon, fake, tmp_path):
    daemon.folder("g", fake.config())
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/\"64M\"/\"96M\"/' \"$1\"\n")
    editor.chmod(0o755)
    daemon.ctl("edit", "g", env={"EDITOR": str(editor), "VISUAL": ""})
    assert daemon.show("g")["memory_bytes"] == 96 << 20


def test_install_puts_all_in_place(tmp_path, daemon, tiny):
    subprocess.run(["make", "-C", BUILD.parents[1] if BUILD.name == "asan" else BUILD.parent, "install",
                    f"DESTDIR={tmp_path}/d", "PREFIX=/usr", f"BUILD={BUILD}",
                    *(["SAN=address,undefined", "CFLAGS=-O1 -g"] if BUILD.name == "asan" else [])],
                   check=True, capture_output=True)
    for path in ("usr/bin/cijqemud", "usr/bin/cijqemuctl", "usr/libexec/cijqemu/cijqemuctl-ssh"):
        assert os.access(tmp_path / "d" / path, os.X_OK)
    # Wherever it was moved to, it finds its other half.
    daemon.folder("g", tiny.config)
    done = subprocess.run([tmp_path / "d/usr/bin/cijqemuctl", "exec", "g", "--", "true"], capture_output=True,
                          text=True, env=daemon.client_env(), timeout=HANG)
    assert done.returncode == 255 and "stopped" in done.stderr, done


def test_demo():
    done = subprocess.run([BUILD.parents[0] / "tests/demo.sh" if BUILD.name == "build"
                           else BUILD.parents[1] / "tests/demo.sh"], capture_output=True, text=True, timeout=HANG * 3,
                          env={**os.environ, "BUILD": str(BUILD)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "/dev/nvme0n1" in done.stdout and "==> done" in done.stdout
