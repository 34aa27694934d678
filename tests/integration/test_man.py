"""The manual has all that there is: it is compared with what the programs themselves say."""

import re
import shutil
import subprocess

import pytest

from harness import BUILD, HANG, ROOT, Client
from test_metrics import get

MAN = ROOT / "client/man"
PAGES = sorted(MAN.glob("*.[1-8]"))


def source(page):
    return (MAN / page).read_text()


def said(*args):
    return subprocess.run(list(map(str, args)), capture_output=True, text=True, timeout=HANG, check=True).stdout


def blocks(text, macro):
    """{word: what stands about it}, from each '.It MACRO word' to the next; '.It Xo MACRO word' too."""
    found = {}
    parts = re.split(rf"(?m)^(?=\.It (?:Xo )?{macro} |\.S[sh] )", text)
    waiting = []
    for part in parts:
        head = re.match(rf"\.It (?:Xo )?{macro} ((?:[^\s,]+ , )*[^\s,]+)", part)
        if not head:
            waiting = []
            continue
        names = head.group(1).split(" , ")
        for name in [*names, *(n for n in waiting if n not in names)]:
            found[name] = found.get(name, "") + part
        # '.It Ic push' and '.It Ic pull' one behind the other share one text.
        waiting = names + waiting if len(part.strip().splitlines()) == 1 else []
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_mandoc_has_nothing_to_say(page):
    assert shutil.which("mandoc"), "Debian's package mandoc"
    done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", page], capture_output=True, text=True, timeout=HANG)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_pages_are_there():
    assert [p.name for p in PAGES] == ["cijqemu-guest.5", "cijqemu-protocol.7", "cijqemuctl.1", "cijqemud.8"]


def options_of(text):
    """[(letter or '', name)] of the options that a help text lists."""
    return re.findall(r"(?m)^  (?:-(\w), |    )--([a-z-]+)", text)


COMMANDS = re.findall(r"(?m)^  ([a-z-]+) +\S", said(BUILD / "cijqemuctl", "help").partition("Options,")[0])


def assert_options(options, text, where):
    for letter, name in options:
        assert re.search(rf"Fl -{name}\b(?!-)", text), f"--{name} is not in {where}"
        assert not letter or re.search(rf"Fl {letter}\b", text), f"-{letter} is not in {where}"


def test_no_command_that_is_not_there():
    described = blocks(source("cijqemuctl.1").partition(".Sh COMMANDS")[2], "Ic")
    assert not set(described) - set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_with_its_options(command):
    described = blocks(source("cijqemuctl.1"), "Ic")
    assert command in described, f"cijqemuctl {command}"
    help_text = said(BUILD / "cijqemuctl", "help", command)
    own = help_text.partition("Options of every command")[0]
    group = ""
    if command in ("start", "stop", "kill", "restart", "reset", "pause", "resume"):
        group = "Fl -all"  # told once, at the head of the group
    options = options_of(own)
    assert_options(options, described[command] + group + inherited(command, described), f"cijqemuctl {command}")


def inherited(command, described):
    """What the page says by naming another command, of its options."""
    return described["stop"] + described["start"] if command == "restart" else ""


def test_options_of_every_command():
    assert_options(options_of(said(BUILD / "cijqemuctl", "help").partition("Options,")[2]),
                   source("cijqemuctl.1").partition(".Sh OPTIONS")[2].partition(".Sh COMMANDS")[0], "cijqemuctl(1)")


def test_environment_and_exit_codes():
    page, text = source("cijqemuctl.1"), said(BUILD / "cijqemuctl", "help")
    for name in re.findall(r"(?m)^  ([A-Z_]{4,}) ", text.partition("Environment:")[2]):
        assert name in page.partition(".Sh ENVIRONMENT")[2]
    for code in re.findall(r"\b(\d+) ", text.partition("Exit codes:")[2]):
        assert f".It {code}\n" in page.partition(".Sh EXIT STATUS")[2]


def test_every_option_of_the_daemon():
    page = source("cijqemud.8")
    names = re.findall(r"--([a-z-]+)", said(BUILD / "cijqemud", "--help"))
    assert len(names) > 5
    for name in names:
        assert re.search(rf"(?m)^\.It (Fl \w , )?Fl -{name}\b(?!-)", page), f"--{name}"


def test_no_option_of_the_daemon_that_is_not_there():
    names = set(re.findall(r"(?m)^\.It (?:Fl \w , )?Fl -([a-z-]+)", source("cijqemud.8")))
    assert not names - set(re.findall(r"--([a-z-]+)", said(BUILD / "cijqemud", "--help")))


@pytest.fixture
def operations(daemon):
    with Client(daemon.socket) as c:
        return c.call("query-operations")


def test_every_operation_with_its_arguments(operations):
    described = blocks(source("cijqemu-protocol.7"), "Cm")
    for op in operations:
        assert op["name"] in described, op["name"]
        text = described[op["name"]]
        assert re.search(rf"\b({op['access']}|admins)\b", text), f"{op['name']}: {op['access']}"
        for argument in op["arguments"]:
            if argument["name"] != "…":
                assert re.search(rf"\b{argument['name']}\b", text), f"{op['name']}: {argument['name']}"


def test_no_operation_that_is_not_there(operations):
    described = blocks(source("cijqemu-protocol.7").partition(".Sh OPERATIONS")[2].partition(".Sh EVENTS")[0], "Cm")
    assert not set(described) - {op["name"] for op in operations}


def test_every_key_of_guest_json(operations):
    keys = next(a["members"] for op in operations if op["name"] == "guest-set" for a in op["arguments"]
                if "members" in a)
    page = source("cijqemu-guest.5").partition(".Sh GUEST.JSON")[2]
    listed = set(re.findall(r"[a-z_.]+", " ".join(re.findall(r"(?m)^\.(?:It )?Cm (.*)$", page))))

    def check(members, prefix):
        for member in members:
            name = prefix + member["name"]
            if member["type"] == "object":
                check(member["members"], name + ".")
            elif member["type"] == "array of objects":
                assert name in listed, name
                check(member["members"], "")
            else:
                assert name in listed, name
            for value in member.get("values", []):
                assert value in page, f"{name}: {value}"

    assert len(keys) > 10
    check(keys, "")


def test_every_metric(booted):
    names = set(re.findall(r"(?m)^# TYPE (\S+)", get(booted)[1]))
    page = source("cijqemud.8")
    assert not {name for name in names if not re.search(rf"\b{name}\b", page)}
    # And nothing that is not there.
    assert not set(re.findall(r"\bcijqemu_[a-z_]+\b", page)) - names


def test_every_message_of_the_journal():
    ids = re.findall(r'#define LOG_ID_\w+ "(\w+)"', (ROOT / "daemon/log.h").read_text())
    assert ids and re.findall(r"(?m)^\.It Li (\w{32})$", source("cijqemud.8")) == ids


def test_it_is_readable_in_80_columns():
    for page in PAGES:
        text = subprocess.run(["mandoc", "-Tutf8", page], capture_output=True, text=True, check=True).stdout
        text = re.sub(".\b", "", text)
        assert "NAME" in text and all(len(line) <= 80 for line in text.splitlines()), page
