import os

import pytest

from harness import BUILD_GUEST, Daemon, FakeQemu, Tiny, build_guest
from sshd import Sshd


@pytest.fixture
def tally(record_property):
    """Takes a line of what a test has counted: they are printed at the end, whoever ran the test."""
    return lambda text: record_property("tally", text)


def pytest_terminal_summary(terminalreporter):
    lines = [(report.nodeid, value) for report in terminalreporter.getreports("passed") if report.when == "call"
             for name, value in report.user_properties if name == "tally"]
    if lines:
        terminalreporter.section("counted")
    for nodeid, value in lines:
        terminalreporter.write_line(f"{nodeid.rpartition('/')[2]}: {value}")


@pytest.fixture(scope="session")
def tiny():
    if not os.environ.get("CIJ_GUEST_BUILT"):
        build_guest()
    assert (BUILD_GUEST / "bzImage").exists()
    return Tiny()


@pytest.fixture
def daemon(tmp_path):
    """A daemon without guests."""
    d = Daemon(tmp_path)
    try:
        yield d.start()
    finally:
        d.close()


@pytest.fixture
def fake(tmp_path):
    """A stand-in QEMU that behaves well."""
    return FakeQemu(tmp_path / "qemu")


@pytest.fixture(scope="module")
def booted(tmp_path_factory, tiny):
    """A daemon whose guest 'tiny' runs, its SSH up; for tests that leave it so."""
    d = Daemon(tmp_path_factory.mktemp("booted"))
    try:
        d.start()
        d.folder("tiny", {**tiny.config, "devices": [{"id": "nvme0", "type": "nvme", "size": "64M"}]})
        d.ctl("start", "tiny", "--wait=ssh")
        yield d
    finally:
        d.close()


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    """An OpenSSH server on loopback."""
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    try:
        yield server.start()
    finally:
        server.stop()
