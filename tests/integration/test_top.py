"""'top': the live screen, its keys, its sizes, and the terminal given back whatever happens."""

import json
import os
import pathlib
import pwd
import re
import signal
import subprocess
import threading
import time

import pytest

from harness import BUILD, HANG, alive, wait_until
from screen import Screen
from test_metrics import get

HEADING = "NAME STATE CPU% MEM DISK/s NVMe-R NVMe-W CONS/s BOOT VW LEASE".split()


@pytest.fixture
def top(daemon, fake):
    """Opens a screen: top(options…)."""
    screens = []

    def open_top(*args, size=(24, 80), d=daemon, env=None):
        screen = Screen([BUILD / "cijqemuctl", "top", "-d", "0.2", *args], d.client_env(env), *size)
        screens.append(screen)
        screen.until_shown("q quit")
        return screen

    yield open_top
    for screen in screens:
        screen.close()


@pytest.fixture
def guests(daemon, fake):
    for name in ("alpha", "beta", "gamma"):
        daemon.folder(name, fake.config())
    daemon.ctl("start", "beta")
    return daemon


def rows(screen):
    """The guests' lines, by what stands in front."""
    return [line.split() for line in screen.screen.display[3:-1] if line.strip()]


def names(screen):
    return [row[0] for row in rows(screen)]


def worker(screen):
    """The process under the guard."""
    path = pathlib.Path(f"/proc/{screen.process.pid}/task/{screen.process.pid}/children")
    return wait_until(lambda: [int(p) for p in path.read_text().split()], "it has a child")[0]


def test_it_fits_into_80_columns(guests, top):
    screen = top()
    assert screen.screen.display[2].split() == HEADING
    screen.until_shown("3 guests, 1 running")
    screen.until(lambda: rows(screen)[0][:3] == ["beta", "running", rows(screen)[0][2]]
                 and re.fullmatch(r"\d+\.\d", rows(screen)[0][2]), "a CPU rate")
    assert all(len(line) <= 80 for line in screen.screen.display)


def test_it_follows_the_size(guests, top):
    screen = top()
    screen.resize(30, 130)
    screen.until(lambda: "OWNER" in screen.screen.display[2] and "UPTIME" in screen.screen.display[2],
                 "more columns")
    screen.until(lambda: "q quit" in screen.screen.display[29], "the last line is the last")
    for size in ((5, 20), (1, 1), (2, 3), (24, 80)):
        screen.resize(*size)
    screen.until(lambda: screen.screen.display[2].split() == HEADING and "q quit" in screen.screen.display[23],
                 "as before")
    screen.keys("q")
    assert screen.ended() == 0
    screen.assert_restored()


def test_sorting(guests, top):
    screen = top("-s", "name")
    screen.until(lambda: names(screen) == ["alpha", "beta", "gamma"], "by name")
    screen.keys("r")
    screen.until(lambda: names(screen) == ["gamma", "beta", "alpha"], "the other way round")
    screen.keys("S")
    screen.until(lambda: names(screen)[0] == "beta", "by state, running first")
    screen.until_shown("by STATE")
    screen.keys("N")
    screen.until(lambda: names(screen)[0] == "alpha", "by name")
    screen.keys("N")
    screen.until(lambda: names(screen)[0] == "gamma", "the same key again turns round")
    screen.keys(">")
    screen.until_shown("by STATE")
    screen.keys("<<")
    screen.until_shown("by LEASE")


@pytest.mark.parametrize("enter", ["\r", "\n"])  # a terminal's, and what programs send
def test_filter(guests, top, enter):
    screen = top("-s", "name")
    screen.keys("/PH")
    screen.until(lambda: names(screen) == ["alpha"], "those with the text, in any case")
    screen.keys("\x7f\x7f*m*")
    screen.until(lambda: names(screen) == ["gamma"], "a glob")
    screen.keys(enter)
    screen.until_shown("'*m*': 1 of 3")
    screen.keys("\x1b")
    screen.until(lambda: len(names(screen)) == 3, "all again")
    screen.keys("/q\x1b")  # a key that would leave is text here
    screen.until(lambda: len(names(screen)) == 3 and "filter" not in screen.screen.display[1], "all again")


def test_help(guests, top):
    screen = top()
    screen.keys("?")
    screen.until_shown("choose a guest")
    screen.keys("h")
    screen.until(lambda: screen.screen.display[2].split() == HEADING, "the guests again")


def test_more_guests_than_lines(daemon, fake, top):
    for i in range(40):
        daemon.folder(f"g{i:02}", fake.config())
    screen = top("-s", "name")
    screen.until(lambda: names(screen) == [f"g{i:02}" for i in range(20)], "the first page")
    screen.keys("\x1b[4~")
    screen.until(lambda: names(screen)[-1] == "g39", "the end")
    screen.keys("\x1b[5~\x1b[5~")
    screen.until(lambda: names(screen)[0] == "g00", "two pages up")
    screen.keys("j" * 20)
    screen.until(lambda: names(screen)[-1] == "g20", "one line further")


def test_console_and_back(guests, top):
    screen = top("-s", "name")
    screen.until(lambda: names(screen)[0] == "alpha", "shown")
    screen.keys("j")
    screen.keys("\r")
    screen.until_shown("beta: writing")
    assert guests.show("beta")["console"]["viewers"] == 1
    screen.keys("hello\r")
    screen.until_shown("hello")
    screen.keys("\x1d.")
    screen.until(lambda: screen.screen.display[2].split() == HEADING, "back on the screen")
    screen.until(lambda: guests.show("beta")["console"]["viewers"] == 0, "the console is left")
    screen.keys("q")
    assert screen.ended() == 0
    screen.assert_restored()


def test_a_console_that_fails_says_why(guests, top):
    screen = top("-s", "name")
    screen.until(lambda: names(screen)[0] == "alpha", "shown")
    screen.keys("c")  # alpha never ran
    screen.until_shown("Enter goes back")
    assert "alpha" in screen.text
    screen.keys("\r")
    screen.until(lambda: screen.screen.display[2].split() == HEADING, "back on the screen")


def test_the_daemon_goes_and_comes_back(guests, top):
    screen = top()
    guests.stop()
    screen.until(lambda: "daemon" in screen.screen.display[1] or "connect" in screen.screen.display[1],
                 "it is said")
    guests.start()
    screen.until(lambda: "by CPU%" in screen.screen.display[1], "it is there again")


def test_a_mute_guest_does_not_hold_the_screen_up(daemon, fake, top):
    daemon.folder("mute", fake.config("at=query-blockstats:mute"))
    daemon.ctl("start", "mute")
    screen = top()
    screen.keys("?")
    screen.until_shown("choose a guest")
    screen.keys("q")
    assert screen.ended() == 0


@pytest.mark.parametrize("sig", ["INT", "TERM", "HUP", "QUIT", "SEGV", "KILL", "ABRT"])
@pytest.mark.parametrize("whom", ["guard", "worker"])
def test_the_terminal_is_given_back(guests, top, sig, whom):
    screen = top()
    child = worker(screen)
    signum = getattr(signal, "SIG" + sig)
    os.kill(child if whom == "worker" else screen.process.pid, signum)
    code = screen.ended()
    wait_until(lambda: not alive(child), "the child has ended")
    if BUILD.name == "asan" and sig in ("SEGV", "ABRT"):
        return  # the sanitizer turns these into an exit with code 1
    assert code in (128 + signum, -signum)
    screen.until(lambda: True, "")
    screen.assert_restored()


def test_interrupt_by_key(guests, top):
    screen = top()
    screen.keys("\x03")
    assert screen.ended() == 130
    screen.assert_restored()


def test_the_terminal_goes_away(guests, top):
    screen = top()
    child = worker(screen)
    os.close(screen.master)
    os.close(screen.slave)
    screen.process.wait(HANG)
    wait_until(lambda: not alive(child), "nothing is left")
    screen.master, screen.slave = os.open("/dev/null", os.O_RDWR), os.open("/dev/null", os.O_RDWR)


def test_no_color(guests, top):
    screen = top(env={"NO_COLOR": "1"})
    assert not re.search(rb"\x1b\[3[0-7]m", screen.raw)
    coloured = top()
    coloured.until(lambda: re.search(rb"\x1b\[32m", coloured.raw), "running is green")


def test_a_terminal_that_can_nothing(guests):
    screen = Screen(["env", "TERM=no-such-terminal", BUILD / "cijqemuctl", "top"], guests.client_env())
    assert screen.ended() == 1
    assert "no-such-terminal" in screen.text and "--batch" in screen.text
    screen.close()


def test_without_a_terminal_one_table(guests):
    done = guests.ctl("top", "-d", "0.1", "--sort", "name")
    lines = done.stdout.splitlines()
    assert len(lines) == 4 and lines[0].split()[:3] == ["NAME", "STATE", "OWNER"]
    assert [line.split()[0] for line in lines[1:]] == ["alpha", "beta", "gamma"]
    assert len(guests.ctl("top", "-d", "0.1", "-n", "2", "al*").stdout.splitlines()) == 5


def test_json_is_an_array_a_line(guests):
    lines = guests.ctl("top", "-d", "0.1", "-n", "3", "--json").stdout.splitlines()
    assert len(lines) == 3
    beta = next(g for g in json.loads(lines[-1]) if g["guest"] == "beta")
    assert beta["state"] == "running" and beta["cpu_percent"] >= 0 and beta["resident_bytes"] > 0
    assert next(g for g in json.loads(lines[0]) if g["guest"] == "alpha")["cpu_percent"] is None


def test_rates_are_what_the_guest_does(booted):
    stop = threading.Event()

    def read_on():
        while not stop.is_set():
            booted.ctl("exec", "tiny", "--", "dd if=/dev/nvme0n1 of=/dev/null bs=1M count=16 iflag=direct; dmesg -c; "
                                             "echo x > /dev/ttyS0")

    thread = threading.Thread(target=read_on)
    thread.start()
    try:
        seen = [json.loads(line)[0] for line in
                booted.ctl("top", "-n", "3", "-d", "2", "--json").stdout.splitlines()]
    finally:
        stop.set()
        thread.join()
    assert any(g["nvme_read_bytes_s"] > 1 << 20 for g in seen)
    assert any(g["nvme_ios_s"] > 0 for g in seen)
    assert any(g["cpu_percent"] > 5 for g in seen)
    assert any(g["console_bytes_s"] > 0 for g in seen)
    assert all(g["disk_bytes_s"] == 0 for g in seen)


def test_the_holder_of_the_lease_is_shown(guests, top):
    guests.ctl("lease", "beta", "--for", "1h")
    beta = next(g for g in json.loads(guests.ctl("top", "--json", "-d", "0.1").stdout) if g["guest"] == "beta")
    assert beta["lease"] == pwd.getpwuid(os.getuid()).pw_name
    screen = top("-s", "lease")
    screen.until(lambda: rows(screen)[0][0] == "beta" and rows(screen)[0][-1] == beta["lease"], "it is first")
    assert 'cijqemu_guest_leased{guest="beta"} 1\n' in get(guests)[1]


@pytest.mark.parametrize("args, words", [
    (["-d", "0"], "0.1"), (["-d", "x"], "seconds"), (["-n", "0"], "--count"), (["-n", "-1"], "--count"),
    (["-s", "colour"], "--sort"), (["--rate"], "unknown option")])
def test_bad_options(daemon, args, words):
    assert words in daemon.ctl("top", *args, code=64).stderr


def test_no_daemon(tmp_path, daemon):
    done = daemon.ctl("--socket", tmp_path / "none.sock", "top", code=69)
    assert done.stdout == "" and "none.sock" in done.stderr


def test_top_slows_nobody_else():
    """ncurses is mapped by the second program alone."""
    for program, there in (("cijqemuctl", False), ("cijqemuctl-ssh", True)):
        libs = subprocess.run(["ldd", BUILD / program], capture_output=True, text=True).stdout
        assert ("ncurses" in libs) == there
