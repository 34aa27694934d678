"""Under a real systemd as PID 1, in a box whose changes are thrown away; what runs there is in inside.py."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOX = ROOT.parent / "shared/tools/systemd-box"
BUILD = (ROOT / os.environ.get("BUILD", "build")).resolve()

# The box has folders of its own for these: a checkout below them is bound into it.
FRESH = ("/tmp/", "/var/tmp/", "/run/")
BIND = ["-b", f"{ROOT}:{ROOT}"] if str(ROOT).startswith(FRESH) else []

# One box at a time: they share the machine's control groups.
pytestmark = pytest.mark.xdist_group("box")

# Longer than any of them takes; a hang.
LIMIT = 240


@pytest.fixture(scope="session", autouse=True)
def box():
    if not BOX.exists():
        pytest.skip("systemd-box is not there: this machine cannot boot a systemd for a test")
    if os.geteuid() != 0:
        pytest.skip("this machine cannot: systemd-box needs root")


def run(name, *options):
    done = subprocess.run(
        [BOX, "-t", str(LIMIT), *BIND, *options, "--", "/usr/bin/python3", ROOT / "tests/system/inside.py", name],
        capture_output=True, text=True, env={**os.environ, "BUILD": str(BUILD)}, cwd=ROOT, timeout=LIMIT + 60)
    sys.stderr.write(done.stdout + done.stderr)
    assert done.returncode == 0, f"in the box: exit {done.returncode}"
    return done.stdout


@pytest.mark.parametrize("name", [
    "install_and_enable", "doctor", "scopes_and_limits", "journal", "socket_activation", "restart_under_guests",
    "watchdog", "crash", "stop_leaves_guests", "guests_service", "own_daemon", "uninstall"])
def test_in_the_box(name):
    run(name)


@pytest.mark.parametrize("folder", ["/home/lab/guests", "/opt/guests", "/tmp/guests", "/srv/guests"])
def test_hardening_harms_no_guest(folder):
    run(f"guests_in:{folder}")


def test_host_shutdown(tmp_path):
    """The host goes down: guests are powered off before systemd ends them, and records say so."""
    out = subprocess.run(
        [BOX, "-t", str(LIMIT), *BIND, "-b", f"{tmp_path}:/keep", "--", "/usr/bin/python3", ROOT / "tests/system/inside.py",
         "host_shutdown"],
        capture_output=True, text=True, env={**os.environ, "BUILD": str(BUILD)}, cwd=ROOT, timeout=LIMIT + 60)
    sys.stderr.write(out.stdout + out.stderr)
    record = (tmp_path / "record.json").read_text()
    assert '"reason": "host-shutdown"' in record or '"reason":"host-shutdown"' in record, record
    # The guest's own init ran down: it was no kill.
    assert "Power down" in (tmp_path / "console").read_text(errors="replace")
