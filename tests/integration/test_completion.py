"""Completion: what '_complete' offers, and the three shells that ask it."""

import os
import subprocess

import pytest

from harness import BUILD, HANG, ROOT
from screen import Screen

SCRIPTS = ROOT / "client/completions"


@pytest.fixture
def guests(daemon, fake):
    daemon.folder("emujoe", fake.config(devices=[{"id": "nvme0", "type": "nvme", "size": "64M"}]))
    daemon.folder("emuann", fake.config())
    daemon.folder("other", fake.config())
    daemon.ctl("start", "other")
    return daemon


def offered(daemon, *words):
    lines = daemon.ctl("_complete", "--", *words).stdout.splitlines()
    return [line.split("\t")[0] for line in lines]


def test_commands(daemon):
    listed = offered(daemon, "")
    assert {"list", "start", "console", "top"} <= set(listed) and "_complete" not in listed
    assert offered(daemon, "sho") == ["show"]
    assert offered(daemon, "help", "sho") == ["show"]
    assert offered(daemon, "--json", "sho") == ["show"]


@pytest.mark.parametrize("words, wanted", [
    (["start", ""], {"emujoe", "emuann", "other"}), (["start", "emu"], {"emujoe", "emuann"}),
    (["start", "emujoe", ""], {"emuann", "other"}), (["list", "o"], {"other"}), (["events", "o"], {"other"}),
    (["console", "--read-only", "o"], {"other"}), (["console", "emujoe", ""], set()), (["sta", "o"], set()),
    (["star", "o"], {"other"}), (["create", ""], set()), (["exec", "emujoe", "--", ""], set()),
    (["start", "--wait="], {"--wait=ssh", "--wait=running"}), (["start", "--wai"], {"--wait"}),
    (["wait", "emujoe", "--for", "s"], {"stopped", "ssh"}), (["wait", "emujoe", "--for=c"], {"--for=console="}),
    (["console", "emujoe", "--from", ""], {"start", "end"}), (["create", "x", "--kernel", ""], {":files"}),
    (["set", "emujoe", "mem"], {"memory="}), (["set", "emujoe", "accel="], {"accel=auto", "accel=kvm", "accel=tcg"}),
    (["set", "emujoe", "devices.nvme0.md"], {"devices.nvme0.md_size=", "devices.nvme0.mdts="}),
    (["set", "emujoe", "autostart=t"], {"autostart=true"}),
    (["create", "x", "--set", "ssh."], {"ssh.user=", "ssh.port=", "ssh.key="}),
    (["create", "x", "--device", "z"], {"zns"}), (["create", "x", "--device", "zns,zone_s"], {"zns,zone_size="}),
    (["create", "x", "--device=ocssd,early_reset="],
     {"--device=ocssd,early_reset=true", "--device=ocssd,early_reset=false"}),
    ([], None), (["no-such-command", ""], None), (["--", ""], None), (["start", "\x1b"], set())])
def test_offers(guests, words, wanted):
    got = offered(guests, *words)
    assert wanted is None or set(got) == wanted, got


def test_guests_are_those_of_now(guests, fake):
    assert "new" not in offered(guests, "show", "")
    guests.folder("new", fake.config())
    assert "new" in offered(guests, "show", "")
    assert "other\trunning" in guests.ctl("_complete", "--", "show", "oth").stdout


def test_without_a_daemon_it_is_quick_and_quiet(daemon, tmp_path):
    for words in (["start", ""], ["set", "g", ""]):
        done = daemon.ctl("_complete", "--", "--socket", tmp_path / "none", *words)
        assert (done.stdout, done.stderr) == ("", "")
    assert "status" in offered(daemon, "--socket", tmp_path / "none", "st")
    # The socket that the user types is the one that is asked.
    assert offered(daemon, "--socket=/none", "start", "") == []


def env(daemon):
    return {**daemon.client_env(), "PATH": f"{BUILD}:{os.environ['PATH']}", "HOME": str(daemon.base), "PS1": "$ ",
            "INPUTRC": "/dev/null"}


@pytest.fixture
def bash(guests):
    (guests.base / "image one.img").touch()
    screen = Screen(["bash", "--norc", "--noprofile"], {**env(guests), "PS1": "ready> "}, 24, 80)
    screen.until_shown("ready>")
    screen.keys(f"cd {guests.base}; source {SCRIPTS}/cijqemuctl.bash; clear; PS1='now> '\r")
    screen.until(lambda: screen.screen.display[0].startswith("now>"), "a clear screen")
    yield screen
    screen.close()


@pytest.mark.parametrize("typed, wanted", [
    ("cijqemuctl sho\t", "cijqemuctl show "), ("cijqemuctl show oth\t", "cijqemuctl show other "),
    ("cijqemuctl start emuj\toth\t", "cijqemuctl start emujoe other "),
    ("cijqemuctl wait other --for=sto\t", "cijqemuctl wait other --for=stopped "),
    ("cijqemuctl start --wait=s\t", "cijqemuctl start --wait=ssh "),
    ("cijqemuctl set emujoe devices.nvme0.mdt\t7", "cijqemuctl set emujoe devices.nvme0.mdts=7"),
    ("cijqemuctl set emujoe accel=k\t", "cijqemuctl set emujoe accel=kvm "),
    ("cijqemuctl create x --boot im\t", "cijqemuctl create x --boot image\\ one.img ")])
def test_bash(bash, typed, wanted):
    bash.keys(typed)
    bash.until(lambda: bash.screen.display[0].rstrip() == ("now> " + wanted).rstrip(), wanted)
    # A blank behind what is complete, none behind "KEY=".
    bash.until(lambda: bash.screen.cursor.x == len("now> " + wanted), "the cursor is there")


def test_bash_lists_what_is_possible(bash):
    bash.keys("cijqemuctl show \t\t")
    bash.until(lambda: {"emuann", "emujoe", "other"} <= set(bash.text.split()), "all guests")


@pytest.mark.parametrize("typed, wanted", [
    ("cijqemuctl sho\t", "cijqemuctl show "), ("cijqemuctl show oth\t", "cijqemuctl show other "),
    ("cijqemuctl start --wait=s\t", "cijqemuctl start --wait=ssh "),
    ("cijqemuctl set emujoe devices.nvme0.mdt\t7", "cijqemuctl set emujoe devices.nvme0.mdts=7"),
    ("cijqemuctl create x --boot im\t", "cijqemuctl create x --boot image\\ one.img ")])
def test_zsh(guests, typed, wanted):
    (guests.base / "image one.img").touch()
    screen = Screen(["zsh", "-f"], {**env(guests), "PS1": "ready> "}, 24, 80)
    try:
        screen.until_shown("ready>")
        screen.keys(f"cd {guests.base}; fpath=({SCRIPTS} $fpath); autoload -U compinit; compinit -u -D; clear; PS1='now> '\r")
        screen.until(lambda: screen.screen.display[0].startswith("now>"), "a clear screen")
        screen.keys(typed)
        screen.until(lambda: screen.screen.display[0].rstrip() == ("now> " + wanted).rstrip(), wanted)
    finally:
        screen.close()


@pytest.mark.parametrize("typed, wanted", [
    ("cijqemuctl sho", {"show"}), ("cijqemuctl show ", {"emujoe", "emuann", "other"}),
    ("cijqemuctl start --wait=s", {"--wait=ssh"}), ("cijqemuctl set emujoe mem", {"memory="}),
    ("cijqemuctl create x --boot im", {"image one.img"})])
def test_fish(guests, typed, wanted):
    (guests.base / "image one.img").touch()
    done = subprocess.run(["fish", "--no-config", "-c",
                           f"source {SCRIPTS}/cijqemuctl.fish; complete -C '{typed}'"],
                          env=env(guests), cwd=guests.base, capture_output=True, text=True, timeout=HANG)
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == wanted, done


def test_of_another_machine_nothing_is_asked(guests):
    """No connection over SSH, and no question for a password, at a press of the tabulator."""
    for words, env in ((["--host", "nowhere.invalid", "start", ""], {}), (["start", ""], {"QEMU_HOST": "nowhere.invalid"})):
        done = guests.ctl("_complete", "--", *words, env=env)
        assert (done.stdout, done.stderr) == ("", "")
    assert "start" in guests.ctl("_complete", "--", "sta", env={"QEMU_HOST": "nowhere.invalid"}).stdout
